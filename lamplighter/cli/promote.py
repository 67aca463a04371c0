"""`lamplighter promote` and `demote`: decide how far a function is handed over.

Promoting shows what the function's runs did since the last decision, and takes a signature of internal IT.
Demoting takes nothing but a reason.
"""

from __future__ import annotations

import json
import secrets
import time
from typing import Annotated

import typer
from rich.console import Console

from lamplighter.cli.approve import DEFAULT_KEY, As, Key, Reason, Yes
from lamplighter.cli.common import SiteName, store_of, the_site
from lamplighter.cli.page import console, escape, print_json
from lamplighter.derive.catalogue import discover
from lamplighter.engine.handover import Gathered, decide, gather
from lamplighter.engine.provenance import code_digest
from lamplighter.engine.stages import keep_demotion, stage_of
from lamplighter.errors import SelectionError
from lamplighter.model.calendar import told
from lamplighter.model.envelope import is_clean
from lamplighter.model.responsibility import Function
from lamplighter.model.runbook import Runbook
from lamplighter.model.selection import closest
from lamplighter.model.stage import NAMESPACE, Decision, Demotion, InForce, Stage
from lamplighter.model.track import Track
from lamplighter.signing import sign_line, signer_of
from lamplighter.site import Site
from lamplighter.store import Store
from lamplighter.timespan import seconds

FunctionName = Annotated[str, typer.Argument(metavar="FUNCTION", help="a line of responsibilities.yaml")]
AsJson = Annotated[bool, typer.Option("--json", help="print the evidence as JSON, and sign nothing")]


def promote(
    function: FunctionName, site: SiteName = "", *,
    to: Annotated[Stage | None, typer.Option(help="decide on it; without, only show the evidence")] = None,
    key: Key = DEFAULT_KEY, as_: As = "", reason: Reason = "",
    valid_for: Annotated[str, typer.Option(help="how long the decision counts, a year at most")] = "365d",
    yes: Yes = False, as_json: AsJson = False,
) -> None:
    """Show what a function's runs did since the last decision, and sign how far it is handed over."""
    place, line, store, mine = _find(function, site)
    now = int(time.time())
    gathered = gather(line, place, store, now)
    if as_json:
        print_json({**json.loads(gathered.track.to_bytes()), "digest": gathered.track.digest})
        return
    key = key.expanduser()
    who = signer_of(key, place.signers, as_) if to else ""  # before anything is asked
    before = stage_of(line, place, store, mine, now)
    _show(console(), place, gathered, before)
    if to is None:
        return
    question = f"To decide on {to} at {place.name}, type {line.id}"
    if not yes and typer.prompt(question, err=True).strip() != line.id:
        raise SelectionError("not decided: the name was not typed", changed="Nothing was signed")
    decision = Decision(
        place.name, line.id, to, who, now, now + seconds(valid_for),
        secrets.token_hex(16), gathered.track.digest,
        {name: code_digest(one) for name, one in mine.items() if one.changes}, reason,
    )
    decide(store, place, sign_line(decision.to_bytes(), key, NAMESPACE), gathered.track, now)
    _say(place, stage_of(line, place, store, mine, now), line, to)


def demote(
    function: FunctionName, reason: Annotated[str, typer.Option(help="one line, for the record")],
    site: SiteName = "",
    to: Annotated[Stage, typer.Option(help="the highest stage that is left")] = Stage.SHADOW,
    *, as_json: Annotated[bool, typer.Option("--json", help="print the answer as JSON")] = False,
) -> None:
    """Take a function back at once. Needs no signature; MSP work stops before its next host."""
    place, line, store, mine = _find(function, site)
    now = int(time.time())
    if not reason.strip() or not is_clean(reason):
        raise SelectionError(
            "a demotion needs a reason, in one line that can be read", advice="give one with --reason"
        )
    keep_demotion(store, line.id, Demotion(to, now, reason.strip()))
    after = stage_of(line, place, store, mine, now)
    if as_json:
        print_json({
            "site": place.name, "function": line.id, "stage": str(after.stage), "why": after.why,
            "asked": str(to),
        })
    else:
        _say(place, after, line, to)


def _find(function: str, site: str) -> tuple[Site, Function, Store, dict[str, Runbook]]:
    runbooks = {name: entry.runbook for name, entry in discover().items()}
    place = the_site(site, runbooks)
    line = place.matrix.functions.get(function)
    if line is None:
        known = place.matrix.functions
        close = closest(function, known)
        raise SelectionError(
            f"there is no function `{function}` at {place.name}",
            advice=f"did you mean `{close}`?" if close else f"there are: {', '.join(known)}",
        )
    store = store_of(place)
    return place, line, store, {name: runbooks[name] for name in line.runbooks}


def _show(out: Console, place: Site, gathered: Gathered, before: InForce) -> None:
    found, last = gathered.track, gathered.last
    since = f"since {told(last.not_before, place.time_zone)}, {last.decider}: {last.stage}" if last else \
        "so far; nothing was ever decided"
    out.print(f"[bold]{escape(found.function)} at {escape(place.name)}[/] {escape(since)}")
    for name, value in _rows(found, before):
        out.print(f"  [dim]{name:<18}[/] {escape(value)}", soft_wrap=True)


def _rows(found: Track, before: InForce) -> tuple[tuple[str, str], ...]:
    def counted(counts: object) -> str:
        pairs = dict(counts) if isinstance(counts, dict) else {}
        return ", ".join(f"{count} {state}" for state, count in pairs.items()) or "none"

    share = f" ({100 * found.as_planned // found.reached} %)" if found.reached else ""
    return (
        ("Stage in force", f"{before.stage}: {before.why}"),
        ("Runs", counted(found.runs)),
        ("Hosts", counted(found.hosts)),
        ("As planned", f"{found.as_planned} of {found.reached} hosts that were to be changed{share}"),
        ("Drifted", f"{found.drifted} changed by somebody else since their plan, left alone"),
        ("Not well after", str(found.ill)),
        ("Halted runs", ", ".join(found.halted) or "none"),
        ("Rejected plans", str(found.rejected)),
        ("Refused signatures", str(found.refused)),
        ("Evidence", found.digest),
    )


def _say(place: Site, now: InForce, line: Function, wanted: Stage) -> None:
    out = console()
    out.print(f"{line.id} at {place.name} is {now.stage} now: {now.why}", markup=False)
    if now.stage.rank < wanted.rank:
        out.print(f"to make it {wanted}, declare that stage in responsibilities.yaml as well", markup=False)
