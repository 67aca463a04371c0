"""The runbook book: a page for each runbook, the responsibility matrix, the calendar. Markdown, in `docs/`.

Nothing in it changes with the day it is made on: what is in force now is told by `lamplighter matrix` and
`lamplighter calendar`.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, get_type_hints

from lamplighter.derive.catalogue import Entry
from lamplighter.derive.words import in_words
from lamplighter.model.calendar import Freeze, MaintenanceWindow, Rule
from lamplighter.model.clocks import span
from lamplighter.model.escalation import EscalationPath
from lamplighter.model.ical import PublicHolidays
from lamplighter.model.imported import Imported
from lamplighter.model.quorum import needs
from lamplighter.model.responsibility import Function
from lamplighter.model.runbook import On, Runbook
from lamplighter.site import Site

NOTES = ("What it touches", "Evidence", "Taking it back", "Edge cases")
"""Sections that every runbook's file has in its docstring."""
HEAD = "<!-- Derived by `lamplighter sync`. Do not edit: change what it is made of, and run that again. -->\n"


def book(entries: Mapping[str, Entry], sites: Sequence[Site]) -> dict[str, str]:
    """Path below `docs/` to text.

    Args:
        entries: the runbooks by id.
        sites: in order of their names.
    """
    pages = {f"runbooks/{name}.md": runbook_page(entry, sites) for name, entry in entries.items()}
    pages["runbooks/index.md"] = index_page(entries)
    pages["matrix.md"] = matrix_page(sites)
    pages["calendar.md"] = calendar_page(sites)
    return {name: HEAD + text.rstrip() + "\n" for name, text in pages.items()}


def cells(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A markdown table, with an empty line after it."""
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    lines += [f"| {' | '.join(_cell(cell) for cell in row)} |" for row in rows]
    return [*lines, ""]


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;") or "-"


MATRIX_LEAD = (
    "One party does the work (*responsible*), one answers for it (*accountable*). The stage is the highest",
    "that is declared; above `shadow` it also takes a decision that internal IT signed. `lamplighter matrix`",
    "shows what is in force now.",
)
CALENDAR_LEAD = (
    "A host may be changed in the windows of all its groups. A freeze wins over every window; setting one",
    "aside takes the signatures of both parties. `lamplighter calendar` shows the next 60 days, `--ics`",
    "exports them.",
)


# --- runbooks -------------------------------------------------------------------------------------


def index_page(entries: Mapping[str, Entry]) -> str:
    """The list of runbooks."""
    rows = [
        (f"[{one.runbook.title}]({name}.md)", one.runbook.function, str(one.runbook.owner),
         needs(one.runbook.gate) if one.runbook.changes else "changes nothing", str(one.runbook.risk))
        for name, one in entries.items()
    ]
    lines = ["# Runbooks", "", *cells(("runbook", "function", "owner", "gate", "risk"), rows)]
    return "\n".join([*lines, "```{toctree}", ":hidden:", *entries, "```"])


def runbook_page(entry: Entry, sites: Sequence[Site]) -> str:
    """Everything about one runbook."""
    runbook, said = entry.runbook, notes(entry)
    doc = inspect.cleandoc(entry.flow.description or "")
    purpose = doc.partition("\nArgs:")[0].strip()
    lines = [f"# {runbook.title}", "", purpose, "", *cells(("", ""), _facts(runbook))]
    lines += ["## What it touches", "", said.get("What it touches", ""), ""]
    lines += ["## Step by step", "", *_numbered(flow_steps(entry))]
    lines += ["## Options", "", *cells(("option", "default", "meaning"), _options(entry))]
    lines += ["## On demand", "", *_on_demand(entry, sites)]
    for title in NOTES[1:]:
        lines += [f"## {title}", "", said.get(title, ""), ""]
    lines += ["## Whom it wakes", ""]
    for site in sites:
        function = site.matrix.of(runbook.id)
        if function is not None:
            lines += [f"At {site.title} ([{function.id}](../matrix.md)):", "", *_climb(function.escalation)]
    return "\n".join(lines)


def notes(entry: Entry) -> dict[str, str]:
    """The sections of a runbook file's own docstring, by title: what only the declaring engineer knows."""
    doc = inspect.getdoc(inspect.getmodule(entry.flow.fn)) or ""
    found: dict[str, list[str]] = {}
    title = ""
    for line in doc.splitlines():
        if line.rstrip(":") in NOTES and line.endswith(":"):
            title = line.rstrip(":")
        elif title and (line.startswith("    ") or not line):
            found.setdefault(title, []).append(line[4:])
        else:
            title = ""
    return {name: "\n".join(text).strip() for name, text in found.items()}


def _facts(runbook: Runbook) -> Iterator[tuple[str, str]]:
    yield "Runbook", f"`{runbook.id}`"
    yield "Function", runbook.function
    yield "Owner", f"{runbook.owner}: runs on that party's workers"
    if runbook.changes:
        yield "Change type", str(runbook.change)
        within = span(runbook.approval_seconds)
        yield "Gate", f"{needs(runbook.gate)}, within {within}; a site may ask for more"
    else:
        yield "Gate", "none: it changes nothing"
    yield "Risk", str(runbook.risk)
    if runbook.changes and runbook.on is On.HOSTS:
        limits, waves = runbook.limits, runbook.waves
        shares = ", ".join(f"{share} %" for share in waves.shares)
        yield "Waves", f"{waves.canary} host first, then up to {shares}; each at most {waves.minutes} min"
        yield "Stops at", (
            f"more than {limits.canary_failures} bad hosts in the first wave, {limits.wave_percent} % of a "
            f"later one, {limits.run_failures} in all; {span(limits.soak_seconds)} soak after each wave"
        )
        yield "At most", f"{limits.hosts} hosts, {limits.percent} % of the site"
    yield "Promised", f"answered in {span(runbook.sla.answer)}, done in {span(runbook.sla.complete)}"


def _options(entry: Entry) -> Iterator[tuple[str, str, str]]:
    for name, said in entry.flow.parameters.properties.items():
        choices = f"; one of {', '.join(map(str, said['enum']))}" if "enum" in said else ""
        default = f"`{said['default']!r}`" if "default" in said else "required"
        yield f"`{name}`", default, said.get("description", "") + choices


def _on_demand(entry: Entry, sites: Sequence[Site]) -> list[str]:
    runbook = entry.runbook
    lines = ["In the Prefect UI: *Deployments*, the deployment, *Run*. Or in a terminal:", ""]
    for site in sites:
        mine = [one for one in site.deployments if one.runbook == runbook.id]
        for one in mine:
            name = f"{runbook.id}/{one.name}"
            asked = [name for name in entry.flow.parameters.required or () if name not in one.options]
            if "requester" in entry.flow.parameters.properties and "requester" not in asked:
                asked.append("requester")
            ask = "".join(f" --param {option}=..." for option in asked)
            rules = "; ".join(
                f"`{each.cron or each.rrule}` {each.time_zone}" + ("" if each.active else " (switched off)")
                for each in one.schedules
            )
            lines += ["```sh", f"prefect deployment run {name}{ask}", "```", ""]
            lines += [f"For `{one.hosts}`, " + (f"on schedule {rules}." if rules else "on demand only."), ""]
    if runbook.changes:
        lines += [f"To see what it would do now, changing nothing: `lamplighter plan {runbook.id}`.", ""]
    return lines


def _numbered(texts: Iterable[str]) -> list[str]:
    return [*(f"{number}. {text}" for number, text in enumerate(texts, 1)), ""]


def _climb(path: EscalationPath) -> list[str]:
    rows = [(f"after {span(rung.after)}" if rung.after else "at once", ", ".join(map(str, rung.to)))
            for rung in path.rungs]
    return cells(("when", "who"), rows)


# --- steps, from the flow's own code --------------------------------------------------------------


def flow_steps(entry: Entry) -> list[str]:
    """What a flow does, in its own order: for each step it calls, the first sentences of its docstring."""
    function = entry.flow.fn
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    names = dict(function.__globals__)
    found: dict[str, str] = {}
    for call in sorted(_calls(tree), key=lambda one: (one.end_lineno, one.end_col_offset)):  # as they run
        step = _resolve(call.func, names, tree)
        doc = inspect.getdoc(step) if step is not None else None
        if doc and getattr(step, "__module__", "").startswith(("tasks.", "lamplighter.notify.watch")):
            found.setdefault(step.__name__, f"**{step.__name__.replace('_', ' ')}**: {_lead(doc)}")
    return list(found.values())


def _calls(tree: ast.AST) -> list[ast.Call]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


def _resolve(target: ast.expr, names: Mapping[str, Any], tree: ast.AST) -> Any:
    """The function a call means: a name of the flow's module, or a method of what such a name returned."""
    if isinstance(target, ast.Name):
        found = names.get(target.id)
        return found if inspect.isfunction(found) else None
    if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name):
        maker = _assigned(target.value.id, tree)
        made = names.get(maker) if maker else None
        hint = get_type_hints(made).get("return") if inspect.isfunction(made) else None
        return getattr(hint, target.attr, None) if inspect.isclass(hint) else None
    return None


def _assigned(name: str, tree: ast.AST) -> str:
    """The function whose result a name holds."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            targets = [one.id for one in node.targets if isinstance(one, ast.Name)]
            if name in targets and isinstance(node.value.func, ast.Name):
                return node.value.func.id
    return ""


def _lead(doc: str) -> str:
    """The prose before the sections of a docstring, as one line."""
    lines: list[str] = []
    for line in doc.splitlines():
        if line.strip() in {"Args:", "Returns:", "Raises:"}:
            break
        lines.append(line)
    return " ".join(" ".join(lines).split())


# --- matrix and calendar --------------------------------------------------------------------------


def matrix_page(sites: Sequence[Site]) -> str:
    """Who answers for what, at every site."""
    lines = [
        "# Responsibility matrix", "",
        *MATRIX_LEAD, "",
    ]
    for site in sites:
        lines += [f"## {site.title}", ""]
        columns = ("function", "responsible", "accountable", "stage", "runbooks", "answered in", "done in",
                   "min per target", "review by")
        lines += cells(columns, (_line(one) for one in site.matrix.functions.values()))
        for one in site.matrix.functions.values():
            lines += [f"### {one.id}", "", f"{one.title}.", ""]
            if one.consulted:
                lines += [f"Consulted: {', '.join(map(str, one.consulted))}.", ""]
            if one.informed:
                lines += [f"Informed: {', '.join(map(str, one.informed))}.", ""]
            if one.runbooks and one.demote_on:
                lines += [f"Falls back to `supervised` on: {', '.join(sorted(one.demote_on))}.", ""]
            lines += _climb(one.escalation)
    return "\n".join(lines)


def _line(one: Function) -> tuple[str, ...]:
    sla, minutes = one.sla, one.minutes_per_target
    return (
        f"[{one.id}](#{one.id})", str(one.responsible), str(one.accountable), str(one.stage),
        ", ".join(f"[{name}](runbooks/{name}.md)" for name in one.runbooks),
        span(sla.answer) if sla else "", span(sla.complete) if sla else "",
        "" if minutes is None else str(minutes), str(one.review_by),
    )


def calendar_page(sites: Sequence[Site]) -> str:
    """When hosts may be changed, at every site, as it is written."""
    lines = [
        "# Calendar", "",
        *CALENDAR_LEAD, "",
    ]
    for site in sites:
        calendar = site.calendar
        outside = "are never changed" if calendar.closed_outside else "may be changed at any time"
        lines += [f"## {site.title}", "", f"Hosts for which no window is written {outside}.", ""]
        lines += cells(("window", "groups", "when", "for"), map(_window_row, calendar.windows))
        lines += cells(("freeze", "groups", "when", "reason", "owner"), map(_freeze_row, calendar.freezes))
    return "\n".join(lines)


def _window_row(one: MaintenanceWindow) -> tuple[str, ...]:
    rule = one.rule
    bounds = f", from {rule.first}" if rule.rrule and rule.first else ""
    bounds += f", until {rule.until}" if rule.until else ""
    when = in_words(rule.rrule) if rule.rrule else str(rule.first)
    clock = f"{rule.at // 60:02}:{rule.at % 60:02} {rule.zone}"
    return one.name, ", ".join(one.groups), f"{when}, {clock}{bounds}", span(rule.seconds)


def _freeze_row(one: Freeze) -> tuple[str, ...]:
    return one.name, ", ".join(one.groups), _dates(one.dates), one.reason, one.owner


def _dates(dates: object) -> str:
    match dates:
        case Rule(rrule="", first=first, days=days):
            return f"{first}, {days} days"
        case Rule(rrule=rrule, first=first, days=days):
            return f"{in_words(rrule)}, {days} days" + (f", from {first}" if first else "")
        case PublicHolidays(country=country, subdivision=part, names=names):
            return f"{'-'.join(filter(None, (country, part)))}: {', '.join(names) or 'all'}"
        case Imported():
            return "events of that file"
        case _:
            return "-"
