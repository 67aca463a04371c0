"""A store in an S3 bucket: the same as a directory, for workers on several machines.

What never changes is written with `If-None-Match: *`, what changes with `If-Match`, so that of two writers
one loses. In a bucket with object lock, what never changes is locked for a year (`retention_days`).

A ledger is a row of numbered segments, one per group commit. Opening it writes an empty segment, the
fence: whoever had it open before finds its next number taken, and can write nothing any more. A claim that
is renewed while the writer lives tells the second one to stay away; safety does not rest on it.

Deleting a key in a bucket with versions leaves a marker, and what is written after that is a new version.
`rewritten` finds both, so an auditor sees that something was there.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lamplighter.crashpoints import crashpoint
from lamplighter.errors import ExistsError, LedgerError, StoreError, TransportError
from lamplighter.store import DEFAULT_LIMIT, LIVE, Log, check_key, check_live, check_record, whoami
from lamplighter.transports.s3 import Bucket
from lamplighter.transports.s3_values import Retention, S3Settings

RETENTION_DAYS = 365
LEAST_DAYS = 180
CLAIM_SECONDS = 60.0
SKEW_SECONDS = 30.0
READ_AHEAD = 8
PROBE = f"{LIVE}conditional-writes"
_OPTIONS = {
    "endpoint", "region", "ca", "access-key", "secret-key", "session-token", "credentials", "proxy",
    "retention-days", "lock-mode", "checksums",
}


def open_bucket(url: str, options: Mapping[str, Any]) -> S3Store:
    """Open `s3://bucket/prefix`.

    Args:
        url: the bucket, and where in it.
        options: `endpoint`, `region`, `ca`, `access-key` and `secret-key` (references) or
            `credentials: aws`, `proxy`, `retention-days`, `lock-mode` (COMPLIANCE or GOVERNANCE),
            `checksums` (false for stores that reject them).

    Raises:
        StoreError: an option is wrong.
        SecretError: a reference cannot be resolved.
    """
    unknown = sorted(options.keys() - _OPTIONS)
    days = options.get("retention-days", RETENTION_DAYS)
    mode = options.get("lock-mode", "COMPLIANCE")
    if unknown:
        known = ", ".join(sorted(_OPTIONS))
        raise StoreError(f"unknown store option {unknown[0]!r}", advice=f"known: {known}")
    if type(days) is not int or days < LEAST_DAYS:
        raise StoreError(f"retention-days is {days!r}", advice=f"write a number, at least {LEAST_DAYS}")
    if mode not in {"COMPLIANCE", "GOVERNANCE"}:
        raise StoreError(f"lock-mode is {mode!r}", advice="write COMPLIANCE or GOVERNANCE")
    parts = urlsplit(url)
    settings = S3Settings(
        bucket=parts.netloc, endpoint=str(options.get("endpoint", "")),
        region=str(options.get("region", "us-east-1")), ca=str(options.get("ca", "")),
        access_key=str(options.get("access-key", "")), secret_key=str(options.get("secret-key", "")),
        session_token=str(options.get("session-token", "")), chain=options.get("credentials") == "aws",
        proxy=str(options.get("proxy", "")), checksums=bool(options.get("checksums", True)),
    )
    with _told(f"the store {url} cannot be opened"):
        return S3Store(Bucket(settings), url, mode=mode, days=days)


class S3Store:
    """A store in a bucket; see the module's docstring.

    Args:
        bucket: opened.
        url: for messages; its path is the prefix of all keys.
        mode, days: how and how long what never changes is locked, when the bucket has object lock.
        clock: seconds since the epoch.
    """

    def __init__(
        self, bucket: Bucket, url: str, *, mode: str = "COMPLIANCE", days: int = RETENTION_DAYS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._bucket, self._url, self._clock = bucket, url, clock
        prefix = urlsplit(url).path.strip("/")
        self._prefix = f"{check_key(prefix)}/" if prefix else ""
        self._days, self._mode = days, mode
        self._probed = False

    @property
    def url(self) -> str:
        """See `Store.url`."""
        return self._url

    @cached_property
    def locked(self) -> bool:
        """Whether the bucket has object lock; asked before the first write."""
        return self._bucket.locks()

    def put_new(self, key: str, data: bytes) -> None:
        """See `Store.put_new`."""
        crashpoint("put.before")
        check_record(key)
        with _told(f"{key} cannot be written"):
            if not self._put_absent(key, data):
                raise ExistsError(f"{key} already holds other bytes", where=self._url)
        crashpoint("put.durable")

    def get(self, key: str, *, limit: int = DEFAULT_LIMIT) -> bytes | None:
        """See `Store.get`."""
        with _told(f"{key} cannot be read"):
            found = self._bucket.get(self._key(key), limit=limit)
        return found.data if found else None

    def list(self, prefix: str) -> Iterator[str]:
        """See `Store.list`."""
        prefix = check_key(prefix.rstrip("/"))
        with _told(f"{prefix} cannot be listed"):
            found = [entry.key for entry in self._bucket.list(f"{self._key(prefix)}/", flat=False)]
        yield from sorted({key[len(self._prefix):].rstrip("/") for key in found})

    def names(self) -> Iterator[str]:
        """See `Store.names`; what was tried at the first write does not count."""
        with _told("the store cannot be listed"):
            found = {entry.key for entry in self._bucket.list(self._prefix)}
        keys = sorted(key[len(self._prefix):] for key in found)
        return (name for name, _ in groupby(key.split("/")[0] for key in keys if key != PROBE))

    def swap(self, key: str, old: bytes | None, new: bytes) -> bool:
        """See `Store.swap`. Writers must not write the same bytes: after a lost answer they are compared."""
        place = self._key(check_live(key))
        with _told(f"{key} cannot be written"):
            self._probe()
            if old is None:
                done = self._bucket.put(place, new, absent=True)
            else:
                found = self._bucket.get(place, limit=DEFAULT_LIMIT)
                if found is None or found.data != old:
                    return False
                crashpoint("swap.before")
                done = self._bucket.put(place, new, etag=found.etag)
            crashpoint("swap.durable")
            if not done.etag and done.retried:
                now = self._bucket.get(place, limit=DEFAULT_LIMIT)
                return now is not None and now.data == new
        return bool(done.etag)

    def open_log(self, key: str) -> Log:
        """See `Store.open_log`."""
        return S3Log(self, check_record(key), self._clock)

    def read_log(self, key: str) -> Iterator[bytes]:
        """See `Store.read_log`; a few segments are fetched ahead."""
        self._key(key)
        with ThreadPoolExecutor(READ_AHEAD, "segments") as pool:
            segments = list(self.list(key))
            for start in range(0, len(segments), READ_AHEAD):
                for data in pool.map(self.get, segments[start : start + READ_AHEAD]):
                    yield data or b""

    def rewritten(self) -> Iterator[str]:
        """See `Store.rewritten`."""
        with _told("the versions cannot be listed"):
            ordered = sorted(self._bucket.versions(self._prefix), key=lambda version: version.key)
        for key, versions in groupby(ordered, key=lambda version: version.key):
            name = key[len(self._prefix):]
            if len(list(versions)) > 1 and not name.startswith(LIVE):
                yield name

    def _put_absent(self, key: str, data: bytes) -> bool:
        """Write, or find the same bytes there: from an earlier try whose answer was lost, or a repetition."""
        self._probe()
        lock = None
        if self.locked:
            until = datetime.fromtimestamp(int(self._clock()), UTC) + timedelta(days=self._days)
            lock = Retention(self._mode, until)
        for _ in range(3):
            if self._bucket.put(self._key(key), data, absent=True, lock=lock).etag:
                return True
            found = self._bucket.get(self._key(key), limit=DEFAULT_LIMIT)
            if found is not None:
                return found.data == data
        return False

    def _probe(self) -> None:
        """Before anything is written for the first time; reading needs no right to write."""
        if not self._probed:
            self._bucket.probe(self._prefix + PROBE)
            self._probed = True

    def _key(self, key: str) -> str:
        return self._prefix + check_key(key)


class S3Log:
    """A log of numbered segments, fenced against whoever had it open before.

    Args:
        store: where.
        key: of the log; its segments lie below it.
        clock: seconds since the epoch.

    Raises:
        LedgerError: a living writer has it.
        StoreError: the store does not answer.
    """

    def __init__(self, store: S3Store, key: str, clock: Callable[[], float]) -> None:
        self._store, self._key, self._clock = store, key, clock
        self._end = threading.Event()
        self._claim = self._take_claim()
        try:
            self._number = max((int(segment.rpartition("/")[2]) for segment in store.list(key)), default=0)
            self.append(b"")
        except BaseException:
            self.close()
            raise
        self._renewer = threading.Thread(target=self._renew, name=f"claim {key}", daemon=True)
        self._renewer.start()

    def append(self, data: bytes, *, urgent: bool = False) -> None:
        """See `Log.append`; there is no reserve, a bucket does not fill up."""
        del urgent
        crashpoint("log.append.before")
        number = self._number + 1
        with _told(f"{self._key} cannot be written"):
            if not self._store._put_absent(f"{self._key}/{number:08d}", data):  # noqa: SLF001 - its own log
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
                self._store.swap(self._writer, self._claim, b"{}")

    @property
    def _writer(self) -> str:
        return f"{LIVE}writers/{self._key}"

    def _take_claim(self) -> bytes:
        old = self._store.get(self._writer, limit=4096)
        holder, until = _read_claim(old)
        if self._clock() < until + SKEW_SECONDS:
            moment = datetime.fromtimestamp(until, UTC).strftime("%H:%M:%S UTC")
            raise LedgerError(
                f"{self._key} is being written by {holder}", where=self._store.url,
                changed="Nothing was changed",
                advice=f"wait for that run to end, or stop it; if it is dead, its claim ends at {moment}",
            )
        claim = self._new_claim()
        if not self._store.swap(self._writer, old, claim):
            raise LedgerError(f"{self._key} is being opened by another process", where=self._store.url)
        return claim

    def _new_claim(self) -> bytes:
        until = int(self._clock() + CLAIM_SECONDS)
        claim = {
            "holder": whoami(), "host": socket.gethostname(), "nonce": secrets.token_hex(8),
            "pid": os.getpid(), "until": until,
        }
        return json.dumps(claim).encode()

    def _renew(self) -> None:
        """Keep others away while this process lives. A claim that is lost costs nothing but politeness."""
        while not self._end.wait(CLAIM_SECONDS / 4):
            claim = self._new_claim()
            with contextlib.suppress(StoreError):
                if self._store.swap(self._writer, self._claim, claim):
                    self._claim = claim


def _read_claim(data: bytes | None) -> tuple[str, float]:
    """Who writes, and until when; a process of this machine that is gone writes no more."""
    try:
        claim = json.loads(data or b"{}")
        if claim["host"] == socket.gethostname() and not Path(f"/proc/{int(claim['pid'])}").exists():
            return "", 0.0
        return str(claim["holder"]), float(claim["until"])
    except (ValueError, KeyError, TypeError):
        return "", 0.0


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    """A transport's error, as the store's; its message says what happened already."""
    try:
        yield
    except TransportError as error:
        raise StoreError(
            f"{what}: {error.message}", where=error.where, changed=error.changed, advice=error.advice
        ) from error
