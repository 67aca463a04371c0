"""`lamplighter matrix`: who answers for what, and how far it is handed over."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from lamplighter.cli.common import table
from lamplighter.cli.page import console, escape, lines, print_json
from lamplighter.derive.catalogue import discover
from lamplighter.engine.stages import stage_of
from lamplighter.errors import StoreError
from lamplighter.model.clocks import span
from lamplighter.model.quorum import needs
from lamplighter.model.responsibility import Function
from lamplighter.model.runbook import Runbook
from lamplighter.model.stage import InForce, Stage, lowest
from lamplighter.site import Site, load_site_named
from lamplighter.store import open_store

COLOURS = {"internal": "dim", "shadow": "yellow", "supervised": "cyan", "delegated": "green"}


def matrix(
    site: Annotated[str, typer.Argument(help="a folder in inventories/")],
    as_json: Annotated[bool, typer.Option("--json", help="print the matrix as JSON")] = False,
) -> None:
    """Show every function: who does it, who answers for it, its runbooks, and the stage in force."""
    runbooks = {name: entry.runbook for name, entry in discover().items()}
    place = load_site_named(site, runbooks)
    rows = [_row(place, each, runbooks) for each in place.matrix.functions.values()]
    if as_json:
        print_json(rows)
        return
    columns = ("function", "does it", "answers", "stage", "runbooks", "gates", "answered in", "review by")
    cells = [
        (
            escape(row["function"]), row["responsible"], row["accountable"],
            f"[{COLOURS[row['stage']]}]{row['stage']}[/]", lines(row["runbooks"]) or "-",
            lines(row["gates"]), row["answer"] or "-", row["review_by"],
        )
        for row in rows
    ]
    out = console()
    out.print(table(f"{place.name}: who answers for what", columns, cells))
    for row in rows:
        if row["stage"] != row["declared"]:
            lower = f"{row['function']} is {row['stage']}, and not {row['declared']} as declared"
            out.print(f"{lower}: {row['why']}", markup=False)


def _row(place: Site, function: Function, runbooks: Mapping[str, Runbook]) -> dict[str, Any]:
    mine = {name: runbooks[name] for name in function.runbooks}
    stage = _in_force(place, function, mine)
    sla = function.sla
    return {
        "function": function.id, "title": function.title, "responsible": str(function.responsible),
        "accountable": str(function.accountable), "consulted": [str(one) for one in function.consulted],
        "informed": [str(one) for one in function.informed], "runbooks": list(function.runbooks),
        "gates": [needs(place.gate(one)) if one.changes else "changes nothing" for one in mine.values()],
        "declared": str(function.stage), "stage": str(stage.stage), "why": stage.why,
        "answer": span(sla.answer) if sla else "", "complete": span(sla.complete) if sla else "",
        "escalation": [
            {"after": span(rung.after), "to": [str(one) for one in rung.to]}
            for rung in function.escalation.rungs
        ],
        "minutes_per_target": function.minutes_per_target, "review_by": str(function.review_by),
        "demote_on": sorted(map(str, function.demote_on)),
    }


def _in_force(place: Site, function: Function, runbooks: Mapping[str, Runbook]) -> InForce:
    """The stage in force; the lowest there is where the store, which holds the decisions, is out of reach."""
    try:
        store = open_store(place.store)
        return stage_of(function, place, store, runbooks, int(time.time()))
    except StoreError as error:
        return InForce(lowest(function.stage, Stage.SHADOW), f"the store is out of reach: {error.message}")
