"""`lamplighter worker`: run a party's runbooks, from this checkout and from nowhere else."""

from __future__ import annotations

import socket
from typing import Annotated

import typer

from lamplighter.cli.common import AsJson, site_folders
from lamplighter.cli.page import print_json
from lamplighter.derive.catalogue import discover, home
from lamplighter.errors import SelectionError
from lamplighter.model.party import Party
from lamplighter.model.selection import closest


def worker(
    pool: Annotated[str, typer.Option(help="whose runbooks: the party's work pool, msp or internal")],
    name: Annotated[str, typer.Option(help="as the UI shows it; otherwise the pool and this machine")] = "",
    as_json: AsJson = False,
) -> None:
    """Wait for runs and carry them out. Only flows of this checkout are run, whatever Prefect's API says.

    It refuses to start where every run would fail: an unknown pool, a folder without runbooks or sites, no
    answer from Prefect's API.
    """
    runbooks = runbooks_of(pool)
    folders = site_folders()
    from lamplighter import orchestrator  # noqa: PLC0415 - Prefect takes 2 s to import

    version = orchestrator.check_server()
    name = name or f"{pool}-{socket.gethostname()}"
    if as_json:
        print_json({
            "pool": pool, "name": name, "home": str(home()), "runbooks": runbooks,
            "sites": [folder.name for folder in folders], "prefect": version,
        })
    from lamplighter.worker import serve  # noqa: PLC0415

    serve(pool, name)


def runbooks_of(pool: str) -> list[str]:
    """The ids of a party's runbooks in this checkout.

    Raises:
        SelectionError: there is no such pool, or no runbook for it here, or one that cannot be loaded.
    """
    if pool not in set(Party):
        close = closest(pool, [str(party) for party in Party])
        raise SelectionError(
            f"there is no work pool {pool!r}", changed="Nothing was started",
            advice=f"did you mean {close}?" if close else f"It is one of: {', '.join(Party)}",
        )
    try:
        known = discover()
    except (ImportError, SyntaxError) as error:
        raise SelectionError(
            f"a runbook cannot be loaded: {error}", where=str(home() / "flows"), changed="Nothing was started"
        ) from error
    mine = sorted(name for name, entry in known.items() if entry.runbook.owner == pool)
    if not mine:
        what = f"no runbook of {pool} in flows/" if known else "no runbook in flows/"
        raise SelectionError(
            f"there is {what}: every run would fail", where=str(home()), changed="Nothing was started",
            advice="Start it in the checkout, or set LAMPLIGHTER_HOME",
        )
    return mine
