"""Which estates exist on this machine: one small file each, and the networks they hold.

An estate's number (its slot) gives it a /27 out of the three TEST-NETs and the names of its
interfaces. Slots are claimed under a lock, and never where this machine already has an address.
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from ipaddress import IPv4Interface, IPv4Network
from pathlib import Path

from tests.lab.errors import LabError
from tests.lab.system import Process, run

RUN = Path("/run/lamplighter-lab")
MARK = "LAMPLIGHTER_LAB"
"""Environment variable every process of an estate or a fleet carries: its name."""

PREFIX = "ll"
_GROUP = 0x11A00
_TEST_NETS = ("198.51.100.0/24", "203.0.113.0/24", "192.0.2.0/24")
SLOTS = tuple(part for net in _TEST_NETS for part in IPv4Network(net).subnets(new_prefix=27))


@dataclass(frozen=True)
class Entry:
    """One estate or fleet as the registry knows it."""

    name: str
    slot: int | None
    folder: str
    detached: bool
    owner: Process
    supervisor: Process | None = None

    @property
    def wanted(self) -> bool:
        """Whether somebody still has a use for it."""
        keeper = self.supervisor if self.detached and self.supervisor is not None else self.owner
        return keeper.alive

    @property
    def socket(self) -> Path:
        """Where its supervisor listens; in a short path, as sockets need."""
        return RUN / f"{self.name}.sock"

    @property
    def gpg_home(self) -> Path:
        """Where its signing key lives; in a short path, as gpg's agent needs."""
        return RUN / f"{self.name}.gpg"


def network(slot: int) -> IPv4Network:
    """Say which addresses a slot has.

    Returns:
        Its /27; the first is the bridge's.
    """
    return SLOTS[slot]


def bridge(slot: int) -> str:
    """Name a slot's bridge.

    Returns:
        The interface's name.
    """
    return f"{PREFIX}{slot}"


def group(slot: int) -> int:
    """Number a slot's interfaces, so that they are removed in one go.

    Returns:
        The group.
    """
    return _GROUP + slot


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """Hold the registry's lock: nobody else claims or removes anything meanwhile."""
    RUN.mkdir(mode=0o755, exist_ok=True)
    with (RUN / "lock").open("w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def entries() -> list[Entry]:
    """List what is registered.

    Returns:
        Every entry, by name.
    """
    found = (load(path.stem) for path in sorted(RUN.glob("*.json")))
    return [entry for entry in found if entry is not None]


def load(name: str) -> Entry | None:
    """Look an entry up.

    Returns:
        It, or None if there is none (or it is just going).
    """
    try:
        raw = json.loads((RUN / f"{name}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    supervisor = Process(**raw["supervisor"]) if raw["supervisor"] else None
    return Entry(
        raw["name"], raw["slot"], raw["folder"], raw["detached"], Process(**raw["owner"]), supervisor
    )


def save(entry: Entry) -> None:
    """Write an entry, whole or not at all."""
    path = RUN / f"{entry.name}.json"
    fresh = path.with_suffix(f".{os.getpid()}")
    fresh.write_text(json.dumps(asdict(entry)), encoding="utf-8")
    fresh.replace(path)


def remove(name: str) -> None:
    """Forget an entry."""
    (RUN / f"{name}.json").unlink(missing_ok=True)


def claim(name: str, folder: Path, *, detached: bool, wants_slot: bool) -> Entry:
    """Register a new estate or fleet for this process.

    Args:
        folder: its state.
        detached: whether it outlives this process.
        wants_slot: whether it needs a network.

    Returns:
        The entry, saved.

    Raises:
        LabError: if the name is taken or every slot is.
    """
    with locked():
        taken = load(name)
        if taken is not None:
            raise LabError(f"{name} is up already (process {taken.owner.pid}, {taken.folder}): down it first")
        slot = _free_slot() if wants_slot else None
        owner = Process.of(os.getpid())
        if owner is None:
            raise LabError("cannot read /proc/self/stat")
        entry = Entry(name, slot, str(folder), detached, owner)
        save(entry)
    return entry


def _free_slot() -> int:
    held = {entry.slot for entry in entries()}
    used = _networks_in_use()
    for slot, net in enumerate(SLOTS):
        exists = Path(f"/sys/class/net/{bridge(slot)}").exists()
        if slot not in held and not exists and not any(net.overlaps(other) for other in used):
            return slot
    raise LabError(
        f"all {len(SLOTS)} lab networks are taken: see `python -m tests.lab status`, then sweep or down"
    )


def _networks_in_use() -> list[IPv4Network]:
    """List networks this machine has an address in; a TEST-NET may be one of them."""
    lines = run(["ip", "-4", "-o", "addr", "show"]).splitlines()
    return [IPv4Interface(line.split()[3]).network for line in lines if len(line.split()) > 3]
