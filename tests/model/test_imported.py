"""Calendars of other programs: what they freeze, what is told, and at what cost."""

from __future__ import annotations

import random
import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from dateutil.rrule import rrulestr  # type: ignore[import-untyped]

from lamplighter.errors import MalformedError
from lamplighter.model.ical_lines import MAX_BYTES, decode
from lamplighter.model.imported import Imported, problems, warnings
from lamplighter.model.recurrence import FREQUENCIES, Budget, read_rule, starts

CASES = yaml.safe_load((Path(__file__).parents[1] / "cases" / "calendars.yaml").read_text(encoding="utf-8"))
KOLKATA = "Asia/Kolkata"
DAY = ("DTSTART;VALUE=DATE:20261206",)


def calendar(*events: tuple[str, ...] | list[str], lines: tuple[str, ...] | list[str] = ()) -> str:
    body = []
    for event in events:
        given = {line.partition(":")[0].partition(";")[0] for line in event}
        more = [f"{name}:1" for name in ("UID", "SUMMARY") if name not in given]
        body += ["BEGIN:VEVENT", *more, *event, "END:VEVENT"]
    return "\r\n".join(("BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:x", *lines, *body, "END:VCALENDAR", ""))


def at(text: str) -> int:
    return int(datetime.fromisoformat(str(text)).replace(tzinfo=UTC).timestamp())


def frozen(text: str, zone: str = KOLKATA, begin: str = "2026-12-01", end: str = "2027-04-15") -> list[str]:
    found = sorted({one.span for one in Imported(text, zone).occurrences(at(begin), at(end))})
    return [
        "/".join(f"{datetime.fromtimestamp(when, UTC):%Y-%m-%dT%H:%M}" for when in span) for span in found
    ]


@pytest.mark.parametrize("case", CASES, ids=[each["about"] for each in CASES])
def test_files_of_other_programs(case: dict[str, Any]) -> None:
    zone, begin, end = (
        case.get("zone", KOLKATA),
        str(case.get("from", "2026-12-01")),
        str(case.get("to", "2027-04-15")),
    )
    text = decode(calendar(*case["events"], lines=case.get("calendar", ())).encode())
    said = problems(text, zone)
    assert bool(said) == ("refused" in case), said
    if said:
        assert re.search(case["refused"], "\n".join(said))
        return
    assert frozen(text, zone, begin, end) == sorted(case["freezes"])
    said = warnings(text, zone, at(begin), at(end))
    assert bool(said) == ("warns" in case), said
    assert re.search(case.get("warns", ""), "\n".join(said))


def test_definitions_of_zones_stay_in_their_file() -> None:
    def defined(offset: str) -> str:
        zone = (
            "BEGIN:VTIMEZONE",
            "TZID:Customized Time Zone",
            "BEGIN:STANDARD",
            "DTSTART:16010101T000000",
            f"TZOFFSETFROM:{offset}",
            f"TZOFFSETTO:{offset}",
            "END:STANDARD",
            "END:VTIMEZONE",
        )
        event = ("DTSTART;TZID=Customized Time Zone:20261206T090000", "DURATION:PT1H")
        return calendar(event, lines=zone)

    files = {offset: decode(defined(offset).encode()) for offset in ("+0530", "-0700")}
    for _ in range(2):
        assert frozen(files["+0530"]) == ["2026-12-06T03:30/2026-12-06T04:30"]
        assert frozen(files["-0700"]) == ["2026-12-06T16:00/2026-12-06T17:00"]


PLAIN = calendar((*DAY, "SUMMARY:દિવાળી ની રજા"))
FOLDED = PLAIN.encode().replace("ળ".encode(), "ળ".encode()[:1] + b"\r\n " + "ળ".encode()[1:])


@pytest.mark.parametrize(
    "data",
    [
        PLAIN.replace("\r\n", "\n").encode(),
        PLAIN.replace("\r\n", "\r").encode(),
        b"\xef\xbb\xbf" + PLAIN.encode(),
        PLAIN.encode("utf-16"),
        PLAIN.encode("utf-16-be"),
        PLAIN.encode("utf-16-le"),
        FOLDED,
        FOLDED.replace(b"\r\n ", b"\n\t"),
        PLAIN.replace("\r\n", "\r\n\r\n").encode(),
        PLAIN.replace("BEGIN:VEVENT", "begin:vevent").replace("DTSTART;VALUE", "dtstart;value").encode(),
        (PLAIN + "\r\nSent from my telephone\r\n").encode(),
        PLAIN.replace("END:VEVENT", "note without colon\r\nEND:VEVENT").encode(),
    ],
    ids=[
        "LF",
        "CR",
        "UTF-8 mark",
        "UTF-16",
        "UTF-16BE",
        "UTF-16LE",
        "folded in a letter",
        "folded by tab",
        "blank lines",
        "lower case",
        "text behind",
        "a broken line that names nothing",
    ],
)
def test_bytes_as_programs_write_them(data: bytes) -> None:
    text = decode(data)
    assert problems(text) == ()
    [one] = Imported(text, KOLKATA).occurrences(at("2026-12-01"), at("2027-01-01"))
    assert one.name == "દિવાળી ની રજા"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"<html><body>Sign in</body></html>", "is not iCalendar"),
        (b"", "is not iCalendar"),
        (
            "BEGIN:VCALENDAR\nSUMMARY:caf\u00e9".encode("latin-1"),
            "is not UTF-8: byte 0xe9 after `SUMMARY:caf`",
        ),
        (PLAIN.encode()[:-15], "breaks off"),
        (PLAIN.replace("DTSTART;VALUE=DATE:20261206", "DTSTART").encode(), "cannot be read: `DTSTART`"),
        (
            b"BEGIN:VCALENDAR\r\nBEGIN:VTODO\r\nSUMMARY:q\r\nEND:VTODO\r\nEND:VCALENDAR",
            "holds no event.*VTODO",
        ),
        (b"BEGIN:VCALENDAR\r\nEND:VCALENDAR\r\n", "holds no event"),
        (b"x" * (MAX_BYTES + 1), "is larger than"),
        (b"BEGIN:VCALENDAR\r\n" + b"BEGIN:X-A\r\n" * 1000, "nested deeper"),
    ],
)
def test_what_cannot_be_read_is_told(data: bytes, why: str) -> None:
    try:
        said = problems(decode(data))
    except MalformedError as error:
        said = (error.message,)
    assert len(said) == 1
    assert re.search(why, said[0])
    assert "\n" not in said[0]


def test_cost_is_bounded_and_the_count_is_not() -> None:
    begun = time.thread_time()
    days = [
        (datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=number)).strftime("%Y%m%d")
        for number in range(10_000)
    ]
    many = decode(calendar(*((f"DTSTART;VALUE=DATE:{day}",) for day in days)).encode())
    assert problems(many, KOLKATA) == ()
    assert len(frozen(many, KOLKATA, "2026-12-01", "2026-12-11")) == 11
    long = decode(
        calendar(("DTSTART:20261130T230000", "DURATION:PT30M", "RRULE:FREQ=DAILY;COUNT=100000")).encode()
    )
    assert problems(long, KOLKATA) == ()
    assert len(frozen(long, KOLKATA, "2026-12-01", "2026-12-11")) == 10
    heavy = (
        "DTSTART:19000101T000000",
        "DURATION:PT5M",
        "RRULE:FREQ=DAILY;COUNT=9999999;BYHOUR=1,2,3,4,5,6,7,8,9",
    )
    [why] = problems(decode(calendar(*[heavy, ("DTSTART:20261206T000000", "DURATION:PT1H")] * 10).encode()))
    assert "too long" in why
    dates = ",".join(f"{day}T000000" for day in days)
    changed = [(f"RECURRENCE-ID;VALUE=DATE:{day}", f"DTSTART;VALUE=DATE:{day}") for day in days[:2000]]
    masters = [("DTSTART;VALUE=DATE:20261206", "RRULE:FREQ=DAILY", f"EXDATE:{dates}")] * 15
    problems(decode(calendar(*masters, *changed).encode()))
    assert time.thread_time() - begun < 8, "seconds of CPU"


def test_rules_are_worked_out_as_dateutil_does() -> None:
    """Random rules that fit somewhere: the library has no end where nothing fits."""
    chance = random.Random(5545)  # noqa: S311 - cases, no secrets
    for _ in range(200):
        text, first = _random_rule(chance)
        low = first + timedelta(days=chance.randint(0, 2000))
        high = low + timedelta(days=400)
        until = "" if "COUNT" in text else f";UNTIL={high:%Y%m%dT%H%M%S}"
        wanted = [one for one in rrulestr(text + until, dtstart=first) if low <= one <= high]
        assert list(starts(read_rule(text), first, low, high, Budget(10**6))) == wanted, (text, first, low)


def _random_rule(chance: random.Random) -> tuple[str, datetime]:
    freq = chance.choice(FREQUENCIES)
    parts = [f"FREQ={freq}"]
    rare = {
        f"INTERVAL={chance.randint(1, 3)}": 0.4,
        f"COUNT={chance.randint(1, 60)}": 0.4,
        "BYMONTH=" + ",".join(map(str, chance.sample(range(1, 13), 2))): 0.3,
        "BYDAY=" + ",".join(chance.sample(["MO", "TU", "WE", "TH", "FR", "SA", "SU"], 3)): 0.3,
        f"BYHOUR={chance.randint(0, 12)},{chance.randint(13, 23)}": 0.2,
        f"WKST={chance.choice(['SU', 'MO', 'WE'])}": 0.3,
    }
    parts += [part for part, share in rare.items() if chance.random() < share]
    if freq in {"MONTHLY", "YEARLY"} and not any(part.startswith("BYDAY") for part in parts):
        choice = chance.choice(
            ["BYMONTHDAY=1,-1,15", "BYDAY=1MO,-1FR", "BYDAY=2TU,-2WE", "BYYEARDAY=1,100,-1", "BYMONTHDAY=31"]
        )
        parts.append(choice if freq == "YEARLY" or "YEARDAY" not in choice else "BYDAY=3SA")
    if any(part.startswith("BYDAY") for part in parts) and freq != "DAILY" and chance.random() < 0.3:
        parts.append(f"BYSETPOS={chance.choice(['1', '-1', '1,-1'])}")
    hour = chance.randint(0, 23)
    return ";".join(parts), datetime(  # noqa: DTZ001 - local
        chance.randint(2015, 2026), chance.randint(1, 12), chance.randint(1, 28), hour, 30
    )
