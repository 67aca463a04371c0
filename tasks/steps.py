"""The few Prefect tasks every runbook is made of: survey, plan, gate, wave, report.

A run over N hosts makes O(waves) task runs: hosts fan out on threads inside a task and show up as log
lines, a progress artifact and a table. A suspended or restarted flow runs from its top; each step then
finds in the ledger what is done and goes on from there, so nothing here is cached or retried by Prefect.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger

from lamplighter import artifacts, orchestrator
from lamplighter.derive.catalogue import named
from lamplighter.derive.timetable import declared
from lamplighter.engine.drafting import Request
from lamplighter.engine.opening import Wanted, open_request
from lamplighter.engine.replanning import deltas
from lamplighter.engine.reviews import open_reviews, overdue
from lamplighter.engine.run import Run
from lamplighter.engine.stages import may_look
from lamplighter.engine.survey import Surveyed
from lamplighter.engine.terms import await_window
from lamplighter.errors import LamplighterError, NotApprovedError
from lamplighter.form import ask
from lamplighter.leases import Leases
from lamplighter.ledger import Ledger
from lamplighter.model.calendar import told
from lamplighter.model.clocks import clock_lines, read_clocks
from lamplighter.model.envelope import pasted
from lamplighter.model.gate import GateResult
from lamplighter.model.operation import Operation
from lamplighter.model.options import started_with
from lamplighter.model.outcome import HostOutcome, RunState, Terminal
from lamplighter.model.plan import Plan
from lamplighter.model.review import Due
from lamplighter.model.runbook import ChangeType, Runbook
from lamplighter.model.session import Connect
from lamplighter.model.show import gate_page, plan_page, report_page, report_rows
from lamplighter.model.stage import Stage
from lamplighter.notify.heartbeat import warning
from lamplighter.notify.teller import sla_of
from lamplighter.notify.watch import Watch
from lamplighter.site import Site, load_site_named
from lamplighter.site.notify import load_notify
from lamplighter.store import Store, open_store
from lamplighter.transports.connect import HostTransport
from tasks.account_runs import AccountDesk, delivery_lines, open_desk, remember_claims

T = TypeVar("T")
PROGRESS_SECONDS = 2.0
TELL_SECONDS = 20.0


Reach = Callable[[Site], AbstractContextManager[Connect]]
"""Opens what connects to a site's targets, for as long as a run takes."""


@contextlib.contextmanager
def _reach_hosts(runbook: Runbook, site: Site) -> Iterator[Connect]:
    """Reach the inventory's hosts as it says, if they are of a kind the runbook works on."""
    with HostTransport(site.host_keys, runbook.shells) as transport:
        yield transport.connect


@dataclass(frozen=True, slots=True)
class Opened:
    """A check that may begin. Attributes: site, store, whose; stage, of its function, in force now."""

    site: Site
    store: Store
    stage: Stage


def open_check(runbook: Runbook, site: str) -> Opened | State[Any]:
    """Begin a flow that changes nothing and has no ledger, under the stage of its function.

    Args:
        runbook: the declaration.
        site: name of a folder below the inventories.

    Returns:
        What it works with; or the state to end in at once, when the function is not handed over so far.

    Raises:
        SiteError, SelectionError, StoreError: the site or its store cannot be read.
    """
    started = orchestrator.current()
    orchestrator.label(started.flow_run, started.run(runbook.id), runbook.tags(site))
    with orchestrator.in_words():
        place = load_site_named(site)
        store = open_store(place.store)
        try:
            return Opened(place, store, may_look(runbook, place, store, int(time.time())))
        except NotApprovedError as error:
            get_run_logger().warning("%s", error)
            return orchestrator.final(RunState.REJECTED, str(error))


@contextlib.contextmanager
def open_run(
    runbook: Runbook, site: str, hosts: str, operation: Operation[Any], *,
    change_ref: str = "", requester: str = "", emergency: bool = False, override: str = "",
    replans: str = "", reach: Reach | None = None,
) -> Iterator[Run]:
    """Open this flow run's ledger, or go on from it.

    Args:
        runbook: the declaration.
        site: name of a folder below the inventories.
        hosts: an Ansible host pattern, or an account's name.
        operation: what is done, with the operator's options.
        change_ref: ticket or change number.
        requester: who asks: a person's id, which is a claim, for nothing in Prefect proves it; or the line
            that `lamplighter request` printed.
        emergency: expedited; needs a signed request.
        override: why freezes are set aside; both parties sign for it then.
        replans: id of the earlier run whose leftovers are taken up; empty for none.
        reach: how the targets are connected to; None for hosts, as the inventory says.

    Raises:
        SiteError, SelectionError, NotApprovedError: what is wrong with the input; no ledger is left open.
    """
    started = orchestrator.current()
    wanted = Wanted(
        started.run(runbook.id), runbook, operation, hosts, change_ref, requester, emergency,
        _schedule(runbook, started) if started.schedule else None, override, started.due, replans,
        str(started.flow_run), started_with(named(runbook.id).runbook, started.parameters),
    )
    orchestrator.label(started.flow_run, wanted.run, _tags(runbook, site, emergency=emergency))
    with orchestrator.in_words():
        request, store = _asked_for(wanted, site)
        place = request.site
        with (
            Ledger.open(store, wanted.run, place.name) as ledger,
            reach(place) if reach else _reach_hosts(runbook, place) as connect,
            Leases(store) as leases,
        ):
            run = Run(wanted.run, request, store, ledger, connect, leases)
            with _ending(run):
                run.hosts  # noqa: B018 - a selection that matches nothing is an error before anything else
                yield run


def _asked_for(wanted: Wanted, site: str) -> tuple[Request, Store]:
    """What is asked for, and where its runs are written."""
    place = load_site_named(site)
    store = open_store(place.store)
    if alarm := warning(place, store, time.time()):
        get_run_logger().warning("%s", alarm)
    request = open_request(wanted, place, store, int(time.time()))
    if changed := wanted.differs(request):
        get_run_logger().warning("the ledger counts, and not what was changed since: %s", ", ".join(changed))
    return request, store


@contextlib.contextmanager
def _ending(run: Run) -> Iterator[None]:
    """Close the ledger of a run that an error ends, and tell people."""
    try:
        yield
    except LamplighterError as error:
        run.end(RunState.FAILED, str(error))
        run.close()
        _tell(run)
        raise


def _schedule(runbook: Runbook, started: orchestrator.Started) -> Callable[[Site], str]:
    """Finds what started a run among the schedules that its site declares."""
    entry = named(runbook.id)
    return lambda site: declared(entry, site, started.deployment, started.parameters, started.due)


@contextlib.contextmanager
def open_account_run(
    runbook: Runbook, site: str, account: str, operation: Callable[[AccountDesk, str], Operation[Any]], *,
    ticket: str, requester: str,
) -> Iterator[tuple[AccountDesk, Run]]:
    """Open a run about one account; see `open_run`.

    Args:
        runbook, site, requester: as there.
        account: as somebody typed it.
        operation: makes the operation, of the site's desk and the run's id.
        ticket: ticket or change number.
    """
    run_id = orchestrator.current().run(runbook.id)
    with orchestrator.in_words():
        desk = open_desk(load_site_named(site))
    with open_run(
        runbook, site, account, operation(desk, run_id), change_ref=ticket, requester=requester,
        reach=desk.reach,
    ) as run:
        remember_claims(run)
        yield desk, run


def within_rates(desk: AccountDesk, run: Run) -> bool:
    """Whether this change is not one too many."""
    allowed = desk.within_rates(run)
    if not allowed:
        get_run_logger().warning("not carried out: %s", run.history.why)
    return allowed


def hand_over(desk: AccountDesk, run: Run) -> None:
    """Give the new password to its user, or make it unreadable. It is shown nowhere here.

    While a mail server asks to come back later, the worker is free: the flow starts from its top then.
    """
    parcel = desk.hand_over(run)
    if parcel is not None and parcel.state == "waiting":
        get_run_logger().warning("the password is set, and its mail waits: %s", parcel.why)
        why = f"the password is set; its mail waits until {told(parcel.until, run.site.time_zone)}"
        orchestrator.sleep_until(parcel.until, f"{why}: {parcel.why}", orchestrator.AWAITING_MAIL)
    good = parcel is None or parcel.state == "delivered"
    for name, text in delivery_lines(run):
        (get_run_logger().info if good else get_run_logger().warning)("%s %s", name, text)


def _tags(runbook: Runbook, site: str, *, emergency: bool) -> list[str]:
    """The runbook's tags; an emergency is found by its own."""
    tags = {tag for tag in runbook.tags(site) if not (emergency and tag.startswith("change:"))}
    return sorted(tags | ({f"change:{ChangeType.EMERGENCY}"} if emergency else set()))


def survey(run: Run) -> tuple[Surveyed, ...]:
    """Read what every selected host is like. Changes nothing."""
    if run.history.plan:
        return ()
    log = get_run_logger()

    def tell(seen: Surveyed) -> None:
        if seen.facts is None:
            log.warning("%-16s %s: %s", seen.host.name, seen.end, seen.message)
        else:
            log.info("%-16s surveyed", seen.host.name)

    return _step("survey", lambda: run.survey(tell))


def make_plan(run: Run, surveyed: tuple[Surveyed, ...]) -> Plan:
    """Decide exactly what is to be done, and keep it as bytes that can be signed."""
    if run.history.plan:
        return run.plan()
    plan = _step("plan", lambda: run.make_plan(surveyed))
    count = len(plan.targets)
    get_run_logger().info("%d of %d hosts in %d waves: %s", count, plan.fleet, len(plan.waves), plan.digest)
    artifacts.show_page("plan", plan_page(plan, run.site.time_zone), f"Plan of {run.id}")
    return plan


def pass_gate(run: Run, plan: Plan) -> None:
    """Wait until the people the gate names have signed this plan, and then until its window opens.

    Suspends the flow run, which frees its worker; a resume starts the flow from its top. A resume without
    a valid signature suspends it again, and the form says why. A rejection or the plan's expiry ends the
    run: no wave starts then.
    """
    log = get_run_logger()
    while plan.waves and not run.history.ended():
        result = run.check_gate()
        if result.passed:
            log.info("gate open: signed by %s", ", ".join(result.signed))
            _await_window(run, plan)
            return
        if run.history.ended():
            log.warning("gate closed: %s", run.history.why)
            return
        if not run.gate_can_open():
            return
        _ask(run, plan, result)


def _await_window(run: Run, plan: Plan) -> None:
    """Give the worker back until the plan's window opens; the flow starts from its top then."""
    opens = await_window(run.journal, plan.window, run.clock())
    if opens:
        why = f"signed; carried out from {told(opens, run.site.time_zone)}"
        get_run_logger().info(why)
        orchestrator.sleep_until(opens, why)


def _ask(run: Run, plan: Plan, result: GateResult) -> None:
    number = run.ask()
    _tell(run)
    left = max(int(plan.expires - time.time()), 60)
    replans = run.request.replans
    different = deltas(run.store, run.site, replans, plan)
    page = gate_page(plan, run.site.time_zone, result, number, replans, different)
    answer = ask(f"gate-{number}", page, left)
    if answer is None:
        run.receive(number, (), {"decision": "none", "reason": "resumed without a decision"})
    else:
        lines = pasted(answer.approval)
        run.receive(number, lines, {"decision": answer.decision, "reason": answer.reason})


def roll_out(run: Run, wave: int) -> None:
    """Carry one wave out, unless the gate, the brake or the ledger says there is nothing left to do."""
    if run.history.ended() or wave in run.history.waves:
        return
    log = get_run_logger()
    names = run.plan().waves[wave - 1]
    log.info("wave %d: %s", wave, ", ".join(names))

    def tell(outcome: HostOutcome) -> None:
        say = log.info if outcome.terminal in {Terminal.CHANGED, Terminal.UNCHANGED} else log.warning
        say("%-16s %s: %s", outcome.host, outcome.terminal, outcome.message)

    progress = artifacts.Progress(f"wave {wave}", len(names), PROGRESS_SECONDS)

    def tick() -> None:
        progress.show(sum(name in run.history.hosts for name in names))

    _step(f"wave-{wave}", lambda: run.rollout(tell, tick).roll_out(wave))
    progress.show(len(names), last=True)
    if run.history.ended():
        log.error("halted: %s", run.history.why)


def close(run: Run) -> State[Any]:
    """Seal the ledger, show the report, and end in a state named as the run ended."""
    ending = _step("report", run.close)
    plan = run.plan() if run.history.plan else None
    artifacts.show_table("report", report_rows(ending.outcomes), f"{run.id}: every host, one row")
    times = (*_times(run), *delivery_lines(run))
    page = report_page(run.id, plan, run.site.time_zone, ending, _overdue(run), times)
    artifacts.show_page("report-page", page, f"Report of {run.id}")
    get_run_logger().info("%s: %s", ending.state, ending.message)
    _tell(run)
    return orchestrator.final(ending.state, ending.message)


def _overdue(run: Run) -> tuple[Due, ...]:
    """Reviews of earlier emergencies that should have been done; a store out of reach hides no report."""
    try:
        return overdue(open_reviews(run.store, run.site.trust), time.time())
    except LamplighterError as error:
        get_run_logger().warning("overdue reviews are not known: %s", error)
        return ()


def _times(run: Run) -> tuple[tuple[str, str], ...]:
    """Who held the run for how long, and what was promised."""
    runbook = run.request.runbook
    clocks = read_clocks(run.ledger.records(), time.time())
    return clock_lines(clocks, sla_of(run.site, runbook.id, runbook), str(runbook.owner))


def _tell(run: Run) -> None:
    """Tell people of this run at once. It never stops the run: the watch tells what this could not."""
    page = orchestrator.page(orchestrator.current().flow_run)
    known = {run.request.runbook.id: run.request.runbook}
    try:
        notify = load_notify(run.site.path, run.site.people)
        watch = Watch(run.site, run.store, notify, known, lambda _: page, time.time)
        notices = watch.tell(watch.case(run.id))
        sent = watch.deliver(TELL_SECONDS, notices) if notices else None
    except LamplighterError as error:
        get_run_logger().warning("nobody was told yet, the watch tries again: %s", error)
    else:
        if sent:
            get_run_logger().info("notices: %s", sent)


def _step(name: str, work: Callable[[], T]) -> T:
    """Run `work` as one Prefect task: never cached, never retried, its result never stored.

    An error with a sentence ends the task as failed, and is raised here as it is.
    """

    def in_words() -> T | State[Any]:
        try:
            return work()
        except LamplighterError as error:
            return orchestrator.failed(error)

    said = task(name=name, persist_result=False, cache_policy=NO_CACHE, retries=0)(in_words)()
    return cast("T", said)


