"""Our own calendar as an iCalendar file (RFC 5545), and public holidays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import icalendar

from lamplighter.errors import MalformedError
from lamplighter.model.calendar import Named, Span

_PRODUCT = "-//lamplighter//calendar//EN"
_LANGUAGE = "en_US"


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
            span = Span(*(_midnight(each, zone) for each in (day, day + timedelta(days=1))))
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


def _midnight(day: date, zone: ZoneInfo) -> int:
    return int(datetime.combine(day, time(), zone).timestamp())
