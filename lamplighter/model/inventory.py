"""Hosts and groups, as Ansible's YAML inventory describes them.

`assemble` applies Ansible's rules for variables (documentation, "Understanding variable precedence" and "How
variables are merged"), weakest first: groups in the inventory, groups in `group_vars/`, the host in the
inventory, the host in `host_vars/`. Among groups: `all`, then parent groups before child groups, siblings by
`ansible_group_priority` and then by name. A later value replaces an earlier one as a whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from lamplighter.model.canonical import Json

ALL = "all"
UNGROUPED = "ungrouped"
SSH_PORT = 22
PRIORITY = "ansible_group_priority"
SSH_CONNECTIONS = frozenset({"ssh", "smart", "paramiko", "paramiko_ssh", "ansible.builtin.ssh",
                             "ansible.builtin.paramiko_ssh"})
WINRM_CONNECTIONS = frozenset({"winrm", "ansible.builtin.winrm"})
_POSIX_SHELLS = frozenset({"sh", "csh", "fish"})
"""Values of `ansible_shell_type` from which `sh` can be started."""


class Shell(StrEnum):
    """What a host understands, and so what kind of session is opened to it."""

    POSIX = "posix"  # over SSH: lamplighter.model.session.Session
    POWERSHELL = "powershell"  # over WinRM: lamplighter.model.powershell.PowerShellSession
    OTHER = "other"  # nothing that is spoken here


@dataclass(frozen=True, slots=True)
class Host:
    """One managed machine, with its variables already merged by Ansible's precedence.

    Attributes:
        name: the inventory name; used in plans, ledgers and reports.
        groups: every group the host belongs to, directly or through children, sorted; like Ansible's
            `group_names` without `all`.
        vars: merged variables; the SSH ones keep Ansible's names (`ansible_host`, `ansible_port` ...).
    """

    name: str
    groups: tuple[str, ...] = ()
    vars: Mapping[str, Json] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """Where to connect: `ansible_host`, or the name."""
        return str(self.vars.get("ansible_host", self.name))

    @property
    def port(self) -> int:
        """`ansible_port`, or SSH's 22."""
        return int(self.vars.get("ansible_port", SSH_PORT))

    @property
    def identity(self) -> str:
        """What one run at a time may change: the name, or what stays the same under every name."""
        return str(self.vars.get("lamplighter_identity", self.name))

    @property
    def ha_group(self) -> str:
        """Cluster peers share it and never stand in one wave; empty for a host on its own."""
        return str(self.vars.get("ha_group", ""))

    @property
    def connection(self) -> str:
        """`ansible_connection`; SSH is Ansible's default."""
        return str(self.vars.get("ansible_connection", "ssh"))

    @property
    def shell(self) -> Shell:
        """By the host's connection; SSH to a Windows shell (`ansible_shell_type`) is not spoken here."""
        if self.connection in WINRM_CONNECTIONS:
            return Shell.POWERSHELL
        posix = str(self.vars.get("ansible_shell_type", "sh")) in _POSIX_SHELLS
        return Shell.POSIX if posix and self.connection in SSH_CONNECTIONS else Shell.OTHER


@dataclass(frozen=True, slots=True)
class Inventory:
    """All hosts of a site, by name, in file order.

    Attributes:
        hosts: every host.
        groups: group name to the names of all hosts in it (children's hosts included), in Ansible's
            order: the group's own hosts as written, then its children's, level by level. `all` and
            `ungrouped` are always there.
    """

    hosts: Mapping[str, Host]
    groups: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Group:
    """A group as written.

    Attributes:
        hosts: its own hosts.
        children: its child groups.
        vars: its variables in the inventory, `ansible_group_priority` (default 1) among them.
        beside: those in `group_vars/`, where that one has no meaning.
    """

    hosts: tuple[str, ...] = ()
    children: tuple[str, ...] = ()
    vars: Mapping[str, Json] = field(default_factory=dict)
    beside: Mapping[str, Json] = field(default_factory=dict)

    @property
    def priority(self) -> int:
        """Among groups of one depth, the higher one wins."""
        return int(self.vars.get(PRIORITY, 1))


def find_cycle(groups: Mapping[str, Group]) -> tuple[str, ...]:
    """Groups that contain one another, first and last the same; empty when there are none."""
    done: set[str] = set()
    for start in groups:
        path: dict[str, None] = {}
        stack = [(start, False)]
        while stack:
            name, leave = stack.pop()
            if leave:
                path.pop(name)
                done.add(name)
            elif name in path:
                names = list(path)
                return (*names[names.index(name):], name)
            elif name not in done:
                path[name] = None
                stack.append((name, True))
                stack += [(child, False) for child in reversed(groups[name].children)]
    return ()


def assemble(
    groups: Mapping[str, Group], host_vars: Mapping[str, Mapping[str, Json]],
    beside: Mapping[str, Mapping[str, Json]] | None = None,
) -> Inventory:
    """Merge groups and hosts into an inventory.

    Args:
        groups: every group by name, in file order; without a cycle.
        host_vars: every host's own variables in the inventory, in file order.
        beside: those in `host_vars/`.
    """
    groups = _rooted(groups, host_vars)
    depths = _depths(groups)
    order = sorted(groups, key=lambda name: (depths[name], groups[name].priority, name))
    members = {name: _members(groups, name) for name in groups}
    belongs: dict[str, list[str]] = {host: [] for host in host_vars}
    for name in order:
        for host in members[name]:
            belongs[host].append(name)
    hosts = {}
    for host, own in host_vars.items():
        merged: dict[str, Json] = {}
        for name in belongs[host]:
            merged |= groups[name].vars
        for name in belongs[host]:
            merged |= groups[name].beside
        merged.pop(PRIORITY, None)
        names = tuple(sorted(name for name in belongs[host] if name != ALL))
        hosts[host] = Host(host, names, {**merged, **own, **(beside or {}).get(host, {})})
    return Inventory(hosts, members)


def _rooted(groups: Mapping[str, Group], hosts: Iterable[str]) -> dict[str, Group]:
    """Hang every group without a parent below `all`, and every host without a group in `ungrouped`."""
    top = groups.get(ALL, Group())
    children = {child for group in groups.values() for child in group.children}
    grouped = {
        host for name, group in groups.items() if name not in {ALL, UNGROUPED} for host in group.hosts
    }
    orphans = [name for name in groups if name not in children and name not in {ALL, UNGROUPED}]
    named = dict.fromkeys((UNGROUPED, *top.children, *orphans))
    ungrouped = groups.get(UNGROUPED, Group())
    loose = dict.fromkeys((*ungrouped.hosts, *hosts))
    return {
        **groups,
        ALL: Group(top.hosts, tuple(named), top.vars, top.beside),
        UNGROUPED: Group(
            tuple(host for host in loose if host not in grouped), ungrouped.children, ungrouped.vars,
            ungrouped.beside,
        ),
    }


def _depths(groups: Mapping[str, Group]) -> dict[str, int]:
    """The longest way from `all` to each group."""
    parents = dict.fromkeys(groups, 0)
    for group in groups.values():
        for child in set(group.children):
            parents[child] += 1
    depths = dict.fromkeys(groups, 0)
    ready = [name for name, count in parents.items() if not count]
    while ready:
        name = ready.pop()
        for child in set(groups[name].children):
            depths[child] = max(depths[child], depths[name] + 1)
            parents[child] -= 1
            if not parents[child]:
                ready.append(child)
    return depths


def _members(groups: Mapping[str, Group], start: str) -> tuple[str, ...]:
    """All hosts of a group, its own first, then level by level."""
    hosts: dict[str, None] = {}
    seen = {start}
    level = [start]
    while level:
        below: list[str] = []
        for name in level:
            hosts |= dict.fromkeys(groups[name].hosts)
            below += [child for child in dict.fromkeys(groups[name].children) if child not in seen]
            seen.update(groups[name].children)
        level = below
    return tuple(hosts)
