"""Patch Linux: bring Debian-family hosts up to date, in waves, after internal IT approved the packages.

What it touches:
    - Installs newer versions of packages from the repositories a host already has. Packages that have to be
      removed or added on the way stand in the plan; nothing else is removed or added, and no repository is.
    - With `packages=security` every fix is taken by name from a security archive, and apt adds what it needs
      at the host's own pins; the plan says which these are.
    - Keeps configuration files that were edited, and does not bring back those that were deleted.
    - Packages restart their own services. What still runs replaced code afterwards is said, and not
      restarted; the host is rebooted when its packages ask for it and `reboot` allows it.
    - Reads: installed packages and where they come from, holds and pins, package locks, free space, failed
      services, the boot loader's pin, the boot id.

Evidence:
    - For each host the packages with their versions before and after, the exit codes of apt and dpkg, and
      the boot ids around a reboot.
    - The services that failed before and those that fail afterwards, and those that still run the code they
      had before; the host variable `lamplighter_probes` adds checks of your own.
    - The signed plan, every intent and every outcome, in the run's ledger: `lamplighter verify`.

Taking it back:
    The plan names the version each package had, and what it takes to install that one again. Debian's
    security repository keeps no old versions: without a snapshot or mirror that does, restore the host.

Edge cases:
    - "No security updates are waiting" names the security archive and the day its index was made. It is
      said only of packages that archive covers; the rest are counted and named, each with the reason: offered
      by no archive any more, newer here than anywhere, from backports or a vendor, a component or
      architecture without a security archive, a kernel without the package that brings newer ones.
    - A host is `refused` when no security archive of its release is configured, when it is unsigned, could
      not be looked at, or stands still: its index is older than 7 days (`lamplighter_archive_days`). What the
      site bought or rebuilt counts as security when the inventory says so:
      `lamplighter_security_archives: ["origin=Freexian,codename=${distro_codename}-lts"]`, in the words of
      unattended-upgrades' `Origins-Pattern`.
    - Another archive that could not be looked at (no subscription, unknown or expired key, renamed) does not
      stop security updates: it is named, with the file it stands in and what mends it.
    - Updates from archives that mark nothing as security are named with their archive; whether one of them
      is a fix is for people to know. `packages=all` takes them.
    - What the host's owner decided is left alone and shown: holds, pins, a pinned kernel in the boot loader.
      Packages excluded from unattended-upgrades may be planned, and the approver is told.
    - Settings that would make apt rehearse only, ignore holds, take unsigned packages or replace
      configuration files are set back in every call, and named.
    - What would fail is refused beforehand: a statoverride for a user or group that is gone, dpkg's scripts
      on a noexec mount that no hook remounts, a root that is lost at the next boot, too little room, also in
      `/boot` for one more initial ramdisk.
    - Services that may not start (policy-rc.d, a diverted invoke-rc.d): planned, and said to be installed but
      not in use.
    - Another program holds a lock of apt or dpkg, such as unattended-upgrades: it is waited for, and then the
      host is left alone as `refused`; nothing was changed.
    - dpkg was interrupted earlier: the host is `refused`, unless the run was started with `repair`.
    - A release that is not supported any more is said to be so: it has no updates, and that is not the same
      as being up to date. With Ubuntu Pro or extended support configured it is not called that.
    - The connection breaks while apt runs: apt goes on in a unit of its own on the host, which is asked how
      it ended. It is never started twice.
    - A package was held, or something was installed by hand since the plan: the host is `drifted` and is not
      touched.
    - A host does not come back from its reboot: it is waited for, then it counts against the budget, and the
      run may halt before its next wave. One that comes back with another kernel than it should is `failed`.
    - Tried on real roots of Debian 11, 12 and 13 (apt 2.2, 2.6, 3.0). Ubuntu by its recorded words and by
      archives made like its own, on Debian's apt; not on an Ubuntu host.
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
    requester: str,
    hosts: str = "all",
    packages: Literal["security", "all"] = "security",
    reboot: Literal["when-needed", "never"] = "when-needed",
    repair: bool = False,
    change_ref: str = "",
    *,
    emergency: bool = False,
    override: str = "",
    replans: str = "",
) -> State[Any]:
    """Bring Linux hosts up to date, a wave at a time, after internal IT approved the exact packages.

    Args:
        site: whose estate: a folder in inventories/
        requester: who asks: your address, or the line that lamplighter request prints
        hosts: which hosts: an Ansible pattern, such as all, web or prod:!db1
        packages: only security updates, or all
        reboot: reboot hosts whose new packages ask for it, or leave that to somebody else
        repair: finish a dpkg run that was interrupted, before patching
        change_ref: ticket or change number
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
