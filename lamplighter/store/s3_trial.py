"""Is a bucket fit to be a store? Its conditional writes are tried before anything is written.

A store that ignores `If-None-Match` or `If-Match` lets two writers believe that they won; one that looks
first and writes later does so only when both come at once; one whose ETags it does not take back finds out
in the middle of a run. So all of that is tried, by several writers at once, and what was found is kept with
the server's name: a full trial once for a store, a server and a version of this code, a short one for each
process.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial

import lamplighter
from lamplighter.errors import MalformedError, RemoteFailedError, StoreError
from lamplighter.model.canonical import canonical, parse
from lamplighter.store import LIVE
from lamplighter.transports.s3 import Bucket
from lamplighter.transports.s3_values import Put

KEPT = f"{LIVE}conditional-writes"
TRIALS = f"{LIVE}trials/"
WRITERS, ROUNDS = 4, 2
_CLIENT_ERROR, _NOT_IMPLEMENTED = range(400, 500), 501
_LIMIT = 4096


def check_conditions(bucket: Bucket, prefix: str, url: str) -> None:
    """Refuse a bucket in which two writers could win.

    Args:
        bucket: opened.
        prefix: of the store's keys; trials lie below `live/trials/` in it.
        url: for messages.

    Raises:
        StoreError: as said, with the reason.
        TransportError: it does not answer, or refuses the account.
    """
    trial = _Trial(bucket, prefix, url)
    kept = bucket.get(prefix + KEPT, limit=_LIMIT)
    if kept is not None and _tried(kept.data) == (kept.server, lamplighter.__version__):
        trial.refused(KEPT, "If-None-Match", absent=True)
        return
    trial.one_after_the_other()
    trial.at_once()
    server = kept.server if kept else trial.server
    said = {
        "server": server, "version": lamplighter.__version__,
        "tried": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    bucket.put(prefix + KEPT, canonical(said))


def _tried(data: bytes) -> tuple[str, str]:
    try:
        said = parse(data, limit=_LIMIT)
        return said["server"], said["version"]
    except (MalformedError, KeyError, TypeError):
        return "", ""


class _Trial:
    def __init__(self, bucket: Bucket, prefix: str, url: str) -> None:
        self._bucket, self._prefix, self._url = bucket, prefix, url
        self._name = f"{TRIALS}{secrets.token_hex(6)}-"
        self.server = ""

    def one_after_the_other(self) -> None:
        key = self._name + "0"
        self._put(key, "If-None-Match", absent=True)
        self.refused(key, "If-None-Match", absent=True)
        self.refused(key, "If-Match", etag='"' + "0" * 32 + '"')
        found = self._bucket.get(self._prefix + key, limit=_LIMIT)
        if found is None:
            raise self._unfit("what was just written is not there")
        self.server = found.server
        if not self._put(key, "If-Match", etag=found.etag).etag:
            raise self._unfit("the ETag that the store names is not accepted as the condition If-Match")

    def refused(self, key: str, header: str, *, absent: bool = False, etag: str = "") -> None:
        if self._put(key, header, absent=absent, etag=etag).etag:
            raise self._unfit(f"the store ignores conditional writes ({header})")

    def at_once(self) -> None:
        for turn in range(1, ROUNDS + 1):
            key = f"{self._name}{turn}"
            self._race(partial(self._put, key, "If-None-Match", absent=True))
            found = self._bucket.get(self._prefix + key, limit=_LIMIT)
            self._race(partial(self._put, key, "If-Match", etag=found.etag if found else ""))

    def _race(self, write: Callable[[], Put]) -> None:
        barrier = threading.Barrier(WRITERS)

        def one(_: int) -> bool:
            barrier.wait(timeout=30)
            return bool(write().etag)

        with ThreadPoolExecutor(WRITERS, "trial") as pool:
            if sum(pool.map(one, range(WRITERS))) > 1:
                raise self._unfit("conditional writes are not atomic: two at the same time both won")

    def _put(self, key: str, header: str, *, absent: bool = False, etag: str = "") -> Put:
        data = secrets.token_hex(8).encode()
        try:
            return self._bucket.put(self._prefix + key, data, absent=absent, etag=etag)
        except RemoteFailedError as error:
            status = error.data.get("status")
            if status in _CLIENT_ERROR or status == _NOT_IMPLEMENTED:
                why = f"the store knows no conditional writes ({header}: {error.data['code']})"
                raise self._unfit(why) from error
            raise

    def _unfit(self, why: str) -> StoreError:
        return StoreError(
            f"{why}, so two runs could believe that they won", where=self._url, changed="Nothing was started",
            advice="use Amazon S3, a store with atomic If-None-Match and If-Match on PUT, or a directory",
        )


