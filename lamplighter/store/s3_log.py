"""A ledger in a bucket: numbered segments, one per group commit, and a fence at each opening.

Opening writes an empty segment, the fence: whoever had it open before finds its next number taken, and can
write nothing any more. A claim that is renewed while the writer lives tells the second one to stay away;
safety does not rest on it, and no clock decides about it (`alive.py`).
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import threading
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from lamplighter.crashpoints import crashpoint
from lamplighter.errors import LedgerError, StoreError
from lamplighter.store import LIVE, whoami
from lamplighter.store.alive import FULL_SPEED, MARGIN, TICKER, Ticker, Watch, is_gone, this_process

if TYPE_CHECKING:
    from lamplighter.store.s3 import S3Store

CLAIM_SECONDS = 60.0
RENEWALS = 6
FREE = b"{}"
_NUMBER = re.compile(r"[0-9]{8}")


def segment(key: str, number: int) -> str:
    """The key of one segment."""
    return f"{key}/{number:08d}"


def numbers(keys: Iterable[str]) -> Iterator[int]:
    """The numbers among the keys below a log; foreign names are passed over."""
    return (int(name) for key in keys if _NUMBER.fullmatch(name := key.rpartition("/")[2]))


class S3Log:
    """A log of numbered segments, fenced against whoever had it open before.

    Args:
        store: where.
        key: of the log; its segments lie below it.
        ticker: decides about a claim; see `alive.py`.

    Attributes:
        cut: nothing; a segment is written whole or not at all.

    Raises:
        LedgerError: a living writer has it.
        StoreError: the store does not answer, or something foreign lies among the segments.
    """

    cut = b""

    def __init__(self, store: S3Store, key: str, ticker: Ticker = TICKER) -> None:
        self._store, self._key, self._ticker = store, key, ticker
        self._end = threading.Event()
        self._claim = self._take_claim()
        try:
            self._number = self._last()
            self.append(b"")
            store.fence(key, self._number)
        except BaseException:
            self.close()
            raise
        self._renewer = threading.Thread(target=self._renew, name=f"claim {key}", daemon=True)
        self._renewer.start()

    def append(self, data: bytes, *, urgent: bool = False) -> None:
        """See `Log.append`; there is no reserve, a bucket does not fill up."""
        from lamplighter.store.s3 import told  # noqa: PLC0415 - that module is made of this one

        del urgent
        crashpoint("log.append.before")
        number = self._number + 1
        with told(f"{self._key} cannot be written"):
            if not self._store.put_absent(segment(self._key, number), data):
                raise StoreError(
                    f"another process has taken {self._key} over", where=self._store.url,
                    advice="leave it to that process; this one writes nothing more",
                )
        self._number = number
        crashpoint("log.append.durable")

    def truncate(self, size: int) -> None:
        """A segment is written whole or not at all, so there is never a torn tail.

        Raises:
            StoreError: always.
        """
        raise StoreError(f"{self._key} is damaged after {size} bytes", advice="run: lamplighter verify")

    def close(self, *, final: bool = False) -> None:
        """See `Log.close`."""
        del final
        if not self._end.is_set():
            self._end.set()
            with contextlib.suppress(StoreError):
                self._store.swap(self._writer, self._claim, FREE)

    @property
    def _writer(self) -> str:
        return f"{LIVE}writers/{self._key}"

    def _last(self) -> int:
        """The last segment's number: where the list ends, and on by number, for lists may lag."""
        keys = list(self._store.list(self._key))
        foreign = [key for key in keys if not _NUMBER.fullmatch(key.rpartition("/")[2])]
        if foreign:
            raise StoreError(
                f"{foreign[0]} lies among the segments and is none", where=self._store.url,
                changed="Nothing was changed", advice="see who put it there, remove it, and resume the run",
            )
        number = max(numbers(keys), default=0)
        while self._store.get(segment(self._key, number + 1)) is not None:
            number += 1
        return number

    def _take_claim(self) -> bytes:
        watch = Watch(self._ticker)
        while True:
            old = self._store.get(self._writer, limit=4096)
            claim = _read_claim(old)
            unchanged = watch.see(old or FREE)
            if watch.alive and claim:
                raise LedgerError(
                    f"{self._key} is being written by {claim.get('holder')}", where=self._store.url,
                    changed="Nothing was changed", advice="wait for that run to end, or stop it",
                )
            if not claim or is_gone(claim.get("process")) or unchanged > CLAIM_SECONDS + MARGIN:
                break
            self._ticker.sleep(FULL_SPEED)
        mine = self._new_claim()
        if not self._store.swap(self._writer, old, mine):
            raise LedgerError(f"{self._key} is being opened by another process", where=self._store.url)
        return mine

    def _new_claim(self) -> bytes:
        claim = {"holder": whoami(), "process": this_process(), "nonce": secrets.token_hex(8)}
        return json.dumps(claim).encode()

    def _renew(self) -> None:
        """Keep others away while this process lives. A claim that is lost costs nothing but politeness."""
        while not self._end.wait(CLAIM_SECONDS / RENEWALS):
            claim = self._new_claim()
            with contextlib.suppress(StoreError):
                if self._store.swap(self._writer, self._claim, claim):
                    self._claim = claim


def _read_claim(data: bytes | None) -> dict[str, Any]:
    """Who writes; empty when nobody does. What cannot be read is a claim of somebody unknown."""
    if data is None or data == FREE:
        return {}
    try:
        claim = json.loads(data)
    except ValueError:
        claim = None
    return claim if isinstance(claim, dict) and claim else {"holder": "somebody"}
