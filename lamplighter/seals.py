"""A site's chain: one record for each sealed run, so that no run can vanish or lose its end unseen.

It is a hash chain like a ledger (`model/chain.py`), of records of kind `seal` with the fields `run`,
`head`, `count` and `state`. Each record is an object of its own that never changes, numbered from 1, and
two writers cannot both write number n: the one that loses links itself to the winner. `head` is only a
hint where to begin looking for the end.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from lamplighter.crashpoints import crashpoint
from lamplighter.errors import ExistsError, LedgerBrokenError, LedgerError, StoreError
from lamplighter.model.canonical import sha256
from lamplighter.model.chain import MAX_LINE, Record, genesis, make_record, read_record
from lamplighter.store import LIVE, Store
from lamplighter.store.identity import identity_of
from lamplighter.store.outside import Notes, Seen

SEAL = "seal"
TRIES = 1000
RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,199}")
"""A run's id; other names below `runs/` are foreign."""
_NUMBER, _WITNESS = re.compile(r"[0-9]{8}"), re.compile(r"[0-9]{8}-[0-9a-f]{16}")
_OF_A_RUN = {"ledger.jsonl", "seal", "sealing"}
_HINT = f"{LIVE}seals-end"
Clock = Callable[[], float]
"""Seconds since the epoch."""


def ledger_key(run: str) -> str:
    """Where a run's ledger is kept."""
    return f"runs/{run}/ledger.jsonl"


def check_run(run: str) -> None:
    """Refuse a name that would not be taken for a run's.

    Raises:
        StoreError: as said.
    """
    if not RUN.fullmatch(run):
        raise StoreError(f"{run[:100]!r} is no run's id", advice="it has letters, digits, `-` and `_`")


def runs_of(store: Store) -> Iterator[str]:
    """The id of every run the store holds, sorted."""
    names = (key.rpartition("/")[2] for key in store.list("runs"))
    return (name for name in names if RUN.fullmatch(name))


def strangers(store: Store) -> Iterator[str]:
    """What lies among runs, segments, seals and witness lines and is none: other programs leave it there."""
    known = {f"runs/{run}" for run in runs_of(store)}
    yield from (key for key in store.list("runs") if key not in known)
    for run in sorted(known):
        yield from (key for key in store.list(run) if key.removeprefix(f"{run}/") not in _OF_A_RUN)
        inside = store.list(f"{run}/ledger.jsonl")
        yield from (key for key in inside if not _NUMBER.fullmatch(key.rpartition("/")[2]))
    yield from (key for key in store.list("seals") if not _NUMBER.fullmatch(key.rpartition("/")[2]))
    yield from (key for key in store.list("witness") if not _WITNESS.fullmatch(key.rpartition("/")[2]))


def seal_lines(store: Store) -> Iterator[bytes]:
    """The site chain's lines in order of their numbers, as stored: nothing is checked here.

    By number, and on by number behind the end of the list, which may lag; one that is missing is passed over.
    """
    names = (key.rpartition("/")[2] for key in store.list("seals"))
    end = max((int(name) for name in names if _NUMBER.fullmatch(name)), default=0)
    number = 0
    while (line := store.get(_seal_key(number := number + 1), limit=MAX_LINE)) is not None or number <= end:
        if line is not None:
            yield line


def seal_of(store: Store, number: int) -> Record | None:
    """One record of the site chain, its own hash checked; None when there is none of that number."""
    line = store.get(_seal_key(number), limit=MAX_LINE)
    return None if line is None else read_record(line)


def site_head(store: Store) -> Record | None:
    """The last record of the site chain; None before the first seal.

    Raises:
        LedgerBrokenError: a seal that was there is gone.
    """
    number = seals_promised(store)
    last = seal_of(store, number) if number else None
    if number and last is None:
        raise LedgerBrokenError(
            f"the site's chain had {number} seals, and seal {number} is gone", where=store.url,
            advice="run: lamplighter verify", record=number,
        )
    while (following := seal_of(store, number + 1)) is not None:
        number, last = number + 1, following
    return last


def add_seal(store: Store, site: str, closing: Record, run: str, clock: Clock) -> Record:
    """Record a sealed run in the site's chain, once, however often it is called.

    Args:
        store: the site's.
        site: its name.
        closing: the run's `sealed` record.
        run: its id.
        clock: seconds since the epoch.

    Returns:
        The site chain's record of that run.

    Raises:
        LedgerBrokenError: the site chain names another head for this run, or its end does not verify.
        StoreError: the store refuses.
    """
    known = store.get(_marker(run), limit=64)
    record = seal_of(store, int(known)) if known else _find(store, run)
    if record is None:
        record = _link(store, site, closing, run, clock)
        crashpoint("ledger.seal.chained")
    if (record.get("run"), record.get("head"), record.get("count")) != (run, closing.hash, closing.seq):
        raise LedgerBrokenError(
            f"seal {record.seq} of the site names another end of this run", where=f"run {run}",
            advice="run: lamplighter verify", record=record.seq,
        )
    store.put_new(_marker(run), b"%08d" % record.seq)
    crashpoint("ledger.seal.marked")
    notes = notes_of(store)
    notes.note_seal(Seen(record.seq, record.hash, int(clock())))
    notes.forget_run(run)
    return record


def notes_of(store: Store) -> Notes:
    """What this machine saw of a store."""
    found = identity_of(store)
    return Notes(found.id if found else "")


def rolled_back(store: Store, notes: Notes) -> str:
    """Why a store is older than what this machine saw of it; empty when it is not."""
    seen = notes.seal()
    if seen is None:
        return ""
    found = seal_of(store, seen.count)
    if found is None:
        last = site_end(store)
        return f"this machine saw {seen.count} seals of this store, and {last} are left"
    return "" if found.hash == seen.head else f"seal {seen.count} is another one than this machine saw"


def site_end(store: Store) -> int:
    """How many seals there are from the first on without a gap."""
    number = 0
    while store.get(_seal_key(number + 1), limit=MAX_LINE) is not None:
        number += 1
    return number


def seals_promised(store: Store) -> int:
    """How many seals the site's chain had when its end was last noted; the chain must not be shorter."""
    hint = store.get(_HINT, limit=64) or b""
    return int(hint) if hint.isdigit() else 0


def keep_witness(store: Store, seal: int, line: str) -> str:
    """Keep a witness line (`model/witness.py`) in the store; returns its key."""
    data = line.encode("ascii")
    key = f"witness/{seal:08d}-{sha256(data).removeprefix('sha256:')[:16]}"
    store.put_new(key, data)
    return key


def witness_lines(store: Store) -> Iterator[str]:
    """Every witness line in the store, oldest seal first."""
    for key in store.list("witness"):
        if not _WITNESS.fullmatch(key.rpartition("/")[2]):
            continue
        yield (store.get(key, limit=MAX_LINE) or b"").decode("ascii", "replace")


def seal_of_run(store: Store, run: str) -> Record | None:
    """The site chain's record of a sealed run; None while the run is open."""
    number = store.get(_marker(run), limit=64)
    return seal_of(store, int(number)) if number else None


def was_sealed(store: Store, run: str) -> bool:
    """Whether the store remembers that this run was entered in the site's chain."""
    return store.get(_marker(run), limit=64) is not None


def _link(store: Store, site: str, closing: Record, run: str, clock: Clock) -> Record:
    fields = {"run": run, "head": closing.hash, "count": closing.seq, "state": closing.get("state", "")}
    for _ in range(TRIES):
        last = site_head(store)
        seq, prev = (last.seq + 1, last.hash) if last else (1, genesis("", site))
        record, line = make_record(seq, prev, int(clock() * 1000), SEAL, fields)
        try:
            store.put_new(_seal_key(seq), line)
        except ExistsError:
            continue  # another run was sealed in between: link to that one
        _move_hint(store, seq)
        return record
    raise LedgerError(f"the site chain of {site} is too busy", advice="seal the run again: resume it")


def _move_hint(store: Store, seq: int) -> None:
    """Only ever forward; a hint that lags costs a few more reads."""
    old = store.get(_HINT, limit=64)
    if old is None or not old.isdigit() or int(old) < seq:
        store.swap(_HINT, old, b"%08d" % seq)


def _find(store: Store, run: str) -> Record | None:
    """Look for a seal whose writer died before it set the marker; remember where to look next time."""
    key = f"runs/{run}/sealing"
    known = store.get(key, limit=64)
    last = site_head(store)
    end = last.seq if last else 0
    if known is None:
        store.put_new(key, b"%08d" % end)
        return None
    found = (seal_of(store, number) for number in range(int(known) + 1, end + 1))
    return next((record for record in found if record and record.get("run") == run), None)


def _marker(run: str) -> str:
    return f"runs/{run}/seal"


def _seal_key(number: int) -> str:
    return f"seals/{number:08d}"
