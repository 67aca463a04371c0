"""One command over an established connection: its input, both its outputs, its end, and a deadline.

A single loop feeds and drains, so neither a flood on one stream nor input that is not read can make it wait
for something that will not come. It is woken by events only.
"""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass

from paramiko.channel import Channel

from lamplighter.errors import OutputTooLargeError, SessionLostError, SudoRefusedError, TimedOutError
from lamplighter.secrets import Secret
from lamplighter.transports.ssh_wire import FOREIGN_ERRORS, Wire, writes_until
from lamplighter.transports.text import last_line

BEGUN = b"lamplighter-begun\n"
"""What a command run by sudo prints first on its standard error: whatever came before is sudo's."""
ASK = b"lamplighter-asks:"
"""The prompt sudo is told to use, on standard error: it wants the password on standard input."""

_PIECE = 256 * 1024
_LINGER = 0.5
_UNKNOWN = "The command may still be running on the host"


@dataclass(frozen=True, slots=True)
class Raw:
    """A command's exit code and what it printed, byte for byte."""

    code: int
    out: bytes
    err: bytes


@dataclass(frozen=True, slots=True)
class Order:
    """What to carry out.

    Attributes:
        command: for the account's login shell.
        stdin: all of the command's standard input.
        timeout: what was asked for, in seconds, for messages.
        deadline: monotonic seconds.
        cap: bytes allowed on each stream.
        sudo: the command prints `BEGUN` once sudo let it.
        password: sudo's; input is then held back until `BEGUN`.
    """

    command: str
    stdin: bytes
    timeout: float
    deadline: float
    cap: int
    sudo: bool = False
    password: Secret | None = None


def carry_out(wire: Wire, order: Order) -> Raw:
    """Run a command to its end.

    Raises:
        SessionLostError: the connection broke.
        TimedOutError: the deadline passed.
        OutputTooLargeError: a stream exceeded the cap.
        SudoRefusedError: sudo did not start it.
    """
    with writes_until(order.deadline):
        channel = _open(wire, order)
        try:
            wire.request_exec(channel, order.command)
            return _Exchange(channel, order).run()
        except FOREIGN_ERRORS:
            raise _lost(order) from None
        finally:
            with contextlib.suppress(*FOREIGN_ERRORS):
                channel.close()


def _open(wire: Wire, order: Order) -> Channel:
    try:
        return wire.open_session(timeout=max(0.001, order.deadline - time.monotonic()))
    except FOREIGN_ERRORS:
        changed = "The command was not sent"
        if time.monotonic() >= order.deadline:
            raise TimedOutError(
                f"the host did not answer within {order.timeout:g} s",
                changed=changed,
                advice="It may be frozen or cut off; look at its console",
            ) from None
        raise SessionLostError(
            "the connection is gone, or the host allows no more sessions on it",
            changed=changed,
            advice="Connect again; if it persists, look at MaxSessions in its sshd_config",
        ) from None


class _Wake:
    """Sets a channel's event when a stream has something; the loop alone clears it."""

    def __init__(self, event: threading.Event) -> None:
        self.set = event.set

    def clear(self) -> None:
        """Nothing: another stream may still have something."""


class _Exchange:
    """The state of one command: what was sent, what came back."""

    def __init__(self, channel: Channel, order: Order) -> None:
        self._channel = channel
        self._order = order
        self._out = bytearray()
        self._err = bytearray()
        self._begun = not order.sudo
        self._asked = False
        # With a password, input waits until sudo has taken it: sudo may not ask at all, and asks again
        # after a wrong one, and must then get neither the password nor the script as something else.
        self._held = order.password is not None
        self._stdin = memoryview(b"" if self._held else order.stdin)

    def run(self) -> Raw:
        channel, deadline = self._channel, self._order.deadline
        wake = _Wake(channel.event)
        channel.in_buffer.set_event(wake)  # type: ignore[arg-type]  # only set and clear are used
        channel.in_stderr_buffer.set_event(wake)  # type: ignore[arg-type]  # only set and clear are used
        linger = deadline
        while True:
            channel.event.clear()
            moved = self._send() | self._receive()
            now = time.monotonic()
            if channel.status_event.is_set():
                linger = min(linger, now + _LINGER)
                if not moved and (channel.closed or channel.eof_received or now >= linger):
                    return self._ended()
            if now >= deadline:
                raise _timed_out(self._order)
            if not moved:
                channel.event.wait(min(linger, deadline) - now)

    def _send(self) -> bool:
        """Send what the window allows; after the last byte of input, its end."""
        channel, moved = self._channel, False
        while self._stdin and not channel.closed and channel.send_ready():
            try:
                sent = channel.send(bytes(self._stdin[:_PIECE]))
            except OSError:
                if not self._channel.closed:
                    raise
                sent = 0  # the command ended without reading all of its input
            if not sent:
                break
            self._stdin = self._stdin[sent:]
            moved = True
        if not self._stdin and not self._held and not channel.eof_sent and not channel.closed:
            channel.shutdown_write()
        return moved

    def _receive(self) -> bool:
        channel, moved = self._channel, False
        if channel.recv_ready():
            self._out += channel.recv(_PIECE)
            moved = True
        if channel.recv_stderr_ready():
            self._err += channel.recv_stderr(_PIECE)
            moved = True
            if not self._begun:
                self._hear_sudo()
        if max(len(self._out), len(self._err)) > self._order.cap:
            raise OutputTooLargeError(
                f"the command printed more than {self._order.cap} bytes; the rest was not read",
                changed=_UNKNOWN,
                advice="Look on the host at what it printed",
            )
        return moved

    def _hear_sudo(self) -> None:
        """Follow sudo's part of standard error: its prompt, then `BEGUN`."""
        before, begun, after = self._err.partition(BEGUN)
        if begun:
            self._begun = True
            self._err = after
            if self._held:
                self._held = False
                self._stdin = memoryview(bytes(self._stdin) + self._order.stdin)
        elif ASK in before and self._order.password is not None:
            if self._asked:
                raise sudo_refused("the sudo password is wrong", "It was offered once and not tried again")
            self._asked = True
            self._err = bytearray(before.rpartition(ASK)[2])
            self._stdin = memoryview(self._order.password.reveal().encode() + b"\n")

    def _ended(self) -> Raw:
        code = self._channel.exit_status
        if code < 0:
            raise _lost(self._order)
        if not self._begun:
            raise sudo_refused(
                f"sudo did not run the command: {last_line(self._err) or f'exit code {code}'}",
                "Allow the account in sudoers, and set lamplighter_sudo_password if sudo asks for one",
            )
        return Raw(code, bytes(self._out), bytes(self._err))


def sudo_refused(message: str, advice: str) -> SudoRefusedError:
    """Sudo's answer was no."""
    return SudoRefusedError(message, changed="Nothing was changed", advice=advice)


def _lost(order: Order) -> SessionLostError:
    if time.monotonic() >= order.deadline:
        return _timed_out(order)
    return SessionLostError(
        "the connection broke before the command ended",
        changed=_UNKNOWN,
        advice="What the host did since is not known; look before it is tried again",
    )


def _timed_out(order: Order) -> TimedOutError:
    return TimedOutError(
        f"the command did not end within {order.timeout:g} s",
        changed=_UNKNOWN,
        advice="Look on the host before it is tried again",
    )
