"""At most one run changes a host at a time.

A lease is a small value in the store, one per host, changed by compare-and-swap only, so it holds across
threads, processes and workers. It names the run, its process, since when, and until when; one thread
renews all leases of a process. A run that died loses its leases when they expire, but resumes them at once
itself: its ledger lets only one process speak for it.

Clocks of workers may differ by `SKEW` seconds: a lease is taken over only when it has been expired for
longer. A worker that was stopped past the end of its lease notices by its own monotonic clock (`check`).
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Self

from lamplighter.errors import LeaseHeldError, MalformedError, StoreError
from lamplighter.model.canonical import canonical, parse
from lamplighter.seals import Clock
from lamplighter.store import LIVE, Store, as_part, whoami

TTL = 120.0
SKEW = 30.0
FREE = b"{}"
_LIMIT = 4096


@dataclass(frozen=True, slots=True)
class Claim:
    """What the store holds while a run has a host.

    Attributes:
        run: the run's id.
        by: its process and machine.
        since, until: milliseconds since the epoch.
        nonce: tells two claims of one run apart.
    """

    run: str
    by: str
    since: int
    until: int
    nonce: str

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        return canonical(asdict(self))


@dataclass(slots=True)
class Lease:
    """A host, held. `check` it before whatever must not happen without it.

    Attributes:
        host: the inventory name.
        claim: as it stands in the store.
        good_until: on this process's monotonic clock; 0 once it is lost or given back.
    """

    host: str
    claim: Claim
    good_until: float

    def check(self) -> None:
        """Refuse to go on when the lease has run out or another run took it.

        Raises:
            LeaseHeldError: it is no longer this run's.
        """
        if time.monotonic() >= self.good_until:
            raise LeaseHeldError(
                f"the lease of {self.host} was lost: this worker did not run or could not reach the store",
                changed="No further step was started on it", advice="look at the host, then resume the run",
            )


class Leases:
    """The leases of one process. Renewing needs no attention; `close` ends it.

    Args:
        store: the site's, shared by all its workers.
        ttl: seconds until a lease that is not renewed expires.
        wait: seconds to wait for a host that another run holds, before refusing.
        clock: seconds since the epoch.
        skew: seconds by which workers' clocks may differ.
    """

    def __init__(
        self, store: Store, *, ttl: float = TTL, wait: float = 0.0, clock: Clock = time.time,
        skew: float = SKEW,
    ) -> None:
        self._store, self._clock = store, clock
        self._ttl, self._wait, self._skew = ttl, wait, skew
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

        Raises:
            LeaseHeldError: another run has it; the message says which, since when, and until when.
            StoreError: the store does not answer; the host must not be touched.
        """
        deadline = time.monotonic() + self._wait
        while True:
            began = time.monotonic()
            holder, claim = self._try(host, run)
            if claim:
                lease = Lease(host, claim, began + self._ttl)
                self._keep(lease)
                return lease
            if time.monotonic() >= deadline:
                raise _held_by(host, holder)
            time.sleep(min(0.1 + random.random(), max(0.0, deadline - time.monotonic())))  # noqa: S311 - jitter

    def release(self, lease: Lease) -> None:
        """Give a host back. A store that does not answer is no error here: the lease expires by itself."""
        with self._lock:  # once it is not held, it is not renewed: its claim stays as it is
            self._held.pop(lease.host, None)
            lost = time.monotonic() >= lease.good_until
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
        """Who has the host now; None when nobody has."""
        claim = self._read(self._store.get(_key(host), limit=_LIMIT), host)
        return None if claim is None or self._expired(claim) else claim

    # --- inside -----------------------------------------------------------------------------------

    def _try(self, host: str, run: str) -> tuple[Claim | None, Claim | None]:
        """Who holds it, or the claim that was just made."""
        key = _key(host)
        old = self._store.get(key, limit=_LIMIT)
        holder = self._read(old, host)
        with self._lock:
            mine = host in self._held
        if holder and (mine or holder.run != run) and not self._expired(holder):
            return holder, None
        now = int(self._clock() * 1000)
        claim = Claim(run, whoami(), now, now + int(self._ttl * 1000), secrets.token_hex(8))
        if self._store.swap(key, old, claim.to_bytes()):
            return None, claim
        return self.holder(host), None

    def _expired(self, claim: Claim) -> bool:
        return self._clock() * 1000 > claim.until + self._skew * 1000

    def _read(self, data: bytes | None, host: str) -> Claim | None:
        if data is None or data == FREE:
            return None
        try:
            return Claim(**parse(data, limit=_LIMIT))
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
        while not self._end.wait(self._ttl / 4):
            with self._lock:
                leases = list(self._held.values())
            for lease in leases:
                self._renew(lease)

    def _renew(self, lease: Lease) -> None:
        """Move its end; a lease that cannot be renewed runs out, and `check` tells its holder."""
        with self._lock:
            began = time.monotonic()
            if lease.host not in self._held or began >= lease.good_until:
                return
            old = lease.claim
            until = int((self._clock() + self._ttl) * 1000)
            new = Claim(old.run, old.by, old.since, until, old.nonce)
            with contextlib.suppress(StoreError):
                if self._store.swap(_key(lease.host), old.to_bytes(), new.to_bytes()):
                    lease.claim, lease.good_until = new, began + self._ttl
                else:
                    lease.good_until = 0.0



def _key(host: str) -> str:
    """Spread over folders: in a directory, swaps within one folder wait for each other."""
    return f"{LIVE}leases/{hashlib.sha256(host.encode()).hexdigest()[:2]}/{as_part(host)}"


def _held_by(host: str, holder: Claim | None) -> LeaseHeldError:
    if holder is None:
        return LeaseHeldError(
            f"several runs want {host} at the same moment", changed="This run did not touch it",
            advice="Start the run again",
        )
    since, until = (
        datetime.fromtimestamp(moment / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        for moment in (holder.since, holder.until)
    )
    return LeaseHeldError(
        f"run {holder.run} ({holder.by}) has held {host} since {since}",
        changed="This run did not touch it",
        advice=f"Wait for that run to end; if it is dead, its lease ends at {until}, and resuming it is safe",
    )
