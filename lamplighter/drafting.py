"""From a request to a plan: survey and draft. Nothing is changed, and nothing is written."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import lamplighter
from lamplighter.errors import LimitExceededError
from lamplighter.model.operation import Operation
from lamplighter.model.plan import HostPlan, Plan, Requester
from lamplighter.model.planning import Order, build_plan
from lamplighter.model.runbook import Runbook
from lamplighter.model.waves import too_many
from lamplighter.site import Site
from lamplighter.survey import Surveyed


@dataclass(frozen=True, slots=True)
class Request:
    """Who wants which hosts changed, how, and under which change.

    Attributes:
        runbook: the declaration.
        site: whose estate.
        operation: what is done, with the operator's options.
        requester: and how that is known.
        selection: an Ansible host pattern.
        change_ref: ticket or change number; may be empty.
    """

    runbook: Runbook
    site: Site
    operation: Operation[Any]
    requester: Requester
    selection: str = "all"
    change_ref: str = ""


def order(request: Request, run: str) -> Order:
    """What the plan will say was asked for, with the site's gate, limits and waves."""
    limits, waves = request.site.rollout(request.runbook)
    return Order(
        run=run, site=request.site.name, requester=request.requester, selection=request.selection,
        code=lamplighter.__version__, gate=request.site.gate(request.runbook), limits=limits, waves=waves,
        change=request.runbook.change, change_ref=request.change_ref, options=request.operation.options(),
    )


def draft(request: Request, run: str, surveyed: Sequence[Surveyed], now: float) -> Plan:
    """The plan these facts lead to.

    Raises:
        LimitExceededError: it would touch more hosts than the runbook or site allows.
    """
    host_plans = [_host_plan(request.operation, seen) for seen in surveyed]
    plan = build_plan(
        request.runbook, order(request, run), host_plans, request.site.inventory.hosts,
        now=int(now), nonce=secrets.token_hex(16),
    )
    why = too_many(plan.limits, len(plan.targets), plan.fleet)
    if why:
        raise LimitExceededError(
            why, where=run, changed="Nothing was changed",
            advice="Select fewer hosts, or have internal IT raise the limit in site.yaml",
        )
    return plan


def _host_plan(operation: Operation[Any], seen: Surveyed) -> HostPlan:
    if seen.facts is None:
        return HostPlan(seen.host.name, reason=seen.message, end=seen.end)
    return operation.plan(seen.host, seen.facts)
