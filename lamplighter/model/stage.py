"""How far a function has been handed over to the MSP, and what that lets the MSP's runs do. Pure.

`internal` (they refuse) → `shadow` (they survey, plan and report; nothing is changed) → `supervised` (every
run is signed for, whatever its change type) → `delegated` (as runbook and site say).

The stage in force is the lowest of three: the one `responsibilities.yaml` declares; the one internal IT
last decided with a signature, `shadow` where it never did; and, when something happened since that the site
lists in `demote_on`, `supervised`. Lowering needs no signature, raising always does: a file alone, in a
repository both parties write, hands nothing over. A decision is RFC 8785 JSON, signed in the namespace
`lamplighter-stage@v1`. Of several the one with the latest date rules, and it alone. When it does not count
any more, because it expired, its signer left, or their key ended or was lost, the stage is `shadow`: an older
decision never comes back, whatever took the later one away.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum

from lamplighter.errors import MalformedError
from lamplighter.model.attest import NEVER, Code, Trust, attest, person_of
from lamplighter.model.canonical import canonical
from lamplighter.model.envelope import MAX_LINE, MAX_REASON, Fields, read_line
from lamplighter.model.outcome import RunState
from lamplighter.model.party import Party

NAMESPACE = "lamplighter-stage@v1"
VERSION = 1
MAX_SECONDS = 366 * 24 * 3600
"""Longest life of a decision: a handover is thought over at least once a year."""


class Stage(StrEnum):
    """See the module's docstring; `rank` orders them."""

    INTERNAL = "internal"
    SHADOW = "shadow"
    SUPERVISED = "supervised"
    DELEGATED = "delegated"

    @property
    def rank(self) -> int:
        """0 for `internal`, 3 for `delegated`."""
        return list(Stage).index(self)

    @property
    def may_look(self) -> bool:
        """Whether the MSP's runs may log in to hosts and read."""
        return self is not Stage.INTERNAL

    @property
    def may_change(self) -> bool:
        """Whether the MSP's runs may change hosts, once their gate is open."""
        return self.rank >= Stage.SUPERVISED.rank


class Trigger(StrEnum):
    """What takes `delegated` away without anybody deciding it."""

    HALTED = "halted"  # a run halted
    FAILED_VERIFY = "failed-verify"  # a host was not well after its change
    CODE_CHANGE = "code-change"  # a runbook's code is not the code that was decided on


def lowest(*stages: Stage) -> Stage:
    """The one that lets the MSP do least."""
    return min(stages, key=lambda stage: stage.rank)


@dataclass(frozen=True, slots=True)
class Decision:
    """What internal IT signs.

    Attributes:
        site, function: what is decided on.
        stage: the highest stage it allows.
        decider: the signer's id.
        not_before, expires: when it counts, seconds since the epoch, the second excluded. Of several, the
            one with the latest `not_before` rules alone.
        id: unique.
        evidence: digest of the evidence that was shown.
        code: runbook id to the digest of the code that was decided on.
        reason: one line for the record.
    """

    site: str
    function: str
    stage: Stage
    decider: str
    not_before: int
    expires: int
    id: str
    evidence: str
    code: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""

    def to_bytes(self) -> bytes:
        """The canonical bytes to sign.

        Raises:
            MalformedError: `read_decision` would not read it back.
        """
        data = canonical({"v": VERSION, **asdict(self), "stage": str(self.stage)})
        read_decision(data)
        return data


def read_decision(data: bytes) -> Decision:
    """Parse a decision's canonical bytes. Verify the signature over them first.

    Raises:
        MalformedError: not canonical, an unknown or missing field, a value out of bounds.
    """
    what = Fields(data, VERSION, "the stage decision", limit=MAX_LINE)
    start, end = what.span()
    stage = what.text("stage")
    if stage not in set(Stage):
        raise MalformedError(f"the stage decision names no stage: {stage[:40]!r}")
    code = what.mapping("code")
    if not all(isinstance(digest, str) for digest in code.values()):
        raise MalformedError("code of the stage decision is not runbook to digest")
    decision = Decision(
        what.text("site"), what.text("function"), Stage(stage), what.text("decider"), start, end,
        what.id("id"), what.digest("evidence"), code, what.text("reason", most=MAX_REASON, empty=True),
    )
    what.end()
    if end - start > MAX_SECONDS:
        raise MalformedError(f"a stage decision lasts at most {MAX_SECONDS // 86400} days")
    return decision


@dataclass(frozen=True, slots=True)
class Ruling:
    """A decision that somebody left for a function, and whether it counts.

    Attributes:
        decision: None when it cannot be read; then it stands in the way of every other.
        why: why it does not count, a word of `Code`; empty when it does.
    """

    decision: Decision | None
    why: str = ""

    @property
    def counts(self) -> bool:
        """Whether it may raise anything."""
        return self.decision is not None and not self.why

    @property
    def order(self) -> tuple[int, int, str]:
        """Of several rulings the highest rules: what cannot be read, then the latest, then what lowers."""
        if self.decision is None:
            return (NEVER, 0, "")
        return (self.decision.not_before, -self.decision.stage.rank, self.decision.id)


def judge(line: str, site: str, function: str, trust: Trust, now: int) -> Ruling | None:
    """Whether a signed line is a decision of internal IT on this function, and whether it counts now.

    Args:
        line: from the store; may be hostile.
        site, function: what it must be about.
        trust: the site's people and keys.
        now: seconds since the epoch.

    Returns:
        The ruling; None when it has nothing to say here: it is about something else, or its time has not
        come.
    """
    try:
        envelope = read_line(line)
        decision = read_decision(envelope.statement)
    except MalformedError:
        return Ruling(None, str(Code.MALFORMED))
    if (decision.site, decision.function) != (site, function) or now < decision.not_before:
        return None
    attested = attest(line, NAMESPACE, trust)
    if isinstance(attested, Code):
        return Ruling(decision, str(attested))
    person = person_of(attested, decision.decider, trust)
    if isinstance(person, Code):
        return Ruling(decision, str(person))
    if person.party is not Party.INTERNAL:
        return Ruling(decision, str(Code.WRONG_PARTY))
    if not attested.valid_until(now):
        return Ruling(decision, str(Code.KEY_EXPIRED))
    return Ruling(decision, str(Code.EXPIRED) if now >= decision.expires else "")


@dataclass(frozen=True, slots=True)
class Demotion:
    """A stage taken away: recorded, never signed.

    Attributes:
        stage: the highest that is left until internal IT decides anew.
        time: seconds since the epoch.
        why: a sentence.
        run: the run it came from; empty when a person asked for it.
    """

    stage: Stage
    time: int
    why: str
    run: str = ""


@dataclass(frozen=True, slots=True)
class InForce:
    """The stage in force, and the sentence that explains it.

    Attributes:
        stage: see the module's docstring.
        why: what holds it there.
        decision: the one that counts; None without any.
    """

    stage: Stage
    why: str
    decision: Decision | None = None


def ruling_of(rulings: Iterable[Ruling]) -> Ruling | None:
    """The one that rules; see `Ruling.order`."""
    return max(rulings, key=lambda one: one.order, default=None)


def in_force(
    declared: Stage, rulings: Iterable[Ruling], demotions: Iterable[Demotion],
    code: Mapping[str, str] | None = None,
) -> InForce:
    """The stage in force.

    Args:
        declared: in `responsibilities.yaml`.
        rulings: all that were left for the function, in any order; see `judge`.
        demotions: all that were ever recorded for the function.
        code: digest of each of the function's runbooks as it is now, when a change of it demotes.
    """
    ruling = ruling_of(rulings)
    decision = ruling.decision if ruling and ruling.counts else None
    since = ruling.decision.not_before if ruling and ruling.decision else 0
    allowed, why = (decision.stage, f"decided by {decision.decider}") if decision else (
        Stage.SHADOW, _why_shadow(ruling)
    )
    for demotion in demotions:
        if demotion.time >= since and demotion.stage.rank < allowed.rank:
            allowed, why = demotion.stage, demotion.why
    decided_on = decision.code if decision else {}
    changed = sorted(name for name, digest in (code or {}).items() if decided_on.get(name) != digest)
    if changed and allowed is Stage.DELEGATED:
        allowed = Stage.SUPERVISED
        why = f"the code of {', '.join(changed)} is not the code that was decided on"
    if declared.rank < allowed.rank or (declared is allowed and ruling is None):
        return InForce(declared, "declared in responsibilities.yaml", decision)
    return InForce(allowed, why, decision)


def _why_shadow(ruling: Ruling | None) -> str:
    if ruling is None:
        return "internal IT has signed no decision that counts"
    if ruling.decision is None:
        return "a decision in the store cannot be read, and until it is taken out nothing is handed over"
    late = ruling.decision
    return (
        f"the latest decision, {late.stage} by {late.decider}, does not count ({ruling.why}), and no older "
        f"one takes its place; internal IT decides anew with lamplighter promote {late.function}"
    )


def demotes(state: RunState, ill: Collection[str], triggers: Collection[Trigger]) -> str:
    """Why a run that ended so demotes its function; empty when it does not.

    Args:
        state: the run's final state.
        ill: names of hosts that were not well after their change.
        triggers: what the site lists.
    """
    if state is RunState.HALTED and Trigger.HALTED in triggers:
        return "a run halted"
    if ill and Trigger.FAILED_VERIFY in triggers:
        return f"not well after the change: {', '.join(sorted(ill)[:5])}"
    return ""
