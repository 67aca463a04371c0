"""Unlock an account: say why it cannot log in, and lift the lockout where that is why.

What it touches:
    - One account of the directory: its lockout, and nothing else.
    - Reads: why it cannot log in: locked, disabled, expired, must change, or none of these.

Evidence:
    - The account, who asked, how the caller was verified (a claim), what was found, and what the directory
      answered.

Taking it back:
    A lockout that was lifted comes back by itself when wrong passwords go on.

Edge cases:
    - The account is not locked but disabled or expired: that is said, and nothing is changed.
    - It locks again at once: something still tries the old password; find it before the next unlock.
    - The account is protected, or outside of what was delegated: `refused`, and the rule is named.
"""

from __future__ import annotations

from typing import Any, Literal

from prefect import flow
from prefect.client.schemas.objects import State

from lamplighter.model.gate import internal
from lamplighter.model.party import Party
from lamplighter.model.plan import Limits
from lamplighter.model.runbook import ChangeType, On, Risk, Runbook, Sla
from tasks.account_changes import UnlockAccount
from tasks.steps import close, make_plan, open_account_run, pass_gate, roll_out, survey, within_rates

RUNBOOK = Runbook(
    id="unlock-account",
    title="Account unlock",
    function="password-resets",
    owner=Party.MSP,
    change=ChangeType.NORMAL,  # a standard one where a standing approval covers the account
    gate=internal("service-desk"),
    risk=Risk.MEDIUM,
    operation=UnlockAccount,
    limits=Limits(hosts=1, soak_seconds=0, run_failures=0),
    sla=Sla(answer=3600, complete=2 * 3600),
    approval_seconds=4 * 3600,
    on=On.ACCOUNTS,
)


@flow(**RUNBOOK.flow_options())
def unlock_account(
    account: str,
    verified: Literal["call-back", "manager", "in-person", "ticket-with-proof"],
    ticket: str,
    requester: str,
    site: str,
) -> State[Any]:
    """Say why an account cannot log in, and lift its lockout where that is the reason and is allowed.

    Args:
        account: login, mail address or employee number; exactly one account must have it
        verified: how you made sure that the caller is who they say
        ticket: ticket or change number
        requester: your address, or the line that lamplighter request prints
        site: whose directory: a folder in inventories/
    """
    with open_account_run(
        RUNBOOK, site, account, lambda desk, _: desk.unlock(verified), ticket=ticket, requester=requester
    ) as (desk, run):
        plan = make_plan(run, survey(run))
        pass_gate(run, plan)
        if within_rates(desk, run):
            for wave, _ in enumerate(plan.waves, start=1):
                roll_out(run, wave)
        return close(run)
