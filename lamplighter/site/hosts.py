"""Reads `hosts.yaml`: Ansible's YAML inventory format, as its `yaml` inventory plugin documents it.

Everything Ansible would skip with a warning is a mistake here, because a skipped host is a host nobody
patches: unknown keys, groups that are no mappings, hosts given as a list. So is what would make a name
mean two things: a group and a host of one name, two hosts at one address, names that differ only by case.
`group_vars/` and `host_vars/` beside the file are read as well. Not read: Jinja templates, other inventory
plugins.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from lamplighter.errors import MalformedError
from lamplighter.model.canonical import Json
from lamplighter.model.inventory import (
    ALL,
    SSH_PORT,
    UNGROUPED,
    Group,
    Host,
    Inventory,
    Shell,
    assemble,
    find_cycle,
)
from lamplighter.model.selection import closest
from lamplighter.site.names import expand, is_name, name_advice, same_address
from lamplighter.site.ssh_args import JUMP, read_jump
from lamplighter.site.varfiles import VarFiles
from lamplighter.site.vars import check_vars
from lamplighter.site.yaml import Node, Source
from lamplighter.transports.winrm_settings import HTTPS_PORT

MAX_HOSTS = 100_000
_SECTIONS = ("hosts", "vars", "children")
_SECTION_ADVICE = "a group has `hosts`, `children` and `vars`; hosts go below `hosts:`"


@dataclass(slots=True)
class _Group:
    """A group while the file is read; it may be mentioned in several places."""

    hosts: dict[str, None] = field(default_factory=dict)
    children: dict[str, int] = field(default_factory=dict)  # and the line of the mention
    vars: dict[str, Json] = field(default_factory=dict)
    line: int = 0


def read_inventory(
    root: Node, source: Source, beside: VarFiles | None = None
) -> tuple[Inventory, dict[str, int]]:
    """Make an inventory of a parsed `hosts.yaml`.

    Args:
        root: the document.
        source: takes the mistakes.
        beside: `group_vars/` and `host_vars/`; None for neither.

    Returns:
        The hosts and groups that could be read, and the line of each host's first mention.
    """
    reader = _Reader(source, beside)
    if root.mapping is None:
        source.mistake(root.line, f"the inventory must be a mapping of groups, not {root.kind}",
                       "begin with `all:`, below it `hosts:` or `children:`")
        return Inventory({}, {}), {}
    if "plugin" in root.mapping:
        source.mistake(root.key_lines["plugin"], "this configures an Ansible inventory plugin",
                       "write its output: ansible-inventory --list --yaml > hosts.yaml")
        return Inventory({}, {}), {}
    for name, node in root.mapping.items():
        reader.group(name, node, root.key_lines[name])
    return reader.finish(), reader.host_lines


class _Reader:
    """Walks the groups in file order, as Ansible does."""

    def __init__(self, source: Source, beside: VarFiles | None) -> None:
        self.source = source
        self.beside = beside
        self.groups: dict[str, _Group] = {}
        self.host_vars: dict[str, dict[str, Json]] = {}
        self.host_lines: dict[str, int] = {}

    def group(self, name: str, node: Node, line: int) -> None:
        """Read one mention of a group and all below it."""
        if name not in self.groups:
            if not is_name(name):
                self.source.mistake(line, f"`{name[:80]}` is not a group name", name_advice(name))
            self.groups[name] = _Group(line=line)
        if node.value is None:
            return
        if node.mapping is None:
            self.source.mistake(node.line, f"the group `{name}` is {node.kind}, not a mapping",
                                "write `hosts:`, `children:` or `vars:` below it")
            return
        for key, part in node.mapping.items():
            section = self._section(name, key, part, node.key_lines[key])
            if key == "hosts":
                self._hosts(name, section)
            elif key == "children":
                self._children(name, section)
            elif key == "vars":
                values = check_vars(section, self.source, f"the group `{name}`", of_group=True)
                self.groups[name].vars |= values

    def _section(self, group: str, key: str, part: Node, line: int) -> Node:
        """The section as a mapping; a single name stands for itself, as in Ansible."""
        empty = Node(part.line, {})
        if key not in _SECTIONS:
            close = closest(key, _SECTIONS)
            advice = f"did you mean `{close}`?" if close else _SECTION_ADVICE
            self.source.mistake(line, f"`{key}` is not a part of the group `{group}`", advice)
            return empty
        if part.value is None:
            return empty
        if isinstance(part.value, str) and key != "vars":
            return Node(part.line, {part.value: Node(part.line, None)}, {part.value: part.line})
        if part.mapping is None:
            example = "`name: value`" if key == "vars" else "`web1:`"
            self.source.mistake(part.line, f"`{key}` of the group `{group}` is {part.kind}, not a mapping",
                                f"write {example} a line, with a colon and without a dash")
            return empty
        return part

    def _children(self, parent: str, section: Node) -> None:
        for name, node in (section.mapping or {}).items():
            line = section.key_lines[name]
            if name == ALL:
                self.source.mistake(line, "`all` cannot be a child: it contains every group",
                                    "delete it here")
                continue
            self.groups[parent].children.setdefault(name, line)
            self.group(name, node, line)

    def _hosts(self, group: str, section: Node) -> None:
        for pattern, node in (section.mapping or {}).items():
            line = section.key_lines[pattern]
            values: dict[str, Json] = {}
            if node.mapping is not None:
                values = check_vars(node, self.source, f"the host `{pattern}`")
            elif node.value is not None:
                self.source.mistake(node.line, f"the host `{pattern}` is {node.kind}, not a mapping",
                                    "write its variables below it, or nothing after the colon")
            for name, port in self._names(pattern, line):
                self._host(group, name, port, line)
                self.host_vars[name] |= values

    def _names(self, pattern: str, line: int) -> list[tuple[str, int | None]]:
        """The hosts a key of `hosts` stands for: `web[01:10]`, `web1:2222`."""
        try:
            names, port = expand(pattern, MAX_HOSTS - len(self.host_vars))
        except MalformedError as error:
            self.source.mistake(line, f"`{pattern[:80]}` {error.message}", error.advice)
            return []
        return [(name, port) for name in names]

    def _host(self, group: str, name: str, port: int | None, line: int) -> None:
        if name not in self.host_vars:
            self.host_vars[name] = {} if port is None else {"ansible_port": port}
            self.host_lines[name] = line
        self.groups[group].hosts[name] = None

    def finish(self) -> Inventory:
        """Check what only the whole file shows, and assemble."""
        groups = {
            name: Group(tuple(group.hosts), tuple(group.children), group.vars, self._of_group(name))
            for name, group in {ALL: _Group(), UNGROUPED: _Group(), **self.groups}.items()
        }
        cycle = find_cycle(groups)
        if cycle:
            line = self.groups[cycle[-2]].children[cycle[-1]]
            self.source.mistake(line, f"groups contain one another: {' > '.join(cycle)}",
                                f"take `{cycle[-1]}` out of the children of `{cycle[-2]}`")
            return Inventory({}, {})
        for name in self.groups.keys() & self.host_vars.keys():
            self.source.mistake(self.host_lines[name], f"`{name}` is both a host and a group",
                                "rename one: a selection could mean either")
        for name in {ALL, UNGROUPED} & self.host_vars.keys() - self.groups.keys():
            self.source.mistake(self.host_lines[name], f"`{name}` is a group that always exists",
                                "give the host another name")
        self._check_case()
        of_hosts = {name: self.beside.of_host(name) for name in self.host_vars} if self.beside else {}
        inventory = self._jumps(assemble(groups, self.host_vars, of_hosts))
        if not inventory.hosts and not self.source.report:
            self.source.mistake(0, "the inventory has no hosts", "write them below `all:`, `hosts:`")
        self._check_addresses(inventory)
        return inventory

    def _of_group(self, name: str) -> dict[str, Json]:
        return self.beside.of_group(name) if self.beside else {}

    @staticmethod
    def _jumps(inventory: Inventory) -> Inventory:
        """Take over jump hosts in Ansible's words; `checks` tells what cannot be."""
        hosts = {}
        for name, host in inventory.hosts.items():
            found = read_jump(host.vars).jump if host.shell is Shell.POSIX and JUMP not in host.vars else None
            hosts[name] = replace(host, vars={**host.vars, JUMP: found}) if found else host
        return replace(inventory, hosts=hosts)

    def _check_case(self) -> None:
        seen: dict[str, str] = {}
        for name in self.host_vars:
            first = seen.setdefault(name.lower(), name)
            if first != name:
                self.source.mistake(self.host_lines[name], f"`{name}` and `{first}` (line "
                                    f"{self.host_lines[first]}) differ only by case",
                                    "write the host the same way everywhere")

    def _check_addresses(self, inventory: Inventory) -> None:
        """Two names for one machine: it would be changed twice, and stand in two waves."""
        seen: dict[tuple[str, ...], Host] = {}
        for host in inventory.hosts.values():
            default = HTTPS_PORT if host.shell is Shell.POWERSHELL else SSH_PORT
            through = str(host.vars.get(JUMP, "")).lower()
            place = (same_address(host.address), str(host.vars.get("ansible_port", default)), through)
            first = seen.setdefault(place, host)
            if first is not host:
                self.source.mistake(
                    self.host_lines[host.name], f"`{host.name}` has the address of `{first.name}` (line "
                    f"{self.host_lines[first.name]}): {host.address}",
                    "keep one name for each machine, or correct `ansible_host` or `ansible_port`",
                )
