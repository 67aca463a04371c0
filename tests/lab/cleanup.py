"""Taking estates and fleets down, in whatever state they are, and finding what was left.

Order matters: ask politely, then kill by number and start time, then the interfaces, then the
files, and the registry's entry last, so that whatever goes wrong in between is found again.
"""

import contextlib
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

from tests.lab import registry
from tests.lab.control import ask
from tests.lab.errors import LabError
from tests.lab.keys import remove_tree
from tests.lab.registry import MARK, PREFIX, RUN, Entry
from tests.lab.supervisor import remove_cgroups
from tests.lab.system import Process, marked_processes, run, wait_until

CHILDREN: dict[int, "subprocess.Popen[bytes]"] = {}
"""Supervisors this process started, to be waited for, so that none stays a zombie."""

_LINK = re.compile(rf"{PREFIX}(\d+)(?:h\d+)?")
_SECONDS = 10.0


def take_down(entry: Entry) -> None:
    """Remove one estate or fleet.

    Raises:
        LabError: if something cannot be removed.
    """
    supervisor = entry.supervisor
    if supervisor is not None and supervisor.alive:
        try:
            ask(entry.socket, "quit", timeout=2)
        except LabError:
            supervisor.kill()
        if not _wait(supervisor):
            supervisor.kill()
    _kill_marked(entry.name)
    if supervisor is not None:
        _wait(supervisor)
    remove_cgroups(entry.name)
    _remove_links(entry.slot)
    remove_tree(entry.gpg_home)
    entry.socket.unlink(missing_ok=True)
    remove_tree(Path(entry.folder))
    registry.remove(entry.name)


def sweep() -> list[str]:
    """Remove every estate and fleet nobody wants any more, and stray interfaces and processes.

    Returns:
        The names of what was removed.
    """
    removed = []
    with registry.locked():
        for entry in registry.entries():
            if not entry.wanted:
                take_down(entry)
                removed.append(entry.name)
        wanted = registry.entries()
        for process, name in marked_processes(MARK):
            if name not in {entry.name for entry in wanted}:
                process.kill()
                removed.append(f"{name} (process {process.pid})")
        for slot in _stray_slots(wanted):
            _remove_links(slot)
            removed.append(registry.bridge(slot))
    return removed


def clear_dead(name: str) -> None:
    """Remove an estate or fleet of this name if its owner is dead."""
    with registry.locked():
        entry = registry.load(name)
        if entry is not None and not entry.wanted:
            take_down(entry)


def leftovers(name: str | None = None) -> list[str]:
    """List processes, mounts, namespaces, interfaces and files no living estate accounts for.

    Args:
        name: an estate or fleet, to list what is there of it, living or not, and of no other.

    Returns:
        One line for each; empty if all is clean.
    """
    live = registry.entries() if name is None else []
    names = {entry.name for entry in live if entry.wanted}
    found = [
        f"process {process.pid} of {mark}"
        for process, mark in marked_processes(MARK)
        if (mark not in names if name is None else mark == name)
    ]
    if name is None:
        found += [
            f"interface {registry.bridge(slot)}" for slot in _stray_slots([e for e in live if e.wanted])
        ]
    found += [
        f"file {path}"
        for path in (sorted(RUN.iterdir()) if RUN.is_dir() else ())
        if path.name != "lock" and (path.stem not in names if name is None else path.stem == name)
    ]
    return found + _mounts(entry.folder for entry in live if entry.wanted) + _namespaces()


def _wait(process: Process) -> bool:
    child = CHILDREN.pop(process.pid, None)
    if child is None:
        return process.wait(_SECONDS)
    try:
        child.wait(_SECONDS)
    except subprocess.TimeoutExpired:
        CHILDREN[process.pid] = child
        return False
    return True


def _kill_marked(name: str) -> None:
    def none_left() -> bool:
        mine = [process for process, mark in marked_processes(MARK) if mark == name]
        for process in mine:
            process.kill()
        return not mine

    if not wait_until(none_left, _SECONDS, 0.02):
        raise LabError(f"processes of {name} cannot be killed")


def _remove_links(slot: int | None) -> None:
    if slot is not None and Path(f"/sys/class/net/{registry.bridge(slot)}").exists():
        with contextlib.suppress(LabError):
            run(["ip", "link", "del", "group", str(registry.group(slot))])


def _stray_slots(wanted: Iterable[Entry]) -> list[int]:
    held = {entry.slot for entry in wanted}
    matches = (_LINK.fullmatch(path.name) for path in Path("/sys/class/net").iterdir())
    return sorted({int(match[1]) for match in matches if match} - held)


def _mounts(folders: Iterable[str]) -> list[str]:
    """List mounts of ours that this process can see: there should be none, ever."""
    live = tuple(folders)
    lines = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    parts = (line.split() for line in lines)
    return [f"mount {p[1]}" for p in parts if p[0].startswith("lab-") and not p[1].startswith(live)]


def _namespaces() -> list[str]:
    """List named network namespaces of ours: there should be none, ever."""
    folder = Path("/run/netns")
    found = folder.glob(f"{PREFIX}*") if folder.is_dir() else ()
    return [f"network namespace {path.name}" for path in found]
