"""One round of the watch: what `flows/escalate.py` is made of. One run's trouble costs no other run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from lamplighter import orchestrator
from lamplighter.delivery import sweep
from lamplighter.derive.catalogue import discover
from lamplighter.errors import LamplighterError
from lamplighter.notify.cases import DEAD, GONE, Case
from lamplighter.notify.heartbeat import beat, ping
from lamplighter.notify.send import Delivered
from lamplighter.notify.watch import Watch
from lamplighter.site import Site
from lamplighter.site.directory import read_directory
from lamplighter.site.notify import Notify, load_notify
from lamplighter.store import Store

SEND_SECONDS = 120.0
GATE_STATES = frozenset({"PAUSED"})
"""Types of the state of a run that is suspended at its gate."""


@dataclass
class Round:
    """See the module's docstring.

    Attributes:
        watch: over the site.
        notify, store: the site's.
        seen: what Prefect said of the runs.
        cases: every run that is not settled.
        asked: whether Prefect answered; if not, no run can be told to stand still.
        problems: what went wrong so far, a sentence each.
        told: notices recorded in this round.
        woken: runs that were given a push to end by themselves.
    """

    watch: Watch
    notify: Notify
    store: Store
    seen: dict[str, orchestrator.Seen]
    cases: list[Case] = field(default_factory=list)
    asked: bool = False
    problems: list[str] = field(default_factory=list)
    told: int = 0
    woken: list[str] = field(default_factory=list)

    def look(self) -> None:
        """Ask Prefect for the states, and then read the ledgers: the later word is the ledger's.

        Raises:
            StoreError: the store does not answer.
        """
        names = self.watch.unsettled()
        with self._noting("Prefect"):
            self.seen.update(orchestrator.states(names))
            self.asked = True
        for name in names:
            with self._noting(name):
                self.cases.append(self.watch.case(name))

    # --- the steps --------------------------------------------------------------------------------

    def wake(self) -> None:
        """Give runs at their gate a push that would not go on by themselves.

        Their plan expired: each sees it, and ends and seals itself. Or somebody signed and could not tell
        Prefect: each looks at the lines that were left in the store.
        """
        for case in self.cases:
            with self._noting(case.run):
                state = self._state(case)
                if (case.expired or case.unread) and state in GATE_STATES:
                    orchestrator.wake(case.run)
                elif case.expired and state in DEAD:
                    orchestrator.restart(case.run)
                else:
                    continue
                self.woken.append(case.run)

    def tell(self) -> None:
        """Tell people of every run that needs somebody, and climb what nobody took up."""
        for case in self.cases:
            with self._noting(case.run):
                self.told += len(self.watch.tell(case, self._state(case)))
                self.watch.settle(case)
        with self._noting("reviews"):
            for trouble in self.watch.reviews():
                self.told += len(self.watch.climb(trouble, self.watch.case(trouble.run)))

    def send(self) -> Delivered:
        """Send what is due in the outbox.

        Raises:
            StoreError: it cannot be read or written.
        """
        return self.watch.deliver(SEND_SECONDS)

    def sweep(self) -> None:
        """Remove delivered passwords whose time is over."""
        with self._noting("delivered passwords"):
            if directory := read_directory(self.watch.site.path, []):
                sweep(self.store, directory.entry.delivery, time.time())

    def finish(self, sent: Delivered) -> str:
        """Say that the watch is alive, here and outside, and what this round did.

        Raises:
            StoreError: the heartbeat could not be written.
        """
        beat(self.store, time.time())
        if self.notify.ping:
            missed = ping(self.notify.ping, ok=not self.problems)
            self.problems += [missed] if missed else []
        open_runs = sum(not case.history.sealed for case in self.cases)
        parts = [f"{open_runs} open runs", f"{self.told} notices recorded", str(sent)]
        parts += [f"woken: {', '.join(self.woken)}"] if self.woken else []
        return "; ".join([*parts, *self.problems[:10]])

    # --- inside -----------------------------------------------------------------------------------

    def _state(self, case: Case) -> str:
        """The type of a run's state in Prefect; empty when it is not known or does not matter."""
        if case.history.sealed or not self.asked:
            return ""
        return self.seen[case.run].type if case.run in self.seen else GONE

    @contextmanager
    def _noting(self, what: str) -> Iterator[None]:
        try:
            yield
        except LamplighterError as error:
            self.problems.append(f"{what}: {error}")


def open_round(place: Site, store: Store) -> Round:
    """Begin a round at a site.

    Raises:
        SiteError: what is wrong with notify.yaml; nobody is told anything then.
    """
    notify = load_notify(place.path, place.people)
    runbooks = {name: entry.runbook for name, entry in discover().items()}
    seen: dict[str, orchestrator.Seen] = {}

    def page(run: str) -> str:
        return orchestrator.page(seen[run].flow_run if run in seen else None)

    return Round(Watch(place, store, notify, runbooks, page, time.time), notify, store, seen)
