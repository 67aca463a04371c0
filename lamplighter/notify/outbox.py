"""The outbox: every notice of a site, recorded before it is sent, and what became of it.

In the store, below `outbox/<month>/`: `<id>` is the notice and `<id>.done` closes it; neither changes.
`live/outbox/<month>/<id>` is the attempt, which processes race for by compare-and-swap. One listing a month
tells what is open.

What is promised: a notice that `record` returned for is sent, or shown as failed; it is never lost. It is
sent at least once. Two processes never send the same notice at the same time; it is sent twice only when
the process that sent it died before it could write that down, and its claim then ran out.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from lamplighter.crashpoints import crashpoint
from lamplighter.errors import ExistsError, MalformedError, StoreError
from lamplighter.model.canonical import canonical, parse
from lamplighter.model.notice import (
    LIMIT,
    NO_CHANNEL,
    Attempt,
    Notice,
    Result,
    judge,
    read_attempt,
    read_notice,
    retry_after,
)
from lamplighter.store import LIVE, Store, as_part, whoami

ROOT = "outbox"
CLAIM_SECONDS = 180
"""How long a process may take for what it claimed; longer than any attempt."""
WINDOW = 3600
"""The rate's window in seconds."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A notice and where it stands.

    Attributes:
        notice: the message.
        state: `waiting`, `sending`, `sent`, `failed`.
        count: attempts begun.
        when: of the end, or of the next attempt; seconds since the epoch.
        why: what the last attempt met.
    """

    notice: Notice
    state: str
    count: int
    when: int
    why: str


class Outbox:
    """See the module's docstring.

    Args:
        store: the site's.
        clock: seconds since the epoch.
        give_up: seconds for which a notice is tried.
    """

    def __init__(self, store: Store, clock: Callable[[], float], give_up: int = 72 * 3600) -> None:
        self._store, self._clock, self._give_up = store, clock, give_up

    # --- recording --------------------------------------------------------------------------------

    def record(self, notice: Notice) -> bool:
        """Put a notice in; durable when this returns.

        Returns:
            False when the same occasion was recorded before; nothing was changed then.

        Raises:
            StoreError: it could not be written, and will not be sent.
        """
        key = _key(notice)
        try:
            new = self._store.get(key, limit=LIMIT) is None
            self._store.put_new(key, notice.to_bytes())
        except ExistsError:
            return False
        crashpoint("outbox.recorded")
        if notice.channel == NO_CHANNEL:
            self._close(key, Result.FAILED, Attempt(why="nothing in notify.yaml reaches them"))
        return new

    def known(self, notice: Notice) -> bool:
        """Whether the occasion is recorded."""
        return self._store.get(_key(notice), limit=LIMIT) is not None

    # --- sending ----------------------------------------------------------------------------------

    def due(self) -> Iterator[Notice]:
        """What may be sent now, oldest occasion first; claim it before sending."""
        for key in self.open():
            attempt = self._attempt(key)
            notice = self._notice(key)
            if notice is not None and attempt.until <= self._clock():
                yield notice

    def open(self) -> Iterator[str]:
        """Keys of the notices that are neither sent nor failed."""
        for month in self._store.list(ROOT):
            names = list(self._store.list(month))
            closed = {name.removesuffix(".done") for name in names if name.endswith(".done")}
            yield from (name for name in names if "." not in name and name not in closed)

    def claim(self, notice: Notice) -> Attempt | None:
        """Reserve a notice for this process; None when another one has it, or it is closed or not due."""
        key, now = _key(notice), int(self._clock())
        old = self._store.get(LIVE + key, limit=LIMIT)
        before = read_attempt(old)
        if before.until > now or self._store.get(f"{key}.done", limit=LIMIT) is not None:
            return None
        claim = Attempt(before.count + 1, whoami(), now + CLAIM_SECONDS, before.why, secrets.token_hex(8))
        return claim if self._store.swap(LIVE + key, old, claim.to_bytes()) else None

    def settle(self, notice: Notice, claim: Attempt, result: Result, why: str = "", after: int = 0) -> Result:
        """Write down what became of an attempt.

        Args:
            notice, claim: as claimed by this process.
            result: what the attempt met.
            why: for people; holds no address and no secret.
            after: seconds until it is tried again, for `LATER`; 0 for the usual backoff.

        Returns:
            How the notice stands: `LATER` becomes `FAILED` once it has been tried for too long.
        """
        key, now = _key(notice), self._clock()
        final = judge(result, notice, claim, now, self._give_up)
        if final is not Result.LATER:
            self._close(key, final, Attempt(claim.count, "", int(now), why))
            return final
        again = int(now) + (after or retry_after(claim.count))
        self._store.swap(LIVE + key, claim.to_bytes(), Attempt(claim.count, "", again, why).to_bytes())
        return final

    def is_late(self, notice: Notice) -> bool:
        """Whether it is of no use any more."""
        return bool(notice.until) and self._clock() > notice.until

    def may_send(self, address: tuple[str, str], per_hour: int) -> bool:
        """Take one of the address's places in the hour; False when all are taken."""
        key, now = f"{LIVE}outbox-rate/{_part(address)}", int(self._clock())
        while True:
            old = self._store.get(key, limit=LIMIT)
            times = [when for when in (parse(old) if old else []) if now - WINDOW < when <= now]
            if len(times) >= per_hour:
                return False
            if self._store.swap(key, old, canonical([*times, now])):
                return True

    # --- showing ----------------------------------------------------------------------------------

    def entries(self) -> Iterator[Entry]:
        """Everything, oldest month first."""
        for month in self._store.list(ROOT):
            for key in self._store.list(month):
                notice = None if "." in key else self._notice(key)
                if notice is not None:
                    yield self._entry(key, notice)

    def entry(self, notice: Notice) -> Entry:
        """Where a recorded notice stands."""
        return self._entry(_key(notice), notice)

    def failed(self, name: str) -> bool:
        """Whether a notice, `<month>/<id>`, was given up for good."""
        done = self._store.get(f"{ROOT}/{name}.done", limit=LIMIT)
        return done is not None and parse(done, limit=LIMIT)["result"] == Result.FAILED

    def _entry(self, key: str, notice: Notice) -> Entry:
        done = self._store.get(f"{key}.done", limit=LIMIT)
        if done is not None:
            said = parse(done, limit=LIMIT)
            return Entry(notice, said["result"], said["count"], said["until"], said["why"])
        attempt = self._attempt(key)
        state = "sending" if attempt.by and attempt.until > self._clock() else "waiting"
        return Entry(notice, state, attempt.count, attempt.until, attempt.why)

    # --- inside -----------------------------------------------------------------------------------

    def _close(self, key: str, result: Result, attempt: Attempt) -> None:
        until = attempt.until or int(self._clock())
        said = {"result": str(result), "count": attempt.count, "until": until, "why": attempt.why}
        try:
            self._store.put_new(f"{key}.done", canonical(said))
        except ExistsError:
            return  # another process came to an end first, after this one's claim had run out

    def _notice(self, key: str) -> Notice | None:
        data = self._store.get(key, limit=LIMIT)
        if data is None:
            return None
        try:
            return read_notice(data)
        except MalformedError as error:
            raise StoreError(
                f"a notice cannot be read: {error.message}", where=f"{self._store.url}/{key}",
                advice="somebody changed it; move it out of the store",
            ) from error

    def _attempt(self, key: str) -> Attempt:
        return read_attempt(self._store.get(LIVE + key, limit=LIMIT))


def _key(notice: Notice) -> str:
    return f"{ROOT}/{notice.month}/{notice.id}"


def _part(address: tuple[str, str]) -> str:
    return as_part("+".join(address))
