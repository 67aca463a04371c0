"""Reset a password: a generated one, to be changed at the next login, delivered once and sealed."""

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
    deliver_to: str = "",
    site: str = "demo",
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
        deliver_to: sealed, manager, alternate, file, or the name of a recipient in directory.yaml; empty for
            the site's first choice
        site: whose directory: a folder in inventories/
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
