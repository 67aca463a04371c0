"""Schedules and time zones: is this one, and if not, why not?"""

from __future__ import annotations

import re
import zoneinfo
from datetime import UTC, datetime

from dateutil.rrule import rrulestr  # type: ignore[import-untyped]  # its stubs are not among the dependencies

from lamplighter.model.selection import closest

MONTHS = {name: number for number, name in enumerate(
    ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), 1)}
DAYS = {name: number for number, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))}
FIELDS: tuple[tuple[str, int, int, dict[str, int]], ...] = (
    ("minute", 0, 59, {}), ("hour", 0, 23, {}), ("day of month", 1, 31, {}), ("month", 1, 12, MONTHS),
    ("day of week", 0, 7, DAYS),
)
ITEM = re.compile(r"(?:(?P<any>\*)|(?P<first>\w+)(?:-(?P<last>\w+))?)(?:/(?P<step>\d{1,4}))?", re.ASCII)
LONGEST = {2: 29, 4: 30, 6: 30, 9: 30, 11: 30}
"""Days of the months that have fewer than 31."""
MAX_RRULE = 6500  # characters; Prefect takes no longer ones
_AREAS = ("Africa", "America", "Antarctica", "Asia", "Atlantic", "Australia", "Europe", "Indian",
          "Pacific")


def zone_problem(name: str) -> tuple[str, str]:
    """Message and advice when this is no time zone; two empty texts when it is."""
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        zones = _abbreviated(name)
        if zones:
            return f"`{name}` is an abbreviation, not a time zone", f"write the zone: {', '.join(zones)}"
        close = closest(name, zoneinfo.available_timezones())
        return f"`{name[:60]}` is not a time zone", f"did you mean `{close}`?" if close else \
            "write a name of the IANA database, such as `Asia/Kolkata` or `UTC`"
    return "", ""


def _abbreviated(name: str) -> list[str]:
    """Zones that call their time so, two of each kind: `IST` is three."""
    if not re.fullmatch(r"[A-Z]{2,5}", name):
        return []
    moments = [datetime(2026, month, 15, tzinfo=UTC) for month in (1, 7)]
    found: dict[tuple[str, ...], list[str]] = {}
    for zone in sorted(zoneinfo.available_timezones()):
        if zone.partition("/")[0] in _AREAS:
            times = [moment.astimezone(zoneinfo.ZoneInfo(zone)) for moment in moments]
            if name in {time.tzname() for time in times}:
                found.setdefault(tuple(f"{time:%Z%z}" for time in times), []).append(zone)
    return sorted(zone for zones in found.values() for zone in zones[:2])[:8]


def cron_problem(text: str) -> str:
    """What is wrong with a cron rule of five fields (crontab(5)); empty when nothing is."""
    fields = text.split()
    if len(fields) != len(FIELDS):
        return f"has {len(fields)} fields and not five (minute hour day-of-month month day-of-week)"
    for field, (name, low, high, words) in zip(fields, FIELDS, strict=True):
        for item in field.split(","):
            if not _is_item(item, low, high, words):
                return f"has `{item[:30]}` as its {name}, which is from {low} to {high}"
    days, months = (_values(fields[place], *FIELDS[place][1:]) for place in (2, 3))
    if not any(min(days) <= LONGEST.get(month, 31) for month in months):
        return "never comes: no month that it names has such a day"  # nor do its weekdays, in Prefect
    return ""


def _values(field: str, low: int, high: int, words: dict[str, int]) -> set[int]:
    """The numbers a field without mistakes stands for."""
    found: set[int] = set()
    for item in field.split(","):
        match = ITEM.fullmatch(item)
        if match is None:
            raise ValueError(f"{item!r} is no part of a cron rule")
        first = low if match["any"] else _number(match["first"], words)
        last = first if match["first"] and not match["step"] else high
        last = _number(match["last"], words) if match["last"] else last
        found |= set(range(first, last + 1, int(match["step"] or 1)))
    return found


def _is_item(item: str, low: int, high: int, words: dict[str, int]) -> bool:
    match = ITEM.fullmatch(item)
    if match is None or (match["step"] and not 0 < int(match["step"]) <= high):
        return False
    if match["any"]:
        return True
    first = _number(match["first"], words)
    last = first if match["last"] is None else _number(match["last"], words)
    return low <= first <= last <= high


def _number(text: str, words: dict[str, int]) -> int:
    """A number as written, or the month or day that a name stands for; -1 for neither."""
    return int(text[:9]) if text.isdecimal() else words.get(text.lower(), -1)


def rrule_problem(text: str) -> str:
    """What is wrong with a recurrence rule (RFC 5545 section 3.3.10); empty when nothing is."""
    if len(text) > MAX_RRULE:
        return f"is longer than {MAX_RRULE} characters"
    try:
        rrulestr(text)
    except (ValueError, TypeError, AttributeError, KeyError, IndexError, OverflowError) as error:
        return f"cannot be read: {error}"  # dateutil raises whatever its parser stumbles over
    if "COUNT=" in text.upper() and "DTSTART" not in text.upper():
        return "counts from 1 January 2020, where Prefect lets every rule begin: write UNTIL, or no end"
    return ""
