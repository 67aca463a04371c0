"""`lamplighter plan`: survey and plan, read-only, without a Prefect server."""

from __future__ import annotations

import inspect
import json
import secrets
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from lamplighter.cli.common import console, print_json
from lamplighter.cli.show import print_plan
from lamplighter.derive.catalogue import named
from lamplighter.engine.drafting import Request, draft
from lamplighter.engine.stages import stage_for
from lamplighter.engine.survey import Surveyed, survey
from lamplighter.errors import NotApprovedError, SelectionError
from lamplighter.model.operation import Operation
from lamplighter.model.plan import Plan, Requester
from lamplighter.model.runbook import On, Runbook
from lamplighter.site import load_site_named
from lamplighter.store import open_store
from lamplighter.transports.connect import HostTransport


def plan(
    runbook: Annotated[str, typer.Argument(help="its id, for example patch-linux")],
    site: Annotated[str, typer.Option(help="a folder in inventories/")] = "demo",
    hosts: Annotated[str, typer.Option(help="an Ansible host pattern: web, prod:!db1")] = "all",
    option: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="an option of the runbook")
    ] = None,
    requester: Annotated[str, typer.Option(help="who asks; shown as claimed")] = "not named",
    out: Annotated[Path | None, typer.Option(help="write the plan's canonical bytes to this file")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the plan as JSON")] = False,
) -> None:
    """Show what a runbook would do now. Changes nothing on any host; the plan cannot be carried out."""
    entry = named(runbook)
    if entry.runbook.operation is None:
        raise SelectionError(f"{runbook} changes nothing, so there is nothing to plan")
    if entry.runbook.on is not On.HOSTS:
        raise SelectionError(f"{runbook} is planned by its run alone", advice="Start it in Prefect's UI")
    place = load_site_named(site)
    operation = operation_of(entry.runbook, option or [])
    request = Request(entry.runbook, place, operation, Requester(requester), hosts)
    drafted = preview(request, int(time.time()), Console(stderr=True, highlight=False))
    if out is not None:
        out.write_bytes(drafted.to_bytes())
    if as_json:
        print_json(json.loads(drafted.to_bytes()))
    else:
        print_plan(console(), drafted)


def preview(request: Request, now: int, progress: Console) -> Plan:
    """Survey and plan; the plan belongs to no run and cannot be carried out.

    Args:
        request: who wants what.
        now: seconds since the epoch.
        progress: is told of hosts that could not be surveyed.

    Raises:
        NotApprovedError: the function is in a stage in which the MSP may not even look.
    """
    runbook, place = request.runbook, request.site
    stage = stage_for(runbook, place, open_store(place.store, place.store_options), now).stage
    if not stage.may_look:
        raise NotApprovedError(
            f"{runbook.function} is in stage {stage}: the MSP's runs refuse", where=place.name,
            changed="No host was looked at", advice=f"lamplighter matrix {place.name} says who does it",
        )

    def tell(seen: Surveyed) -> None:
        if seen.facts is None:
            progress.print(f"{seen.host.name}: {seen.message}", markup=False)

    parallel = place.rollout(runbook)[0].parallel
    with HostTransport(place.host_keys, runbook.shells) as transport:
        selected = place.select(request.selection)
        surveyed = survey(selected, request.operation, transport.connect, parallel, tell)
    return draft(request, f"preview-{secrets.token_hex(4)}", surveyed, now, stage)


def operation_of(runbook: Runbook, pairs: list[str]) -> Operation[Any]:
    """The runbook's operation with options as typed: `packages=all`, `repair=true`.

    Raises:
        SelectionError: the runbook changes nothing; a pair without `=`, or an option it does not have.
    """
    if runbook.operation is None:
        raise SelectionError(f"{runbook.id} changes nothing, so there is nothing to ask for or approve")
    found = _options(pairs)
    known = inspect.signature(runbook.operation).parameters
    unknown = sorted(found.keys() - known.keys())
    if unknown:
        raise SelectionError(
            f"{runbook.id} has no option {', '.join(unknown)}", advice=f"It has: {', '.join(known)}"
        )
    return runbook.operation(**found)


def _options(pairs: list[str]) -> dict[str, Any]:
    """`packages=all repair=true` as keyword arguments.

    Raises:
        SelectionError: a pair without `=`.
    """
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise SelectionError(f"{pair!r} is not NAME=VALUE", advice="for example --set packages=all")
        found[name] = {"true": True, "false": False}.get(value, value)
    return found
