"""`lamplighter check`: every mistake of a site at once, with file and line and what to write instead."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from lamplighter.cli.common import site_folders, store_of, warn
from lamplighter.cli.page import console, print_json
from lamplighter.derive.catalogue import discover
from lamplighter.errors import LamplighterError
from lamplighter.notify.heartbeat import warning
from lamplighter.site import load_site_named, look_at_site, site_path
from lamplighter.site.yaml import Findings, Remark
from tasks.directory_check import asked


def check(
    site: Annotated[
        str | None, typer.Argument(help="a folder in inventories/; all but template if left out")
    ] = None,
    here: Annotated[
        bool, typer.Option(
            "--here", help="on the worker: look for the hosts' keys, and ask the directory whom it is told"
        )
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the mistakes as JSON")] = False,
) -> None:
    """Report every mistake in a site's files, and what imported calendars freeze.

    Reads only; exit 0 without mistakes, 1 with.
    """
    runbooks = {name: entry.runbook for name, entry in discover().items()} or None
    now = int(time.time())
    folders = [site_path(site)] if site else site_folders()
    found = {folder.name: look_at_site(folder, runbooks, now, here=here) for folder in folders}
    if here:
        found = {name: _asked(site_path(name), each) for name, each in found.items()}
    wrong = any(each.mistakes for each in found.values())
    if as_json:
        sites = [
            {
                "site": name, "mistakes": [asdict(mistake) for mistake in each.mistakes],
                "remarks": [asdict(remark) for remark in each.remarks],
            }
            for name, each in found.items()
        ]
        print_json({"ok": not wrong, "sites": sites})
    else:
        for name, each in found.items():
            _show(console(), name, each)
    for name, each in found.items():
        for remark in each.remarks:
            warn(f"{name}: {remark.text}" if remark.warning else "")
        if not each.mistakes:
            warn(_silence(name))
    if wrong:
        raise typer.Exit(1)


def _asked(folder: Path, found: Findings) -> Findings:
    """With what the directory itself says."""
    mistakes, why = asked(folder)
    remarks = (Remark(why, warning=True),) if why else ()
    return Findings((*found.mistakes, *mistakes), (*found.remarks, *remarks))


def _silence(site: str) -> str:
    """A warning when there is no store yet, or the watch has fallen silent; none where it is out of reach."""
    place = load_site_named(site)
    if not place.store.id:
        return f"{site} has no store yet, so nothing can run: lamplighter store new {site}"
    try:
        return warning(place, store_of(place), time.time())
    except LamplighterError:
        return ""


def _show(screen: Console, name: str, found: Findings) -> None:
    """One line a mistake, never wrapped, so that it can be searched and clicked."""
    for mistake in found.mistakes:
        place = f"{mistake.file}:{mistake.line}" if mistake.line else mistake.file
        line = Text.assemble((place, "bold"), f": {mistake.message}")
        if mistake.advice:
            line.append(f" ({mistake.advice})", "dim")
        screen.print(line, soft_wrap=True)
    for remark in found.remarks:
        if not remark.warning:
            screen.print(Text(f"{name}: {remark.text}", "dim"), soft_wrap=True)
    count = len(found.mistakes)
    verdict = "no mistakes" if not count else f"{count} mistake{'s' if count != 1 else ''}"
    screen.print(Text(f"{name}: {verdict}", "green" if not count else "red"))
