"""When a cron rule of five fields fires (crontab(5)). Pure; `site_schedule` says what is wrong with one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

MONTHS = {name: number for number, name in enumerate(
    ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), 1)}
DAYS = {name: number for number, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))}
FIELDS: tuple[tuple[str, int, int, dict[str, int]], ...] = (
    ("minute", 0, 59, {}), ("hour", 0, 23, {}), ("day of month", 1, 31, {}), ("month", 1, 12, MONTHS),
    ("day of week", 0, 7, DAYS),
)
ITEM = re.compile(r"(?:(?P<any>\*)|(?P<first>\w+)(?:-(?P<last>\w+))?)(?:/(?P<step>\d{1,4}))?", re.ASCII)


def cron_times(rule: str, zone: str, begin: int, end: int) -> Iterator[int]:
    """The seconds at which a rule fires, from `begin` and before `end`, in order.

    Args:
        rule: five fields, without mistakes.
        zone: IANA name; local times that a clock change skips or repeats are read as RFC 5545 has it.
        begin, end: seconds since the epoch.
    """
    texts = rule.split()
    minutes, hours, days, months, weekdays = (_values(*pair) for pair in zip(texts, FIELDS, strict=True))
    either = not texts[2].startswith("*") and not texts[4].startswith("*")
    local = ZoneInfo(zone)
    day = datetime.fromtimestamp(begin, local).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    while int(day.replace(tzinfo=local).timestamp()) < end:
        in_month, in_week = day.day in days, day.isoweekday() % 7 in weekdays
        if day.month in months and ((in_month or in_week) if either else (in_month and in_week)):
            for hour in sorted(hours):
                for minute in sorted(minutes):
                    when = int(day.replace(hour=hour, minute=minute, tzinfo=local).timestamp())
                    if begin <= when < end:
                        yield when
        day += timedelta(days=1)


def _values(text: str, field: tuple[str, int, int, dict[str, int]]) -> frozenset[int]:
    """What a field stands for; Sunday is 0, also when it is written as 7."""
    _, low, high, words = field
    found: set[int] = set()
    for item in text.split(","):
        match = ITEM.fullmatch(item)
        if match is None:
            raise ValueError(f"{item!r} is no part of a cron rule")
        first = low if match["any"] else number(match["first"], words)
        last = high if match["any"] else number(match["last"] or match["first"], words)
        if match["step"] and not match["any"] and not match["last"]:
            last = high  # `5/15` counts on from 5, as cron implementations have it
        found |= set(range(first, last + 1, int(match["step"] or 1)))
    return frozenset(value % 7 for value in found) if words is DAYS else frozenset(found)


def number(text: str, words: dict[str, int]) -> int:
    """A number as written, or the month or day that a name stands for; -1 for neither."""
    return int(text[:9]) if text.isdecimal() else words.get(text.lower(), -1)
