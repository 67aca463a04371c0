"""Plans and hosts for tests of the pure model, by hand and by hypothesis."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from lamplighter.model.gate import internal
from lamplighter.model.inventory import Host
from lamplighter.model.outcome import Terminal
from lamplighter.model.plan import HostPlan, Plan, Requester, Step

DIGEST = "sha256:" + "0" * 64


def a_step(name: str = "upgrade", summary: str = "do it", undo: str = "", **args: Any) -> Step:
    return Step(name, f"sim.{name}", summary, args, undo)


def a_plan(
    hosts: tuple[HostPlan, ...] = (), waves: tuple[tuple[str, ...], ...] | None = None, **how: Any
) -> Plan:
    targets = tuple(host.host for host in hosts if host.steps)
    return Plan(**{
        "run": "run-1", "site": "demo", "runbook": "patch-linux", "owner": "msp", "change_type": "normal",
        "requester": Requester("priya"), "selection": "all", "fleet": max(len(hosts), 1), "created": 1000,
        "expires": 2000, "code": "0", "nonce": "n", "gate": internal("change-manager"),
        "waves": waves if waves is not None else ((targets,) if targets else ()), "hosts": hosts, **how,
    })


def changed(name: str, *steps: Step, facts: str = DIGEST, notes: tuple[str, ...] = ()) -> HostPlan:
    return HostPlan(name, facts, steps or (a_step(),), notes=notes)


def still(name: str, reason: str = "up to date", end: Terminal = Terminal.UNCHANGED) -> HostPlan:
    return HostPlan(name, DIGEST, reason=reason, end=end)


@st.composite
def fleets(draw: st.DrawFn, most: int = 40) -> list[Host]:
    """Hosts, some of them in clusters, some marked as canaries."""
    count = draw(st.integers(0, most))
    groups = st.sampled_from(["", "", "", "db", "web", "mail"])
    return [
        Host(f"h{number}", (), {
            "ha_group": draw(groups), "lamplighter_canary": draw(st.sampled_from([False, False, True, "no"])),
        })
        for number in range(count)
    ]
