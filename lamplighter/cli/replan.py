"""`lamplighter replan`: plan anew what a run left undone, and show what differs from what was approved."""

from __future__ import annotations

import json
import time
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from lamplighter.cli.common import Found, console, find_run, print_json, table
from lamplighter.cli.plan import preview
from lamplighter.derive.catalogue import named
from lamplighter.engine.drafting import Request
from lamplighter.errors import SelectionError
from lamplighter.model.delta import HostDelta, difference, left_over
from lamplighter.model.history import History, replay
from lamplighter.model.plan import Plan, Requester


def replan(
    run: Annotated[str, typer.Argument(help="a run that has ended, or the start of its id")],
    site: Annotated[str | None, typer.Option(help="only look at this site")] = None,
    requester: Annotated[str, typer.Option(help="who asks; a claim")] = "not named",
    start: Annotated[
        bool, typer.Option("--start", help="start a run for what is left; it waits at its gate as any other")
    ] = False,
    deployment: Annotated[str, typer.Option(help="which deployment starts it; otherwise the site's")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="print the difference as JSON")] = False,
) -> None:
    """Plan the hosts that a run did not bring to their end, and show only what differs. Changes nothing."""
    found = find_run(run, site)
    history = replay(found.records)
    old = _old(found, history)
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
        _print(found.run, new, deltas)
    if start:
        _start(deployment or f"{old.runbook}/{found.site.name}", request)
    elif not as_json:
        console().print("Start it with --start; it will survey again and wait for approval", markup=False)


def _old(found: Found, history: History) -> Plan:
    if not history.plan:
        raise SelectionError(f"{found.run} never had a plan", advice="Start a run instead")
    if not history.sealed:
        raise SelectionError(
            f"{found.run} has not ended", changed="Nothing was started",
            advice=f"Wait for it, or end it: lamplighter reject {found.run}",
        )
    return found.plan()[0]


def _request(found: Found, old: Plan, hosts: str, requester: str) -> Request:
    """The same options and reference again, for the hosts that are left."""
    runbook = named(old.runbook).runbook
    if runbook.operation is None:
        raise SelectionError(f"{runbook.id} changes nothing, so there is nothing to plan")
    operation = runbook.operation(**old.options)
    return Request(runbook, found.site, operation, Requester(requester), hosts, old.change_ref)


def _print(run: str, new: Plan, deltas: tuple[HostDelta, ...]) -> None:
    rows = [
        (
            escape(one.host), escape(one.ended or "not in that plan"),
            escape("\n".join(one.lines) or "as approved before"),
        )
        for one in deltas
    ]
    out = console()
    out.print(table(f"left by {escape(run)}", ("host", "how it ended", "what is different now"), rows))
    out.print(f"{len(new.targets)} of {len(deltas)} hosts would be changed", markup=False)


def _as_json(run: str, new: Plan, deltas: tuple[HostDelta, ...]) -> dict[str, Any]:
    return {
        "replans": run, "plan": json.loads(new.to_bytes()),
        "hosts": [{"host": one.host, "ended": one.ended, "different": list(one.lines)} for one in deltas],
    }


def _start(deployment: str, request: Request) -> None:
    from lamplighter import orchestrator  # noqa: PLC0415 - Prefect takes 2 s to import

    run = orchestrator.start(deployment, {
        **request.operation.options(), "site": request.site.name, "hosts": request.selection,
        "change_ref": request.change_ref, "requester": request.requester.id,
    })
    console().print(f"{request.runbook.id}-{run.id.hex[:8]}: {orchestrator.page(run.id)}", markup=False)
