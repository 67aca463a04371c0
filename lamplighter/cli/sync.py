"""`lamplighter sync`: write what is derived, or tell whether it is up to date."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel

from lamplighter.cli.common import AsJson
from lamplighter.cli.page import console, print_json
from lamplighter.derive.book import book
from lamplighter.derive.catalogue import discover, home
from lamplighter.derive.prefect_yaml import prefect_yaml
from lamplighter.derive.reference import reference
from lamplighter.site import load_site
from lamplighter.site.calendar import CalendarEntry
from lamplighter.site.directory import DirectoryEntry
from lamplighter.site.files import CALENDAR, PEOPLE, RESPONSIBILITIES, SITE
from lamplighter.site.matrix import MatrixEntry
from lamplighter.site.notify import NOTIFY, NotifyEntry
from lamplighter.site.schema import PeopleEntry, SiteEntry

FILES: dict[str, type[BaseModel]] = {
    SITE: SiteEntry, PEOPLE: PeopleEntry, RESPONSIBILITIES: MatrixEntry, CALENDAR: CalendarEntry,
    NOTIFY: NotifyEntry, "directory.yaml": DirectoryEntry,
}
"""The files of a site's folder that are checked against a model."""


def sync(
    check: Annotated[bool, typer.Option("--check", help="change nothing; exit 1 if a file differs")] = False,
    as_json: AsJson = False,
) -> None:
    """Write what is derived: prefect.yaml, the runbook book, matrix, calendar, and the reference pages."""
    root = home()
    texts = derived(root)
    stale = [path for path, text in texts.items() if _read(path) != text]
    gone = [path for path in sorted((root / "docs" / "runbooks").glob("*.md")) if path not in texts]
    if not check:
        _write(texts, stale, gone)
    if as_json:
        names = {"stale": stale, "gone": gone}
        print_json({
            "ok": not (check and (stale or gone)), "derived": len(texts), "written": not check,
            **{name: [path.relative_to(root).as_posix() for path in paths] for name, paths in names.items()},
        })
    else:
        _say(root, texts, stale, gone, check=check)
    if check and (stale or gone):
        raise typer.Exit(1)


def _write(texts: Mapping[Path, str], stale: Sequence[Path], gone: Sequence[Path]) -> None:
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(texts[path], encoding="utf-8")
    for path in gone:
        path.unlink()


def _say(
    root: Path, texts: Mapping[Path, str], stale: Sequence[Path], gone: Sequence[Path], *, check: bool
) -> None:
    out = console()
    for path in (*stale, *gone):
        name = path.relative_to(root).as_posix()
        if check:
            before, after = _read(path).splitlines(), texts.get(path, "").splitlines()
            diff = difflib.unified_diff(before, after, name, f"{name} (derived)", n=1, lineterm="")
            out.print("\n".join(diff), markup=False, soft_wrap=True)
        else:
            out.print(f"wrote {name}" if path in texts else f"removed {name}: its runbook is gone")
    count = len(stale) + len(gone)
    if check and count:
        what = "files are" if count > 1 else "file is"
        out.print(f"[red]{count} derived {what} stale[/]: run lamplighter sync")
    elif not count:
        out.print(f"{len(texts)} derived files are up to date")


def derived(root: Path) -> dict[Path, str]:
    """Every derived file of a checkout, with the text it should have."""
    from lamplighter.cli import commands  # noqa: PLC0415 - the command line imports this module

    entries = discover(root)
    runbooks = {name: entry.runbook for name, entry in entries.items()}
    folders = sorted(path.parent for path in (root / "inventories").glob("*/site.yaml"))
    sites = [load_site(folder, runbooks) for folder in folders if folder.name != "template"]
    pages = {**book(entries, sites), **reference(commands(), FILES)}
    return {
        root / "prefect.yaml": prefect_yaml(entries, sites),
        **{root / "docs" / name: text for name, text in pages.items()},
    }


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""
