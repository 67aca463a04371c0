"""`lamplighter verify`: are the records whole, and do they show that every promise was kept? Offline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from lamplighter.cli.common import locate, table
from lamplighter.cli.page import console, print_json
from lamplighter.errors import SelectionError
from lamplighter.inspection import Inspection, RunVerdict, inspect, inspect_one
from lamplighter.model.audit import Problem
from lamplighter.model.envelope import MAX_LINE, visible
from lamplighter.seals import runs_of
from lamplighter.site import Site, load_site_named
from lamplighter.store import Store, StoreAddress, open_store
from lamplighter.store.identity import site_of

SHOWN = 20


def verify(
    what: Annotated[
        str, typer.Argument(metavar="[RUN|PATH]", help="one run, or a store's directory, a copy for example")
    ] = "",
    site: Annotated[
        str, typer.Option(help="whose people and keys to judge signatures by, and whose store without PATH")
    ] = "",
    witness: Annotated[
        list[Path] | None, typer.Option(help="a witness line that was kept outside the store")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the answer as JSON")] = False,
) -> None:
    """Check every ledger, seal and signature: exit 0 when all is sound, 1 when not, 2 when it cannot be told.

    With a run, that one alone: its ledger, its signatures, and its place in the site's chain.

    Keys that were revoked since are judged as revoked: to judge an old run as of its day, check out the
    site's folder as it was then.
    """
    path = Path(what) if what and Path(what).is_dir() else None
    if what and path is None:
        found = _one(what, site or None, witness or ())
        _tell(found, as_json=as_json, whole=False)
    place = load_site_named(site) if site else None
    store = _open(path, place)
    name = place.name if place else site_of(store)
    if not any(True for _ in runs_of(store)):
        raise SelectionError("nothing was recorded yet, so there is nothing to verify", where=store.url)
    policies = (lambda runbook: place.gate_policy(runbook, store)) if place else None
    found = inspect(store, name, policies, [_line(kept) for kept in witness or ()])
    _tell(found, as_json=as_json, whole=True)


def _one(what: str, site: str | None, witness: Sequence[Path]) -> Inspection:
    if witness:
        raise SelectionError("a witness is of a whole store", advice="leave the run out, or the witness")
    try:
        shelf, run = locate(what, site)
    except SelectionError as error:
        error.message = f"{what!r} is neither a store's directory nor a run"
        raise
    place, store = shelf.site, shelf.store
    return inspect_one(store, run, place.name, lambda runbook: place.gate_policy(runbook, store))


def _tell(found: Inspection, *, as_json: bool, whole: bool) -> NoReturn:
    if as_json:
        print_json(_as_json(found))
    else:
        _print(found, whole=whole)
    raise typer.Exit(0 if found.sound else 1)


def _open(path: Path | None, place: Site | None) -> Store:
    if path is not None:
        return open_store(StoreAddress(f"file:{path.absolute()}"))
    if place is None:
        raise SelectionError("nothing to verify", advice="give a store's directory, or --site NAME")
    return open_store(place.store)


def _line(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(2 * MAX_LINE).decode("ascii", "replace").strip()
    except OSError as error:
        raise SelectionError(f"cannot be read: {error.strerror}", where=str(path)) from error


def _as_json(found: Inspection) -> dict[str, Any]:
    return {
        "sound": found.sound, "site": found.site, "signatures": found.signatures,
        "runs": [
            {
                "run": run.run, "records": run.count, "head": run.head, "state": run.state or None,
                "problems": _problems(run.problems, "record"), "notes": list(run.notes),
            }
            for run in found.runs
        ],
        "chain": {
            "seals": found.seals, "head": found.head, "problems": _problems(found.problems, "seal"),
            "witnessed": {str(party): seal for party, seal in found.witnessed.items()},
            "confirmed_outside": found.confirmed,
        },
        "foreign": list(found.foreign), "versions": found.versions,
    }


def _problems(problems: tuple[Problem, ...], number: str) -> list[dict[str, Any]]:
    return [{number: one.record, "code": one.code, "message": one.message} for one in problems]


def _print(found: Inspection, *, whole: bool) -> None:
    out = console()
    rows = [(visible(run.run), run.state or "open", str(run.count), _cell(run)) for run in found.runs]
    out.print(table(f"runs of {visible(found.site)}", ("run", "ended", "records", "verdict"), rows))
    for run in found.runs:
        for problem in run.problems[:SHOWN]:
            _say(f"{run.run}: record {problem.record}: {problem.code}: {problem.message}")
        if len(run.problems) > SHOWN:
            _say(f"{run.run}: {len(run.problems) - SHOWN} more; --json shows all")
        for note in run.notes[:SHOWN]:
            _say(f"{run.run}: note: {note}")
    for problem in found.problems:
        _say(f"site chain: seal {problem.record}: {problem.code}: {problem.message}")
    if whole:
        last = ", ".join(f"{party} up to seal {seal}" for party, seal in found.witnessed.items() if seal)
        _say(f"site chain: {found.seals} seals, witnessed by {last or 'nobody'}")
    elif found.seals:
        _say(f"site chain: sealed as number {found.seals}; the chain itself is checked without a run")
    if not found.signatures:
        _say("signatures and gates were not judged: give --site NAME to judge them by its people and keys")
    if whole:
        _print_store(found)
    _say(_verdict(found) if whole else "sound: every promise was kept" if found.sound else "NOT SOUND")


def _print_store(found: Inspection) -> None:
    for name in found.foreign[:SHOWN]:
        _say(f"foreign, and passed over: {name}")
    if len(found.foreign) > SHOWN:
        _say(f"{len(found.foreign) - SHOWN} more foreign names; --json shows all")
    if not found.versions:
        _say("this store keeps no versions: what was deleted and is in no chain cannot be seen")


def _verdict(found: Inspection) -> str:
    if not found.sound:
        return "NOT SOUND"
    outside = f"confirmed outside the store up to seal {found.confirmed}" if found.confirmed else (
        "confirmed by nothing outside the store: a copy of an earlier day would look the same"
    )
    return f"sound up to seal {found.seals}: nothing was edited, every promise was kept; {outside}"


def _cell(run: RunVerdict) -> str:
    if run.problems:
        first = run.problems[0]
        return f"[red]record {first.record}: {first.code}[/]"
    return "[green]sound[/]"


def _say(text: str) -> None:
    console().print(visible(text), markup=False, soft_wrap=True)
