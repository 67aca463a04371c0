"""Calendars of other programs, holidays, and our own calendar as a file."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import icalendar
import pytest

from lamplighter.errors import MalformedError
from lamplighter.model.calendar import DAY, Span
from lamplighter.model.ical import Entry, PublicHolidays, holiday_names, to_ics
from lamplighter.model.ical_lines import decode
from lamplighter.model.imported import Imported, problems

ROOT = Path(__file__).parents[2]
STOCKTAKE = decode((ROOT / "inventories" / "demo" / "stocktake.ics").read_bytes())
KOLKATA = "Asia/Kolkata"


def at(text: str, zone: str = "UTC") -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp())


def days(text: str, begin: str, end: str) -> list[tuple[str, str]]:
    zone = ZoneInfo(KOLKATA)
    return [
        (f"{datetime.fromtimestamp(one.span.begins, zone):%Y-%m-%d %H:%M}", one.name)
        for one in Imported(text, KOLKATA).occurrences(at(begin), at(end))
    ]


def test_recurrences_exceptions_and_moved_events() -> None:
    assert problems(STOCKTAKE) == ()
    assert days(STOCKTAKE, "2026-11-15", "2027-04-15") == [
        ("2026-11-30 00:00", "Monthly stocktake"),  # 31 December is an EXDATE
        ("2027-01-31 00:00", "Monthly stocktake"),
        ("2027-02-27 00:00", "Monthly stocktake (moved)"),
        ("2027-03-31 00:00", "Monthly stocktake"),
    ]


def test_holidays_do_not_depend_on_the_language_of_the_machine() -> None:
    script = "from lamplighter.model.ical import holiday_names; print(holiday_names('IN', 'GJ'))"
    told = set()
    for lang in ("C", "gu_IN.UTF-8", "hi_IN.UTF-8"):
        env = {"LANG": lang, "LANGUAGE": lang}
        command = [sys.executable, "-c", script]
        done = subprocess.run(command, check=True, capture_output=True, cwd=ROOT, env=env)
        told.add(done.stdout)
    assert len(told) == 1


def test_holidays_of_gujarat() -> None:
    wanted = PublicHolidays("IN", "GJ", KOLKATA, ("Diwali", "Uttarayan"))
    found = list(wanted.occurrences(at("2026-01-01"), at("2027-01-01")))
    assert [(one.name, datetime.fromtimestamp(one.span.begins, ZoneInfo(KOLKATA)).date().isoformat())
            for one in found] == [("Uttarayan", "2026-01-14"), ("Diwali", "2026-11-08")]
    assert all(one.span.ends - one.span.begins == DAY for one in found)
    with pytest.raises(MalformedError, match="no country"):
        holiday_names("XX", "")
    with pytest.raises(MalformedError, match="no part of"):
        holiday_names("IN", "ZZ")


def test_our_calendar_can_be_read_by_others_and_imported_again() -> None:
    span = Span(at("2026-11-28T20:30"), at("2026-11-29T00:30"))
    entry = Entry(span, "window", "saturday-night", "groups: all; ünïcode, and a comma")
    text = to_ics("demo", [entry], 1000)
    [read] = icalendar.Calendar.from_ical(text).walk("VEVENT")
    assert read["SUMMARY"] == "window: saturday-night"
    assert (read.start, read.end) == tuple(datetime.fromtimestamp(when, UTC) for when in span)
    assert "ünïcode" in read["DESCRIPTION"]
    assert to_ics("demo", [Entry(span, "window", "saturday-night")], 2000).count(str(read["UID"])) == 1
    again = Imported(decode(text.encode()), KOLKATA)
    assert again.occurrences(span.begins - DAY, span.ends + DAY)[0].span == span
