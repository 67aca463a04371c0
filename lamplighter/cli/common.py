"""What several commands share: finding a site, a run and its plan; tables; confirmation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from lamplighter.cli.page import console, escape
from lamplighter.engine.gatekeeper import stored_plan
from lamplighter.errors import LamplighterError, LedgerBrokenError, SelectionError
from lamplighter.ledger import read_ledger
from lamplighter.model.chain import Record
from lamplighter.model.outcome import Terminal
from lamplighter.model.plan import Plan
from lamplighter.model.runbook import Runbook, Sla
from lamplighter.seals import runs_of
from lamplighter.site import Site, load_site, load_site_named, sites_dir
from lamplighter.store import Store, open_store

COLOURS = {
    Terminal.CHANGED: "green", Terminal.UNCHANGED: "dim", Terminal.FAILED: "red",
    Terminal.UNREACHABLE: "red", Terminal.DRIFTED: "yellow", Terminal.SKIPPED: "yellow",
    Terminal.REFUSED: "yellow", Terminal.UNKNOWN: "magenta",
}

SiteName = Annotated[
    str, typer.Option("--site", help="a folder in inventories/; needed where there are several")
]
AnySite = Annotated[str | None, typer.Option("--site", help="only look at this site")]
RunId = Annotated[str, typer.Argument(help="a run's id, or part of it; Prefect's id or page of it")]
AsJson = Annotated[bool, typer.Option("--json", help="print the answer as JSON")]

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


def site_folders() -> list[Path]:
    """The folder of every site here but the template's, sorted.

    Raises:
        SelectionError: there is none.
    """
    found = (path.parent for path in sites_dir().glob("*/site.yaml"))
    folders = sorted(folder for folder in found if folder.name != "template")
    if not folders:
        raise SelectionError(
            f"no site in {sites_dir()}", advice="set LAMPLIGHTER_INVENTORIES, or copy inventories/template"
        )
    return folders


def the_site(name: str, runbooks: Mapping[str, Runbook] | None = None) -> Site:
    """The named site; where none is named, the only one there is. There is no default among several.

    Raises:
        SiteError: its files hold mistakes.
        SelectionError: there is no such site; or none is named and there are several.
    """
    if name:
        return load_site_named(name, runbooks)
    folders = site_folders()
    if len(folders) > 1:
        names = ", ".join(folder.name for folder in folders)
        raise SelectionError(
            "there are several sites and none is named", changed="Nothing was done",
            advice=f"name one with --site: {names}",
        )
    return load_site(folders[0], runbooks)


def store_of(site: Site) -> Store:
    """A site's store, opened.

    Raises:
        StoreError: it is out of reach, or not fit to be one.
    """
    return open_store(site.store)


@dataclass(frozen=True, slots=True)
class Shelf:
    """A site whose files and store can be read, and the ids of the runs in it."""

    site: Site
    store: Store
    runs: tuple[str, ...]


def shelves(site: str | None) -> tuple[list[Shelf], list[str]]:
    """The named site, or every one that can be read; and a sentence for each that cannot.

    One customer's mistake or closed store keeps nobody from the runs of the others.

    Raises:
        SiteError, StoreError: none can be read.
        SelectionError: there is no such site, or none at all.
    """
    if site:
        return [_shelf(load_site_named(site))], []
    found: list[Shelf] = []
    wrong: list[tuple[str, LamplighterError]] = []
    for folder in site_folders():
        try:
            found.append(_shelf(load_site(folder)))
        except LamplighterError as error:
            wrong.append((folder.name, error))
    if wrong and not found:
        raise wrong[0][1]
    return found, [f"{name} is left out: {error}" for name, error in wrong]


def _shelf(site: Site) -> Shelf:
    store = store_of(site)
    return Shelf(site, store, tuple(runs_of(store)))


def find_run(run: str, site: str | None) -> Found:
    """A run at the named site or any, with its ledger; see `locate`.

    Raises:
        SelectionError: none or several match; lists what there is.
        LedgerBrokenError: its ledger does not verify.
    """
    shelf, name = locate(run, site)
    try:
        records = tuple(read_ledger(shelf.store, name, shelf.site.name))
    except LedgerBrokenError as error:
        raise LedgerBrokenError(
            f"its ledger does not verify: {error}", where=name, reason=error.reason, record=error.record,
            advice=f"lamplighter verify {name}",
        ) from error
    return Found(name, shelf.site, shelf.store, records)


def locate(run: str, site: str | None) -> tuple[Shelf, str]:
    """Where a run is and what it is called, by its id in any form that people see.

    That is the run's id, which is also Prefect's name for it; its start, or its end; the id of its flow run,
    or the start of it, with hyphens or without; the address of its page. None of them is taken apart: they
    are looked for in what the ledgers say.

    Raises:
        SelectionError: none or several match; lists what there is.
    """
    found, left_out = shelves(site)
    wanted = run.strip().partition("?")[0].rstrip("/").rpartition("/")[2]
    matches = _matching(wanted, found) if wanted else []
    for sentence in left_out:
        warn(sentence)
    if len(matches) != 1:
        what = "matches several runs" if matches else "is no run"
        names = ", ".join(sorted(name for _, name in matches)) or "lamplighter runs lists them"
        where = f"{len(left_out)} sites could not be looked at" if left_out else ""
        raise SelectionError(f"{run!r} {what}", changed=where, advice=names)
    return matches[0]


def _matching(wanted: str, found: Sequence[Shelf]) -> list[tuple[Shelf, str]]:
    """The runs that are meant: of exactly that id, else with it in their own, else of that flow run."""
    everything = [(shelf, run) for shelf in found for run in shelf.runs]
    part = wanted.lower()
    exact = [match for match in everything if match[1] == wanted]
    partly = [(shelf, run) for shelf, run in everything if run.startswith(part) or f"-{part}" in run]
    bare = part.replace("-", "")
    return exact or partly or [match for match in everything if bare and _flow_run(*match).startswith(bare)]


def _flow_run(shelf: Shelf, run: str) -> str:
    """The id of a run's flow run, without hyphens; empty when its ledger cannot tell."""
    try:
        first = next(read_ledger(shelf.store, run, shelf.site.name), None)
    except LamplighterError:
        return ""
    return str(first.get("flow_run", "")).replace("-", "") if first else ""


STARTED = "{run} is started at {site}: {page}"


def started(run: str, site: str, flow_run: str, page: str) -> dict[str, str]:
    """Which run was started, to be printed as JSON or with `STARTED`."""
    return {"run": run, "site": site, "flow_run": flow_run, "page": page}


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
        console(stderr=True).print(f"[yellow]warning:[/] {escape(text)}", soft_wrap=True)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table whose cells are text, never markup; cells may start with `[colour]` from this module only."""
    made = Table(*columns, title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for row in rows:
        made.add_row(*row)
    return made


def coloured(state: Terminal, text: str = "") -> str:
    """A cell in a terminal state's colour."""
    return f"[{COLOURS[state]}]{escape(text or str(state))}[/]"
