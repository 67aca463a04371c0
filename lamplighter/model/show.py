"""What people read: a plan and a report as markdown, the same everywhere they are shown.

Text from hosts and files is data: it is escaped, so that it can neither become markup nor break a table.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Protocol

from lamplighter.model.calendar import told
from lamplighter.model.delta import HostDelta
from lamplighter.model.envelope import visible
from lamplighter.model.gate import GateResult
from lamplighter.model.outcome import HostOutcome, RunState, Terminal, sentence, tally
from lamplighter.model.plan import HostPlan, Plan
from lamplighter.model.refusal import needs_of, refusals
from lamplighter.model.review import Due

EMERGENCY = (
    "Emergency: one person with the role emergency opens this gate. Internal IT hears of it at once, and "
    "reviews it within 24 hours."
)
MAX_CELL = 400
MAX_STEP = 65_536
"""Characters of a step, which is never cut short of anything that will be done."""
MAX_HOSTS = 200
"""Rows of hosts that are left alone; beyond that a form is not read any more."""

MAX_ROWS = 1000
"""Hosts on the report's page, those in trouble first; beyond that a browser no longer scrolls."""
FOLD = len("sha256:") + 32

_DIGEST = re.compile("sha256:[0-9a-f]{64}")
_AUTOLINK = re.compile(r"(?i)(www|https?|ftp)(?=\.|:)|(?=@)")
"""Where GitHub's markdown, which Prefect shows, makes a link without any brackets (GFM 6.9), wherever in a
word: renderers find `https://` behind letters and underscores as well, which the specification does not.

A backslash does not stop it: links are looked for in the text after backslashes are gone. A place where the
line may be broken does, and lets long addresses fold.
"""

MARKS = {
    Terminal.CHANGED: "✅", Terminal.UNCHANGED: "▫️", Terminal.FAILED: "❌", Terminal.UNREACHABLE: "🔌",
    Terminal.DRIFTED: "↪️", Terminal.SKIPPED: "⏸️", Terminal.REFUSED: "⛔", Terminal.UNKNOWN: "❓",
}
_WELL = {Terminal.CHANGED, Terminal.UNCHANGED}


class Ended(Protocol):
    """A run's ending, as far as it is shown."""

    @property
    def state(self) -> RunState:
        """How it ended."""

    @property
    def message(self) -> str:
        """Hosts by terminal state, and why."""

    @property
    def outcomes(self) -> tuple[HostOutcome, ...]:
        """Every host."""


def escape(text: str, most: int = MAX_CELL) -> str:
    """Make any text safe inside a markdown table cell: no markup, no link, nothing that hides or turns.

    Args:
        text: may be hostile.
        most: characters of it that are shown.
    """
    flat = visible(" ".join(text.split()))
    short = flat if len(flat) <= most else flat[: most - 1] + "…"
    safe = short.replace("&", "&amp;").replace("<", "&lt;")
    return _AUTOLINK.sub(r"\g<0><wbr>", re.sub(r"([\\`*_\[\]|~#])", r"\\\1", safe))


def share(part: int, whole: int) -> str:
    """`3 of 20 hosts (15 %)`."""
    return f"{part} of {whole} hosts ({round(100 * part / whole) if whole else 0} %)"


def facts_of(plan: Plan, zone: str) -> tuple[tuple[str, str], ...]:
    """The head of a plan as (name, text) pairs, unescaped: what every place shows that shows a plan.

    Args:
        plan: see `Plan`.
        zone: the site's time zone, in which all its times are told.
    """
    final = sorted({step.action for host in plan.hosts for step in host.steps if not step.undo})
    waves = len(plan.waves)
    return (
        ("Change", f"{plan.change_type}, {plan.change_ref or 'no reference given'}"),
        ("Owner", plan.owner),
        ("Requested by", f"{plan.requester.id} ({plan.requester.known})"),
        ("Touches", f"{share(len(plan.targets), plan.fleet)}, selection {plan.selection}"),
        ("In", f"{waves} wave{'s' if waves != 1 else ''}: {_waves(plan)}"),
        ("Needs", needs_of(plan)),
        ("Cannot be undone", ", ".join(final) or "nothing: each step says how"),
        ("Stops at", _brake(plan)),
        ("Window", _window(plan, zone)),
        ("Expires", told(plan.expires, zone)),
        ("Digest", plan.digest),
    )


def _window(plan: Plan, zone: str) -> str:
    opens, closes = plan.window.opens, plan.window.closes
    bounds = [f"from {told(opens, zone)}"] if opens else []
    bounds += [f"until {told(closes, zone)}"] if closes else []
    aside = f"; freezes are set aside: {plan.window.override}" if plan.window.override else ""
    return (" ".join(bounds) or "any time") + aside


def plan_page(plan: Plan, zone: str) -> str:
    """The plan as an approver reads it, with times in the site's zone."""
    lines = [*_head(plan, zone), "### What will be done", ""]
    lines += ["| wave | hosts | steps | to note |", "|---|---|---|---|"]
    lines += [_group_row(*group) for group in alike(plan)]
    still = [host for host in plan.hosts if not host.steps]
    if still:
        lines += ["", "### Left alone", "", "| host | why | to note |", "|---|---|---|"]
        lines += [
            f"| {escape(host.host)} | {host.end}: {escape(host.reason)} | {_notes(host)} |"
            for host in still[:MAX_HOSTS]
        ]
        if len(still) > MAX_HOSTS:
            lines += ["", f"{len(still) - MAX_HOSTS} more: `lamplighter show {plan.run}` lists every one."]
    return "\n".join(lines)


def _head(plan: Plan, zone: str) -> list[str]:
    title = f"## {escape(plan.runbook)} at {escape(plan.site)}: {escape(plan.run)}"
    rows = (f"| **{name}** | {_foldable(value)} |" for name, value in facts_of(plan, zone))
    return [title, "", "| | |", "|---|---|", *rows, ""]


def _foldable(value: str) -> str:
    """A digest is one long word: it is cut in two, or the form would be wider than the screen."""
    if not _DIGEST.fullmatch(value):
        return escape(value)
    return f"`{value[:FOLD]}`<br>`{value[FOLD:]}`"


def _brake(plan: Plan) -> str:
    limits = plan.limits
    return (
        f"more than {limits.canary_failures} bad in the canary wave, {limits.wave_percent} % of a later "
        f"wave, or {limits.run_failures} in all; {limits.soak_seconds} s soak between waves"
    )


def _waves(plan: Plan) -> str:
    return " → ".join(
        wave[0] if len(wave) == 1 else f"{len(wave)} hosts" for wave in plan.waves
    ) or "none"


def alike(plan: Plan) -> list[tuple[int, list[str], HostPlan]]:
    """Hosts of one wave that get the same, with where they are: an approver has to see what differs."""
    by_name = {host.host: host for host in plan.hosts}
    groups: dict[tuple[object, ...], tuple[int, list[str], HostPlan]] = {}
    for wave, names in enumerate(plan.waves, 1):
        for name in names:
            host = by_name[name]
            same = (wave, host.notes, tuple((step.id, step.summary, step.undo) for step in host.steps))
            groups.setdefault(same, (wave, [], host))[1].append(placed(host))
    return list(groups.values())


def placed(host: HostPlan) -> str:
    """A target with how it is reached and as whom."""
    return f"{host.host}: {host.reach}" if host.reach else host.host


def _group_row(wave: int, names: list[str], host: HostPlan) -> str:
    steps = "<br>".join(
        f"**{escape(step.id)}** {escape(step.summary.removeprefix(f'{step.id} '), MAX_STEP)}"
        + (f" (undo: {escape(step.undo, MAX_STEP)})" if step.undo else " (cannot be undone)")
        for step in host.steps
    )
    return f"| {wave} | {'<br>'.join(map(escape, names))} | {steps} | {_notes(host)} |"


def _notes(host: HostPlan) -> str:
    return "<br>".join(escape(note) for note in host.notes)


def gate_page(
    plan: Plan, zone: str, result: GateResult, number: int, replans: str = "",
    deltas: Sequence[HostDelta] = (),
) -> str:
    """What stands above the form: who must sign, what came so far and why it did not do, the plan.

    Args:
        plan: to be signed.
        zone: the site's time zone.
        result: the gate's answer now.
        number: of the question, from 1.
        replans: id of the earlier run that the plan takes up; empty for none.
        deltas: how it differs from what was approved for that run; shown above the plan.
    """
    lines = ["# Waiting for approval", ""]
    if number > 1:
        progress = _progress(result)
        lines += [f"> The last answer did not open the gate{progress}. Nothing has been changed.", ""]
    if plan.change_type == "emergency":
        lines += [f"**{EMERGENCY}**", ""]
    lines += [f"**Signed by:** {', '.join(map(escape, result.signed)) or 'nobody yet'}  "]
    lines += [f"**Still needed:** {'; '.join(map(escape, result.needed)) or 'nothing'}  "]
    lines += [
        f"**Does not count:** {escape(why)} ({code}: {escape(name)})  "
        for name, code, why in refusals(result, plan)
    ]
    how = (
        f"Approve in a terminal: `lamplighter approve {plan.run}`. Or paste the line that "
        f"`lamplighter approve {plan.run} --print` writes into the form below. "
        "Rejecting needs no signature: choose reject, and say why."
    )
    lines += ["", how, ""]
    lines += _difference(replans, deltas)
    return "\n".join(lines) + plan_page(plan, zone)


def _difference(replans: str, deltas: Sequence[HostDelta]) -> list[str]:
    """What an approver of the earlier plan has not seen yet."""
    if not replans:
        return []
    if not deltas:
        return [f"> This takes up {escape(replans)}, which nobody approved: all of it is new.", ""]
    lines = [f"### What differs from {escape(replans)}, which was approved and left this undone", ""]
    lines += ["| host | how it ended then | what is different now |", "|---|---|---|"]
    lines += [
        f"| {escape(one.host)} | {escape(one.before)} | {'<br>'.join(map(escape, one.now))} |"
        for one in deltas[:MAX_HOSTS]
    ]
    if len(deltas) > MAX_HOSTS:
        lines += ["", f"{len(deltas) - MAX_HOSTS} more: `lamplighter replan {escape(replans)}`"]
    return [*lines, ""]


def _progress(result: GateResult) -> str:
    """`: 1 of 2 have signed`, when some have and signatures are all that is missing."""
    lacking = sum(requirement.quorum for requirement in result.missing)
    signed = len(result.signed)
    return f": {signed} of {signed + lacking} have signed" if signed and lacking else ""


def overdue_lines(reviews: Iterable[Due], zone: str) -> tuple[str, ...]:
    """A sentence for each emergency that nobody of internal IT has looked at in time."""
    return tuple(
        f"Overdue since {told(due.due, zone)}: the review of emergency {due.run}. "
        f"Internal IT signs it: lamplighter review {due.run}"
        for due in reviews
    )


def report_rows(outcomes: Iterable[HostOutcome]) -> list[dict[str, str]]:
    """One row a host, for a table."""
    return [
        {
            "host": outcome.host, "wave": str(outcome.wave or "-"),
            "state": f"{MARKS[outcome.terminal]} {outcome.terminal}", "what happened": outcome.message,
        }
        for outcome in outcomes
    ]


def report_page(
    run: str, plan: Plan | None, zone: str, ending: Ended, overdue: Iterable[Due] = (),
    times: Iterable[tuple[str, str]] = (),
) -> str:
    """The report as a page.

    Args:
        run: its id.
        plan: as stored; None when it ended before there was one.
        zone: the site's time zone.
        ending: how it ended.
        overdue: the site's reviews of emergencies that should have been done.
        times: who held the run for how long, see `lamplighter.model.clocks.clock_lines`.
    """
    lines = [f"# {ending.state}: {escape(run)}", "", escape(ending.message), ""]
    for line in overdue_lines(overdue, zone):
        lines += [f"> ⚠️ {escape(line)}", ""]
    if plan is not None:
        lines += [f"Requested by {escape(plan.requester.id)} ({plan.requester.known}). Plan:  "]
        lines += [_foldable(plan.digest), ""]
    lines += [f"{name}: {escape(text)}  " for name, text in times]
    counted = sentence(tally(ending.outcomes))
    if counted not in ending.message:
        lines += ["", f"**{counted}**"]
    lines += ["", "| host | wave | state | what happened |", "|---|---|---|---|"]
    shown = sorted(ending.outcomes, key=lambda one: one.terminal in _WELL)[:MAX_ROWS]
    lines += [_report_row(row) for row in report_rows(shown)]
    left = len(ending.outcomes) - len(shown)
    if left:
        lines += ["", f"{left} more: `lamplighter show {escape(run)}` lists every one."]
    lines += ["", f"Check it offline: `lamplighter verify {escape(run)}`"]
    return "\n".join(lines)


def _report_row(row: dict[str, str]) -> str:
    cells: Sequence[str] = (row["host"], row["wave"], row["state"], row["what happened"])
    return "| " + " | ".join(escape(cell) for cell in cells) + " |"
