"""What a run is about: hosts of the inventory, or one account of the site's directory.

A runbook declares the kind; everything else in the engine asks here, and never which runbook it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from lamplighter.engine.binding import Bind, Binding, bind_host, bind_values
from lamplighter.errors import SelectionError
from lamplighter.model.inventory import SSH_CONNECTIONS, Host
from lamplighter.model.plan import Plan
from lamplighter.model.runbook import On, Runbook
from lamplighter.site import Site
from lamplighter.site.directory import load_directory
from lamplighter.transports.ssh_hostkeys import KnownHosts

LONGEST_ACCOUNT = 256
"""Characters of a login, principal name or mail address as somebody may type it."""


class Targets(Protocol):
    """See the module's docstring."""

    def select(self, selection: str) -> tuple[Host, ...]:
        """The targets a selection names, at least one.

        Raises:
            SelectionError: it names none.
        """

    def fleet(self, selection: str) -> Mapping[str, Host]:
        """Every target there is to be chosen from, by name."""

    def planned(self, plan: Plan) -> Mapping[str, Host]:
        """The targets of a plan as they are now, by name, and how they are to be reached."""

    def binder(self) -> Bind:
        """What reads what decides where a plan takes effect; see `lamplighter.engine.binding`.

        Raises:
            SiteError: the files it is read from have mistakes.
        """

    def timed(self, targets: Iterable[Host]) -> tuple[Host, ...]:
        """Those whose maintenance windows and freezes bind the run."""


@dataclass(frozen=True, slots=True)
class Hosts:
    """Hosts of the inventory. Args: site, whose."""

    site: Site

    def select(self, selection: str) -> tuple[Host, ...]:
        """By Ansible's host patterns."""
        return self.site.select(selection)

    def fleet(self, selection: str) -> Mapping[str, Host]:
        """The whole inventory."""
        del selection
        return self.site.inventory.hosts

    def planned(self, plan: Plan) -> Mapping[str, Host]:
        """The inventory, with today's variables."""
        del plan
        return self.site.inventory.hosts

    def binder(self) -> Bind:
        """By each host's variables and pinned keys."""
        known = KnownHosts.read(self.site.host_keys)

        def bind(host: Host) -> Binding:
            names = (host.name, host.address)
            pins = known.pins(host.name, names, host.port) if host.connection in SSH_CONNECTIONS else None
            return bind_host(host, tuple(key.fingerprint for key in pins.keys) if pins else ())

        return bind

    def timed(self, targets: Iterable[Host]) -> tuple[Host, ...]:
        """All of them."""
        return tuple(targets)


@dataclass(frozen=True, slots=True)
class Accounts:
    """One account, as somebody typed its login, mail address or number. Args: site, whose."""

    site: Site

    def select(self, selection: str) -> tuple[Host, ...]:
        """The account under the name it was asked for; the directory says whether there is one."""
        name = selection.strip()
        if not name or len(name) > LONGEST_ACCOUNT or not name.isprintable():
            raise SelectionError(
                "the account is empty, too long, or has characters that cannot be seen",
                changed="Nothing was changed", advice="Type its login, mail address or employee number",
            )
        return (Host(name),)

    def fleet(self, selection: str) -> Mapping[str, Host]:
        """The account alone: a share of a directory would say nothing."""
        return {host.name: host for host in self.select(selection)}

    def planned(self, plan: Plan) -> Mapping[str, Host]:
        """The plan's accounts: known by their pin, whatever they are called, and on the plan's server."""
        return {
            one.host: Host(one.host, vars={
                "lamplighter_identity": str(one.steps[0].args["pin"]),
                "ldap_server": str(one.steps[0].args["server"]),
            } if one.steps else {})
            for one in plan.hosts
        }

    def binder(self) -> Bind:
        """By the whole of `directory.yaml`: servers, bases, who is protected, where passwords go."""
        entry = load_directory(self.site.path).entry
        servers = ", ".join(one.address for one in entry.servers)
        bound = bind_values(f"{entry.base} on {servers}", entry.model_dump(mode="json"))
        return lambda _: bound

    def timed(self, targets: Iterable[Host]) -> tuple[Host, ...]:
        """None: people need their passwords outside of maintenance windows above all."""
        del targets
        return ()


def targets_of(runbook: Runbook, site: Site) -> Targets:
    """What a runbook is about at a site."""
    kinds: dict[On, type[Hosts | Accounts]] = {On.HOSTS: Hosts, On.ACCOUNTS: Accounts}
    return kinds[runbook.on](site)
