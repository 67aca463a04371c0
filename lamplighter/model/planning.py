"""From surveyed hosts to a plan. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lamplighter.model.canonical import Json
from lamplighter.model.gate import Gate, Requirement
from lamplighter.model.inventory import Host
from lamplighter.model.party import Party
from lamplighter.model.plan import HostPlan, Limits, Plan, Requester, Window
from lamplighter.model.runbook import ChangeType, Runbook, Waves
from lamplighter.model.waves import make_waves

BOTH_PARTIES = Gate((Requirement(Party.INTERNAL), Requirement(Party.MSP)))
"""What setting a freeze aside takes, on top of the runbook's own gate."""


@dataclass(frozen=True, slots=True)
class Order:
    """What was asked for, before anything was looked at.

    Attributes:
        run: the run's id; the plan can be carried out by that run only.
        site: the site's name.
        requester: who asked, and how that is known.
        selection: the host pattern as given.
        change_ref: the ticket or change number as given.
        options: the operation's options.
        code: version and digest of the code that made the plan, and alone may carry it out.
        gate: the runbook's gate, tightened by the site.
        limits, waves: the runbook's, as the site overrides them.
        change: ITIL change type of this run.
        window: when it may be carried out.
        approval_seconds: how long the plan can be signed and carried out; 0 as the runbook says.
    """

    run: str
    site: str
    requester: Requester
    selection: str
    code: str
    gate: Gate
    limits: Limits
    waves: Waves
    change: ChangeType
    change_ref: str = ""
    options: Mapping[str, Json] = field(default_factory=dict)
    window: Window = field(default_factory=Window)
    approval_seconds: int = 0


def build_plan(
    runbook: Runbook, order: Order, host_plans: Sequence[HostPlan], hosts: Mapping[str, Host],
    *, now: int, nonce: str,
) -> Plan:
    """Assemble the plan: waves over the hosts that have steps.

    Args:
        runbook: the declaration.
        order: what was asked.
        host_plans: one for each selected host, in inventory order.
        hosts: the whole inventory; its size is the fleet.
        now: seconds since the epoch.
        nonce: 128 random bits in hex, so that no two plans share a digest.
    """
    expires = max(now, order.window.opens) + (order.approval_seconds or runbook.approval_seconds)
    if order.window.closes > now:
        expires = min(expires, order.window.closes)
    targets = [hosts[plan.host] for plan in host_plans if plan.steps]
    return Plan(
        run=order.run, site=order.site, runbook=runbook.id, owner=str(runbook.owner),
        change_type=str(order.change), requester=order.requester, selection=order.selection,
        fleet=len(hosts), created=now, expires=expires, code=order.code,
        nonce=nonce, gate=order.gate, waves=make_waves(targets, order.waves), hosts=tuple(host_plans),
        change_ref=order.change_ref, options=order.options, limits=order.limits, window=order.window,
    )
