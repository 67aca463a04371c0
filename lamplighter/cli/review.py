"""`lamplighter review`: internal IT looks at an emergency afterwards, and signs what it found."""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import Annotated

import typer

from lamplighter.cli.common import AnySite, AsJson, RunId, find_run
from lamplighter.cli.page import console, escape, print_json
from lamplighter.cli.show import print_outcomes, print_plan
from lamplighter.engine.reviews import due_of, head_of, keep_review
from lamplighter.errors import SelectionError
from lamplighter.model.history import replay
from lamplighter.model.review import NAMESPACE, Review, Verdict
from lamplighter.signing import sign_line, signer_of


def review(
    run: RunId,
    key: Annotated[Path, typer.Option(
        envvar="LAMPLIGHTER_KEY", help="your private key, or its .pub when the key is in the agent",
    )],
    site: AnySite = None,
    verdict: Annotated[Verdict, typer.Option(help="what you say of it")] = Verdict.JUSTIFIED,
    reason: Annotated[str, typer.Option(help="one line, kept with the run; an objection needs one")] = "",
    *,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask to confirm")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what an emergency did, and sign its review. Whether it was right or not, it is reviewed then."""
    found, key = find_run(run, site), key.expanduser()
    reviewer = signer_of(key, found.site.signers)
    due, head = due_of(found.store, found.run), head_of(found.store, found.run)
    if not head:
        raise SelectionError(
            f"{found.run} has not ended, so it cannot be reviewed yet", changed="Nothing was signed",
            advice="Wait for it, or hand it back to its worker: lamplighter resume",
        )
    history = replay(found.records)
    out = console(stderr=True) if as_json else console()
    print_plan(out, found.plan()[0], found.site.time_zone)
    print_outcomes(out, history.hosts.values())
    out.print(f"[bold]State[/] {escape(history.sealed)} {escape(history.why)}")
    if not yes and not typer.confirm(f"Sign as {verdict}?", err=True):
        raise SelectionError("not reviewed", changed="Nothing was signed")
    said = Review(
        found.site.name, found.run, head, reviewer, verdict, int(time.time()),
        secrets.token_hex(16), reason,
    )
    line = sign_line(said.to_bytes(), key, NAMESPACE)
    kept = keep_review(found.store, due, line, found.site.trust)
    if as_json:
        print_json({
            "run": found.run, "site": found.site.name, "reviewer": kept.reviewer,
            "verdict": str(kept.verdict), "line": line,
        })
    else:
        told = f"{found.run} at {found.site.name} is reviewed by {kept.reviewer}: {kept.verdict}"
        out.print(told, markup=False)
