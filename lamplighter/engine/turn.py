"""One host's turn in a rollout: lease, gate, drift, steps, verification, end.

Whatever goes wrong on the host is its own end and nobody else's: a turn raises only when the ledger cannot
be written. An announced step is always asked about on the host first, and begun only when the host proves
that it never began. No step begins unless the gate was found open in this turn, after the last look at the
host; only the further steps of a host whose first one just succeeded follow without asking again, for a
host left half-way is worse than a finished one.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from lamplighter.crashpoints import crashpoint
from lamplighter.engine.fanout import unexpected
from lamplighter.engine.journal import Journal
from lamplighter.errors import (
    AuthFailedError,
    CertificateError,
    DriftedError,
    HostKeyError,
    LamplighterError,
    LeaseHeldError,
    LedgerError,
    NotApprovedError,
    RefusedError,
    RemoteFailedError,
    SessionLostError,
    SudoRefusedError,
    TransportError,
    UnreachableError,
)
from lamplighter.leases import Lease, Leases
from lamplighter.model.history import History, drifted
from lamplighter.model.inventory import Host
from lamplighter.model.operation import Operation
from lamplighter.model.outcome import Evidence, Health, HostOutcome, Outcome, StepResult, Terminal
from lamplighter.model.plan import HostPlan, Step, facts_digest
from lamplighter.model.session import Connect, Connection

PATIENCE = 600.0
LOOKS = 3
"""How often a host that cannot be reached is looked at before it counts as ill."""


class Guard(Protocol):
    """Asked before anything is touched."""

    def __call__(self, hosts: Sequence[str] = (), *, wave: bool = False) -> None:
        """Raise `NotApprovedError` unless these hosts may be touched now; as a wave, and for its time."""


class StoppedError(Exception):
    """The worker is being stopped: leave the host as the ledger has it. Never leaves this floor."""


@dataclass(frozen=True)
class Means:
    """What every turn of a run works with.

    Attributes:
        run: the run's id.
        operation: carries steps out.
        connect: opens sessions.
        journal: of the run.
        leases: so that one run at a time changes a host.
        guard: see `Guard`.
        pause: seconds between looks at a host that cannot be reached.
        patience: seconds for which a host that was begun before is waited for.
        stop: set when nothing more may begin.
    """

    run: str
    operation: Operation[Any]
    connect: Connect
    journal: Journal
    leases: Leases
    guard: Guard
    pause: float
    patience: float = PATIENCE
    stop: threading.Event = field(default_factory=threading.Event)


def unit_name(plan_digest: str, host: str, step: str) -> str:
    """The detached unit of a step: unique to the approved plan, the host and the step."""
    place = hashlib.sha256(host.encode()).hexdigest()[:8]
    return f"{plan_digest.removeprefix('sha256:')[:16]}-{place}-{step}"


def look(means: Means, host: Host, plan: HostPlan) -> Health:
    """See whether a host is well after its steps; a connection that fails is tried again first."""
    for left in reversed(range(LOOKS)):
        try:
            session = means.connect(host)
            try:
                return means.operation.verify(host, plan, session)
            finally:
                session.close()
        except TransportError as error:
            if means.stop.is_set() or (left and means.stop.wait(means.pause)):
                raise StoppedError from error
            if not left:
                return Health((f"it could not be looked at: {error}",), Evidence(str(error)))
        except LamplighterError as error:
            return Health((str(error),), Evidence(str(error), error.data))
        except Exception as error:  # noqa: BLE001 - logged, and told as what it is: a bug
            problem = unexpected(error)
            return Health((problem,), Evidence(problem))
    raise AssertionError("unreachable: the last look returns")


class Turn:
    """See the module's docstring.

    Args:
        means: shared with the other hosts.
        host: with today's variables.
        plan: what is to be done on it.
        wave: 1-based.
    """

    def __init__(self, means: Means, host: Host, plan: HostPlan, wave: int) -> None:
        self._means, self._host, self._plan, self._wave = means, host, plan, wave
        self._done: list[str] = []
        self._cleared = False

    def take(self) -> HostOutcome | None:
        """Do what is left to do; None when the worker was stopped before the host's end.

        Raises:
            LedgerError: it cannot be written; nothing was begun after that.
        """
        try:
            with self._means.leases.hold(self._host.identity, self._means.run) as lease:
                return self._work(lease)
        except LedgerError:
            raise
        except StoppedError:
            return None
        except NotApprovedError as error:
            return self.leave(Terminal.SKIPPED, f"not touched: {error.message}", error.message)
        except DriftedError as error:
            return self.leave(Terminal.DRIFTED, str(error))
        except (LeaseHeldError, RefusedError) as error:
            return self.leave(Terminal.REFUSED, str(error))
        except TransportError as error:
            return self.leave(Terminal.UNREACHABLE, str(error))
        except LamplighterError as error:
            return self.leave(Terminal.FAILED, str(error))
        except Exception as error:  # noqa: BLE001 - logged; a bug on one host must not cost the others' work
            return self.leave(Terminal.FAILED, unexpected(error))

    @property
    def _history(self) -> History:
        return self._means.journal.history

    def _work(self, lease: Lease) -> HostOutcome:
        fresh = self._host.name not in self._history.begun
        if fresh:
            # Asked again before the first step: the look at the host takes its time.
            self._means.guard((self._host.name,))
        session = self._means.connect(self._host) if fresh else self._connect_patiently()
        try:
            end = self._drift(session) if fresh else None
            return end or self._steps(session, lease)
        finally:
            session.close()

    def _connect_patiently(self) -> Connection:
        """Reach a host that was begun by a worker that died: it may be rebooting, as it was told to."""
        deadline = time.monotonic() + self._means.patience
        while True:
            try:
                return self._means.connect(self._host)
            except (AuthFailedError, HostKeyError, CertificateError):
                raise
            except UnreachableError:
                if time.monotonic() >= deadline:
                    raise
            if self._means.stop.wait(self._means.pause):
                raise StoppedError

    def leave(self, terminal: Terminal, message: str, why: str = "") -> HostOutcome:
        """End a turn that cannot go on: close what is open, and say how far it came.

        Args:
            terminal, message: of a host that was never begun.
            why: of a host that was; as `message` when empty.
        """
        name, history, why = self._host.name, self._history, why or message
        for step in self._plan.steps:
            key = (name, step.id)
            if key in history.intents and (key not in history.outcomes or key in history.interrupted):
                self._means.journal.conclude(name, step.id, Outcome(StepResult.UNKNOWN, Evidence(why)))
                message = (
                    f"{self._before()}{step.id} was begun, and the host could not be asked how it ended: "
                    f"{why}. Look at the host"
                )
                return HostOutcome(name, Terminal.UNKNOWN, message, self._wave)
        if name not in history.begun:
            return HostOutcome(name, terminal, message, self._wave)
        done = [step for step in self._plan.steps if (name, step.id) in history.outcomes]
        rest = ", ".join(step.id for step in self._plan.steps[len(done):])
        what = f"{', '.join(step.id for step in done)} done" + (f", {rest} not begun" if rest else "")
        return HostOutcome(name, Terminal.FAILED, f"{what}: {why}", self._wave)

    # --- drift ------------------------------------------------------------------------------------

    def _drift(self, session: Connection) -> HostOutcome | None:
        """Why the host must be left alone, after one more look at its facts; None when it is as planned."""
        try:
            facts = self._means.operation.survey(self._host, session)
            same = facts_digest(facts) == self._plan.facts
        except (UnreachableError, SessionLostError):
            raise
        except LamplighterError as error:
            return HostOutcome(
                self._host.name, Terminal.REFUSED, f"{error}. Nothing was changed", self._wave
            )
        if same:
            return None
        changes = drifted(self._history.facts.get(self._host.name, {}), facts.relevant())
        what = "; ".join(changes[:5]) or "its facts differ from those the plan was made from"
        return HostOutcome(
            self._host.name, Terminal.DRIFTED, f"changed since the plan, not touched: {what}", self._wave
        )

    # --- steps ------------------------------------------------------------------------------------

    def _steps(self, session: Connection, lease: Lease) -> HostOutcome:
        for step in self._plan.steps:
            if self._means.stop.is_set():
                raise StoppedError
            lease.check()
            outcome = self._known(step) or self._carry_out(step, session)
            if outcome.result is not StepResult.OK:
                return self._ended(step, outcome)
            self._done.append(outcome.evidence.summary)
        return self._verify()

    def _known(self, step: Step) -> Outcome | None:
        key = (self._host.name, step.id)
        return None if key in self._history.interrupted else self._history.outcomes.get(key)

    def _carry_out(self, step: Step, session: Connection) -> Outcome:
        name, journal = self._host.name, self._means.journal
        unit = unit_name(self._history.plan, name, step.id)
        if (name, step.id) in self._history.intents:
            outcome = self._probe(step, session, unit) or self._begin_late(step, session, unit)
        else:
            self._clear()
            journal.intend(name, step, unit)
            crashpoint("rollout.after-intent")
            outcome = self._apply(step, session, unit)
        crashpoint("rollout.before-outcome")
        if not journal.conclude(name, step.id, outcome):
            raise StoppedError
        crashpoint("rollout.after-outcome")
        return outcome

    def _clear(self) -> None:
        """Ask the gate, once in a turn and at the last moment before a step begins."""
        if self._means.stop.is_set():
            raise StoppedError
        if not self._cleared:
            self._means.guard((self._host.name,))
            self._cleared = True

    def _begin_late(self, step: Step, session: Connection, unit: str) -> Outcome:
        """Begin a step that was announced and provably never began, if it may still begin."""
        try:
            end = None if self._done else self._drift(session)
            if end is not None:
                return Outcome(StepResult.REFUSED, Evidence(f"it never began: {end.message}"))
            self._clear()
        except NotApprovedError as error:
            return Outcome(StepResult.REFUSED, Evidence(f"it never began: {error.message}"))
        except TransportError as error:
            return Outcome(StepResult.FAILED, Evidence(f"it never began: {error}"))
        return self._apply(step, session, unit)

    def _apply(self, step: Step, session: Connection, unit: str) -> Outcome:
        try:
            return Outcome(StepResult.OK, self._means.operation.apply(self._host, step, session, unit))
        except (RefusedError, SudoRefusedError) as error:
            return Outcome(StepResult.REFUSED, Evidence(str(error), error.data))
        except RemoteFailedError as error:
            return Outcome(StepResult.FAILED, Evidence(str(error), error.data))
        except TransportError as error:
            probed = self._probe(step, session, unit)
            never = Evidence(f"it never began: {error}", error.data)
            return probed or Outcome(StepResult.FAILED, never)
        except LamplighterError as error:
            return Outcome(StepResult.FAILED, Evidence(str(error), error.data))
        except Exception as error:  # noqa: BLE001 - logged; whatever went wrong, the intent needs its outcome
            return Outcome(StepResult.UNKNOWN, Evidence(unexpected(error)))

    def _probe(self, step: Step, session: Connection, unit: str) -> Outcome | None:
        try:
            return self._means.operation.probe(self._host, step, session, unit)
        except LamplighterError as error:
            why = f"the host could not be asked how it ended: {error}"
            return Outcome(StepResult.UNKNOWN, Evidence(why, error.data))
        except Exception as error:  # noqa: BLE001 - as above
            return Outcome(StepResult.UNKNOWN, Evidence(unexpected(error)))

    # --- the end ----------------------------------------------------------------------------------

    def _ended(self, step: Step, outcome: Outcome) -> HostOutcome:
        terminal = {
            StepResult.REFUSED: Terminal.FAILED if self._done else Terminal.REFUSED,
            StepResult.UNKNOWN: Terminal.UNKNOWN,
        }.get(outcome.result, Terminal.FAILED)
        message = f"{self._before()}{step.id} {outcome.result}: {outcome.evidence.summary}"
        return HostOutcome(self._host.name, terminal, message, self._wave)

    def _before(self) -> str:
        return f"done before: {'; '.join(self._done)}. " if self._done else ""

    def _verify(self) -> HostOutcome:
        name, done = self._host.name, "; ".join(self._done)
        health = look(self._means, self._host, self._plan)
        said = {"host": name, "problems": list(health.problems)}
        self._means.journal.witness("verified", health.evidence, said)
        if not health.healthy:
            message = f"{done}; but {'; '.join(health.problems)}"
            return HostOutcome(name, Terminal.FAILED, message, self._wave)
        return HostOutcome(name, Terminal.CHANGED, done, self._wave)
