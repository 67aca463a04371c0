"""From surveyed hosts to a plan."""

from __future__ import annotations

import pytest
from hypothesis import given

from lamplighter.errors import MalformedError
from lamplighter.model.gate import internal
from lamplighter.model.inventory import Host
from lamplighter.model.outcome import Terminal
from lamplighter.model.plan import HostPlan, Limits, Requester, Window, read_plan
from lamplighter.model.planning import Order, build_plan
from lamplighter.model.runbook import ChangeType, Waves
from tests.enginekit import RUNBOOK
from tests.plankit import changed, fleets, still


def an_order(**how: object) -> Order:
    return Order(**{  # type: ignore[arg-type]
        "run": "run-1", "site": "demo", "requester": Requester("priya", "signed"), "selection": "all:!db",
        "code": "1.2", "gate": internal("change-manager"), "limits": Limits(hosts=7),
        "waves": Waves(1, (100,)), "change": ChangeType.NORMAL, "change_ref": "CHG-1", "options": {"a": 1},
        "window": Window(5, 9), **how,
    })


def test_a_plan_says_what_was_asked() -> None:
    hosts = {name: Host(name) for name in "abc"}
    plan = build_plan(RUNBOOK, an_order(), [changed("a"), still("b")], hosts, now=1000, nonce="n")
    assert (plan.run, plan.site, plan.runbook, plan.owner) == ("run-1", "demo", "bump-version", "msp")
    assert (plan.requester, plan.selection, plan.code) == (Requester("priya", "signed"), "all:!db", "1.2")
    assert (plan.created, plan.expires) == (1000, 1000 + RUNBOOK.approval_seconds)
    assert (plan.fleet, plan.targets, plan.waves) == (3, ("a",), (("a",),))
    assert (plan.limits, plan.window, plan.options) == (Limits(hosts=7), Window(5, 9), {"a": 1})
    assert (plan.change_type, plan.change_ref) == ("normal", "CHG-1")


@given(fleets())
def test_plans_survive_their_bytes(hosts: list[Host]) -> None:
    plans = [
        changed(host.name) if number % 3 else still(host.name, end=Terminal.REFUSED)
        for number, host in enumerate(hosts)
    ]
    named = {host.name: host for host in hosts}
    plan = build_plan(RUNBOOK, an_order(waves=Waves(2, (30, 100))), plans, named, now=1, nonce="n")
    again = read_plan(plan.to_bytes())
    assert again == plan
    assert again.digest == plan.digest
    assert set(plan.targets) == {host.host for host in plans if host.steps}


def test_two_plans_of_the_same_never_share_a_digest() -> None:
    hosts = {"a": Host("a")}
    first, second = (build_plan(RUNBOOK, an_order(), [changed("a")], hosts, now=1, nonce=n) for n in "xy")
    assert first.digest != second.digest


def test_a_host_needs_steps_or_a_reason() -> None:
    with pytest.raises(MalformedError):
        HostPlan("a")
    with pytest.raises(MalformedError):
        HostPlan("a", "f", changed("a").steps, reason="both")
