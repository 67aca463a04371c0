"""How a PowerShell script reaches a host, and how its answer comes back. Pure, but for one resource.

A small constant bootstrap is the only thing on the command line. The script and its parameters follow as JSON
data on standard input, so neither length nor quoting can hurt, and no secret stands where a process list or
the log of started processes shows it. The bootstrap's `$input` is how Windows PowerShell hands on redirected
input; it reads it itself, so nothing else may. Text between two frames is the answer, the rest is chatter.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lamplighter.errors import MalformedError, RefusedError, RemoteFailedError
from lamplighter.model.canonical import MAX_INT, Json, JsonObject, canonical
from lamplighter.model.powershell import PowerShellScript
from lamplighter.model.text import recordable
from lamplighter.transports.text import clean, decode
from lamplighter.transports.winrm_clixml import readable

MAX_REQUEST = 1024 * 1024
"""The most that is sent to a host: script, parameters and all, in bytes of JSON."""

_LINE = 4096
_NOTES = 4096
_TEXT = Path(__file__).with_suffix(".ps1").read_text(encoding="utf-8")


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode("utf-16-le")).decode()


def _stripped(text: str) -> str:
    """The bootstrap without comment lines and indentation: `cmd` takes 8,191 characters, and no more."""
    lines = (line.strip() for line in text.splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("#"))


COMMAND = "powershell.exe"
ARGUMENTS = (
    "-NoLogo", "-NoProfile", "-NonInteractive", "-ExecutionPolicy", "RemoteSigned",
    "-EncodedCommand", _encoded(_stripped(_TEXT)),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back.

    Attributes:
        output: what the script wrote, parsed.
        notes: what was printed besides, clean and capped.
        errors: standard error, made readable and capped.
    """

    output: Json
    notes: str
    errors: str


def request(script: PowerShellScript, parameters: Mapping[str, Json], frame: str) -> bytes:
    """Standard input for the bootstrap.

    Args:
        script: what to run.
        parameters: all of them, secrets revealed.
        frame: random text that marks the answer.

    Raises:
        RefusedError: it is too large, or no JSON.
    """
    body = {"frame": frame, "script": script.text, "parameters": dict(parameters)}
    try:
        data = json.dumps(body, ensure_ascii=True, allow_nan=False).encode()
    except (TypeError, ValueError):
        raise RefusedError(f"a parameter of {script.name} is no JSON", changed="Nothing was sent") from None
    if len(data) > MAX_REQUEST:
        raise RefusedError(
            f"{script.name} and its parameters are larger than {MAX_REQUEST} bytes",
            changed="Nothing was sent",
        )
    text = base64.b64encode(data).decode()
    return "".join(f"{text[at:at + _LINE]}\n" for at in range(0, len(text), _LINE)).encode()


def answer(script: PowerShellScript, frame: str, code: int, out: bytes, err: bytes) -> Answer:
    """Read what a script that ended left behind.

    Raises:
        RemoteFailedError: it failed, or left no answer.
    """
    errors = readable(decode(err))[:_NOTES]
    body, notes = _framed(decode(out), frame)
    if body is None:
        said = (errors.strip() or notes.strip()).splitlines()
        raise RemoteFailedError(
            f"{script.name} ended with exit code {code} and no answer{': ' if said else ''}"
            f"{said[-1][:300] if said else ''}",
            changed="How far it came is not known",
            advice="Look at the PowerShell log of the host, and whether Windows PowerShell 5.1 is there",
        )
    if body.get("ok") is not True or code != 0:
        raise _failure(script, body.get("error"), errors)
    return Answer(_parsed(script, body.get("output")), notes[:_NOTES], errors)


def _framed(text: str, frame: str) -> tuple[Mapping[str, Json] | None, str]:
    """The answer between the frames, and the text around it; None when there is not exactly one."""
    parts = re.split(re.escape(frame), text, maxsplit=3)
    if len(parts) != 3:  # noqa: PLR2004 - before, between, after
        return None, text
    try:
        body = json.loads(base64.b64decode(re.sub(r"\s", "", parts[1]), validate=True))
    except (ValueError, RecursionError, binascii.Error):
        return None, text
    return (body if isinstance(body, dict) else None), f"{parts[0]}{parts[2]}".strip()


def _parsed(script: PowerShellScript, text: Json) -> Json:
    """The one JSON value a script wrote, its strings clean: strings, integers, booleans, null and no more."""
    try:
        value = _clean(json.loads(text))
        canonical(value)
    except (TypeError, ValueError, RecursionError, MalformedError):
        raise RemoteFailedError(
            f"{script.name} wrote something that is not one JSON object of strings and integers",
            changed="What it does was done",
        ) from None
    return value


def _clean(value: Json) -> Json:
    if isinstance(value, str):
        return unicodedata.normalize("NFC", clean(value))
    if isinstance(value, list):
        return [_clean(item) for item in value]
    if isinstance(value, dict):
        return {_clean(name): _clean(item) for name, item in value.items()}
    return value


def _failure(script: PowerShellScript, told: Json, errors: str) -> RemoteFailedError:
    told = told if isinstance(told, dict) else {}
    message = " ".join(clean(str(told.get("message", ""))).split())[:500] or errors.strip()[-300:]
    error = RemoteFailedError(f"{script.name} failed: {message or 'it did not say why'}")
    error.data = evidence(script, told)
    return error


def evidence(script: PowerShellScript, told: Mapping[str, Json]) -> JsonObject:
    """What is kept of a failure: which script, and the error's names and numbers; fit for a record."""
    numbers = {name: told[name] for name in ("hresult", "line") if _is_number(told.get(name))}
    found = ((name, told.get(name)) for name in ("type", "id"))
    names = {name: recordable(clean(text), 200) for name, text in found if isinstance(text, str)}
    return {"script": script.name, "digest": script.digest, **numbers, **names}


def _is_number(value: Json) -> bool:
    return type(value) is int and abs(value) <= MAX_INT
