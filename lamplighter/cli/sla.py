"""`lamplighter sla`: whose time a site's runs took, and whether what was promised was kept."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import typer

from lamplighter.cli.common import promised, store_of, table
from lamplighter.cli.page import console, escape, print_json
from lamplighter.ledger import read_ledger
from lamplighter.model.clocks import Ball, Clocks, Kept, Promise, promises, read_clocks, span
from lamplighter.model.history import replay
from lamplighter.seals import runs_of
from lamplighter.site import Site, load_site_named

COLOURS = {Kept.KEPT: "green", Kept.OPEN: "dim", Kept.MISSED: "red", Kept.NOT_DONE: "yellow"}


@dataclass(frozen=True, slots=True)
class Row:
    """One run's times."""

    run: str
    owner: str
    state: str
    clocks: Clocks
    promises: tuple[Promise, ...]


def sla(
    site: Annotated[str, typer.Argument(help="a folder in inventories/")],
    days: Annotated[int, typer.Option(min=1, help="runs that began in the last so many days")] = 30,
    as_json: Annotated[bool, typer.Option("--json", help="print it as JSON")] = False,
) -> None:
    """Show who held each run for how long, and which promised times were kept. From the ledgers alone.

    Exit 1 when a promise was missed.
    """
    place = load_site_named(site)
    now = time.time()
    rows = [row for row in _rows(place, now) if row.clocks.begun >= now - days * 86400]
    rows.sort(key=lambda row: (row.clocks.begun, row.run), reverse=True)
    if as_json:
        print_json([_plain(row) for row in rows])
    else:
        _show(rows, days)
    if any(promise.kept is Kept.MISSED for row in rows for promise in row.promises):
        raise typer.Exit(1)


def _rows(site: Site, now: float) -> Iterator[Row]:
    store = store_of(site)
    for run in runs_of(store):
        records = tuple(read_ledger(store, run, site.name))
        if not records:
            continue
        clocks = read_clocks(records, now)
        state = replay(records).state
        name, owner = str(records[0].get("runbook", "")), str(records[0].get("owner", ""))
        yield Row(run, owner, state, clocks, promises(clocks, promised(site, name)))


def _plain(row: Row) -> dict[str, object]:
    holder = row.clocks.holder
    return {
        "run": row.run, "owner": row.owner, "state": row.state, "began": row.clocks.begun,
        "ended": row.clocks.ended or None, "holder": str(holder) if holder else None,
        "seconds": {str(ball): round(row.clocks.spent[ball]) for ball in Ball},
        "promises": [
            {"name": one.name, "spent": one.spent, "promised": one.promised, "verdict": str(one.kept),
             "until": one.until or None}
            for one in row.promises
        ],
    }


def _show(rows: Sequence[Row], days: int) -> None:
    if not rows:
        console().print(f"no runs in the last {days} days")
        return
    names = ("run", "state", "owner worked", "approval", "window", "answer", "complete")
    cells = [
        (escape(row.run), escape(row.state), *(span(row.clocks.spent[ball]) for ball in Ball),
         _verdict(row, "answer"), _verdict(row, "complete"))
        for row in rows
    ]
    console().print(table("", names, cells))
    for name in ("answer", "complete"):
        counts = Counter(one.kept for row in rows for one in row.promises if one.name == name)
        told = ", ".join(f"{counts[kept]} {kept}" for kept in Kept if counts[kept]) or "never promised"
        console().print(f"{name}: {told}")


def _verdict(row: Row, name: str) -> str:
    found = next((one for one in row.promises if one.name == name), None)
    if found is None:
        return "-"
    text = f"{found.kept}: {span(found.spent)} of {span(found.promised)}"
    return f"[{COLOURS[found.kept]}]{text}[/]"
