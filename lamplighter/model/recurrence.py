"""Recurrence rules as other programs write them (RFC 5545 section 3.3.10), at a cost that is bounded.

python-dateutil works the same rules out, and our own windows use it. It cannot be used on a stranger's file:
it walks from the first date to the year 9999 where nothing fits, which takes minutes, and cannot be stopped.
Here only the time that is asked for is walked, a period (day, week, month, year) at a time, and every step is
paid for from a `Budget`. The tests compare the two over random rules.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from itertools import product

from lamplighter.errors import MalformedError

FREQUENCIES = ("DAILY", "WEEKLY", "MONTHLY", "YEARLY")
OFTEN = ("HOURLY", "MINUTELY", "SECONDLY")
A_DAY = 24
"""More times a day are no calendar of events."""
_WEEKDAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
_BYDAY = re.compile(r"([+-]?\d{1,2})?(MO|TU|WE|TH|FR|SA|SU)")
_LISTS = {
    "BYMONTH": (1, 12),
    "BYMONTHDAY": (1, 31),
    "BYYEARDAY": (1, 366),
    "BYWEEKNO": (1, 53),
    "BYSETPOS": (1, 366),
    "BYHOUR": (0, 23),
    "BYMINUTE": (0, 59),
    "BYSECOND": (0, 60),
}
"""Lists of numbers, and the least and greatest of their amounts."""
_SIGNED = {"BYMONTHDAY", "BYYEARDAY", "BYWEEKNO", "BYSETPOS"}
_TIMES = ("BYHOUR", "BYMINUTE", "BYSECOND")
_LENGTHS = {"DAILY": 1, "WEEKLY": 7}


class Budget:
    """Steps that may still be taken.

    Args:
        steps: a day looked at, or an occurrence found, is one.
    """

    def __init__(self, steps: int) -> None:
        self.left = steps

    def spend(self, steps: int = 1) -> None:
        """Take steps.

        Raises:
            MalformedError: none is left.
        """
        self.left -= steps
        if self.left < 0:
            raise MalformedError("would take too long to work out; export the freezes only, or fewer years")


@dataclass(frozen=True, slots=True)
class Recurrence:
    """A rule.

    Attributes:
        freq: one of `FREQUENCIES`.
        interval, count: as written; 0 for no count.
        until: as written; empty for no end.
        start_of_week: 0 for Monday.
        days: of `BYDAY`: which one of the month or year (0 for each), and the weekday.
        by: the other lists by their names.
    """

    freq: str
    interval: int
    count: int
    until: str
    start_of_week: int
    days: tuple[tuple[int, int], ...]
    by: dict[str, tuple[int, ...]]

    @property
    def times_a_day(self) -> int:
        """How often it comes on a day."""
        hours, minutes, seconds = (len(self.by.get(name, ())) or 1 for name in _TIMES)
        return hours * minutes * seconds


def read_rule(text: str) -> Recurrence:
    """Read an RRULE's value.

    Raises:
        MalformedError: it cannot be read, or comes too often.
    """
    given: dict[str, str] = {}
    for part in filter(None, text.upper().replace(" ", "").split(";")):
        name, _, value = part.partition("=")
        if not value or given.setdefault(name, value) != value:
            raise MalformedError(f"`{part[:30]}` cannot be read")
    freq = given.pop("FREQ", "")
    if freq in OFTEN:
        raise MalformedError("it comes back more often than daily")
    if freq not in FREQUENCIES:
        raise MalformedError(f"its FREQ is `{freq[:20]}`")
    if given.pop("RSCALE", "GREGORIAN") != "GREGORIAN" or given.pop("SKIP", "OMIT") != "OMIT":
        raise MalformedError("it counts in another calendar than ours (RSCALE, SKIP)")
    interval, count = (
        _number(given.pop(name, least), name) for name, least in (("INTERVAL", "1"), ("COUNT", ""))
    )
    week = given.pop("WKST", "MO")
    if week not in _WEEKDAYS:
        raise MalformedError(f"`WKST={week[:20]}` cannot be read")
    until, days = given.pop("UNTIL", ""), _days(given.pop("BYDAY", ""))
    by = {name: _list(name, value) for name, value in given.items()}
    rule = Recurrence(freq, interval, count, until, _WEEKDAYS.index(week), days, by)
    if rule.times_a_day > A_DAY:
        raise MalformedError(f"it comes back more often than daily: {rule.times_a_day} times a day")
    return rule


def _number(text: str, name: str) -> int:
    if text and not re.fullmatch(r"0*[1-9]\d{0,6}", text, re.ASCII):
        raise MalformedError(f"`{name}={text[:20]}` cannot be read")
    return int(text or "0")


def _days(text: str) -> tuple[tuple[int, int], ...]:
    found = []
    for part in filter(None, text.split(",")):
        match = _BYDAY.fullmatch(part)
        if match is None or (match[1] is not None and int(match[1]) == 0):
            raise MalformedError(f"`BYDAY={text[:30]}` cannot be read")
        found.append((int(match[1] or 0), _WEEKDAYS.index(match[2])))
    return tuple(found)


def _list(name: str, text: str) -> tuple[int, ...]:
    if name not in _LISTS:
        raise MalformedError(f"`{name[:30]}` is not known")
    least, most = _LISTS[name]
    numbers = []
    for part in text.split(","):
        if not re.fullmatch(r"[+-]?\d{1,3}", part, re.ASCII):
            raise MalformedError(f"`{name}={text[:30]}` cannot be read")
        number = int(part)
        if not least <= (abs(number) if name in _SIGNED else number) <= most:
            raise MalformedError(f"`{name}={text[:30]}` cannot be read")
        numbers.append(number)
    return tuple(sorted(set(numbers)))


def starts(
    rule: Recurrence,
    first: datetime,
    low: datetime,
    high: datetime,
    budget: Budget,
) -> Iterator[datetime]:
    """The local times from `low` to `high`, both included, at which the rule's occurrences begin, in order.

    `UNTIL` is not looked at: what it means depends on the event. `first` itself is there only if it fits.

    Args:
        rule: what it says.
        first: DTSTART, local; occurrences are counted from it.
        low, high: what is asked for.
        budget: what it may cost.

    Raises:
        MalformedError: it costs more than that.
    """
    days, by = _filled(rule, first)
    times = _day_times(rule, first)
    found = 0
    for period in _periods(rule, first, first if rule.count else max(low, first), high):
        moments = []
        for day in _candidates(rule, period, by):
            budget.spend()
            if _fits(day, rule, days, by):
                moments += [datetime.combine(day, moment) for moment in times]
        for moment in _positions(moments, by.get("BYSETPOS", ())):
            if moment < first:
                continue
            budget.spend()
            found += 1
            if moment > high or (rule.count and found > rule.count):
                return
            if moment >= low:
                yield moment


def _filled(
    rule: Recurrence, first: datetime
) -> tuple[tuple[tuple[int, int], ...], dict[str, tuple[int, ...]]]:
    """The lists, with what the first date says where the rule says nothing."""
    by, days = dict(rule.by), rule.days
    if days or by.keys() & {"BYMONTHDAY", "BYYEARDAY"} or rule.freq == "DAILY":
        return days, by
    if rule.freq == "WEEKLY" or "BYWEEKNO" in by:
        return ((0, first.weekday()),), by
    by["BYMONTHDAY"] = (first.day,)
    if rule.freq == "YEARLY":
        by.setdefault("BYMONTH", (first.month,))
    return days, by


def _day_times(rule: Recurrence, first: datetime) -> list[time]:
    own = (first.hour, first.minute, first.second)
    lists = (rule.by.get(name, (mine,)) for name, mine in zip(_TIMES, own, strict=True))
    return [time(hour, minute, min(second, 59)) for hour, minute, second in product(*lists)]


def _periods(rule: Recurrence, first: datetime, low: datetime, high: datetime) -> Iterator[date]:
    """First days of the periods that can touch the time from `low` to `high`."""
    if rule.freq in _LENGTHS:
        length = _LENGTHS[rule.freq]
        begin = first.date()
        if rule.freq == "WEEKLY":
            begin -= timedelta(days=min((begin.weekday() - rule.start_of_week) % 7, begin.toordinal() - 1))
        step = length * rule.interval
        skipped = max(0, (low.date() - begin).days // step)
        number = begin.toordinal() + skipped * step
        while number <= min(high.date().toordinal(), date.max.toordinal() - length):
            yield date.fromordinal(number)
            number += step
        return
    step = rule.interval * (12 if rule.freq == "YEARLY" else 1)
    begin_month = first.year * 12 + (first.month - 1 if rule.freq == "MONTHLY" else 0)
    low_month, high_month = (when.year * 12 + when.month - 1 for when in (low, high))
    month = begin_month + max(0, (low_month - begin_month) // step) * step
    while month <= high_month:
        yield date(month // 12, month % 12 + 1, 1)
        month += step


def _candidates(rule: Recurrence, period: date, by: dict[str, tuple[int, ...]]) -> Iterator[date]:
    """The days of a period, or of those of its months that count."""
    if rule.freq in _LENGTHS:
        yield from (period + timedelta(days=number) for number in range(_LENGTHS[rule.freq]))
        return
    months = by.get("BYMONTH", range(1, 13)) if rule.freq == "YEARLY" else (period.month,)
    for month in months:
        yield from (date(period.year, month, day + 1) for day in range(_month_length(period.year, month)))


def _fits(
    day: date, rule: Recurrence, days: tuple[tuple[int, int], ...], by: dict[str, tuple[int, ...]]
) -> bool:
    if "BYMONTH" in by and day.month not in by["BYMONTH"]:
        return False
    month_length, year_length = _month_length(day.year, day.month), _year_length(day.year)
    if "BYMONTHDAY" in by and not _among(day.day, month_length, by["BYMONTHDAY"]):
        return False
    year_day = day.timetuple().tm_yday
    if "BYYEARDAY" in by and not _among(year_day, year_length, by["BYYEARDAY"]):
        return False
    if "BYWEEKNO" in by and not _among(*_week(day, rule.start_of_week), by["BYWEEKNO"]):
        return False
    if not days:
        return True
    monthly = rule.freq == "MONTHLY" or (rule.freq == "YEARLY" and "BYMONTH" in by)
    numbered = rule.freq in {"MONTHLY", "YEARLY"} and "BYWEEKNO" not in by
    place, length = (day.day, month_length) if monthly else (year_day, year_length)
    which = ((place - 1) // 7 + 1, -((length - place) // 7 + 1))
    return any(
        weekday == day.weekday() and (not number or not numbered or number in which)
        for number, weekday in days
    )


def _among(place: int, length: int, wanted: tuple[int, ...]) -> bool:
    """Whether a place is wanted, counted from the beginning or, below 0, from the end."""
    return place in wanted or place - length - 1 in wanted


def _week(day: date, start: int) -> tuple[int, int]:
    """The number of a day's week in its year, and how many weeks that year has.

    A week belongs to the year of its fourth day (RFC 5545, as ISO 8601 for weeks that begin on Monday).
    """
    begin = day.toordinal() - (day.weekday() - start) % 7
    year = date.fromordinal(min(max(begin + 3, 1), date.max.toordinal())).year
    first, following = _first_week(year, start), _first_week(year + 1, start)
    return (begin - first) // 7 + 1, (following - first) // 7


def _first_week(year: int, start: int) -> int:
    fourth = date(min(year, 9999), 1, 4)
    return fourth.toordinal() - (fourth.weekday() - start) % 7


def _positions(moments: list[datetime], wanted: tuple[int, ...]) -> list[datetime]:
    moments.sort()
    if not wanted:
        return moments
    return [each for number, each in enumerate(moments, 1) if _among(number, len(moments), wanted)]


def _month_length(year: int, month: int) -> int:
    if month == 2:  # noqa: PLR2004 - February
        return _year_length(year) - 337
    return 30 if month in {4, 6, 9, 11} else 31


def _year_length(year: int) -> int:
    return 366 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 365
