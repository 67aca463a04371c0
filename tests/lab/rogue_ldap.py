"""An LDAP server that means harm: whatever bytes a test wants, over TLS or not, and what it got."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

BIND, SEARCH, MODIFY, EXTENDED, UNBIND = 0x60, 0x63, 0x66, 0x77, 0x42
BIND_DONE, SEARCH_ENTRY, SEARCH_DONE, SEARCH_REF = 0x61, 0x64, 0x65, 0x73
MODIFY_DONE, EXTENDED_DONE = 0x67, 0x78
_DONE = {BIND: BIND_DONE, SEARCH: SEARCH_DONE, MODIFY: MODIFY_DONE, EXTENDED: EXTENDED_DONE}

Answer = Callable[[int], Iterable[bytes]]
"""From a message's id to the pieces that are sent back, one send each."""


def tlv(tag: int, *parts: bytes) -> bytes:
    """Encode one BER element."""
    value = b"".join(parts)
    size = len(value)
    if size < 0x80:
        return bytes((tag, size)) + value
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + value


def number(value: int, tag: int = 0x02) -> bytes:
    """Encode an integer of at most 31 bits."""
    return tlv(tag, value.to_bytes(4, "big"))


def message(message_id: int, kind: int, *parts: bytes) -> bytes:
    """Encode an LDAPMessage."""
    return tlv(0x30, number(message_id), tlv(kind, *parts))


def result(message_id: int, kind: int, code: int = 0, text: str = "", *more: bytes) -> bytes:
    """Encode a response with an LDAPResult."""
    return message(message_id, kind, number(code, 0x0A), tlv(4), tlv(4, text.encode()), *more)


def referral(url: str) -> bytes:
    """Encode the referral of an LDAPResult."""
    return tlv(0xA3, tlv(4, url.encode()))


def entry(message_id: int, dn: str, **attributes: bytes) -> bytes:
    """Encode a search result entry."""
    pairs = (tlv(0x30, tlv(4, name.encode()), tlv(0x31, tlv(4, value))) for name, value in attributes.items())
    return message(message_id, SEARCH_ENTRY, tlv(4, dn.encode()), tlv(0x30, *pairs))


class RogueLdap:
    """Answers as told; what it is not told, it answers with success.

    Args:
        pem: certificate and key; None to speak plain.
        answers: by tag of the request.
        starttls: speak plain first, and TLS after an extended request.
    """

    def __init__(
        self,
        pem: tuple[Path, Path] | None = None,
        answers: dict[int, Answer] | None = None,
        *,
        starttls: bool = False,
    ) -> None:
        self.seen: list[int] = []
        self.bytes_seen = bytearray()
        self.connections = 0
        self._answers = answers or {}
        self._starttls = starttls
        self._context: ssl.SSLContext | None = None
        if pem is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(*pem)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    @property
    def port(self) -> int:
        """Where it listens, on 127.0.0.1."""
        return self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        self._spawn(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(self._listener)
        self.drop()
        for thread in self._threads:
            thread.join(5)

    def drop(self) -> None:
        """End every connection."""
        for link in self._open:
            self._end(link)

    @staticmethod
    def _end(link: socket.socket) -> None:
        with contextlib.suppress(OSError):
            link.shutdown(socket.SHUT_RDWR)
        link.close()

    def _spawn(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                link, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(link)
            self._spawn(self._serve, link)

    def _serve(self, link: socket.socket) -> None:
        with contextlib.suppress(OSError, IndexError, ValueError):
            if self._context is not None and not self._starttls:
                link = self._encrypt(link)
            while data := link.recv(65536):
                self.bytes_seen += data
                kind = self._reply(link, data)
                if kind == EXTENDED and self._starttls and self._context is not None:
                    link = self._encrypt(link)

    def _reply(self, link: socket.socket, data: bytes) -> int:
        start = 2 + (data[1] & 0x7F if data[1] & 0x80 else 0)
        message_id = int.from_bytes(data[start + 2 : start + 2 + data[start + 1]], "big")
        kind = data[start + 2 + data[start + 1]]
        self.seen.append(kind)
        default: Answer = lambda number: (result(number, _DONE[kind]),) if kind in _DONE else ()  # noqa: E731
        for piece in self._answers.get(kind, default)(message_id):
            link.sendall(piece)
        return kind

    def _encrypt(self, link: socket.socket) -> socket.socket:
        assert self._context is not None
        encrypted = self._context.wrap_socket(link, server_side=True)
        self._open.append(encrypted)
        return encrypted
