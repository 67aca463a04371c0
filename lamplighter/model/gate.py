"""The gate: may this plan change anything, at this moment, and if not, what is missing?

`evaluate` is a pure function of the plan's bytes, the signed lines, the site's people and keys, and a
time. It never raises on hostile input, and answers no whenever it is unsure. Its rules:

 1. The plan is the one whose exact bytes have the digest the approval names; a plan past its `expires`
    never passes.
 2. A signature counts when a key listed in `approvers` made it, under `lamplighter-approval@v1`, while the
    key is within its validity and not revoked. Bytes are verified first, and parsed only then.
 3. The key belongs to exactly the person the statement names, who is in `people.yaml` and has not left.
 4. The person is of a party the gate names and holds a role it asks for.
 5. Nobody approves what they requested. The requester must be known: a person in `people.yaml`, or a
    schedule, which acts for the owner's party. Where the gate names the requester's own party, a claim is
    not enough: the request itself must be signed.
 6. A person counts once, whatever number of keys or approvals they have, and fills one place only; if
    there is any way to seat the signers so that every place is filled, it is found.
 7. An approval counts from `not_before` to `expires`, and no longer than the gate's `max_age` from its
    `not_before`. Its id serves one plan only.
 8. A reject, by anybody of a party the gate names, is final. So is a revoke: of one approval if it names
    one, of all of them otherwise. They are judged as of when they were made, and by nothing later: they do
    not expire, and neither the end or loss of the key nor the signer's leaving opens a closed gate.
 9. A gate without requirements never passes, nor one that cannot be met.
10. The site's minimum gate tightens the plan's (`stricter`), and never loosens it.
11. `standard` changes may also pass on standing approvals, judged by the same rules but for `max_age`: a
    standing approval ends when it says so (`lamplighter.model.standing`). It counts only while it lies in
    the site's folder: the same line handed in, or left in the store, opens nothing. It says how many targets
    may be changed in an hour and a day on it; the plan that would be too many waits for signatures.
12. `emergency` changes pass on one second person of either party who holds the role `emergency`, or of
    internal IT alone where runbook or site say `emergency: internal`. The request must be signed, for there
    is no second person where the first is not known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from lamplighter.errors import MalformedError
from lamplighter.model.approval import NAMESPACE as APPROVAL
from lamplighter.model.approval import Decision
from lamplighter.model.attest import Code, Trust
from lamplighter.model.canonical import sha256
from lamplighter.model.plan import Plan, read_plan
from lamplighter.model.quorum import (
    DEFAULT_MAX_AGE,
    MAX_PLACES,
    Emergency,
    Gate,
    Requirement,
    implies,
    internal,
    missing,
    satisfiable,
    stricter,
)
from lamplighter.model.standing import NAMESPACE as STANDING
from lamplighter.model.vote import (
    Case,
    GatePolicy,
    Refusal,
    Vote,
    claimant,
    judge,
    name_of,
    why_not_seated,
)

__all__ = [
    "DEFAULT_MAX_AGE", "EMERGENCY_ROLE", "Code", "Emergency", "Gate", "GatePolicy", "GateResult",
    "Requirement", "Trust", "alternatives", "evaluate", "implies", "internal", "objection",
    "obstacles", "satisfiable", "stricter",
]

EMERGENCY_ROLE = "emergency"
MAX_LINES = 1000
"""More lines than this are refused as a whole: nobody has that many approvers."""


@dataclass(frozen=True, slots=True)
class GateResult:
    """The answer.

    Attributes:
        passed: True when the plan may be carried out now.
        needed: a sentence for each thing that is missing; empty exactly when passed.
        signed: ids of the people whose approval counts, sorted.
        refused: (approval id, code) of each line that does not count, sorted; a line without a readable
            id is named by the start of its SHA-256.
        missing: the places still to be filled, when signatures are all that is missing.
        valid_until: first second at which a passed gate would no longer pass with these lines; 0 when not
            passed. Ask again then, or when there are new lines.
        approvals: ids of the approvals that count and serve this plan alone, sorted: to be marked as used.
            Standing approvals serve many plans and are not among them.
        standing: digests of the standing approvals among those that count, sorted: each use is counted.
        closed: who rejected the plan or revoked all its approvals, which is final: no signature opens it
            again. Empty when nobody did.
        against: digests of the rejects and revokes that count, sorted: kept in the run's ledger, they count
            for as long as the run lives (`GatePolicy.against`).
        names: by approval id, whom each line that does not count claims to be of.
    """

    passed: bool
    needed: tuple[str, ...] = ()
    signed: tuple[str, ...] = ()
    refused: tuple[Refusal, ...] = ()
    missing: tuple[Requirement, ...] = ()
    valid_until: int = 0
    approvals: tuple[str, ...] = ()
    standing: tuple[str, ...] = ()
    closed: str = ""
    against: tuple[str, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict, compare=False)


def evaluate(plan_bytes: bytes, approvals: Sequence[str], policy: GatePolicy, now: int) -> GateResult:
    """Judge a plan by the module's rules.

    Args:
        plan_bytes: canonical bytes of the plan, as shown and signed.
        approvals: signed lines, in any order: approvals, rejects, revokes, standing approvals.
        policy: the site's people, keys, minimum gate and used approvals.
        now: seconds since the epoch.

    Raises:
        StoreError: only when the policy's own mappings do, because they look into a store out of reach.
    """
    try:
        plan = _plan(plan_bytes)
    except MalformedError as error:
        return GateResult(passed=False, needed=(f"a plan that can be read: {error.message}",))
    lines = _lines(plan, approvals, policy)
    if len(lines) > MAX_LINES:
        flood = f"at most {MAX_LINES} signed lines; there are {len(lines)}"
        return GateResult(passed=False, needed=(flood,))
    case = Case(plan, sha256(plan_bytes), alternatives(plan, policy), policy, now)
    votes, refused = _split(judge(line, case) for line in lines)
    left, closings, overruled = _overrule(votes, case)
    counted, doubled = _once_each(left)
    closed = _closed(case, closings)
    needed, lacking = ((f"a new plan: {closed}",), ()) if closed else _needed(case, counted)
    left_out = {name for name, _ in (*refused, *overruled, *doubled)}
    return GateResult(
        passed=not needed,
        needed=needed,
        signed=tuple(sorted(vote.person.id for vote in counted)),
        refused=tuple(sorted([*refused, *overruled, *doubled])),
        missing=lacking,
        valid_until=0 if needed else _valid_until(case, counted, closings),
        approvals=tuple(sorted(vote.id for vote in counted if vote.about == case.digest)),
        standing=tuple(sorted(vote.about for vote in counted if vote.about != case.digest)),
        closed=closed,
        against=tuple(sorted({vote.digest for vote in closings if now >= vote.starts})),
        names={name: claimant(line) for line in lines if left_out and (name := name_of(line)) in left_out},
    )


def alternatives(plan: Plan, policy: GatePolicy) -> tuple[Gate, ...]:
    """The effective gates, any one of which lets the plan pass; just one but for emergencies.

    Of the site's minimum, emergencies keep the `max_age` and the word on emergencies only: who may sign them
    is settled by who is given the emergency role. An empty gate stays empty.
    """
    gate = plan.gate if policy.minimum is None else stricter(plan.gate, policy.minimum)
    if plan.change_type != "emergency" or not gate.requirements:
        return (gate,)
    parties = gate.emergency.tightened(policy.emergency).parties
    return tuple(Gate((Requirement(one, (EMERGENCY_ROLE,)),), gate.max_age) for one in parties)


def obstacles(plan: Plan, policy: GatePolicy, now: int) -> tuple[str, ...]:
    """What keeps a plan from passing whoever signs it, a sentence each; empty when nothing does."""
    gates = alternatives(plan, policy)
    able = policy.signers.able((APPROVAL, STANDING), policy.revoked)
    keyed = {name: person for name, person in policy.people.items() if name in able}
    reasons = [satisfiable(gate, keyed, plan.requester.id) for gate in gates]
    unsatisfiable = [reason for each in reasons for reason in each] if all(reasons) else []
    expired = "a new plan: this one has expired" if plan.expires and now >= plan.expires else ""
    found = (expired, _requester_obstacle(plan, policy, gates), *unsatisfiable)
    return tuple(dict.fromkeys(sentence for sentence in found if sentence))


def objection(plan: Plan, who: str, policy: GatePolicy, decision: Decision) -> Code | None:
    """Why nothing that a person signs of a plan would count; None when it may."""
    person = policy.people.get(who)
    if person is None or person.left:
        return Code.UNKNOWN_PERSON
    case = Case(plan, "", alternatives(plan, policy), policy, 0)
    if decision is Decision.APPROVE:
        return why_not_seated(person, case)
    return None if person.party in case.parties else Code.WRONG_PARTY


_plan = lru_cache(maxsize=8)(read_plan)  # a worker asks before each host, and the bytes are the same


def _requester_obstacle(plan: Plan, policy: GatePolicy, gates: Iterable[Gate]) -> str:
    who, known = plan.requester.id, plan.requester.known
    if known == "schedule" and who.startswith("schedule:") and plan.change_type != "emergency":
        return ""
    person = policy.people.get(who)
    if person is None:
        return f"a known requester: {who!r} is not in people.yaml, so nobody can be told apart from them"
    if known != "signed" and any(person.party in gate.parties for gate in gates):
        return f"a signed request: {who} is of a party that may sign here, and is only claimed to have asked"
    return ""


def _lines(plan: Plan, approvals: Sequence[str], policy: GatePolicy) -> Sequence[str]:
    """All lines to be judged, those once that were handed in and lie in the site's folder as well."""
    if plan.change_type != "standard" or not policy.standing:
        return approvals
    given = {line.strip() for line in policy.standing}
    return [*(line for line in approvals if line.strip() not in given), *policy.standing]


def _split(judged: Iterable[Vote | Refusal]) -> tuple[list[Vote], list[Refusal]]:
    votes: list[Vote] = []
    refused: list[Refusal] = []
    for one in judged:
        if isinstance(one, Vote):
            votes.append(one)
        else:
            refused.append(one)
    return votes, refused


def _overrule(votes: Sequence[Vote], case: Case) -> tuple[list[Vote], list[Vote], list[Refusal]]:
    """Approvals that no reject or revoke overrides; those closings; and everything that does not count."""
    approvals = [vote for vote in votes if vote.decision is Decision.APPROVE]
    subjects = {case.digest, *(vote.about for vote in approvals)}
    left, closings, refused = [], [], []
    for vote in votes:
        if vote.decision is Decision.APPROVE:
            continue
        if vote.about not in subjects:
            refused.append((vote.id, Code.WRONG_DIGEST))
        else:
            closings.append(vote)
            begun = case.now >= vote.starts
            refused.append((vote.id, _closing_code(vote) if begun else Code.NOT_YET_VALID))
    for vote in approvals:
        against = [one for one in closings if case.now >= one.starts and _closes(one, vote, case.digest)]
        if against:
            refused.append((vote.id, min(map(_closing_code, against))))  # rejected before revoked
        else:
            left.append(vote)
    return left, closings, refused


def _closes(closing: Vote, vote: Vote, digest: str) -> bool:
    """Tell whether a reject or revoke, of the plan or of one standing approval, is about an approval."""
    return closing.about in (digest, vote.about) and closing.revokes in ("", vote.id)


def _closing_code(closing: Vote) -> Code:
    return Code.REJECTED if closing.decision is Decision.REJECT else Code.REVOKED


def _once_each(votes: Iterable[Vote]) -> tuple[list[Vote], list[Refusal]]:
    """One approval of each person, the one that lasts longest; the others are duplicates."""
    best: dict[str, Vote] = {}
    doubled: list[Refusal] = []
    for vote in sorted(votes, key=lambda vote: (-vote.ends, vote.id)):
        if vote.person.id in best:
            doubled.append((vote.id, Code.DUPLICATE_PERSON))
        else:
            best[vote.person.id] = vote
    return list(best.values()), doubled


def _closed(case: Case, closings: Iterable[Vote]) -> str:
    """Who rejected the plan or revoked all its approvals, with the reasons they gave."""
    return "; ".join(sorted({
        f"{vote.person.id} {_closing_code(vote)} this one" + (f" ({vote.reason})" if vote.reason else "")
        for vote in closings
        if vote.about == case.digest and not vote.revokes and case.now >= vote.starts
    }))


def _needed(case: Case, counted: Sequence[Vote]) -> tuple[tuple[str, ...], tuple[Requirement, ...]]:
    """What is missing, as sentences and as places."""
    found = obstacles(case.plan, case.policy, case.now)
    lacking = _lacking(case.gates, counted)
    if lacking is None or all(lacking):
        choices = [" and ".join(map(str, each)) for each in lacking or ()]
        signatures = f"the signature of {', or of '.join(choices)}" if choices else ""
        needed = tuple(sentence for sentence in (*found, signatures) if sentence)
        return needed, (lacking[0] if lacking and len(lacking) == 1 else ())
    return found, ()


def _lacking(gates: Iterable[Gate], votes: Sequence[Vote]) -> list[tuple[Requirement, ...]] | None:
    """For each gate that can be filled at all, what is left of it; None when there is no such gate."""
    people = [vote.person for vote in votes]
    return [missing(gate, people) for gate in gates if 0 < gate.size <= MAX_PLACES] or None


def _valid_until(case: Case, counted: Sequence[Vote], closings: Sequence[Vote]) -> int:
    """The first second at which the passed gate would not pass any more."""
    ends = {vote.ends for vote in counted} | ({case.plan.expires} if case.plan.expires else set())
    for when in sorted(ends | {vote.starts for vote in closings if vote.starts > case.now}):
        later = replace(case, now=when)
        left, _, _ = _overrule([*closings, *(vote for vote in counted if vote.ends > when)], later)
        if _closed(later, closings) or _needed(later, left)[0]:
            return when
    raise AssertionError("a gate cannot stay filled without anybody")  # pragma: no cover
