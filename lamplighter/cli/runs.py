"""`lamplighter runs` and `lamplighter resume`: what is under way, and going on after a crash."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Annotated

import typer

from lamplighter.cli.common import AnySite, AsJson, RunId, Shelf, find_run, shelves, table, warn
from lamplighter.cli.page import console, escape, print_json
from lamplighter.engine.reviews import open_reviews
from lamplighter.errors import DeclinedError, LamplighterError, LedgerError
from lamplighter.ledger import read_ledger
from lamplighter.model.calendar import told
from lamplighter.model.chain import Record
from lamplighter.model.history import History, replay
from lamplighter.model.outcome import Phase, sentence, tally
from lamplighter.notify.heartbeat import warning
from lamplighter.seals import was_sealed

BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Row:
    """A run in the list.

    Attributes:
        opened_ms: first record, milliseconds since the epoch.
        opened: the same, in the site's zone.
        run, site: its id, and whose it is.
        state: see `History.state`; `broken` when its ledger does not verify.
        targets: what became of them, else how many are planned for, else what was selected.
        review: of an emergency, while nobody has looked at it.
    """

    opened_ms: int
    opened: str
    run: str
    site: str
    state: str
    targets: str
    review: str


def runs(
    site: Annotated[str | None, typer.Option(help="only this site")] = None,
    waiting: Annotated[bool, typer.Option("--waiting", help="only runs that wait at their gate")] = False,
    as_json: AsJson = False,
) -> None:
    """List runs from their ledgers, newest first; exit 2 when a site or a ledger could not be read."""
    found, left_out = shelves(site)
    rows: list[Row] = []
    for shelf in found:
        try:
            warn(warning(shelf.site, shelf.store, time.time()))
            rows += _rows(shelf, left_out)
        except LamplighterError as error:
            left_out.append(f"{shelf.site.name} is left out: {error}")
    rows = [row for row in rows if not waiting or row.state == Phase.APPROVAL]
    rows.sort(key=lambda row: (row.opened_ms, row.run), reverse=True)
    if as_json:
        print_json([asdict(row) for row in rows])
    else:
        names = ("opened", "run", "site", "state", "targets", "review")
        cells = [[escape(str(getattr(row, name))) for name in names] for row in rows]
        console().print(table("", names, cells) if cells else "no runs")
    for sentence_ in left_out:
        warn(sentence_)
    if left_out:
        raise typer.Exit(2)


def _rows(shelf: Shelf, problems: list[str]) -> Iterator[Row]:
    reviews, zone = _reviews(shelf), shelf.site.time_zone
    for name in shelf.runs:
        records: list[Record] = []
        broken = ""
        try:
            for record in read_ledger(shelf.store, name, shelf.site.name):
                records.append(record)  # noqa: PERF402 - those before a broken one are kept
        except LedgerError as error:
            broken = BROKEN
            problems.append(f"{name}: {error}")
        history, begun = replay(records), records[0].time if records else 0
        if records or broken:
            yield Row(
                begun, told(begun // 1000, zone) if begun else "-", name, shelf.site.name,
                broken or history.state, _targets(history, records), reviews.get(name, ""),
            )


def _targets(history: History, records: list[Record]) -> str:
    """`3 changed, 1 failed`; of a run that has not come so far, `4 planned, web`."""
    if history.hosts and (history.sealed or history.started):
        return sentence(tally(history.hosts.values()))
    planned = next((str(one.get("hosts", 0)) for one in records if one.kind == "planned"), "")
    selected = str(records[0].get("selection", "")) if records else ""
    return ", ".join(part for part in (f"{planned} planned" if planned else "", selected) if part)


def _reviews(shelf: Shelf) -> dict[str, str]:
    """Emergency to what is to be said of its review, while that is not done."""
    now, zone = time.time(), shelf.site.time_zone
    return {
        due.run: ("overdue since " if now >= due.due else "due until ") + told(due.due, zone)
        for due in open_reviews(shelf.store, shelf.site.trust)
    }


def resume(run: RunId, site: AnySite = None, as_json: AsJson = False) -> None:
    """Hand a crashed run back to its worker. Its ledger decides what is left: nothing is done twice."""
    found = find_run(run, site)
    history = replay(found.records)
    if history.sealed and was_sealed(found.store, found.run):
        raise DeclinedError(
            f"{found.run} at {found.site.name} has ended as {history.sealed}: there is nothing left to go on "
            "with", changed="Nothing was started",
            advice=f"What it left undone is planned anew with: lamplighter replan {found.run}",
        )
    from lamplighter import orchestrator  # noqa: PLC0415 - Prefect takes 2 s to import

    page = orchestrator.page(orchestrator.restart(found.run).id)
    if as_json:
        print_json({"run": found.run, "site": found.site.name, "page": page})
    else:
        console().print(f"{found.run} at {found.site.name} goes on: {page}", markup=False)
