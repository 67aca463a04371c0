"""One signed line against one plan: a vote of a known person, or the reason why it is none.

Everything here is about a single line. What several lines amount to is `lamplighter.model.gate`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from lamplighter.errors import MalformedError
from lamplighter.model.approval import NAMESPACE, Decision, Statement, read_statement
from lamplighter.model.attest import Attested, Code, Trust, attest, person_of
from lamplighter.model.canonical import sha256
from lamplighter.model.envelope import Fields, line_id, read_line
from lamplighter.model.party import Party, Person
from lamplighter.model.plan import Plan
from lamplighter.model.quorum import Emergency, Gate
from lamplighter.model.sshsig import parse_signature, verify
from lamplighter.model.standing import NAMESPACE as STANDING
from lamplighter.model.standing import Use, covers, read_standing, spent

SKEW = 300
"""A reject or revoke counts this many seconds early, lest an approver's fast clock delay it."""

Refusal: TypeAlias = tuple[str, Code]
"""The line's id, and why it does not count."""


@dataclass(frozen=True, slots=True)
class GatePolicy(Trust):
    """What a site knows when it judges a plan.

    Attributes:
        minimum: the site's own gate, which every plan must meet as well; None when it has none.
        emergency: the site's own word on whose second person opens an emergency's gate.
        used: approval id to the digest of the plan it was used for.
        selections: host names of each selection that standing approvals name, resolved by the caller.
        standing: the site's standing approvals, and revokes of them, as signed lines; only plans of change
            type `standard` look at them. A standing approval counts from here alone, so that taking its
            file away is enough; and a revoke counts here whoever signed it, for whoever could lay it there
            could as well have taken the file away.
        uses: digest of a standing approval to what it was used for in the last day, read as it is asked for.
        against: digests of the rejects and revokes that the run's ledger says counted when they were given;
            nobody who leaves takes one of them back.
    """

    minimum: Gate | None = None
    emergency: Emergency = Emergency.EITHER
    used: Mapping[str, str] = field(default_factory=dict)
    selections: Mapping[str, frozenset[str]] = field(default_factory=dict)
    standing: tuple[str, ...] = ()
    uses: Mapping[str, tuple[Use, ...]] = field(default_factory=dict)
    against: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Case:
    """What a line is judged against.

    Attributes:
        plan, digest: the plan, and the digest of the bytes it was read from.
        gates: the effective gates, any one of which lets the plan pass.
        policy: the site's people and keys.
        now: seconds since the epoch.
    """

    plan: Plan
    digest: str
    gates: tuple[Gate, ...]
    policy: GatePolicy
    now: int

    @property
    def parties(self) -> frozenset[Party]:
        """Whose people the gate names: they may reject and revoke."""
        return self.plan.gate.parties.union(*(gate.parties for gate in self.gates))

    @property
    def max_age(self) -> int:
        """Seconds after which an approval no longer counts."""
        return min(gate.max_age for gate in self.gates)


@dataclass(frozen=True, slots=True)
class Vote:
    """A line by a known person of the right party.

    Attributes:
        id: of the statement.
        about: digest of the plan or the standing approval it is about.
        decision: see `Decision`; a standing approval approves.
        person: who signed.
        starts, ends: when it counts, the second excluded; a reject or revoke does not end.
        revokes: in a revoke, the one approval it takes back; empty for all.
        reason: as signed, of a reject or revoke.
        digest: of the statement, of a reject or revoke.
    """

    id: str
    about: str
    decision: Decision
    person: Person
    starts: int
    ends: int = 0
    revokes: str = ""
    reason: str = ""
    digest: str = ""


def judge(line: str, case: Case) -> Vote | Refusal:
    """Judge one line; never raises on hostile input."""
    try:
        return _judge_standing(line, case) if _is_standing(line, case) else _judge_statement(line, case)
    except MalformedError:
        return name_of(line), Code.MALFORMED


def _is_standing(line: str, case: Case) -> bool:
    lies = line in case.policy.standing
    return lies and parse_signature(read_line(line).signature).namespace == STANDING


def name_of(line: str) -> str:
    """The id a line claims, for the report only: nothing is decided by it."""
    try:
        return Fields(read_line(line).statement, 1, "the statement").id("id")
    except MalformedError:
        return line_id(line)


def claimant(line: str) -> str:
    """Who a line claims to be signed by, for the report only; empty when it does not say."""
    try:
        return Fields(read_line(line).statement, 1, "the statement").text("approver")
    except MalformedError:
        return ""


def _judge_statement(line: str, case: Case) -> Vote | Refusal:
    kept = _kept_closing(line, case)
    if kept is not None:
        return kept
    attested = attest(line, NAMESPACE, case.policy, past=True)
    if isinstance(attested, Code):
        return name_of(line), attested
    statement = read_statement(attested.statement)
    if statement.decision is not Decision.APPROVE:
        return _judge_closing(statement, attested, case)
    if attested.revoked:
        return statement.id, Code.KEY_REVOKED
    person = person_of(attested, statement.approver, case.policy)
    if isinstance(person, Code):
        return statement.id, person
    if statement.plan != case.digest:
        return statement.id, Code.WRONG_DIGEST
    if case.policy.used.get(statement.id, case.digest) != case.digest:
        return statement.id, Code.USED
    last = min(statement.expires, statement.not_before + case.max_age + 1)
    vote = Vote(statement.id, case.digest, Decision.APPROVE, person, statement.not_before, last)
    return _timed(vote, statement.expires, attested, case)


def _judge_closing(statement: Statement, attested: Attested, case: Case) -> Vote | Refusal:
    """A reject or revoke is judged as of when it was made: who has left since, or lost the key, took it."""
    person = person_of(attested, statement.approver, case.policy, past=True)
    if isinstance(person, Code):
        return statement.id, person
    if person.party not in case.parties:
        return statement.id, Code.WRONG_PARTY
    made_with = attested.valid_until(statement.not_before) or attested.valid_until(case.now)
    return _closing(statement, person) if made_with else (statement.id, Code.KEY_EXPIRED)


def _kept_closing(line: str, case: Case) -> Vote | None:
    """A reject or revoke that needs nobody's key any more: it counted before, or is the site's."""
    envelope = read_line(line)
    if sha256(envelope.statement) not in case.policy.against and line not in case.policy.standing:
        return None
    signature = parse_signature(envelope.signature)
    if signature.namespace != NAMESPACE or not verify(signature, envelope.statement):
        return None
    statement = read_statement(envelope.statement)
    if statement.decision is Decision.APPROVE:
        return None
    unknown = Person(statement.approver, statement.approver, Party.INTERNAL, left=True)
    return _closing(statement, case.policy.people.get(statement.approver, unknown))


def _closing(statement: Statement, person: Person) -> Vote:
    return Vote(
        statement.id, statement.plan, statement.decision, person, statement.not_before - SKEW,
        revokes=statement.revokes, reason=statement.reason, digest=sha256(statement.to_bytes()),
    )


def _judge_standing(line: str, case: Case) -> Vote | Refusal:
    attested = attest(line, STANDING, case.policy)
    if isinstance(attested, Code):
        return name_of(line), attested
    standing = read_standing(attested.statement)
    person = person_of(attested, standing.approver, case.policy)
    if isinstance(person, Code):
        return standing.id, person
    if not covers(standing, case.plan, case.policy.selections.get(standing.selection)):
        return standing.id, Code.WRONG_DIGEST
    about = sha256(attested.statement)
    if spent(standing, case.plan, case.policy.uses.get(about, ()), case.now):
        return standing.id, Code.SPENT
    vote = Vote(standing.id, about, Decision.APPROVE, person, standing.not_before, standing.expires)
    return _timed(vote, standing.expires, attested, case)


def _timed(vote: Vote, expires: int, attested: Attested, case: Case) -> Vote | Refusal:
    """The vote of an approval with its end, when it counts now and its person may take a place."""
    key_ends = attested.valid_until(case.now)
    code = why_not_seated(vote.person, case)
    if code is None and not key_ends:
        code = Code.KEY_EXPIRED
    if code is None and case.now < vote.starts:
        code = Code.NOT_YET_VALID
    if code is None and case.now >= vote.ends:
        code = Code.EXPIRED if case.now >= expires else Code.TOO_OLD
    return (vote.id, code) if code else replace(vote, ends=min(vote.ends, key_ends))


def why_not_seated(person: Person, case: Case) -> Code | None:
    """Why an approval of this person would not count, whatever key and time."""
    if person.id == case.plan.requester.id:
        return Code.REQUESTER
    if person.party not in {party for gate in case.gates for party in gate.parties}:
        return Code.WRONG_PARTY
    if not any(one.admits(person) for gate in case.gates for one in gate.requirements):
        return Code.LACKS_ROLE
    return None
