"""iCalendar files of other programs as freezes: no event is lost without a word.

Cancelled events do not count; events shown as free do, for that is how public holidays are commonly
published. Where a file leaves something open (one UID for several events, say), the reading that freezes more
is taken. Cost is bounded by steps, not by events: holidays of many years are an ordinary thing to import.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache

from lamplighter.errors import MalformedError
from lamplighter.model.calendar import DAY, Named, Span
from lamplighter.model.ical_events import Event, Moment, Place, end_of, printable, read_event
from lamplighter.model.ical_lines import Component, components
from lamplighter.model.ical_zones import Iana, Zone, define, zone_of
from lamplighter.model.recurrence import Budget

STEPS = 400_000
"""For one file and question; a second or so."""
_CHUNK = 30 * DAY
_QUIET = {"VEVENT", "VTIMEZONE", "VJOURNAL"}
"""Components of which nobody expects that they freeze anything, and events."""
_AROUND = timedelta(days=2)
"""No two clocks are further apart."""
_FOREIGN = (OverflowError, ValueError)
"""What dates at the ends of time raise."""


@dataclass(frozen=True, slots=True)
class Imported:
    """Events of one file.

    Attributes:
        text: as `lamplighter.model.ical_lines.decode` returns it, without `problems`.
        zone: IANA name, for whole days and for events that name none.
    """

    text: str
    zone: str

    def occurrences(self, begin: int, end: int) -> tuple[Named, ...]:
        """See `lamplighter.model.calendar.Dates`.

        Raises:
            MalformedError: it takes too long; `check` tells it before.
        """
        low, high = (
            begin // _CHUNK * _CHUNK,
            -(-end // _CHUNK) * _CHUNK,
        )  # hosts ask for many instants of a day
        return tuple(
            one
            for one in _occurrences(self.text, self.zone, low, high)
            if one.span.begins < end and one.span.ends > begin
        )


@dataclass(frozen=True, slots=True)
class _File:
    """A file as read: its events, what is wrong with it, what is worth a word."""

    events: tuple[Event, ...]
    problems: tuple[str, ...]
    remarks: tuple[str, ...]


def problems(text: str, zone: str = "UTC") -> tuple[str, ...]:
    """Why a file's events cannot be used, a sentence each; empty when they can.

    Args:
        text: as `lamplighter.model.ical_lines.decode` returns it.
        zone: IANA name, the site's.
    """
    try:
        found = _read(text, zone)
        if found.problems or not found.events:
            return found.problems
        latest = max(event.start.instant for event in found.events)
        _occurrences(text, zone, latest, latest + DAY)
    except MalformedError as error:
        return (error.message,)
    except _FOREIGN as error:
        return (f"has a date that cannot be worked with: {' '.join(str(error).split())[:100]}",)
    return ()


def warnings(text: str, zone: str, begin: int, end: int) -> tuple[str, ...]:
    """What freezes less than its writer may believe, a sentence each.

    Args:
        text, zone: as for `problems`, which found none.
        begin, end: the time that is looked at, in seconds since the epoch.
    """
    file = _read(text, zone)
    told = list(file.remarks)
    live = [event for event in file.events if not event.cancelled]
    for event in live:
        if event.empty and not event.ends(begin):
            told.append(
                f"{_called(event)} lasts no time and freezes nothing; give it an end, or make it a whole day"
            )
        elif event.backwards and not event.empty and not event.ends(begin):
            told.append(f"{_called(event)} ends before it begins; it is taken as one day")
    days = (end - begin) // DAY
    if not live:
        told.append(f"freezes nothing in the next {days} days: it holds no event that is not cancelled")
    elif not Imported(text, zone).occurrences(begin, end):
        over = all(event.ends(begin) for event in live)
        why = "its events are over; was it renewed?" if over else "none of its events falls within them"
        told.append(f"freezes nothing in the next {days} days: {why}")
    return tuple(dict.fromkeys(told))


def _called(event: Event) -> str:
    return f"the event `{event.name or printable(event.uid)}`"


@lru_cache(maxsize=16)
def _read(text: str, zone: str) -> _File:
    """Read a file.

    Raises:
        MalformedError: it is no calendar, or holds no event.
    """
    site, budget = Iana(zone), Budget(STEPS)
    events: list[Event] = []
    wrong: list[str] = []
    remarks: list[str] = []
    calendars = components(text)
    for calendar in calendars:
        if calendar.text("CALSCALE").strip().upper() not in {"", "GREGORIAN"}:
            wrong.append(
                f"counts in the calendar `{printable(calendar.text('CALSCALE'))}`, which is not read here"
            )
            continue
        place = _place(calendar, site, wrong, budget)
        cancelled = calendar.text("METHOD").strip().upper() == "CANCEL"
        if cancelled:
            remarks.append("says METHOD:CANCEL: its events are taken as cancelled, and freeze nothing")
        for part in calendar.parts:
            if part.name == "VEVENT":
                events += _event(part, place, wrong, cancelled=cancelled)
        remarks += _others(calendar)
    if not events and not wrong:
        raise MalformedError("holds no event" + "".join(f"; it {remark}" for remark in remarks))
    return _File(tuple(events), tuple(dict.fromkeys(wrong)), tuple(dict.fromkeys(remarks)))


def _place(calendar: Component, site: Iana, wrong: list[str], budget: Budget) -> Place:
    definitions: dict[str, Zone] = {}
    for part in calendar.parts:
        name = part.text("TZID").strip('" ')
        if part.name != "VTIMEZONE" or not name:
            continue
        try:
            definitions[name] = define([each.values() for each in part.parts], budget)
        except (MalformedError, *_FOREIGN) as error:
            if zone_of(name, {}) is None:
                wrong.append(
                    f"has a time zone `{printable(name)}` whose definition cannot be read: {error}"[:200]
                )
    own = calendar.text("X-WR-TIMEZONE").strip()
    floating = zone_of(own, definitions) if own else site
    return Place(site, floating, definitions)


def _event(part: Component, place: Place, wrong: list[str], *, cancelled: bool) -> Iterator[Event]:
    try:
        yield read_event(part, place, cancelled=cancelled)
    except MalformedError as error:
        joined = ": " if error.message.startswith("its ") else " "
        name = printable(part.text("SUMMARY") or part.text("UID"))
        wrong.append(f"the event `{name}`{joined}{error.message}")
    except _FOREIGN as error:
        wrong.append(f"the event `{printable(part.text('SUMMARY'))}` cannot be read: {str(error)[:100]}")


def _others(calendar: Component) -> Iterator[str]:
    """Words about components that are no events: a task with a due date freezes nothing."""
    for name in dict.fromkeys(part.name for part in calendar.parts):
        if name not in _QUIET and not name.startswith("X-"):
            summary = next(part.text("SUMMARY") for part in calendar.parts if part.name == name)
            called = f", such as `{printable(summary)}`" if summary else ""
            yield f"holds {printable(name)} components{called}: only events (VEVENT) freeze"


@lru_cache(maxsize=64)
def _occurrences(text: str, zone: str, begin: int, end: int) -> tuple[Named, ...]:
    budget = Budget(STEPS)
    low, high = (datetime(1970, 1, 1) + timedelta(seconds=when) for when in (begin, end))  # noqa: DTZ001 - any clock
    events = _read(text, zone).events
    instead: dict[str, list[Moment]] = {}
    for event in events:
        if event.instead_of is not None:
            instead.setdefault(event.uid, []).append(event.instead_of)
    found = set()
    for event in _standing(events):
        moved = instead.get(event.uid, []) if event.instead_of is None else []
        for when, length in event.occurrences(low - _AROUND, high + _AROUND, moved, budget):
            budget.spend()
            span = Span(when.instant, end_of(when, length))
            if span.begins < span.ends and span.begins < end and span.ends > begin:
                found.add(Named(span, event.name))
    return tuple(sorted(found))


def _standing(events: tuple[Event, ...]) -> Iterator[Event]:
    """The events that take place.

    Of several versions of one changed occurrence the last counts; of several events with one UID all count,
    for some programs give one UID to different events, unless a later version is cancelled (RFC 5546 section
    2.1.5).
    """
    last: dict[tuple[str, int | None], int] = {}
    gone: dict[tuple[str, int | None], int] = {}
    for event in events:
        key = _key(event)
        last[key] = max(last.get(key, 0), event.sequence)
        if event.cancelled and event.uid:
            gone[key] = max(gone.get(key, 0), event.sequence)
    for event in events:
        key = _key(event)
        late = (
            gone.get(key, -1) > event.sequence
            if key[1] is None or not event.uid
            else last[key] > event.sequence
        )
        if not event.cancelled and not late:
            yield event


def _key(event: Event) -> tuple[str, int | None]:
    return event.uid, None if event.instead_of is None else event.instead_of.instant
