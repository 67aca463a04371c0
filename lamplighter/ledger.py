"""A run's ledger: what happened, in order, durable before anything rests on it.

Appending is a group commit. A thread puts its records into the queue and asks for the writer's place. Who
gets it links, writes and syncs everything that is waiting; who finds its own records written by then just
leaves. So one `fsync` serves every host of a wave, and a lone thread waits for nobody.

A failed write or sync is never repeated: after one, the kernel may have dropped the pages it could not
write and report the next sync as a success. The ledger then refuses everything, so that nothing more is
changed. The one exception is a full disk found before anything was synced: intents are refused, and
outcomes still find room in a small reserve.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from lamplighter.crashpoints import crashpoint
from lamplighter.errors import LamplighterError, LedgerBrokenError, LedgerError, MalformedError, StoreError
from lamplighter.model.canonical import Json, sha256
from lamplighter.model.chain import SEALED, Break, Chain, Record, check_fields, follow, make_record
from lamplighter.seals import Clock, add_seal, check_run, ledger_key, notes_of, rolled_back, was_sealed
from lamplighter.store import Log, Store, StoreFullError, lines
from lamplighter.store.identity import check_site
from lamplighter.store.outside import Seen

URGENT = frozenset({
    "outcome", "reconciliation", "verified", "host", "wave-ended", "halted", "recovered", SEALED,
})
"""Kinds that say what already happened: they may use the reserve of a full store."""

NOTE_SECONDS = 1.0
"""How often an open run's length is noted outside the store."""


@dataclass(slots=True)
class _Entry:
    """Records of one call, waiting to be written together."""

    kinds: tuple[tuple[str, Mapping[str, Json]], ...]
    urgent: bool
    records: list[Record] = field(default_factory=list)
    error: LamplighterError | None = None
    done: bool = False


class Ledger:
    """One run's ledger, open for its one writer. Use `Ledger.open`; safe for any number of threads.

    Attributes:
        run: the run's id.
        site: the site's name.
        store: where it is kept.
    """

    def __init__(self, store: Store, run: str, site: str, log: Log, clock: Clock) -> None:
        self.store, self.run, self.site = store, run, site
        self._log, self._clock = log, clock
        self._chain = Chain(run, site)
        self._records: list[Record] = []
        self._by_kind: dict[str, list[Record]] = {}
        self._by_host: dict[str, list[Record]] = {}
        self._writing = threading.Lock()
        self._queue: deque[_Entry] = deque()
        self._broken: LedgerError | None = None
        self._notes, self._noted = notes_of(store), 0.0

    @classmethod
    def open(cls, store: Store, run: str, site: str, *, clock: Clock = time.time) -> Ledger:
        """Open a run's ledger for writing: create it, or check and replay what is there.

        A last line without an end is what a crash leaves; nobody was told that it was written. It is cut
        off, and a `recovered` record says so. A run that was sealed but died before the site's chain knew
        is entered there now.

        Args:
            store: the site's store.
            run: the run's id, one part of a key.
            site: the site's name.
            clock: seconds since the epoch.

        Raises:
            LedgerError: another process writes this run, or the store refuses.
            LedgerBrokenError: a record does not verify, or the store is older than what this machine saw of
                it; nothing was appended.
        """
        try:
            check_run(run)
            check_site(store, site)
            check_age(store)
            log = store.open_log(ledger_key(run))
        except StoreError as error:
            raise _unusable(error, run) from error
        ledger = cls(store, run, site, log, clock)
        try:
            ledger._replay()
        except StoreError as error:
            log.close()
            raise _unusable(error, run) from error
        except BaseException:
            log.close()
            raise
        crashpoint("ledger.opened")
        return ledger

    # --- reading ----------------------------------------------------------------------------------

    @property
    def count(self) -> int:
        """How many records there are."""
        return len(self._records)

    @property
    def head(self) -> str:
        """Hash of the last record."""
        return self._chain.head

    @property
    def sealed(self) -> Record | None:
        """The closing record; None while the run is open."""
        return self._chain.sealed

    def records(self, kind: str | None = None) -> tuple[Record, ...]:
        """All records, or those of one kind, in order."""
        return tuple(self._records if kind is None else self._by_kind.get(kind, ()))

    def last(self, kind: str) -> Record | None:
        """The latest record of a kind."""
        found = self._by_kind.get(kind)
        return found[-1] if found else None

    def by_host(self, host: str) -> tuple[Record, ...]:
        """All records whose field `host` is this host, in order."""
        return tuple(self._by_host.get(host, ()))

    # --- writing ----------------------------------------------------------------------------------

    def append(self, kind: str, /, **fields: Json) -> Record:
        """Write one record; it is durable when this returns.

        Args:
            kind: what is recorded.
            fields: canonical JSON, no secrets.

        Raises:
            MalformedError: the fields have no canonical form; the ledger is as it was.
            LedgerError: it could not be written, or an earlier one could not, or the run is sealed.
                Whatever the record announces must not happen.
        """
        return self.append_many([(kind, fields)])[0]

    def append_many(self, entries: Sequence[tuple[str, Mapping[str, Json]]]) -> tuple[Record, ...]:
        """Write several records, one after the other and all or none; see `append`."""
        for kind, fields in entries:
            check_fields(kind, fields)
        if SEALED in [kind for kind, _ in entries[:-1]]:
            raise MalformedError("a closing record is the last one")
        entry = _Entry(tuple(entries), all(kind in URGENT for kind, _ in entries))
        self._queue.append(entry)
        try:
            with self._writing:
                if not entry.done:
                    self._lead()
        except BaseException:  # interrupted: what was not begun must not be written later
            with contextlib.suppress(ValueError):
                self._queue.remove(entry)
            raise
        if entry.error or not entry.done:
            raise entry.error or _poisoned(InterruptedError(), self.run)
        return tuple(entry.records)

    def seal(self, state: str, **fields: Json) -> Record:
        """Close the run: write the closing record, enter it in the site's chain, let go of the ledger.

        Calling it again, after a crash for example, completes what is missing.

        Args:
            state: how the run ended, see `RunState`.
            fields: what else the closing record says, counts for example.

        Returns:
            The site chain's record of this run.
        """
        closing = self.sealed or self.append(SEALED, state=state, **fields)
        crashpoint("ledger.seal.recorded")
        record = add_seal(self.store, self.site, closing, self.run, self._clock)
        self.close()
        return record

    def close(self) -> None:
        """Let go of the ledger; appending is refused from now on. Never raises."""
        with self._writing:
            self._broken = self._broken or LedgerError("the ledger is closed", where=f"run {self.run}")
            self._log.close(final=self.sealed is not None)
        self._note_outside()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- inside -----------------------------------------------------------------------------------

    def _lead(self) -> None:
        """Write what is waiting, for everybody. Whatever goes wrong is everybody's error, for good."""
        batch: list[_Entry] = []
        try:
            with contextlib.suppress(IndexError):
                while True:
                    batch.append(self._queue.popleft())
            self._write(batch)
        except BaseException as error:
            self._broken = self._broken or _poisoned(error, self.run)
            for entry in batch:
                if not entry.records:
                    entry.error = entry.error or self._broken
            if not isinstance(error, LamplighterError):
                raise
        finally:
            for entry in batch:
                entry.done = True

    def _write(self, batch: list[_Entry]) -> None:
        takes = self._those_before_the_seal(batch)
        if not takes:
            return
        try:
            self._commit(takes, urgent=False)
        except StoreFullError as error:
            for entry in takes:
                if entry.urgent:  # one at a time: the reserve may hold the first but not all
                    self._commit([entry], urgent=True)
                else:
                    entry.error = _unusable(error, self.run)

    def _those_before_the_seal(self, batch: list[_Entry]) -> list[_Entry]:
        """Give the others their refusal."""
        if self._broken:
            refusal = self._broken
            sealed = True
        else:
            refusal = LedgerError("the run is sealed and takes no more records", where=f"run {self.run}")
            sealed = self.sealed is not None
        takes = []
        for entry in batch:
            if sealed:
                entry.error = refusal
            else:
                takes.append(entry)
                sealed = any(kind == SEALED for kind, _ in entry.kinds)
        return takes

    def _commit(self, batch: Iterable[_Entry], *, urgent: bool) -> None:
        seq, head = self.count, self.head
        made: list[tuple[_Entry, Record]] = []
        data = bytearray()
        for entry in batch:
            for kind, fields in entry.kinds:
                record, line = make_record(seq + 1, head, int(self._clock() * 1000), kind, fields)
                seq, head = record.seq, record.hash
                made.append((entry, record))
                data += line
        self._log.append(bytes(data), urgent=urgent)
        for entry, record in made:
            entry.records.append(record)
            self._note(record)
        if time.monotonic() > self._noted + NOTE_SECONDS:
            self._note_outside()

    def _note_outside(self) -> None:
        """Remember outside the store how far this run is; a sealed run's end is held by its seal."""
        self._noted = time.monotonic()
        if self.count and not self.sealed:
            self._notes.note_run(self.run, Seen(self.count, self.head, int(self._clock())))

    def _check_seen(self) -> None:
        """The run must not be shorter than what this machine saw of it, nor another one."""
        seen = self._notes.run(self.run)
        if seen and (self.count < seen.count or self._records[seen.count - 1].hash != seen.head):
            raise older(f"this machine saw {seen.count} records of run {self.run}", self.store)

    def _replay(self) -> None:
        whole = WholeLines(lines(self.store.read_log(ledger_key(self.run))))
        for record in follow(whole, self.run, self.site):
            self._note(record)
        if not self.sealed:
            self._check_seen()
        if self.sealed:
            if whole.torn:
                raise LedgerBrokenError(
                    "something follows the closing record", where=f"run {self.run}",
                    reason=Break.AFTER_SEAL, record=self.count + 1,
                )
            add_seal(self.store, self.site, self.sealed, self.run, self._clock)
        elif was_sealed(self.store, self.run):
            raise LedgerBrokenError(
                f"the run was sealed, but its ledger ends after {self.count} records",
                where=f"run {self.run}", advice="run: lamplighter verify", reason=Break.GAP,
                record=self.count + 1,
            )
        elif whole.torn or self._log.cut:
            if whole.torn:
                self._log.truncate(whole.size)
            lost = whole.torn + self._log.cut
            self.append("recovered", bytes=len(lost), digest=sha256(lost))
            crashpoint("ledger.recovered")

    def _note(self, record: Record) -> None:
        self._chain.extend(record)
        self._records.append(record)
        self._by_kind.setdefault(record.kind, []).append(record)
        host = record.fields.get("host")
        if isinstance(host, str):
            self._by_host.setdefault(host, []).append(record)


class WholeLines:
    """Lines up to a torn last one, which is kept apart.

    Args:
        source: a ledger's lines.

    Attributes:
        size: bytes of all whole lines.
        torn: what follows the last newline.
    """

    def __init__(self, source: Iterator[bytes]) -> None:
        self._source = source
        self.size = 0
        self.torn = b""

    def __iter__(self) -> Iterator[bytes]:
        for line in self._source:
            if not line.endswith(b"\n"):
                self.torn = line
                yield from () if self._ends() else (line,)
                return
            self.size += len(line)
            yield line

    def _ends(self) -> bool:
        """Only the very last line may lack its end; `lines` cuts an endless one into parts."""
        return next(self._source, None) is None


def read_ledger(store: Store, run: str, site: str) -> Iterator[Record]:
    """Read a run's ledger without opening it for writing, each record checked; a torn tail is passed over.

    Raises:
        LedgerBrokenError: at the first record that does not verify.
        StoreError: the store cannot be read.
    """
    return follow(WholeLines(lines(store.read_log(ledger_key(run)))), run, site)


def check_age(store: Store) -> None:
    """Refuse a store that is older than what this machine saw of it.

    Raises:
        LedgerBrokenError: as said.
    """
    if why := rolled_back(store, notes_of(store)):
        raise older(why, store)


def older(why: str, store: Store) -> LedgerBrokenError:
    """The error for a store that has less than this machine saw."""
    return LedgerBrokenError(
        f"{why}: the store was rolled back, or is another copy; it changes nothing", where=store.url,
        advice="bring back the newer store, or both parties say so: lamplighter witness --restored, "
        "then on each worker: lamplighter store restored SITE", reason=Break.GAP,
    )


def _unusable(error: StoreError, run: str) -> LedgerError:
    return LedgerError(
        f"the ledger of run {run} cannot be written: {error.message}", where=error.where,
        changed="Nothing that was not recorded before was started", advice=error.advice,
    )


def _poisoned(error: BaseException, run: str) -> LedgerError:
    why, advice = type(error).__name__, ""
    if isinstance(error, LamplighterError):
        why, advice = error.message, error.advice
    return LedgerError(
        f"the ledger of run {run} could not be written and takes no more records: {why}",
        changed="Nothing that was not recorded before was started",
        advice=f"{advice or 'mend the store'}; then resume the run: it goes on from what is recorded",
    )
