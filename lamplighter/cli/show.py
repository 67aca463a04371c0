"""`lamplighter show`: a run's plan, its gate and its report."""

from __future__ import annotations

import json
import time
from collections.abc import Collection

from rich.console import Console
from rich.table import Table

from lamplighter.cli.common import AnySite, AsJson, Found, RunId, coloured, find_run, promised, table
from lamplighter.cli.page import console, escape, lines, print_json
from lamplighter.engine.replanning import deltas
from lamplighter.model.clocks import clock_lines, read_clocks
from lamplighter.model.delta import HostDelta
from lamplighter.model.history import replay
from lamplighter.model.outcome import HostOutcome
from lamplighter.model.plan import Plan
from lamplighter.model.show import alike, facts_of


def show(
    run: RunId, site: AnySite = None,
    as_json: AsJson = False,
) -> None:
    """Show what a run plans, and what became of every host so far, from its ledger alone."""
    found = find_run(run, site)
    history = replay(found.records)
    plan = found.plan()[0] if history.plan else None
    if as_json:
        print_json({
            "run": found.run, "site": found.site.name, "plan": json.loads(plan.to_bytes()) if plan else None,
            "digest": history.plan, "state": history.state, "why": history.why,
            "hosts": [
                {"host": each.host, "terminal": each.terminal, "wave": each.wave, "message": each.message}
                for each in history.hosts.values()
            ],
        })
        return
    out = console()
    if plan is not None:
        print_plan(out, plan, found.site.time_zone)
        print_deltas(out, found, plan)
    print_outcomes(out, history.hosts.values())
    print_times(out, found)
    out.print(f"[bold]State[/] {escape(history.state)} {escape(history.why)}")
    if history.waits:
        out.print(f"To decide: lamplighter approve {found.run}, or reject", markup=False)


def print_times(out: Console, found: Found) -> None:
    """Who held the run for how long, and what was promised."""
    if not found.records:
        return
    opened = found.records[0]
    sla = promised(found.site, str(opened.get("runbook", "")))
    clocks = read_clocks(found.records, time.time())
    for what, text in clock_lines(clocks, sla, str(opened.get("owner", "msp"))):
        out.print(f"  [dim]{escape(what):<22}[/] {escape(text)}", soft_wrap=True)


def print_head(out: Console, plan: Plan, zone: str) -> None:
    """What a plan is, without its steps; times in the site's zone."""
    out.print(f"[bold]{escape(plan.runbook)} at {escape(plan.site)}[/] {escape(plan.run)}")
    for name, value in facts_of(plan, zone):
        out.print(f"  [dim]{name:<16}[/] {escape(value)}", soft_wrap=True)


def print_plan(out: Console, plan: Plan, zone: str) -> None:
    """A plan at a glance: its head, then a row for hosts of one wave that get the same."""
    print_head(out, plan, zone)
    made = table("", ("wave", "hosts", "what", "to note"), ())
    for wave, names, host in alike(plan):
        what = lines(f"{step.id}: {step.summary}" for step in host.steps)
        made.add_row(str(wave), lines(names), what, lines(host.notes))
    for host in (host for host in plan.hosts if not host.steps):
        why = coloured(host.end, f"{host.end}: {host.reason}")
        made.add_row("-", escape(host.host), why, lines(host.notes))
    out.print(made)


def print_to_approve(out: Console, found: Found, plan: Plan) -> None:
    """What is to be signed: the plan, and above it what differs when it takes up one that was approved."""
    print_deltas(out, found, plan)
    print_plan(out, plan, found.site.time_zone)


def print_deltas(out: Console, found: Found, plan: Plan) -> None:
    """Of a plan that takes up an earlier run: what differs from what was approved for that one."""
    replans = str(found.records[0].get("replans", ""))
    if not replans:
        return
    if different := deltas(found.store, found.site, replans, plan):
        out.print(delta_table(replans, different))
    else:
        told = f"This takes up {escape(replans)}, which nobody approved: all of it is new."
        out.print(told, soft_wrap=True)


def delta_table(run: str, deltas: tuple[HostDelta, ...]) -> Table:
    """What differs from what was approved for an earlier run, a row a host."""
    rows = [(escape(one.host), escape(one.before), lines(one.now)) for one in deltas]
    return table(f"left by {escape(run)}", ("host", "how it ended", "what is different now"), rows)


def print_outcomes(out: Console, outcomes: Collection[HostOutcome]) -> None:
    """What became of every host."""
    if not outcomes:
        return
    made = table("", ("host", "wave", "state", "what happened"), ())
    for each in outcomes:
        made.add_row(escape(each.host), str(each.wave or "-"), coloured(each.terminal), escape(each.message))
    out.print(made)
