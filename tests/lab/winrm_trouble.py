"""What a hostile or sick WinRM host does with an answer; used by the endpoint on a test's demand."""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class Answer:
    """An HTTP answer.

    Attributes:
        plain: the envelope it is to carry; not in `body` before it was sealed, and sealing counts.
    """

    status: int
    headers: dict[str, str]
    body: bytes = b""
    plain: bytes = field(default=b"", repr=False)


class Connection(Protocol):
    """Where an answer goes."""

    def put(self, answer: Answer) -> None:
        """Send an answer as it is."""

    def raw(self, data: bytes) -> None:
        """Send bytes."""

    def seal(self, answer: Answer) -> Answer:
        """Put its envelope into its body, sealed if the request was; once only, as seals are numbered."""

    def cut(self) -> None:
        """End the connection."""

    def waiting(self) -> bool:
        """Whether the other side is still there, and the endpoint too."""


Trouble = Callable[[Connection, Answer], None]


def redirect(location: str, status: int = 307) -> Trouble:
    """Send the client elsewhere."""
    return lambda to, _: to.put(Answer(status, {"Location": location}, b""))


def status(code: int, body: bytes = b"") -> Trouble:
    """Answer with a status, and nothing of WinRM."""
    return lambda to, _: to.put(Answer(code, {}, body))


def unsealed(to: Connection, answer: Answer) -> None:
    """Answer in clear what was asked sealed."""
    to.put(Answer(answer.status, {"Content-Type": "application/soap+xml;charset=UTF-8"}, answer.plain))


def replaced(plain: bytes, code: int = 200) -> Trouble:
    """Answer with an envelope of the attacker's making, properly sealed."""
    return lambda to, _: to.put(to.seal(Answer(code, {}, plain=plain)))


def compressed(to: Connection, answer: Answer) -> None:
    """Ten megabytes in ten kilobytes."""
    bomb = gzip.compress(b" " * 10_000_000)
    to.put(Answer(answer.status, {**answer.headers, "Content-Encoding": "gzip"}, bomb))


def oversized(to: Connection, answer: Answer) -> None:
    """An answer without end."""
    answer = to.seal(answer)
    fields = "".join(f"{name}: {value}\r\n" for name, value in answer.headers.items())
    to.raw(f"HTTP/1.1 200 OK\r\n{fields}Transfer-Encoding: chunked\r\n\r\n".encode())
    while to.waiting():
        to.raw(b"10000\r\n" + b" " * 65536 + b"\r\n")


def silent(to: Connection, _answer: Answer) -> None:
    """Never answer."""
    while to.waiting():
        time.sleep(0.05)


def trickling(to: Connection, answer: Answer) -> None:
    """A byte now and then, so that no single wait is long: first the headers, for ever."""
    to.raw(f"HTTP/1.1 {answer.status} OK\r\nX-Slow: ".encode())
    while to.waiting():
        to.raw(b"x")
        time.sleep(0.05)


def stuck(to: Connection, answer: Answer) -> None:
    """Stop in the middle of the body."""
    answer = to.seal(answer)
    to.raw(f"HTTP/1.1 200 OK\r\nContent-Length: {len(answer.body)}\r\n\r\n".encode() + answer.body[:20])
    silent(to, answer)


def torn(to: Connection, answer: Answer) -> None:
    """End the connection in the middle of the body."""
    answer = to.seal(answer)
    to.raw(f"HTTP/1.1 200 OK\r\nContent-Length: {len(answer.body)}\r\n\r\n".encode() + answer.body[:20])
    to.cut()


def tampered(to: Connection, answer: Answer) -> None:
    """One bit of the sealed body is another."""
    answer = to.seal(answer)
    at = len(answer.body) - 40
    flipped = answer.body[:at] + bytes([answer.body[at] ^ 1]) + answer.body[at + 1 :]
    to.put(Answer(answer.status, answer.headers, flipped))
