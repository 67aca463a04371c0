"""A store in a directory.

It must be on a local file system with working `flock`, `link` and `fsync`; that is looked at and tried before
the first write (`filesystem.py`). It belongs to the worker's account alone: directories 0700, files 0600.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from lamplighter.crashpoints import crashpoint, die, due
from lamplighter.errors import ExistsError, StoreError
from lamplighter.store import CHUNK, DEFAULT_LIMIT, Log, check_key, check_live, check_record
from lamplighter.store.directory_log import DirectoryLog
from lamplighter.store.files import sync_directory, told, write_all
from lamplighter.store.filesystem import check_kind, try_once

LOCK_SECONDS = 10.0
NO_VERSIONS = "this store keeps no versions of its objects: what was deleted cannot be seen from them"


class DirectoryStore:
    """A store in a directory.

    Args:
        root: an existing folder; `birth.make_store` makes new ones.
        file_system: a kind of file system that the site answers for; see `filesystem.py`.

    Raises:
        StoreError: there is no such folder, or others may write to it.
    """

    def __init__(self, root: Path, file_system: str = "") -> None:
        self.root, self._accepted = root.absolute(), file_system
        self._tried = False
        with told(f"the store {self.root} cannot be opened"):
            mode = self.root.stat().st_mode
        if mode & 0o022:
            raise StoreError(
                "others may write to the store", where=str(self.root), advice=f"run: chmod 700 {self.root}"
            )

    @property
    def url(self) -> str:
        """See `Store.url`."""
        return f"file:{self.root}"

    def cautions(self) -> tuple[str, ...]:
        """See `Store.cautions`."""
        return tuple(filter(None, (check_kind(self.root, self._accepted), NO_VERSIONS)))

    def put_new(self, key: str, data: bytes) -> None:
        """See `Store.put_new`. A link cannot replace a file, so two writers cannot both win."""
        path = self._path(check_record(key))
        with told(f"{key} cannot be written"):
            self._make_parents(path)
            draft = _write_draft(path, data, "put")
            try:
                path.hardlink_to(draft)
                crashpoint("put.named")
            except FileExistsError:
                if not self._holds(key, data):
                    raise ExistsError(f"{key} already holds other bytes", where=self.url) from None
            finally:
                draft.unlink(missing_ok=True)
            sync_directory(path.parent)
        crashpoint("put.durable")

    def get(self, key: str, *, limit: int = DEFAULT_LIMIT) -> bytes | None:
        """See `Store.get`."""
        with told(f"{key} cannot be read"):
            file = _open(self._path(key))
            if file is None:
                return None
            with file:
                data = file.read(limit + 1)
        if len(data) > limit:
            raise StoreError(f"{key} is larger than the {limit} bytes allowed", where=self.url)
        return data

    def list(self, prefix: str) -> Iterator[str]:
        """See `Store.list`."""
        prefix = prefix.rstrip("/")
        with told(f"{prefix} cannot be listed"):
            try:
                names = sorted(entry.name for entry in os.scandir(self._path(prefix)))
            except (FileNotFoundError, NotADirectoryError):
                return
        yield from (f"{prefix}/{name}" for name in names if not name.startswith("."))

    def names(self) -> Iterator[str]:
        """See `Store.names`."""
        with told(f"the store {self.root} cannot be listed"):
            names = sorted(entry.name for entry in os.scandir(self.root))
        return (name for name in names if not name.startswith("."))

    def swap(self, key: str, old: bytes | None, new: bytes) -> bool:
        """See `Store.swap`. Swaps in one directory wait for each other on a lock of that directory."""
        path = self._path(check_live(key))
        with told(f"{key} cannot be written"):
            self._make_parents(path)
            with _locked(path.parent):
                limit = DEFAULT_LIMIT if old is None else len(old) + 1
                if self._held(key, limit) != old:
                    return False
                _write_draft(path, new, "swap").replace(path)
                crashpoint("swap.named")
                sync_directory(path.parent)
        crashpoint("swap.durable")
        return True

    def open_log(self, key: str) -> Log:
        """See `Store.open_log`."""
        path = self._path(check_record(key))
        with told(f"{key} cannot be opened"):
            self._make_parents(path)
            return DirectoryLog(path)

    def read_log(self, key: str) -> Iterator[bytes]:
        """See `Store.read_log`."""
        with told(f"{key} cannot be read"):
            file = _open(self._path(key))
            if file is None:
                return
            with file:
                while piece := file.read(CHUNK):
                    yield piece

    def rewritten(self) -> None:
        """See `Store.rewritten`; a directory keeps no versions."""

    def _holds(self, key: str, data: bytes) -> bool:
        try:
            return self.get(key, limit=len(data)) == data
        except StoreError:
            return False  # larger, so it differs

    def _held(self, key: str, limit: int) -> bytes | None:
        try:
            return self.get(key, limit=limit)
        except StoreError:
            return b""  # larger than what is compared with, so it differs

    def _path(self, key: str) -> Path:
        path = self.root.joinpath(*check_key(key).split("/"))
        if path.parent.exists() and path.parent.resolve() != self.root.resolve() / path.parent.relative_to(
            self.root
        ):
            raise StoreError(f"{key} leads out of the store through a link", where=self.url)
        return path

    def _make_parents(self, path: Path) -> None:
        if not self._tried:
            check_kind(self.root, self._accepted)
            try_once(self.root)
            self._tried = True
        missing = [part for part in path.parents if not part.exists()]
        for part in reversed(missing):
            part.mkdir(mode=0o700, exist_ok=True)
            sync_directory(part.parent)


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Swaps hold it for milliseconds; a stopped process must not hold everybody up for ever."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    deadline = time.monotonic() + LOCK_SECONDS
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StoreError(
                        f"{directory} stayed locked for {LOCK_SECONDS:.0f} s",
                        advice=f"see who holds it: lsof {directory}",
                    ) from None
                time.sleep(0.002 + secrets.randbelow(5) / 1000)
        yield
    finally:
        os.close(descriptor)


def _open(path: Path) -> IO[bytes] | None:
    try:
        return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb")
    except (FileNotFoundError, NotADirectoryError):
        return None


def _write_draft(path: Path, data: bytes, point: str) -> Path:
    draft = path.with_name(f".{path.name[:100]}.{secrets.token_hex(8)}")
    crashpoint(f"{point}.before")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        if due(f"{point}.half"):
            os.write(descriptor, data[: len(data) // 2])
            die()
        write_all(descriptor, data)
        crashpoint(f"{point}.written")
        os.fsync(descriptor)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
    return draft
