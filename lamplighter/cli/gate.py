"""`lamplighter gate`: judge a plan and its approvals again, years later, with no Prefect and no network."""

from __future__ import annotations

import re
import time
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from lamplighter.cli.page import console, print_json
from lamplighter.errors import LamplighterError, SelectionError
from lamplighter.model.calendar import told
from lamplighter.model.canonical import MAX_BYTES
from lamplighter.model.envelope import MAX_LINE, visible
from lamplighter.model.gate import GateResult, evaluate
from lamplighter.model.plan import Plan, read_plan
from lamplighter.model.refusal import refusals
from lamplighter.site import load_site
from lamplighter.store import Store, StoreAddress, folder_of, open_store

FILE_SCHEME = "file:"


def gate(
    site: Annotated[Path, typer.Option(help="the site's folder, with its people and keys")],
    plan: Annotated[Path, typer.Option(help="the plan's bytes, as they were signed")],
    approval: Annotated[
        list[Path] | None, typer.Option(help="a signed line: approval, reject, revoke or standing approval")
    ] = None,
    at: Annotated[str, typer.Option(help="judge as of this time: 2026-11-23T14:05:00Z, or seconds")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="print the answer as JSON")] = False,
) -> None:
    """Tell whether a plan's gate is open: exit 0 when it is, 1 when it is not, 2 when that cannot be told."""
    plan_bytes = _read(plan, MAX_BYTES)
    try:
        parsed = read_plan(plan_bytes)
    except LamplighterError as error:
        raise error.at(str(plan)) from None
    place = load_site(site)
    if parsed.site != place.name:
        raise SelectionError(f"the plan is for the site {parsed.site!r}, not {place.name!r}", where=str(plan))
    lines = [_line(path) for path in approval or ()]
    policy = place.gate_policy(parsed.runbook, _store(place.store))
    result = evaluate(plan_bytes, lines, policy, moment(at) if at else int(time.time()))
    if as_json:
        print_json({
            "passed": result.passed, "needed": list(result.needed), "signed": list(result.signed),
            "refused": [
                {"approval": name, "reason": str(code), "why": why}
                for name, code, why in refusals(result, parsed)
            ],
        })
    else:
        _print(console(), result, parsed, place.time_zone)
    raise typer.Exit(0 if result.passed else 1)


def moment(text: str) -> int:
    """`2026-11-23T14:05:00Z`, with any offset, or seconds since the epoch.

    Raises:
        SelectionError: anything else; a time without an offset would mean another moment elsewhere.
    """
    if re.fullmatch(r"[0-9]{1,12}", text):
        return int(text)
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        when = datetime.min  # noqa: DTZ901 - has no offset, as is asked next
    if when.tzinfo is None:
        raise SelectionError(f"{text!r} is not a time", advice="write it as 2026-11-23T14:05:00Z")
    return int(when.timestamp())


def _print(out: Console, result: GateResult, plan: Plan, zone: str) -> None:
    out.print("the gate is open" if result.passed else "the gate is closed")
    if result.valid_until:
        out.print(f"  until: {told(result.valid_until, zone)}")
    rows = [("signed", person) for person in result.signed]
    rows += [("needed", sentence) for sentence in result.needed]
    rows += [("refused", f"{name}: {code}: {why}") for name, code, why in refusals(result, plan)]
    for label, text in rows:
        out.print(visible(f"  {label}: {text}"), markup=False, soft_wrap=True)


def _read(path: Path, limit: int) -> bytes:
    """A file's bytes, at most `limit` and one more, so that what is too long stays too long."""
    try:
        with path.open("rb") as file:
            return file.read(limit + 1)
    except OSError as error:
        raise SelectionError(f"cannot be read: {error.strerror}", where=str(path)) from error


def _line(path: Path) -> str:
    """The text of an approval file; what is not ASCII is malformed, and judged as such."""
    return _read(path, 2 * MAX_LINE).decode("ascii", "replace")


def _store(address: StoreAddress) -> Store | None:
    """The site's store when it is a directory on this machine."""
    folder = folder_of(address.url)
    if folder is not None and folder.is_dir():
        return open_store(address)
    console(stderr=True).print(
        "the site's store is not on this machine: whether an approval was used for another plan is not known",
        soft_wrap=True,
    )
    return None
