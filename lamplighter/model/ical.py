"""iCalendar (RFC 5545): freezes from files that other programs wrote, and our own calendar for them.

All-day events last from local midnight to local midnight in the site's zone. Recurrences with their
exceptions (EXDATE, RDATE, moved occurrences) are worked out by recurring-ical-events. Cancelled events do
not count; events shown as free do, for that is how public holidays are commonly published.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import icalendar
import recurring_ical_events  # type: ignore[import-untyped]  # it ships none, and there are no stubs

from lamplighter.errors import MalformedError
from lamplighter.model.calendar import DAY, Named, Span

MAX_BYTES = 1024 * 1024
TOO_LARGE = f"is larger than {MAX_BYTES // 1024} KiB; export the freezes only, or fewer years"
MAX_EVENTS = 200
"""More is somebody's whole diary, and working it out would take seconds."""
_PRODUCT = "-//lamplighter//calendar//EN"
_LANGUAGE = "en_US"
_FOREIGN = (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError)
"""What the libraries raise on files that no program should have written."""
_OFTEN = {"SECONDLY", "MINUTELY", "HOURLY"}


@dataclass(frozen=True, slots=True)
class Imported:
    """Events of one file.

    Attributes:
        text: the file's; `problems` found none in it.
        zone: IANA name, for events that name none.
    """

    text: str
    zone: str

    def occurrences(self, begin: int, end: int) -> tuple[Named, ...]:
        """See `lamplighter.model.calendar.Dates`."""
        return _occurrences(self.text, self.zone, begin, end)


def problems(text: str) -> tuple[str, ...]:
    """Why a file's events cannot be used, a sentence each; empty when they can.

    Only what can be bounded is read: at most `MAX_BYTES` and `MAX_EVENTS`, nothing more often than daily.
    """
    if len(text.encode()) > MAX_BYTES:
        return (TOO_LARGE,)
    try:
        events = _events(text)
        found = [problem for event in events for problem in _event_problems(event)]
        if not found and events:
            _expand(text, min(_instant(event.start) for event in events))
    except MalformedError as error:
        return (error.message,)
    except _FOREIGN as error:
        return (f"has an event that cannot be read: {' '.join(str(error).split())[:100]}",)
    return tuple(dict.fromkeys(found))


def _events(text: str) -> list[Any]:
    """The events of a file.

    Raises:
        MalformedError: it is no calendar, holds none, or too many.
    """
    try:
        events: list[Any] = _calendar(text).walk("VEVENT")
    except _FOREIGN as error:
        why = " ".join(str(error).split())[:100]
        raise MalformedError(f"is not iCalendar: {why or 'it cannot be read'}") from error
    if not events:
        raise MalformedError("holds no event")
    if len(events) > MAX_EVENTS:
        raise MalformedError(f"holds {len(events)} events; more than {MAX_EVENTS} are not read")
    return events


def _event_problems(event: Any) -> Iterator[str]:
    """What one event lacks; named by its summary."""
    name = _summary(event) or str(event.get("UID", ""))[:60]
    if event.errors:
        for which, why in event.errors:
            yield f"the event `{name}`: its {which} cannot be read: {str(why)[:100]}"
        return
    start = event.get("DTSTART")
    if start is None:
        yield f"the event `{name}` has no DTSTART"
        return
    unzoned = isinstance(start.dt, datetime) and start.dt.tzinfo is None
    if unzoned and "TZID" in start.params:
        yield f"the event `{name}` is in the time zone `{start.params['TZID']}`, which is not known"
    rules = event.get("RRULE", [])
    for rule in rules if isinstance(rules, list) else [rules]:
        if str(rule.get("FREQ", [""])[0]).upper() in _OFTEN:
            yield f"the event `{name}` comes back more often than daily"


def _expand(text: str, at: int) -> None:
    """Raise `MalformedError` when the recurrences cannot be worked out."""
    try:
        _occurrences(text, "UTC", at, at + DAY)
    except _FOREIGN as error:
        raise MalformedError(f"has a recurrence that cannot be read: {str(error)[:100]}") from error


@lru_cache(maxsize=16)
def _calendar(text: str) -> Any:
    return icalendar.Calendar.from_ical(text)


@lru_cache(maxsize=64)
def _occurrences(text: str, zone: str, begin: int, end: int) -> tuple[Named, ...]:
    around = (datetime.fromtimestamp(begin - 2 * DAY, UTC), datetime.fromtimestamp(end + 2 * DAY, UTC))
    found = []
    for event in recurring_ical_events.of(_calendar(text)).between(*around):
        if str(event.get("STATUS", "")).upper() == "CANCELLED":
            continue
        span = Span(_instant(event.start, zone), _instant(event.end, zone))
        if span.begins < span.ends and span.begins < end and span.ends > begin:
            found.append(Named(span, _summary(event)))
    return tuple(sorted(found))


def _instant(when: date | datetime, zone: str = "UTC") -> int:
    if not isinstance(when, datetime):
        when = datetime.combine(when, time())
    return int((when if when.tzinfo else when.replace(tzinfo=ZoneInfo(zone))).timestamp())


def _summary(event: Any) -> str:
    """A line of printable text: it comes from another program."""
    return "".join(char for char in str(event.get("SUMMARY", "")) if char.isprintable())[:80]


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the calendar that is given out.

    Attributes:
        span: when.
        kind: `run`, `window`, `freeze` or `holiday`.
        name: what it is called.
        note: hosts, reason, owner.
    """

    span: Span
    kind: str
    name: str
    note: str = ""


def to_ics(site: str, entries: Iterable[Entry], now: int) -> str:
    """The entries as an iCalendar file; the same entry has the same UID each time, so that imports update.

    Args:
        site: its name.
        entries: in order.
        now: seconds since the epoch, for DTSTAMP.
    """
    made = icalendar.Calendar()
    made.add("prodid", _PRODUCT)
    made.add("version", "2.0")
    made.add("x-wr-calname", f"lamplighter {site}")
    for entry in entries:
        event = icalendar.Event()
        event.add("uid", f"{entry.kind}-{entry.name}-{entry.span.begins}@{site}".replace(" ", "_"))
        event.add("dtstamp", datetime.fromtimestamp(now, UTC))
        event.add("dtstart", datetime.fromtimestamp(entry.span.begins, UTC))
        event.add("dtend", datetime.fromtimestamp(entry.span.ends, UTC))
        event.add("summary", f"{entry.kind}: {entry.name}")
        if entry.note:
            event.add("description", entry.note)
        event.add("categories", [entry.kind])
        made.add_component(event)
    data: bytes = made.to_ical()
    return data.decode("utf-8")


@dataclass(frozen=True, slots=True)
class PublicHolidays:
    """Public holidays of a country or one of its parts, as the `holidays` package knows them.

    Attributes:
        country, subdivision: ISO 3166 codes: `IN`, `GJ`.
        zone: IANA name; a holiday lasts from local midnight to local midnight.
        names: only these, as `holiday_names` lists them; empty for all.
    """

    country: str
    subdivision: str
    zone: str
    names: tuple[str, ...] = ()

    def occurrences(self, begin: int, end: int) -> Iterator[Named]:
        """See `lamplighter.model.calendar.Dates`."""
        zone = ZoneInfo(self.zone)
        first, last = (datetime.fromtimestamp(when, zone).year for when in (begin, end))
        for day, name in sorted(_holidays(self.country, self.subdivision, first, last + 1).items()):
            span = Span(_instant(day, self.zone), _instant(day + timedelta(days=1), self.zone))
            wanted = [each for each in name.split("; ") if not self.names or plain(each) in self.names]
            if wanted and span.begins < end and span.ends > begin:
                yield Named(span, "; ".join(wanted))


def holiday_names(country: str, subdivision: str) -> tuple[str, ...]:
    """The names of the holidays of a country or part of it, sorted.

    Raises:
        MalformedError: there is no such country or part; says which there are.
    """
    import holidays  # noqa: PLC0415 - only for sites that use it

    if country not in holidays.list_supported_countries():
        raise MalformedError(f"`{country}` is no country whose holidays are known",
                             advice="write its code of two letters (ISO 3166-1), such as `IN`")
    parts = holidays.list_supported_countries()[country]
    if subdivision and subdivision not in parts:
        known = f"there are: {', '.join(parts)}"
        raise MalformedError(f"`{subdivision}` is no part of `{country}`", advice=known)
    found = _holidays(country, subdivision, 2024, 2031)
    return tuple(sorted({plain(name) for names in found.values() for name in names.split("; ")}))


def plain(name: str) -> str:
    """`Diwali` for `Diwali (Deepavali)`, `Id-ul-Fitr` for `Id-ul-Fitr (estimated)`."""
    return name.partition(" (")[0]


@lru_cache(maxsize=16)
def _holidays(country: str, subdivision: str, first: int, last: int) -> dict[date, str]:
    import holidays  # noqa: PLC0415 - only for sites that use it

    known = holidays.list_localized_countries().get(country, [])
    language = _LANGUAGE if _LANGUAGE in known else None  # else the environment's would be taken
    years = range(first, last + 1)
    part = subdivision or None
    return dict(holidays.country_holidays(country, subdiv=part, years=years, language=language))
