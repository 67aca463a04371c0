"""Patch Linux: bring Debian-family hosts up to date, in waves, after internal IT approved the packages.

What it touches:
    - Installs newer versions of packages from the repositories a host already has. Packages that have to be
      removed or added on the way stand in the plan; nothing else is removed or added, and no repository is.
    - Keeps configuration files that were edited.
    - Restarts services whose files were replaced, and reboots a host when its packages ask for it and
      `reboot` allows it.
    - Reads: installed packages, holds, package locks, free space, failed services, the boot id.

Evidence:
    - For each host the packages with their versions before and after, the exit codes of apt and dpkg, and
      the boot ids around a reboot.
    - The services that failed before and those that fail afterwards; the host variable `lamplighter_probes`
      adds checks of your own.
    - The signed plan, every intent and every outcome, in the run's ledger: `lamplighter verify`.

Taking it back:
    The plan names the version each package had, and what it takes to install that one again. Debian's
    security repository keeps no old versions: without a snapshot or mirror that does, restore the host.

Edge cases:
    - Another program holds the package lock, such as unattended-upgrades: it is waited for, and then the
      host is left alone as `refused`; nothing was changed.
    - dpkg was interrupted earlier: the host is `refused`, unless the run was started with `repair`.
    - A release that is not supported any more is said to be so: it has no updates, and that is not the same
      as being up to date.
    - The connection breaks while apt runs: apt goes on in a unit of its own on the host, which is asked how
      it ended. It is never started twice.
    - A package was held, or something was installed by hand since the plan: the host is `drifted` and is not
      touched.
    - A host does not come back from its reboot: it is waited for, then it counts against the budget, and the
      run may halt before its next wave.
"""

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
    site: str,
    hosts: str = "all",
    packages: Literal["security", "all"] = "security",
    reboot: Literal["when-needed", "never"] = "when-needed",
    repair: bool = False,
    change_ref: str = "",
    requester: str = "",
    *,
    emergency: bool = False,
    override: str = "",
    replans: str = "",
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
        replans: an earlier run whose leftovers this one takes up; lamplighter replan fills it in
    """
    with open_run(
        RUNBOOK, site, hosts, Patching(packages, reboot, repair), change_ref=change_ref,
        requester=requester, emergency=emergency, override=override, replans=replans,
    ) as run:
        facts = survey(run)
        plan = make_plan(run, facts)
        pass_gate(run, plan)
        for wave, _ in enumerate(plan.waves, start=1):
            roll_out(run, wave)
        return close(run)
