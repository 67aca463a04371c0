"""What happens at a site in the next days: scheduled runs, windows, freezes, holidays."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from lamplighter.derive.timetable import starts as starts_of
from lamplighter.model.calendar import DAY, Calendar, Named, Span, intersect, label
from lamplighter.model.ical import Entry
from lamplighter.model.inventory import ALL
from lamplighter.site import Site

MOST = 2000
OFTEN = 3
"""Starts a day; of a schedule that fires more often only the next start is shown, and its rule."""
SWITCHED_OFF = "switched off"
RUN_SECONDS = 1800
"""How long a run is shown: when it ends, only its gate and window know."""


def agenda(site: Site, begin: int, end: int) -> tuple[Entry, ...]:
    """Everything from `begin` to `end` (seconds since the epoch), in order.

    What is switched off or frozen is noted so, and not left out.
    """
    found = [*_runs(site, begin, end), *_calendar(site.calendar, begin, end)]
    return tuple(sorted(found, key=lambda entry: (entry.span, entry.kind, entry.name)))


def _runs(site: Site, begin: int, end: int) -> Iterator[Entry]:
    for deployment in site.deployments:
        name = f"{deployment.runbook}/{deployment.name}"
        for schedule in deployment.schedules:
            note = f"hosts: {deployment.hosts}" + ("" if schedule.active else f"; {SWITCHED_OFF}")
            starts = list(islice(starts_of(schedule, begin, end), MOST))
            if len(starts) > OFTEN * ((end - begin) // DAY + 1):
                note += f"; and so on, {schedule.cron or schedule.rrule}"
                del starts[1:]
            for when in starts:
                yield Entry(Span(when, when + RUN_SECONDS), "run", name, note)


def _calendar(calendar: Calendar, begin: int, end: int) -> Iterator[Entry]:
    frozen = [
        (freeze, found) for freeze in calendar.freezes for found in freeze.dates.occurrences(begin, end)
    ]
    for freeze, found in frozen:
        note = f"{freeze.reason} ({freeze.owner}); groups: {', '.join(freeze.groups)}"
        yield Entry(found.span, "freeze", label(freeze, found), note)
    for window in calendar.windows:
        for opening in window.rule.occurrences(begin, end):
            over = sorted({
                f"{label(freeze, found)} ({', '.join(freeze.groups)})" for freeze, found in frozen
                if _meet(freeze.groups, window.groups) and intersect([opening.span], [found.span])
            })
            note = f"groups: {', '.join(window.groups)}" + (f"; frozen by {', '.join(over)}" if over else "")
            yield Entry(opening.span, "window", window.name, note)
    for day in calendar.holidays.occurrences(begin, end) if calendar.holidays else ():
        if not _is_frozen(day, [found for _, found in frozen]):
            yield Entry(day.span, "holiday", day.name, "no freeze of its own")


def _meet(first: tuple[str, ...], second: tuple[str, ...]) -> bool:
    return ALL in first or ALL in second or not set(first).isdisjoint(second)


def _is_frozen(day: Named, freezes: list[Named]) -> bool:
    return any(day.span == found.span and found.name for found in freezes)
