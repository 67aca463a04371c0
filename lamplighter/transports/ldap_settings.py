"""How to reach one directory: its servers, the CA they must prove themselves by, and who logs in."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from lamplighter.errors import MalformedError, UnreachableError
from lamplighter.model.dn import parse_dn

DEFAULT_CONNECT_TIMEOUT = 5.0
DEFAULT_TIMEOUT = 20.0
MAX_SECONDS = 600.0
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}")


class Security(StrEnum):
    """How the connection is encrypted. There is no third way."""

    LDAPS = "ldaps"
    STARTTLS = "starttls"

    @property
    def port(self) -> int:
        """The usual port."""
        return 636 if self is Security.LDAPS else 389


@dataclass(frozen=True, slots=True)
class LdapServer:
    """One server.

    Attributes:
        address: host name or IP address to connect to.
        port: 0 for the usual one.
        name: DNS name or IP address its certificate must carry; empty for `address`.
    """

    address: str
    port: int = 0
    name: str = ""

    @property
    def certified(self) -> str:
        """What the certificate must carry; also the host of its Kerberos service principal."""
        return self.name or self.address

    def mistakes(self) -> Iterator[str]:
        """What is wrong with it, one sentence each."""
        if not _is_host(self.address):
            yield f"{self.address[:80]!r} is not a host name or address"
        if self.name and not _is_host(self.name):
            yield f"{self.name[:80]!r} is no single name that a certificate could carry"
        if not 0 <= self.port < 65536:  # noqa: PLR2004 - RFC 793 3.1: 16 bits
            yield f"{self.port} is not a port"

    def __str__(self) -> str:
        return self.certified


@dataclass(frozen=True, slots=True)
class SimpleBind:
    r"""Login by name and password (RFC 4513 5.1.3).

    Attributes:
        user: DN, or what Active Directory takes for one: `user@realm`, `DOMAIN\user`.
        password: secret reference.
    """

    user: str
    password: str

    @property
    def identity(self) -> str:
        """Who logs in."""
        return self.user


@dataclass(frozen=True, slots=True)
class KerberosBind:
    """Login by Kerberos (RFC 4752), bound to the TLS channel (RFC 5929 4). Needs the package `gssapi`.

    Attributes:
        principal: `user@REALM`.
        keytab: its key; None when `ccache` holds a ticket.
        ccache: credential cache, as KRB5CCNAME names one; empty to keep the ticket in memory only.
    """

    principal: str
    keytab: Path | None = None
    ccache: str = ""

    @property
    def identity(self) -> str:
        """Who logs in."""
        return self.principal


@dataclass(frozen=True, slots=True)
class LdapSettings:
    """Everything needed to reach one directory.

    Attributes:
        servers: tried in order; the next one only when one cannot be reached, never when it refuses.
        ca: PEM file with the CAs that may certify them; no other CA is trusted.
        base: DN that searches start from.
        bind: who logs in, and how.
        security: see `Security`.
        connect_timeout: seconds for name lookup, connecting, TLS and login, for each server.
        timeout: seconds for any other operation.
    """

    servers: tuple[LdapServer, ...]
    ca: Path
    base: str
    bind: SimpleBind | KerberosBind
    security: Security = Security.LDAPS
    connect_timeout: float = DEFAULT_CONNECT_TIMEOUT
    timeout: float = DEFAULT_TIMEOUT

    def mistakes(self) -> tuple[str, ...]:
        """Everything that is wrong with them, one sentence each."""
        return tuple(self._mistakes())

    def check(self) -> None:
        """Raise unless they can be used.

        Raises:
            UnreachableError: naming every mistake.
        """
        if mistakes := self.mistakes():
            raise UnreachableError(
                "; ".join(mistakes),
                changed="Nothing was sent to the directory",
                advice="Correct the directory's settings",
            )

    def _mistakes(self) -> Iterator[str]:
        if not self.servers:
            yield "no server is given"
        for server in self.servers:
            yield from server.mistakes()
        try:
            if not parse_dn(self.base).rdns:
                yield "no base DN is given"
        except MalformedError as error:
            yield error.message
        if not self.bind.identity.strip():
            yield "nobody is named to log in as"
        for name, seconds in (("connect_timeout", self.connect_timeout), ("timeout", self.timeout)):
            if not 0 < seconds <= MAX_SECONDS:
                yield f"{name} is not a number of seconds from 0 to {MAX_SECONDS:g}"


def _is_host(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return _NAME.fullmatch(text) is not None
    return True
