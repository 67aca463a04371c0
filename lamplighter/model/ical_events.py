"""Events of an iCalendar file as they are written, and what each of them means (RFC 5545 section 3.6.1).

Whole days are the site's: from local midnight to local midnight. A time without a zone is in the
calendar's own (X-WR-TIMEZONE), or else the site's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from itertools import takewhile
from typing import NamedTuple

from lamplighter.errors import MalformedError
from lamplighter.model.ical_lines import Component, Property
from lamplighter.model.ical_zones import UTC_ZONE, Iana, Zone, read_local, seconds, zone_of
from lamplighter.model.recurrence import Budget, Recurrence, read_rule, starts

DAY = timedelta(days=1)
_DURATION = re.compile(
    r"([+-])?P(?=.)(?:(\d{1,5})W)?(?:(\d{1,6})D)?"
    r"(?:T(?:(\d{1,7})H)?(?:(\d{1,8})M)?(?:(\d{1,9})S)?)?", re.ASCII,
)
_MOMENT = 8  # characters of a date without a time


class Moment(NamedTuple):
    """A date or time as written.

    Attributes:
        local: by its own clock; midnight for a date.
        zone: its clock.
        whole: it is a date.
    """

    local: datetime
    zone: Zone
    whole: bool

    @property
    def instant(self) -> int:
        """Seconds since the epoch."""
        return self.zone.instant(self.local)


class Length(NamedTuple):
    """How long something lasts: local days, then exact seconds (RFC 5545 sections 3.3.6 and 3.8.5.3)."""

    days: int
    seconds: int


class Place(NamedTuple):
    """The file's zones.

    Attributes:
        site: for whole days.
        floating: for times that name no zone; None when the file names one for them that is not known.
        definitions: the file's VTIMEZONEs by name.
    """

    site: Iana
    floating: Zone | None
    definitions: Mapping[str, Zone]


@dataclass(frozen=True, slots=True)
class Event:
    """One VEVENT.

    Attributes:
        name: its summary, printable.
        uid, sequence: as written; 0 for none.
        cancelled: it does not take place.
        start, length: its first occurrence.
        rules, less: what makes further occurrences, and what takes some away.
        more: further occurrences by name.
        without: moments that are none of its occurrences.
        instead_of: the occurrence of its series in whose place it stands; None for a series or event itself.
        backwards: it ends before it begins.
    """

    name: str
    uid: str
    sequence: int
    cancelled: bool
    start: Moment
    length: Length
    rules: tuple[Recurrence, ...]
    less: tuple[Recurrence, ...]
    more: tuple[tuple[Moment, Length], ...]
    without: tuple[Moment, ...]
    instead_of: Moment | None
    backwards: bool

    @property
    def empty(self) -> bool:
        """It lasts no time, whenever it is."""
        return self.length <= (0, 0) and all(length <= (0, 0) for _, length in self.more)

    def occurrences(
        self, low: datetime, high: datetime, instead: Sequence[Moment], budget: Budget
    ) -> Iterator[tuple[Moment, Length]]:
        """Those that begin from `low` to `high` by any clock, or are not over then; and perhaps others.

        Args:
            low, high: the time that is asked for.
            instead: occurrences in whose place something else stands.
            budget: what it may cost.

        Raises:
            MalformedError: it costs more.
        """
        low = _before(low, self.length)
        found = {self.start.local: self.length}
        for rule in self.rules:
            found |= dict.fromkeys(self._starts(rule, low, high, budget), self.length)
        less = {local for rule in self.less for local in self._starts(rule, low, high, budget)}
        without = _Without(self.start, (*self.without, *instead), budget)
        every = [
            (self.start._replace(local=local), length) for local, length in found.items() if local not in less
        ]
        yield from (one for one in (*every, *self.more) if one[0] not in without)

    def _starts(self, rule: Recurrence, low: datetime, high: datetime, budget: Budget) -> Iterator[datetime]:
        found = starts(rule, self.start.local, low, high, budget)
        return takewhile(lambda local: self._before_end(rule, local), found)

    def _before_end(self, rule: Recurrence, local: datetime) -> bool:
        """Whether an occurrence is not after UNTIL, which comes as a date, in local time and in UTC.

        In UTC for whole days it names one day here and another there: the later one counts, so that none
        is lost.
        """
        if not rule.until:
            return True
        end = read_local(rule.until.removesuffix("Z"))
        utc = rule.until.endswith("Z")
        by_date = local.date() <= end.date()
        if self.start.whole:
            return by_date or (utc and self.start.zone.instant(local) <= seconds(end))
        if len(rule.until) == _MOMENT:
            return by_date
        return self.start.zone.instant(local) <= seconds(end) if utc else local <= end

    def ends(self, now: int) -> bool:
        """Whether nothing of it is left at an instant, as far as is written."""
        if any(not rule.until or rule.count for rule in self.rules):
            return False
        last = [read_local(rule.until.removesuffix("Z")) for rule in self.rules]
        moments = [(self.start._replace(local=each), self.length) for each in (*last, self.start.local)]
        return all(end_of(*each) <= now for each in (*moments, *self.more))


class _Without:
    """What EXDATE and RECURRENCE-ID take away: occurrences by date, where either is one, or by instant."""

    def __init__(self, start: Moment, said: Sequence[Moment], budget: Budget) -> None:
        budget.spend(len(said))
        self._dates = {_date_in(one, start.zone) for one in said if one.whole or start.whole}
        self._instants = {one.instant for one in said if not one.whole and not start.whole}

    def __contains__(self, occurrence: Moment) -> bool:
        if occurrence.local.date() in self._dates:
            return True
        return bool(self._instants) and occurrence.instant in self._instants


def _before(when: datetime, length: Length) -> datetime:
    """When something of that length begins that is over at that time."""
    try:
        return when - timedelta(max(0, length.days) + 1, max(0, length.seconds))
    except OverflowError:
        return datetime.min  # noqa: DTZ901 - any clock


def _date_in(said: Moment, zone: Zone) -> date:
    """The day in a zone that a moment names; one in UTC is looked up there."""
    if not said.whole and said.zone == UTC_ZONE and isinstance(zone, Iana):
        return zone.local(said.instant).date()
    return said.local.date()


def end_of(begin: Moment, length: Length) -> int:
    """When an occurrence is over."""
    days = begin.zone.instant(begin.local + length.days * DAY) if length.days else begin.instant
    return days + length.seconds


def read_event(component: Component, place: Place, *, cancelled: bool) -> Event:
    """Read a VEVENT.

    Args:
        component: as it stands.
        place: the file's zones.
        cancelled: the whole calendar is.

    Raises:
        MalformedError: it cannot be read; begins so that "the event `x`" fits before it.
    """
    given = component.one("DTSTART")
    if given is None:
        raise MalformedError("has no DTSTART")
    start = _moment(given, place, "DTSTART")
    length, backwards = _length(component, start, place)
    rules, less = (_rules(component, name) for name in ("RRULE", "EXRULE"))
    instead = component.one("RECURRENCE-ID")
    if instead is not None and "RANGE" in instead.params:
        raise MalformedError(
            "changes its series from a day on (RANGE=THISANDFUTURE), which is not read here; "
            "end the series there and begin a new one"
        )
    local = place._replace(floating=start.zone)
    sequence = component.text("SEQUENCE").strip()
    return Event(
        printable(component.text("SUMMARY")),
        component.text("UID").strip(),
        int(sequence) if sequence.isascii() and sequence.isdigit() and len(sequence) < _MOMENT + 2 else 0,
        cancelled or component.text("STATUS").strip().upper() == "CANCELLED",
        start,
        length,
        rules,
        less,
        tuple(_dates(component, start, length, local)),
        tuple(_moment(one, local, "EXDATE") for one in _each(component, "EXDATE")),
        None if instead is None else _moment(instead, local, "RECURRENCE-ID"),
        backwards,
    )


def printable(text: str) -> str:
    """A line of printable text: it comes from another program."""
    return "".join(char for char in text if char.isprintable())[:80]


def _moment(given: Property, place: Place, which: str) -> Moment:
    text = given.value.strip().upper()
    try:
        local = read_local(text.removesuffix("Z"))
    except MalformedError as error:
        raise MalformedError(f"its {which} cannot be read: {error.message}") from error
    if len(text) == _MOMENT or given.params.get("VALUE", "").upper() == "DATE":
        return Moment(datetime.combine(local.date(), time()), place.site, whole=True)
    if text.endswith("Z"):
        return Moment(local, UTC_ZONE, whole=False)
    name = given.params.get("TZID", "")
    zone = zone_of(name, place.definitions) if name else place.floating
    if zone is None:
        said = f"`{printable(name)}`" if name else "of its calendar (X-WR-TIMEZONE)"
        raise MalformedError(
            f"is in the time zone {said}, which is not known; choose one by its IANA name, such as "
            "`Asia/Kolkata`, and export it again"
        )
    return Moment(local, zone, whole=False)


def _each(component: Component, name: str) -> Iterator[Property]:
    """The values of a property that holds lists."""
    for found in component.properties.get(name, ()):
        for value in filter(None, found.value.split(",")):
            yield Property(value, found.params)


def _rules(component: Component, name: str) -> tuple[Recurrence, ...]:
    try:
        rules = tuple(read_rule(one.value) for one in component.properties.get(name, ()))
        for rule in rules:
            if rule.until:
                read_local(rule.until.removesuffix("Z"))
    except MalformedError as error:
        raise MalformedError(f"its {name} cannot be used: {error.message}") from error
    return rules


def _length(component: Component, start: Moment, place: Place) -> tuple[Length, bool]:
    """How long it lasts, and whether it ends before it begins; a whole day lasts one at least."""
    duration, end = component.text("DURATION").strip(), component.one("DTEND")
    backwards = False
    if end is not None:
        length = _until(
            start,
            _moment(end, place._replace(floating=start.zone if not start.whole else place.floating), "DTEND"),
        )
        backwards = length < (0, 0)
    elif duration:
        length = _duration(duration)
    else:
        length = Length(0, 0)
    if start.whole and length <= (0, 0):
        return Length(1, 0), backwards
    return length, backwards


def _until(start: Moment, end: Moment) -> Length:
    if start.whole and end.whole:
        return Length((end.local - start.local).days, 0)
    return Length(0, end.instant - start.instant)


def _duration(text: str) -> Length:
    """RFC 5545 section 3.3.6: weeks and days are nominal, `PT24H` is exact."""
    match = _DURATION.fullmatch(text.upper())
    if match is None:
        raise MalformedError(f"its DURATION cannot be read: `{text[:30]}`")
    weeks, days, hours, minutes, secs = (int(part or 0) for part in match.groups()[1:])
    if match[1] == "-":
        return Length(-1, 0)
    return Length(weeks * 7 + days, hours * 3600 + minutes * 60 + secs)


def _dates(
    component: Component, start: Moment, length: Length, place: Place
) -> Iterator[tuple[Moment, Length]]:
    """The occurrences that RDATE names; a date means that day, at the event's own time."""
    for each in _each(component, "RDATE"):
        first, _, last = each.value.partition("/")
        begin = _moment(
            Property(first, {**each.params, "VALUE": "DATE"} if start.whole and not last else each.params),
            place,
            "RDATE",
        )
        if begin.whole and not start.whole:
            begin = start._replace(local=datetime.combine(begin.local.date(), start.local.time()))
        if not last:
            yield begin, length
        elif last.strip().upper().startswith(("P", "+P")):
            yield begin, _duration(last.strip())
        else:
            yield begin, _until(begin, _moment(Property(last, each.params), place, "RDATE"))
