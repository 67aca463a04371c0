"""The SSH transport: one connection per host and run.

`SshTransport.connect` is a `lamplighter.model.session.Connect`. Host keys are pinned (`ssh_hostkeys`), one
key is offered once (`ssh_keys`), and only modern algorithms are spoken (`ssh_wire`). What a session can do is
in `ssh_session`.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Self, cast

import paramiko

from lamplighter.errors import AuthFailedError, LamplighterError, SecretError, UnreachableError
from lamplighter.model.inventory import Host
from lamplighter.secrets import Resolve, Secret, resolve
from lamplighter.transports.ssh_dial import dial
from lamplighter.transports.ssh_hostkeys import KnownHosts, Pins
from lamplighter.transports.ssh_keys import load_key, put_away
from lamplighter.transports.ssh_session import Pool, SshSession
from lamplighter.transports.ssh_settings import Login, SshSettings
from lamplighter.transports.ssh_wire import FOREIGN_ERRORS, Wire, log_in, shake_hands, writes_until

DEFAULT_KEEP = 256


class SshTransport:
    """Connections to a site's hosts; safe to use from many threads at once, each with its own hosts.

    Args:
        known_hosts: the site's pinned host keys, in OpenSSH's format.
        resolve_secret: reads passphrases and sudo passwords; each is read once.
        keep: how many connections are kept for hosts with no session open; each holds a thread and a socket.

    Raises:
        SiteError: the pins cannot be read.
    """

    def __init__(
        self, known_hosts: Path, resolve_secret: Resolve = resolve, *, keep: int = DEFAULT_KEEP
    ) -> None:
        self._known = KnownHosts.read(known_hosts)
        self._resolve = resolve_secret
        self._lock = threading.Lock()
        self._locks: dict[object, threading.Lock] = {}
        self._secrets: dict[str, Secret] = {}
        self._keys: dict[object, paramiko.PKey] = {}
        self._wires: dict[object, Wire] = {}
        self._keep = keep
        self._in_use: Counter[object] = Counter()
        self._idle: dict[object, None] = {}  # in the order they became so

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def connect(self, host: Host) -> SshSession:
        """Open a session, over the host's connection if there is one.

        Raises:
            UnreachableError: no connection could be made.
            AuthFailedError: the key cannot be used, or the host refused it.
            HostKeyError: the host is not the pinned one.
        """
        settings = SshSettings.of(host)
        key = (host.name, settings)
        pool = Pool(
            reach=lambda deadline: self._reach(host.name, settings, deadline),
            release=lambda: self._release(key),
            secret=self._secret,
        )
        with self._lock:
            self._in_use[key] += 1
            self._idle.pop(key, None)
        session = SshSession(host.name, settings, pool)
        try:
            with _told_of(host.name):
                self._key(settings)  # outside the deadline: a password manager may take its time
            session.attach(time.monotonic() + settings.connect_timeout)
        except BaseException:
            session.close()
            raise
        return session

    def close(self) -> None:
        """End every connection; never raises."""
        with self._lock:
            wires, self._wires = list(self._wires.values()), {}
        for wire in reversed(wires):  # what runs through a jump host goes before the jump host
            wire.hang_up()
        with self._lock:
            keys, self._keys = list(self._keys.values()), {}
        for key in keys:
            put_away(key)

    def _release(self, key: object) -> None:
        """One session of a host less; the connections idle for longest go when there are too many."""
        with self._lock:
            self._in_use[key] -= 1
            if self._in_use[key] == 0:
                del self._in_use[key]
                self._idle[key] = None
            wires = []
            while len(self._idle) > self._keep:
                oldest = next(iter(self._idle))
                del self._idle[oldest]
                wires.append(self._wires.pop(oldest, None))
        for wire in filter(None, wires):
            wire.hang_up()

    def _reach(self, name: str, settings: SshSettings, deadline: float) -> Wire:
        """The host's live connection, made if need be."""
        with _told_of(name), self._guard((name, settings)):
            wire = self._wires.get((name, settings))
            if wire is None or not wire.is_active():
                pins = self._known.pins(name, (settings.target.address, name), settings.target.port)
                jump = self._jump(settings, settings.jumps, deadline)
                wire = self._log_in(settings, settings.target, pins, jump, deadline)
                self._wires[name, settings] = wire
            return wire

    def _jump(self, settings: SshSettings, route: tuple[Login, ...], deadline: float) -> Wire | None:
        """The live connection to the last of some jump hosts, shared by all hosts behind it."""
        if not route:
            return None
        key = (route, settings.key, settings.certificate, settings.agent)
        with self._guard(key):
            wire = self._wires.get(key)
            if wire is None or not wire.is_active():
                login = route[-1]
                pins = self._known.pins(f"jump host {login}", (login.address,), login.port)
                jump = self._jump(settings, route[:-1], deadline)
                wire = self._log_in(settings, login, pins, jump, deadline)
                self._wires[key] = wire
            return wire

    def _log_in(
        self, settings: SshSettings, login: Login, pins: Pins, jump: Wire | None, deadline: float
    ) -> Wire:
        key = self._key(settings)
        link = dial(login.address, login.port, deadline) if jump is None else _through(jump, login, deadline)
        wire = shake_hands(link, pins, deadline)
        log_in(wire, login.user, key, deadline)
        return wire

    def _key(self, settings: SshSettings) -> paramiko.PKey:
        name = (settings.key, settings.certificate, settings.passphrase, settings.agent)
        with self._guard(name):
            if name not in self._keys:
                self._keys[name] = load_key(settings, self._secret)
            return self._keys[name]

    def _secret(self, reference: str) -> Secret:
        with self._guard(reference):
            if reference not in self._secrets:
                self._secrets[reference] = self._resolve(reference)
            return self._secrets[reference]

    @contextlib.contextmanager
    def _guard(self, key: object) -> Iterator[None]:
        """One thread at a time for each thing that is made once."""
        with self._lock:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            yield


@contextlib.contextmanager
def _told_of(name: str) -> Iterator[None]:
    """Errors name the host, and a secret that cannot be read is a login that failed."""
    try:
        yield
    except SecretError as error:
        raise AuthFailedError(str(error), where=name, changed="Nothing was sent to the host") from None
    except LamplighterError as error:
        raise error.at(name) from None


def _through(jump: Wire, login: Login, deadline: float) -> socket.socket:
    """A link to a host through a jump host: a `direct-tcpip` channel (RFC 4254 7.2)."""
    try:
        with writes_until(deadline):
            channel = jump.open_channel(
                "direct-tcpip",
                (login.address, login.port),
                ("127.0.0.1", 0),
                timeout=max(0.001, deadline - time.monotonic()),
            )
    except FOREIGN_ERRORS:
        raise UnreachableError(
            f"the jump host cannot reach {login.address} port {login.port}, or may not forward to it",
            changed="Nothing was sent to the host",
            advice="Check that the host is up, and AllowTcpForwarding and PermitOpen on the jump host",
        ) from None
    return cast("socket.socket", channel)  # paramiko takes either
