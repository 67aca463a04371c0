"""What apt stands on: what will make dpkg fail, what will keep the change out of use, what the owner set.

Read by `apt_survey.sh` before anybody signs; judged here. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tasks.linux import whole

SCRIPTS = "/var/lib/dpkg"
"""dpkg runs the scripts of packages from here (dpkg(1))."""
MEMORY = {"tmpfs", "ramfs", "rootfs"}
KEPT = ("/", "/usr", "/etc", "/var", "/var/lib", SCRIPTS)
"""What a change is written to and must still be there after the next boot."""

_RAMDISK = re.compile(
    r"(linux-image|linux-modules|proxmox-kernel|pve-kernel|raspberrypi-kernel|[a-z]+-kernel-\d)|.*-microcode$"
    r"|firmware-|linux-firmware$|initramfs-tools|dracut|cryptsetup|lvm2$|mdadm$|zfs|udev$|systemd$|.*-dkms$"
    r"|busybox|kmod$|plymouth|multipath|open-iscsi|btrfs-progs$|nvidia-")
"""Packages whose upgrade rebuilds the initial ramdisk although their installed version does not say so."""
KERNEL = re.compile(r"(linux-image(-unsigned)?|proxmox-kernel|pve-kernel)-\d|[a-z]+-kernel-\d")


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount: what, where, which kind, its options."""

    source: str
    path: str
    kind: str
    options: frozenset[str]

    def option(self, name: str) -> str:
        """The value of `name=value`, or empty."""
        return next((one.partition("=")[2] for one in self.options if one.startswith(f"{name}=")), "")


@dataclass(frozen=True, slots=True)
class Ground:
    """What a survey found.

    Attributes:
        mounts: those that matter, in order.
        overrides: `group crontab-old /usr/bin/crontab`: who is missing, and for which path.
        dpkg: `no-act /etc/dpkg/dpkg.cfg`: options in dpkg's own files that keep it from working.
        ramdisks, kernels: size in kB by path, of those in /boot.
        rebuilders: installed packages that rebuild the initial ramdisk.
        policy: service to answer of policy-rc.d where that is not yes.
        diverted: programs that start services and are not themselves.
        hooks: what apt runs before dpkg and before it refreshes lists.
        excluded: patterns of unattended-upgrades' blacklist.
        set_back: settings of the host that are set back in every call.
    """

    mounts: tuple[Mount, ...] = ()
    overrides: tuple[str, ...] = ()
    dpkg: tuple[str, ...] = ()
    ramdisks: Mapping[str, int] | None = None
    kernels: Mapping[str, int] | None = None
    rebuilders: frozenset[str] = frozenset()
    policy: tuple[tuple[str, str], ...] = ()
    diverted: tuple[str, ...] = ()
    hooks: str = ""
    excluded: tuple[str, ...] = ()
    set_back: tuple[str, ...] = ()

    def mount(self, path: str) -> Mount | None:
        """The mount a path lies on."""
        inside = [one for one in self.mounts if one.path == "/" or f"{path}/".startswith(f"{one.path}/")]
        return max(inside, key=lambda one: len(one.path), default=None)

    def remounts(self, path: str) -> bool:
        """Whether a hook of apt is there to make a path writable or executable for the time it works."""
        at = self.mount(path)
        there = "|".join(re.escape(one) for one in (at.path, path)) if at else r"(?!)"
        return bool(re.search(rf"remount[^;]*(?<![\w/])({there})/?(?![\w/])", self.hooks))

    def rebuilds(self, names: Iterable[str]) -> bool:
        """Whether a change of these packages rebuilds the initial ramdisk."""
        return any(name in self.rebuilders or _RAMDISK.match(name) for name in names)

    def boot_kb(self, names: Sequence[str], new: Sequence[str]) -> int:
        """What a change needs in /boot: new kernels with their ramdisks, and one built beside the old."""
        largest = max((self.ramdisks or {}).values(), default=0)
        kernel = max((self.kernels or {}).values(), default=0)
        fresh = sum(bool(KERNEL.match(name)) for name in new)
        need = fresh * max(KERNEL_KB if not largest else 0, kernel + largest)
        return need + (largest if fresh or self.rebuilds(names) else 0)


KERNEL_KB = 150 * 1024
"""What one more kernel takes in /boot with its ramdisk, where none is there to measure."""


def ground(text: str, decides: str, set_back: str) -> Ground:
    """Read the parts `ground`, `decides` and `set_back` of `apt_survey.sh`."""
    rows: dict[str, list[list[str]]] = {}
    for line in text.splitlines():
        word, *rest = line.split()[:1] + line.split()[1:] or [""]
        rows.setdefault(word, []).append(rest)
    sizes = {row[1]: -(-whole(row[0]) // 1024) for row in rows.get("boot", ())
             if len(row) == 2 and row[0].isdigit()}  # noqa: PLR2004 - size and path
    return Ground(
        mounts=tuple(Mount(row[0], row[1], row[2], frozenset(row[3].split(",")))
                     for row in rows.get("mount", ()) if len(row) == 4),  # noqa: PLR2004 - as in /proc/mounts
        overrides=tuple(" ".join(row) for row in rows.get("override", ())),
        dpkg=tuple(" ".join(row) for row in rows.get("dpkg", ())),
        ramdisks={path: size for path, size in sizes.items() if "/init" in path},
        kernels={path: size for path, size in sizes.items() if "/init" not in path},
        rebuilders=frozenset(row[0] for row in rows.get("ramdisk", ()) if row),
        policy=tuple((row[1], row[0]) for row in rows.get("policy", ())
                     if len(row) == 2 and row[0] not in ("0", "104")),  # noqa: PLR2004 - invoke-rc.d(8)
        diverted=tuple(dict.fromkeys(row[0] for row in rows.get("diverted", ()) if row)),
        hooks=hooks(decides), excluded=_values(decides, "Unattended-Upgrade::Package-Blacklist"),
        set_back=_set_back(set_back))


def hooks(decides: str) -> str:
    """What apt runs before it calls dpkg or refreshes its lists, from `apt-config dump`."""
    return "; ".join((*_values(decides, "DPkg::Pre-Invoke"), *_values(decides, "APT::Update::Pre-Invoke")))


def _values(dump: str, name: str) -> tuple[str, ...]:
    return tuple(value for value in re.findall(
        rf'^{name}(?:::.*?)? "(.*)";$', dump, re.MULTILINE | re.IGNORECASE) if value)


_NO = {"", "0", "no", "false", "off", "without", "disable"}
_KEEPS = ("--force-confdef", "--force-confold")
_LOOKS = re.compile(r"APT::(Color|Output|Update)|.*::Show-", re.IGNORECASE)


def _set_back(text: str) -> tuple[str, ...]:
    """Settings of the host that say something else than is done here: `("APT::Get::Simulate true",)`.

    Args:
        text: `ours NAME "VALUE";` for every setting that is set back, then `host NAME "VALUE";`.
    """
    rows = re.findall(r'^(ours|host) (\S+) "(.*)";$', text, re.MULTILINE)
    ours = {name.casefold(): value for side, name, value in rows if side == "ours" and not _LOOKS.match(name)}
    found = [f"{name} {value}" for side, name, value in rows
             if side == "host" and (value in _NO) != (ours.get(name.casefold(), value) in _NO)]
    options = [value for side, name, value in rows if side == "host" and name.casefold() == "dpkg::options::"]
    return (*dict.fromkeys(found), *(f"DPkg::Options {value}" for value in options if value not in _KEEPS))


# --- sentences ------------------------------------------------------------------------------------


def problems(found: Ground) -> Iterable[str]:
    """What will make the change fail or vanish, as sentences."""
    for line in found.overrides:
        kind, name, path = line.split(maxsplit=2)
        yield (f"dpkg will stop at its statoverride for {path}: there is no {kind} {name}:"
               f" dpkg-statoverride --remove {path}, or make the {kind}")
    for line in found.dpkg:
        option, file = line.split(maxsplit=1)
        yield f"dpkg would not do what it is told: {option} stands in {file}: take it out"
    scripts = found.mount(SCRIPTS)
    if scripts and "noexec" in scripts.options and not found.remounts(SCRIPTS):
        yield (f"{SCRIPTS} lies on {scripts.path}, which is mounted noexec, so dpkg cannot run the scripts of"
               f" packages: mount -o remount,exec {scripts.path}, or let a hook of apt do that")
    lost = dict.fromkeys(filter(None, (_lost(found, path) for path in KEPT)))
    yield from list(lost)[:1]


def _lost(found: Ground, path: str) -> str:
    """Why what is written to a path is gone after the next boot; empty when it stays."""
    at = found.mount(path)
    if at is None:
        return ""
    where = at.kind if at.kind in MEMORY else ""
    if re.match(r"/dev/(ram|zram)\d", at.source):
        where = at.source
    if at.kind in ("overlay", "overlayfs") and _in_memory(found, at.option("upperdir")):
        where = "an overlay whose upper layer lies in memory (tmpfs)"
    if not where:
        return ""
    return (f"{at.path} is {where}: whatever is installed is gone after the next boot: switch that off for"
            " the change (overlayroot-chroot, raspi-config), or build a new image")


def _in_memory(found: Ground, upper: str) -> bool:
    """Whether an overlay's upper layer lies in memory; initial ramdisks move mounts, so by the path's end."""
    parts = [part for part in upper.split("/") if part]
    ends = ["/" + "/".join(parts[start:]) for start in range(len(parts))]
    nobodys = ("/", "/tmp", "/run")  # noqa: S108 - paths on the host, which lie in memory on every host
    memory = [one.path for one in found.mounts if one.kind in MEMORY and one.path not in nobodys]
    return any(f"{end}/".startswith(f"{path}/") for end in ends for path in memory)


def notes(found: Ground, names: Iterable[str]) -> Iterable[str]:
    """What an approver is to know, as lines.

    Args:
        found: on the host.
        names: packages of the change.
    """
    names = tuple(names)
    if names and found.policy:
        denied = [name for name, _ in found.policy]
        which = "all services" if "lamplighter-asks" in denied else ", ".join(denied)
        codes = ", ".join(sorted({code for _, code in found.policy}))
        yield (f"installed, but not in use: /usr/sbin/policy-rc.d answers {codes} for {which}, so no upgrade"
               " restarts them: restart them by hand, or remove that file")
    if names and found.diverted:
        yield (f"installed, but not in use: {', '.join(found.diverted)} is replaced or diverted, so upgrades"
               " restart no service")
    excluded = [name for name in names if any(_matches(pattern, name) for pattern in found.excluded)]
    if excluded:
        yield (f"excluded from automatic updates by this host's own configuration (unattended-upgrades,"
               f" Package-Blacklist): {', '.join(excluded)}")
    if found.set_back:
        yield f"set back for this run, as it alters what apt does: {', '.join(found.set_back)[:500]}"


def _matches(pattern: str, name: str) -> bool:
    """As unattended-upgrades does: a Python pattern, matched from the name's beginning."""
    try:
        return bool(re.match(pattern, name))
    except re.error:
        return name.startswith(pattern)
