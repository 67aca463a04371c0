"""`lamplighter replan`: plan anew what a run left undone, and show what differs from what was approved."""

from __future__ import annotations

import json
import time
from typing import Annotated, Any

import typer
from rich.console import Console

from lamplighter.cli.common import Found, console, find_run, print_json
from lamplighter.cli.plan import preview
from lamplighter.cli.show import delta_table
from lamplighter.derive.catalogue import named
from lamplighter.derive.prefect_yaml import offered
from lamplighter.engine.drafting import Request
from lamplighter.engine.replanning import earlier
from lamplighter.errors import SelectionError
from lamplighter.model.delta import HostDelta, difference, left_over
from lamplighter.model.options import operation_with
from lamplighter.model.plan import Plan, Requester
from lamplighter.model.runbook import On


def replan(
    run: Annotated[str, typer.Argument(help="a run that has ended, or the start of its id")],
    site: Annotated[str | None, typer.Option(help="only look at this site")] = None,
    requester: Annotated[str, typer.Option(help="who asks; a claim")] = "not named",
    start: Annotated[
        bool, typer.Option("--start", help="start a run for what is left; it waits at its gate as any other")
    ] = False,
    deployment: Annotated[str, typer.Option(help="what starts it; else the site's first deployment")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="print the difference as JSON")] = False,
) -> None:
    """Plan the hosts that a run did not bring to their end, and show only what differs. Changes nothing."""
    found = find_run(run, site)
    old, history = earlier(found.store, found.site.name, found.run)
    if named(old.runbook).runbook.on is not On.HOSTS:
        raise SelectionError(
            f"{found.run} was about one account, which has no leftovers", changed="Nothing was started",
            advice=f"Start {old.runbook} for the account again",
        )
    left = [host for host in left_over(old, history.hosts) if host in found.site.inventory.hosts]
    if not left:
        console().print(f"{found.run} left nothing undone", markup=False)
        return
    request = _request(found, old, ",".join(left), requester)
    new = preview(request, int(time.time()), Console(stderr=True, highlight=False))
    deltas = difference(old, history.hosts, new)
    if as_json:
        print_json(_as_json(found.run, new, deltas))
    else:
        out = console()
        out.print(delta_table(found.run, deltas))
        out.print(f"{len(new.targets)} of {len(deltas)} hosts would be changed", markup=False)
    if start:
        _start(deployment or offered(found.site, old.runbook), request)
    elif not as_json:
        console().print("Start it with --start; it will survey again and wait for approval", markup=False)


def _request(found: Found, old: Plan, hosts: str, requester: str) -> Request:
    """The same options and reference again, for the hosts that are left."""
    runbook = named(old.runbook).runbook
    operation = operation_with(runbook, old.options)
    who = Requester(requester)
    return Request(runbook, found.site, operation, who, hosts, old.change_ref, replans=found.run)


def _as_json(run: str, new: Plan, deltas: tuple[HostDelta, ...]) -> dict[str, Any]:
    return {
        "replans": run, "plan": json.loads(new.to_bytes()),
        "hosts": [{"host": one.host, "ended": one.ended, "different": list(one.lines)} for one in deltas],
    }


def _start(deployment: str, request: Request) -> None:
    from lamplighter import orchestrator  # noqa: PLC0415 - Prefect takes 2 s to import

    run = orchestrator.start(deployment, {
        **request.operation.options(), "site": request.site.name, "hosts": request.selection,
        "change_ref": request.change_ref, "requester": request.requester.id, "replans": request.replans,
    })
    name = orchestrator.run_of(request.runbook.id, run)
    console().print(f"{name}: {orchestrator.page(run.id)}", markup=False)
