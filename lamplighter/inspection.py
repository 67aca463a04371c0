"""Inspects a whole store, offline: every run's chain and promises, the site's chain, its witnesses.

Reads only, needs no Prefect and no network beyond the store. Used by `lamplighter verify`, and by
`lamplighter witness` before it signs anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from lamplighter.engine.run import dropped_lines, plan_key
from lamplighter.errors import LedgerBrokenError, MalformedError
from lamplighter.ledger import WholeLines
from lamplighter.model.approval import Decision, read_statement
from lamplighter.model.attest import Trust
from lamplighter.model.audit import Audit, Problem
from lamplighter.model.canonical import MAX_BYTES, sha256
from lamplighter.model.chain import Break, Chain, Record, follow, genesis, read_record
from lamplighter.model.envelope import read_line
from lamplighter.model.gate import GatePolicy, GateResult, evaluate
from lamplighter.model.party import Party
from lamplighter.model.plan import read_plan
from lamplighter.model.sshsig import parse_signature
from lamplighter.model.standing import NAMESPACE as STANDING
from lamplighter.model.witness import Witnessed, judge_witness
from lamplighter.seals import (
    ledger_key,
    notes_of,
    runs_of,
    seal_lines,
    seal_of_run,
    seals_promised,
    site_head,
    strangers,
    witness_lines,
)
from lamplighter.store import Store, lines
from lamplighter.store.outside import Notes, Seen

_LESS = {"cut-back", "run-cut-back"}
Policies = Callable[[str], GatePolicy]
"""Runbook id to what the site's gate judges by."""


@dataclass(frozen=True, slots=True)
class RunVerdict:
    """What one ledger shows.

    Attributes:
        run: its id.
        count: records that verify, from the first.
        head: hash of the last of them.
        state: how the run ended; empty while it is open.
        problems: broken promises and the first broken record, first record first.
        notes: what is worth knowing and no problem: a crash's torn tail, intents still open.
    """

    run: str
    count: int
    head: str
    state: str
    problems: tuple[Problem, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a store shows.

    Attributes:
        site: its name.
        runs: one verdict each, sorted by id.
        seals: how many records the site's chain has, as far as it verifies.
        head: hash of the last.
        problems: of the site's chain; `record` is the seal's number.
        witnessed: by party, the last seal it has countersigned; 0 for none.
        signatures: False when no site was given: then gates and witnesses' keys were not judged.
        foreign: names in the store that are none of ours; they were passed over.
        versions: whether the store keeps versions; where not, what was deleted cannot be seen.
        confirmed: the last seal that something outside the store confirms: this machine's note, a line that
            was kept elsewhere; 0 for none.
    """

    site: str
    runs: tuple[RunVerdict, ...]
    seals: int
    head: str
    problems: tuple[Problem, ...]
    witnessed: Mapping[Party, int] = field(default_factory=dict)
    signatures: bool = True
    foreign: tuple[str, ...] = ()
    versions: bool = False
    confirmed: int = 0

    @property
    def sound(self) -> bool:
        """No problem anywhere."""
        return not self.problems and self.whole

    @property
    def whole(self) -> bool:
        """No problem but that there was more than is left: as after a restore."""
        left = [problem for problem in self.problems if problem.code not in _LESS]
        return not left and not any(run.problems for run in self.runs)


def inspect(
    store: Store, site: str, policies: Policies | None = None, kept: Sequence[str] = ()
) -> Inspection:
    """Inspect everything in a store.

    Args:
        store: opened for reading is enough.
        site: whose it is said to be.
        policies: the site's people and keys by runbook; None leaves signatures unjudged.
        kept: witness lines that were kept outside the store.

    Raises:
        StoreError: the store cannot be read.
    """
    foreign = list(strangers(store))
    verdicts = {run: inspect_run(store, run, site, policies) for run in runs_of(store)}
    foreign += _copies(store, site, verdicts)
    trust = policies("") if policies else None
    inside = [judge_witness(line, trust) for line in witness_lines(store)]
    outside = [judge_witness(line, trust) for line in kept]
    chain, notes = Chain("", site), notes_of(store)
    seen_here = notes.seal()
    wanted = {one.statement.seal for one in [*inside, *outside] if one.statement}
    wanted |= {seen_here.count} if seen_here else set()
    problems, seen = _follow_seals(store, chain, verdicts, wanted)
    problems += _unwitnessed([*inside, *outside], site, chain.count, seen)
    problems += _rolled_back(notes, verdicts, chain.count, seen)
    rewritten = store.rewritten()
    for key in rewritten or ():
        problems.append(Problem(0, "rewritten-object", f"{key} was deleted or written again"))
    promised = seals_promised(store)
    if promised > chain.count:
        what = f"the site's chain ends at {chain.count} and once had {promised} seals"
        problems.append(Problem(chain.count + 1, "cut-back", what))
    said = [one.statement for one in outside if one.statement and not one.refused]
    outer = [one.seal for one in said if seen.get(one.seal) == one.head]
    outer += [seen_here.count] if seen_here and seen.get(seen_here.count) == seen_here.head else []
    return Inspection(
        site, tuple(verdicts.values()), chain.count, chain.head, tuple(sorted(problems)),
        _last_by_party([*inside, *outside], seen), policies is not None, tuple(sorted(foreign)),
        rewritten is not None, max(outer, default=0),
    )


def accept_restore(store: Store, trust: Trust, now: int) -> tuple[Party, ...]:
    """Forget on this machine that it saw more of a store, if both parties signed that it was restored.

    Args:
        store: the site's.
        trust: whose signatures count.
        now: seconds since the epoch.

    Returns:
        The parties that did not sign it; empty when it was accepted.
    """
    notes, last = notes_of(store), site_head(store)
    seen = notes.seal()
    signed = set()
    for one in (judge_witness(line, trust) for line in witness_lines(store)):
        said = one.statement
        if not (said and one.person and said.restored and last):
            continue
        if (said.seal, said.head) == (last.seq, last.hash) and (seen is None or said.time >= seen.time):
            signed.add(one.person.party)
    missing = tuple(party for party in Party if party not in signed)
    if not missing and last:
        notes.forget()
        notes.note_seal(Seen(last.seq, last.hash, now))
    return missing


def _copies(store: Store, site: str, verdicts: dict[str, RunVerdict]) -> Iterator[str]:
    """Take out what is no run: folders without a ledger, and copies of other runs' ledgers by other names."""
    starts = {genesis(run, site): run for run in verdicts}
    for run in [name for name, verdict in verdicts.items() if not verdict.count]:
        inside = {key.rpartition("/")[2] for key in store.list(f"runs/{run}")}
        if not inside:
            del verdicts[run]
            yield f"runs/{run}"
        elif "ledger.jsonl" not in inside:
            gone = Problem(0, "run-gone", "its ledger is gone")
            verdicts[run] = replace(verdicts[run], problems=(gone,))
        elif other := starts.get(_first_link(store, run)):
            del verdicts[run]
            yield f"runs/{run}, a copy of run {other}"


def _first_link(store: Store, run: str) -> str:
    try:
        return read_record(next(lines(store.read_log(ledger_key(run))), b"")).prev
    except LedgerBrokenError:
        return ""


def _rolled_back(
    notes: Notes, runs: Mapping[str, RunVerdict], count: int, seen: Mapping[int, str]
) -> Iterable[Problem]:
    """What this machine saw must still be there."""
    seal = notes.seal()
    if seal and seal.count > count:
        what = f"this machine saw {seal.count} seals of this store, and {count} are left: it was rolled back"
        yield Problem(count + 1, "cut-back", what)
    elif seal and seen.get(seal.count) != seal.head:
        yield Problem(seal.count, "rewritten", f"seal {seal.count} is not the one that this machine saw")
    for run, end in notes.runs().items():
        have = runs[run].count if run in runs else 0
        if have < end.count:
            what = f"this machine saw {end.count} records of run {run}, and {have} are left"
            yield Problem(0, "run-cut-back", what)


def inspect_run(store: Store, run: str, site: str, policies: Policies | None = None) -> RunVerdict:
    """Check one run's chain and judge its promises; memory grows with its hosts, not its records."""
    judge = _Judge(store, policies) if policies else None
    audit = Audit(run, site, lambda digest: store.get(plan_key(digest), limit=MAX_BYTES), judge)
    chain = Chain(run, site)
    whole = WholeLines(lines(store.read_log(ledger_key(run))))
    broken: list[Problem] = []
    try:
        for record in follow(whole, run, site):
            chain.extend(record)
            audit.note(record)
    except LedgerBrokenError as error:
        broken.append(Problem(error.record, error.reason, error.message))
    notes = [f"{step} on {host} has no outcome yet" for host, step in sorted(audit.open)]
    if whole.torn and chain.sealed:
        broken.append(Problem(chain.count + 1, Break.AFTER_SEAL, "something follows the closing record"))
    elif whole.torn:
        notes.append(f"{len(whole.torn)} bytes of an unfinished record; the next resume removes them")
    state = str(chain.sealed.get("state", "")) if chain.sealed else ""
    found = tuple(sorted([*audit.finish(), *broken], key=lambda problem: problem.record))
    return RunVerdict(run, chain.count, chain.head, state, found, () if chain.sealed else tuple(notes))


def inspect_one(store: Store, run: str, site: str, policies: Policies | None = None) -> Inspection:
    """Inspect one run, and the seal that the site's chain has of it; the rest of the chain is not followed.

    Raises:
        StoreError: the store cannot be read.
    """
    verdict, seal = inspect_run(store, run, site, policies), seal_of_run(store, run)
    if seal is not None:
        problems = tuple(_against_run(seal, {run: verdict}, set()))
    else:
        problems = (_unchained(verdict, 0),) if verdict.state else ()
    number, head = (seal.seq, seal.hash) if seal else (0, "")
    return Inspection(site, (verdict,), number, head, problems, signatures=policies is not None)


def _unchained(run: RunVerdict, place: int) -> Problem:
    return Problem(
        place, "not-in-chain", f"run {run.run} is sealed and not in the site's chain; resume it"
    )


def _follow_seals(
    store: Store, chain: Chain, runs: Mapping[str, RunVerdict], wanted: set[int]
) -> tuple[list[Problem], dict[int, str]]:
    """Walk the site's chain beside the ledgers; remember the hashes that witnesses speak of."""
    problems: list[Problem] = []
    seen = {0: chain.head} if 0 in wanted else {}
    sealed: set[str] = set()
    try:
        for line in seal_lines(store):
            seal = chain.accept(line)
            if seal.seq in wanted:
                seen[seal.seq] = seal.hash
            problems += _against_run(seal, runs, sealed)
    except LedgerBrokenError as error:
        return [*problems, Problem(error.record, error.reason, error.message)], seen
    for run in runs.values():
        if run.state and run.run not in sealed:
            problems.append(_unchained(run, chain.count))
    return problems, seen


def _against_run(seal: Record, runs: Mapping[str, RunVerdict], sealed: set[str]) -> Iterable[Problem]:
    run = str(seal.get("run"))
    verdict = runs.get(run)
    if run in sealed:
        yield Problem(seal.seq, "sealed-twice", f"run {run} is sealed a second time")
    sealed.add(run)
    if verdict is None:
        yield Problem(seal.seq, "run-gone", f"the ledger of run {run} is gone")
    elif (verdict.count, verdict.head) != (seal.get("count"), seal.get("head")):
        yield Problem(
            seal.seq, "run-differs",
            f"run {run} was sealed with {seal.get('count')} records; {verdict.count} verify now"
            + ("" if verdict.count != seal.get("count") else ", with another head"),
        )


def _unwitnessed(
    witnesses: Iterable[Witnessed], site: str, count: int, seen: Mapping[int, str]
) -> Iterable[Problem]:
    """What was countersigned must still stand."""
    for one in witnesses:
        said = one.statement
        if one.refused or said is None:
            what = f"a witness line does not count: {one.refused}"
            yield Problem(said.seal if said else 0, f"witness-{one.refused}", what)
        elif said.site != site:
            yield Problem(said.seal, "witness-foreign", f"a witness line is about the site {said.site!r}")
        elif said.seal > count:
            what = f"{said.witness} witnessed seal {said.seal}, and {count} are left"
            yield Problem(count + 1, "cut-back", what)
        elif seen.get(said.seal) != said.head:
            what = f"seal {said.seal} is not the one that {said.witness} witnessed"
            yield Problem(said.seal, "rewritten", what)


def _last_by_party(witnesses: Iterable[Witnessed], seen: Mapping[int, str]) -> dict[Party, int]:
    last = dict.fromkeys(Party, 0)
    for one in witnesses:
        if one.person and one.statement and seen.get(one.statement.seal) == one.statement.head:
            last[one.person.party] = max(last[one.person.party], one.statement.seal)
    return last


class _Judge:
    """The gate as it stood: the lines recorded by then, and those left in the store for this plan."""

    def __init__(self, store: Store, policies: Policies) -> None:
        self._store, self._policies = store, policies
        self._policy: GatePolicy | None = None
        self._dropped: tuple[str, ...] = ()

    def __call__(self, plan: bytes, recorded: Sequence[str], when: int) -> GateResult:
        if self._policy is None:
            self._policy = self._policies(read_plan(plan).runbook)
            self._dropped = dropped_lines(self._store, sha256(plan))
        dropped = [line for line in self._dropped if line not in recorded and _counts_by(line, when)]
        had = (line for line in recorded if _is_standing(line))  # perhaps taken away since
        lying = dict.fromkeys([*self._policy.standing, *had])
        standing = tuple(line for line in lying if _counts_by(line, when))
        return evaluate(plan, [*recorded, *dropped], replace(self._policy, standing=standing), when)


def _is_standing(line: str) -> bool:
    """Whether it is a standing approval; nothing else that was handed in may count as lying in the folder."""
    try:
        return parse_signature(read_line(line).signature).namespace == STANDING
    except MalformedError:
        return False


def _counts_by(line: str, when: int) -> bool:
    """A line left in the store has no recorded arrival: a reject or revoke counts from its own date."""
    try:
        statement = read_statement(read_line(line).statement)
    except MalformedError:
        return True
    return statement.decision is Decision.APPROVE or statement.not_before <= when
