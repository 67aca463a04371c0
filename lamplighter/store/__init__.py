"""Where a site's runs are written: what every store can do.

A store holds four things: objects that never change (`put_new`), small values that change by
compare-and-swap (`swap`: leases, heads), append logs with one writer each (`open_log`: ledgers), and names
(`list`). Whatever returns has reached the disk. `store_directory.py` keeps them in a directory,
`store_s3.py` in a bucket; one set of tests runs on both.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, unquote, urlsplit

from lamplighter.errors import StoreError

DEFAULT_LIMIT = 64 * 1024 * 1024
CHUNK = 1024 * 1024
_SEGMENT = re.compile(r"[A-Za-z0-9_%@=+-][A-Za-z0-9_%@=+.-]{0,199}")


class StoreFullError(StoreError):
    """No space is left; nothing of the append was kept. Freeing space lets the next one succeed."""


class Log(Protocol):
    """An append log, open for its one writer."""

    def append(self, data: bytes, *, urgent: bool = False) -> None:
        """Add `data` at the end; durable when it returns.

        Args:
            data: whole lines.
            urgent: may use the emergency reserve when the store is full.

        Raises:
            StoreFullError: no space; the log is as it was.
            StoreError: anything else; it is not known how much was written, do not use the log again.
        """

    def truncate(self, size: int) -> None:
        """Cut everything past `size` bytes: the torn tail of a crash, and nothing else."""

    def close(self, *, final: bool = False) -> None:
        """Let the next writer in; never raises. `final`: nothing will be appended any more."""


class Store(Protocol):
    """See the module's docstring. Keys are `a/b/c` of `[A-Za-z0-9_%@=+.-]`, no part beginning with a dot."""

    @property
    def url(self) -> str:
        """For messages; holds no secret."""

    def put_new(self, key: str, data: bytes) -> None:
        """Write an object that never changes. Repeating it with the same bytes is no error.

        Raises:
            ExistsError: the key holds other bytes.
            StoreError: it could not be written.
        """

    def get(self, key: str, *, limit: int = DEFAULT_LIMIT) -> bytes | None:
        """Read an object; None when there is none.

        Raises:
            StoreError: it is larger than `limit` bytes, or cannot be read.
        """

    def list(self, prefix: str) -> Iterator[str]:
        """The keys directly below `prefix`, sorted: objects, logs and further prefixes alike."""

    def swap(self, key: str, old: bytes | None, new: bytes) -> bool:
        """Replace `old` by `new` if the key still holds exactly `old`; None: if there is none.

        Returns:
            False when it holds something else; nothing was changed.
        """

    def open_log(self, key: str) -> Log:
        """Open a log for writing, creating it when it is new.

        Raises:
            LedgerError: another process has it open; the message says which.
        """

    def read_log(self, key: str) -> Iterator[bytes]:
        """A log's bytes in order, in pieces of any size; nothing when there is no log."""

    def rewritten(self) -> Iterator[str]:
        """Keys that should never change and did, as far as the store keeps versions."""


def lines(pieces: Iterator[bytes], *, longest: int = 2 * CHUNK) -> Iterator[bytes]:
    """Cut pieces into lines, newline included; the last may have none.

    A line longer than `longest` is handed out in parts, so that memory stays bounded whatever is read.
    """
    rest = b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        yield from (line + b"\n" for line in whole)
        if len(rest) > longest:
            yield rest
            rest = b""
    if rest:
        yield rest


def check_key(key: str) -> str:
    """Return the key if every part of it is harmless.

    Raises:
        StoreError: it could name something outside the store, or something the store keeps for itself.
    """
    if len(key) > 900 or not all(_SEGMENT.fullmatch(part) for part in key.split("/")):  # noqa: PLR2004 - S3 allows 1,024 with the prefix
        raise StoreError(f"{key[:100]!r} is no key", advice="parts of [A-Za-z0-9_%@=+.-] joined by /")
    return key


def as_part(name: str) -> str:
    """Any name, such as a host's, as one part of a key; different names give different parts."""
    part = quote(name, safe="@=+").replace("~", "%7E")
    return "%2E" + part[1:] if part.startswith(".") else part


def from_part(part: str) -> str:
    """The name that `as_part` turned into `part`."""
    return unquote(part)


def whoami() -> str:
    """This process, for the message another one shows when it has to wait."""
    return f"process {os.getpid()} on {socket.gethostname()}"


def open_store(url: str, options: Mapping[str, Any] | None = None) -> Store:
    """Open the store that a site's file names.

    Args:
        url: `file:/path`, a bare absolute path, or `s3://bucket/prefix`.
        options: of an S3 store, see `store_s3.open_bucket`.

    Raises:
        StoreError: the URL is of no known kind, or the store cannot be opened.
        SecretError: a reference in the options cannot be resolved.
    """
    parts = urlsplit(url)
    if parts.scheme in {"file", ""} and not parts.netloc and parts.path.startswith("/"):
        from lamplighter.store.directory import DirectoryStore  # noqa: PLC0415 - made of what stands above

        return DirectoryStore(Path(parts.path))
    if parts.scheme == "s3" and parts.netloc:
        from lamplighter.store.s3 import open_bucket  # noqa: PLC0415 - and boto3 takes half a second to load

        return open_bucket(url, options or {})
    raise StoreError(f"{url!r} names no store", advice="use file:/path or s3://bucket/prefix")
