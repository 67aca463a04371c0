"""A run's ledger and the history replayed from it, kept in step, for any number of threads."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence

from lamplighter.errors import LedgerError, MalformedError
from lamplighter.ledger import Ledger
from lamplighter.model.canonical import Json
from lamplighter.model.history import History, replay
from lamplighter.model.outcome import Evidence, HostOutcome, Outcome
from lamplighter.model.plan import Step
from lamplighter.model.text import recordable

BATCH = 500
"""Records written with one sync where many are written at once; their size stays bounded."""


class Journal:
    """See the module's docstring.

    Args:
        ledger: of one run, open for writing.

    Attributes:
        ledger, history: read them as you like; write through this class only.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.history: History = replay(ledger.records())
        self._lock = threading.Lock()
        self._closed: set[tuple[str, str]] = set()

    def record(self, kind: str, /, **fields: Json) -> None:
        """Write one record; it is durable, and part of the history, when this returns.

        Raises:
            LedgerError: it could not be written; whatever it announces must not happen.
        """
        self.record_many([(kind, fields)])

    def record_many(self, entries: Sequence[tuple[str, Mapping[str, Json]]]) -> None:
        """Write records in order, some hundred to a sync; see `record`."""
        for start in range(0, len(entries), BATCH):
            written = self.ledger.append_many(entries[start : start + BATCH])
            with self._lock:
                for record in written:
                    self.history.note(record)

    def open_steps(self) -> tuple[tuple[str, str], ...]:
        """(host, step) of every intent without an outcome, sorted."""
        with self._lock:
            return tuple(sorted(self.history.intents - self.history.outcomes.keys()))

    def intend(self, host: str, step: Step, unit: str) -> None:
        """Announce a step, before anything of it is done."""
        self.record("intent", host=host, step=step.id, action=step.action, unit=unit)

    def conclude(self, host: str, step: str, outcome: Outcome, *, interrupted: bool = False) -> bool:
        """Close an intent, or say better what an interrupted one became.

        Returns:
            False when this process closed it already: a thread that outlived the draining comes too late,
            and must leave its host alone.
        """
        key = (host, step)
        with self._lock:
            if key in self._closed:
                return False
            self._closed.add(key)
            kind = "reconciliation" if key in self.history.outcomes else "outcome"
        said = {"host": host, "step": step, "result": str(outcome.result), "interrupted": interrupted}
        self.witness(kind, outcome.evidence, said)
        return True

    def witness(self, kind: str, evidence: Evidence, fields: Mapping[str, Json]) -> None:
        """Record something with its evidence; evidence without a canonical form is left out, not the fact."""
        summary = recordable(evidence.summary)
        try:
            self.record(kind, **fields, evidence={"summary": summary, "data": evidence.data})
        except MalformedError as error:
            data = {"left_out": recordable(error.message)}
            self.record(kind, **fields, evidence={"summary": summary, "data": data})

    def end_hosts(self, outcomes: Iterable[HostOutcome]) -> None:
        """Record the terminal states of hosts."""
        self.record_many([
            ("host", {
                "host": one.host, "terminal": str(one.terminal), "message": recordable(one.message),
                "wave": one.wave,
            })
            for one in outcomes
        ])

    def interrupt(self, outcome: Outcome) -> None:
        """Close every open intent because the worker is stopped; the next one asks the hosts.

        When that cannot be written, nothing is lost: an intent without an outcome is asked about as well.
        """
        for host, step in self.open_steps():
            try:
                self.conclude(host, step, outcome, interrupted=True)
            except LedgerError:
                return

