"""When a host may be changed: maintenance windows less freezes. Pure: time is an argument.

The rules:

- A host's windows are those of all its groups, `all` included: it may be changed while any of them is open.
- A host for which no window is written may be changed at any time, unless the site says
  `outside_windows: closed`: then never.
- A freeze of any of its groups wins over every window.
- A run's window is the time at which every one of its hosts may be changed.

Times are half-open stretches of seconds since the epoch. Local times follow RFC 5545 (section 3.3.5): one
that a clock change skips is read with the offset before the change, one that comes twice means the first.
A window lasts exactly as long as it says, also across a clock change; a freeze lasts whole local days.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple, Protocol
from zoneinfo import ZoneInfo

from dateutil.rrule import rrulestr  # type: ignore[import-untyped]  # its stubs are not among the dependencies

from lamplighter.model.inventory import ALL, Host

DAY = 86400
HORIZON = 400 * DAY
"""How far ahead is looked: longer than a year, so that what comes once a year is found."""


class Span(NamedTuple):
    """A stretch of time, in seconds since the epoch; `ends` is no part of it."""

    begins: int
    ends: int

    def __contains__(self, when: object) -> bool:
        return isinstance(when, int | float) and self.begins <= when < self.ends


class Named(NamedTuple):
    """One occurrence of a window, freeze or holiday, and what it is called."""

    span: Span
    name: str


class Dates(Protocol):
    """What something recurring gives: rules, holidays, imported calendars."""

    def occurrences(self, begin: int, end: int) -> Iterable[Named]:
        """Whatever touches the time from `begin` to `end`; an empty name means: as its owner is called."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A stretch of local time, once or again and again.

    Attributes:
        zone: IANA name.
        rrule: RFC 5545 section 3.3.10, by days, without COUNT and UNTIL; empty for once, on `first`.
        first: no occurrence begins before this local date; `rrule_problem` says when it is needed.
        until: nor after this one.
        at: minutes from local midnight to its beginning.
        seconds: how long it lasts, exactly; or
        days: it lasts to the local midnight that many days later.
    """

    zone: str
    rrule: str = ""
    first: date | None = None
    until: date | None = None
    at: int = 0
    seconds: int = 0
    days: int = 0

    def occurrences(self, begin: int, end: int) -> Iterator[Named]:
        """See `Dates`."""
        zone = ZoneInfo(self.zone)
        reach = timedelta(seconds=self.seconds, days=self.days + 2)
        low = datetime.fromtimestamp(begin, zone).replace(tzinfo=None) - reach
        high = datetime.fromtimestamp(end, zone).replace(tzinfo=None) + timedelta(days=1)
        for day in self._days(low.date(), high.date()):
            span = self._span(day, zone)
            if span.begins < end and span.ends > begin:
                yield Named(span, "")

    def _days(self, low: date, high: date) -> Iterator[date]:
        if not self.rrule:
            yield from [self.first] if self.first else []
            return
        low = max(low, self.first or low)
        high = min(high, self.until or high)
        start = low if self.first is None or not needs_first(self.rrule) else self.first
        rule = rrulestr(self.rrule, dtstart=_midnight(start)).replace(until=_midnight(high))
        yield from (found.date() for found in rule.xafter(_midnight(low), inc=True))

    def _span(self, day: date, zone: ZoneInfo) -> Span:
        begins = int((_midnight(day) + timedelta(minutes=self.at)).replace(tzinfo=zone).timestamp())
        if self.seconds:
            return Span(begins, begins + self.seconds)
        return Span(begins, int(_midnight(day + timedelta(days=self.days)).replace(tzinfo=zone).timestamp()))


_PINNED = {
    "DAILY": ((),),
    "WEEKLY": (("BYDAY",),),
    "MONTHLY": (("BYDAY",), ("BYMONTHDAY",)),
    "YEARLY": (("BYMONTH", "BYMONTHDAY"), ("BYMONTH", "BYDAY"), ("BYYEARDAY",), ("BYWEEKNO", "BYDAY")),
}
"""By frequency: the parts that say which day is meant, without looking at a first date."""


def parts(rrule: str) -> dict[str, str]:
    """A rule's parts by their names, both in capitals."""
    return dict(part.upper().partition("=")[::2] for part in rrule.split(";") if part)


def needs_first(rrule: str) -> bool:
    """Whether the rule means something only together with a first date."""
    given = parts(rrule)
    pinned = any(given.keys() >= set(names) for names in _PINNED[given["FREQ"]])
    return given.get("INTERVAL", "1") != "1" or not pinned


def rrule_problem(rrule: str, first: date | None) -> str:
    """What is wrong with the rule of a window or freeze; empty when nothing is."""
    given = parts(rrule)
    if given.get("FREQ") not in _PINNED:
        return f"has FREQ={given.get('FREQ', '')[:20]}; it must be DAILY, WEEKLY, MONTHLY or YEARLY"
    for part, instead in (("COUNT", "until"), ("UNTIL", "until"), ("BYHOUR", "at"), ("BYMINUTE", "at"),
                          ("BYSECOND", "at"), ("DTSTART", "from")):
        if part in given:
            return f"has {part}; write `{instead}` beside it instead"
    try:
        rrulestr(rrule, dtstart=datetime(2000, 1, 1))  # noqa: DTZ001 - local dates
    except (ValueError, TypeError, AttributeError, KeyError, IndexError, OverflowError) as error:
        return f"cannot be read: {error}"  # dateutil raises whatever its parser stumbles over
    if first is None and needs_first(rrule):
        return "does not say which day it begins on; write `from: YYYY-MM-DD` beside it"
    return ""


@dataclass(frozen=True, slots=True)
class MaintenanceWindow:
    """When hosts of some groups may be changed."""

    name: str
    groups: tuple[str, ...]
    rule: Rule


@dataclass(frozen=True, slots=True)
class Freeze:
    """When hosts of some groups must not be changed.

    Attributes:
        name: for messages.
        reason, owner: why, and who can say more.
        groups: which hosts.
        dates: when; hashable.
    """

    name: str
    reason: str
    owner: str
    groups: tuple[str, ...]
    dates: Dates


@dataclass(frozen=True, slots=True)
class Calendar:
    """A site's windows and freezes; see the module's docstring for the rules.

    Attributes:
        windows, freezes: in file order.
        closed_outside: hosts for which no window is written are never changed.
        holidays: public holidays, shown whether or not they are freezes as well; None without any.
    """

    windows: tuple[MaintenanceWindow, ...] = ()
    freezes: tuple[Freeze, ...] = ()
    closed_outside: bool = False
    holidays: Dates | None = None

    def open_at(self, host: Host, when: float, *, override: bool = False) -> bool:
        """Whether the host may be changed at that second; `override` sets freezes aside."""
        return any(when in span for span in self._open(host, when, override=override))

    def closes_at(self, host: Host, when: float, *, override: bool = False) -> int:
        """When the time that is open at `when` ends; 0 when that is not within `HORIZON`.

        An open time ends where no window goes on, or a freeze begins. For a host that is closed at `when`
        it is `when` itself.
        """
        end = _day(when) + HORIZON
        for span in self._open(host, when, override=override):
            if when in span:
                return span.ends if span.ends < end else 0
        return int(when)

    def next_opening(self, host: Host, when: float, *, override: bool = False) -> Span | None:
        """The open time at `when`, or else the next one; None when there is none within `HORIZON`."""
        spans = self._open(host, when, override=override)
        return next((span for span in spans if span.ends > when), None)

    def common(self, hosts: Iterable[Host], when: float, *, override: bool = False) -> Span | None:
        """A run's window: the first time at or after `when` at which every host may be changed.

        Returns:
            None when there is none within `HORIZON`. A bound is 0 when the time has none that can be seen.
        """
        begin, end = _bounds(when)
        shared: Sequence[Span] = (Span(begin, end),)
        for groups in {self._groups(host) for host in hosts}:
            shared = intersect(shared, self._of(groups, when, override=override))
        found = next((span for span in shared if span.ends > when), None)
        if found is None:
            return None
        return Span(found.begins if found.begins > begin else 0, found.ends if found.ends < end else 0)

    def frozen(self, host: Host, when: float) -> tuple[str, ...]:
        """The freezes that hold for a host: `diwali (shops are open late; asha@internal.example)`."""
        groups = self._groups(host)
        return tuple(dict.fromkeys(
            f"{label(freeze, found)} ({freeze.reason}; {freeze.owner})"
            for freeze in self.freezes if groups & set(freeze.groups)
            for found in freeze.dates.occurrences(int(when), int(when) + 1)
        ))

    def _open(self, host: Host, when: float, *, override: bool) -> tuple[Span, ...]:
        return self._of(self._groups(host), when, override=override)

    def _groups(self, host: Host) -> frozenset[str]:
        """Those of the host's groups that the calendar speaks of: most hosts share them."""
        named = {group for window in self.windows for group in window.groups}
        named |= {group for freeze in self.freezes for group in freeze.groups}
        return frozenset({ALL, *host.groups} & named)

    def _of(self, groups: frozenset[str], when: float, *, override: bool) -> tuple[Span, ...]:
        windows = tuple(each.rule for each in self.windows if groups & set(each.groups))
        freezes = () if override else tuple(each.dates for each in self.freezes if groups & set(each.groups))
        return _open_spans(windows, freezes, self.closed_outside, *_bounds(when))


def label(owner: Freeze | MaintenanceWindow, found: Named) -> str:
    """What an occurrence is called: `public-holidays: Diwali`, or as the freeze itself."""
    return f"{owner.name}: {found.name}" if found.name else owner.name


@lru_cache(maxsize=256)
def _open_spans(
    windows: tuple[Dates, ...], freezes: tuple[Dates, ...], closed_outside: bool, begin: int, end: int,
) -> tuple[Span, ...]:
    """Open times from `begin` to `end`, apart from each other and in order."""
    if windows:
        allowed = merge(each.span for window in windows for each in window.occurrences(begin, end))
    else:
        allowed = () if closed_outside else (Span(begin, end),)
    closed = merge(each.span for freeze in freezes for each in freeze.occurrences(begin, end))
    return intersect(subtract(allowed, closed), (Span(begin, end),))


def merge(spans: Iterable[Span]) -> tuple[Span, ...]:
    """The same time as few spans, apart from each other and in order."""
    merged: list[Span] = []
    for span in sorted(span for span in spans if span.begins < span.ends):
        if merged and span.begins <= merged[-1].ends:
            merged[-1] = Span(merged[-1].begins, max(merged[-1].ends, span.ends))
        else:
            merged.append(span)
    return tuple(merged)


def intersect(first: Sequence[Span], second: Sequence[Span]) -> tuple[Span, ...]:
    """The time in both; each argument as `merge` returns it."""
    found: list[Span] = []
    one = two = 0
    while one < len(first) and two < len(second):
        span = Span(max(first[one].begins, second[two].begins), min(first[one].ends, second[two].ends))
        if span.begins < span.ends:
            found.append(span)
        if first[one].ends < second[two].ends:
            one += 1
        else:
            two += 1
    return tuple(found)


def subtract(spans: Sequence[Span], less: Sequence[Span]) -> tuple[Span, ...]:
    """The time in `spans` and not in `less`; each argument as `merge` returns it."""
    if not spans:
        return ()
    edges = [spans[0].begins, *(edge for span in less for edge in span), spans[-1].ends]
    gaps = [Span(begins, ends) for begins, ends in zip(edges[::2], edges[1::2], strict=True)]
    return intersect(spans, merge(gaps))


def _bounds(when: float) -> tuple[int, int]:
    """The same for a whole day, so that a run's thousands of questions are worked out once."""
    return _day(when) - DAY, _day(when) + HORIZON


def _day(when: float) -> int:
    return int(when) // DAY * DAY


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day)  # noqa: DTZ001 - local, the zone comes later


def told(when: int, zone: str) -> str:
    """`Sat 2026-11-28 02:00 IST`, in that zone."""
    return f"{datetime.fromtimestamp(when, UTC).astimezone(ZoneInfo(zone)):%a %Y-%m-%d %H:%M %Z}"
