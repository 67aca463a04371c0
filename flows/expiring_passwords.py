"""Expiring passwords: tell users in time, each step once.

What it touches:
    - Nothing in the directory. It reads accounts in the delegated OUs and mails their users; the mail holds
      no link.

Evidence:
    - For each password and step a notice in the site's store, recorded before it is sent, and what became of
      it: `lamplighter notifications`.

Taking it back:
    A mail that was sent cannot be taken back.

Edge cases:
    - The function is in stage `internal`: it looks at nothing, and ends as rejected. In stage `shadow` it
      counts who would be told, and mails nobody.
    - The mail server is down, or asks to come back later: `escalate` tries again, until the password ends.
    - A worker dies between record and mail: `escalate` sends it.
    - More users than `per_run`: the others hear in the next run.
    - Users without one mail address are counted and named; accounts on the exclude list are passed over.
    - The directory does not answer, or not to the end: those in `rates.tell` hear of it, once a day.
"""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger

from lamplighter import orchestrator
from lamplighter.model.party import Party
from lamplighter.model.runbook import Risk, Runbook
from tasks.expiring import tell_everybody
from tasks.steps import Opened, open_check

RUNBOOK = Runbook(
    id="expiring-passwords",
    title="Passwords about to expire",
    function="password-resets",
    owner=Party.MSP,
    risk=Risk.LOW,
)


@flow(**RUNBOOK.flow_options())
def expiring_passwords(site: str) -> State[Any]:
    """Tell users whose password expires in a few days, once at each of the steps the site lists.

    It changes nothing in the directory and may be started at any time and twice at once.

    Args:
        site: whose users: a folder in inventories/
    """
    opened = open_check(RUNBOOK, site)
    if not isinstance(opened, Opened):
        return opened
    with orchestrator.in_words():
        told = tell_everybody(opened.site, mail=opened.stage.may_change)
        get_run_logger().info("%s", told)
        return orchestrator.told(str(told), ok=told.ok)
