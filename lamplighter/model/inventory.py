"""Hosts and groups, as Ansible's YAML inventory describes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lamplighter.model.canonical import Json


@dataclass(frozen=True, slots=True)
class Host:
    """One managed machine, with its variables already merged by Ansible's precedence.

    Attributes:
        name: the inventory name; used in plans, ledgers and reports.
        groups: every group the host belongs to, directly or through children, sorted.
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
    def ha_group(self) -> str:
        """Cluster peers share it and never stand in one wave; empty for a host on its own."""
        return str(self.vars.get("ha_group", ""))


@dataclass(frozen=True, slots=True)
class Inventory:
    """All hosts of a site, by name, in file order.

    Attributes:
        hosts: every host.
        groups: group name to the names of all hosts in it (children's hosts included), in file order.
    """

    hosts: Mapping[str, Host]
    groups: Mapping[str, tuple[str, ...]]
