"""Time zones as iCalendar files name and define them (RFC 5545 sections 3.2.19 and 3.6.5).

A name of the IANA database is that zone, also behind a program's prefix; else the file's own VTIMEZONE
counts; else a Windows name is its zone, by CLDR's table. What none of these explains is nobody's guess.
Definitions belong to their file: icalendar keeps one table of them a process, and one customer's "Customized
Time Zone" would move another's freezes.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from typing import Protocol
from zoneinfo import ZoneInfo, available_timezones

from icalendar.timezone.windows_to_olson import WINDOWS_TO_OLSON

from lamplighter.errors import MalformedError
from lamplighter.model.recurrence import Budget, read_rule, starts

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - local times are counted without their zone
_OFFSET = re.compile(r"([+-])(\d\d)(\d\d)(\d\d)?", re.ASCII)
_FROM, _TO = datetime(1970, 1, 1), datetime(2101, 1, 1)  # noqa: DTZ001
"""Clock changes of rules are worked out between these."""
_MOST = 10**6
"""More seconds than any offset has."""
_NO_ZONES = {"localtime", "Factory", "posixrules"}


class Zone(Protocol):
    """Turns local times into instants."""

    def instant(self, local: datetime) -> int:
        """Seconds since the epoch; a skipped time with the offset before, one that comes twice the first."""


@dataclass(frozen=True, slots=True)
class Iana:
    """A zone of the IANA database."""

    name: str

    def instant(self, local: datetime) -> int:
        """See `Zone`."""
        offset = local.replace(tzinfo=ZoneInfo(self.name)).utcoffset() or timedelta()
        return seconds(local) - offset // timedelta(seconds=1)

    def local(self, instant: int) -> datetime:
        """The local time at an instant."""
        return datetime.fromtimestamp(instant, ZoneInfo(self.name)).replace(tzinfo=None)


UTC_ZONE = Iana("UTC")


@dataclass(frozen=True, slots=True)
class Defined:
    """A VTIMEZONE.

    Attributes:
        onsets: local times at which an offset begins, as the clock showed them before, in order, each with
            the offset before and after, in seconds.
    """

    onsets: tuple[tuple[datetime, int, int], ...]

    def instant(self, local: datetime) -> int:
        """See `Zone`."""
        place = bisect_right(self.onsets, (local, _MOST, _MOST))
        if not place:
            return seconds(local) - self.onsets[0][1]
        onset, before, after = self.onsets[place - 1]
        skipped = local < onset + timedelta(seconds=max(0, after - before))
        return seconds(local) - (before if skipped else after)


def seconds(local: datetime) -> int:
    """From 1970-01-01T00:00 of the same clock."""
    return (local - _EPOCH) // timedelta(seconds=1)


@lru_cache(maxsize=1)
def _iana() -> dict[str, str]:
    return {name.lower(): name for name in sorted(available_timezones() - _NO_ZONES)}


def zone_of(name: str, definitions: Mapping[str, Zone]) -> Zone | None:
    """What a TZID means in a file; None when nothing.

    Args:
        name: as written.
        definitions: the file's own.
    """
    return _database(name) or definitions.get(name) or _windows(name)


def _database(name: str) -> Zone | None:
    found = _iana().get(name.lower())
    if found is None and name.startswith("/"):  # `/mozilla.org/20050126_1/Europe/Berlin`
        parts = name.lower().split("/")
        found = next(filter(None, (_iana().get("/".join(parts[-size:])) for size in (3, 2, 1))), None)
    return Iana(found) if found else None


def _windows(name: str) -> Zone | None:
    found = WINDOWS_TO_OLSON.get(name)
    return Iana(found) if found else None


def define(observances: Iterable[Mapping[str, list[str]]], budget: Budget) -> Defined:
    """Make a zone of a VTIMEZONE's STANDARD and DAYLIGHT parts.

    Args:
        observances: values by property name.
        budget: what working it out may cost.

    Raises:
        MalformedError: it cannot be read.
    """
    onsets = [onset for each in observances for onset in _onsets(each, budget)]
    if not onsets:
        raise MalformedError("it has neither STANDARD nor DAYLIGHT")
    return Defined(tuple(sorted(onsets)))


def _onsets(observance: Mapping[str, list[str]], budget: Budget) -> Iterable[tuple[datetime, int, int]]:
    try:
        before, after = (_offset(observance[name][0]) for name in ("TZOFFSETFROM", "TZOFFSETTO"))
        first = read_local(observance["DTSTART"][0])
    except KeyError as error:
        raise MalformedError(f"it has no {error.args[0]}") from error
    yield first, before, after
    for value in observance.get("RDATE", []):
        yield from ((read_local(one), before, after) for one in value.split(","))
    for text in observance.get("RRULE", []):
        rule = read_rule(text)
        end = _TO if not rule.until else read_local(rule.until.removesuffix("Z"))
        if rule.until.endswith("Z"):
            end += timedelta(seconds=before)
        for onset in starts(rule, first, _FROM, min(end, _TO), budget):
            if onset != first:
                yield onset, before, after


def _offset(text: str) -> int:
    match = _OFFSET.fullmatch(text.strip())
    if match is None:
        raise MalformedError(f"`{text[:20]}` is no offset")
    amount = int(match[2]) * 3600 + int(match[3]) * 60 + int(match[4] or 0)
    return -amount if match[1] == "-" else amount


def read_local(text: str) -> datetime:
    """A DATE or a DATE-TIME without its `Z` (RFC 5545 sections 3.3.4 and 3.3.5).

    Raises:
        MalformedError: it is neither.
    """
    match = re.fullmatch(r"(\d{4})(\d\d)(\d\d)(?:T(\d\d)(\d\d)(\d\d)?)?", text.strip().upper(), re.ASCII)
    if match is None:
        raise MalformedError(f"`{text[:30]}` cannot be read")
    year, month, day, hour, minute, second = (int(part or 0) for part in match.groups())
    try:
        midnight = datetime.combine(date(year, month, day), time())
        if (hour, minute, second) == (24, 0, 0):
            return midnight + timedelta(days=1)
        return midnight.replace(hour=hour, minute=minute, second=59 if second == 60 else second)  # noqa: PLR2004 - leap
    except (ValueError, OverflowError) as error:
        raise MalformedError(f"`{text[:30]}` cannot be read: there is no such time") from error
