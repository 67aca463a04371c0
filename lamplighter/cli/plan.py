"""`lamplighter plan`: survey and plan, read-only, without a Prefect server."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from lamplighter.cli.common import SiteName, store_of, the_site, warn
from lamplighter.cli.page import console, print_json
from lamplighter.cli.show import print_plan
from lamplighter.derive.catalogue import named
from lamplighter.engine.drafting import Request, draft
from lamplighter.engine.stages import may_look
from lamplighter.engine.survey import Surveyed, survey
from lamplighter.engine.targets import targets_of
from lamplighter.errors import SelectionError
from lamplighter.model.operation import Operation
from lamplighter.model.options import Choices, operation_with, options_of, parameters_of
from lamplighter.model.outcome import Terminal
from lamplighter.model.plan import Plan, Requester
from lamplighter.model.runbook import On, Runbook
from lamplighter.model.session import Connect
from lamplighter.site import Site
from lamplighter.transports.connect import HostTransport
from tasks.account_changes import ResetPassword
from tasks.account_runs import open_desk
from tasks.accounts import Claims

EVERYTHING = "all"
NOBODY_YET = "nobody yet, as this is a preview"
OF_A_RUN = ("site", "verified", "ticket", "requester")
"""Parameters of a flow about an account that say who asked, where, and why."""


def plan(
    runbook: Annotated[str, typer.Argument(help="its id, for example patch-linux")],
    site: SiteName = "",
    hosts: Annotated[str, typer.Option(help="an Ansible host pattern: web, prod:!db1")] = EVERYTHING,
    option: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="an option of the runbook, or account=LOGIN"),
    ] = None,
    requester: Annotated[str, typer.Option(help="who asks; shown as claimed")] = "not named",
    out: Annotated[Path | None, typer.Option(help="write the plan's canonical bytes to this file")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the plan as JSON")] = False,
) -> None:
    """Show what a runbook would do now. Changes nothing anywhere; the plan cannot be carried out."""
    entry = named(runbook)
    if entry.runbook.operation is None:
        raise SelectionError(f"{runbook} changes nothing, so there is nothing to plan")
    place = the_site(site)
    reach: AbstractContextManager[Connect] | None = None
    operation: Operation[Any]
    if entry.runbook.on is On.ACCOUNTS:
        operation, hosts, reach = _about_account(entry.runbook, place, hosts, option or [])
    else:
        operation = operation_of(entry.runbook, option or [])
    request = Request(entry.runbook, place, operation, Requester(requester), hosts)
    drafted = preview(request, int(time.time()), console(stderr=True), reach)
    if out is not None:
        out.write_bytes(drafted.to_bytes())
    if as_json:
        print_json(json.loads(drafted.to_bytes()))
    else:
        print_plan(console(), drafted, place.time_zone)
    answer_for(drafted)


def answer_for(drafted: Plan) -> None:
    """End with 2 when not one target could be looked at, and with 1 when every one of them was refused."""
    ends, count = {host.end for host in drafted.hosts}, len(drafted.hosts)
    if drafted.targets or Terminal.UNCHANGED in ends:
        return
    unseen = any(end.spends_budget for end in ends)
    what = "could be looked at: it is not known what would be done" if unseen else "would be changed"
    warn(f"not one of {count} targets at {drafted.site} {what}; the plan says of each why")
    raise typer.Exit(2 if unseen else 1)


def preview(
    request: Request, now: int, progress: Console, reach: AbstractContextManager[Connect] | None = None
) -> Plan:
    """Survey and plan; the plan belongs to no run and cannot be carried out.

    Args:
        request: who wants what.
        now: seconds since the epoch.
        progress: is told of targets that could not be surveyed.
        reach: what connects to them; to hosts as the inventory says when it is left out.

    Raises:
        NotApprovedError: the function is in a stage in which the MSP may not even look.
    """
    runbook, place = request.runbook, request.site
    stage = may_look(runbook, place, store_of(place), now)

    def tell(seen: Surveyed) -> None:
        if seen.facts is None:
            progress.print(f"{seen.host.name}: {seen.message}", markup=False)

    parallel = place.rollout(runbook)[0].parallel
    selected = targets_of(runbook, place).select(request.selection)
    with reach or _reach_hosts(request) as connect:
        surveyed = survey(selected, request.operation, connect, parallel, tell)
    return draft(request, f"preview-{secrets.token_hex(4)}", surveyed, now, stage)


@contextmanager
def _reach_hosts(request: Request) -> Iterator[Connect]:
    with HostTransport(request.site.host_keys, request.runbook.shells) as transport:
        yield transport.connect


def _about_account(
    runbook: Runbook, place: Site, hosts: str, pairs: list[str]
) -> tuple[Operation[Any], str, AbstractContextManager[Connect]]:
    """The operation, the account, and what connects to the directory, of a runbook about one account.

    Raises:
        SelectionError: no account is named, or something else is.
        SiteError: the site has no directory.
    """
    choices = parameters_of(runbook.start).without(*OF_A_RUN) if runbook.start else Choices({})
    given = choices.read(pairs)
    account = str(given.get("account", ""))
    if not account or hosts != EVERYTHING:
        raise SelectionError(
            f"{runbook.id} is about one account, and not about hosts",
            advice=f"lamplighter plan {runbook.id} --site {place.name} --set account=LOGIN",
        )
    desk = open_desk(place)
    claims = Claims(NOBODY_YET, str(given.get("deliver_to", "")))
    if runbook.operation is not ResetPassword:
        return desk.unlock(NOBODY_YET), account, desk.reach(place)
    operation = desk.reset("preview", claims, unlock=given.get("unlock") is not False)
    return operation, account, desk.reach(place)


def operation_of(runbook: Runbook, pairs: list[str]) -> Operation[Any]:
    """The runbook's operation with options as typed: `packages=all`, `repair=true`.

    Raises:
        SelectionError: the runbook changes nothing; or with every mistake in the options.
    """
    return operation_with(runbook, options_of(runbook).read(pairs))
