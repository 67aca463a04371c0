"""Calendars of other programs, holidays, and our own calendar as a file."""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import icalendar
import pytest

from lamplighter.errors import MalformedError
from lamplighter.model.calendar import DAY, Span
from lamplighter.model.ical import (
    MAX_EVENTS,
    TOO_LARGE,
    Entry,
    Imported,
    PublicHolidays,
    holiday_names,
    problems,
    to_ics,
)

ROOT = Path(__file__).parents[2]
STOCKTAKE = (ROOT / "inventories" / "demo" / "stocktake.ics").read_text()
KOLKATA = "Asia/Kolkata"


def at(text: str, zone: str = "UTC") -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp())


def event(*lines: str, times: int = 1) -> str:
    body = "\r\n".join(("BEGIN:VEVENT", "UID:1", "SUMMARY:Close", *lines, "END:VEVENT"))
    return "\r\n".join(("BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:x", *[body] * times, "END:VCALENDAR", ""))


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


def test_times_keep_their_zone_and_floating_ones_take_the_sites() -> None:
    zoned = event("DTSTART;TZID=Europe/Berlin:20260329T013000", "DTEND;TZID=Europe/Berlin:20260329T043000")
    [one] = Imported(zoned, KOLKATA).occurrences(at("2026-03-28"), at("2026-03-30"))
    assert one.span == Span(at("2026-03-29T00:30"), at("2026-03-29T02:30")), "two hours: one is skipped"
    floating = event("DTSTART:20260329T013000", "DTEND:20260329T043000")
    assert days(floating, "2026-03-28", "2026-03-30") == [("2026-03-29 01:30", "Close")]


def test_cancelled_events_do_not_count_and_free_ones_do() -> None:
    day = ("DTSTART;VALUE=DATE:20261225", "DTEND;VALUE=DATE:20261226")
    assert days(event(*day, "STATUS:CANCELLED"), "2026-12-20", "2026-12-30") == []
    assert len(days(event(*day, "TRANSP:TRANSPARENT"), "2026-12-20", "2026-12-30")) == 1


@pytest.mark.parametrize(("text", "why"), [
    ("x", "is not iCalendar"),
    ("", "is not iCalendar"),
    ("BEGIN:VCALENDAR\r\nEND:VCALENDAR\r\n", "holds no event"),
    (event("DTSTART;VALUE=DATE:20261225", times=MAX_EVENTS + 1), f"more than {MAX_EVENTS} are not read"),
    (event(), "has no DTSTART"),
    (event("DTSTART;VALUE=DATE:20269930"), "its DTSTART cannot be read"),
    (event("DTSTART;VALUE=DATE:20261225", "RRULE:FREQ=FORTNIGHTLY"), "its RRULE cannot be read"),
    (event("DTSTART:20261225T000000Z", "RRULE:FREQ=MINUTELY"), "more often than daily"),
    (event("DTSTART;TZID=Mars/Olympus:20261225T000000"), "`Mars/Olympus`, which is not known"),
])
def test_what_cannot_be_used_is_told(text: str, why: str) -> None:
    found = problems(text)
    assert len(found) == 1
    assert why in found[0]
    assert "\n" not in found[0]


def test_ten_megabytes_are_refused_at_once() -> None:
    large = event("DTSTART;VALUE=DATE:20261225", "DESCRIPTION:" + "x" * (10 * 1024 * 1024))
    begun = time.monotonic()
    assert problems(large) == (TOO_LARGE,)
    assert time.monotonic() - begun < 1


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
    assert Imported(text, KOLKATA).occurrences(span.begins - DAY, span.ends + DAY)[0].span == span
