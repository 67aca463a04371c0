"""From a request to a plan: survey and draft. Nothing is changed, and nothing is written."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from lamplighter.engine.binding import Bind
from lamplighter.engine.fanout import unexpected
from lamplighter.engine.provenance import code_of
from lamplighter.engine.survey import Surveyed
from lamplighter.engine.targets import Targets, targets_of
from lamplighter.errors import LamplighterError, LimitExceededError, SelectionError
from lamplighter.model.calendar import DAY, HORIZON
from lamplighter.model.canonical import MAX_BYTES, canonical
from lamplighter.model.chain import check_fields
from lamplighter.model.gate import stricter
from lamplighter.model.operation import Operation
from lamplighter.model.outcome import Terminal
from lamplighter.model.plan import HostPlan, Plan, Requester, Window
from lamplighter.model.planning import BOTH_PARTIES, Order, build_plan
from lamplighter.model.request import MAX_REFERENCE
from lamplighter.model.runbook import ChangeType, Runbook
from lamplighter.model.stage import Stage
from lamplighter.model.text import recordable
from lamplighter.model.waves import too_many
from lamplighter.site import Site


@dataclass(frozen=True, slots=True)
class Request:
    """Who wants which hosts changed, how, and under which change.

    Attributes:
        runbook: the declaration.
        site: whose estate.
        operation: what is done, with the operator's options.
        requester: and how that is known.
        selection: an Ansible host pattern, or an account's name.
        change_ref: ticket or change number; may be empty.
        emergency: whether the change is expedited.
        signed: the signed request, when there is one.
        override: why freezes are set aside; empty when they are not.
        due: when the run should have begun, seconds since the epoch; 0: now.
        replans: id of the earlier run whose leftovers are taken up; empty for none.
        flow_run: Prefect's id of the run, in full; empty where Prefect has no part in it.
    """

    runbook: Runbook
    site: Site
    operation: Operation[Any]
    requester: Requester
    selection: str = "all"
    change_ref: str = ""
    emergency: bool = False
    signed: str = ""
    override: str = ""
    due: int = 0
    replans: str = ""
    flow_run: str = ""

    @property
    def targets(self) -> Targets:
        """What the runbook is about here."""
        return targets_of(self.runbook, self.site)

    def __post_init__(self) -> None:
        """People type these on any keyboard: an accent of its own must not keep a run from being recorded."""
        typed = {
            "selection": recordable(self.selection),
            "change_ref": recordable(self.change_ref, MAX_REFERENCE),
            "override": recordable(self.override, MAX_REFERENCE),
            "replans": recordable(self.replans, MAX_REFERENCE),
            "requester": replace(self.requester, id=recordable(self.requester.id, MAX_REFERENCE)),
        }
        for name, value in typed.items():
            object.__setattr__(self, name, value)


def order(request: Request, run: str, stage: Stage, now: int) -> Order:
    """What the plan will say was asked for, with the site's gate, limits and waves.

    Below `delegated` a standard change is a normal one: every run is signed for. A run that sets freezes
    aside is signed for by both parties and is a normal change as well, whatever it was asked for as: neither
    a standing approval nor an emergency's one signature opens its gate.

    Raises:
        SelectionError: the runbook changes nothing; or its hosts have no window in common.
    """
    if request.runbook.change is None:
        raise SelectionError(f"{request.runbook.id} changes nothing, so there is nothing to plan")
    limits, waves = request.site.rollout(request.runbook)
    gate = request.site.gate(request.runbook)
    change = ChangeType.EMERGENCY if request.emergency else request.runbook.change
    if request.override:
        gate, change = stricter(gate, BOTH_PARTIES), ChangeType.NORMAL
    elif change is ChangeType.STANDARD and stage is not Stage.DELEGATED:
        change = ChangeType.NORMAL
    return Order(
        run=run, site=request.site.name, requester=request.requester, selection=request.selection,
        code=code_of(request.runbook), gate=gate, limits=limits, waves=waves, change=change,
        approval_seconds=request.site.approval_seconds(request.runbook), change_ref=request.change_ref,
        options=request.operation.options(), window=window_of(request, now),
    )


def window_of(request: Request, now: float) -> Window:
    """When the run may change its hosts: the first time since it was due at which every one of them may be.

    Raises:
        SelectionError: there is none.
    """
    hosts = request.targets.timed(request.targets.select(request.selection))
    span = request.site.calendar.common(hosts, request.due or now, override=bool(request.override))
    if span is None:
        raise SelectionError(
            f"the hosts of {request.selection} have no maintenance window in common within "
            f"{HORIZON // DAY} days", changed="Nothing was changed",
            advice=f"Start a run for each group with windows of its own: lamplighter calendar "
            f"{request.site.name}",
        )
    return Window(span.begins, span.ends, request.override)


def draft(request: Request, run: str, surveyed: Sequence[Surveyed], now: float, stage: Stage) -> Plan:
    """The plan these facts lead to.

    Args:
        request: see `Request`.
        run: the run's id.
        surveyed: of every selected host.
        now: seconds since the epoch.
        stage: of the runbook's function, in force now.

    Raises:
        SelectionError: the runbook changes nothing, or its hosts have no window in common.
        LimitExceededError: it would touch more hosts than the runbook or site allows, or no worker could
            read it back.
    """
    bind = request.targets.binder()
    host_plans = [_host_plan(request.operation, seen, bind) for seen in surveyed]
    plan = build_plan(
        request.runbook, order(request, run, stage, int(now)), host_plans,
        request.targets.fleet(request.selection), now=int(now), nonce=secrets.token_hex(16),
    )
    if stage is Stage.DELEGATED and not request.override:
        plan = request.site.pre_authorised(plan)
    why = too_many(plan.limits, len(plan.targets), plan.fleet)
    if not why and len(plan.to_bytes()) > MAX_BYTES:
        why = f"the plan of {len(plan.hosts)} hosts is larger than the {MAX_BYTES} bytes a plan may have"
    if why:
        raise LimitExceededError(
            why, where=run, changed="Nothing was changed",
            advice="Select fewer hosts, or have internal IT raise the limit in site.yaml",
        )
    return plan


def _host_plan(operation: Operation[Any], seen: Surveyed, bind: Bind) -> HostPlan:
    """What is to be done on one host. What cannot be planned or written down is that host's row, no more."""
    name = seen.host.name
    if seen.facts is None:
        return HostPlan(name, reason=recordable(seen.message) or "no answer", end=seen.end)
    try:
        plan = operation.plan(seen.host, seen.facts)
        if plan.steps:
            bound = bind(seen.host)
            plan = replace(plan, reach=recordable(bound.reach), bound=bound.digest)
        canonical(asdict(plan))
        check_fields("facts", {"host": name, "relevant": seen.facts.relevant()})
    except LamplighterError as error:
        why = recordable(f"it cannot be planned for: {error}")
        return HostPlan(name, reason=why, end=Terminal.REFUSED)
    except Exception as error:  # noqa: BLE001 - logged; a planner's bug on one host must not cost the others
        return HostPlan(name, reason=unexpected(error), end=Terminal.FAILED)
    return plan
