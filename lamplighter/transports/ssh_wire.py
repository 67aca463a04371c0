"""paramiko, held to account: modern algorithms only, no polling, and a deadline on every wait and write.

`Wire` is paramiko's transport with an allow-list in place of its preferences. paramiko polls every 0.1 s in
each connection's thread, starts a timer thread per handshake, blocks for ever in `exec_command` and in
writes to a peer that stopped reading, and logs what hosts say; this module replaces exactly those parts.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import paramiko
from paramiko.auth_handler import AuthHandler
from paramiko.channel import Channel
from paramiko.common import (
    MSG_CHANNEL_FAILURE,
    MSG_CHANNEL_REQUEST,
    MSG_CHANNEL_WINDOW_ADJUST,
    cMSG_CHANNEL_REQUEST,
    cMSG_SERVICE_REQUEST,
)
from paramiko.message import Message
from paramiko.packet import Packetizer

from lamplighter.errors import AuthFailedError, ChannelError, UnreachableError
from lamplighter.transports.ssh_answer import reason
from lamplighter.transports.ssh_hostkeys import ALGORITHMS, Pins, PublicKey
from lamplighter.transports.text import clean

TICK = 0.5
"""Seconds after which a blocked write looks at its deadline: how far a deadline can be outrun."""

_PIECE = 16 * 1024

FOREIGN_ERRORS = (paramiko.SSHException, EOFError, OSError)
"""What paramiko raises when a connection fails. Their texts may quote the peer and are never passed on."""

_CIPHERS = (
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "aes128-ctr",
    "aes192-ctr",
    "aes256-ctr",
)
_MACS = (
    "hmac-sha2-256-etm@openssh.com",
    "hmac-sha2-512-etm@openssh.com",
    "hmac-sha2-256",
    "hmac-sha2-512",
)
_KEX = (
    "mlkem768x25519-sha256",
    "curve25519-sha256@libssh.org",
    "ecdh-sha2-nistp256",
    "ecdh-sha2-nistp384",
    "ecdh-sha2-nistp521",
    "diffie-hellman-group16-sha512",
    "diffie-hellman-group14-sha256",
)
_SIGNATURES = tuple(name for names in ALGORITHMS.values() for name in names)

_Channel: Any = Channel
_Transport: Any = paramiko.Transport
# paramiko's type stubs leave out what is replaced here.

_quiet = logging.Logger("lamplighter.transports.ssh.wire")  # noqa: LOG001 - one in the registry would be
_quiet.disabled = True  # enabled again by the next logging configuration, Prefect's for example
_writing = threading.local()


@contextlib.contextmanager
def writes_until(deadline: float) -> Iterator[None]:
    """Let no write of this thread, on whatever connection, block past `deadline` (monotonic seconds)."""
    before = getattr(_writing, "deadline", None)
    _writing.deadline = deadline
    try:
        yield
    finally:
        _writing.deadline = before


class _Ahead:
    """A link read in large pieces: paramiko asks for the first bytes of a packet, and then for the rest."""

    def __init__(self, link: socket.socket) -> None:
        self.send, self.close = link.send, link.close
        self._link = link
        self._data = b""

    def recv(self, size: int) -> bytes:
        """Up to `size` bytes, from what is there already if anything is; nothing at the end."""
        data = self._data or self._link.recv(_PIECE)
        self._data = data[size:]
        return data[:size]


class _Packets(Packetizer):
    """Packets without a timer thread, whose writes end at the deadline of the thread that writes."""

    def __init__(self, link: socket.socket) -> None:
        super().__init__(cast("socket.socket", _Ahead(link)))
        self._link = link

    def start_handshake(self, timeout: float) -> None:
        """Nothing: who waits for the handshake has a deadline of its own."""

    def write_all(self, out: Any) -> None:
        """Send everything or raise EOFError; a packet cut in half ends the connection."""
        deadline = getattr(_writing, "deadline", None) or time.monotonic() + 30.0
        while out:
            try:
                sent = self._link.send(out)
            except TimeoutError:
                sent = 0
                if self.closed or time.monotonic() > deadline:
                    self.close()
                    raise EOFError from None
            except OSError:
                raise EOFError from None
            if self.closed:
                raise EOFError
            out = out[sent:]


def _on_request(channel: Channel, message: Message) -> None:
    """Note how a command ended, and wake who waits. RFC 4254 6.10; paramiko knows no `exit-signal`."""
    position = message.packet.tell()
    kind = message.get_text()
    message.get_boolean()
    if kind == "exit-signal":
        name = message.get_text()
        number = getattr(signal, f"SIG{name}", None) if name.isalnum() else None
        channel.exit_status = 128 + (number if isinstance(number, signal.Signals) else 0)
        channel.status_event.set()
    else:
        message.packet.seek(position)
        _Channel._handle_request(channel, message)  # noqa: SLF001 - the handler this one stands in front of
    channel.event.set()


def _on_failure(channel: Channel, message: Message) -> None:
    """The server refuses what a channel was asked for (RFC 4254 5.4): there was one question, our command."""
    channel.refused = True  # type: ignore[attr-defined]  # ours
    _Channel._request_failed(channel, message)  # noqa: SLF001 - the handler this one stands in front of


def _on_window(channel: Channel, message: Message) -> None:
    """More may be sent: wake who waits to."""
    _Channel._window_adjust(channel, message)  # noqa: SLF001 - the handler this one stands in front of
    channel.event.set()


class Wire(paramiko.Transport):
    """One SSH connection: an allow-list of algorithms, and the peer's last words."""

    agreed_on_strict_kex: bool
    remote_cipher: str
    _send_user_message: Callable[[Message], None]
    _active_check_timeout = TICK
    _preferred_ciphers = _CIPHERS
    _preferred_macs = _MACS
    _preferred_kex = tuple(name for name in _KEX if name in _Transport._preferred_kex)  # noqa: SLF001 - what this build can do
    _preferred_pubkeys = _SIGNATURES
    _channel_handler_table = {  # noqa: RUF012 - paramiko declares it so
        **_Transport._channel_handler_table,  # noqa: SLF001 - extended by three
        MSG_CHANNEL_REQUEST: _on_request,
        MSG_CHANNEL_FAILURE: _on_failure,
        MSG_CHANNEL_WINDOW_ADJUST: _on_window,
    }

    def __init__(self, link: socket.socket, algorithms: tuple[str, ...]) -> None:
        super().__init__(link, packetizer_class=_Packets)
        self._preferred_keys = algorithms
        self.last_words = ""
        self.proved: set[bool] = set()
        """For whom a channel of this connection was proved: as the account (False), as root (True)."""
        self.logger = _quiet
        self.log_name = _quiet.name
        self.packetizer.set_log(_quiet)

    @property
    def preferred_keys(self) -> tuple[str, ...]:
        """Host key algorithms: plain ones only. paramiko would add host certificates."""
        return self._preferred_keys

    def _log(self, *_: object) -> None:
        """Nothing, and at no cost: what hosts say does not belong into our log."""

    def _parse_debug(self, message: Message) -> None:
        """RFC 4253 11.3: may be ignored; OpenSSH sends how it read the account's key."""

    def _parse_disconnect(self, message: Message) -> None:
        """RFC 4253 11.1: the code, and why."""
        message.get_int()
        self.last_words = clean(message.get_text())[:200]

    @property
    def presented(self) -> PublicKey:
        """The host key the peer proved to have."""
        key = self.get_remote_server_key()
        return PublicKey(key.get_name(), key.asbytes())

    @property
    def safe_order(self) -> bool:
        """Whether the Terrapin attack (CVE-2023-48795) is out of reach.

        It is with strict key exchange. A server too old for it is still safe with AES-GCM, whose counter
        does not follow the packets' sequence number; with other ciphers it is not talked to.
        """
        return self.agreed_on_strict_kex or {self.local_cipher, self.remote_cipher} <= set(_CIPHERS[:2])

    def request_exec(self, channel: Channel, command: str) -> None:
        """Ask for a command (RFC 4254 6.5) and do not wait for the answer: a refusal closes the channel."""
        message = Message()
        message.add_byte(cMSG_CHANNEL_REQUEST)
        message.add_int(channel.remote_chanid)
        message.add_string("exec")
        message.add_boolean(True)
        message.add_string(command)
        self._send_user_message(message)

    @staticmethod
    def refused_exec(channel: Channel) -> bool:
        """Whether the server refused to run a channel's command."""
        return getattr(channel, "refused", False)

    def hang_up(self) -> None:
        """End the connection at once, waking its thread and whoever waits; never raises."""
        with contextlib.suppress(*FOREIGN_ERRORS):
            self.sock.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(*FOREIGN_ERRORS):
            self.close()


def shake_hands(link: socket.socket, pins: Pins, deadline: float) -> Wire:
    """Exchange keys and make sure that the peer is the pinned host.

    Args:
        link: a connected socket, or a channel through a jump host.
        pins: what is known of the host.
        deadline: monotonic seconds.

    Raises:
        HostKeyError: not the pinned host.
        UnreachableError: no key exchange in time, or none that is safe.
    """
    wire = Wire(link, pins.algorithms)
    wire.banner_timeout = max(TICK, deadline - time.monotonic())
    try:
        with writes_until(deadline):
            _await(wire, lambda done: wire.start_client(event=done), deadline, "the key exchange")
            _check_agreement(wire, pins)
    except FOREIGN_ERRORS:
        wire.hang_up()
        raise _broken_off(wire) from None
    except BaseException:
        wire.hang_up()
        raise
    return wire


def _check_agreement(wire: Wire, pins: Pins) -> None:
    if wire.is_active() and wire.initial_kex_done:
        pins.check(wire.presented)
        if wire.safe_order:
            return
        raise UnreachableError(
            "the host offers neither strict key exchange nor AES-GCM, so its messages could be tampered with",
            changed="Nothing was sent to the host",
            advice="Update its SSH server (OpenSSH 9.6 or later, or a patched one)",
        )
    failure = wire.get_exception()
    what = str(failure)
    if "Signature verification" in what:
        raise pins.unproven()
    if isinstance(failure, paramiko.ssh_exception.IncompatiblePeer):
        if "host key" in what:
            raise pins.mismatch()
        name = next((name for name in ("kex", "ciphers", "macs") if name in what), "version")
        raise UnreachableError(
            f"the host offers no safe SSH algorithms ({name})",
            changed="Nothing was sent to the host",
            advice="Update its SSH server, or its settings KexAlgorithms, Ciphers and MACs in sshd_config",
        )
    raise _broken_off(wire)


def _broken_off(wire: Wire) -> UnreachableError:
    return UnreachableError(
        "the host closed the connection during the key exchange" + _quoted(wire.last_words),
        changed="Nothing was sent to the host",
        advice="Look at its log of sshd; MaxStartups and firewalls do this",
    )


class _Login(AuthHandler):
    """Asks for the login service and logs in at once: a round trip less than waiting for the service.

    The signature covers the session, not the service's answer (RFC 4252 7), so it can go with the question.
    """

    def offer(self, user: str, key: paramiko.PKey, done: threading.Event) -> None:
        """Send both; `done` is set when the host has answered."""
        self.auth_event, self.auth_method = done, "publickey"
        self.username, self.private_key = user, key
        request, accepted = Message(), Message()
        request.add_byte(cMSG_SERVICE_REQUEST)
        request.add_string("ssh-userauth")
        accepted.add_string("ssh-userauth")
        accepted.rewind()
        wire: Any = self.transport
        wire._send_message(request)  # noqa: SLF001 - what AuthHandler itself calls
        super()._parse_service_accept(accepted)  # type: ignore[misc]  # the stubs leave it out

    def _parse_service_accept(self, message: Message) -> None:
        """The host's answer, to which the login was sent already."""


def log_in(wire: Wire, user: str, key: paramiko.PKey, deadline: float) -> None:
    """Offer one key, once.

    Raises:
        AuthFailedError: refused; not to be tried again.
        UnreachableError: the host broke off or did not answer in time.
    """
    try:
        with writes_until(deadline):
            wire.auth_handler = login = _Login(wire)
            _await(wire, lambda done: login.offer(user, key, done), deadline, "the login")
    except FOREIGN_ERRORS:
        if wire.is_active():
            wire.hang_up()
            raise AuthFailedError(
                "the private key could not sign",
                changed="Nothing was run",
                advice="If the SSH agent holds it, see whether it must be confirmed or unlocked there",
            ) from None
    if not wire.is_authenticated():
        refusal = _refusal(wire, user)
        wire.hang_up()
        raise refusal


def _refusal(wire: Wire, user: str) -> UnreachableError:
    failure = wire.get_exception()
    banner = getattr(wire.auth_handler, "banner", None)
    said = (wire.last_words or clean((banner or b"").decode("utf-8", "replace"))[:200]).strip()
    if isinstance(failure, paramiko.ssh_exception.PartialAuthentication):
        what, advice = "the host wants a second proof after the key", "Exempt the account from it"
    elif isinstance(failure, paramiko.BadAuthenticationType):
        what, advice = "the host accepts no keys for login", "Set PubkeyAuthentication yes"
    elif wire.is_active() or wire.last_words:
        what = f"the host refused the key for user {user}"
        advice = "Check its authorized_keys, and its log of sshd"
    else:
        known = reason(said)
        return ChannelError(
            (f"{known.what}: " if known else "") + "the host closed the connection during the login"
            + _quoted(said),
            changed="Nothing was run",
            advice=known.advice if known
            else "Look at its log of sshd; a host that is still booting, or PAM, does this",
        )
    return AuthFailedError(
        what + _quoted(said), changed="Nothing was run, and it was not tried again", advice=advice
    )


def _quoted(words: str) -> str:
    return f", saying {words!r}" if words else ""


def _await(wire: Wire, begin: Callable[[threading.Event], object], deadline: float, what: str) -> None:
    """Begin something, and wait for its event, without polling."""
    done = threading.Event()
    begin(done)
    if not done.wait(max(0.0, deadline - time.monotonic())):
        wire.hang_up()
        raise UnreachableError(
            f"the host did not finish {what} in time",
            changed="Nothing was run",
            advice="It may be overloaded or frozen; look at its console",
        )
