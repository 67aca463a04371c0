"""`lamplighter calendar`: the next days of a site, to read or to import."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated
from zoneinfo import ZoneInfo

import typer

from lamplighter.cli.common import table
from lamplighter.cli.page import console, escape, print_json
from lamplighter.derive.agenda import SWITCHED_OFF, agenda
from lamplighter.errors import SelectionError
from lamplighter.model.calendar import DAY, told
from lamplighter.model.ical import Entry, to_ics
from lamplighter.site import Site, load_site_named

COLOURS = {"run": "cyan", "window": "green", "freeze": "red", "holiday": "dim"}


def calendar(
    site: Annotated[str, typer.Argument(help="a folder in inventories/")],
    days: Annotated[int, typer.Option(help="how many days ahead", min=1, max=400)] = 60,
    ics: Annotated[bool, typer.Option("--ics", help="print an iCalendar file")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the entries as JSON")] = False,
) -> None:
    """Show scheduled runs, maintenance windows, freezes and holidays of the next 60 days."""
    if ics and as_json:
        raise SelectionError("--ics and --json exclude each other")
    place, now = load_site_named(site), int(time.time())
    entries = agenda(place, now, now + days * DAY)
    if ics:
        shown = (each for each in entries if SWITCHED_OFF not in each.note)
        typer.echo(to_ics(place.name, shown, now), nl=False)
    elif as_json:
        print_json([
            {"kind": each.kind, "name": each.name, "begins": each.span.begins, "ends": each.span.ends,
             "note": each.note}
            for each in entries
        ])
    else:
        _show(place, entries, days)


def _show(place: Site, entries: Iterable[Entry], days: int) -> None:
    rows = [
        (
            told(each.span.begins, place.time_zone), _length(each, place.zone),
            f"[{COLOURS[each.kind]}]{each.kind}[/]", escape(each.name), escape(each.note),
        )
        for each in entries
    ]
    title = f"{place.name}: the next {days} days"
    if rows:
        console().print(table(title, ("begins", "until", "what", "name", "note"), rows))
    else:
        console().print(f"{title}: nothing is written; hosts may be changed at any time")


def _length(entry: Entry, zone: ZoneInfo) -> str:
    """Until when; nothing for a run, whose end nobody knows."""
    if entry.kind == "run":
        return ""
    begins, ends = (datetime.fromtimestamp(when, zone) for when in entry.span)
    if begins.date() == ends.date():
        return f"{ends:%H:%M}"
    last = datetime.fromtimestamp(entry.span.ends - 1, zone)
    whole = ends.time() == begins.time() == datetime.min.time()
    if whole:
        return "all day" if last.date() == begins.date() else f"{last:%a %m-%d}, all day"
    return f"{ends:%a %m-%d %H:%M}"
