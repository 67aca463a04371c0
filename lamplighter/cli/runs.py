"""`lamplighter runs` and `lamplighter resume`: what is under way, and going on after a crash."""

from __future__ import annotations

import time
from typing import Annotated, TypeAlias

import typer
from rich.markup import escape

from lamplighter.cli.common import console, find_run, print_json, sites, table, warn
from lamplighter.engine.reviews import open_reviews
from lamplighter.ledger import read_ledger
from lamplighter.model.attest import Trust
from lamplighter.model.history import History, replay
from lamplighter.model.outcome import sentence, tally
from lamplighter.model.show import when
from lamplighter.notify.heartbeat import warning
from lamplighter.seals import runs_of
from lamplighter.store import Store, open_store

Row: TypeAlias = tuple[int, str, str, str, str, str]


def runs(
    site: Annotated[str | None, typer.Option(help="only this site")] = None,
    waiting: Annotated[bool, typer.Option("--waiting", help="only runs that wait at their gate")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print it as JSON")] = False,
) -> None:
    """List runs from their ledgers, newest first."""
    rows: list[Row] = []
    for place in sites(site):
        store = open_store(place.store)
        warn(warning(place, store, time.time()))
        reviews = _reviews(store, place.trust)
        for name in runs_of(store):
            records = tuple(read_ledger(store, name, place.name))
            if not records:
                continue
            history = replay(records)
            state = _state(history)
            if waiting and state != "waiting for approval":
                continue
            told = sentence(tally(history.hosts.values()))
            rows.append((records[0].time, name, place.name, state, told, reviews.get(name, "")))
    rows.sort(reverse=True)
    if as_json:
        names = ("opened_ms", "run", "site", "state", "hosts", "review")
        print_json([dict(zip(names, row, strict=True)) for row in rows])
        return
    cells = [tuple(escape(str(cell)) for cell in row[1:]) for row in rows]
    console().print(table("", ("run", "site", "state", "hosts", "review"), cells) if cells else "no runs")


def _reviews(store: Store, trust: Trust) -> dict[str, str]:
    """Emergency to what is to be said of its review, while that is not done."""
    now = time.time()
    return {
        due.run: ("overdue since " if now >= due.due else "due until ") + when(due.due)
        for due in open_reviews(store, trust)
    }


def _state(history: History) -> str:
    if history.sealed:
        return history.sealed
    if history.asked > history.answered and not (history.passed or history.ended()):
        return "waiting for approval"
    return "rolling out" if history.started else "surveying and planning"


def resume(
    run: Annotated[str, typer.Argument(help="a run whose worker was killed")],
    site: Annotated[str | None, typer.Option(help="only look at this site")] = None,
) -> None:
    """Hand a crashed run back to its worker. Its ledger decides what is left: nothing is done twice."""
    from lamplighter import orchestrator  # noqa: PLC0415 - Prefect takes 2 s to import; `runs` needs none of it

    found = find_run(run, site)
    flow_run = orchestrator.restart(found.run)
    console().print(f"{found.run} goes on: {orchestrator.page(flow_run.id)}", markup=False)
