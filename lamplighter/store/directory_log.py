"""A ledger in a directory: one file, a lock beside it that names the holder, and the emergency reserve.

Other programs come by: one that synchronises or restores puts a copy in the file's place, and what is
written goes into a file without a name. So each append looks, before and after, whether the open file is
still the one of that name and as long as this process left it; and whoever closes a log notes its length.

A sync that failed once is never trusted again: the kernel may count the lost pages as written, and show them
from its cache until the power fails (fsync(2)). So a log that was not closed in good order is not written on:
its records are copied into a new file, which is synced and takes the name. What a failed sync was to write is
left behind; nobody was told that it was written.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from lamplighter.crashpoints import crashpoint, die, due
from lamplighter.errors import LedgerError, StoreError
from lamplighter.store import whoami
from lamplighter.store.alive import is_gone, this_process
from lamplighter.store.files import FULL, full, sync_directory, told, write_all

RESERVE = 64 * 1024
PAGE = 4096
_NOTE_BYTES = 512


class DirectoryLog:
    """A log that is a file; see the module's docstring.

    Args:
        path: the file; its directory exists.

    Attributes:
        cut: what a failed sync was to write, and was left behind at this opening.

    Raises:
        LedgerError: another process has it open.
        StoreError: records that were there when it was closed are not there now.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reserve = path.with_name(f".{path.name}.reserve")
        self._lock_path = path.with_name(f".{path.name}.lock")
        self._spending = self._failed = False
        self._lock = _hold(self._lock_path, path.name)
        try:
            self.cut, whole = _start_over(path, _note(self._lock))
            _write_note(self._lock, {"holder": whoami(), "process": this_process(), "size": whole})
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
            self._size = os.fstat(self._descriptor).st_size
            self._make_reserve()
            sync_directory(path.parent)
        except BaseException:
            self._lock.close()
            raise

    def append(self, data: bytes, *, urgent: bool = False) -> None:
        """See `Log.append`."""
        crashpoint("log.append.before")
        if due("log.append.half"):
            os.write(self._descriptor, data[: len(data) // 2].rstrip(b"\n"))
            die()
        with told(f"{self._path.name} cannot be written"):
            self._check_place()
            if not urgent and not self._refill():
                raise full(self._path)
            while not self._fits(data):
                if not (urgent and self._spend_reserve()):
                    self._spending = True
                    raise full(self._path)
            crashpoint("log.append.written")
            self._sync(os.fdatasync)
            self._size += len(data)
            self._check_place()
        crashpoint("log.append.durable")

    def truncate(self, size: int) -> None:
        """See `Log.truncate`."""
        crashpoint("log.truncate.before")
        with told(f"{self._path.name} cannot be truncated"):
            os.ftruncate(self._descriptor, size)
            self._sync(os.fsync)
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
        if not self._failed:
            _write_note(self._lock, {"size": self._size})
        self._lock.close()

    def _sync(self, sync: Callable[[int], None]) -> None:
        try:
            sync(self._descriptor)
        except OSError:
            self._fail()
            raise

    def _fail(self) -> None:
        """Leave word that what was not acknowledged must not be trusted."""
        self._failed = True
        _write_note(self._lock, {"holder": whoami(), "process": this_process(), "synced": self._size})

    def _check_place(self) -> None:
        """The open file and its lock are still those of their names, and nobody else wrote."""
        for descriptor, path, size in (
            (self._descriptor, self._path, self._size), (self._lock.fileno(), self._lock_path, None),
        ):
            here = os.fstat(descriptor)
            try:
                named = path.lstat()
            except FileNotFoundError:
                named = None
            if named is None or (named.st_dev, named.st_ino) != (here.st_dev, here.st_ino):
                what = "is gone" if named is None else "is another file now"
            elif size is not None and here.st_size != size:
                what = f"has {here.st_size} bytes, and this process wrote {size}"
            else:
                continue
            self._fail()
            raise StoreError(
                f"{path.name} {what}: another program was here, a sync, restore or clean-up", where=str(path),
                advice="keep such programs away from the store; compare its copies before the run is resumed",
            )

    def _fits(self, data: bytes) -> bool:
        """Write all of it, or take back what was written; nothing is synced yet, so this is safe."""
        try:
            write_all(self._descriptor, data)
        except OSError as error:
            if error.errno not in FULL:
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
            if error.errno not in FULL:
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
        if self._spending:
            free = os.fstatvfs(self._descriptor)
            if free.f_bavail * free.f_frsize > 2 * RESERVE:
                self._make_reserve()
        return not self._spending


def _start_over(path: Path, before: Mapping[str, Any]) -> tuple[bytes, int]:
    """Copy a log that was not closed in good order; what was left behind, and the bytes of whole lines."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        data = b""
    synced = before.get("synced", before.get("size", 0))
    if type(synced) is not int or len(data) < synced:
        raise StoreError(
            f"{path.name} has {len(data)} bytes, and {synced} were recorded", where=str(path),
            changed="Nothing was changed",
            advice="another program replaced or cut it: bring back the longest copy, then resume the run",
        )
    if not data or "holder" not in before:
        return b"", data.rfind(b"\n") + 1
    keep = data[:synced] if "synced" in before else data
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        _copy(draft, keep)
        draft.replace(path)
        sync_directory(path.parent)
    except OSError as error:
        if error.errno not in FULL:
            raise
        if "synced" in before:
            raise full(path) from error  # else no sync is known to have failed: it is written on as it is
    finally:
        draft.unlink(missing_ok=True)
    return data[len(keep):], keep.rfind(b"\n") + 1


def _copy(draft: Path, data: bytes) -> None:
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        write_all(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _hold(path: Path, name: str) -> IO[str]:
    """Take a lock for the life of the process; the kernel lets go of it however the process ends."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    file = os.fdopen(descriptor, "r+", encoding="utf-8")
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        note = _note(file)
        file.close()
        if "holder" not in note or is_gone(note.get("process")):
            raise LedgerError(
                f"{name} is locked by another program, such as a backup", where=str(path),
                changed="Nothing was changed", advice=f"see which, and stop it: lsof {path}",
            ) from error
        raise LedgerError(
            f"{name} is being written by {note['holder']}", where=str(path.parent),
            changed="Nothing was changed",
            advice="Wait for that run to end, or stop it; its lock goes with the process",
        ) from error
    return file


def _note(lock: IO[str]) -> dict[str, Any]:
    """What its holder, or the one before, left in a lock."""
    try:
        note = json.loads(os.pread(lock.fileno(), _NOTE_BYTES, 0) or b"{}")
    except ValueError:
        return {"holder": "another process"}
    return note if isinstance(note, dict) else {"holder": "another process"}


def _write_note(lock: IO[str], note: Mapping[str, Any]) -> None:
    with contextlib.suppress(OSError):  # on a full disk the next one is not told who, and that is all
        os.pwrite(lock.fileno(), json.dumps(note).ljust(_NOTE_BYTES).encode(), 0)


