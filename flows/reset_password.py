"""Reset a password: a generated one, to be changed at the next login, delivered once and sealed.

What it touches:
    - One account of the directory: its password, that it must be changed at the next login, and, with
      `unlock`, its lockout. The account is pinned by the directory's own identifier, not by its name.
    - Reads: the account, its groups through any number of groups, its policy, its manager's address.
    - Leaves the new password sealed, mailed or in a file, as directory.yaml allows.

Evidence:
    - The account, who asked, how the caller was verified (a claim), the rule that refused or the gate that
      passed, what the directory answered, and to which way the password went. Never the password.

Taking it back:
    A reset is not taken back. The old password is gone; reset the account again.

Edge cases:
    - Several accounts answer to the name, or none: nothing is changed.
    - The account is protected, a service's, disabled, expired, outside of what was delegated, or on the deny
      list: it is `refused`, and the rule is named. VIPs are signed for each time, or internal IT's alone.
    - Not everything that decides can be read, a line of directory.yaml may mean it and names nobody, or the
      server would not let it be done: it is `refused`, before anybody signs, and what is missing is named.
    - A login with the new password need not change it: the reset failed, and nobody gets the password.
    - The connection breaks while the password is set: the directory is asked whether it was. When it cannot
      tell, the run says `unknown`, never sets it again, and drops the password.
    - More resets in a day or an hour than are ordinary: the next one is not done, and both parties hear of
      it.
    - The password cannot be delivered: the account stays in must-change state; reset it again.
"""

from __future__ import annotations

from typing import Any, Literal

from prefect import flow
from prefect.client.schemas.objects import State

from lamplighter.model.gate import internal
from lamplighter.model.party import Party
from lamplighter.model.plan import Limits
from lamplighter.model.runbook import ChangeType, On, Risk, Runbook, Sla
from tasks.account_changes import ResetPassword
from tasks.accounts import Claims
from tasks.steps import (
    close,
    hand_over,
    make_plan,
    open_account_run,
    pass_gate,
    roll_out,
    survey,
    within_rates,
)

RUNBOOK = Runbook(
    id="reset-password",
    title="Password reset",
    function="password-resets",
    owner=Party.MSP,
    change=ChangeType.NORMAL,  # a standard one where a standing approval covers the account
    gate=internal("service-desk"),
    risk=Risk.HIGH,
    operation=ResetPassword,
    limits=Limits(hosts=1, soak_seconds=0, run_failures=0),
    sla=Sla(answer=3600, complete=2 * 3600),
    approval_seconds=4 * 3600,
    on=On.ACCOUNTS,
)


@flow(**RUNBOOK.flow_options())
def reset_password(
    account: str,
    verified: Literal["call-back", "manager", "in-person", "ticket-with-proof"],
    ticket: str,
    requester: str,
    site: str,
    deliver_to: str = "",
    *,
    unlock: bool = True,
) -> State[Any]:
    """Set a generated password for one account, which must be changed at the next login, and deliver it once.

    The password appears nowhere in Prefect. Accounts that are protected, of services, disabled, or outside of
    what was delegated are refused, each by a rule that is named.

    Args:
        account: login, mail address or employee number; exactly one account must have it
        verified: how you made sure that the caller is who they say
        ticket: ticket or change number
        requester: your address, or the line that lamplighter request prints
        site: whose directory: a folder in inventories/
        deliver_to: sealed, manager, alternate, file, or the name of a recipient in directory.yaml; empty for
            the site's first choice
        unlock: lift a lockout in the same change
    """
    with open_account_run(
        RUNBOOK, site, account,
        lambda desk, run: desk.reset(run, Claims(verified, deliver_to), unlock=unlock),
        ticket=ticket, requester=requester,
    ) as (desk, run):
        plan = make_plan(run, survey(run))
        pass_gate(run, plan)
        if within_rates(desk, run):
            for wave, _ in enumerate(plan.waves, start=1):
                roll_out(run, wave)
        hand_over(desk, run)
        return close(run)
