"""`lamplighter sync`: write what is derived, or tell whether it is up to date."""

from __future__ import annotations

import difflib
from typing import Annotated

import typer
from rich.console import Console

from lamplighter.derive.catalogue import discover, home
from lamplighter.derive.prefect_yaml import prefect_yaml
from lamplighter.site import load_site


def sync(
    check: Annotated[bool, typer.Option("--check", help="change nothing; exit 1 if a file differs")] = False,
) -> None:
    """Write prefect.yaml from the runbooks' declarations and the sites' deployments."""
    console = Console(highlight=False)
    root = home()
    entries = discover(root)
    runbooks = {name: entry.runbook for name, entry in entries.items()}
    folders = sorted(path.parent for path in (root / "inventories").glob("*/site.yaml"))
    sites = [load_site(folder, runbooks) for folder in folders if folder.name != "template"]
    derived = {root / "prefect.yaml": prefect_yaml(entries, sites)}
    stale = 0
    for path, text in derived.items():
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        if old == text:
            continue
        stale += 1
        name = path.relative_to(root).as_posix()
        if check:
            before, after = old.splitlines(), text.splitlines()
            diff = difflib.unified_diff(before, after, name, f"{name} (derived)", n=1, lineterm="")
            console.print("\n".join(diff), markup=False)
        else:
            path.write_text(text, encoding="utf-8")
            console.print(f"wrote {name}")
    if check and stale:
        console.print(f"[red]{stale} derived file is stale[/]: run lamplighter sync")
        raise typer.Exit(1)
    if not stale:
        console.print(f"{len(derived)} derived file is up to date")
