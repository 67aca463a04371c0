"""Patch Linux: bring Debian-family hosts up to date, in waves, after internal IT approved the packages."""

from __future__ import annotations

from typing import Any, Literal

from prefect import flow
from prefect.client.schemas.objects import State

from lamplighter.model.gate import internal
from lamplighter.model.party import Party
from lamplighter.model.runbook import ChangeType, Risk, Runbook
from tasks.apt import Patching
from tasks.steps import close, make_plan, open_run, pass_gate, roll_out, survey

RUNBOOK = Runbook(
    id="patch-linux",
    title="Linux patch cycle",
    function="patch-management",
    owner=Party.MSP,
    change=ChangeType.NORMAL,
    gate=internal("change-manager"),
    risk=Risk.MEDIUM,
    operation=Patching,
)


@flow(**RUNBOOK.flow_options())
def patch_linux(
    site: str = "demo",
    hosts: str = "all",
    packages: Literal["security", "all"] = "security",
    reboot: Literal["when-needed", "never"] = "when-needed",
    repair: bool = False,
    change_ref: str = "",
    requester: str = "",
    *,
    emergency: bool = False,
    override: str = "",
) -> State[Any]:
    """Bring Linux hosts up to date, a wave at a time, after internal IT approved the exact packages.

    Args:
        site: whose estate: a folder in inventories/
        hosts: which hosts: an Ansible pattern, such as all, web or prod:!db1
        packages: only security updates, or all
        reboot: reboot hosts whose new packages ask for it, or leave that to somebody else
        repair: finish a dpkg run that was interrupted, before patching
        change_ref: ticket or change number
        requester: who asks, always needed: your address, or the line that lamplighter request prints
        emergency: expedited; needs the line of a signed request, and a review by internal IT afterwards
        override: why a freeze is set aside; both parties sign for it then
    """
    with open_run(
        RUNBOOK, site, hosts, Patching(packages, reboot, repair), change_ref=change_ref,
        requester=requester, emergency=emergency, override=override,
    ) as run:
        facts = survey(run)
        plan = make_plan(run, facts)
        pass_gate(run, plan)
        for wave, _ in enumerate(plan.waves, start=1):
            roll_out(run, wave)
        return close(run)
