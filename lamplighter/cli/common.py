"""What several commands share: finding a site, a run and its plan; tables; confirmation."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lamplighter.engine.gatekeeper import stored_plan
from lamplighter.errors import SelectionError
from lamplighter.ledger import read_ledger
from lamplighter.model.chain import Record
from lamplighter.model.outcome import Terminal
from lamplighter.model.plan import Plan
from lamplighter.model.runbook import Sla
from lamplighter.seals import runs_of
from lamplighter.site import Site, load_site, load_site_named, sites_dir
from lamplighter.store import Store, open_store

COLOURS = {
    Terminal.CHANGED: "green", Terminal.UNCHANGED: "dim", Terminal.FAILED: "red",
    Terminal.UNREACHABLE: "red", Terminal.DRIFTED: "yellow", Terminal.SKIPPED: "yellow",
    Terminal.REFUSED: "yellow", Terminal.UNKNOWN: "magenta",
}


PAGE = 140


def console() -> Console:
    """Where answers go; colour only on a terminal, and a wide page where there is none."""
    return Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=PAGE)


def print_json(value: Any) -> None:
    """One JSON value on standard output, and nothing else."""
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False, default=str)
    sys.stdout.write("\n")


@dataclass(frozen=True, slots=True)
class Found:
    """A run, from its ledger.

    Attributes:
        run: its id.
        site, store: where it belongs and is written.
        records: its ledger, checked.
    """

    run: str
    site: Site
    store: Store
    records: tuple[Record, ...]

    def last(self, kind: str) -> Record | None:
        """The latest record of a kind."""
        return next((record for record in reversed(self.records) if record.kind == kind), None)

    def plan(self) -> tuple[Plan, bytes]:
        """The plan and its bytes, checked against the digest in the ledger.

        Raises:
            SelectionError: there is none yet.
            StoreError, LedgerBrokenError: the bytes are gone, or are others.
        """
        planned = self.last("planned")
        if planned is None:
            raise SelectionError(f"{self.run} has no plan yet", advice="wait until its survey is done")
        return stored_plan(self.store, str(planned.fields["plan"]), self.run)


def sites(site: str | None) -> list[Site]:
    """The named site, or all of them.

    Raises:
        SiteError: a site's files hold mistakes.
        SelectionError: there is no such site, or none at all.
    """
    if site:
        return [load_site_named(site)]
    found = (path.parent for path in sites_dir().glob("*/site.yaml"))
    folders = sorted(folder for folder in found if folder.name != "template")
    if not folders:
        raise SelectionError(
            f"no site in {sites_dir()}", advice="set LAMPLIGHTER_INVENTORIES, or copy inventories/template"
        )
    return [load_site(folder) for folder in folders]


def find_run(run: str, site: str | None) -> Found:
    """A run by its id or the start of it, at the named site or any.

    Raises:
        SelectionError: none or several match; lists what there is.
    """
    places = [(place, open_store(place.store)) for place in sites(site)]
    matches = [
        (name, place, store)
        for place, store in places
        for name in runs_of(store)
        if name == run or name.startswith(run)
    ]
    exact = [match for match in matches if match[0] == run]
    matches = exact or matches
    if len(matches) != 1:
        what = "matches several runs" if matches else "is no run"
        names = ", ".join(sorted(name for name, _, _ in matches)) or "lamplighter runs lists them"
        raise SelectionError(f"{run!r} {what}", advice=names)
    name, place, store = matches[0]
    return Found(name, place, store, tuple(read_ledger(store, name, place.name)))


def promised(site: Site, runbook: str) -> Sla:
    """The times promised for a runbook's runs; runbooks are imported only when the matrix says nothing."""
    function = site.matrix.of(runbook)
    if function is not None and function.sla is not None:
        return function.sla
    from lamplighter.derive.catalogue import discover  # noqa: PLC0415 - it takes Prefect's 2 s to import

    known = discover()
    return known[runbook].runbook.sla if runbook in known else Sla()


def warn(text: str) -> None:
    """Say something that the answer does not depend on; nothing when there is nothing to say."""
    if text:
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"[yellow]warning:[/] {escape(text)}")


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table whose cells are text, never markup; cells may start with `[colour]` from this module only."""
    made = Table(*columns, title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for row in rows:
        made.add_row(*row)
    return made


def coloured(state: Terminal, text: str = "") -> str:
    """A cell in a terminal state's colour."""
    return f"[{COLOURS[state]}]{escape(text or str(state))}[/]"
