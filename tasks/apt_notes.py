"""What an approver reads beside the steps of an apt host, the most serious first. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from tasks import apt_ground
from tasks.apt_facts import AptFacts
from tasks.apt_words import count, listed, some

NAMED = 150
"""How many packages that nobody looks after are named; the rest are counted."""

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


def notes(facts: AptFacts, reboot: str) -> Iterable[str]:
    """Lines for the approver."""
    yield from listed("REMOVES", (f"{one.name} {one.old}" for one in facts.removals))
    yield from _unsigned(facts)
    if facts.support:
        yield facts.support
    if facts.scope == "all":
        yield from listed("security", (one.name for one in facts.changes if one.security))
    else:
        needed = (f"{one.name} {one.new}" for one in facts.changes if one.name not in facts.waiting.fixes)
        yield from listed("no security updates themselves, but needed by them", needed)
    for pattern, what in FLAGGED:
        yield from listed(what, (one.name for one in facts.changes if re.match(pattern, one.name)))
    yield from _owners(facts)
    yield from listed("kept back by apt", facts.kept_back)
    yield from listed("not offered to this host yet (phased)", facts.phased)
    yield from listed("security updates that need Ubuntu Pro", facts.wanted.names("require Ubuntu Pro"))
    yield from listed("changed here, so kept as they are", facts.conffiles)
    yield from listed("deleted here, so not brought back", facts.deleted)
    yield from apt_ground.notes(facts.ground, [one.name for one in facts.changes])
    yield from _archives(facts)
    yield from _elsewhere(facts)
    if facts.audit and not facts.packages.broken:
        yield f"dpkg --audit finds, which hinders nothing: {facts.audit}"
    yield from listed("failed before the change", facts.services.failed)
    if facts.asks is not None and reboot == "never":
        yield f"asks for a reboot ({some(facts.asks) or 'no package is named'}), which is not planned"


def _owners(facts: AptFacts) -> Iterable[str]:
    """What the host's owner decided: holds, those in the way of an update told apart; pins."""
    kept = {*facts.wanted.names("kept back"), *facts.waiting.held}
    blocking = [name for name in facts.packages.held if name in kept]
    what = "a security update" if facts.scope == "security" else "an update"
    yield from listed(f"on hold although {what} waits, left alone", blocking)
    yield from listed("on hold, left alone", (name for name in facts.packages.held if name not in blocking))
    yield from listed(f"kept out by this host's pins although {what} waits, left alone", (
        f"{name} {version}" for name, version in facts.waiting.pinned.items()))
    if facts.kernels.pinned:
        yield f"the boot loader is pinned to kernel {facts.kernels.pinned} ({facts.kernels.pin}), left alone"


def _unsigned(facts: AptFacts) -> Iterable[str]:
    by_archive: dict[str, list[str]] = {}
    for one in facts.changes:
        where = facts.view.unsigned(one.sources)
        if where:
            by_archive.setdefault(where, []).append(one.name)
    for where, names in by_archive.items():
        yield f"UNSIGNED, nobody vouches for what comes from {where}: {', '.join(names)}"


def _archives(facts: AptFacts) -> Iterable[str]:
    """Archives that were not looked at, and what is not known for want of one."""
    for one in facts.view.ill:
        yield f"not looked at: the archive {one.where}, {one.ill}; nothing is said of what comes from it"
    if facts.scope == "all" and facts.view.absent():
        yield f"not known which of these are for security: {facts.view.absent()}"
    if facts.view.hooks:
        yield f"every archive apt speaks of was looked at, but its refresh ended badly: {facts.view.hooks}"


def _elsewhere(facts: AptFacts) -> Iterable[str]:
    """Updates outside the scope, and packages that no security archive looks after."""
    if facts.scope == "security":
        if facts.waiting.outside:
            others = count(len(facts.waiting.outside), "other update")
            yield f"{others} left out, outside security: {some(facts.waiting.outside)}"
        yield from listed("left out, from archives that do not tell what is for security", (
            f"{name} ({archive})" for name, archive in facts.waiting.untold.items()))
    for reason, names in facts.waiting.uncovered.items():
        yield f"{count(len(names), 'package')} {reason}: {some(names, NAMED)}"
