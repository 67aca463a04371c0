"""What the watch sees of a run, and what is wrong with it. Reads the store; judges without a clock."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from lamplighter.engine.gatekeeper import count_dropped, plan_key
from lamplighter.engine.opening import CLAIMED, SIGNED
from lamplighter.errors import LedgerError, MalformedError
from lamplighter.ledger import read_ledger
from lamplighter.model.canonical import MAX_BYTES
from lamplighter.model.chain import Record
from lamplighter.model.clocks import Clocks, read_clocks
from lamplighter.model.escalation import CLIMBING, Kind, Trouble, answer_due
from lamplighter.model.history import History
from lamplighter.model.outcome import RunState
from lamplighter.model.plan import Plan, read_plan
from lamplighter.model.runbook import Sla
from lamplighter.store import Store

DEAD = frozenset({"FAILED", "CRASHED", "CANCELLED", "CANCELLING"})
GONE = "GONE"
"""The state of a run that Prefect does not know."""


@dataclass(frozen=True)
class Case:
    """A run, as far as the watch cares.

    Attributes:
        run: its id.
        records: of its ledger, as far as they verify.
        broken: why the ledger does not verify; empty when it does.
        plan: as stored; None before there is one, or when it cannot be read.
        now: seconds since the epoch.
        lines: how many signed lines were left in the store for its plan.
    """

    run: str
    records: tuple[Record, ...]
    broken: str
    plan: Plan | None
    now: float
    lines: int = 0

    @cached_property
    def history(self) -> History:
        """What happened."""
        history = History()
        for record in self.records:
            history.note(record)
        return history

    @cached_property
    def clocks(self) -> Clocks:
        """Who had the ball, and when."""
        return read_clocks(self.records, self.now)

    @property
    def runbook(self) -> str:
        """Its runbook's id."""
        return str(self.records[0].get("runbook", "")) if self.records else ""

    @property
    def requester(self) -> str:
        """The id of who asked for it."""
        return str(self.records[0].get("requester", "")) if self.records else ""

    @property
    def askers_own(self) -> bool:
        """Whether it ended before it looked at a target, as a typo ends one: it concerns who asked alone.

        A schedule is nobody who could hear of it.
        """
        known = str(self.records[0].get("known", "")) if self.records else ""
        return known in {CLAIMED, SIGNED} and not self.history.surveyed

    @property
    def waits(self) -> bool:
        """Whether it stands at its gate, unanswered."""
        return self.history.waits

    @property
    def expired(self) -> bool:
        """Whether it should have ended at its gate, and has not."""
        return self.waits and self.plan is not None and self.now >= self.plan.expires

    @property
    def unread(self) -> bool:
        """Whether it stands at its gate while signed lines lie in the store that it has not looked at."""
        return self.waits and self.lines > self.history.looked


def read_case(store: Store, run: str, site: str, now: float) -> Case:
    """One run, from its ledger and plan. What cannot be read is part of the case.

    Raises:
        StoreError: the store does not answer.
    """
    records: list[Record] = []
    broken = ""
    try:
        for record in read_ledger(store, run, site):
            records.append(record)  # noqa: PERF402 - those before a broken one are kept
    except LedgerError as error:
        broken = str(error)
    planned = next((record for record in records if record.kind == "planned"), None)
    digest = str(planned.get("plan")) if planned else ""
    case = Case(run, tuple(records), broken, _plan(store, digest) if digest else None, now)
    return replace(case, lines=count_dropped(store, digest)) if case.waits else case


def _plan(store: Store, digest: str) -> Plan | None:
    data = store.get(plan_key(digest), limit=MAX_BYTES)
    try:
        plan = read_plan(data) if data else None
    except MalformedError:
        return None
    return plan if plan and plan.digest == digest else None


def trouble_of(case: Case, state: str, sla: Sla) -> Trouble | None:
    """What is wrong with a run; None when nothing is.

    Args:
        case: the run.
        state: type of its flow run's state in Prefect; `GONE` when Prefect does not know it, empty when it
            was not asked.
        sla: the times promised for it.
    """
    if not case.records:
        return None
    run, last = case.run, case.records[-1].time // 1000
    if case.broken:
        return Trouble(run, Kind.CRASHED, "ledger", last, last, f"its ledger is broken: {case.broken}")
    if case.history.sealed:
        return _ended(case, RunState(case.history.sealed))
    if case.expired:
        return None  # it is woken, and ends by itself
    if state in DEAD or state == GONE:
        why = "Prefect does not know it any more" if state == GONE else f"Prefect says {state.lower()}"
        return Trouble(run, Kind.CRASHED, f"{state} {last}", last, last, why)
    if case.waits and case.plan is not None:
        asked = case.clocks.asked
        zero = answer_due(asked, sla.answer, case.plan.expires)
        return Trouble(run, Kind.GATE, case.history.plan, asked, zero)
    return None


def _ended(case: Case, state: RunState) -> Trouble | None:
    if state is RunState.COMPLETED:
        return None
    since = case.clocks.ended
    message = str(case.records[-1].get("message", ""))
    climbs = state in CLIMBING and not case.askers_own
    return Trouble(case.run, Kind.ENDED, str(state), since, since if climbs else None, message)
