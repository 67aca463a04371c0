"""What a store in a directory does with files: write all of it, sync, and say what the system said."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from lamplighter.errors import StoreError
from lamplighter.store import StoreFullError

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_ADVICE = {
    errno.EIO: "the disk or its cable is failing; see the kernel's log, and copy the store elsewhere",
    errno.EROFS: "the file system is mounted read-only, often after an error: see the kernel's log",
    errno.EACCES: "give the store to the worker's account",
    errno.EPERM: "give the store to the worker's account",
    errno.ESTALE: "the file system was taken away and came back; mount it again",
}


def write_all(descriptor: int, data: bytes) -> None:
    """Write until everything is written."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def full(path: Path) -> StoreFullError:
    """The error for a file that found no space."""
    return StoreFullError(
        f"no space is left for {path.name}", where=str(path.parent), changed="Nothing was written",
        advice=f"free space (or inodes, or quota) on that file system, see: df {path.parent}",
    )


@contextlib.contextmanager
def told(what: str) -> Iterator[None]:
    """Turn the system's error into one that names the key and the reason."""
    try:
        yield
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, "")
        where = str(error.filename or "")
        raise StoreError(f"{what}: {error.strerror}", where=where, advice=advice) from error
