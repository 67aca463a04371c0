"""`lamplighter sign`: sign a decision on a plan file, anywhere, and print the line to store or paste."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from lamplighter.cli.common import AsJson
from lamplighter.cli.page import console, print_json
from lamplighter.cli.show import print_plan
from lamplighter.errors import LamplighterError, SelectionError
from lamplighter.model.approval import Decision
from lamplighter.model.canonical import MAX_BYTES
from lamplighter.model.plan import Plan, read_plan
from lamplighter.signing import Wish, approve_line, signer_of
from lamplighter.site import load_site, load_site_named
from lamplighter.timespan import seconds


def sign(
    plan: Annotated[Path, typer.Argument(help="the plan's bytes")],
    key: Annotated[Path, typer.Option(
        help="your private key, or its .pub when the key is in the agent", envvar="LAMPLIGHTER_KEY",
    )],
    site: Annotated[Path | None, typer.Option(help="the site's folder; otherwise found by the plan")] = None,
    *,
    as_: Annotated[str, typer.Option("--as", help="your id; otherwise told by the key")] = "",
    decision: Annotated[Decision, typer.Option(help="what you say of the plan")] = Decision.APPROVE,
    reason: Annotated[str, typer.Option(help="one line, kept with the run")] = "",
    valid_for: Annotated[str, typer.Option(help="how long an approval counts: 90m, 24h, 3d")] = "24h",
    revokes: Annotated[str, typer.Option(help="with revoke: the one approval to take back")] = "",
    out: Annotated[Path | None, typer.Option(help="write the line to this file, which must be new")] = None,
    as_json: AsJson = False,
) -> None:
    """Sign a decision on a plan with your own SSH key; prints one line."""
    plan_bytes, parsed = _read(plan)
    place = load_site(site) if site else load_site_named(parsed.site)
    key = key.expanduser()
    who = signer_of(key, place.signers, as_)
    print_plan(console(stderr=True), parsed, place.time_zone)  # on standard error, as the line goes out
    wish = Wish(who, decision, reason, seconds(valid_for), revokes)
    line = approve_line(plan_bytes, wish, key, int(time.time()))
    if out is not None:
        try:
            with out.open("x") as file:
                file.write(line + "\n")
        except OSError as error:
            raise SelectionError(f"the line cannot be written: {error.strerror}", where=str(out)) from error
    if as_json:
        print_json({
            "run": parsed.run, "site": place.name, "approver": who, "decision": str(decision), "line": line,
        })
    elif out is None:
        typer.echo(line)


def _read(path: Path) -> tuple[bytes, Plan]:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        return data, read_plan(data)
    except OSError as error:
        raise SelectionError(f"cannot be read: {error.strerror}", where=str(path)) from error
    except LamplighterError as error:
        raise error.at(str(path)) from None
