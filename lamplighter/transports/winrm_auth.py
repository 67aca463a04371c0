"""Proving who we are to WinRM, and sealing what is said where TLS does not.

NTLM and Kerberos come from pyspnego. Both authenticate a connection, not a request, and both seal messages
([MS-WSMV] 2.2.9.1). A sealed conversation stays sealed: an answer that is not is refused, however it reads.
Credentials are proved once per connection, so that a wrong password counts once towards a lockout.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import importlib
import logging
import re
import struct
from collections.abc import Mapping
from typing import Protocol

import spnego
from spnego.channel_bindings import GssChannelBindings
from spnego.exceptions import FeatureMissingError, SpnegoError

from lamplighter.errors import AuthFailedError, SessionLostError
from lamplighter.secrets import Secret
from lamplighter.transports.channel_binding import server_end_point
from lamplighter.transports.text import clean
from lamplighter.transports.winrm_http import HttpLink, Reply
from lamplighter.transports.winrm_settings import Auth, WinRmSettings

SOAP = "application/soap+xml;charset=UTF-8"
_SEALED = "application/HTTP-SPNEGO-session-encrypted"
# On its debug level pyspnego logs tokens, and from NTLM's a password can be guessed at leisure.
logging.getLogger("spnego").setLevel(logging.WARNING)

_BOUNDARY = "--Encrypted Boundary"
_LAST = f"{_BOUNDARY}--\r\n".encode()
_MULTIPART = f'multipart/encrypted;protocol="{_SEALED}";boundary="Encrypted Boundary"'
_ROUNDS = 4
_UNAUTHORIZED = 401
_LENGTH = struct.Struct("<I")
_IDENTIFY = (
    b'<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"'
    b' xmlns:i="http://schemas.dmtf.org/wbem/wsman/identity/1/wsmanidentity.xsd">'
    b"<s:Header/><s:Body><i:Identify/></s:Body></s:Envelope>"
)
# Windows indents these lines by a tab and Exchange puts a blank into the boundary; both are read.
_HEAD = re.compile(
    rb"--\s?Encrypted Boundary\r\n\s*Content-Type:\s*application/HTTP-\w+-session-encrypted\r\n"
    rb"\s*OriginalContent:[^\r\n]{1,200}\r\n--\s?Encrypted Boundary\r\n"
    rb"\s*Content-Type:\s*application/octet-stream\r\n",
    re.IGNORECASE,
)
_TAIL = re.compile(rb"--\s?Encrypted Boundary--(?:\r\n)?\Z")


def _kerberos_errors() -> tuple[type[Exception], ...]:
    """What the Kerberos libraries raise past pyspnego, where they are installed."""
    found: list[type[Exception]] = []
    for module, name in (("gssapi.exceptions", "GSSError"), ("krb5", "Krb5Error")):
        with contextlib.suppress(ImportError):
            found.append(getattr(importlib.import_module(module), name))
    return tuple(found)


_TELLING: tuple[type[Exception], ...] = (SpnegoError, *_kerberos_errors())
# What is raised on a token or a sealed message that is not one.
_BAD_TOKEN: tuple[type[Exception], ...] = (
    *_TELLING, struct.error, ValueError, LookupError, TypeError, AttributeError, OverflowError,
)  # fmt: skip


class Login(Protocol):
    """How one connection is authenticated and its messages are protected."""

    def log_in(self, link: HttpLink, deadline: float) -> None:
        """Authenticate a new connection, or raise `AuthFailedError`."""

    def wrap(self, message: bytes) -> tuple[Mapping[str, str], bytes]:
        """Headers and body of a request that carries a message."""

    def unwrap(self, reply: Reply) -> bytes:
        """The message a reply carries, or raise `SessionLostError`."""


def login_for(settings: WinRmSettings, password: Secret | None) -> Login:
    """The login a host's settings ask for."""
    if settings.auth is Auth.BASIC and password is not None and settings.tls:
        return BasicLogin(settings, password)
    return SpnegoLogin(settings, password)


class BasicLogin:
    """RFC 7617: the password in every request, so over TLS only.

    The scheme has no login of its own; asking the service who it is (DSP0226 11) stands for one, so that a
    refused password is known before the first message, and counted.
    """

    def __init__(self, settings: WinRmSettings, password: Secret) -> None:
        self._settings = settings
        self._password = password

    def log_in(self, link: HttpLink, deadline: float) -> None:
        """One question that changes nothing.

        Raises:
            AuthFailedError: the host refused us.
        """
        headers, body = self.wrap(_IDENTIFY)
        reply = link.post(body, headers, deadline)
        if reply.status == _UNAUTHORIZED:
            raise refused(reply, self._settings)

    def wrap(self, message: bytes) -> tuple[Mapping[str, str], bytes]:
        """The message, with the password."""
        pair = base64.b64encode(f"{self._settings.user}:{self._password.reveal()}".encode()).decode()
        return {"Content-Type": SOAP, "Authorization": f"Basic {pair}"}, message

    def unwrap(self, reply: Reply) -> bytes:
        """The message as it came through TLS."""
        return reply.body


class SpnegoLogin:
    """NTLM or Kerberos: sealed without TLS, bound to the host's certificate with it."""

    def __init__(self, settings: WinRmSettings, password: Secret | None) -> None:
        self._settings = settings
        self._password = password
        self._context: spnego.ContextProxy | None = None

    def log_in(self, link: HttpLink, deadline: float) -> None:
        """The exchange of tokens of RFC 4559, on an empty request: no message travels before it is done.

        Raises:
            AuthFailedError: the host refused us, or did not prove to be who it should be.
        """
        context = self._new_context(link.certificate)
        token = self._step(context, None)
        for _ in range(_ROUNDS):
            credentials = base64.b64encode(token or b"").decode()
            reply = link.post(b"", {"Authorization": f"Negotiate {credentials}"}, deadline)
            offered = _offered(reply)
            if reply.status != _UNAUTHORIZED:
                if offered is not None and not context.complete:
                    self._step(context, offered)
                break
            if offered is None or context.complete:
                raise self._refused(reply)
            token = self._step(context, offered)
        if not context.complete:
            raise AuthFailedError(
                "the host did not prove that it knows the account",
                changed="No command was sent",
                advice="Find out who answers in the host's name",
            )
        self._context = context

    def wrap(self, message: bytes) -> tuple[Mapping[str, str], bytes]:
        """The message, sealed unless TLS protects it."""
        if not self._settings.sealed:
            return {"Content-Type": SOAP}, message
        sealed = self._live().wrap_winrm(message)
        head = (
            f"{_BOUNDARY}\r\n\tContent-Type: {_SEALED}\r\n"
            f"\tOriginalContent: type={SOAP};Length={len(message) + sealed.padding_length}\r\n"
            f"{_BOUNDARY}\r\n\tContent-Type: application/octet-stream\r\n"
        )
        parts = (head.encode(), _LENGTH.pack(len(sealed.header)), sealed.header, sealed.data, _LAST)
        return {"Content-Type": _MULTIPART}, b"".join(parts)

    def unwrap(self, reply: Reply) -> bytes:
        """The message; unsealed ones are refused where we seal."""
        if not self._settings.sealed:
            return reply.body
        head, tail = _HEAD.match(reply.body), _TAIL.search(reply.body)
        if head is None or tail is None or tail.start() < head.end() + _LENGTH.size:
            raise SessionLostError(
                f"the host answered a sealed message with an unsealed one (status {reply.status})",
                advice="Somebody may be answering in its name; otherwise look at its WinRM service",
            )
        size = _LENGTH.unpack_from(reply.body, head.end())[0]
        sealed = reply.body[head.end() + _LENGTH.size:tail.start()]
        try:
            return self._live().unwrap_winrm(sealed[:size], sealed[size:])
        except _BAD_TOKEN:
            raise SessionLostError(
                "the seal of the host's answer is broken",
                advice="Somebody may be tampering with the connection",
            ) from None

    def _live(self) -> spnego.ContextProxy:
        if self._context is None:
            raise SessionLostError("the connection is not authenticated", changed="Nothing was sent")
        return self._context

    def _new_context(self, certificate: bytes | None) -> spnego.ContextProxy:
        settings = self._settings
        # Ours is the only NTLM that is tested; a GSSAPI one that happens to be installed is not used.
        flags = spnego.NegotiateOptions
        options = flags.use_ntlm if settings.auth is Auth.NTLM else flags.use_gssapi
        bound = GssChannelBindings(application_data=server_end_point(certificate)) if certificate else None
        try:
            return spnego.client(
                settings.user,
                self._password.reveal() if self._password is not None else None,
                hostname=settings.service_name,
                service="HTTP",
                protocol=settings.auth.value,
                channel_bindings=bound,
                options=options | flags.wrapping_winrm,
            )
        except (ImportError, FeatureMissingError):
            raise AuthFailedError(
                "Kerberos is not installed on this worker",
                changed="Nothing was sent to the host",
                advice="apt install gcc libkrb5-dev krb5-user; pip install 'lamplighter[kerberos]'",
            ) from None
        except _BAD_TOKEN as error:
            raise self._unprovable(error) from None

    def _step(self, context: spnego.ContextProxy, token: bytes | None) -> bytes | None:
        try:
            return context.step(token)
        except _BAD_TOKEN as error:
            raise self._unprovable(error) from None

    def _unprovable(self, error: Exception) -> AuthFailedError:
        said = clean(str(error)).split("Context:")[0].strip()[:300] if isinstance(error, _TELLING) else ""
        return AuthFailedError(
            f"{self._settings.auth.value} failed for {self._settings.user}{': ' if said else ''}{said}",
            changed="No command was sent",
            advice="For Kerberos, try kinit and kvno HTTP/<host> as the worker's user",
        )

    def _refused(self, reply: Reply) -> AuthFailedError:
        return refused(reply, self._settings)


def refused(reply: Reply, settings: WinRmSettings) -> AuthFailedError:
    """The error for a 401: what the host offers instead tells why."""
    values = reply.headers.get_all("WWW-Authenticate", ())
    offers = [value.split(maxsplit=1)[0] for value in values if value.strip()]
    wanted = "basic" if settings.auth is Auth.BASIC else "negotiate"
    if offers and wanted not in {offer.lower() for offer in offers}:
        return AuthFailedError(
            f"the host does not offer {settings.auth.value}, but: {clean(', '.join(offers))[:100]}",
            changed="No command was sent",
            advice="Set ansible_winrm_transport to that, or enable ours in winrm/config/service/auth",
        )
    return AuthFailedError(
        f"the host refused the account {settings.user}",
        changed="No command was sent",
        advice="Check the password, and whether the account is locked. It is not tried again",
    )


def _offered(reply: Reply) -> bytes | None:
    """The token in an answer, None without one."""
    for value in reply.headers.get_all("WWW-Authenticate", ()):
        scheme, _, token = value.strip().partition(" ")
        if scheme.lower() in {"negotiate", "kerberos"} and token.strip():
            try:
                return base64.b64decode(token.strip(), validate=True)
            except binascii.Error:
                return None
    return None
