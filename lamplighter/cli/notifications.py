"""`lamplighter notifications`: what people were told and what could not be sent. `acknowledge`: in hand."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from lamplighter.cli.common import AnySite, AsJson, RunId, find_run, store_of, table, warn
from lamplighter.cli.page import console, escape, print_json
from lamplighter.errors import SelectionError
from lamplighter.model.calendar import told
from lamplighter.notify.heartbeat import warning
from lamplighter.notify.outbox import Entry, Outbox
from lamplighter.notify.watch import Watch
from lamplighter.site import load_site_named
from lamplighter.site.notify import load_notify

COLOURS = {"sent": "green", "failed": "red", "waiting": "yellow", "sending": "yellow"}


def notifications(
    site: Annotated[str, typer.Argument(help="a folder in inventories/")],
    unsent: Annotated[bool, typer.Option("--unsent", help="only what was not sent")] = False,
    run: Annotated[str, typer.Option(help="only of this run")] = "",
    text: Annotated[bool, typer.Option("--text", help="print the messages in full")] = False,
    as_json: AsJson = False,
) -> None:
    """Show every notice of a site, newest first: sent, waiting to be tried again, or failed.

    Exit 1 when one has failed.
    """
    place = load_site_named(site)
    store = store_of(place)
    warn(warning(place, store, time.time()))
    entries = [
        entry for entry in Outbox(store, time.time).entries()
        if run in {"", entry.notice.occasion.run} and not (unsent and entry.state == "sent")
    ]
    entries.sort(key=lambda entry: (entry.notice.created, entry.notice.id), reverse=True)
    if as_json:
        print_json([_plain(entry) for entry in entries])
    elif text:
        for entry in entries:
            console().print(f"To: {entry.notice.to}\nSubject: {entry.notice.subject}\n", markup=False)
            console().print(entry.notice.text, markup=False)
    else:
        cells = [_cells(entry, place.time_zone) for entry in entries]
        names = ("recorded", "to", "by", "what", "state", "tries", "why")
        console().print(table("", names, cells) if cells else "no notices")
    if any(entry.state == "failed" for entry in entries):
        raise typer.Exit(1)


def _plain(entry: Entry) -> dict[str, object]:
    notice = entry.notice
    return {
        "id": notice.id, "created": notice.created, "run": notice.occasion.run, "kind": notice.occasion.kind,
        "rung": notice.occasion.rung, "to": notice.to, "channel": notice.channel, "subject": notice.subject,
        "text": notice.text, "state": entry.state, "attempts": entry.count, "when": entry.when or None,
        "why": entry.why,
    }


def _cells(entry: Entry, zone: str) -> tuple[str, ...]:
    notice = entry.notice
    state = f"[{COLOURS[entry.state]}]{entry.state}[/]"
    return (
        told(notice.created, zone), escape(notice.to), escape(notice.channel), escape(notice.subject), state,
        str(entry.count), escape(entry.why),
    )


def acknowledge(
    run: RunId,
    by: Annotated[str, typer.Option(help="your id in people.yaml; a claim, nothing proves it")],
    reason: Annotated[str, typer.Option(help="kept with it")] = "",
    site: AnySite = None,
    *, as_json: AsJson = False,
) -> None:
    """Say that you have a run's trouble in hand: nobody further up is woken. It opens no gate."""
    found = find_run(run, site)
    people = [person.id for person in found.site.people if not person.left]
    if by not in people:
        raise SelectionError(f"{by} is nobody of {found.site.name}", advice=f"one of: {', '.join(people)}")
    notify = load_notify(found.site.path, found.site.people)
    watch = Watch(found.site, found.store, notify, {}, lambda _: "", time.time)
    watch.acknowledge(found.run, by, reason)
    if as_json:
        print_json({"run": found.run, "site": found.site.name, "by": by, "reason": reason})
    else:
        console().print(f"{found.run} at {found.site.name} is in the hands of {by}", markup=False)
