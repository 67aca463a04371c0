"""Is a folder fit to be a store? Told by the kind of its file system, and by trying once what is needed.

What is needed: a hard link does not replace, a rename does, a lock keeps a second process out, names differ
by case, and what was synced is on the disk. Over a network two machines may each have their own locks, which
no trial on one of them shows; so those kinds are refused by name, whatever a trial says.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from lamplighter.errors import StoreError
from lamplighter.store.files import FULL, sync_directory, told, write_all

KEEPS = frozenset({
    "ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "bcachefs", "jfs", "nilfs2", "overlay",
})
"""Local disks under Linux whose locks, links and syncs are the kernel's own (each with its `flock(2)`)."""
MEMORY = frozenset({"tmpfs", "ramfs"})
NEVER = {
    "a network file system: two machines may each have their own locks": (
        "nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "beegfs", "gpfs",
        "virtiofs", "vboxsf", "fuse.sshfs", "fuse.s3fs", "fuse.rclone", "fuse.glusterfs", "fuse.ceph",
        "fuse.cephfs", "fuse.mount-s3", "fuse.gcsfuse", "fuse.blobfuse", "fuse.davfs2", "fuse.curlftpfs",
        "fuse.vmhgfs-fuse", "fuse.juicefs", "fuse.osxfs", "fuse.grpcfuse",
    ),
    "a file system without hard links": (
        "vfat", "msdos", "exfat", "fuse.exfat", "fuse.exfat-fuse", "hfs", "udf", "iso9660",
    ),
}
OPTION = "file-system"
"""The store's option by which a site answers for a kind that is not known here."""
_TRIED = ".tried"


def kind_of(folder: Path) -> str:
    """The kind of the file system that a folder lies on, as the kernel calls it; empty when it does not say.

    By /proc/self/mountinfo (proc_pid_mountinfo(5)): of the mounts above the folder the deepest, and of those
    in one place the last.
    """
    try:
        lines = Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return ""
    place, best, kind = folder.resolve(), -1, ""
    for line in lines:
        before, _, after = line.partition(" - ")
        mount = Path(_unescape(before.split(" ")[4]))
        if place.is_relative_to(mount) and len(mount.parts) >= best:
            best, kind = len(mount.parts), after.split(" ")[0]
    return kind


def check_kind(folder: Path, accepted: str = "") -> str:
    """Refuse a folder on a file system that does not keep what a store needs.

    Args:
        folder: the store's.
        accepted: the option `file-system`: a kind for which the site's two parties answer.

    Returns:
        What to tell about it though it is taken; empty for nothing.

    Raises:
        StoreError: it is of a kind that is refused, or unknown here.
    """
    kind = kind_of(folder)
    if kind in KEEPS:
        return ""
    if kind in MEMORY:
        return f"{folder} lies in memory ({kind}): nothing in it survives a restart of this machine"
    why = next((why for why, kinds in NEVER.items() if kind in kinds), "")
    if not why and kind and kind == accepted:
        return f"{folder} lies on {kind}, for which the site's file answers"
    advice = "put the store on a local disk (ext4, xfs, btrfs), or into a bucket for several machines"
    if not why and kind:
        advice += f"; who answers for its locks, links and syncs writes the option `{OPTION}: {kind}`"
    raise StoreError(
        f"this file system ({kind or 'of an unknown kind'}) is no place for a store: "
        f"{why or 'it is not known to keep locks, hard links and syncs'}",
        where=str(folder), changed="Nothing was written", advice=advice,
    )


def try_once(folder: Path) -> None:
    """Try what a store needs, and note that it was tried on this file system.

    Raises:
        StoreError: something is lacking; it is named.
    """
    if not _was_tried(folder):
        with told(f"{folder} cannot be tried"):
            place = folder / f".trial-{secrets.token_hex(6)}"
            place.mkdir(mode=0o700)
            try:
                _try_all(place)
            finally:
                for left in place.iterdir():
                    left.unlink()
                place.rmdir()
            _write(folder / _TRIED, json.dumps(_mark(folder)).encode())


def _was_tried(folder: Path) -> bool:
    try:
        return bool(json.loads((folder / _TRIED).read_bytes()) == _mark(folder))
    except (OSError, ValueError):
        return False


def _mark(folder: Path) -> dict[str, object]:
    """What changes when a store is moved to another file system."""
    return {"kind": kind_of(folder), "id": os.statvfs(folder).f_fsid, "folder": folder.stat().st_ino}


def _try_all(place: Path) -> None:
    one, two = place / "one", place / "two"
    for what, attempt in (
        ("files and syncs of them", lambda: _try_files(one, two)),
        ("hard links", lambda: _try_link(one, place / "linked")),
        ("hard links that do not replace a file", lambda: _refuses(lambda: two.hardlink_to(one))),
        ("names that differ by case", lambda: _differ(place)),
        ("renames over a file", lambda: _try_rename(one, two)),
        ("locks of a file", lambda: _try_lock(two, os.O_RDWR)),
        ("locks of a folder", lambda: _try_lock(place, os.O_RDONLY | os.O_DIRECTORY)),
    ):
        _attempt(what, attempt, place.parent)


def _attempt(what: str, attempt: Callable[[], object], folder: Path) -> None:
    try:
        attempt()
    except (OSError, _LackingError) as error:
        if isinstance(error, OSError) and error.errno in FULL:
            raise
        why = (error.strerror or "") if isinstance(error, OSError) else str(error)
        raise StoreError(
            f"this file system ({kind_of(folder)}) lacks {what}: {why}", where=str(folder),
            changed="Nothing was recorded",
            advice="put the store on a local disk (ext4, xfs, btrfs), or into a bucket",
        ) from error


class _LackingError(Exception):
    """A trial ended otherwise than it must."""


def _try_files(one: Path, two: Path) -> None:
    _write(one, b"1")
    _write(two, b"2")
    sync_directory(one.parent)


def _try_link(old: Path, new: Path) -> None:
    new.hardlink_to(old)
    if new.read_bytes() != old.read_bytes() or old.stat().st_nlink != 2:  # noqa: PLR2004 - the two names
        raise _LackingError("the link is not the file")


def _refuses(act: Callable[[], None]) -> None:
    try:
        act()
    except FileExistsError:
        return
    raise _LackingError("it replaced the file")


def _differ(place: Path) -> None:
    if (place / "ONE").exists():
        raise _LackingError("`ONE` and `one` are the same file")


def _try_rename(old: Path, new: Path) -> None:
    old.replace(new)
    if old.exists() or new.read_bytes() != b"1":
        raise _LackingError("the file has the old content")


def _try_lock(path: Path, flags: int) -> None:
    first = os.open(path, flags)
    second = os.open(path, flags)
    try:
        fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in {errno.EWOULDBLOCK, errno.EACCES}:
                raise
        else:
            raise _LackingError("a second one got the lock as well")
    finally:
        os.close(first)
        os.close(second)


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        write_all(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unescape(text: str) -> str:
    """In mountinfo blank, tab, newline and backslash are octal numbers."""
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, char)
    return text
