"""A store in a directory.

It must be on a local file system with working `flock`, `link` and `fsync` (ext4, xfs, btrfs, tmpfs; not
NFS or CIFS). It belongs to the worker's account alone: directories 0700, files 0600.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from lamplighter.crashpoints import crashpoint, die, due
from lamplighter.errors import ExistsError, LedgerError, StoreError
from lamplighter.store import (
    CHUNK,
    DEFAULT_LIMIT,
    Log,
    StoreFullError,
    check_key,
    check_live,
    check_record,
    whoami,
)

RESERVE = 64 * 1024
PAGE = 4096
LOCK_SECONDS = 10.0
_FULL = {errno.ENOSPC, errno.EDQUOT}


class DirectoryStore:
    """A store in a directory.

    Args:
        root: an existing folder; `birth.make_store` makes new ones.

    Raises:
        StoreError: there is no such folder, or others may write to it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        with _told(f"the store {self.root} cannot be opened"):
            mode = self.root.stat().st_mode
        if mode & 0o022:
            raise StoreError(
                "others may write to the store", where=str(self.root), advice=f"run: chmod 700 {self.root}"
            )

    @property
    def url(self) -> str:
        """See `Store.url`."""
        return f"file:{self.root}"

    def put_new(self, key: str, data: bytes) -> None:
        """See `Store.put_new`. A link cannot replace a file, so two writers cannot both win."""
        path = self._path(check_record(key))
        with _told(f"{key} cannot be written"):
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
            _sync_directory(path.parent)
        crashpoint("put.durable")

    def get(self, key: str, *, limit: int = DEFAULT_LIMIT) -> bytes | None:
        """See `Store.get`."""
        with _told(f"{key} cannot be read"):
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
        with _told(f"{prefix} cannot be listed"):
            try:
                names = sorted(entry.name for entry in os.scandir(self._path(prefix)))
            except (FileNotFoundError, NotADirectoryError):
                return
        yield from (f"{prefix}/{name}" for name in names if not name.startswith("."))

    def names(self) -> Iterator[str]:
        """See `Store.names`."""
        with _told(f"the store {self.root} cannot be listed"):
            names = sorted(entry.name for entry in os.scandir(self.root))
        return (name for name in names if not name.startswith("."))

    def swap(self, key: str, old: bytes | None, new: bytes) -> bool:
        """See `Store.swap`. Swaps in one directory wait for each other on a lock of that directory."""
        path = self._path(check_live(key))
        with _told(f"{key} cannot be written"):
            self._make_parents(path)
            with _locked(path.parent):
                limit = DEFAULT_LIMIT if old is None else len(old) + 1
                if self._held(key, limit) != old:
                    return False
                _write_draft(path, new, "swap").replace(path)
                crashpoint("swap.named")
                _sync_directory(path.parent)
        crashpoint("swap.durable")
        return True

    def open_log(self, key: str) -> Log:
        """See `Store.open_log`."""
        path = self._path(check_record(key))
        with _told(f"{key} cannot be opened"):
            self._make_parents(path)
            return DirectoryLog(path)

    def read_log(self, key: str) -> Iterator[bytes]:
        """See `Store.read_log`."""
        with _told(f"{key} cannot be read"):
            file = _open(self._path(key))
            if file is None:
                return
            with file:
                while piece := file.read(CHUNK):
                    yield piece

    def rewritten(self) -> Iterator[str]:
        """See `Store.rewritten`; a directory keeps no versions."""
        return iter(())

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
        missing = [part for part in path.parents if not part.exists()]
        for part in reversed(missing):
            part.mkdir(mode=0o700, exist_ok=True)
            _sync_directory(part.parent)


class DirectoryLog:
    """A log that is a file. Beside it stand a lock, which names the holder, and the emergency reserve.

    Args:
        path: the file; its directory exists.

    Raises:
        LedgerError: another process has it open.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reserve = path.with_name(f".{path.name}.reserve")
        self._spending = False
        self._lock = _hold(path.with_name(f".{path.name}.lock"), path.name)
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
            self._descriptor = os.open(path, flags, 0o600)
            self._size = os.fstat(self._descriptor).st_size
            self._make_reserve()
            _sync_directory(path.parent)
        except BaseException:
            self._lock.close()
            raise

    def append(self, data: bytes, *, urgent: bool = False) -> None:
        """See `Log.append`."""
        crashpoint("log.append.before")
        if due("log.append.half"):
            os.write(self._descriptor, data[: len(data) // 2].rstrip(b"\n"))
            die()
        with _told(f"{self._path.name} cannot be written"):
            if not urgent and not self._refill():
                raise _full(self._path)
            while not self._fits(data):
                if not (urgent and self._spend_reserve()):
                    self._spending = True
                    raise _full(self._path)
            crashpoint("log.append.written")
            os.fdatasync(self._descriptor)
            self._size += len(data)
        crashpoint("log.append.durable")

    def truncate(self, size: int) -> None:
        """See `Log.truncate`."""
        crashpoint("log.truncate.before")
        with _told(f"{self._path.name} cannot be truncated"):
            os.ftruncate(self._descriptor, size)
            os.fsync(self._descriptor)
        self._size = size
        crashpoint("log.truncate.done")

    def close(self, *, final: bool = False) -> None:
        """See `Log.close`."""
        if self._lock.closed:
            return
        with contextlib.suppress(OSError):
            if final:
                self._reserve.unlink(missing_ok=True)
            os.close(self._descriptor)
        self._lock.close()

    def _fits(self, data: bytes) -> bool:
        """Write all of it, or take back what was written; nothing is synced yet, so this is safe."""
        try:
            _write_all(self._descriptor, data)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            os.ftruncate(self._descriptor, self._size)
            return False
        return True

    def _make_reserve(self) -> None:
        """Set space aside, or bring it back to its size; a store that is nearly full has a smaller one."""
        descriptor = os.open(self._reserve, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            free = os.fstatvfs(descriptor)
            size = min(RESERVE, free.f_bavail * free.f_frsize // 4)
            if size > os.fstat(descriptor).st_size:
                os.posix_fallocate(descriptor, 0, size)
            self._spending = False
        except OSError as error:
            if error.errno not in _FULL:
                raise
        finally:
            os.close(descriptor)

    def _spend_reserve(self) -> bool:
        """Free half of the reserve at a time, so that it lasts for more than one record."""
        left = self._reserve.stat().st_size if self._reserve.exists() else 0
        self._spending = True
        if left > PAGE:
            os.truncate(self._reserve, left // 2)
        else:
            self._reserve.unlink(missing_ok=True)
        return left > 0

    def _refill(self) -> bool:
        """Once it was touched, only what is urgent is written until there is space for a whole reserve."""
        free = os.fstatvfs(self._descriptor)
        if self._spending and free.f_bavail * free.f_frsize > 2 * RESERVE:
            self._make_reserve()
        return not self._spending


def _hold(path: Path, name: str) -> IO[str]:
    """Take a lock for the life of the process; the kernel lets go of it however the process ends."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    file = os.fdopen(descriptor, "r+", encoding="utf-8")
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = _holder(file)
        file.close()
        raise LedgerError(
            f"{name} is being written by {holder}", where=str(path.parent), changed="Nothing was changed",
            advice="Wait for that run to end, or stop it; its lock goes with the process",
        ) from error
    with contextlib.suppress(OSError):  # on a full disk the next one is not told who, and that is all
        os.pwrite(descriptor, json.dumps({"holder": whoami()}).ljust(256).encode(), 0)
    return file


def _holder(file: IO[str]) -> str:
    try:
        return str(json.loads(file.read(4096))["holder"])
    except (ValueError, KeyError, TypeError):
        return "another process"


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
        _write_all(descriptor, data)
        crashpoint(f"{point}.written")
        os.fsync(descriptor)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
    return draft


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _full(path: Path) -> StoreFullError:
    return StoreFullError(
        f"no space is left for {path.name}", where=str(path.parent), changed="Nothing was written",
        advice=f"free space on that file system, see: df {path.parent}",
    )


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    """Turn the system's error into one that names the key and the reason."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"{what}: {error.strerror}", where=str(error.filename or "")) from error
