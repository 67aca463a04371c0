"""`lamplighter worker`: run a party's runbooks, from this checkout and from nowhere else."""

from __future__ import annotations

import socket
from typing import Annotated

import typer


def worker(
    pool: Annotated[str, typer.Option(help="whose runbooks: the party's work pool, msp or internal")],
    name: Annotated[str, typer.Option(help="as the UI shows it; otherwise the pool and this machine")] = "",
) -> None:
    """Wait for runs and carry them out. Only flows of this checkout are run, whatever Prefect's API says."""
    from lamplighter.worker import serve  # noqa: PLC0415 - Prefect takes 2 s to import

    serve(pool, name or f"{pool}-{socket.gethostname()}")
