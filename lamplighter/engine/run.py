"""One run of one runbook, from its ledger: survey, plan, gate, waves, report.

Nothing in here knows Prefect. A flow, the command line and the fault tests drive the same object; what a
restarted process has to do next is read from the ledger each time.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from lamplighter.engine.binding import bound_connect
from lamplighter.engine.drafting import Request, draft, window_of
from lamplighter.engine.ending import Ending, conclude
from lamplighter.engine.gatekeeper import Gatekeeper, drop_line, dropped_lines, plan_key, stored_plan
from lamplighter.engine.journal import Journal
from lamplighter.engine.provenance import code_of
from lamplighter.engine.reviews import open_review
from lamplighter.engine.rollout import Progress, Rollout
from lamplighter.engine.stages import demote_after
from lamplighter.engine.survey import Surveyed, survey
from lamplighter.engine.terms import Terms, missed
from lamplighter.engine.turn import PATIENCE, Means
from lamplighter.errors import ExistsError, LedgerError, NotApprovedError, SelectionError, SiteError
from lamplighter.leases import Leases
from lamplighter.ledger import Ledger
from lamplighter.model.canonical import sha256
from lamplighter.model.envelope import MAX_LINE, visible
from lamplighter.model.gate import GatePolicy, GateResult, obstacles
from lamplighter.model.history import History
from lamplighter.model.inventory import Host
from lamplighter.model.outcome import HostOutcome, RunState, Terminal, tally
from lamplighter.model.plan import Plan
from lamplighter.model.review import SECONDS as REVIEW_SECONDS
from lamplighter.model.review import Due
from lamplighter.model.runbook import ChangeType
from lamplighter.model.session import Connect
from lamplighter.model.standing import Use
from lamplighter.model.text import recordable
from lamplighter.model.waves import unreached
from lamplighter.site import Site, load_site
from lamplighter.site.uses import record_use
from lamplighter.store import Store

__all__ = ["Ending", "Run", "conclude", "drop_line", "dropped_lines", "plan_key"]

MOST_LINES = 50
"""Signed lines taken from one answer; nobody has that many approvers."""


@dataclass
class Run:
    """See the module's docstring.

    Attributes:
        id: see `lamplighter.model.runid`; names the ledger.
        request: what is run, where, how, for whom.
        store: the site's.
        ledger: of this run, open for writing.
        connect: opens sessions.
        leases: so that one run at a time changes a host.
        clock: seconds since the epoch.
        sleep: waits out a soak.
        pause, patience: seconds between looks at a host that cannot be reached; and, when it was begun
            before, until it is given up.
        journal: the ledger and what it says so far.
    """

    id: str
    request: Request
    store: Store
    ledger: Ledger
    connect: Connect
    leases: Leases
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    pause: float = 10.0
    patience: float = PATIENCE
    journal: Journal = field(init=False)

    def __post_init__(self) -> None:
        """Write down what is run; or go on with it, when it is the same flow run that did.

        Raises:
            LedgerError: the ledger is another flow run's; nothing was appended.
        """
        self.journal = Journal(self.ledger)
        opened = self.ledger.last("opened")
        if opened is not None and opened.fields["flow_run"] != self.request.flow_run:
            raise LedgerError(
                f"the flow run {opened.fields['flow_run']} wrote it, and this one is {self.request.flow_run}",
                where=f"ledger of {self.id}", changed="Nothing was changed",
                advice=f"To go on with that run: lamplighter resume {self.id}. Otherwise start another one",
            )
        if opened is None:
            self.journal.record(
                "opened", site=self.site.name, runbook=self.request.runbook.id,
                owner=str(self.request.runbook.owner), requester=self.request.requester.id,
                known=self.request.requester.known, selection=self.request.selection,
                change_ref=self.request.change_ref, options=self.request.operation.options(),
                code=code_of(self.request.runbook), emergency=self.request.emergency,
                request=recordable(self.request.signed, MAX_LINE), override=self.request.override,
                due=self.request.due, replans=self.request.replans, flow_run=self.request.flow_run,
            )

    @property
    def history(self) -> History:
        """The run so far."""
        return self.journal.history

    @property
    def site(self) -> Site:
        """Whose estate."""
        return self.request.site

    @property
    def hosts(self) -> tuple[Host, ...]:
        """What was selected: hosts in inventory order, or an account.

        Raises:
            SelectionError: the pattern matches nothing, or names what the inventory does not know.
        """
        return self.request.targets.select(self.request.selection)

    # --- plan -------------------------------------------------------------------------------------

    def survey(self, progress: Callable[[Surveyed], None] = lambda _: None) -> tuple[Surveyed, ...]:
        """Read the facts; nothing, when the ledger already holds a plan.

        A run that comes too late for its window, or whose function is not handed over, looks at no host.
        """
        if self.history.plan:
            return ()
        if (terminal := self._too_early_or_late()) is not None:
            left = tuple(Surveyed(host, None, terminal, self.history.why) for host in self.hosts)
            for each in left:
                progress(each)
            return left
        parallel = self.site.rollout(self.request.runbook)[0].parallel
        self.journal.record("survey", targets=len(self.hosts))
        return survey(self.hosts, self.request.operation, self.connect, parallel, progress)

    def _too_early_or_late(self) -> Terminal | None:
        """End the run before it begins when it must not; the state its hosts end in then."""
        terms, window = self._terms.now(), window_of(self.request, self.clock())
        if not terms.stage.stage.may_look:
            self.end(RunState.REJECTED, terms.limits)
        elif window.closes and window.closes <= self.clock():
            self.end(RunState.MISSED, missed(self.site, self.hosts, window, self.clock()))
        ends = {None: None, RunState.MISSED: Terminal.SKIPPED}
        return ends.get(self.history.ending, Terminal.REFUSED)

    def make_plan(self, surveyed: Sequence[Surveyed]) -> Plan:
        """Plan once; afterwards, return the plan the ledger names, from its stored bytes.

        Raises:
            LimitExceededError: it would touch more hosts than allowed.
            LedgerBrokenError: the stored bytes are not those the ledger names.
        """
        if not self.history.plan:
            plan = draft(self.request, self.id, surveyed, self.clock(), self._terms.now().stage.stage)
            data = plan.to_bytes()
            digest = sha256(data)
            self.store.put_new(plan_key(digest), data)
            described = {host.host for host in plan.hosts if host.facts}
            bind = self.request.targets.binder()
            self.journal.record_many([
                *(
                    ("facts", {
                        "host": seen.host.name, "relevant": seen.facts.relevant(),
                        "bound": dict(bind(seen.host).parts),
                    })
                    for seen in surveyed
                    if seen.facts is not None and seen.host.name in described
                ),
                ("planned", {"plan": digest, "hosts": len(plan.targets), "waves": len(plan.waves)}),
            ])
        plan = self.plan()
        self.journal.end_hosts(
            HostOutcome(host.host, host.end, host.reason)
            for host in plan.hosts
            if host.reason and host.host not in self.history.hosts
        )
        return plan

    def plan(self) -> Plan:
        """The stored plan, checked against the digest in the ledger.

        Raises:
            LedgerBrokenError: the stored bytes are not those the ledger names.
            StoreError: they are gone.
        """
        return self._stored[0]

    @cached_property
    def _stored(self) -> tuple[Plan, Gatekeeper]:
        """The plan and who judges its gate; read once, for a plan never changes."""
        plan, data = stored_plan(self.store, self.history.plan, self.id)
        return plan, Gatekeeper(data, self.store, self._policy)

    @cached_property
    def _terms(self) -> Terms:
        return Terms(self.site.path, self.request.runbook, self.store, self.clock)

    def _policy(self) -> GatePolicy:
        """The site's people and keys as they stand on disk now."""
        policy = load_site(self.site.path).gate_policy(self.request.runbook.id, self.store)
        return replace(policy, against=frozenset(self.history.against))

    # --- gate -------------------------------------------------------------------------------------

    def receive(self, number: int, lines: Sequence[str], claimed: dict[str, str]) -> None:
        """Record what a resume brought.

        Args:
            number: of the question it answers.
            lines: approval lines; they are checked later, each time they matter.
            claimed: decision and reason as typed; recorded as a claim, because anybody can type them.
        """
        told = {name: visible(recordable(text)) for name, text in claimed.items()}
        kept = [recordable(line, MAX_LINE) for line in lines[:MOST_LINES]]
        self.journal.record("answered", number=number, approvals=kept, claimed=told)
        if told.get("decision") == "reject":
            self.end(RunState.REJECTED, f"rejected at the gate: {told.get('reason') or 'no reason given'}")

    def ask(self) -> int:
        """The number of the open question; a new one is recorded when the last was answered.

        With it stands how many lines left in the store were looked at: who watches sees when there are more.
        """
        if self.history.asked == self.history.answered:
            self.journal.record(
                "asked", number=self.history.asked + 1, plan=self.history.plan, lines=self._stored[1].looked
            )
        return self.history.asked

    def check_gate(self) -> GateResult:
        """Evaluate the gate now, over the stored bytes, and act on a rejection or expiry.

        An approval that passes is burned for this plan: the same one never opens another. A gate that cannot
        be judged, because the site's files hold a mistake for example, is closed and says why. In a stage in
        which nothing may be changed, or with other code than was signed, the run ends: no signature would do.
        """
        try:
            if ends := self._terms.ends(self.plan()):
                self.end(*ends)
                return GateResult(passed=False, needed=(self.history.why,))
            result = self._judge()
        except NotApprovedError as error:
            return GateResult(passed=False, needed=(error.message,))
        if result.closed:
            self.end(RunState.REJECTED, result.closed)
        elif int(self.clock()) >= self.plan().expires:
            self._expire()
        elif result.passed:
            for approval in result.approvals:
                with contextlib.suppress(ExistsError):  # it opened another plan's gate: judged next
                    self.store.put_new(f"approvals/used/{approval}", self.history.plan.encode())
            for digest in () if self.history.passed else result.standing:
                record_use(self.store, digest, Use(int(self.clock()), self.id, len(self.plan().targets)))
            result = self._judge()
        if result.passed != self.history.passed or not self.history.against.issuperset(result.against):
            self._record_gate(result)
        return result

    def _record_gate(self, result: GateResult) -> None:
        """Keep what opened or closed the gate; an emergency's review is opened before its gate is."""
        plan = self.plan()
        if result.passed and plan.change_type == ChangeType.EMERGENCY:
            self._open_review(plan)
        standing = self._policy().standing if plan.change_type == ChangeType.STANDARD else ()
        self.journal.record(
            "gate", passed=result.passed, plan=self.history.plan, signed=list(result.signed),
            refused=[[recordable(name), code] for name, code in result.refused], approvals=list(standing),
            against=list(result.against),
        )

    def _open_review(self, plan: Plan) -> None:
        now = int(self.clock())
        due = Due(self.id, self.site.name, plan.requester.id, now, now + REVIEW_SECONDS)
        if open_review(self.store, due):
            self.journal.record("review-opened", due=due.due)

    def gate_can_open(self) -> bool:
        """Whether any signatures could open the gate; a run nobody can approve ends here, unchanged."""
        try:
            why = obstacles(self.plan(), self._policy(), int(self.clock()))
        except SiteError:
            return True  # the form says that the site cannot be read; mending it opens the way
        if why:
            self.end(RunState.FAILED, f"nobody can approve this plan. It needs {'; '.join(why)}")
        return not why

    def _expire(self) -> None:
        """The plan expired, or its window closed: say which, and whose silence it was."""
        window = self.plan().window
        if not self.history.passed:
            self.end(RunState.EXPIRED, "nobody approved the plan before it expired")
        elif window.closes and int(self.clock()) >= window.closes and not self.history.started:
            self.end(RunState.MISSED, missed(self.site, self.hosts, window, self.clock()))
        else:
            why = "the plan expired before all of it was carried out; plan what is left anew"
            self.end(RunState.EXPIRED, why)

    def guard(self, hosts: Sequence[str] = (), *, wave: bool = False) -> None:
        """Raise unless this very plan may be carried out at this moment, on these hosts.

        Args:
            hosts: whose windows and freezes are asked as well, as the calendar says now.
            wave: they must stay open for as long as a wave takes.

        Raises:
            WindowClosedError: the plan's window or a host's is not open, or closes too soon.
            NotApprovedError: the approval expired, was revoked, or never was; the plan expired; the stage of
                its function forbids it; or any of this cannot be judged.
        """
        now = int(self.clock())
        timed = self.request.targets.timed(Host(name) for name in hosts)
        self._terms.allow(self.plan(), [host.name for host in timed], now, wave=wave)
        result = self._stored[1].judge(self.history.approvals, now)
        if not result.passed:
            why = "; ".join(result.needed) or "the approval no longer counts"
            raise NotApprovedError(f"the gate is closed: {why}", where=self.id)

    def _judge(self) -> GateResult:
        return self._stored[1].judge(self.history.approvals, int(self.clock()), anew=True)

    # --- rollout and report -----------------------------------------------------------------------

    def rollout(
        self, progress: Progress = lambda _: None, tick: Callable[[], None] = lambda: None
    ) -> Rollout:
        """What carries the plan's waves out."""
        targets, plan = self.request.targets, self.plan()
        connect = bound_connect(self.connect, targets.binder(), plan, self.history.bound)
        means = Means(
            self.id, self.request.operation, connect, self.journal, self.leases, self.guard, self.pause,
            self.patience,
        )
        return Rollout(
            plan, targets.planned(plan), means, progress, tick, self.sleep,
            self.clock,
        )

    def end(self, state: RunState, why: str) -> None:
        """Decide that no further wave starts; the first decision stands."""
        if self.history.ending is None:
            self.journal.record("halted", state=str(state), why=recordable(why))

    def close(self) -> Ending:
        """Give every host its terminal state, seal the ledger, and say how the run ended.

        Hosts that were begun and have no end, because a worker died and the gate closed since, are asked
        what became of them; nothing is begun on them.
        """
        if not self.history.sealed:
            if self.history.plan:
                self.rollout().settle()
            if self._is_unfinished():
                self.end(RunState.HALTED, "the run was closed before all of it was carried out")
            self.journal.end_hosts(unreached(self._numbered(), self.history.hosts, self.history.why))
        order = {name: place for place, name in enumerate(self.site.inventory.hosts)}
        outcomes = sorted(self.history.hosts.values(), key=lambda one: order.get(one.host, len(order)))
        ending = conclude(self.history, tuple(outcomes))
        if not self.history.sealed:
            ending = self._demoted(ending)
        counts = {str(state): count for state, count in tally(outcomes).items()}
        self.ledger.seal(str(ending.state), message=ending.message, counts=counts)
        self.history.sealed = str(ending.state)
        return ending

    def _is_unfinished(self) -> bool:
        """Whether hosts have no end, or a wave has none although its hosts do: those were only settled."""
        waves = len(self.plan().waves) if self.history.plan else 0
        return len(self.history.waves) < waves or bool(unreached(self._numbered(), self.history.hosts, ""))

    def _demoted(self, ending: Ending) -> Ending:
        """Take the function back to `supervised` when this run gave the site reason to, and say so."""
        ill = {str(one.get("host")) for one in self.ledger.records("verified") if one.get("problems")}
        ill |= {str(host) for one in self.ledger.records("soaked") for host in one.get("ill") or ()}
        now = int(self.clock())
        demotion = demote_after(self.site, self.store, self.request.runbook, self.id, ending.state, ill, now)
        if demotion is None:
            return ending
        function = self.request.runbook.function
        self.journal.record("demoted", function=function, stage=str(demotion.stage), why=demotion.why)
        why = f"{function} is at most {demotion.stage} until internal IT decides anew: {demotion.why}"
        return replace(ending, message=f"{ending.message}. {why}")

    def _numbered(self) -> dict[int, tuple[str, ...]]:
        """Waves by number; before there is a plan, whom the selection names, as wave 0."""
        if self.history.plan:
            return dict(enumerate(self.plan().waves, 1))
        try:
            return {0: tuple(host.name for host in self.hosts)}
        except SelectionError:
            return {}
