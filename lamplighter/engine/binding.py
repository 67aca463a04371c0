"""Binds a plan to what decides where it takes effect, and as whom.

An approver signs steps; what they do depends as well on which machine answers, under which account, through
whom, and on what the site's files have it run there. All of it is read when the plan is made: the essentials
stand in the plan to be read, beside them a digest of everything, and the parts in the run's ledger. It is
read again, and compared, before every connection; a target for which any of it changed since is not
connected to.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from lamplighter.errors import DriftedError
from lamplighter.model.canonical import Json, digest, sha256
from lamplighter.model.inventory import Host
from lamplighter.model.plan import HostPlan, Plan
from lamplighter.model.session import Connect, Connection

DOMAIN = b"lamplighter-binding@v1\n"
_READ = ("ansible_", "lamplighter_")
"""What the variables begin with that anything here reads, or any runbook."""


@dataclass(frozen=True, slots=True)
class Binding:
    """What decides where a plan takes effect on one target.

    Attributes:
        reach: in words, for whoever signs: `deploy@10.1.2.3:22 through bastion`.
        parts: what else counts, name to a digest of its value; values may name secrets' places.
    """

    reach: str
    parts: Mapping[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """`sha256:...` over all of it."""
        return digest({"reach": self.reach, "parts": dict(self.parts)}, domain=DOMAIN)


Bind = Callable[[Host], Binding]
"""Reads what decides for a target, from the site as this process loaded it."""


def bind_host(host: Host, pinned: tuple[str, ...] = ()) -> Binding:
    """What decides for a host of the inventory.

    Args:
        host: with its variables.
        pinned: the host keys that are accepted from it.
    """
    said = {name: value for name, value in host.vars.items() if name.startswith(_READ)}
    user = said.get("ansible_user", "the worker's own account")
    port = f":{said['ansible_port']}" if "ansible_port" in said else ""
    reach = f"{user}@{host.address}{port}"
    if host.connection != "ssh":
        reach += f" by {host.connection}"
    if jump := said.get("lamplighter_ssh_jump"):
        reach += f" through {jump}"
    if probes := said.get("lamplighter_probes"):
        reach += f", probes: {'; '.join(map(str, probes)) if isinstance(probes, list) else probes}"
    return bind_values(reach, said | {"host keys": sorted(pinned)})


def bind_values(reach: str, values: Mapping[str, Json]) -> Binding:
    """What decides for targets that a file of the site describes as a whole, such as a directory."""
    return Binding(reach, {name: _part(value) for name, value in values.items()})


def bound_connect(
    connect: Connect, bind: Bind, plan: Plan, known: Mapping[str, Mapping[str, str]]
) -> Connect:
    """Connect to a plan's targets only while they are the ones it was made for.

    Args:
        connect: opens sessions.
        bind: reads what decides now.
        plan: what is carried out.
        known: target to the parts its plan was made with, from the ledger; for the message alone.

    Returns:
        A `Connect` that raises `DriftedError`, having sent nothing, where anything changed.
    """
    planned = {one.host: one for one in plan.hosts}

    def connect_same(host: Host) -> Connection:
        now, then = bind(host), planned[host.name]
        if now.digest != then.bound:
            what = _difference(then, now, known.get(host.name, {}))
            raise DriftedError(
                f"the site's files name another target than was planned for, not connected to: {what}",
                where=host.name, changed="Nothing was sent to it",
                advice="Find out who changed them, and plan anew",
            )
        return connect(host)

    return connect_same


def _difference(then: HostPlan, now: Binding, parts: Mapping[str, str]) -> str:
    changed = sorted(name for name in {*parts, *now.parts} if parts.get(name) != now.parts.get(name))
    moved = f"{then.reach} is {now.reach} now" if then.reach != now.reach else ""
    return "; ".join(filter(None, (moved, f"changed: {', '.join(changed)}" if changed else "")))


def _part(value: Json) -> str:
    return sha256(json.dumps(value, sort_keys=True).encode())[7:23]
