"""Directories as they really are: other programs, failing disks, file systems that do not keep their word."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lamplighter.errors import LedgerError, StoreError
from lamplighter.inspection import inspect
from lamplighter.ledger import Ledger
from lamplighter.store import StoreAddress, open_store
from lamplighter.store.directory import DirectoryStore
from lamplighter.store.filesystem import check_kind, kind_of, try_once
from tests.storecases import verdict, write_run
from tests.storekit import SITE, a_store, store_entry

RUN = "run-1"
LEDGER = f"runs/{RUN}/ledger.jsonl"
LOCK = f"runs/{RUN}/.ledger.jsonl.lock"


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return a_store(tmp_path / "store")


# --- other programs -------------------------------------------------------------------------------


def _replace(path: Path) -> None:
    copy = path.with_name("copy")
    shutil.copy2(path, copy)
    copy.replace(path)


def _rewrite(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(("name", "act", "said"), [
    (LEDGER, _replace, "another file now"), (LEDGER, Path.unlink, "is gone"),
    (LEDGER, _rewrite, "this process wrote"), (LOCK, Path.unlink, "is gone"),
    (LOCK, _replace, "another file now"),
])
def test_what_another_program_touched_takes_no_record(
    store: DirectoryStore, name: str, act: Callable[[Path], None], said: str
) -> None:
    """A sync or restore replaces, removes or cuts the open ledger, or its lock, while the run is at work."""
    with Ledger.open(store, RUN, SITE) as ledger:
        ledger.append("opened")
        act(store.root / name)
        with pytest.raises(LedgerError, match=said):
            ledger.append("intent", host="a")
        with pytest.raises(LedgerError):
            ledger.append("intent", host="b")


def test_records_that_went_into_a_file_without_a_name_are_missed(store: DirectoryStore) -> None:
    """The copy that took the name is older: the run is not resumed on it."""
    with Ledger.open(store, RUN, SITE) as ledger:
        ledger.append("opened")
        old = (store.root / LEDGER).read_bytes()
        ledger.append("intent", host="a")
        (store.root / "older").write_bytes(old)
        (store.root / "older").replace(store.root / LEDGER)
        with pytest.raises(LedgerError):
            ledger.append("outcome", host="a")
    with pytest.raises(LedgerError, match=r"were recorded.*longest copy"):
        Ledger.open(store, RUN, SITE)


def test_foreign_names_are_named_and_passed_over(store: DirectoryStore) -> None:
    write_run(store, RUN)
    files = (
        "seals/.DS_Store", "seals/._00000001", "seals/00000001.bak", "runs/Thumbs.db", "runs/desktop.ini",
        f"runs/{RUN}/.nfs00000000deadbeef", f"runs/{RUN}/ledger (conflicted copy).jsonl", "witness/4913",
        "seals/00000001~",
    )
    for name in files:
        path = store.root / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    for name in ("seals/@eaDir", "runs/@eaDir", "runs/#recycle", "runs/.Trash-0", "runs/empty"):
        (store.root / name).mkdir()
    for copy in (f"{RUN}.sync-conflict-20261125", f"{RUN}-DESKTOP"):
        shutil.copytree(store.root / "runs" / RUN, store.root / "runs" / copy)
    end, said = verdict(store)
    assert end == "sound", said
    for name in (
        "@eaDir", "#recycle", "Thumbs.db", "conflicted copy", "00000001.bak", "00000001~", "sync-conflict",
        "DESKTOP, a copy of run run-1", "witness/4913", "runs/empty",
    ):
        assert name in said
    write_run(store, "run-9")
    assert [run.run for run in inspect(store, SITE).runs] == [RUN, "run-9"]


def test_a_backup_that_holds_the_lock_is_not_taken_for_a_writer(store: DirectoryStore) -> None:
    write_run(store, RUN, seal=False)
    with (store.root / LOCK).open("rb") as backup:
        fcntl.flock(backup, fcntl.LOCK_EX)
        with pytest.raises(LedgerError, match=r"locked by another program.*lsof") as told:
            Ledger.open(store, RUN, SITE)
        assert "being written by" not in str(told.value)
    write_run(store, RUN)


# --- the disk lies once ---------------------------------------------------------------------------


def test_what_a_failed_sync_was_to_write_is_never_trusted(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page cache may show it, and the disk may not have it: the records go into a file of their own."""
    def fails(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with Ledger.open(store, RUN, SITE) as ledger:
        ledger.append("opened")
        before = (store.root / LEDGER).stat().st_ino
        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", fails)
            with pytest.raises(LedgerError, match=r"Input/output error.*kernel's log"):
                ledger.append("intent", host="a")
        with pytest.raises(LedgerError):
            ledger.append("intent", host="b")
    with Ledger.open(store, RUN, SITE) as again:
        assert (store.root / LEDGER).stat().st_ino != before, "another file"
        assert [record.kind for record in again.records()] == ["opened", "recovered"]


def test_a_log_that_was_not_closed_is_copied_before_it_is_written_on(store: DirectoryStore) -> None:
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom lamplighter.ledger import Ledger\n"
        "from lamplighter.store.directory import DirectoryStore\n"
        "ledger = Ledger.open(DirectoryStore(Path(sys.argv[1])), 'run-1', 'demo')\n"
        "ledger.append('opened')\nos.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(store.root)], check=False)
    before = (store.root / LEDGER).stat().st_ino
    with Ledger.open(store, RUN, SITE) as again:
        assert again.count == 1
        assert (store.root / LEDGER).stat().st_ino != before
        again.append("note")
    kept = (store.root / LEDGER).stat().st_ino
    with Ledger.open(store, RUN, SITE) as third:
        assert third.count == 2
    assert (store.root / LEDGER).stat().st_ino == kept, "one that was closed is not copied"
    assert not list((store.root / "runs" / RUN).glob(".ledger.jsonl.????????????????"))


# --- file systems ---------------------------------------------------------------------------------


def test_the_kind_of_a_file_system_is_the_kernels(tmp_path: Path) -> None:
    assert kind_of(Path("/proc")) == "proc"
    found = subprocess.run(["df", "--output=fstype", tmp_path], capture_output=True, text=True, check=True)
    assert kind_of(tmp_path) == found.stdout.split()[-1]


@pytest.mark.parametrize(("kind", "said"), [
    ("nfs4", "network file system"), ("cifs", "network file system"), ("9p", "network file system"),
    ("fuse.sshfs", "network file system"), ("vfat", "without hard links"), ("exfat", "without hard links"),
    ("fuse", "not known to keep"), ("fuseblk", "not known to keep"), ("", "of an unknown kind"),
])
def test_file_systems_that_do_not_keep_their_word_are_refused(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch, kind: str, said: str
) -> None:
    """By their kind, at the opening and before the first write; only to look at one, it may lie anywhere."""
    entry = store_entry(store.root)
    write_run(store, RUN)
    monkeypatch.setattr("lamplighter.store.filesystem.kind_of", lambda _: kind)
    with pytest.raises(StoreError, match=said):
        open_store(StoreAddress(entry["url"], id=entry["id"], site=SITE))
    with pytest.raises(LedgerError, match=said):
        write_run(DirectoryStore(store.root), "run-2")
    assert inspect(open_store(StoreAddress(entry["url"])), SITE).sound
    accepts = {"file-system": kind}
    if said == "not known to keep":
        open_store(StoreAddress(entry["url"], accepts, entry["id"], SITE))
    else:
        with pytest.raises(StoreError):
            open_store(StoreAddress(entry["url"], accepts, entry["id"], SITE))


@pytest.mark.parametrize(("module", "name", "error", "said"), [
    (os, "link", errno.EPERM, "lacks hard links"), (fcntl, "flock", errno.EBADF, "lacks locks"),
    (fcntl, "flock", errno.ENOLCK, "lacks locks"), (os, "fsync", errno.EINVAL, "lacks files and syncs"),
])
def test_what_is_lacking_is_found_by_trying_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: object, name: str, error: int, said: str
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(module, name, fails)
    with pytest.raises(StoreError, match=said):
        try_once(tmp_path)
    assert list(tmp_path.iterdir()) == []


IN_MEMORY = """
import sys
from pathlib import Path
from tests.storekit import a_store
print(a_store(Path(sys.argv[1]) / "store").cautions()[0])
"""


@pytest.mark.lab
@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a tmpfs of its own")
def test_a_store_in_memory_is_said_to_be_one(tmp_path: Path) -> None:
    mount = 'mount -t tmpfs -o size=1m,mode=0700 tmpfs "$1" && exec "$2" -c "$3" "$1"'
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", mount, "sh", str(tmp_path),
         sys.executable, IN_MEMORY],
        capture_output=True, text=True, timeout=60, check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "nothing in it survives a restart" in done.stdout


def test_a_copy_on_a_read_only_medium_can_be_verified(store: DirectoryStore) -> None:
    write_run(store, RUN)
    for folder, _, names in os.walk(store.root, topdown=False):
        for name in names:
            (Path(folder) / name).chmod(0o400)
        Path(folder).chmod(0o500)
    assert verdict(DirectoryStore(store.root))[0] == "sound"
    assert check_kind(store.root) == "" or "memory" in check_kind(store.root)
