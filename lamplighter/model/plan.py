"""A plan is a value: frozen, ordered, with one spelling and one digest.

What was shown is what was approved is what runs. The digest covers the exact hosts, their order in
waves, the exact steps with their arguments, the facts they came from, the gate, the limits, who asked,
the code's version and digest, and a nonce. A plan names its run, so it can be carried out by that run only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

from lamplighter.errors import MalformedError
from lamplighter.model.canonical import Json, JsonObject, canonical, digest, parse, sha256
from lamplighter.model.outcome import Terminal
from lamplighter.model.quorum import Gate

if TYPE_CHECKING:
    from pydantic import TypeAdapter

VERSION = 1
FACTS_DOMAIN = b"lamplighter-facts@v1\n"


class Facts(Protocol):
    """What a survey saw. `relevant` is the part that must not change between plan and apply."""

    def relevant(self) -> JsonObject:
        """Canonical JSON of what the plan depends on."""


@dataclass(frozen=True, slots=True)
class Step:
    """One action on one host.

    Attributes:
        id: unique within the host's plan, `[a-z0-9-]`, for example `upgrade`.
        action: what is done, `system.verb`: `apt.install`, `host.reboot`.
        summary: one line an approver reads.
        args: everything `apply` needs; canonical JSON, no secrets.
        undo: how to take it back; empty when it cannot be undone.
    """

    id: str
    action: str
    summary: str
    args: Mapping[str, Json] = field(default_factory=dict)
    undo: str = ""


@dataclass(frozen=True, slots=True)
class HostPlan:
    """What is to be done on one host, or why nothing is.

    Attributes:
        host: inventory name.
        facts: digest of the relevant facts the steps were made from.
        reach: how it is reached and as whom, in words, for whoever signs; empty without steps.
        bound: digest of everything that decides where the steps take effect (`lamplighter.engine.binding`).
        steps: in order; empty when nothing is to be done.
        reason: why there are no steps; required exactly when there are none.
        end: the terminal state of a host without steps: `unchanged`, `refused`, `unreachable` or `skipped`.
        notes: lines for the approver: held packages, warnings, what is flagged.
    """

    host: str
    facts: str = ""
    steps: tuple[Step, ...] = ()
    reason: str = ""
    end: Terminal = Terminal.UNCHANGED
    notes: tuple[str, ...] = ()
    reach: str = ""
    bound: str = ""

    def __post_init__(self) -> None:
        if bool(self.steps) == bool(self.reason):
            raise MalformedError(f"plan of {self.host} needs steps or a reason, and not both")

    @classmethod
    def of(
        cls, host: str, facts: Facts, steps: Sequence[Step] = (), reason: str = "",
        *, end: Terminal = Terminal.UNCHANGED, notes: Sequence[str] = (),
    ) -> HostPlan:
        """A host's plan with the digest of its facts."""
        return cls(host, facts_digest(facts), tuple(steps), reason, end, tuple(notes))

    def step(self, step_id: str) -> Step:
        """The step of that id."""
        return next(step for step in self.steps if step.id == step_id)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much may change, and how much may go wrong.

    Attributes:
        hosts: most hosts one plan may change.
        percent: most per cent of the site's inventory one plan may change, rounded up, at least one host.
        canary_failures: spent hosts (failed, unreachable, unknown) allowed in the canary wave.
        wave_percent: per cent of a later wave's hosts that may be spent before the run halts.
        run_failures: spent hosts allowed in the whole run.
        soak_seconds: wait after a wave, before the next is started.
        parallel: hosts worked on at once.
    """

    hosts: int = 200
    percent: int = 100
    canary_failures: int = 0
    wave_percent: int = 5
    run_failures: int = 10
    soak_seconds: int = 1800
    parallel: int = 50


@dataclass(frozen=True, slots=True)
class Window:
    """When the change may run, in seconds since the epoch; 0 means no bound.

    Attributes:
        opens, closes: the second is no part of it.
        override: why freezes are set aside for this plan, which then needs both parties' signatures; empty
            when they are not.
    """

    opens: int = 0
    closes: int = 0
    override: str = ""

    def __contains__(self, when: float) -> bool:
        return when >= self.opens and (not self.closes or when < self.closes)


@dataclass(frozen=True, slots=True)
class Requester:
    """Who asked for the run, and how that is known.

    Attributes:
        id: a person's id, or `schedule:<name>`.
        known: `claimed`, `schedule` or `signed`; shown wherever the requester is.
    """

    id: str
    known: str = "claimed"


@dataclass(frozen=True, slots=True)
class Plan:
    """See the module's docstring. `waves` holds host names; every host with steps is in exactly one."""

    run: str
    site: str
    runbook: str
    owner: str
    change_type: str
    requester: Requester
    selection: str
    fleet: int
    created: int
    expires: int
    code: str
    nonce: str
    gate: Gate
    waves: tuple[tuple[str, ...], ...]
    hosts: tuple[HostPlan, ...]
    change_ref: str = ""
    options: Mapping[str, Json] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    window: Window = field(default_factory=Window)
    v: int = VERSION

    def __post_init__(self) -> None:
        in_waves = [name for wave in self.waves for name in wave]
        with_steps = [plan.host for plan in self.hosts if plan.steps]
        names = [plan.host for plan in self.hosts]
        if sorted(in_waves) != sorted(with_steps):
            raise MalformedError("every host with steps must stand in exactly one wave")
        if len(set(names)) != len(names):
            raise MalformedError("a host is planned twice")

    def to_bytes(self) -> bytes:
        """The canonical bytes: what is stored, shown, signed and carried out."""
        return canonical(_jsonable(asdict(self)))

    @property
    def digest(self) -> str:
        """`sha256:...` over the canonical bytes."""
        return sha256(self.to_bytes())

    def host(self, name: str) -> HostPlan:
        """The plan of one host."""
        return next(plan for plan in self.hosts if plan.host == name)

    @property
    def targets(self) -> tuple[str, ...]:
        """Hosts that will be changed, in wave order."""
        return tuple(name for wave in self.waves for name in wave)

    def replace(self, **changes: Any) -> Plan:
        """A copy with some fields changed; its digest differs."""
        return replace(self, **changes)


def facts_digest(facts: Facts) -> str:
    """Digest of the relevant part of `facts`."""
    return digest(facts.relevant(), domain=FACTS_DOMAIN)


def read_plan(data: bytes) -> Plan:
    """Parse canonical plan bytes.

    Raises:
        MalformedError: not canonical, of another version, or not a plan.
    """
    value = parse(data)
    if not isinstance(value, dict) or value.get("v") != VERSION:
        raise MalformedError(f"not a plan of format version {VERSION}")
    try:
        plan = _adapter().validate_python(value)
    except (ValueError, MalformedError) as error:
        raise MalformedError(f"not a plan: {_first_line(error)}") from error
    if plan.to_bytes() != data:
        raise MalformedError("the plan has fields this version does not know")
    return plan


def _jsonable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _jsonable(item) for key, item in value.items()}
    if isinstance(value, frozenset | set):
        return sorted(_jsonable(item) for item in value)
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    return value


def _first_line(error: Exception) -> str:
    from pydantic import ValidationError  # noqa: PLC0415 - see `_adapter`

    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
    return str(error)


@cache
def _adapter() -> TypeAdapter[Plan]:
    """Made when the first plan is read: loading pydantic takes longer than asking ten hosts."""
    from pydantic import TypeAdapter  # noqa: PLC0415 - as said

    return TypeAdapter(Plan)
