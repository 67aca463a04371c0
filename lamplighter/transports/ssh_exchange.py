"""One script over an established connection: the conversation `shell` describes, with a deadline.

The first channel of a connection proves it, for the account and for root each: the text of the script is held
back until both streams have answered with our word. So whatever a host does with a login, nothing of ours has
run before it is known to be run by a shell whose answer comes back; and "nothing was run" is known, not
believed. On a proved connection the text goes along at once, which saves a round trip.

A single loop feeds and drains, so neither a flood on one stream nor input that is not read can make it wait
for something that will not come. It is woken by events only.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from dataclasses import dataclass, field

from paramiko.channel import Channel

from lamplighter.errors import LamplighterError, OutputTooLargeError, SessionLostError
from lamplighter.secrets import Secret
from lamplighter.transports import ssh_refusals as refusals
from lamplighter.transports.shell import BEGINS, FIRST, UNREAD, login_command
from lamplighter.transports.ssh_answer import Stream, asked
from lamplighter.transports.ssh_wire import FOREIGN_ERRORS, Wire, writes_until

_PIECE = 256 * 1024
_LINGER = 0.5
"""Seconds for the channel to close after the answer: the next one may need its place (MaxSessions)."""
_PATIENCE = 5.0
"""Seconds in which the second stream, or the answer to our first line, must follow what came already."""
_TAKEN = "something in the login reads what is sent to our command"
_MOST_FRONT = 256 * 1024
"""Bytes a login may print in front of the answer."""


@dataclass(frozen=True, slots=True)
class Raw:
    """A script's exit code and what it printed, byte for byte: all of it, and nothing else."""

    code: int
    out: bytes
    err: bytes


def new_word() -> bytes:
    """What the marks of one conversation begin with: nobody can guess it."""
    return b"lamplighter-%s" % secrets.token_hex(16).encode()


@dataclass(frozen=True, slots=True)
class Order:
    """What to carry out.

    Attributes:
        text: for the loader; see `shell.answered`.
        timeout: what was asked for, in seconds, for messages.
        deadline: monotonic seconds.
        cap: bytes allowed on each stream.
        user: the account that logs in.
        sudo: run it as root.
        password: sudo's.
        word: what this conversation's marks begin with.
    """

    text: bytes
    timeout: float
    deadline: float
    cap: int
    user: str = ""
    sudo: bool = False
    password: Secret | None = None
    word: bytes = field(default_factory=new_word)


def carry_out(wire: Wire, order: Order) -> Raw:
    """Run a script to its end.

    Raises:
        ChannelError: the login gives no shell whose answers come back; nothing was run.
        SudoRefusedError: sudo did not let us; nothing was run.
        SessionLostError: the connection broke, or the answer is not whole.
        TimedOutError: the deadline passed.
        OutputTooLargeError: a stream exceeded the cap.
    """
    with writes_until(order.deadline):
        channel = _open(wire, order)
        exchange = _Exchange(wire, channel, order)
        try:
            command = login_command(sudo=order.sudo, password=order.password is not None)
            wire.request_exec(channel, command)
            return exchange.run()
        except FOREIGN_ERRORS:
            raise exchange.broken() from None
        finally:
            with contextlib.suppress(*FOREIGN_ERRORS):
                channel.close()


def _open(wire: Wire, order: Order) -> Channel:
    """A channel; where the host allows few at a time, the one before may need a moment to end."""
    until = min(order.deadline, time.monotonic() + _PATIENCE)
    while True:
        try:
            return wire.open_session(timeout=max(0.001, order.deadline - time.monotonic()))
        except FOREIGN_ERRORS as error:
            if time.monotonic() >= order.deadline:
                raise refusals.no_answer(order.timeout) from None
            if not wire.is_active():
                raise refusals.gone() from None
            if time.monotonic() >= until:
                raise refusals.no_channel(error) from None
        time.sleep(0.1)


class _Wake:
    """Sets a channel's event when a stream has something; the loop alone clears it."""

    def __init__(self, event: threading.Event) -> None:
        self.set = event.set

    def clear(self) -> None:
        """Nothing: another stream may still have something."""


class _Exchange:
    """The state of one conversation: what was sent, what came back."""

    def __init__(self, wire: Wire, channel: Channel, order: Order) -> None:
        self._wire, self._channel, self._order = wire, channel, order
        self._out, self._err = Stream(order.word), Stream(order.word)
        self._stdin = memoryview(b"")
        self._greeted = False  # our first line was sent
        self._told = False  # the text was sent
        self._password_sent = False
        self._proved = False  # both streams answered with our word
        self._impatient = float("inf")  # when what should have followed will not come any more
        if order.password is None:
            self._greet()

    def run(self) -> Raw:
        channel, deadline = self._channel, self._order.deadline
        wake = _Wake(channel.event)
        channel.in_buffer.set_event(wake)  # type: ignore[arg-type]  # only set and clear are used
        channel.in_stderr_buffer.set_event(wake)  # type: ignore[arg-type]  # only set and clear are used
        linger = deadline
        while True:
            channel.event.clear()
            closed = channel.closed or channel.eof_received
            moved = self._send() | self._receive()
            now = time.monotonic()
            if self._out.code is not None and self._out.code == self._err.code:
                linger = min(linger, now + _LINGER)
                if channel.closed or now >= linger:
                    return Raw(self._out.code, bytes(self._out.data), bytes(self._err.data))
            elif not moved and (self._out.cut or self._err.cut):
                raise refusals.cut()
            elif not moved and closed:
                if channel.closed or channel.status_event.is_set() or now >= linger:
                    raise self._unfinished()
                linger = min(linger, now + _LINGER)  # the exit code may follow the end of data
            if now >= deadline:
                raise self._timed_out()
            if now >= self._impatient:
                raise self._unanswered()
            if not moved:
                channel.event.wait(min(linger, deadline, self._impatient) - now)

    # what is sent

    def _greet(self) -> None:
        """Send our first line; on a proved connection the text along with it."""
        self._greeted = True
        self._put(b"%s %d\n%s" % (self._order.word, len(self._order.text), FIRST))
        if self._order.sudo in self._wire.proved:
            self._tell()

    def _tell(self) -> None:
        self._told = True
        self._put(self._order.text.removeprefix(FIRST))

    def _put(self, data: bytes) -> None:
        self._stdin = memoryview(bytes(self._stdin) + data)

    def _send(self) -> bool:
        """Send what the window allows; after the last byte of the text, its end."""
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
        if not self._stdin and self._told and not channel.eof_sent and not channel.closed:
            channel.shutdown_write()
        return moved

    # what comes back

    def _receive(self) -> bool:
        channel, moved = self._channel, False
        if channel.recv_ready():
            self._out.feed(channel.recv(_PIECE))
            moved = True
        if channel.recv_stderr_ready():
            self._err.feed(channel.recv_stderr(_PIECE))
            moved = True
        if moved:
            self._check_size()
            if not self._proved:
                self._listen()
        return moved

    def _check_size(self) -> None:
        for stream in (self._out, self._err):
            if not stream.begun:
                if len(stream.data) > _MOST_FRONT and not self._told:
                    raise self._refuse("the login shell prints without end")
                continue
            mark = 0 if stream.code is not None else 64  # a mark may have come in part
            if len(stream.data) > self._order.cap + mark:
                raise OutputTooLargeError(
                    f"the command printed more than {self._order.cap} bytes; the rest was not read",
                    changed=refusals.UNKNOWN,
                    advice="Look on the host at what it printed",
                )

    def _listen(self) -> None:
        """Follow what comes before the answer: sudo's prompt, the loader's greeting, our word."""
        order, out, err = self._order, self._out, self._err
        if order.password is not None and not self._greeted:
            if BEGINS in err.outside:
                self._greet()
            else:
                self._answer_sudo(order.password)
        if out.begun and err.begun:
            self._proved = True
            self._wire.proved.add(order.sudo)
            self._impatient = float("inf")
            if not self._told:
                self._tell()
        elif self._greeted and not self._told:
            if at_once := _mixed(out, err, order.word):
                raise self._refuse(at_once)
            if out.begun or err.begun or any(mark in err.outside for mark in (BEGINS, order.word)):
                self._impatient = min(self._impatient, time.monotonic() + _PATIENCE)

    def _answer_sudo(self, password: Secret) -> None:
        """The password goes to sudo's own prompt, once; see `shell.PROMPT`."""
        names = asked(self._err.outside)
        other = next((name for name in names if not _same(name, self._order.user)), None)
        if other is not None:
            raise refusals.another_password(other)
        if len(names) > 1:
            raise refusals.asked_twice(self._quoted)
        if names and not self._password_sent:
            self._password_sent = True
            self._put(password.reveal().encode() + b"\n")
        last = self._err.outside.rpartition(b"\n")[2]
        # A line that does not end is a question. Whose it is and what it wants is not known.
        waits = bool(last.strip()) and not names
        self._impatient = time.monotonic() + _PATIENCE if waits else float("inf")

    # how it ends

    @property
    def _quoted(self) -> tuple[bytes, bytes, str]:
        password = self._order.password
        secret = password.reveal() if password is not None else ""
        return self._out.outside, self._err.outside, secret

    @property
    def _exit(self) -> str:
        code = self._channel.exit_status
        return f"exit code {code}" if code >= 0 else "no exit code"

    def _refuse(self, what: str = "") -> LamplighterError:
        """Nothing of ours was sent: whose refusal is it, the login's or sudo's?"""
        quoted = self._quoted
        sudo = self._order.sudo and not what and BEGINS not in self._err.outside
        if sudo and (refusals.is_sudo(*quoted) or False in self._wire.proved):
            return refusals.sudo(*quoted, self._exit)
        return refusals.channel(*quoted, self._exit, what)

    def _unanswered(self) -> LamplighterError:
        """Something came, and what belongs to it did not."""
        if not self._greeted:
            return refusals.another_question(self._quoted)
        return self._refuse(self._why() or _TAKEN)

    def _why(self) -> str:
        """What is wrong with the channel, as far as it shows."""
        why = _why_unproved(self._out, self._err, self._order.word)
        return why or (_TAKEN if self._greeted and self._channel.exit_status == UNREAD else "")

    def _unfinished(self) -> LamplighterError:
        """The channel ended, and the answer did not."""
        if not self._wire.is_active():
            return self.broken()
        if self._channel.exit_status < 0 and self._wire.refused_exec(self._channel):
            return refusals.no_exec(*self._quoted)
        if not self._told:
            return self._refuse(self._why())
        if self._proved:
            return refusals.no_end(self._exit)
        return refusals.no_beginning(*self._quoted, self._exit)

    def _timed_out(self) -> LamplighterError:
        if self._told:
            return refusals.timed_out(self._order.timeout)
        return refusals.not_begun(*self._quoted, self._order.timeout, sudo=self._order.sudo)

    def broken(self) -> LamplighterError:
        """The connection broke."""
        if time.monotonic() >= self._order.deadline:
            return self._timed_out()
        return SessionLostError(
            "the connection broke before the command ended",
            changed=refusals.UNKNOWN if self._told else refusals.NOT_RUN,
            advice="What the host did since is not known; look before it is tried again",
        )


def _same(name: str, user: str) -> bool:
    """Whether sudo means the account that logged in; a directory writes its names in several ways."""
    return _bare(name) == _bare(user)


def _bare(name: str) -> str:
    return name.casefold().rpartition("\\")[2].partition("@")[0]


def _mixed(out: Stream, err: Stream, word: bytes) -> str:
    """What is wrong with a channel on which our word came, and not as it was said."""
    if word + b"\r" in out.outside:
        return "a terminal stands between (a forced one, or a recorder)"
    if out.begun and word in out.data and not err.begun:
        return "standard error arrives as standard output"
    if err.begun and word in err.data and not out.begun:
        return "standard output arrives as standard error"
    return ""


def _why_unproved(out: Stream, err: Stream, word: bytes) -> str:
    """What is wrong with a channel that ended, or fell silent, before both streams answered with our word."""
    if mixed := _mixed(out, err, word):
        return mixed
    if word in err.outside + out.outside:
        return "another shell, which the account's profile starts, reads what is sent to ours"
    if out.begun != err.begun:
        return f"standard {'error' if out.begun else 'output'} does not arrive"
    return ""
