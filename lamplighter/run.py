"""One run of one runbook, from its ledger: survey, plan, gate, waves, report.

Nothing in here knows Prefect. A flow, the command line and the fault tests drive the same object; what a
restarted process has to do next is read from the ledger each time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import lamplighter
from lamplighter.drafting import Request, draft
from lamplighter.errors import LedgerBrokenError, NotApprovedError, StoreError
from lamplighter.leases import Leases
from lamplighter.ledger import Ledger
from lamplighter.model.canonical import MAX_BYTES, sha256
from lamplighter.model.envelope import MAX_LINE
from lamplighter.model.gate import GatePolicy, GateResult, evaluate, obstacles
from lamplighter.model.history import History, replay
from lamplighter.model.inventory import Host
from lamplighter.model.outcome import HostOutcome, RunState, sentence, tally
from lamplighter.model.plan import Plan, read_plan
from lamplighter.model.session import Connect
from lamplighter.model.waves import unreached
from lamplighter.rollout import Progress, Rollout
from lamplighter.site import Site, load_site
from lamplighter.store import Store
from lamplighter.survey import Surveyed, survey

POLICY_SECONDS = 2.0  # how stale the site's people, keys and revocations may be before a host is touched


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended: what its report shows."""

    state: RunState
    message: str
    outcomes: tuple[HostOutcome, ...]


@dataclass
class Run:
    """See the module's docstring.

    Attributes:
        id: `<runbook>-<8 hex>`; names the ledger.
        request: what is run, where, how, for whom.
        store: the site's.
        ledger: of this run, open for writing.
        connect: opens sessions.
        leases: so that one run at a time changes a host.
        clock: seconds since the epoch.
    """

    id: str
    request: Request
    store: Store
    ledger: Ledger
    connect: Connect
    leases: Leases
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    history: History = field(default_factory=History)
    _policy: tuple[float, GatePolicy] | None = None

    def __post_init__(self) -> None:
        self.history = replay(self.ledger.records())
        if not self.ledger.records("opened"):
            self._record(
                "opened", site=self.site.name, runbook=self.request.runbook.id,
                owner=str(self.request.runbook.owner), requester=self.request.requester.id,
                known=self.request.requester.known, selection=self.request.selection,
                change_ref=self.request.change_ref, options=self.request.operation.options(),
                code=lamplighter.__version__,
            )

    @property
    def site(self) -> Site:
        """Whose estate."""
        return self.request.site

    @property
    def hosts(self) -> tuple[Host, ...]:
        """The selected hosts, in inventory order.

        Raises:
            SelectionError: the pattern matches nothing, or names what the inventory does not know.
        """
        return self.site.select(self.request.selection)

    # --- plan -------------------------------------------------------------------------------------

    def survey(self, progress: Callable[[Surveyed], None] = lambda _: None) -> tuple[Surveyed, ...]:
        """Read the facts; nothing, when the ledger already holds a plan."""
        if self.history.plan:
            return ()
        parallel = self.site.rollout(self.request.runbook)[0].parallel
        return survey(self.hosts, self.request.operation, self.connect, parallel, progress)

    def make_plan(self, surveyed: Sequence[Surveyed]) -> Plan:
        """Plan once; afterwards, return the plan the ledger names, from its stored bytes.

        Raises:
            LimitExceededError: it would touch more hosts than allowed.
            LedgerBrokenError: the stored bytes are not those the ledger names.
        """
        if not self.history.plan:
            plan = draft(self.request, self.id, surveyed, self.clock())
            self.store.put_new(plan_key(plan.digest), plan.to_bytes())
            for seen in surveyed:
                if seen.facts is not None:
                    self._record("facts", host=seen.host.name, relevant=seen.facts.relevant())
            self._record("planned", plan=plan.digest, hosts=len(plan.targets), waves=len(plan.waves))
        plan = self.plan()
        for host_plan in plan.hosts:
            if host_plan.reason and host_plan.host not in self.history.hosts:
                self._record(
                    "host", host=host_plan.host, terminal=str(host_plan.end), message=host_plan.reason, wave=0
                )
        return plan

    def plan(self) -> Plan:
        """The stored plan, checked against the digest in the ledger."""
        plan = read_plan(self._plan_bytes())
        if plan.digest != self.history.plan or plan.run != self.id:
            raise LedgerBrokenError(
                "the stored plan is not the one in the ledger; nothing more is changed", where=self.id,
                advice="Keep the store as it is and call internal IT",
            )
        return plan

    # --- gate -------------------------------------------------------------------------------------

    def receive(self, number: int, lines: Sequence[str], claimed: dict[str, str]) -> None:
        """Record what a resume brought.

        Args:
            number: of the question it answers.
            lines: approval lines; they are checked later, each time they matter.
            claimed: decision and reason as typed; recorded as a claim, because anybody can type them.
        """
        self._record("answered", number=number, approvals=list(lines), claimed=claimed)
        if claimed.get("decision") == "reject":
            self.end(RunState.REJECTED, f"rejected at the gate: {claimed.get('reason') or 'no reason given'}")

    def ask(self) -> int:
        """The number of the open question; a new one is recorded when the last was answered."""
        if self.history.asked == self.history.answered:
            self._record("asked", number=self.history.asked + 1, plan=self.history.plan)
        return self.history.asked

    def check_gate(self) -> GateResult:
        """Evaluate the gate now, over the stored bytes, and act on a rejection or expiry.

        An approval that passes is burned for this plan: the same one never opens another.
        """
        now = int(self.clock())
        plan = self.plan()
        result = self._evaluate(now)
        if result.closed:
            self.end(RunState.REJECTED, result.closed)
        elif now >= plan.expires:
            self.end(RunState.EXPIRED, "nobody approved the plan before it expired")
        elif result.passed:
            for approval in result.approvals:
                self.store.swap(f"approvals/used/{approval}", None, self.history.plan.encode())
            result = self._evaluate(now)
        if result.passed != self.history.passed:
            self._record(
                "gate", passed=result.passed, plan=self.history.plan, signed=list(result.signed),
                refused=[list(pair) for pair in result.refused],
            )
        return result

    def gate_can_open(self) -> bool:
        """Whether any signatures could open the gate; a run nobody can approve ends here, unchanged."""
        why = obstacles(self.plan(), self._gate_policy(), int(self.clock()))
        if why:
            self.end(RunState.FAILED, f"nobody can approve this plan. It needs {'; '.join(why)}")
        return not why

    def guard(self) -> None:
        """Raise unless the gate is open at this moment.

        Raises:
            NotApprovedError: the approval expired, was revoked, or never was; or the plan expired.
        """
        result = self._evaluate(int(self.clock()))
        if not result.passed:
            why = "; ".join(result.needed) or "the approval no longer counts"
            raise NotApprovedError(f"the gate is closed: {why}", where=self.id)

    def _evaluate(self, now: int) -> GateResult:
        lines = [*self.history.approvals, *dropped_lines(self.store, self.history.plan)]
        return evaluate(self._plan_bytes(), list(dict.fromkeys(lines)), self._gate_policy(), now)

    def _gate_policy(self) -> GatePolicy:
        """The site's people and keys as they stand on disk now, at most `POLICY_SECONDS` old."""
        now = time.monotonic()
        if self._policy is None or now - self._policy[0] > POLICY_SECONDS:
            site = load_site(self.site.path)
            self._policy = (now, site.gate_policy(self.request.runbook.id, self.store))
        return self._policy[1]

    # --- rollout and report -----------------------------------------------------------------------

    def rollout(
        self, progress: Progress = lambda _: None, tick: Callable[[], None] = lambda: None
    ) -> Rollout:
        """What carries the plan's waves out."""
        return Rollout(
            plan=self.plan(), operation=self.request.operation, hosts=self.site.inventory.hosts,
            connect=self.connect, ledger=self.ledger, history=self.history,
            leases=self.leases, guard=self.guard, progress=progress, tick=tick,
            sleep=self.sleep, clock=self.clock,
        )

    def end(self, state: RunState, why: str) -> None:
        """Decide that no further wave starts; the first decision stands."""
        if self.history.ending is None:
            self._record("halted", state=str(state), why=why)

    def close(self) -> Ending:
        """Give every host its terminal state, seal the ledger, and say how the run ended."""
        plan = self.plan() if self.history.plan else None
        why = self.history.why or "the run ended before"
        for outcome in unreached(plan.waves if plan else (), self.history.hosts, why):
            self._record(
                "host", host=outcome.host, terminal=str(outcome.terminal), message=outcome.message,
                wave=outcome.wave,
            )
        order = {name: place for place, name in enumerate(self.site.inventory.hosts)}
        outcomes = sorted(self.history.hosts.values(), key=lambda one: order.get(one.host, len(order)))
        ending = conclude(self.history, tuple(outcomes))
        if not self.history.sealed:
            counts = {str(state): count for state, count in tally(outcomes).items()}
            self.ledger.seal(str(ending.state), message=ending.message, counts=counts)
            self.history.sealed = str(ending.state)
        return ending

    def _plan_bytes(self) -> bytes:
        data = self.store.get(plan_key(self.history.plan), limit=MAX_BYTES)
        if data is None:
            raise StoreError("the plan's bytes are gone", where=self.id, changed="Nothing more is changed")
        return data

    def _record(self, kind: str, **fields: Any) -> None:
        self.history.note(self.ledger.append(kind, **fields))


def plan_key(digest: str) -> str:
    """Where the store keeps a plan's bytes."""
    return f"plans/{digest.removeprefix('sha256:')}.json"


def drop_line(store: Store, plan: str, line: str) -> None:
    """Leave a signed line where the run of that plan finds it before it touches the next host."""
    store.put_new(f"{_dropped(plan)}{sha256(line.encode()).removeprefix('sha256:')}", line.encode())


def dropped_lines(store: Store, plan: str) -> tuple[str, ...]:
    """Signed lines that were left in the store for a plan."""
    found = (store.get(key, limit=MAX_LINE) for key in sorted(store.list(_dropped(plan))))
    return tuple(data.decode("ascii", "replace") for data in found if data)


def _dropped(plan: str) -> str:
    return f"approvals/{plan.removeprefix('sha256:')}/"


def conclude(history: History, outcomes: tuple[HostOutcome, ...]) -> Ending:
    """The state a run ends in: as decided at a gate or brake, else by its hosts."""
    counts = tally(outcomes)
    told = sentence(counts)
    if history.ending is not None:
        return Ending(history.ending, f"{told}. {history.why}", outcomes)
    spent = [outcome.host for outcome in outcomes if outcome.terminal.spends_budget]
    if spent:
        return Ending(RunState.FAILED, f"{told}. Look at: {', '.join(spent[:10])}", outcomes)
    return Ending(RunState.COMPLETED, told, outcomes)
