"""Carries a plan out: waves, budgets, leases, drift, intents and outcomes.

The rules, each with a fault test:

- nothing starts before its intent is durable; every intent gets exactly one outcome;
- a restarted worker goes on from the ledger: finished hosts are left alone, an intent without an outcome
  is probed on the host and never repeated blindly;
- before each wave and before each host the guard is asked (approval still valid, window open);
- a host whose facts changed since the plan is not touched;
- a wave starts only when every host of the one before is terminal, within budget, and healthy after its soak;
- when the ledger cannot be written, nothing more is changed.

Hosts fan out on threads; a hung host holds one thread until its own deadline and nobody else. What happens
on one host is in `lamplighter.engine.turn`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from lamplighter.engine.fanout import FanOut, contained
from lamplighter.engine.turn import Means, Turn, look
from lamplighter.errors import NotApprovedError, RefusedError, WindowClosedError
from lamplighter.model.history import History
from lamplighter.model.inventory import Host
from lamplighter.model.outcome import Evidence, HostOutcome, Outcome, RunState, StepResult, Terminal, tally
from lamplighter.model.plan import HostPlan, Plan
from lamplighter.model.waves import overspent

DRAIN_SECONDS = 20.0  # Prefect kills a run 30 s after it has told it to stop
Progress = Callable[[HostOutcome], None]
GONE = "the host is not in the inventory any more"
STOPPED = Outcome(StepResult.UNKNOWN, Evidence("the worker was stopped while it ran"))


@dataclass
class Rollout:
    """One run's way through its plan.

    Attributes:
        plan: as approved.
        hosts: the inventory's hosts by name, with today's variables.
        means: what the hosts' turns work with.
        progress: told of every host that became terminal, from the host's thread.
        tick: called about twice a second from the calling thread while hosts are at work.
        sleep: waits out a soak; replaced by simulations.
        clock: seconds since the epoch.
        drain: seconds that running steps get when the worker is stopped.
    """

    plan: Plan
    hosts: Mapping[str, Host]
    means: Means
    progress: Progress = lambda _: None
    tick: Callable[[], None] = lambda: None
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.time
    drain: float = DRAIN_SECONDS
    _plans: dict[str, HostPlan] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._plans = {plan.host: plan for plan in self.plan.hosts}

    @property
    def history(self) -> History:
        """The run so far."""
        return self.means.journal.history

    # --- waves ------------------------------------------------------------------------------------

    def roll_out(self, number: int) -> None:
        """Bring wave `number` (1-based) to its end; returns at once when the ledger says it is.

        Halting is recorded, not raised: `history.why` says why the next wave does not start.

        Raises:
            RefusedError: it is not this wave's turn; nothing was started.
            LedgerError: the ledger cannot be written; nothing more was started.
            BaseException: KeyboardInterrupt, Prefect's termination signal: after draining.
        """
        if self.history.ending or number in self.history.waves:
            return
        if number != len(self.history.waves) + 1 or number > len(self.plan.waves):
            raise RefusedError(
                f"wave {number} cannot start: {len(self.history.waves)} of {len(self.plan.waves)} have ended",
                where=self.plan.run, changed="Nothing was started",
            )
        if not self._may_start(number):
            return
        names = self.plan.waves[number - 1]
        if number not in self.history.started:
            self.means.journal.record("wave-started", wave=number, hosts=list(names))
        self._fan_out(names, number)
        outcomes = self._outcomes(number)
        counts = {str(state): count for state, count in tally(outcomes).items()}
        self.means.journal.record("wave-ended", wave=number, counts=counts)
        skipped = next((one for one in outcomes if one.terminal is Terminal.SKIPPED), None)
        why = self._overspent(number) or (skipped and f"in wave {number}: {skipped.message}")
        if why:
            self._halt(why)

    def settle(self) -> None:
        """After a halt: learn what became of hosts that were begun and have no end yet. Begins nothing.

        Raises:
            LedgerError: the ledger cannot be written.
        """
        why = self.history.why or "the run ended before"

        def deny(hosts: Sequence[str] = (), *, wave: bool = False) -> None:
            del hosts, wave
            raise NotApprovedError(why)

        settling = replace(self, means=replace(self.means, guard=deny))
        for number, wave in enumerate(self.plan.waves, 1):
            settling._fan_out([name for name in wave if name in self.history.begun], number)  # noqa: SLF001 - its own kind

    def _outcomes(self, number: int) -> list[HostOutcome]:
        return [self.history.hosts[name] for name in self.plan.waves[number - 1]]

    def _overspent(self, number: int) -> str:
        in_wave = self._outcomes(number) if number else ()
        return overspent(self.plan.limits, number, in_wave, self.history.hosts.values())

    def _may_start(self, number: int) -> bool:
        """Ask guard and budget, and soak the wave before."""
        fresh = number not in self.history.started
        try:
            if number > 1:
                self.means.guard()
                self._soak(number - 1)
            self.means.guard(self.plan.waves[number - 1] if fresh else (), wave=fresh)
        except WindowClosedError as error:
            self._halt(error.message, RunState.HALTED if self.history.started else RunState.MISSED)
        except NotApprovedError as error:
            self._halt(error.message)
        else:
            why = self._overspent(0)
            if why:
                self._halt(why)
        return self.history.ending is None

    def _soak(self, number: int) -> None:
        """Wait until the wave before has run long enough, then look at its hosts once more."""
        if number in self.history.soaked:
            return
        names = [one.host for one in self._outcomes(number) if one.terminal is Terminal.CHANGED]
        soak = self.plan.limits.soak_seconds
        left = self.history.waves[number] / 1000 + soak - self.clock()
        if names and left > 0:
            self.sleep(min(left, soak))  # a clock that was set back must not keep the run for ever
        looks = FanOut(lambda name: self._ill(name, number), names, self.plan.limits.parallel, "soak")
        ill = [outcome.host for outcome in self._stoppable(looks) if outcome]
        self.means.journal.record("soaked", wave=number, ill=ill)
        why = self._overspent(number)
        if why:
            self._halt(f"after the soak: {why}")

    def _ill(self, name: str, wave: int) -> HostOutcome | None:
        host = self.hosts.get(name)
        problems = look(self.means, host, self._plans[name]).problems if host else (GONE,)
        if not problems:
            return None
        return self._finish(
            HostOutcome(name, Terminal.FAILED, f"ill after the soak: {'; '.join(problems)}", wave)
        )

    def _halt(self, why: str, state: RunState = RunState.HALTED) -> None:
        self.means.journal.record("halted", state=str(state), why=why)

    # --- fan-out ----------------------------------------------------------------------------------

    def _fan_out(self, names: Iterable[str], wave: int) -> None:
        todo = [name for name in names if name not in self.history.hosts]
        turns = FanOut(lambda name: self._turn(name, wave), todo, self.plan.limits.parallel, f"wave-{wave}")
        self._stoppable(turns)

    def _stoppable(self, hosts: FanOut[str, HostOutcome | None]) -> Sequence[HostOutcome | None]:
        """Run it; when stopped, begin nothing new, give what runs a bounded time, close what stays open."""
        try:
            return hosts.run(self.tick)
        except BaseException:
            self.means.stop.set()
            hosts.drain(self.drain)
            self.means.journal.interrupt(STOPPED)
            raise

    def _turn(self, name: str, wave: int) -> HostOutcome | None:
        turn = Turn(self.means, self.hosts.get(name, Host(name)), self._plans[name], wave)
        outcome = turn.take() if name in self.hosts else turn.leave(Terminal.FAILED, GONE)
        return outcome and self._finish(outcome)

    def _finish(self, outcome: HostOutcome) -> HostOutcome:
        self.means.journal.end_hosts([outcome])
        contained(lambda: self.progress(outcome))
        return outcome
