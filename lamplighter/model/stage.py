"""How far a function has been handed over to the MSP, and what that lets the MSP's runs do. Pure.

`internal` (they refuse) → `shadow` (they survey, plan and report; nothing is changed) → `supervised` (every
run is signed for, whatever its change type) → `delegated` (as runbook and site say).

The stage in force is the lowest of three: the one `responsibilities.yaml` declares; the one internal IT
last decided with a signature, `shadow` where it never did; and, when something happened since that the site
lists in `demote_on`, `supervised`. Lowering needs no signature, raising always does: a file alone, in a
repository both parties write, hands nothing over. A decision is RFC 8785 JSON, signed in the namespace
`lamplighter-stage@v1`. It stops counting when it expires, and when its signer could not sign it any more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum

from lamplighter.errors import MalformedError
from lamplighter.model.attest import Code, Trust, attest, person_of
from lamplighter.model.canonical import canonical
from lamplighter.model.envelope import MAX_LINE, MAX_REASON, Fields
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
            one with the latest `not_before` counts alone.
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


def judge(line: str, site: str, function: str, trust: Trust, now: int) -> Decision | str:
    """Whether a signed line is a decision of internal IT on this function that counts now.

    Args:
        line: from the store; may be hostile.
        site, function: what it must be about.
        trust: the site's people and keys.
        now: seconds since the epoch.

    Returns:
        The decision, or why it does not count.
    """
    attested = attest(line, NAMESPACE, trust)
    if isinstance(attested, Code):
        return str(attested)
    try:
        decision = read_decision(attested.statement)
    except MalformedError:
        return str(Code.MALFORMED)
    person = person_of(attested, decision.decider, trust)
    if isinstance(person, Code):
        return str(person)
    if person.party is not Party.INTERNAL:
        return str(Code.WRONG_PARTY)
    if (decision.site, decision.function) != (site, function):
        return str(Code.WRONG_DIGEST)
    if not attested.valid_until(now):
        return str(Code.KEY_EXPIRED)
    if now < decision.not_before:
        return str(Code.NOT_YET_VALID)
    return str(Code.EXPIRED) if now >= decision.expires else decision


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


def in_force(
    declared: Stage, decisions: Iterable[Decision], demotions: Iterable[Demotion],
    code: Mapping[str, str] | None = None,
) -> InForce:
    """The stage in force.

    Args:
        declared: in `responsibilities.yaml`.
        decisions: those that count, in any order; see `judge`.
        demotions: all that were ever recorded for the function.
        code: digest of each of the function's runbooks as it is now, when a change of it demotes.
    """
    decision = max(decisions, key=lambda one: (one.not_before, one.id), default=None)
    allowed, why = Stage.SHADOW, "internal IT has signed no decision that counts"
    if decision is not None:
        allowed, why = decision.stage, f"decided by {decision.decider}"
        for demotion in demotions:
            if demotion.time >= decision.not_before and demotion.stage.rank < allowed.rank:
                allowed, why = demotion.stage, demotion.why
        changed = sorted(name for name, digest in (code or {}).items() if decision.code.get(name) != digest)
        if changed and allowed is Stage.DELEGATED:
            allowed = Stage.SUPERVISED
            why = f"the code of {', '.join(changed)} is not the code that was decided on"
    if declared.rank < allowed.rank or (declared is allowed and decision is None):
        return InForce(declared, "declared in responsibilities.yaml", decision)
    return InForce(allowed, why, decision)


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
