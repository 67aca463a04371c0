"""At most one run changes a host at a time.

A lease is a small value in the store, one per host, changed by compare-and-swap only, so it holds across
threads, processes and workers. It names the run and its process; one thread renews all leases of a process,
and each renewal changes their bytes. A run that died loses its leases when another one has watched them
unchanged for their time and a margin, or knows from the kernel that their process is gone; it resumes them at
once itself: its ledger lets only one process speak for it.

No wall clock decides anything here (`store/alive.py`). A worker that was stopped past the end of its lease
notices by its own monotonic clock (`check`).
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import random
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Self

from lamplighter.errors import LeaseHeldError, MalformedError, StoreError
from lamplighter.model.canonical import Json, canonical, parse
from lamplighter.seals import Clock
from lamplighter.store import LIVE, Store, as_part, whoami
from lamplighter.store.alive import FULL_SPEED, MARGIN, TICKER, Ticker, Watch, is_gone, this_process

TTL = 120.0
RENEWALS = 6
"""How often a lease is renewed in its time: a holder is seen to live within a sixth of it."""
RACES_LOST = 20
"""After so many, a run that does not wait is refused."""
FREE = b"{}"
_LIMIT = 4096


@dataclass(frozen=True, slots=True)
class Claim:
    """What the store holds while a run has a host.

    Attributes:
        run: the run's id.
        by: its process and machine, for people.
        process: the same, for the kernel.
        since: milliseconds since the epoch, for people.
        seconds: how long its holder believes in it without renewing it.
        nonce: tells two claims of one run apart.
        beat: how often it was renewed.
    """

    run: str
    by: str
    process: Mapping[str, Json]
    since: int
    seconds: int
    nonce: str
    beat: int = 0

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        return canonical(asdict(self))


@dataclass(slots=True)
class Lease:
    """A host, held. `check` it before whatever must not happen without it.

    Attributes:
        host: the inventory name.
        claim: as it stands in the store.
        good_until: on this process's own clock; 0 once it is lost or given back.
        ticker: that clock.
    """

    host: str
    claim: Claim
    good_until: float
    ticker: Ticker = field(default=TICKER, repr=False)

    def check(self) -> None:
        """Refuse to go on when the lease has run out or another run took it.

        Raises:
            LeaseHeldError: it is no longer this run's.
        """
        if self.ticker.now() >= self.good_until:
            raise LeaseHeldError(
                f"the lease of {self.host} was lost: this worker did not run or could not reach the store",
                changed="No further step was started on it", advice="look at the host, then resume the run",
            )


class Leases:
    """The leases of one process. Renewing needs no attention; `close` ends it.

    Args:
        store: the site's, shared by all its workers.
        ttl: seconds for which a lease is believed in without being renewed.
        wait: seconds to wait for a host that another run holds, before refusing.
        clock: seconds since the epoch, for people.
        margin: seconds a claim is watched beyond its time before it is taken over.
        ticker: decides; see `store/alive.py`.
    """

    def __init__(
        self, store: Store, *, ttl: float = TTL, wait: float = 0.0, clock: Clock = time.time,
        margin: float = MARGIN, ticker: Ticker = TICKER,
    ) -> None:
        self._store, self._clock, self._ticker = store, clock, ticker
        self._ttl, self._wait, self._margin = ttl, wait, margin
        self._held: dict[str, Lease] = {}
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._renewer: threading.Thread | None = None

    @contextlib.contextmanager
    def hold(self, host: str, run: str) -> Iterator[Lease]:
        """Hold a host for the length of a `with` block; see `acquire`."""
        lease = self.acquire(host, run)
        try:
            yield lease
        finally:
            self.release(lease)

    def acquire(self, host: str, run: str) -> Lease:
        """Take a host for a run, waiting for it as long as the policy says.

        Whoever holds it is watched until it is known whether it lives; so a refusal, too, takes a moment.

        Raises:
            LeaseHeldError: another run has it and lives; the message says which, and since when.
            StoreError: the store does not answer; the host must not be touched.
        """
        deadline = self._ticker.now() + self._wait
        watch, lost = Watch(self._ticker), 0
        while True:
            began = self._ticker.now()
            holder, claim = self._try(host, run, watch)
            if claim:
                lease = Lease(host, claim, began + self._ttl, self._ticker)
                self._keep(lease)
                return lease
            lost += holder is None
            known = watch.alive or self._is_mine(host) or lost > RACES_LOST
            if known and self._ticker.now() >= deadline:
                raise _held_by(host, holder)
            self._ticker.sleep(min(FULL_SPEED, self._ttl / 20) * (0.5 + random.random()))  # noqa: S311 - jitter

    def release(self, lease: Lease) -> None:
        """Give a host back. A store that does not answer is no error here: the lease expires by itself."""
        with self._lock:  # once it is not held, it is not renewed: its claim stays as it is
            self._held.pop(lease.host, None)
            lost = self._ticker.now() >= lease.good_until
            lease.good_until = 0.0
        if not lost:
            with contextlib.suppress(StoreError):
                self._store.swap(_key(lease.host), lease.claim.to_bytes(), FREE)

    def close(self) -> None:
        """Stop renewing; leases still held expire after their time."""
        self._end.set()
        if self._renewer:
            self._renewer.join(timeout=self._ttl)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def holder(self, host: str) -> Claim | None:
        """Whose claim stands; None when there is none, or its process is gone for certain."""
        claim = self._read(self._store.get(_key(host), limit=_LIMIT), host)
        return None if claim is None or is_gone(claim.process) else claim

    # --- inside -----------------------------------------------------------------------------------

    def _try(self, host: str, run: str, watch: Watch) -> tuple[Claim | None, Claim | None]:
        """Who holds it, or the claim that was just made; neither when another one was faster."""
        key = _key(host)
        old = self._store.get(key, limit=_LIMIT)
        holder = self._read(old, host)
        if holder and not self._may_take(holder, run, old or b"", watch, host):
            return holder, None
        now = int(self._clock() * 1000)
        claim = Claim(run, whoami(), this_process(), now, math.ceil(self._ttl), secrets.token_hex(8))
        return None, claim if self._store.swap(key, old, claim.to_bytes()) else None

    def _may_take(self, holder: Claim, run: str, data: bytes, watch: Watch, host: str) -> bool:
        unchanged = watch.see(data)
        if holder.run == run and not self._is_mine(host):
            return True
        return is_gone(holder.process) or unchanged > holder.seconds + self._margin

    def _is_mine(self, host: str) -> bool:
        with self._lock:
            return host in self._held

    def _read(self, data: bytes | None, host: str) -> Claim | None:
        if data is None or data == FREE:
            return None
        try:
            return _claim(parse(data, limit=_LIMIT))
        except (MalformedError, TypeError) as error:
            raise LeaseHeldError(
                f"the lease of {host} cannot be read", where=self._store.url,
                changed="This run did not touch the host",
                advice=f"if no run works on it, remove {_key(host)} from the store",
            ) from error

    def _keep(self, lease: Lease) -> None:
        with self._lock:
            self._held[lease.host] = lease
            if self._renewer is None or not self._renewer.is_alive():
                self._renewer = threading.Thread(target=self._renew_all, name="leases", daemon=True)
                self._renewer.start()

    def _renew_all(self) -> None:
        while not self._end.wait(self._ttl / RENEWALS):
            with self._lock:
                leases = list(self._held.values())
            for lease in leases:
                self._renew(lease)

    def _renew(self, lease: Lease) -> None:
        """Move its end; a lease that cannot be renewed runs out, and `check` tells its holder."""
        with self._lock:
            began = self._ticker.now()
            if lease.host not in self._held or began >= lease.good_until:
                return
            old = lease.claim
            new = replace(old, beat=old.beat + 1)
            with contextlib.suppress(StoreError):
                if self._store.swap(_key(lease.host), old.to_bytes(), new.to_bytes()):
                    lease.claim, lease.good_until = new, began + self._ttl
                else:
                    lease.good_until = 0.0


def _claim(said: dict[str, Any]) -> Claim:
    claim = Claim(**said)
    if type(claim.seconds) is not int or type(claim.since) is not int or type(claim.process) is not dict:
        raise TypeError("a field is of another type")
    return claim


def _key(host: str) -> str:
    """Spread over folders: in a directory, swaps within one folder wait for each other."""
    return f"{LIVE}leases/{hashlib.sha256(host.encode()).hexdigest()[:2]}/{as_part(host)}"


def _held_by(host: str, holder: Claim | None) -> LeaseHeldError:
    if holder is None:
        return LeaseHeldError(
            f"several runs want {host} at the same moment", changed="This run did not touch it",
            advice="Start the run again",
        )
    since = datetime.fromtimestamp(holder.since / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return LeaseHeldError(
        f"run {holder.run} ({holder.by}) has held {host} since {since}, and lives",
        changed="This run did not touch it", advice="Wait for that run to end, or stop it",
    )
