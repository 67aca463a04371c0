"""Carries a plan out: waves, budgets, leases, drift, intents and outcomes.

The rules, each with a fault test:

- nothing starts before its intent is durable; every intent gets exactly one outcome;
- a restarted worker goes on from the ledger: finished hosts are left alone, an intent without an outcome
  is probed on the host and never repeated blindly;
- before each wave and before each host the guard is asked (approval still valid, window open);
- a host whose facts changed since the plan is not touched;
- a wave starts only when every host of the one before is terminal, within budget, and healthy after its soak;
- when the ledger cannot be written, nothing more is changed.

Hosts fan out on threads; a hung host holds one thread until its own deadline and nobody else.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

from lamplighter.crashpoints import crashpoint
from lamplighter.errors import (
    LamplighterError,
    LeaseHeldError,
    NotApprovedError,
    RefusedError,
    SessionLostError,
    SudoRefusedError,
    TransportError,
    UnreachableError,
)
from lamplighter.leases import Lease, Leases
from lamplighter.ledger import Ledger
from lamplighter.model.history import History, drifted
from lamplighter.model.inventory import Host
from lamplighter.model.operation import Operation
from lamplighter.model.outcome import Evidence, HostOutcome, Outcome, RunState, StepResult, Terminal, tally
from lamplighter.model.plan import HostPlan, Plan, Step, facts_digest
from lamplighter.model.session import Connect, Session
from lamplighter.model.waves import overspent
from lamplighter.survey import unexpected

DRAIN_SECONDS = 30.0
Progress = Callable[[HostOutcome], None]


def unit_name(plan_digest: str, host: str, step: str) -> str:
    """The detached unit of a step: unique to the approved plan, the host and the step."""
    place = hashlib.sha256(host.encode()).hexdigest()[:8]
    return f"{plan_digest.removeprefix('sha256:')[:16]}-{place}-{step}"


@dataclass
class Rollout:
    """One run's way through its plan.

    Attributes:
        plan: as approved.
        operation: carries steps out.
        hosts: the inventory's hosts by name, with today's variables.
        connect: opens sessions.
        ledger: of this run, open for writing.
        history: replayed from it, kept current here.
        leases: so that one run at a time changes a host.
        guard: raises `NotApprovedError` when no further host may be touched.
        progress: told of every host that became terminal, from the host's thread.
        tick: called about twice a second from the main thread while hosts are at work.
        sleep: waits out a soak; replaced by simulations.
        clock: seconds since the epoch.
    """

    plan: Plan
    operation: Operation[Any]
    hosts: Mapping[str, Host]
    connect: Connect
    ledger: Ledger
    history: History
    leases: Leases
    guard: Callable[[], None]
    progress: Progress = lambda _: None
    tick: Callable[[], None] = lambda: None
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.time
    drain: float = DRAIN_SECONDS
    _stop: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _closing: set[tuple[str, str]] = field(default_factory=set)

    # --- waves ------------------------------------------------------------------------------------

    def roll_out(self, number: int) -> None:
        """Bring wave `number` (1-based) to its end; returns at once when the ledger says it is.

        Halting is recorded, not raised: `history.why` says why the next wave does not start.

        Raises:
            LedgerError: the ledger cannot be written; nothing more was started.
            KeyboardInterrupt and Prefect's termination signal, after draining.
        """
        if self.history.ending or number in self.history.waves or not self._may_start(number):
            return
        names = self.plan.waves[number - 1]
        if number not in self.history.started:
            self._record("wave-started", wave=number, hosts=list(names))
        self._fan_out(names, number)
        outcomes = [self.history.hosts[name] for name in names]
        counts = {str(state): count for state, count in tally(outcomes).items()}
        self._record("wave-ended", wave=number, counts=counts)
        why = overspent(self.plan.limits, number, outcomes, self.history.hosts.values())
        if why:
            self._halt(why)

    def _may_start(self, number: int) -> bool:
        """Soak the wave before, then ask budget and guard."""
        try:
            self.guard()
            if number > 1:
                self._soak(number - 1)
                self.guard()
        except NotApprovedError as error:
            self._halt(error.message)
        else:
            why = overspent(self.plan.limits, 0, (), self.history.hosts.values())
            if why:
                self._halt(why)
        return self.history.ending is None

    def _soak(self, number: int) -> None:
        """Wait until the wave before has run long enough, then look at its hosts once more."""
        if number in self.history.soaked:
            return
        left = self.history.waves[number] / 1000 + self.plan.limits.soak_seconds - self.clock()
        if left > 0:
            self.sleep(left)
        names = [
            name for name in self.plan.waves[number - 1]
            if self.history.hosts[name].terminal is Terminal.CHANGED
        ]
        with ThreadPoolExecutor(max(1, min(self.plan.limits.parallel, len(names))), "soak") as pool:
            looks = pool.map(lambda name: self._look_again(name, number), names)
            ill = [name for name, outcome in zip(names, looks, strict=True) if outcome]
        self._record("soaked", wave=number, ill=ill)
        outcomes = [self.history.hosts[name] for name in self.plan.waves[number - 1]]
        why = overspent(self.plan.limits, number, outcomes, self.history.hosts.values())
        if why:
            self._halt(f"after the soak: {why}")

    def _look_again(self, name: str, wave: int) -> HostOutcome | None:
        host = self.hosts[name]
        try:
            session = self.connect(host)
            try:
                health = self.operation.verify(host, self.plan.host(name), session)
            finally:
                session.close()
            problem = "; ".join(health.problems)
        except LamplighterError as error:
            problem = str(error)
        if not problem:
            return None
        return self._finish(HostOutcome(name, Terminal.FAILED, f"ill after the soak: {problem}", wave))

    def _halt(self, why: str) -> None:
        self._record("halted", state=str(RunState.HALTED), why=why)

    # --- fan-out ----------------------------------------------------------------------------------

    def _fan_out(self, names: Iterable[str], wave: int) -> None:
        todo = [name for name in names if name not in self.history.hosts]
        if not todo:
            return
        pool = ThreadPoolExecutor(min(self.plan.limits.parallel, len(todo)), f"wave-{wave}")
        futures = [pool.submit(self._host, name, wave) for name in todo]
        try:
            _raise_first(futures, self.tick)
        except BaseException:
            self._drain(futures)
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _drain(self, futures: list[Future[None]]) -> None:
        """Start nothing new, give running steps a bounded time, close what stays open as unknown."""
        self._stop.set()
        for future in futures:
            future.cancel()
        wait(futures, timeout=self.drain)
        stopped = Outcome(StepResult.UNKNOWN, Evidence("the worker was stopped while it ran"))
        for host, step in sorted(self.history.intents - self.history.outcomes.keys()):
            self._outcome(host, step, stopped, interrupted=True)

    def _host(self, name: str, wave: int) -> None:
        if self._stop.is_set():
            return
        try:
            outcome = self._carry_out(name, wave)
        except LeaseHeldError as error:
            terminal = Terminal.FAILED if self.history.touched(name) else Terminal.REFUSED
            outcome = HostOutcome(name, terminal, str(error), wave)
        if outcome is not None:
            self._finish(outcome)

    def _carry_out(self, name: str, wave: int) -> HostOutcome | None:
        touched = self.history.touched(name)
        if not touched:
            try:
                self.guard()
            except NotApprovedError as error:
                return HostOutcome(name, Terminal.SKIPPED, f"not touched: {error.message}", wave)
        host, plan = self.hosts[name], self.plan.host(name)
        with self.leases.hold(name, self.plan.run) as lease:
            try:
                session = self.connect(host)
            except UnreachableError as error:
                if touched:
                    return self._give_up(plan, wave, str(error))
                return HostOutcome(name, Terminal.UNREACHABLE, str(error), wave)
            try:
                return self._on_host(host, plan, session, wave, lease)
            finally:
                session.close()

    def _give_up(self, plan: HostPlan, wave: int, why: str) -> HostOutcome:
        """A host with open intents cannot be reached any more: say unknown, and nothing else."""
        for step in plan.steps:
            key = (plan.host, step.id)
            if key in self.history.intents and key not in self.history.outcomes:
                self._outcome(plan.host, step.id, Outcome(StepResult.UNKNOWN, Evidence(why)))
        return HostOutcome(
            plan.host, Terminal.UNKNOWN,
            f"a step was started and the host cannot be asked how it ended: {why}. Look at the host", wave,
        )

    def _on_host(
        self, host: Host, plan: HostPlan, session: Session, wave: int, lease: Lease
    ) -> HostOutcome | None:
        if not self.history.touched(host.name):
            stop = self._drift(host, plan, session, wave)
            if stop:
                return stop
        done: list[str] = []
        for step in plan.steps:
            if self._stop.is_set():
                return None
            lease.check()
            outcome = self._step(host, step, session)
            if outcome.result is not StepResult.OK:
                return _ended(host.name, step, outcome, done, wave)
            done.append(outcome.evidence.summary)
        return self._verify(host, plan, session, "; ".join(done), wave)

    def _drift(self, host: Host, plan: HostPlan, session: Session, wave: int) -> HostOutcome | None:
        try:
            facts = self.operation.survey(host, session)
        except SessionLostError as error:
            return HostOutcome(host.name, Terminal.UNREACHABLE, str(error), wave)
        except LamplighterError as error:
            return HostOutcome(host.name, Terminal.REFUSED, f"{error}. Nothing was changed", wave)
        if facts_digest(facts) == plan.facts:
            return None
        changes = drifted(self.history.facts.get(host.name, {}), facts.relevant())
        what = "; ".join(changes[:5]) or "its facts differ from those the plan was made from"
        return HostOutcome(host.name, Terminal.DRIFTED, f"changed since the plan, not touched: {what}", wave)

    # --- steps ------------------------------------------------------------------------------------

    def _step(self, host: Host, step: Step, session: Session) -> Outcome:
        key = (host.name, step.id)
        unit = unit_name(self.history.plan, host.name, step.id)
        known = self.history.outcomes.get(key)
        if known and key not in self.history.interrupted:
            return known
        if key in self.history.intents:
            outcome = self._probe(host, step, session, unit)
            if outcome is None:
                outcome = self._apply(host, step, session, unit)
        else:
            self._record("intent", host=host.name, step=step.id, action=step.action, unit=unit)
            crashpoint("rollout.after-intent")
            outcome = self._apply(host, step, session, unit)
        crashpoint("rollout.before-outcome")
        self._outcome(host.name, step.id, outcome)
        crashpoint("rollout.after-outcome")
        return outcome

    def _apply(self, host: Host, step: Step, session: Session, unit: str) -> Outcome:
        try:
            return Outcome(StepResult.OK, self.operation.apply(host, step, session, unit))
        except (RefusedError, SudoRefusedError) as error:
            return Outcome(StepResult.REFUSED, Evidence(str(error)))
        except TransportError as error:
            if type(error).__name__ == "RemoteFailedError":
                return Outcome(StepResult.FAILED, Evidence(str(error)))
            probed = self._probe(host, step, session, unit)
            return probed or Outcome(StepResult.FAILED, Evidence(f"it never began: {error}"))
        except LamplighterError as error:
            return Outcome(StepResult.FAILED, Evidence(str(error)))
        except Exception as error:  # noqa: BLE001 - whatever went wrong here, the intent needs its outcome
            return Outcome(StepResult.UNKNOWN, Evidence(unexpected(error)))

    def _probe(self, host: Host, step: Step, session: Session, unit: str) -> Outcome | None:
        try:
            return self.operation.probe(host, step, session, unit)
        except LamplighterError as error:
            return Outcome(StepResult.UNKNOWN, Evidence(f"the host could not be asked how it ended: {error}"))
        except Exception as error:  # noqa: BLE001 - as above
            return Outcome(StepResult.UNKNOWN, Evidence(unexpected(error)))

    def _verify(
        self, host: Host, plan: HostPlan, session: Session, done: str, wave: int
    ) -> HostOutcome:
        try:
            health = self.operation.verify(host, plan, session)
        except LamplighterError as error:
            return HostOutcome(host.name, Terminal.FAILED, f"{done}; verifying it failed: {error}", wave)
        self._record(
            "verified", host=host.name, problems=list(health.problems),
            evidence={"summary": health.evidence.summary, "data": health.evidence.data},
        )
        if not health.healthy:
            return HostOutcome(host.name, Terminal.FAILED, f"{done}; but {'; '.join(health.problems)}", wave)
        return HostOutcome(host.name, Terminal.CHANGED, done, wave)

    # --- records ----------------------------------------------------------------------------------

    def _record(self, kind: str, **fields: Any) -> None:
        self.history.note(self.ledger.append(kind, **fields))

    def _finish(self, outcome: HostOutcome) -> HostOutcome:
        self._record(
            "host", host=outcome.host, terminal=str(outcome.terminal), message=outcome.message,
            wave=outcome.wave,
        )
        self.progress(outcome)
        return outcome

    def _outcome(self, host: str, step: str, outcome: Outcome, *, interrupted: bool = False) -> None:
        """Close an intent, once: a thread that outlives the draining finds its intent closed already."""
        key = (host, step)
        with self._lock:
            if key in self._closing:
                return
            self._closing.add(key)
        self._record(
            "reconciliation" if key in self.history.outcomes else "outcome",
            host=host, step=step, result=str(outcome.result), interrupted=interrupted,
            evidence={"summary": outcome.evidence.summary, "data": outcome.evidence.data},
        )


def _raise_first(futures: Iterable[Future[None]], tick: Callable[[], None]) -> None:
    """Wait for all, but let the first broken one (the ledger cannot be written) through at once."""
    pending = set(futures)
    while pending:
        done, pending = wait(pending, timeout=0.5, return_when="FIRST_EXCEPTION")
        for future in done:
            future.result()
        tick()


def _ended(host: str, step: Step, outcome: Outcome, done: list[str], wave: int) -> HostOutcome:
    before = f"done before: {'; '.join(done)}. " if done else ""
    terminal = {
        StepResult.REFUSED: Terminal.FAILED if done else Terminal.REFUSED,
        StepResult.UNKNOWN: Terminal.UNKNOWN,
    }.get(outcome.result, Terminal.FAILED)
    message = f"{before}{step.id} {outcome.result}: {outcome.evidence.summary}"
    return HostOutcome(host, terminal, message, wave)


