"""A new password on its way to its user: sealed before it is set, handed over once, gone after its time.

What is kept in the store, below `deliveries/`, is sealed with age: to a recipient of the site, or to the
worker's own key when the worker itself must mail it or write it to a file. It is handed over at most once:
a worker that dies in the middle leaves an entry that says so, and the password is reset anew.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pyrage

from lamplighter.crashpoints import crashpoint
from lamplighter.errors import RefusedError, SecretError
from lamplighter.model.canonical import canonical, parse
from lamplighter.model.notice import Result
from lamplighter.notify.send import Answer, send_by_apprise
from lamplighter.secrets import Resolve, Secret, resolve
from lamplighter.site.directory import HOUR, DeliveryEntry
from lamplighter.site.notify import Channel
from lamplighter.store import Store

LIMIT = 64 * 1024
ENDINGS = (".age", ".txt")
_TO = "literal:to"
Mail = Callable[[Channel, str, str, Resolve], Answer]


@dataclass(frozen=True, slots=True)
class Parcel:
    """One password's way.

    Attributes:
        state: `kept` (sealed, not released), `sending`, `delivered`, `failed`, `dropped`.
        way, to: as in the plan: `sealed`, `manager`, `alternate`, `file`; the recipient or address.
        sealed: armoured age; empty once nobody needs it.
        until: when what was handed over ends, seconds since the epoch; 0 when it was not, or by mail.
        why: what became of it, in words without a secret.
    """

    state: str
    way: str
    to: str
    sealed: str = ""
    until: int = 0
    why: str = ""

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
        if parcel is None or parcel.state != "kept":
            return parcel
        return self._settle(run, parcel, replace(parcel, state="dropped", sealed="", why=why))

    def release(self, run: str) -> Parcel | None:
        """Hand it over, at most once; what became of it is in the answer."""
        parcel = self.parcel(run)
        if parcel is None or parcel.state not in {"kept", "sending"}:
            return parcel
        if parcel.state == "sending":
            why = "the worker died while it was handed over; it is not known whether it arrived"
            return self._settle(run, parcel, replace(parcel, state="failed", sealed="", why=why))
        claimed = self._settle(run, parcel, replace(parcel, state="sending"))
        if claimed.state != "sending":
            return claimed
        crashpoint("delivery.claimed")
        why, until = self._hand_over(run, parcel)
        crashpoint("delivery.handed-over")
        state = "failed" if why else "delivered"
        return self._settle(run, claimed, replace(claimed, state=state, sealed="", until=until, why=why))

    # --- inside -----------------------------------------------------------------------------------

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
            return pyrage.x25519.Identity.from_str(self.resolver(self.rules.identity or "").reveal().strip())
        except (SecretError, pyrage.IdentityError):
            raise RefusedError(
                "the worker's own age identity cannot be read", changed="Nothing was changed",
                advice="See delivery.identity in directory.yaml",
            ) from None

    def _hand_over(self, run: str, parcel: Parcel) -> tuple[str, int]:
        """Why it failed, and when it ends."""
        try:
            if parcel.way == "sealed":
                return self._write(f"{run}.age", parcel.sealed.encode())
            text = pyrage.decrypt(parcel.sealed.encode(), [self._identity()])
            if parcel.way == "file":
                return self._write(f"{run}.txt", text)
        except (RefusedError, pyrage.DecryptError) as error:
            return f"it cannot be opened: {error}", 0
        to, channel = Secret(parcel.to, "address"), Channel("password", self.server, _TO)

        def resolver(reference: str) -> Secret:
            return to if reference == _TO else self.resolver(reference)

        answer = self.mail(channel, "A new password", text.decode(), resolver)
        return ("" if answer.result is Result.SENT else answer.why or "it was not taken"), 0

    def _write(self, name: str, data: bytes) -> tuple[str, int]:
        path = Path(self.rules.folder or "").expanduser() / name
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with os.fdopen(number, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(number)
        except OSError as error:
            return f"the file cannot be written: {error.strerror}", 0
        return "", int(self.clock()) + self.rules.hours * HOUR


def sweep(rules: DeliveryEntry, now: float) -> int:
    """Remove files whose time is over; how many. One that cannot be removed is left for the next time."""
    if not rules.folder:
        return 0
    gone = 0
    for path in Path(rules.folder).expanduser().glob("*"):
        with contextlib.suppress(OSError):
            if path.suffix in ENDINGS and path.lstat().st_mtime + rules.hours * HOUR <= now:
                path.unlink()
                gone += 1
    return gone


def _key(run: str) -> str:
    return f"deliveries/{run}"
