"""A new password on its way to its user: sealed before it is set, handed over once, gone after its time.

What is kept in the store, below `live/deliveries/`, is sealed with age: to a recipient of the site, or to the
worker's own key when the worker itself must mail it or write it to a file. It is handed over at most once:
a worker that dies in the middle leaves an entry that says so, and the password is reset anew. A mail server
that is down, or asks to come back later, has taken nothing: it is asked again.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pyrage

from lamplighter.crashpoints import crashpoint
from lamplighter.errors import RefusedError, SecretError
from lamplighter.model.canonical import canonical, parse
from lamplighter.model.notice import Answer, Result, retry_after
from lamplighter.notify.send import send_by_apprise
from lamplighter.secrets import Resolve, Secret, resolve
from lamplighter.site.directory import HOUR, DeliveryEntry
from lamplighter.site.notify import Channel
from lamplighter.store import LIVE, Store

LIMIT = 64 * 1024
ENDINGS = {".age": "sealed", ".txt": "file"}
WRITTEN = frozenset({"sending", "delivered", "failed"})
"""States of a parcel that may lie in the folder."""
_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,99}")
MOST_TRIES = 7
"""Mails tried, 1, 2, 4 ... minutes apart: an hour, which outlasts greylisting (RFC 6647 2.4)."""
Mail = Callable[[Channel, str, str, Resolve], Answer]


@dataclass(frozen=True, slots=True)
class Parcel:
    """One password's way.

    Attributes:
        state: `kept` (sealed, not released), `sending`, `waiting` (the mail server was not ready to take it),
            `delivered`, `failed`, `dropped`.
        way, to: as in the plan: `sealed`, `manager`, `alternate`, `file`; the recipient or address.
        sealed: armoured age; empty once nobody needs it.
        until: when what was handed over ends, or when a waiting one is tried again, seconds since the epoch;
            0 when it was not handed over, or by mail.
        why: what became of it, in words without a secret.
        tries: how often it was tried.
    """

    state: str
    way: str
    to: str
    sealed: str = ""
    until: int = 0
    why: str = ""
    tries: int = 0

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        return canonical(asdict(self))


@dataclass(frozen=True, slots=True)
class Deliveries:
    """See the module's docstring.

    Attributes:
        store: the site's.
        rules: the site's.
        server: reference to the mail server's apprise URL; empty without mail.
        clock: seconds since the epoch.
        resolver: reads secrets.
        mail: sends one message.
    """

    store: Store
    rules: DeliveryEntry
    server: str = ""
    clock: Callable[[], float] = time.time
    resolver: Resolve = resolve
    mail: Mail = send_by_apprise

    def keep(self, run: str, way: str, to: str, login: str, secret: Secret) -> None:
        """Seal a password durably, unreleased, before it is set.

        Raises:
            RefusedError: it cannot be sealed; the password must not be set.
            StoreError: it cannot be kept; as above.
        """
        if way not in self.rules.ways:
            raise RefusedError(f"the site does not deliver by {way}", changed="Nothing was changed")
        text = (
            f"A new password was set for {login}: {secret.reveal()}\n\n"
            "It must be changed at the next login, and serves for nothing else.\n"
        )
        sealed = pyrage.encrypt(text.encode(), [self._recipient(way, to)], armored=True).decode("ascii")
        if not self.store.swap(_key(run), None, Parcel("kept", way, to, sealed).to_bytes()):
            raise RefusedError("this run has made a password before", changed="Nothing was changed")
        crashpoint("delivery.kept")

    def parcel(self, run: str) -> Parcel | None:
        """A run's, as it stands; None when none was kept."""
        data = self.store.get(_key(run), limit=LIMIT)
        return Parcel(**parse(data, limit=LIMIT)) if data else None

    def drop(self, run: str, why: str) -> Parcel | None:
        """Make a password that is not to be used unreadable for ever."""
        parcel = self.parcel(run)
        if parcel is None or parcel.state not in {"kept", "waiting"}:
            return parcel
        return self._settle(run, parcel, replace(parcel, state="dropped", sealed="", why=why))

    def release(self, run: str) -> Parcel | None:
        """Hand it over, at most once; what became of it is in the answer.

        One that is `waiting` is to be released again at its `until`, and not before.
        """
        parcel = self.parcel(run)
        if parcel is None or parcel.state not in {"kept", "waiting", "sending"}:
            return parcel
        if parcel.state == "waiting" and self.clock() < parcel.until:
            return parcel
        if parcel.state == "sending":
            why = "the worker died while it was handed over; it is not known whether it arrived"
            return self._settle(run, parcel, replace(parcel, state="failed", sealed="", why=why))
        claimed = self._settle(run, parcel, replace(parcel, state="sending", tries=parcel.tries + 1, until=0))
        if claimed.state != "sending":
            return claimed
        crashpoint("delivery.claimed")
        answer, until = self._hand_over(run, parcel)
        crashpoint("delivery.handed-over")
        return self._settle(run, claimed, self._after(claimed, answer, until))

    # --- inside -----------------------------------------------------------------------------------

    def _after(self, tried: Parcel, answer: Answer, until: int) -> Parcel:
        """What an attempt makes of a parcel."""
        if answer.result is Result.LATER and tried.tries < MOST_TRIES:
            again = int(self.clock()) + retry_after(tried.tries)
            return replace(tried, state="waiting", until=again, why=answer.why)
        if answer.result is Result.SENT:
            return replace(tried, state="delivered", sealed="", until=until, why="")
        return replace(tried, state="failed", sealed="", why=answer.why)

    def _settle(self, run: str, old: Parcel, new: Parcel) -> Parcel:
        """What stands in the end: this, or what another process was faster with."""
        if self.store.swap(_key(run), old.to_bytes(), new.to_bytes()):
            return new
        return self.parcel(run) or new

    def _recipient(self, way: str, to: str) -> pyrage.x25519.Recipient:
        try:
            if way == "sealed":
                return pyrage.x25519.Recipient.from_str(self.rules.recipients[to])
            return self._identity().to_public()
        except (pyrage.RecipientError, KeyError):
            raise RefusedError(f"{to!r} has no age public key here", changed="Nothing was changed") from None

    def _identity(self) -> pyrage.x25519.Identity:
        try:
            text = self.resolver(self.rules.identity or "").reveal()
            return pyrage.x25519.Identity.from_str(identity_line(text))
        except (SecretError, pyrage.IdentityError):
            raise RefusedError(
                "the worker's own age identity cannot be read", changed="Nothing was changed",
                advice="See delivery.identity in directory.yaml",
            ) from None

    def _hand_over(self, run: str, parcel: Parcel) -> tuple[Answer, int]:
        """What became of it, and when it ends."""
        try:
            if parcel.way == "sealed":
                return self._write(f"{run}.age", parcel.sealed.encode())
            text = pyrage.decrypt(parcel.sealed.encode(), [self._identity()])
            if parcel.way == "file":
                return self._write(f"{run}.txt", text)
        except (RefusedError, pyrage.DecryptError) as error:
            return Answer(Result.FAILED, f"it cannot be opened: {error}"), 0
        channel = Channel("password", self.server, address=parcel.to)
        return self.mail(channel, "A new password", text.decode(), self.resolver), 0

    def _write(self, name: str, data: bytes) -> tuple[Answer, int]:
        path = Path(self.rules.folder or "").expanduser() / name
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with os.fdopen(number, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(number)
        except OSError as error:
            return Answer(Result.FAILED, f"the file cannot be written: {error.strerror}"), 0
        return Answer(Result.SENT), int(self.clock()) + self.rules.hours * HOUR


def sweep(store: Store, rules: DeliveryEntry, now: float) -> int:
    """Remove delivered files whose time is over; how many. What cannot be removed is left for the next time.

    Only what this store says was delivered by a run of the site: everything else in the folder is somebody's.

    Args:
        store, rules: the site's.
        now: seconds since the epoch.

    Raises:
        StoreError: the store does not answer.
    """
    if not rules.folder:
        return 0
    gone = 0
    for path in Path(rules.folder).expanduser().glob("*"):
        if not _RUN.fullmatch(path.stem) or path.suffix not in ENDINGS:
            continue
        data = store.get(_key(path.stem), limit=LIMIT)
        parcel = Parcel(**parse(data, limit=LIMIT)) if data else None
        if parcel is None or ENDINGS[path.suffix] != parcel.way or parcel.state not in WRITTEN:
            continue
        with contextlib.suppress(OSError):  # without an end, a worker died as it wrote the file
            ends = parcel.until or path.lstat().st_mtime + rules.hours * HOUR
            if ends <= now:
                path.unlink()
                gone += 1
    return gone


def _key(run: str) -> str:
    return f"{LIVE}deliveries/{run}"


def identity_line(text: str) -> str:
    """The identity of a file as `age-keygen -o` writes it: empty lines and `#` remarks are left out.

    The format is age(1)'s, section "IDENTITY FILES". Several identities are as bad as none: which of
    them sealed something is not known.
    """
    lines = [line.strip() for line in text.removeprefix("\ufeff").splitlines()]
    found = [line for line in lines if line and not line.startswith("#")]
    return found[0] if len(found) == 1 else ""
