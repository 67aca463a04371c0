"""PowerShell actions: one verb and noun, typed parameters in, one JSON object out. Pure.

What goes in and what comes out is described by JSON Schema (draft 2020-12), so a misspelt parameter is
refused before anything is sent, and an answer of the wrong shape never reaches a parser.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from jsonschema import Draft202012Validator

from lamplighter.errors import RefusedError, RemoteFailedError
from lamplighter.model.canonical import DIGEST_PREFIX, Json, JsonObject
from lamplighter.model.session import DEFAULT_CAP, DEFAULT_TIMEOUT

_MOST_MISTAKES = 5


@dataclass(frozen=True, slots=True)
class PowerShellScript:
    """One action.

    Attributes:
        name: verb and noun, such as `Get-HostFact`.
        text: the script; it ends by writing one JSON object.
        parameters: JSON Schema of its parameters; `writeOnly` ones are secrets.
        output: JSON Schema of its answer.
    """

    name: str
    text: str
    parameters: JsonObject = field(default_factory=dict)
    output: JsonObject = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """`sha256:` and the digest of the script's UTF-8 bytes; goes into the evidence."""
        return DIGEST_PREFIX + hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def secrets(self) -> frozenset[str]:
        """Parameters that are secrets."""
        properties: Mapping[str, JsonObject] = self.parameters.get("properties", {})
        return frozenset(name for name, schema in properties.items() if schema.get("writeOnly"))

    def check_parameters(self, params: Mapping[str, Json], secrets: Mapping[str, str]) -> None:
        """Refuse parameters the script does not take.

        Args:
            params: values by parameter name.
            secrets: secret references by parameter name.

        Raises:
            RefusedError: all mistakes, none of the values.
        """
        mistakes = [f"{name} is a secret and goes in as a reference" for name in self.secrets & params.keys()]
        mistakes += [f"{name} is not declared as a secret" for name in secrets.keys() - self.secrets]
        mistakes += _mistakes(self.parameters, {**params, **secrets})
        if mistakes:
            raise RefusedError(
                f"{self.name} does not take these parameters: {'; '.join(sorted(mistakes))}",
                changed="Nothing was sent",
                advice=f"Compare them with {self.name}.json",
            )

    def check_output(self, answer: Json) -> JsonObject:
        """Return the answer if it has the declared shape.

        Raises:
            RemoteFailedError: it has another.
        """
        mistakes = _mistakes(self.output, answer)
        if not isinstance(answer, dict):
            mistakes = ["it is no object"]
        if mistakes:
            raise RemoteFailedError(
                f"{self.name} answered in another shape than it declares: {'; '.join(mistakes)}",
                advice="Compare the script with its declaration; was the host's answer tampered with?",
            )
        return dict(answer)


@dataclass(frozen=True, slots=True)
class PowerShellResult:
    """What an action answered.

    Attributes:
        script: its name.
        digest: of the script's text, as it ran.
        output: the answer, of the declared shape.
        notes: what it printed besides, clean and capped.
        errors: what stood on standard error, made readable.
        seconds: wall time on the worker's monotonic clock.
    """

    script: str
    digest: str
    output: JsonObject
    notes: str = ""
    errors: str = ""
    seconds: float = 0.0

    @property
    def provenance(self) -> JsonObject:
        """Which script answered, for the evidence."""
        return {"script": self.script, "digest": self.digest}


class PowerShellSession(Protocol):
    """One Windows host, connected. It belongs to one thread at a time."""

    @property
    def host(self) -> str:
        """The inventory name of the host."""

    def invoke(
        self,
        script: PowerShellScript,
        params: Mapping[str, Json] | None = None,
        *,
        secrets: Mapping[str, str] | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        cap: int = DEFAULT_CAP,
    ) -> PowerShellResult:
        """Run an action to its end.

        A session that was lost is connected once more for the next action, so that it can be asked what
        became of the last one. Nothing is ever sent twice.

        Args:
            script: the action.
            params: values by parameter name: strings, integers, booleans, lists of them.
            secrets: secret references by parameter name; resolved on the way out and nowhere else.
            timeout: seconds until `TimedOutError`.
            cap: bytes read from each of its output streams before `OutputTooLargeError`.

        Raises:
            RefusedError: the parameters are not the script's; nothing was sent.
            RemoteFailedError: it ran and failed, or answered in another shape than declared.
            SessionLostError, TimedOutError, OutputTooLargeError: how it ended is not known.
        """

    def close(self) -> None:
        """Give the connection back; never raises."""


def _mistakes(schema: JsonObject, value: Json) -> list[str]:
    """What is wrong, by place and rule. Values are not repeated: they may be secrets, or hostile."""
    errors = sorted(Draft202012Validator(schema).iter_errors(value), key=lambda error: error.json_path)
    return [
        _rule(error.json_path.removeprefix("$."), error.validator, error.validator_value)
        for error in errors[:_MOST_MISTAKES]
    ]


def _rule(place: str, keyword: str, wanted: Json) -> str:
    where = "" if place == "$" else f"{place[:100]} "
    return f"{where}violates {keyword}: {str(wanted)[:200]}"
