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
from lamplighter.errors import ExistsError, LedgerBrokenError, LedgerError
from lamplighter.model.chain import MAX_LINE, Record, genesis, make_record, read_record
from lamplighter.store import Store

SEAL = "seal"
TRIES = 1000
_NUMBER = re.compile(r"[0-9]{8}")
Clock = Callable[[], float]
"""Seconds since the epoch."""


def ledger_key(site: str, run: str) -> str:
    """Where a run's ledger is kept."""
    return f"{site}/runs/{run}/ledger.jsonl"


def attachment_key(site: str, run: str, digest: str) -> str:
    """Where bytes that a ledger names by their digest are kept."""
    return f"{site}/runs/{run}/attachments/{digest.removeprefix('sha256:')}"


def runs_of(store: Store, site: str) -> Iterator[str]:
    """Every run the store holds of a site, sorted by id."""
    return store.list(f"{site}/runs")


def seal_lines(store: Store, site: str) -> Iterator[bytes]:
    """The site chain's lines in order of their numbers, as stored: nothing is checked here."""
    for name in store.list(f"{site}/seals"):
        yield store.get(f"{site}/seals/{name}", limit=MAX_LINE) or b""


def seal_of(store: Store, site: str, number: int) -> Record | None:
    """One record of the site chain, its own hash checked; None when there is none of that number."""
    line = store.get(_seal_key(site, number), limit=MAX_LINE)
    return None if line is None else read_record(line)


def site_head(store: Store, site: str) -> Record | None:
    """The last record of the site chain; None before the first seal."""
    hint = store.get(f"{site}/seals-end", limit=64) or b""
    number = int(hint) if _NUMBER.fullmatch(hint.decode("ascii", "replace")) else 0
    last = seal_of(store, site, number) if number else None
    if last is None:
        number = 0
    while (following := seal_of(store, site, number + 1)) is not None:
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
    known = store.get(_marker(site, run), limit=64)
    record = seal_of(store, site, int(known)) if known else _find(store, site, run)
    if record is None:
        record = _link(store, site, closing, run, clock)
        crashpoint("ledger.seal.chained")
    if (record["run"], record["head"], record["count"]) != (run, closing.hash, closing.seq):
        raise LedgerBrokenError(
            f"seal {record.seq} of the site names another end of this run", where=f"run {run}",
            advice="run: lamplighter verify", record=record.seq,
        )
    store.put_new(_marker(site, run), b"%08d" % record.seq)
    crashpoint("ledger.seal.marked")
    return record


def was_sealed(store: Store, site: str, run: str) -> bool:
    """Whether the store remembers that this run was entered in the site's chain."""
    return store.get(_marker(site, run), limit=64) is not None


def _link(store: Store, site: str, closing: Record, run: str, clock: Clock) -> Record:
    fields = {"run": run, "head": closing.hash, "count": closing.seq, "state": closing.get("state", "")}
    for _ in range(TRIES):
        last = site_head(store, site)
        seq, prev = (last.seq + 1, last.hash) if last else (1, genesis("", site))
        record, line = make_record(seq, prev, int(clock() * 1000), SEAL, fields)
        try:
            store.put_new(_seal_key(site, seq), line)
        except ExistsError:
            continue  # another run was sealed in between: link to that one
        _move_hint(store, site, seq)
        return record
    raise LedgerError(f"the site chain of {site} is too busy", advice="seal the run again: resume it")


def _move_hint(store: Store, site: str, seq: int) -> None:
    """Only ever forward; a hint that lags costs a few more reads."""
    key = f"{site}/seals-end"
    old = store.get(key, limit=64)
    if old is None or not old.isdigit() or int(old) < seq:
        store.swap(key, old, b"%08d" % seq)


def _find(store: Store, site: str, run: str) -> Record | None:
    """Look for a run's seal whose marker was lost to a crash: from the end, to the beginning if need be."""
    last = site_head(store, site)
    for number in range(last.seq if last else 0, 0, -1):
        record = seal_of(store, site, number)
        if record is not None and record.get("run") == run:
            return record
    return None


def _marker(site: str, run: str) -> str:
    return f"{site}/runs/{run}/seal"


def _seal_key(site: str, number: int) -> str:
    return f"{site}/seals/{number:08d}"
