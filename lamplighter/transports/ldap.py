"""The LDAP transport: encrypted, proven, logged in once, and never sent elsewhere.

`LdapTransport.connect` gives a `lamplighter.model.directory.Directory`. Connections that are given back are
kept for the next session. Logins of one identity are made one at a time, and after the first refusal none is
tried again by this process with the same password: a wrong password in a loop locks the account for all.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Iterator
from typing import Self

from lamplighter.errors import (
    AuthFailedError,
    CertificateError,
    SecretError,
    SessionLostError,
    UnreachableError,
)
from lamplighter.secrets import Resolve, resolve
from lamplighter.transports import ldap_kerberos
from lamplighter.transports.ldap_login import sasl, simple
from lamplighter.transports.ldap_session import LdapSession
from lamplighter.transports.ldap_settings import KerberosBind, LdapServer, LdapSettings
from lamplighter.transports.ldap_wire import Wire, open_wire

MOST_IDLE = 8
"""Connections kept for later, for each server."""


class _Breaker:
    """Remembers, for the whole process, which logins were refused. Holds no password, only a keyed digest."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._lock = threading.Lock()
        self._locks: dict[bytes, threading.Lock] = {}
        self._refused: dict[bytes, AuthFailedError] = {}

    @contextlib.contextmanager
    def attempt(self, identity: str, proof: str) -> Iterator[None]:
        """One login at a time, and none after a refusal.

        Raises:
            AuthFailedError: this identity was refused with this proof before; nothing was sent.
        """
        name = hmac.new(self._key, f"{identity.lower()}\0{proof}".encode(), hashlib.sha256).digest()
        with self._lock:
            lock = self._locks.setdefault(name, threading.Lock())
        with lock:
            if before := self._refused.get(name):
                again = AuthFailedError(
                    f"not tried again, after this was the answer: {before.message}",
                    changed="Nothing was sent, so that nothing locks the account",
                    advice=before.advice,
                )
                again.data = before.data
                raise again
            try:
                yield
            except AuthFailedError as error:
                self._refused[name] = error
                raise


_breaker = _Breaker()


class LdapTransport:
    """Connections to one directory; safe to use from many threads at once, each with its own session.

    Args:
        settings: of the directory.
        resolve_secret: reads the password; it is read for each login and kept nowhere.

    Raises:
        UnreachableError: the settings cannot be used; every mistake is named.
    """

    def __init__(self, settings: LdapSettings, resolve_secret: Resolve = resolve) -> None:
        settings.check()
        self._settings = settings
        self._resolve = resolve_secret
        self._lock = threading.Lock()
        self._idle: dict[LdapServer, list[Wire]] = {}
        self._wires: set[Wire] = set()
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def connect(self, server: str = "") -> LdapSession:
        """Open a session on the first server that can be reached.

        Args:
            server: the name of the one server to use, as `LdapSession.server` said; for what must be read
                where it was written. Empty for any.

        Raises:
            UnreachableError: no server can be reached.
            CertificateError: a server did not prove who it is; no other one was tried.
            AuthFailedError: the login was refused; no other server was tried, and none will be.
            SessionLostError: the login was sent and not answered; no other server was tried, because each
                try may count towards a lockout.
        """
        candidates = [one for one in self._settings.servers if server in {"", str(one)}]
        if not candidates:
            raise UnreachableError(f"{server[:80]!r} is not among the directory's servers")
        reasons = []
        for one in candidates:
            try:
                return LdapSession(self._reach(one), self._settings, self._give_back, self.connect)
            except (AuthFailedError, CertificateError, SessionLostError) as error:
                raise error.at(str(one)) from None
            except UnreachableError as error:
                reasons.append(error.at(str(one)))
        if len(reasons) == 1:
            raise reasons[0]
        raise UnreachableError(
            "no server of the directory can be reached: "
            + "; ".join(f"{error.where}: {error.message}" for error in reasons),
            changed="Nothing was changed",
            advice=reasons[0].advice,
        )

    def close(self) -> None:
        """End every connection, of open sessions too; never raises."""
        with self._lock:
            self._closed = True
            wires, self._wires = self._wires, set()
            self._idle = {}
        for wire in wires:
            wire.hang_up()

    def _reach(self, server: LdapServer) -> Wire:
        while wire := self._take(server):
            if wire.idle():
                return wire
            self._end(wire)
        deadline = time.monotonic() + self._settings.connect_timeout
        wire = open_wire(server, self._settings, deadline)
        try:
            self._log_in(wire, deadline)
            self._keep(wire)
        except BaseException:
            wire.hang_up()
            raise
        return wire

    def _take(self, server: LdapServer) -> Wire | None:
        with self._lock:
            wires = self._idle.get(server)
            return wires.pop() if wires else None

    def _give_back(self, wire: Wire) -> None:
        if wire.idle():
            with self._lock:
                wires = self._idle.setdefault(wire.server, [])
                if not self._closed and len(wires) < MOST_IDLE:
                    wires.append(wire)
                    return
        self._end(wire)

    def _keep(self, wire: Wire) -> None:
        """Remember a connection, to end it with the transport."""
        with self._lock:
            if self._closed:
                raise UnreachableError("the transport was closed", changed="Nothing was changed")
            self._wires.add(wire)

    def _end(self, wire: Wire) -> None:
        wire.hang_up()
        with self._lock:
            self._wires.discard(wire)

    def _log_in(self, wire: Wire, deadline: float) -> None:
        try:
            bind = self._settings.bind
            if isinstance(bind, KerberosBind):
                with _breaker.attempt(bind.identity, f"{bind.keytab} {bind.ccache}"):
                    exchange = sasl(wire, bind, deadline)
                    ldap_kerberos.log_in(bind, wire.server.certified, wire.certificate, exchange)
                return
            password = self._resolve(bind.password)
            with _breaker.attempt(bind.identity, password.reveal()):
                simple(wire, bind.user, password, deadline)
        except SecretError as error:
            raise AuthFailedError(str(error), changed="No login was tried") from None
