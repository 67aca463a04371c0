"""From a name to a connected socket, within a deadline."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import threading
import time
from typing import Any

from lamplighter.errors import UnreachableError

_QUICKACK = getattr(socket, "TCP_QUICKACK", None)
_UNSENT = "Nothing was sent to the host"


class _Link(socket.socket):
    """A socket that acknowledges at once.

    An SSH server answers the first request of a session in two small packets, and its TCP holds the second
    back until the first is acknowledged; delaying that, as Linux does, costs 40 ms a host. The option lasts
    only until the kernel thinks better of it (tcp(7)), so it is set after every read.
    """

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """Read, and acknowledge."""
        data = super().recv(size, flags)
        if _QUICKACK is not None:
            self.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
        return data


def dial(address: str, port: int, deadline: float, server: str = "SSH server") -> socket.socket:
    """Connect by TCP, trying each address of a name in turn.

    Args:
        address: IPv4 or IPv6 address, or a name.
        port: 1 to 65535.
        deadline: monotonic seconds; the name's lookup is within it.
        server: what should listen there, for the advice.

    Raises:
        UnreachableError: no address, no answer, or refused.
    """
    reason = "it has no address"
    for family, kind, protocol, _, place in _lookup(address, port, deadline):
        link = None
        try:
            link = _Link(family, kind, protocol)
            link.settimeout(max(0.001, deadline - time.monotonic()))
            link.connect(place)
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except TimeoutError:
            reason = "it does not answer"
        except OSError as error:
            reason = (error.strerror or type(error).__name__).lower()
        else:
            return link
        if link is not None:
            link.close()
    raise UnreachableError(
        f"{address} port {port} cannot be reached: {reason}",
        changed=_UNSENT,
        advice=f"Check that the host is up, its {server} runs, and no firewall is in between",
    )


def _lookup(address: str, port: int, deadline: float) -> list[tuple[Any, ...]]:
    """Addresses of a name. The resolver cannot be given a deadline, so it is left behind in its thread."""
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(address)
        return socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    found: list[list[tuple[Any, ...]]] = []

    def ask() -> None:
        with contextlib.suppress(OSError, UnicodeError):
            found.append(socket.getaddrinfo(address, port, type=socket.SOCK_STREAM))

    thread = threading.Thread(target=ask, daemon=True, name=f"lookup {address}")
    thread.start()
    thread.join(max(0.0, deadline - time.monotonic()))
    if found:
        return found[0]
    reason = "was not answered in time" if thread.is_alive() else "found no address"
    raise UnreachableError(
        f"the lookup of the name {address} {reason}", changed=_UNSENT, advice="Check ansible_host and the DNS"
    )
