"""`lamplighter replan`: plan anew what a run left undone, and show what differs from what was approved."""

from __future__ import annotations

import json
import time
from typing import Annotated

import typer

from lamplighter.cli.common import STARTED, AnySite, AsJson, Found, RunId, find_run, started
from lamplighter.cli.page import console, print_json
from lamplighter.cli.plan import answer_for, preview
from lamplighter.cli.show import delta_table
from lamplighter.derive.catalogue import named
from lamplighter.derive.prefect_yaml import offered
from lamplighter.engine.drafting import Request
from lamplighter.engine.replanning import earlier
from lamplighter.errors import DeclinedError, SelectionError
from lamplighter.model.delta import HostDelta, difference, left_over
from lamplighter.model.options import operation_with
from lamplighter.model.plan import Plan, Requester
from lamplighter.model.runbook import On


def replan(
    run: RunId,
    site: AnySite = None,
    requester: Annotated[str, typer.Option(help="who asks; a claim")] = "not named",
    start: Annotated[
        bool, typer.Option("--start", help="start a run for what is left; it waits at its gate as any other")
    ] = False,
    deployment: Annotated[str, typer.Option(help="what starts it; else the site's first deployment")] = "",
    as_json: AsJson = False,
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
        if start:
            raise DeclinedError(f"{found.run} left nothing undone", changed="Nothing was started")
        _print(found, None, (), {}, as_json=as_json)
        return
    request = _request(found, old, ",".join(left), requester)
    new = preview(request, int(time.time()), console(stderr=True))
    deltas = difference(old, history.hosts, new)
    begun = _start(deployment or offered(found.site, old.runbook), request) if start else {}
    _print(found, new, deltas, begun, as_json=as_json)
    if not start:
        answer_for(new)


def _print(
    found: Found, new: Plan | None, deltas: tuple[HostDelta, ...], begun: dict[str, str], *, as_json: bool
) -> None:
    if as_json:
        print_json({
            "replans": found.run, "site": found.site.name,
            "plan": json.loads(new.to_bytes()) if new else None,
            "hosts": [
                {"host": one.host, "ended": one.ended, "different": list(one.lines)} for one in deltas
            ],
            "started": begun or None,
        })
        return
    out = console()
    if new is None:
        out.print(f"{found.run} at {found.site.name} left nothing undone", markup=False)
        return
    out.print(delta_table(found.run, deltas))
    out.print(f"{len(new.targets)} of {len(deltas)} hosts would be changed at {new.site}", markup=False)
    if begun:
        out.print(STARTED.format(**begun), markup=False)
    else:
        out.print("Start it with --start; it will survey again and wait for approval", markup=False)


def _request(found: Found, old: Plan, hosts: str, requester: str) -> Request:
    """The same options and reference again, for the hosts that are left."""
    runbook = named(old.runbook).runbook
    operation = operation_with(runbook, old.options)
    who = Requester(requester)
    return Request(runbook, found.site, operation, who, hosts, old.change_ref, replans=found.run)


def _start(deployment: str, request: Request) -> dict[str, str]:
    from lamplighter import orchestrator  # noqa: PLC0415 - Prefect takes 2 s to import

    run = orchestrator.start(deployment, {
        **request.operation.options(), "site": request.site.name, "hosts": request.selection,
        "change_ref": request.change_ref, "requester": request.requester.id, "replans": request.replans,
    })
    name = orchestrator.run_of(request.runbook.id, run)
    return started(name, request.site.name, str(run.id), orchestrator.page(run.id))
