"""Where a site's runs are written: what every store can do.

A store holds four things: objects that never change (`put_new`), small values that change by
compare-and-swap (`swap`: leases, heads), append logs with one writer each (`open_log`: ledgers), and names
(`list`). Whatever returns has reached the disk. What changes lies below `live/` and nowhere else, so that
whatever else was written twice is a finding. `directory.py` keeps them in a directory, `s3.py` in a bucket;
one set of tests runs on both.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, unquote, urlsplit

from lamplighter.errors import StoreError

DEFAULT_LIMIT = 64 * 1024 * 1024
CHUNK = 1024 * 1024
LIVE = "live/"
"""The prefix of everything that changes; nothing below it is a record."""
_SEGMENT = re.compile(r"[A-Za-z0-9_%@=+-][A-Za-z0-9_%@=+.-]{0,199}")


class StoreFullError(StoreError):
    """No space is left; nothing of the append was kept. Freeing space lets the next one succeed."""


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """Where a store is, and which one it must be.

    Attributes:
        url: `file:/path`, a bare absolute path, or `s3://bucket/prefix`.
        options: see `directory.DirectoryStore` and `s3.open_bucket`.
        id: the store's own, as `site.yaml` has it; empty asks for none.
        site: whose it must be; empty for a store that is looked at, wherever it was copied to.
    """

    url: str
    options: Mapping[str, Any] = field(default_factory=dict)
    id: str = ""
    site: str = ""


class Log(Protocol):
    """An append log, open for its one writer.

    Attributes:
        cut: what was cut off its end at the opening, because a sync had failed; nobody was told it was there.
    """

    @property
    def cut(self) -> bytes:
        """See above."""

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

    def cautions(self) -> tuple[str, ...]:
        """What this store, though it is fit, does not keep; sentences for people.

        Raises:
            StoreError: it is not fit, as far as that can be told without writing.
        """

    def put_new(self, key: str, data: bytes) -> None:
        """Write an object that never changes. Repeating it with the same bytes is no error.

        Raises:
            ExistsError: the key holds other bytes.
            StoreError: it could not be written, or the key lies below `live/`.
        """

    def get(self, key: str, *, limit: int = DEFAULT_LIMIT) -> bytes | None:
        """Read an object; None when there is none.

        Raises:
            StoreError: it is larger than `limit` bytes, or cannot be read.
        """

    def list(self, prefix: str) -> Iterator[str]:
        """The keys directly below `prefix`, sorted: objects, logs and further prefixes alike."""

    def names(self) -> Iterator[str]:
        """What lies in the store, one name a file, folder or prefix at its top; sorted."""

    def swap(self, key: str, old: bytes | None, new: bytes) -> bool:
        """Replace `old` by `new` if a key below `live/` still holds exactly `old`; None: if there is none.

        Returns:
            False when it holds something else; nothing was changed.

        Raises:
            StoreError: it could not be written, or the key does not lie below `live/`.
        """

    def open_log(self, key: str) -> Log:
        """Open a log for writing, creating it when it is new.

        Raises:
            LedgerError: another process has it open; the message says which.
        """

    def read_log(self, key: str) -> Iterator[bytes]:
        """A log's bytes in order, in pieces of any size; nothing when there is no log."""

    def rewritten(self) -> tuple[str, ...] | None:
        """Keys that should never change and did; None where no versions are kept, so that nobody can tell."""


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


def check_record(key: str) -> str:
    """Return the key of what never changes."""
    if key.startswith(LIVE):
        raise StoreError(f"{key} changes, and is no record", advice="what never changes lies outside live/")
    return check_key(key)


def check_live(key: str) -> str:
    """Return the key of what changes."""
    if not key.startswith(LIVE):
        raise StoreError(f"{key} never changes, and is not swapped", advice="what changes lies below live/")
    return check_key(key)


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


def open_store(address: StoreAddress) -> Store:
    """Open the store that a site's file names, and no other; nothing is made.

    Raises:
        StoreError: the URL is of no known kind, the store cannot be opened, or it is not the one that is
            meant: see `identity.check_identity`.
        SecretError: a reference in the options cannot be resolved.
    """
    from lamplighter.store.identity import check_identity, no_store  # noqa: PLC0415 - made of what stands above

    place = folder_of(address.url)
    if place is not None and not place.is_dir():
        raise no_store(address, "no such folder")
    store = reach(address)
    check_identity(store, address)
    if address.site and place is not None:
        store.cautions()  # refuses what is not fit; a store that is only looked at may lie anywhere
    return store


def reach(address: StoreAddress) -> Store:
    """A store's place, whatever is there: for `open_store`, and for the birth of a new one."""
    parts = urlsplit(address.url)
    place = folder_of(address.url)
    if place is not None:
        from lamplighter.store.directory import DirectoryStore  # noqa: PLC0415 - made of what stands above

        return DirectoryStore(place, _file_system(address))
    if parts.scheme == "s3" and parts.netloc:
        from lamplighter.store.s3 import open_bucket  # noqa: PLC0415 - and boto3 takes half a second to load

        return open_bucket(address.url, address.options)
    raise StoreError(f"{address.url!r} names no store", advice="use file:/path or s3://bucket/prefix")


def folder_of(url: str) -> Path | None:
    """The folder that a URL names; None when it names none."""
    parts = urlsplit(url)
    is_folder = parts.scheme in {"file", ""} and not parts.netloc and parts.path.startswith("/")
    return Path(parts.path) if is_folder else None


def _file_system(address: StoreAddress) -> str:
    unknown = sorted(address.options.keys() - {"file-system"})
    kind = address.options.get("file-system", "")
    if unknown or not isinstance(kind, str):
        what = f"unknown store option {unknown[0]!r}" if unknown else f"file-system is {kind!r}"
        raise StoreError(what, advice="known for a directory: file-system, a kind that the site answers for")
    return kind
