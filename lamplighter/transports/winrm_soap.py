"""A remote shell over WS-Management ([MS-WSMV]): pywinrm writes and reads the envelopes.

Nobody here can test against Windows, and pywinrm's envelopes are proved there daily, so they are used as they
are. Everything below and around them is ours: the connection (`winrm_http`), the login (`winrm_auth`), the
deadlines, and what an envelope may be. A SOAP message holds no DTD (SOAP 1.2 part 1, 5), so one that does is
refused before any parser sees it, and no entity can be expanded.
"""

from __future__ import annotations

import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar
from xml.parsers import expat

from winrm.exceptions import WinRMError, WinRMOperationTimeoutError, WinRMTransportError, WSManFaultError
from winrm.protocol import Protocol as Envelopes

from lamplighter.errors import (
    AuthFailedError,
    LamplighterError,
    RemoteFailedError,
    SessionLostError,
    TransportError,
)
from lamplighter.transports.text import clean
from lamplighter.transports.winrm_auth import Login, refused
from lamplighter.transports.winrm_http import HttpLink
from lamplighter.transports.winrm_settings import WinRmSettings

UTF8 = 65001
IDLE_TIMEOUT = "PT900S"
"""When the host ends a shell that nobody asks about any more, such as a killed worker's."""
GRACE = 5.0
"""Seconds a host may be late with an answer it promised for the end of an operation timeout."""
ACCESS_DENIED = 5
NO_SHELL = 2150858843
"""ERROR_WSMAN_UNEXPECTED_SELECTORS: no such shell, or no such command in it."""

_DEPTH = 64
_ENVELOPE = "http://www.w3.org/2003/05/soap-envelope Envelope"
_STDIN_PIECE = 64 * 1024
_T = TypeVar("_T")
# What pywinrm raises on an answer that is none.
_NOT_WINRM = (
    WinRMError, WinRMTransportError, ET.ParseError, StopIteration, AssertionError,
    ValueError, KeyError, TypeError, AttributeError,
)


class Fault(SessionLostError):  # noqa: N818 - SOAP's word; it never leaves the transport
    """The host answered with a SOAP fault.

    Attributes:
        code: of the WSManFault, 0 without one.
    """

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Piece:
    """What a command printed since the last question.

    Attributes:
        out, err: bytes of its two streams.
        code: its exit code once it ended, None before.
    """

    out: bytes
    err: bytes
    code: int | None


class Channel:
    """An authenticated connection; made anew when it went idle, never in the middle of a question.

    Args:
        settings: where to connect and as whom.
        new_login: gives a login for a new connection.
    """

    def __init__(self, settings: WinRmSettings, new_login: Callable[[], Login]) -> None:
        self._settings = settings
        self._new_login = new_login
        self._link = HttpLink(settings)
        self._login: Login | None = None

    def attach(self, deadline: float) -> Login:
        """Make sure there is an authenticated connection."""
        if self._login is None or not self._link.usable:
            self._link.open(deadline)
            self._login = self._new_login()
            try:
                self._login.log_in(self._link, deadline)
            except BaseException:
                self.close()
                raise
        return self._login

    def ask(self, message: bytes, deadline: float) -> tuple[int, bytes]:
        """Send an envelope; returns the HTTP status and the envelope that came back."""
        login = self.attach(deadline)
        headers, body = login.wrap(message)
        reply = self._link.post(body, headers, deadline)
        if reply.status == 401:  # noqa: PLR2004 - RFC 9110 15.5.2
            self.close()
            raise refused(reply, self._settings)
        if reply.status not in {200, 500}:
            self.close()
            raise SessionLostError(
                f"the host answered {self._settings} with HTTP status {reply.status}",
                advice="Check ansible_winrm_path, and `winrm get winrm/config/service` on the host",
            )
        return reply.status, login.unwrap(reply)

    def close(self) -> None:
        """End the connection; never raises."""
        self._link.close()
        self._login = None


class Shell:
    """A `cmd` shell on the host, and the commands in it.

    Args:
        channel: the way to the host.
        operation_timeout: seconds the host may hold back an answer.
    """

    def __init__(self, channel: Channel, operation_timeout: float) -> None:
        self._channel = channel
        self._patience = operation_timeout
        # pywinrm insists on building a transport of its own; it never connects, and ours takes its place.
        self._envelopes = Envelopes("http://unused.invalid/wsman", "basic", username="unused", password="")
        self._envelopes.transport = self  # type: ignore[assignment]  # `send_message` is all it calls
        self._deadline = 0.0
        self._id = ""

    @property
    def is_open(self) -> bool:
        """Whether the host holds a shell for us, as far as we know."""
        return bool(self._id)

    def open(self, deadline: float) -> None:
        """Create the shell."""
        self._id = self._ask(
            deadline, lambda: self._envelopes.open_shell(codepage=UTF8, idle_timeout=IDLE_TIMEOUT)
        )

    def start(self, command: str, args: tuple[str, ...], deadline: float) -> str:
        """Start a command whose standard input is a pipe; returns its id."""
        return self._ask(
            deadline, lambda: self._envelopes.run_command(self._id, command, args, console_mode_stdin=False)
        )

    def feed(self, command: str, data: bytes, deadline: float) -> None:
        """Send all of a command's standard input, and its end."""
        pieces = [data[at:at + _STDIN_PIECE] for at in range(0, len(data), _STDIN_PIECE)] or [b""]
        for number, piece in enumerate(pieces, 1):
            end = number == len(pieces)
            self._ask(
                deadline, lambda: self._envelopes.send_command_input(self._id, command, piece, end=end)  # noqa: B023
            )

    def receive(self, command: str, deadline: float) -> Piece | None:
        """Ask what a command printed; None when it printed nothing within the operation timeout."""
        try:
            out, err, code, done = self._ask(
                deadline, lambda: self._envelopes.get_command_output_raw(self._id, command)
            )
        except WinRMOperationTimeoutError:
            return None
        return Piece(out, err, code if done else None)

    def terminate(self, command: str, deadline: float) -> None:
        """End a command, and let the host forget it."""
        self._ask(deadline, lambda: self._envelopes.cleanup_command(self._id, command))

    def close(self, deadline: float) -> None:
        """Delete the shell, which ends every command in it."""
        shell, self._id = self._id, ""
        if shell:
            self._ask(deadline, lambda: self._envelopes.close_shell(shell, close_session=False))

    def _ask(self, deadline: float, question: Callable[[], _T]) -> _T:
        """Let pywinrm put a question and read the answer; translates what it raises."""
        left = max(0.0, deadline - time.monotonic())
        self._envelopes.operation_timeout_sec = max(1, int(min(left, self._patience)))
        self._deadline = min(deadline, time.monotonic() + self._envelopes.operation_timeout_sec) + GRACE
        try:
            return question()
        except (LamplighterError, WinRMOperationTimeoutError):
            raise
        except WSManFaultError as fault:
            code = fault.wsman_fault_code or 0
            reason = clean(str(fault.reason)).strip()[:300]
            raise Fault(f"the host answered: {reason} (code {code})", code) from None
        except _NOT_WINRM:
            raise SessionLostError(
                "the host's answer is no WinRM answer", advice="Look at what listens on its port"
            ) from None

    # --- what pywinrm needs of a transport ---

    def send_message(self, message: str | bytes) -> bytes:
        """Exchange one envelope for another; a fault becomes the error that pywinrm reads it from."""
        data = message.encode() if isinstance(message, str) else message
        status, answer = self._channel.ask(data, self._deadline)
        _check(answer)
        if status != 200:  # noqa: PLR2004 - SOAP 1.2 part 2, 7.5.2.2: faults come with 500
            raise WinRMTransportError("http", status, answer.decode())
        return answer


def unopened(fault: Fault, settings: WinRmSettings) -> TransportError:
    """The error for a shell the host did not create."""
    if fault.code == ACCESS_DENIED:
        return AuthFailedError(
            f"the host knows the account {settings.user}, but does not let it in",
            changed="No command was sent",
            advice="Add it to the host's group Remote Management Users",
        )
    return RemoteFailedError(
        f"the host opened no shell: {fault.message}",
        changed="No command was sent",
        advice="Look at `winrm get winrm/config/winrs` on the host: AllowRemoteShellAccess and its limits",
    )


def _check(envelope: bytes) -> None:
    """Refuse what no parser should see: other things than envelopes, a DTD, nesting without end.

    Raises:
        SessionLostError: it is none.
    """
    parser = expat.ParserCreate(namespace_separator=" ")
    depth = 0

    def enter(name: str, _attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > _DEPTH or (depth == 1 and name != _ENVELOPE):
            raise ValueError

    def leave(_name: str) -> None:
        nonlocal depth
        depth -= 1

    def dtd(*_: object) -> None:
        raise ValueError

    parser.StartElementHandler, parser.EndElementHandler = enter, leave
    parser.StartDoctypeDeclHandler = dtd
    try:
        parser.Parse(envelope, True)
    except (expat.ExpatError, ValueError):
        raise SessionLostError(
            "the host's answer is no SOAP envelope, or one built to do harm",
            advice="Look at what listens on its port",
        ) from None
