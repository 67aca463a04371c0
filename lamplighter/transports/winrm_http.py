"""HTTP for WinRM, and no more HTTP than that: one connection, POST, one answer.

What a general client does on its own is left out rather than switched off. There is no redirect to follow, no
proxy, certificate bundle or `.netrc` taken from the environment, no cookie, no retry, no decompression. Every
wait ends at a deadline and every answer at a cap. The standard library's parser reads the answer.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import select
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

from lamplighter.errors import (
    CertificateError,
    OutputTooLargeError,
    SessionLostError,
    TimedOutError,
    UnreachableError,
)
from lamplighter.transports.ssh_dial import dial
from lamplighter.transports.text import clean
from lamplighter.transports.winrm_settings import WinRmSettings

MAX_ENVELOPE = 153_600
"""The largest answer pywinrm asks for: `MaxEnvelopeSize` (DSP0226 6.2)."""
MAX_REPLY = 4 * MAX_ENVELOPE
"""The largest answer read: sealing and line breaks add to an envelope, but never this much."""

_PIECE = 16 * 1024
_UNSENT = "Nothing was sent to the host"


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP answer."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


class HttpLink:
    """One connection to a host; made by `open`, and gone after the first thing that goes wrong.

    Args:
        settings: where to connect, and whom to trust.
    """

    def __init__(self, settings: WinRmSettings) -> None:
        self._settings = settings
        self._pipe: _Pipe | None = None

    def open(self, deadline: float) -> None:
        """Connect, over TLS if so set.

        Raises:
            UnreachableError: no connection.
            CertificateError: the host's certificate is not one to trust.
        """
        self.close()
        settings = self._settings
        context = tls_context(settings)
        link = dial(settings.address, settings.port, deadline, "WinRM listener")
        try:
            if context is not None:
                link.settimeout(max(0.001, deadline - time.monotonic()))
                link = context.wrap_socket(link, server_hostname=settings.address)
        except ssl.SSLCertVerificationError as error:
            link.close()
            raise _untrusted(error, settings) from None
        except OSError as error:
            link.close()
            raise UnreachableError(
                f"{settings.authority} speaks no TLS that is acceptable ({_reason(error)})",
                changed=_UNSENT,
                advice="Is the port an HTTPS listener? See `winrm enumerate winrm/config/listener`",
            ) from None
        self._pipe = _Pipe(link)

    @property
    def usable(self) -> bool:
        """Whether the connection is open, and quiet as one between question and answer must be."""
        return self._pipe is not None and self._pipe.quiet()

    @property
    def certificate(self) -> bytes | None:
        """The host's certificate in DER, None without TLS."""
        return self._pipe.certificate if self._pipe is not None else None

    def post(self, body: bytes, headers: Mapping[str, str], deadline: float) -> Reply:
        """Send one request and read its answer. Whatever goes wrong ends the connection.

        Raises:
            TimedOutError: no whole answer by the deadline.
            SessionLostError: the connection broke, or the answer is a redirect, compressed or no HTTP.
            OutputTooLargeError: the answer is larger than any WinRM answer may be.
        """
        pipe = self._pipe
        if pipe is None:
            raise SessionLostError("the connection is gone", changed="The request was not sent")
        done = False
        try:
            pipe.deadline = deadline
            pipe.send(self._head(len(body), headers) + body)
            with contextlib.closing(pipe.answer()) as answer:
                answer.begin()
                reply = _read(answer, self._settings)
                done = not answer.will_close
        except TimeoutError:
            raise TimedOutError(
                "the host did not answer in time", advice="It may be frozen or cut off; look at its console"
            ) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise SessionLostError(
                f"the connection broke ({_reason(error)})", advice="Look at the host's WinRM service"
            ) from None
        else:
            return reply
        finally:
            if not done:
                self.close()

    def close(self) -> None:
        """End the connection; never raises."""
        pipe, self._pipe = self._pipe, None
        if pipe is not None:
            pipe.close()

    def _head(self, length: int, headers: Mapping[str, str]) -> bytes:
        fields = {"Host": self._settings.authority, "Content-Length": str(length), **headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return f"POST /{self._settings.path} HTTP/1.1\r\n{lines}\r\n".encode("ascii")


class _Pipe:
    """A socket whose every wait ends at `deadline`; what `http.client` needs of a socket, and no more."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self.deadline = 0.0

    @property
    def certificate(self) -> bytes | None:
        return self._link.getpeercert(binary_form=True) if isinstance(self._link, ssl.SSLSocket) else None

    def answer(self) -> http.client.HTTPResponse:
        return http.client.HTTPResponse(cast("socket.socket", self), method="POST")

    def makefile(self, *_: object) -> io.BufferedReader:
        return io.BufferedReader(_Reader(self))

    def quiet(self) -> bool:
        """Nothing has come that was not asked for: neither data nor the end of the connection."""
        try:
            return not select.select((self._link,), (), (), 0)[0]
        except (OSError, ValueError):
            return False

    def receive(self, buffer: Any) -> int:
        self._wait()
        return self._link.recv_into(buffer)

    def send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            self._wait()
            view = view[self._link.send(view[:_PIECE]):]

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._link.close()

    def _wait(self) -> None:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._link.settimeout(left)


class _Reader(io.RawIOBase):
    """The reading side of a pipe; closing it leaves the pipe open."""

    def __init__(self, pipe: _Pipe) -> None:
        self._pipe = pipe

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        return self._pipe.receive(buffer)


def _read(answer: http.client.HTTPResponse, settings: WinRmSettings) -> Reply:
    """The answer, if it is one that WinRM gives."""
    if 300 <= answer.status < 400:  # noqa: PLR2004 - RFC 9110 15.4: redirection
        raise _redirected(answer, settings)
    coding = answer.getheader("Content-Encoding", "identity")
    if coding.strip().lower() != "identity":  # none was offered, so none is accepted, and nothing can swell
        raise SessionLostError(f"the host answered compressed ({clean(coding)[:40]}), unasked")
    body = answer.read(MAX_REPLY + 1)
    if len(body) > MAX_REPLY:
        raise OutputTooLargeError(f"the host's answer is larger than {MAX_REPLY} bytes")
    if answer.length:
        raise http.client.IncompleteRead(b"", answer.length)
    return Reply(answer.status, answer.headers, body)


def _redirected(answer: http.client.HTTPResponse, settings: WinRmSettings) -> SessionLostError:
    location = clean(answer.getheader("Location", ""))
    with contextlib.suppress(ValueError):
        location = urlsplit(location).netloc.rpartition("@")[2] or settings.authority
    return SessionLostError(
        f"the host answered with a redirect to {location[:200]}, which is never followed",
        changed=f"Nothing was sent to {location[:200]}",
        advice="Find out who answers in the host's name: Windows never redirects WinRM",
    )


def tls_context(settings: WinRmSettings) -> ssl.SSLContext | None:
    """TLS 1.2 or later that trusts the pinned authorities alone and checks the host's name.

    Raises:
        UnreachableError: their file cannot be read.
    """
    if not settings.tls:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(cafile=settings.ca)
    except (OSError, TypeError) as error:
        raise UnreachableError(
            f"the certificate authorities in {settings.ca} cannot be read ({_reason(error)})",
            changed=_UNSENT,
            advice="Point ansible_winrm_ca_trust_path at a PEM file",
        ) from None
    return context


def _untrusted(error: ssl.SSLCertVerificationError, settings: WinRmSettings) -> CertificateError:
    return CertificateError(
        f"the certificate of {settings.authority} is not trusted: {clean(error.verify_message)[:200]}",
        changed=_UNSENT,
        advice=f"Ask internal IT for the CA that signed it, and compare with {settings.ca}",
    )


def _reason(error: Exception) -> str:
    """What an error is about, without repeating what the host sent."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return type(error).__name__
