"""From what an apt host says to what is to be done on it. Pure: facts in, steps, refusals and notes out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from lamplighter.model.canonical import Json, JsonObject
from lamplighter.model.inventory import Host
from lamplighter.model.outcome import Terminal
from lamplighter.model.plan import HostPlan, Step
from tasks.debian_host import END_OF_LIFE, Change, Packages, Release, Simulation
from tasks.linux import Kernels, Services, Space
from tasks.reboot import reboot_step

MOST_CLOCK_SECONDS = 30.0
KERNEL_IMAGE_KB = 150 * 1024
"""What one more kernel takes in /boot, its initial ramdisk and the one being built beside it included."""
SHOWN = 12

FLAGGED: tuple[tuple[str, str], ...] = (
    (r"(linux-image|proxmox-kernel|pve-kernel)-|raspberrypi-kernel", "kernel"),
    (r"libc6$|libc-bin$", "C library, used by every process"),
    (r"systemd$|libsystemd0$|udev$|init$|dbus$|dbus-daemon$", "init and message bus"),
    (r"openssl$|libssl[\d.]+|libgnutls\d+", "TLS libraries"),
    (r"openssh-|sudo$|libpam|sssd|samba|winbind|krb5-|slapd$", "how people and the runbooks log in"),
    (r"postgresql-\d|mariadb-server|mysql-server|redis-server|mongodb|cassandra|elasticsearch", "database"),
    (r"docker|containerd|runc$|podman|lxc|qemu-|libvirt", "what containers and machines run in"),
    (r"grub-|shim-|initramfs-tools|dkms$|mdadm$|lvm2$|cryptsetup", "what the host boots with"),
    (r"bind9$|isc-dhcp-server|kea-|haproxy$|keepalived$|pacemaker|corosync", "what other hosts depend on"),
)
KERNEL = r"(linux-image|proxmox-kernel|pve-kernel)-|raspberrypi-kernel"
REBOOTS = re.compile(rf"{KERNEL}|(libc6|dbus|dbus-daemon|systemd)$")
"""Packages after whose upgrade a host runs old code until it is rebooted."""

LEAST_FREE_VARS = {
    "/": "lamplighter_min_free_mb_root", "/boot": "lamplighter_min_free_mb_boot",
    "/var": "lamplighter_min_free_mb_var", "/tmp": "lamplighter_min_free_mb_tmp",  # noqa: S108 - a path on the host
}


@dataclass(frozen=True, slots=True)
class AptFacts:
    """What a survey saw of one host.

    Attributes:
        scope: `security` or `all`.
        release, support: the distribution, and a sentence when its support is ending, over, or not known.
        boot_id, uptime, kernels: the running system; uptime in seconds.
        clock: seconds the host is ahead of the worker (negative: behind).
        lock: who held dpkg's lock for as long as the survey waited; empty when free.
        space: per path.
        packages, audit: dpkg's database, and what `dpkg --audit` has to say about it.
        asks: who asks for a reboot; None when nobody does.
        services: what runs and what has failed before the change.
        refresh: why the package lists are not up to date; empty when they are.
        age: seconds since they were refreshed.
        wanted: what the scope offers.
        others: updates outside the scope.
        rehearsal: what apt would do if told exactly what is planned, dependencies included.
        download_kb, disk_kb: what it fetches and takes.
        conffiles: configuration files of the planned packages that were changed on the host.
    """

    scope: str
    release: Release
    boot_id: str
    packages: Packages
    support: str = ""
    uptime: int = 0
    kernels: Kernels = field(default_factory=lambda: Kernels(""))
    clock: float = 0.0
    lock: str = ""
    space: tuple[Space, ...] = ()
    audit: str = ""
    asks: tuple[str, ...] | None = None
    services: Services = field(default_factory=Services)
    refresh: str = ""
    age: int = 0
    wanted: Simulation = field(default_factory=Simulation)
    others: int = 0
    rehearsal: Simulation = field(default_factory=Simulation)
    download_kb: int = 0
    disk_kb: int = 0
    conffiles: tuple[str, ...] = ()

    @property
    def changes(self) -> tuple[Change, ...]:
        """What would be installed, in name order."""
        return self.rehearsal.install

    @property
    def removals(self) -> tuple[Change, ...]:
        """What would be removed, in name order."""
        return self.rehearsal.remove

    @property
    def kept_back(self) -> tuple[str, ...]:
        """What the scope offers and apt cannot install, holds left out."""
        return tuple(name for name in self.wanted.names("kept back") if name not in self.packages.held)

    def relevant(self) -> JsonObject:
        """What the plan depends on: not free bytes, uptime or the clock, which change by themselves."""
        return {
            "scope": self.scope, "release": f"{self.release.id} {self.release.version}",
            "boot_id": self.boot_id,
            "install": {one.name: [one.old, one.new] for one in self.changes},
            "remove": {one.name: one.old for one in self.removals},
            "held": list(self.packages.held), "broken": dict(self.packages.broken),
            "interrupted": self.packages.interrupted, "asks": None if self.asks is None else list(self.asks),
        }


def plan(host: Host, facts: AptFacts, *, reboot: str, repair: bool) -> HostPlan:
    """Decide the steps of one host, or the reason for none.

    Args:
        host: with its variables (`lamplighter_min_free_mb_*`).
        facts: of this host.
        reboot: `when-needed` or `never`.
        repair: whether an interrupted dpkg is to be repaired first.
    """
    notes = tuple(_notes(facts, reboot))
    problems = tuple(_problems(host, facts, repair=repair))
    if problems:
        return HostPlan.of(host.name, facts, reason="; ".join(problems), end=Terminal.REFUSED, notes=notes)
    steps = [step for step in (_repair(facts), _upgrade(facts)) if step]
    if reboot == "when-needed" and (facts.changes or facts.asks is not None):
        steps.append(_reboot(facts))
    if not steps:
        return _nothing(host, facts, notes)
    first = steps[0]
    baseline = {"baseline": facts.services.as_json(), "booted": facts.boot_id}
    steps[0] = Step(first.id, first.action, first.summary, {**first.args, **baseline}, first.undo)
    return HostPlan.of(host.name, facts, steps, notes=notes)


def install_arguments(args: Mapping[str, Json]) -> tuple[str, ...]:
    """What `apt-get install` is told for an `apt.install` step: exact versions, and nothing it may add.

    Args:
        args: `{"install": {name: version}, "new": [name], "remove": {name: version}}`.
    """
    options = [] if args["remove"] else ["--no-remove"]
    if not args["new"]:
        options.append("--only-upgrade")
    return (
        *options,
        *(f"{name}={version}" for name, version in sorted(args["install"].items())),
        *(f"{name}-" for name in sorted(args["remove"])),
    )


def upgrade_arguments(install: Iterable[Change], remove: Iterable[Change]) -> dict[str, Json]:
    """The arguments of an `apt.install` step."""
    changes = tuple(install)
    return {
        "install": {one.name: one.new for one in changes},
        "from": {one.name: one.old for one in changes if one.old},
        "new": [one.name for one in changes if not one.old],
        "remove": {one.name: one.old for one in remove},
        "security": [one.name for one in changes if one.security],
    }


# --- steps ----------------------------------------------------------------------------------------


def _repair(facts: AptFacts) -> Step | None:
    broken = facts.packages.broken
    if not broken and not facts.packages.interrupted:
        return None
    what = some(f"{name} is {state}" for name, state in broken.items()) or "dpkg's journal is unfinished"
    summary = f"finish what an interrupted dpkg left: {what}"
    return Step("repair", "dpkg.configure", summary, {"broken": broken})


def _upgrade(facts: AptFacts) -> Step | None:
    if not facts.changes and not facts.removals:
        return None
    args = upgrade_arguments(facts.changes, facts.removals)
    counts = [f"upgrade {_count(len(args['from']), 'package')}"]
    if args["new"]:
        counts.append(f"install {len(args['new'])} new")
    if args["remove"]:
        counts.append(f"REMOVE {len(args['remove'])}")
    listed = some(f"{one.name} {one.new or 'removed'}" for one in (*facts.removals, *facts.changes))
    security = f", {len(args['security'])} for security" if args["security"] else ""
    return Step("upgrade", "apt.install", f"{', '.join(counts)}{security}: {listed}", args, _undo(facts))


def _undo(facts: AptFacts) -> str:
    back = [f"{one.name}={one.old}" for one in (*facts.changes, *facts.removals) if one.old]
    new = [f"{one.name}-" for one in facts.changes if not one.old]
    return (
        f"apt-get install --allow-downgrades {' '.join((*back, *new))}"
        " (only while the archives still offer the old versions; data a package migrated stays migrated)"
    )


def _reboot(facts: AptFacts) -> Step:
    asked = [] if facts.asks is None else [f"asked for by {some(facts.asks) or 'the host'}"]
    expected = sorted(one.name for one in facts.changes if REBOOTS.match(one.name))
    why = asked + ([f"because of {some(expected)}"] if expected else [])
    return reboot_step(facts.boot_id, why, certain=bool(why))


def _nothing(host: Host, facts: AptFacts, notes: Sequence[str]) -> HostPlan:
    checked = _count(len(facts.packages.installed), "package")
    what = "no security updates are waiting" if facts.scope == "security" else "already up to date"
    if facts.kept_back:
        what = f"nothing apt can install; it keeps back {some(facts.kept_back)}"
    reason = f"{what}; {checked} checked, lists refreshed {facts.age} s ago"
    if facts.others:
        reason += f"; {_count(facts.others, 'other update')} not for security"
    if facts.support.startswith(END_OF_LIFE):
        reason, end = f"{facts.support}: upgrade the release ({reason})", Terminal.REFUSED
    elif facts.scope == "security" and facts.kept_back:
        reason = f"apt keeps security updates back: {some(facts.kept_back)}; decide that by hand"
        end = Terminal.REFUSED
    else:
        end = Terminal.UNCHANGED
    return HostPlan.of(host.name, facts, reason=reason, end=end, notes=notes)


# --- refusals -------------------------------------------------------------------------------------


def _problems(host: Host, facts: AptFacts, *, repair: bool) -> Iterable[str]:
    """Everything that speaks against touching the host, as sentences; each says what to do."""
    if facts.lock:  # packages half-way through are then to be expected, and say nothing
        yield f"dpkg's lock is held by {facts.lock}: plan again when it is done"
    else:
        yield from _dpkg_problems(facts, repair=repair)
    if abs(facts.clock) > MOST_CLOCK_SECONDS:
        side = "ahead of" if facts.clock > 0 else "behind"
        yield f"its clock is {abs(facts.clock):.0f} s {side} the worker's: mend its time service"
    if facts.refresh:
        yield facts.refresh
    for error in dict.fromkeys((facts.wanted.error, facts.rehearsal.error)):
        if error:
            yield f"apt cannot work out the updates: {error}"
    if facts.scope == "security" and facts.removals:
        gone = some(one.name for one in facts.removals)
        yield f"the security updates would remove {gone}: decide that by hand"
    yield from space_problems(host, facts.space, facts.changes, facts.download_kb, facts.disk_kb)


def _dpkg_problems(facts: AptFacts, *, repair: bool) -> Iterable[str]:
    broken = facts.packages.broken
    lost = [name for name, state in broken.items() if state in {"half-installed", "unknown"}]
    if lost:
        yield f"{some(lost)} is half-installed: install it again by hand (apt-get install --reinstall)"
    elif (broken or facts.packages.interrupted) and not repair:
        what = some(f"{name} is {state}" for name, state in broken.items()) or "its journal is unfinished"
        yield f"dpkg was interrupted: {what}; plan again with repair=true to finish that first"
    elif facts.audit and not broken:
        yield f"dpkg --audit finds: {facts.audit}"


def space_problems(
    host: Host, space: Iterable[Space], changes: Iterable[Change], download_kb: int, disk_kb: int
) -> Iterable[str]:
    """Sentences for every path with too little room for the change, or for the site's own minimum."""
    space, told = tuple(space), set[tuple[str, int]]()
    device = {one.path: (one.device, one.size_kb) for one in space}
    kernels = sum(bool(re.match(r"linux-image-\d", one.name)) and not one.old for one in changes)
    needs = (("/var/cache/apt/archives", download_kb), ("/usr", max(0, disk_kb) + download_kb),
             ("/boot", kernels * KERNEL_IMAGE_KB))
    for one in space:
        need = sum(kb for path, kb in needs if device.get(path) == (one.device, one.size_kb))
        least = host.vars.get(LEAST_FREE_VARS.get(one.path, ""))
        if least is not None and (isinstance(least, bool) or not isinstance(least, int)):
            yield f"{LEAST_FREE_VARS[one.path]} is {str(least)[:50]!r}: write a whole number of MB"
            continue
        problem = one.problem(need, None if least is None else least * 1024)
        if problem and device[one.path] not in told:  # once a file system, not once a path
            told.add(device[one.path])
            yield problem


# --- notes ----------------------------------------------------------------------------------------


def _notes(facts: AptFacts, reboot: str) -> Iterable[str]:
    """Lines for the approver, the most serious first."""
    yield from _listed("REMOVES", (f"{one.name} {one.old}" for one in facts.removals))
    if facts.support:
        yield facts.support
    if facts.scope == "all":
        yield from _listed("security", (one.name for one in facts.changes if one.security))
    else:
        needed = (one.name for one in facts.changes if not one.security)
        yield from _listed("no security updates themselves, but needed by them", needed)
    for pattern, what in FLAGGED:
        yield from _listed(what, (one.name for one in facts.changes if re.match(pattern, one.name)))
    yield from _held(facts)
    yield from _listed("kept back by apt", facts.kept_back)
    yield from _listed("not offered to this host yet (phased)", facts.wanted.names("deferred due to phasing"))
    yield from _listed("security updates that need Ubuntu Pro", facts.wanted.names("require Ubuntu Pro"))
    yield from _listed("changed here, so kept as they are", facts.conffiles)
    if facts.others:
        yield f"{_count(facts.others, 'other update')} left out: not for security"
    yield from _listed("failed before the change", facts.services.failed)
    if facts.asks is not None and reboot == "never":
        yield f"asks for a reboot ({some(facts.asks) or 'no package is named'}), which is not planned"


def _held(facts: AptFacts) -> Iterable[str]:
    """Holds, those in the way of an update of the scope told apart."""
    blocking = [name for name in facts.packages.held if name in facts.wanted.names("kept back")]
    scope = "a security update" if facts.scope == "security" else "an update"
    yield from _listed(f"on hold although {scope} waits, left alone", blocking)
    yield from _listed("on hold, left alone", (name for name in facts.packages.held if name not in blocking))


def _listed(what: str, names: Iterable[str]) -> Iterable[str]:
    """`what: a, b`, or nothing for no names."""
    listed = ", ".join(names)
    if listed:
        yield f"{what}: {listed}"


def some(names: Iterable[str]) -> str:
    """The first dozen, and how many more."""
    listed = list(names)
    rest = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return ", ".join(listed[:SHOWN]) + rest


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
