"""The shape of `site.yaml` and `people.yaml`, and the words for every way to miss it.

The models are checked by pydantic, strictly and with unknown keys forbidden; `checked` turns each of its
errors into a `Mistake` with the line of the offending value and what to write instead.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from pydantic_core import ErrorDetails

from lamplighter.model.party import Party
from lamplighter.model.quorum import Emergency
from lamplighter.model.selection import closest
from lamplighter.site.yaml import Node, Source

KEY = "[key]"  # how pydantic marks that a mapping's key is wrong, and not its value
SLUG = r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$"
LENGTH = r"^[1-9][0-9]{0,4}[mhd]$"
AFTER = r"^(0|[1-9][0-9]{0,4})[mhd]$"
CLOCK = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"
REFERENCE = r"^(env|file|cmd):\S[^\r\n]{0,499}$"
STORE_ID = r"^[0-9a-f]{32}$"
ATTRIBUTE = r"^[A-Za-z][A-Za-z0-9-]*$"
PRINCIPAL = r"^[a-z0-9][a-z0-9._+'&-]*@[a-z0-9][a-z0-9.-]*$"

Slug = Annotated[str, StringConstraints(pattern=SLUG, max_length=63)]
Principal = Annotated[str, StringConstraints(pattern=PRINCIPAL, max_length=253)]
Line = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\r\n\x00-\x1f]*$")]
Count = Annotated[int, Field(ge=0, le=100_000)]
Some = Annotated[int, Field(ge=1, le=100_000)]
Percent = Annotated[int, Field(ge=1, le=100)]
PartyName = Annotated[Party, Field(strict=False)]
Day = Annotated[date, Field(strict=False)]
Length = Annotated[str, StringConstraints(pattern=LENGTH)]
Clock = Annotated[str, StringConstraints(pattern=CLOCK)]


class Strict(BaseModel):
    """No unknown keys, no text where a number belongs. The text below a field is its documentation."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)


class PersonEntry(Strict):
    """One person of `people.yaml`."""

    name: Line
    """For display."""
    party: PartyName
    """`internal` or `msp`: the one party the person belongs to."""
    roles: list[Slug] = []
    """Your own words, such as `change-manager`; gates and escalation paths use the same ones."""
    left: bool = False
    """True once the person has left: their signature counts for nothing."""


class PartyNames(Strict):
    """How the two parties are called."""

    internal: Line
    """The customer's own IT."""
    msp: Line
    """The provider."""


class StoreEntry(Strict):
    """A store; before it is made, its URL alone will do."""

    url: Line
    """`file:/path` outside the checkout, or `s3://bucket/prefix`."""
    id: Annotated[str, StringConstraints(pattern=STORE_ID)] = ""
    """Which store that is: `lamplighter store new SITE` makes it, once, and says what to write here."""
    options: dict[Slug, Any] = {}
    """What a bucket needs; secrets are references: `env:NAME`, `file:PATH`, `cmd:NAME`."""

    @model_validator(mode="before")
    @classmethod
    def _from_url(cls, value: object) -> object:
        return {"url": value} if isinstance(value, str) else value


class ScheduleEntry(Strict):
    """When a deployment starts on its own: exactly one of `cron` and `rrule`."""

    cron: Line | None = None
    """Five fields: minute, hour, day of month, month, day of week."""
    rrule: Line | None = None
    """RFC 5545, instead of `cron`."""
    time_zone: Line | None = None
    """IANA name; the site's when left out."""
    active: bool = True
    """False keeps it written down and switched off."""


class DeploymentEntry(Strict):
    """One runbook, offered for one selection."""

    runbook: Slug
    """Its id."""
    name: Slug | None = None
    """Says what it does, in Prefect's lists: `web-prod-monthly`; the runbook and the site when left out."""
    hosts: Annotated[str, StringConstraints(min_length=1)] = "all"
    """An Ansible host pattern: `web`, `prod:!db1`."""
    options: dict[str, Any] = {}
    """Parameters of the runbook. No secrets: they stand in Prefect in the clear."""
    schedules: list[ScheduleEntry] = []
    """When it starts on its own; on demand only when left out."""


class WavesEntry(Strict):
    """Overrides of `lamplighter.model.runbook.Waves`."""

    canary: Some | None = None
    """Hosts in the first wave."""
    shares: Annotated[list[Percent], Field(min_length=1)] | None = None
    """Per cent of all targets after each further wave, growing; the last is 100."""
    minutes: Annotated[int, Field(ge=1, le=14 * 24 * 60)] | None = None
    """How long a wave takes at most; one that would not be over before its window closes is not started."""


class LimitsEntry(Strict):
    """Overrides of `lamplighter.model.plan.Limits`."""

    hosts: Some | None = None
    """Most hosts one plan may change."""
    percent: Percent | None = None
    """Most per cent of the site one plan may change."""
    canary_failures: Count | None = None
    """Failed, unreachable and unknown hosts allowed in the first wave."""
    wave_percent: Annotated[int, Field(ge=0, le=100)] | None = None
    """And, in per cent, in a later one."""
    run_failures: Count | None = None
    """And in the whole run."""
    soak_seconds: Annotated[int, Field(ge=0, le=7 * 86400)] | None = None
    """Wait after a wave, before its hosts are looked at again and the next one starts."""
    parallel: Annotated[int, Field(ge=1, le=500)] | None = None
    """Hosts worked on at once."""


class RolloutEntry(Strict):
    """How a runbook rolls out at this site."""

    waves: WavesEntry = WavesEntry()
    """How a rollout widens."""
    limits: LimitsEntry = LimitsEntry()
    """How much may change, and how much may go wrong."""
    approval_seconds: Annotated[int, Field(ge=1, le=30 * 86400)] | None = None
    """How long a plan can be signed and carried out; 3 days when nothing is said."""


class RequirementEntry(Strict):
    """An additional demand on a gate."""

    party: PartyName
    """Whose people sign."""
    roles: list[Slug] = []
    """Any one of these; anybody of the party when left out."""
    quorum: Annotated[int, Field(ge=1, le=32)] = 1
    """How many different people."""


class SiteEntry(Strict):
    """`site.yaml`."""

    name: Slug
    """As the folder is called."""
    title: Line
    """For people: reports, forms, notices."""
    time_zone: Line
    """IANA name. Schedules and windows without their own are in it."""
    parties: PartyNames
    """How the two parties are called."""
    store: StoreEntry
    """Where runs are written: a URL, or a URL with options."""
    deployments: list[DeploymentEntry] = []
    """What is offered here: runbooks, for selections of hosts."""
    rollout: dict[Slug, RolloutEntry] = {}
    """How changes roll out, by runbook or `default`; what is left out stays as the runbook has it."""
    gates: dict[Slug, Annotated[list[RequirementEntry], Field(min_length=1)]] = {}
    """Who must sign beyond a runbook's own gate, by runbook or `default`; only ever stricter."""
    emergency: Emergency = Emergency.EITHER
    """Whose second person opens an emergency's gate: `internal`, or `either` party's."""
    overdue_reviews: Count = 2
    """Emergencies are refused while more reviews of earlier ones are overdue."""


class PeopleEntry(Strict):
    """`people.yaml`."""

    people: Annotated[dict[Principal, PersonEntry], Field(min_length=1)]
    """Everybody who may ask, approve or be told, by the address that stands in `approvers`."""


Model = TypeVar("Model", bound=Strict)


def checked(model: type[Model], root: Node, source: Source) -> Model | None:
    """Check a file against its model.

    Args:
        model: what the file should be.
        root: what it is.
        source: takes the mistakes.

    Returns:
        The file's contents; None when there was a mistake.
    """
    if root.mapping is None:
        known = ", ".join(f"`{name}:`" for name in model.model_fields)
        source.mistake(root.line, f"the file must be a mapping, not {root.kind}", f"begin with {known}")
        return None
    try:
        return model.model_validate(root.plain())
    except ValidationError as error:
        for line, message, advice in _worded(model, root, error.errors(include_url=False)):
            source.mistake(line, message, advice)
        return None


def _worded(
    model: type[Strict], root: Node, errors: list[ErrorDetails]
) -> Iterable[tuple[int, str, str]]:
    for error in errors:
        path = tuple(part for part in error["loc"] if part != KEY)
        message, advice = _sentence(model, path, error)
        if len(path) < len(error["loc"]):
            message = f"`{path[-1]}` cannot be a key here"
        yield root.line_of(path), message, advice


def _sentence(model: type[Strict], path: tuple[int | str, ...], error: ErrorDetails) -> tuple[str, str]:
    key = str(path[-1]) if path else "the file"
    place = _dotted(path)
    context = error.get("ctx", {})
    kind = error["type"]
    secret = context.get("pattern") == REFERENCE
    given = "no secret reference" if secret else _shown(error["input"])
    if kind == "value_error":
        return f"`{place}`: {context['error']}", ""
    if kind == "missing":
        return f"`{place}` is missing", f"add a line `{key}: ...`"
    if kind == "extra_forbidden":
        return _unknown_key(model, path, key, place)
    if kind == "string_pattern_mismatch":
        advice = _PATTERN_ADVICE.get(context["pattern"], "use one line of plain text")
    elif kind in _ADVICE:
        advice = _ADVICE[kind].format(**context)
    else:
        return f"`{place}` is {given}: {error['msg']}", ""
    return f"`{place}` is {given}", advice


_DATE = "write a date that exists: 2026-12-31"
_ADVICE = {
    "enum": "write {expected}",
    "one_party": "write exactly one of 'internal' and 'msp': one party answers for it",
    "literal_error": "write {expected}",
    "date_type": _DATE,
    "date_parsing": _DATE,
    "date_from_datetime_parsing": _DATE,
    "date_from_datetime_inexact": _DATE,
    "too_short": "write at least one entry, or delete the key",
    "string_too_short": "write at least one character, or delete the key",
    "string_too_long": "write at most {max_length} characters",
    "bool_type": "write true or false",
    "int_type": "write a whole number, without quotation marks",
    "string_type": "write text; put a number in quotation marks",
    "list_type": "write a list: one `- ` a line",
    "dict_type": "write a mapping: one `key: value` a line, indented",
    "model_type": "write a mapping: one `key: value` a line, indented",
    "greater_than_equal": "write at least {ge}",
    "less_than_equal": "write at most {le}",
}
_PATTERN_ADVICE = {
    LENGTH: "write a span of time: `90m`, `4h`, `2d`",
    AFTER: "write a span of time: `0m`, `30m`, `4h`",
    CLOCK: 'write a time of day in quotation marks: `"02:30"`',
    ATTRIBUTE: "write an attribute's name: `otherMailbox`",
    SLUG: "use lower-case letters, digits and single hyphens, beginning with a letter: `patch-linux`",
    REFERENCE: "name where the secret is kept: env:NAME, file:PATH or cmd:NAME",
    PRINCIPAL: "write the person's address in lower case, as in `approvers`: `priya@internal.example`",
}


def _unknown_key(
    model: type[Strict], path: tuple[int | str, ...], key: str, place: str
) -> tuple[str, str]:
    known = _fields_at(model, path[:-1])
    close = closest(key, known)
    advice = f"did you mean `{close}`?" if close else f"known here: {', '.join(known)}"
    return f"`{place}` is not a known key", advice


def _fields_at(model: type[Strict], path: tuple[int | str, ...]) -> list[str]:
    """The keys a mapping at `path` may have, read off the models' JSON schema."""
    schema = model.model_json_schema()
    here: dict[str, Any] = schema
    for part in path:
        here = next(iter(_below(here, part, schema)), {})
    return list(_resolved(here, schema).get("properties", {}))


def _below(here: dict[str, Any], part: int | str, schema: dict[str, Any]) -> Iterable[dict[str, Any]]:
    here = _resolved(here, schema)
    if isinstance(part, int):
        yield here.get("items", {})
    elif part in here.get("properties", {}):
        yield here["properties"][part]
    else:
        yield from here.get("patternProperties", {}).values()


def _resolved(here: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = schema["$defs"][here["$ref"].rpartition("/")[2]] if "$ref" in here else here
    return found


def _dotted(path: tuple[int | str, ...]) -> str:
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part + 1}]"
        else:
            text += part if not text else f"[{part}]" if "." in part else f".{part}"
    return text or "the file"


def _shown(value: object) -> str:
    """A value as the writer wrote it, short; a mapping or list is named, not printed."""
    if isinstance(value, dict) and value:
        return "a mapping"
    if isinstance(value, list) and value:
        return "a list"
    if value is None or value in ("", [], {}):
        return "empty"
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value)
    return f"`{text[:60]}{'...' if len(text) > 60 else ''}`"  # noqa: PLR2004 - fits on the line
