"""`lamplighter store new`: make a site's store, once; `site.yaml` then holds its id."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from lamplighter.cli.common import console, print_json
from lamplighter.errors import SelectionError
from lamplighter.model.envelope import visible
from lamplighter.site import load_site_named
from lamplighter.store.birth import make_store

WORDS = ("new",)


def store(
    what: Annotated[str, typer.Argument(metavar="new", help="make the store that site.yaml names")],
    site: Annotated[str, typer.Argument(help="the site's name")],
    as_json: Annotated[bool, typer.Option("--json", help="print the answer as JSON")] = False,
) -> None:
    """Make a site's store in an empty folder or prefix, and say what site.yaml must say of it."""
    if what not in WORDS:
        raise SelectionError(f"{what!r} is nothing to do with a store", advice="lamplighter store new SITE")
    place = load_site_named(site)
    made = make_store(place.store, int(time.time()))
    if as_json:
        print_json({"site": made.site, "id": made.id, "url": place.store.url})
        return
    _say(f"made the store {made.id} of {made.site} at {place.store.url}")
    _say(f"Now write this into {place.path / 'site.yaml'}, in place of its `store`, and commit it:")
    _say("")
    for line in entry_lines(place.store.url, made.id, place.store.options):
        _say(line)


def entry_lines(url: str, id_: str, options: Any) -> list[str]:
    """What `site.yaml` says of a store."""
    lines = ["store:", f"  url: {url}", f"  id: {id_}"]
    return lines + (["  options: ...   # as they are"] if options else [])


def _say(text: str) -> None:
    console().print(visible(text), markup=False, soft_wrap=True)
