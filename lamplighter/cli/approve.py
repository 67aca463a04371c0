"""`lamplighter approve`, `reject`, `revoke`: decide on a run, from bytes this command verified itself.

What is signed is read from the site's store and checked against the run's ledger; nothing that Prefect
shows is trusted. The signed line is left in the store, where the worker finds it, and handed to Prefect to
wake the run.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from lamplighter.cli.common import Found, console, find_run
from lamplighter.cli.show import print_to_approve
from lamplighter.engine.run import drop_line, dropped_lines
from lamplighter.errors import OrchestratorError, SelectionError, StoreError
from lamplighter.model.approval import Decision
from lamplighter.model.canonical import sha256
from lamplighter.model.envelope import folded
from lamplighter.model.gate import evaluate, obstacles
from lamplighter.model.history import replay
from lamplighter.model.plan import Plan
from lamplighter.signing import DEFAULT_VALID_FOR, Wish, approve_line, signer_of
from lamplighter.timespan import seconds

Run = Annotated[str, typer.Argument(help="a run's id, or the start of it")]
SiteName = Annotated[str | None, typer.Option("--site", help="only look at this site")]
Key = Annotated[
    Path,
    typer.Option("--key", envvar="LAMPLIGHTER_KEY", help="your private key, or .pub with it in the agent"),
]
As = Annotated[str, typer.Option("--as", help="your id; otherwise told by the key")]
Reason = Annotated[str, typer.Option(help="one line, kept with the run")]
HELP_VALID = "how long it counts: 90m, 24h, 3d; else a day, or to its window's end"
ValidFor = Annotated[str, typer.Option(help=HELP_VALID)]
Yes = Annotated[bool, typer.Option("--yes", help="do not ask to confirm")]
PrintOnly = Annotated[bool, typer.Option("--print", help="only print the line, to paste it into the form")]

DEFAULT_KEY = Path("~/.ssh/id_ed25519")


def approve(
    run: Run, site: SiteName = None, key: Key = DEFAULT_KEY, as_: As = "", reason: Reason = "",
    valid_for: ValidFor = "", yes: Yes = False, print_only: PrintOnly = False,
) -> None:
    """Read a run's plan, sign exactly that, and let the run go on."""
    found = find_run(run, site)
    plan, data = found.plan()
    out = Console(stderr=True, highlight=False) if print_only else console()
    print_to_approve(out, found, plan)
    _open(found, plan)
    if not yes:
        _confirm(plan)
    wish = Wish(_who(found, key, as_), reason=reason, valid_for=_lasts(plan, valid_for))
    _decide(found, data, wish, key, print_only)


def reject(
    run: Run, site: SiteName = None, key: Key = DEFAULT_KEY, as_: As = "", reason: Reason = "",
    print_only: PrintOnly = False,
) -> None:
    """Sign that a run's plan must not be carried out. Final."""
    found = find_run(run, site)
    _, data = found.plan()
    _decide(found, data, Wish(_who(found, key, as_), Decision.REJECT, reason), key, print_only)


def revoke(
    run: Run, site: SiteName = None, key: Key = DEFAULT_KEY, as_: As = "", reason: Reason = "",
    approval: Annotated[str, typer.Option(help="take back only this approval, by its id")] = "",
) -> None:
    """Take an approval back, also while the run is under way: it stops before the next host."""
    found = find_run(run, site)
    _, data = found.plan()
    wish = Wish(_who(found, key, as_), Decision.REVOKE, reason, revokes=approval)
    line = approve_line(data, wish, key.expanduser(), int(time.time()))
    drop_line(found.store, sha256(data), line)
    console().print(f"revoked; {found.run} stops before the next host")


def _lasts(plan: Plan, given: str) -> int:
    """Seconds the approval counts: as given, else a day, or to the end of a window that is still to open."""
    if given:
        return seconds(given)
    now = int(time.time())
    return max(DEFAULT_VALID_FOR, plan.window.closes - now if plan.window.opens > now else 0)


def _open(found: Found, plan: Plan) -> None:
    """Refuse to sign what can no longer be carried out."""
    history = replay(found.records)
    if history.sealed or history.ending:
        raise SelectionError(f"{found.run} has ended: {history.sealed or history.ending}")
    why = obstacles(plan, found.site.gate_policy(plan.runbook, found.store), int(time.time()))
    if why:
        raise SelectionError(f"no signature can open this gate; it needs {'; '.join(why)}", where=found.run)


def _confirm(plan: Plan) -> None:
    count = str(len(plan.targets))
    typed = typer.prompt(f"To approve, type the number of hosts that will be changed ({count})", err=True)
    if typed.strip() != count:
        raise SelectionError("not approved: the number was not typed", changed="Nothing was signed")


def _who(found: Found, key: Path, named: str) -> str:
    return named or signer_of(key.expanduser(), found.site.signers)


def _decide(found: Found, data: bytes, wish: Wish, key: Path, print_only: bool) -> None:
    now = int(time.time())
    line = approve_line(data, wish, key.expanduser(), now)
    if print_only:
        typer.echo(folded(line))
        return
    out = console()
    try:
        drop_line(found.store, sha256(data), line)
    except StoreError as error:
        out.print(f"the line could not be left in the store ({error.message}); it goes through Prefect alone")
    out.print(f"signed by {wish.approver}: {wish.decision} {sha256(data)}", markup=False)
    lines = [*replay(found.records).approvals, *dropped_lines(found.store, sha256(data)), line]
    result = evaluate(data, lines, found.site.gate_policy(found.plan()[0].runbook, found.store), now)
    if not result.passed and wish.decision is Decision.APPROVE:
        out.print(f"still needed: {'; '.join(result.needed)}", markup=False)
    _wake(found, wish, line, out)


def _wake(found: Found, wish: Wish, line: str, out: Console) -> None:
    from lamplighter import orchestrator  # noqa: PLC0415 - Prefect takes 2 s to import

    decision = "reject" if wish.decision is Decision.REJECT else "approve"
    try:
        flow_run = orchestrator.resume(
            found.run, {"decision": decision, "approval": line, "reason": wish.reason}
        )
    except OrchestratorError as error:
        out.print(f"Prefect was not told: {error}. The run finds the line in the store", markup=False)
        raise typer.Exit(2) from None
    out.print(f"{found.run} goes on: {orchestrator.page(flow_run.id)}", markup=False)
