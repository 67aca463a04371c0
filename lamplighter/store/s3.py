"""A store in an S3 bucket: the same as a directory, for workers on several machines.

What never changes is written with `If-None-Match: *`, what changes with `If-Match`, so that of two writers
one loses. In a bucket with object lock, what never changes is locked for a year (`retention_days`).

A ledger is a row of numbered segments (`s3_log.py`). It is read by number: a list only says where to look,
for lists may lag; a number that is missing before the end is an error.

A write whose condition did not hold is a question, not an answer: what stands there is read and compared.
An own earlier try, a proxy or the store itself may have written it, or another write may still be under way.

Deleting a key in a bucket with versions leaves a marker, and what is written after that is a new version.
`rewritten` finds both, so an auditor sees that something was there.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import groupby
from typing import Any
from urllib.parse import urlsplit

from lamplighter.crashpoints import crashpoint
from lamplighter.errors import ExistsError, LedgerBrokenError, StoreError, TransportError
from lamplighter.model.chain import Break
from lamplighter.store import DEFAULT_LIMIT, LIVE, Log, check_key, check_live, check_record
from lamplighter.store.s3_log import S3Log, numbers, segment
from lamplighter.store.s3_trial import KEPT, TRIALS, check_conditions
from lamplighter.transports.s3 import Bucket, is_unknown_there
from lamplighter.transports.s3_errors import UNKNOWN
from lamplighter.transports.s3_values import Retention, S3Settings

NO_LOCK = "this bucket has no object lock: whoever may delete in it can delete records"

NO_VERSION = frozenset({"", "null"})
RETENTION_DAYS = 365
LEAST_DAYS = 180
READ_AHEAD = 8
PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
"""Seconds between the looks at a write that the store gives no verdict on."""
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
    with told(f"the store {url} cannot be opened"):
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
        self._tried = False
        self._fences: dict[str, int] = {}

    @property
    def url(self) -> str:
        """See `Store.url`."""
        return self._url

    def cautions(self) -> tuple[str, ...]:
        """See `Store.cautions`; for a bucket, asked where people look and not at each opening."""
        return () if self.locked else (NO_LOCK,)

    @cached_property
    def locked(self) -> bool:
        """Whether the bucket has object lock; asked before the first write."""
        return self._bucket.locks()

    def put_new(self, key: str, data: bytes) -> None:
        """See `Store.put_new`."""
        crashpoint("put.before")
        check_record(key)
        with told(f"{key} cannot be written"):
            if not self.put_absent(key, data):
                raise ExistsError(f"{key} already holds other bytes", where=self._url)
        crashpoint("put.durable")

    def get(self, key: str, *, limit: int = DEFAULT_LIMIT) -> bytes | None:
        """See `Store.get`."""
        with told(f"{key} cannot be read"):
            found = self._bucket.get(self._key(key), limit=limit)
        return found.data if found else None

    def list(self, prefix: str) -> Iterator[str]:
        """See `Store.list`."""
        prefix = check_key(prefix.rstrip("/"))
        with told(f"{prefix} cannot be listed"):
            found = [entry.key for entry in self._bucket.list(f"{self._key(prefix)}/", flat=False)]
        yield from sorted({key[len(self._prefix):].rstrip("/") for key in found})

    def names(self) -> Iterator[str]:
        """See `Store.names`; what was tried at the first write does not count."""
        with told("the store cannot be listed"):
            found = {entry.key for entry in self._bucket.list(self._prefix)}
        keys = sorted(key[len(self._prefix):] for key in found)
        keys = [key for key in keys if key != KEPT and not key.startswith(TRIALS)]
        return (name for name, _ in groupby(key.split("/")[0] for key in keys))

    def swap(self, key: str, old: bytes | None, new: bytes) -> bool:
        """See `Store.swap`. Each write has a mark: two writers of the same bytes are told apart."""
        place, mark = self._key(check_live(key)), secrets.token_hex(8)
        with told(f"{key} cannot be written"):
            self._try_conditions()
            for turn, pause in enumerate(PAUSES):
                found = self._bucket.get(place, limit=DEFAULT_LIMIT)
                if found is not None and found.mark == mark:
                    return True
                if (found.data if found else None) != old:
                    return False
                crashpoint("swap.before")
                time.sleep(pause if turn else 0)
                etag = found.etag if found else ""
                if self._bucket.put(place, new, absent=not etag, etag=etag, mark=mark).etag:
                    crashpoint("swap.durable")
                    return True
        raise self._no_verdict(key)

    def open_log(self, key: str) -> Log:
        """See `Store.open_log`."""
        return S3Log(self, check_record(key))

    def read_log(self, key: str) -> Iterator[bytes]:
        """See `Store.read_log`; by number, a few segments fetched ahead."""
        self._key(key)
        end = max([*numbers(self.list(key)), self._fences.get(key, 0)], default=0)
        with ThreadPoolExecutor(READ_AHEAD, "segments") as pool:
            for start in range(1, end + 1, READ_AHEAD):
                wanted = [segment(key, number) for number in range(start, min(start + READ_AHEAD, end + 1))]
                for name, data in zip(wanted, pool.map(self.get, wanted), strict=True):
                    if data is None:
                        raise LedgerBrokenError(
                            f"{name} is gone, and segments after it are there", where=self._url,
                            advice="run: lamplighter verify", reason=Break.GAP,
                        )
                    yield data
        while (data := self.get(segment(key, end := end + 1))) is not None:
            yield data

    def rewritten(self) -> tuple[str, ...] | None:
        """See `Store.rewritten`. A marker counts wherever it stands; the same version twice is one."""
        try:
            with told("the versions cannot be listed"):
                found = {(one.key, one.version): one for one in self._bucket.versions(self._prefix)}
        except StoreError as error:
            if is_unknown_there(error.__cause__):
                return None
            raise
        if not any(one.version not in NO_VERSION for one in found.values()):
            return None
        odd = set()
        for key, versions in groupby(sorted(found), key=lambda one: one[0]):
            ids = list(versions)
            if len(ids) > 1 or found[ids[0]].deleted:
                odd.add(key[len(self._prefix):])
        return tuple(sorted(name for name in odd if not name.startswith(LIVE)))

    def fence(self, key: str, number: int) -> None:
        """Remember that a log has so many segments at least, whatever a list says."""
        self._fences[key] = number

    def put_absent(self, key: str, data: bytes) -> bool:
        """Write what never changes; False when other bytes stand there."""
        self._try_conditions()
        lock = None
        if self.locked:
            until = datetime.fromtimestamp(int(self._clock()), UTC) + timedelta(days=self._days)
            lock = Retention(self._mode, until)
        return self._put_absent(key, data, lock)

    def _put_absent(self, key: str, data: bytes, lock: Retention | None) -> bool:
        for pause in PAUSES:
            if self._bucket.put(self._key(key), data, absent=True, lock=lock).etag:
                return True
            found = self._bucket.get(self._key(key), limit=DEFAULT_LIMIT)
            if found is not None:
                return found.data == data
            time.sleep(pause)
        raise self._no_verdict(key)

    def _no_verdict(self, key: str) -> StoreError:
        return StoreError(
            f"{key}: the store neither writes it nor shows what stands there; {UNKNOWN}", where=self._url,
            advice="try again later; repeating it is harmless",
        )

    def _try_conditions(self) -> None:
        """Before anything is written for the first time; reading needs no right to write."""
        if not self._tried:
            check_conditions(self._bucket, self._prefix, self._url)
            self._tried = True

    def _key(self, key: str) -> str:
        return self._prefix + check_key(key)


@contextlib.contextmanager
def told(what: str) -> Iterator[None]:
    """A transport's error, as the store's; its message says what happened already."""
    try:
        yield
    except TransportError as error:
        raise StoreError(
            f"{what}: {error.message}", where=error.where, changed=error.changed, advice=error.advice
        ) from error
