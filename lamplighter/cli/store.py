"""`lamplighter store`: make a site's store, once; go on with an older copy when both parties said so."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Annotated, Any

import typer

from lamplighter.cli.common import warn
from lamplighter.cli.page import console, print_json
from lamplighter.errors import SelectionError
from lamplighter.inspection import accept_restore
from lamplighter.model.envelope import visible
from lamplighter.site import Site, load_site_named
from lamplighter.store import open_store
from lamplighter.store.birth import make_store


def store(
    what: Annotated[str, typer.Argument(
        metavar="new|restored", help="make the store that site.yaml names; or go on with an older copy of it",
    )],
    site: Annotated[str, typer.Argument(help="the site's name")],
    as_json: Annotated[bool, typer.Option("--json", help="print the answer as JSON")] = False,
) -> None:
    """Make a site's store, once; or, on each worker, accept that it was restored from an older copy.

    `new` takes an empty folder or prefix, and says what site.yaml must say of it. `restored` asks for a line
    of both parties: lamplighter witness --restored. Exit 1 while one is missing.
    """
    if what not in {"new", "restored"}:
        raise SelectionError(f"{what!r} is nothing to do with a store", advice="lamplighter store new SITE")
    place = load_site_named(site)
    if what == "new":
        _new(place, as_json=as_json)
    else:
        _restored(place, as_json=as_json)


def _new(place: Site, *, as_json: bool) -> None:
    made = make_store(place.store, int(time.time()))
    if as_json:
        print_json({"site": made.site, "id": made.id, "url": place.store.url})
        return
    _say(f"made the store {made.id} of {made.site} at {place.store.url}")
    _say(f"Now write this into {place.path / 'site.yaml'}, in place of its `store`, and commit it:")
    _say("")
    for line in entry_lines(place.store.url, made.id, place.store.options):
        _say(line)
    for caution in open_store(replace(place.store, id=made.id)).cautions():
        warn(caution)


def _restored(place: Site, *, as_json: bool) -> None:
    missing = accept_restore(open_store(place.store), place.trust, int(time.time()))
    if as_json:
        print_json({"site": place.name, "accepted": not missing, "missing": list(map(str, missing))})
    elif missing:
        _say(f"not accepted: {' and '.join(missing)} did not sign that this store was restored")
        _say(f"each runs: lamplighter witness --site {place.name} --key KEY --restored REASON")
    else:
        _say(f"this machine goes on with the store of {place.name} as it is now")
    if missing:
        raise typer.Exit(1)


def entry_lines(url: str, id_: str, options: Any) -> list[str]:
    """What `site.yaml` says of a store."""
    lines = ["store:", f"  url: {url}", f"  id: {id_}"]
    return lines + (["  options: ...   # as they are"] if options else [])


def _say(text: str) -> None:
    console().print(visible(text), markup=False, soft_wrap=True)
