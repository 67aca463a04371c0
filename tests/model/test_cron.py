"""Cron rules against a search through every minute."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamplighter.model.cron import cron_times

BEGIN = int(datetime(2026, 1, 1, tzinfo=ZoneInfo("UTC")).timestamp())
DAY = 86400


def told(rule: str, zone: str, begin: str, days: int) -> list[str]:
    low = int(datetime.fromisoformat(begin).replace(tzinfo=ZoneInfo(zone)).timestamp())
    found = cron_times(rule, zone, low, low + days * DAY)
    return [f"{datetime.fromtimestamp(when, ZoneInfo(zone)):%m-%d %H:%M}" for when in found]


@pytest.mark.parametrize(("rule", "expected"), [
    ("30 2 * * 6", ["11-28 02:30"]),
    ("0 9 * * mon-fri/2", ["11-23 09:00", "11-25 09:00", "11-27 09:00"]),
    ("0 9 * * 7", ["11-29 09:00"]),
    ("0 9 24 * fri", ["11-24 09:00", "11-27 09:00"]),  # both given: either day
    ("0 9 */7 * *", ["11-29 09:00"]),
    ("0,30 9 24 11 *", ["11-24 09:00", "11-24 09:30"]),
    ("45/5 9 24 nov *", ["11-24 09:45", "11-24 09:50", "11-24 09:55"]),
    ("0 9 31 11 *", []),
])
def test_what_rules_mean(rule: str, expected: list[str]) -> None:
    assert told(rule, "Asia/Kolkata", "2026-11-23", 7) == expected


def test_clock_changes() -> None:
    spring, autumn = (told("30 2 * * *", "Europe/Berlin", day, 3) for day in ("2026-03-28", "2026-10-24"))
    assert spring == ["03-28 02:30", "03-29 03:30", "03-30 02:30"]
    assert autumn == ["10-24 02:30", "10-25 02:30", "10-26 02:30"]


number = st.integers(0, 59)


@given(st.sets(number, min_size=1, max_size=4), st.sets(st.integers(0, 23), min_size=1, max_size=4),
       st.sets(st.integers(0, 6), min_size=1), st.integers(0, 400), st.integers(1, 4))
def test_every_minute_that_matches_and_no_other(
    minutes: set[int], hours: set[int], weekdays: set[int], start: int, days: int
) -> None:
    begin = BEGIN + start * DAY
    rule = f"{','.join(map(str, minutes))} {','.join(map(str, hours))} * * {','.join(map(str, weekdays))}"
    zone = ZoneInfo("Asia/Kolkata")
    wanted = []
    for when in range(begin, begin + days * DAY, 60):
        local = datetime.fromtimestamp(when, zone)
        if local.minute in minutes and local.hour in hours and local.isoweekday() % 7 in weekdays:
            wanted.append(when)
    assert list(cron_times(rule, "Asia/Kolkata", begin, begin + days * DAY)) == wanted
