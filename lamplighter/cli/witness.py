"""`lamplighter witness`: countersign the end of a site's chain, so that nobody rewrites what is before it."""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import Annotated

import typer

from lamplighter.cli.page import console, print_json
from lamplighter.errors import LedgerBrokenError, SelectionError
from lamplighter.inspection import inspect
from lamplighter.model.envelope import visible
from lamplighter.model.witness import NAMESPACE, Statement, judge_witness
from lamplighter.seals import keep_witness
from lamplighter.signing import sign_line, signer_of
from lamplighter.site import load_site_named
from lamplighter.store import open_store


def witness(
    site: Annotated[str, typer.Option(help="the site's name")],
    key: Annotated[Path, typer.Option(help="your private key, or the .pub of one in the agent")],
    out: Annotated[
        Path | None, typer.Option(help="also write the line here: keep it where the other party cannot reach")
    ] = None,
    restored: Annotated[
        str, typer.Option(metavar="REASON", help="the store was restored from an older copy, and stays so")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="print the answer as JSON")] = False,
) -> None:
    """Verify the whole store, then sign the last seal: exit 0 when signed, 1 when the store is not sound."""
    place = load_site_named(site)
    store = open_store(place.store)
    found = inspect(store, place.name, lambda runbook: place.gate_policy(runbook, store))
    if not found.seals:
        raise SelectionError("no run is sealed yet, so there is nothing to witness", where=store.url)
    if not (found.whole if restored else found.sound):
        console().print("the store is not sound; nothing was signed. Run: lamplighter verify --site " + site)
        raise typer.Exit(1)
    now = int(time.time())
    statement = Statement(
        place.name, found.seals, found.head, signer_of(key, place.signers), now, secrets.token_hex(16),
        restored,
    )
    line = sign_line(statement.to_bytes(), key, NAMESPACE)
    judged = judge_witness(line, place.gate_policy("", store))
    if judged.person is None:
        raise LedgerBrokenError(
            f"the signature would not count: {judged.refused}", where=str(key),
            advice=f"list the key in approvers for the namespace {NAMESPACE}",
        )
    kept = keep_witness(store, found.seals, line)
    if out is not None:
        out.write_text(line + "\n", "ascii")
    if as_json:
        print_json({
            "site": place.name, "seal": found.seals, "head": found.head, "witness": judged.person.id,
            "party": str(judged.person.party), "kept": kept, "line": line,
        })
    else:
        who = f"{judged.person.id} ({judged.person.party})"
        told = f"seal {found.seals} of {place.name} is witnessed by {who}"
        console().print(visible(told), markup=False, soft_wrap=True)
        console().print(line if out is None else f"kept in {out}", markup=False, soft_wrap=True)
