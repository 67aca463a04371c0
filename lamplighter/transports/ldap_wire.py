"""One encrypted connection to a directory server: questions out, answers in, within a deadline and a cap.

ldap3 writes the requests. Its connection class is not used: by default it follows referrals with the password
in hand, trusts any certificate, waits for ever, and logs what it sends. Here nothing is followed, nothing is
logged, the certificate and its name are checked by OpenSSL against the pinned CA alone, and every wait ends.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

from ldap3.operation.extended import extended_operation
from ldap3.protocol.convert import build_controls_list
from ldap3.protocol.rfc4511 import LDAPMessage, MessageID, ProtocolOp
from ldap3.utils.asn1 import encode

from lamplighter.errors import (
    CertificateError,
    MalformedError,
    OutputTooLargeError,
    SessionLostError,
    TimedOutError,
    UnreachableError,
)
from lamplighter.transports import ldap_ber as ber
from lamplighter.transports.ldap_errors import said
from lamplighter.transports.ldap_settings import LdapServer, LdapSettings, Security
from lamplighter.transports.ssh_dial import dial

MAX_ANSWER = 16 * 1024 * 1024
"""Octets one request may be answered with."""
MAX_MESSAGES = 20_000
"""Messages one request may be answered with: a page of a search has 500 entries."""

_STARTTLS = "1.3.6.1.4.1.1466.20037"  # RFC 4511 4.14
_UNSENT = "No password was sent to the server"
_PIECE = 64 * 1024
_MAX_ID = 2**31 - 1

Control = tuple[str, bool, bytes | None]
"""OID, criticality, value (RFC 4511 4.1.11)."""


class Wire:
    """A connection. One request at a time; a lock sees to that.

    Once an answer did not come as it should, the connection is dead: nothing is sent on it again.

    Attributes:
        server: the other end.
    """

    def __init__(self, link: socket.socket, server: LdapServer) -> None:
        self.server = server
        self._link = link
        self._buffer = bytearray()
        self._lock = threading.Lock()
        self._last_id = 0
        self._alive = True

    @property
    def certificate(self) -> bytes:
        """The server's certificate, DER."""
        peer = self._link.getpeercert(binary_form=True) if isinstance(self._link, ssl.SSLSocket) else None
        return peer or b""

    def ask(
        self, kind: str, request: Any, deadline: float, controls: Sequence[Control] = ()
    ) -> Iterator[ber.Message]:
        """Send a request once and give its answers, the last of which is a result.

        Args:
            kind: name of the operation in RFC 4511, `bindRequest`.
            request: made by ldap3.
            deadline: monotonic seconds.
            controls: to go with it.

        Raises:
            SessionLostError: the connection broke or the answer is no LDAP; whether the request was carried
                out is not known.
            TimedOutError: the deadline passed; as above.
            OutputTooLargeError: the answers are too long.
        """
        with self._lock:
            if not self._alive:
                raise SessionLostError("the connection was lost before", changed="Nothing was sent")
            self._alive = False  # until the last answer is in
            try:
                self._send(kind, request, deadline, controls)
                yield from self._answers(deadline)
            except TimeoutError:
                raise TimedOutError(
                    "the directory did not answer in time",
                    changed="Whether it carried the request out is not known",
                ) from None
            except (OSError, MalformedError) as error:
                raise SessionLostError(
                    f"the connection to the directory broke ({_reason(error)})",
                    changed="Whether it carried the request out is not known",
                ) from None
            finally:
                if not self._alive:
                    self.hang_up()

    def result(
        self, kind: str, request: Any, deadline: float, controls: Sequence[Control] = ()
    ) -> ber.Result:
        """Send a request that has one answer, and give it; see `ask`."""
        *_, last = self.ask(kind, request, deadline, controls)
        try:
            return ber.read_result(last)
        except MalformedError as error:
            self.hang_up()
            raise SessionLostError(f"the directory's answer cannot be read ({error.message})") from None

    def idle(self) -> bool:
        """Whether the connection can be used again: alive, and nothing came unasked, not even its end."""
        if not self._alive or self._buffer:
            return False
        try:
            return not select.select([self._link], [], [], 0)[0]
        except (OSError, ValueError):
            return False

    def hang_up(self) -> None:
        """End the connection at once; never raises."""
        self._alive = False
        with contextlib.suppress(OSError):
            self._link.close()

    def start_tls(self, context: ssl.SSLContext, deadline: float) -> None:
        """Ask for encryption (RFC 4511 4.14) and begin it; nothing else was sent before."""
        try:
            result = self.result("extendedReq", extended_operation(_STARTTLS), deadline)
        except (SessionLostError, OutputTooLargeError) as error:
            raise UnreachableError(f"StartTLS was not answered: {error.message}", changed=_UNSENT) from None
        if result.code != 0 or self._buffer:  # what came in clear behind the answer could be anybody's
            self.hang_up()
            raise UnreachableError(
                f"the server refuses StartTLS{said(result)}",
                changed=_UNSENT,
                advice="Use LDAPS, or give the server a certificate",
            )
        self._link = encrypt(self._link, self.server, context, deadline)

    def _send(self, kind: str, request: Any, deadline: float, controls: Sequence[Control]) -> None:
        self._last_id = self._last_id % _MAX_ID + 1
        message = LDAPMessage()
        message["messageID"] = MessageID(self._last_id)
        message["protocolOp"] = ProtocolOp().setComponentByName(kind, request)
        if controls:
            message["controls"] = build_controls_list(list(controls))
        self._link.settimeout(_left(deadline))
        self._link.sendall(encode(message))

    def _answers(self, deadline: float) -> Iterator[ber.Message]:
        room = MAX_ANSWER
        for _ in range(MAX_MESSAGES):
            frame = self._frame(deadline, room)
            room -= len(frame)
            message = ber.read_message(frame)
            if message.id != self._last_id:
                what = "the server ends the session" if message.id == 0 else "an answer to nothing was sent"
                raise MalformedError(what)
            if message.kind == ber.INTERMEDIATE_RESPONSE:
                continue
            last = message.kind not in {ber.SEARCH_ENTRY, ber.SEARCH_REFERENCE}
            self._alive = last
            yield message
            if last:
                return
        raise OutputTooLargeError(f"the directory answers with more than {MAX_MESSAGES} messages")

    def _frame(self, deadline: float, room: int) -> bytes:
        while True:
            size = ber.frame_size(self._buffer)
            if size is not None and size > room:
                raise OutputTooLargeError(f"the directory's answer is longer than {MAX_ANSWER} bytes")
            if size is not None and len(self._buffer) >= size:
                frame = bytes(self._buffer[:size])
                del self._buffer[:size]
                return frame
            self._link.settimeout(_left(deadline))
            piece = self._link.recv(_PIECE)
            if not piece:
                raise ConnectionError
            self._buffer += piece


def open_wire(server: LdapServer, settings: LdapSettings, deadline: float) -> Wire:
    """Connect and encrypt.

    Raises:
        UnreachableError: no connection, or no encryption.
        CertificateError: the server did not prove to be who it should be.
    """
    context = make_context(settings)
    port = server.port or settings.security.port
    try:
        link = dial(server.address, port, deadline)
    except UnreachableError as error:
        error.advice = "Check the directory server, its address and port, and that no firewall is between"
        raise
    if settings.security is Security.LDAPS:
        return Wire(encrypt(link, server, context, deadline), server)
    wire = Wire(link, server)
    wire.start_tls(context, deadline)
    return wire


def make_context(settings: LdapSettings) -> ssl.SSLContext:
    """TLS 1.2 or later, certificate required, name required, no CA but the pinned ones.

    Raises:
        UnreachableError: the CA file cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_mode = ssl.CERT_REQUIRED
    context.check_hostname = True
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(cafile=str(settings.ca))
    except (OSError, ValueError) as error:
        raise UnreachableError(
            f"the CA file {settings.ca} cannot be used ({_reason(error)})",
            changed="Nothing was sent to the directory",
            advice="Put the directory's CA certificate there, in PEM",
        ) from None
    return context


def encrypt(
    link: socket.socket, server: LdapServer, context: ssl.SSLContext, deadline: float
) -> ssl.SSLSocket:
    """Begin TLS on a connection, and check who is at the other end; closes the connection otherwise."""
    try:
        link.settimeout(_left(deadline))
        return context.wrap_socket(link, server_hostname=server.certified)
    except ssl.SSLCertVerificationError as error:
        link.close()
        raise CertificateError(
            f"{server.address} did not prove to be {server.certified}: {error.verify_message}",
            changed=_UNSENT,
            advice="Compare the certificate with the directory's administrators before you change the CA",
        ) from None
    except (OSError, ValueError) as error:
        link.close()
        raise UnreachableError(
            f"TLS with {server.address} failed ({_reason(error)})",
            changed=_UNSENT,
            advice="Check the port (636 for LDAPS, 389 for StartTLS), and that it speaks TLS 1.2 or later",
        ) from None


def _left(deadline: float) -> float:
    """Seconds; none left is an error, for data that is always there would otherwise be read for ever."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _reason(error: Exception) -> str:
    """What foreign errors say that cannot quote a peer."""
    if isinstance(error, MalformedError):
        return error.message
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLError):
        return (error.reason or "TLS error").lower().replace("_", " ")
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return "closed by the server" if isinstance(error, ConnectionError) else type(error).__name__
