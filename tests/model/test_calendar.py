"""Windows and freezes: rules as properties, and the dates on which calendars go wrong."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamplighter.model.calendar import (
    DAY,
    Calendar,
    Freeze,
    MaintenanceWindow,
    Rule,
    Span,
    intersect,
    merge,
    needs_first,
    rrule_problem,
    subtract,
)
from lamplighter.model.inventory import Host

BERLIN, KOLKATA = "Europe/Berlin", "Asia/Kolkata"
HOUR = 3600
WEB, DB, BOTH = Host("web1", ("web",)), Host("db1", ("db",)), Host("both", ("db", "web"))
ALL = ("all",)


def at(text: str, zone: str = "UTC") -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp())


def window(
    rrule: str = "", zone: str = KOLKATA, *, groups: tuple[str, ...] = ALL, **how: object
) -> MaintenanceWindow:
    return MaintenanceWindow("w", groups, Rule(zone, rrule, **how))  # type: ignore[arg-type]


def freeze(first: str, days: int = 1, zone: str = KOLKATA, groups: tuple[str, ...] = ALL) -> Freeze:
    return Freeze("f", "why", "who", groups, Rule(zone, first=date.fromisoformat(first), days=days))


def days_of(rule: Rule, begin: str, end: str) -> list[str]:
    zone = ZoneInfo(rule.zone)
    spans = (each.span for each in rule.occurrences(at(begin), at(end)))
    return [f"{datetime.fromtimestamp(span.begins, zone):%Y-%m-%d}" for span in spans]


# --- clock changes, leap days, month ends ---------------------------------------------------------


@pytest.mark.parametrize(("day", "clock", "opens", "closes"), [
    ("2026-03-29", 150, "2026-03-29T01:30", "2026-03-29T05:30"),  # no 02:30: it is 03:30
    ("2026-03-29", 60, "2026-03-29T00:00", "2026-03-29T04:00"),  # across the change: exactly four hours
    ("2026-10-25", 150, "2026-10-25T00:30", "2026-10-25T04:30"),  # 02:30 comes twice: the first one
    ("2026-10-25", 60, "2026-10-24T23:00", "2026-10-25T03:00"),
])
def test_windows_across_clock_changes(day: str, clock: int, opens: str, closes: str) -> None:
    calendar = Calendar((window("FREQ=WEEKLY;BYDAY=SU", BERLIN, at=clock, seconds=4 * HOUR),))
    found = calendar.next_opening(WEB, at(f"{day}T00:00", BERLIN) - HOUR)
    assert found == Span(at(opens), at(closes))


@pytest.mark.parametrize(("day", "hours"), [("2026-03-29", 23), ("2026-10-25", 25), ("2026-10-26", 24)])
def test_a_frozen_day_is_as_long_as_the_day(day: str, hours: int) -> None:
    frozen = freeze(day, zone=BERLIN)
    [found] = frozen.dates.occurrences(at(day) - DAY, at(day) + 2 * DAY)
    assert found.span.ends - found.span.begins == hours * HOUR
    assert found.span.begins == at(f"{day}T00:00", BERLIN)


def test_month_ends_and_leap_days() -> None:
    last = Rule(KOLKATA, "FREQ=MONTHLY;BYMONTHDAY=-1", seconds=HOUR)
    ends = ["2028-01-31", "2028-02-29", "2028-03-31", "2028-04-30"]
    assert days_of(last, "2028-01-01", "2028-05-01") == ends
    thirty_first = Rule(KOLKATA, "FREQ=MONTHLY;BYMONTHDAY=31", days=1)
    assert len(days_of(thirty_first, "2027-01-01", "2027-12-31")) == 7
    leap = Rule(KOLKATA, "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29", date(2024, 2, 29), days=1)
    assert days_of(leap, "2024-01-01", "2033-01-01") == ["2024-02-29", "2028-02-29", "2032-02-29"]


def test_an_annual_freeze_over_the_new_year_is_there_in_january() -> None:
    rule = Rule(KOLKATA, "FREQ=YEARLY;BYMONTH=12;BYMONTHDAY=21", date(2026, 12, 21), days=14)
    calendar = Calendar((), (Freeze("year-end", "books", "who", ALL, rule),))
    assert not calendar.open_at(WEB, at("2028-01-03T12:00", KOLKATA))
    assert calendar.open_at(WEB, at("2028-01-04T00:00", KOLKATA))
    assert calendar.open_at(WEB, at("2026-01-02T12:00", KOLKATA)), "not before its first year"


def test_every_other_week_counts_from_its_first_day_whenever_it_is_asked() -> None:
    rule = Rule(KOLKATA, "FREQ=WEEKLY;INTERVAL=2;BYDAY=TU", date(2026, 1, 6), seconds=HOUR)
    assert days_of(rule, "2026-01-01", "2026-02-10") == ["2026-01-06", "2026-01-20", "2026-02-03"]
    assert days_of(rule, "2026-01-25", "2026-02-10") == ["2026-02-03"]
    assert needs_first(rule.rrule)


# --- groups, freezes, a run's window --------------------------------------------------------------


def test_a_hosts_windows_are_those_of_all_its_groups() -> None:
    calendar = Calendar((
        window("FREQ=WEEKLY;BYDAY=SA", groups=("web",), seconds=HOUR),
        window("FREQ=WEEKLY;BYDAY=SU", groups=("db",), seconds=HOUR),
    ))
    saturday, sunday = at("2026-11-28T00:30", KOLKATA), at("2026-11-29T00:30", KOLKATA)
    assert [calendar.open_at(host, saturday) for host in (WEB, DB, BOTH)] == [True, False, True]
    assert [calendar.open_at(host, sunday) for host in (WEB, DB, BOTH)] == [False, True, True]
    assert calendar.open_at(Host("other"), saturday + DAY * 3), "no window is written for it"
    assert not Calendar(calendar.windows, closed_outside=True).open_at(Host("other"), saturday)
    assert calendar.common([WEB, BOTH], saturday - DAY) == Span(saturday - HOUR // 2, saturday + HOUR // 2)
    assert calendar.common([WEB, DB], saturday) is None


def test_a_freeze_wins_unless_it_is_set_aside() -> None:
    calendar = Calendar((window("FREQ=WEEKLY;BYDAY=SA", seconds=4 * HOUR),), (freeze("2026-11-28"),))
    when = at("2026-11-28T01:00", KOLKATA)
    assert not calendar.open_at(WEB, when)
    assert calendar.frozen(WEB, when) == ("f (why; who)",)
    assert calendar.open_at(WEB, when, override=True)
    assert calendar.next_opening(WEB, when) == Span(*(at(f"2026-12-05T0{h}:00", KOLKATA) for h in (0, 4)))


def test_a_freeze_cuts_a_window_short() -> None:
    friday_night = window("FREQ=WEEKLY;BYDAY=FR", at=22 * 60, seconds=6 * HOUR)
    calendar = Calendar((friday_night,), (freeze("2026-11-28"),))
    assert calendar.closes_at(WEB, at("2026-11-27T23:00", KOLKATA)) == at("2026-11-28T00:00", KOLKATA)


def test_without_windows_and_freezes_nothing_ever_closes() -> None:
    assert Calendar().closes_at(WEB, 1000) == 0
    assert Calendar().common([WEB, DB], 1000) == Span(0, 0)
    assert Calendar(closed_outside=True).common([WEB], 1000) is None


def test_a_rule_that_fits_no_day_never_opens_and_costs_no_time() -> None:
    for rrule in ("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30", "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=31"):
        assert Calendar((window(rrule, seconds=HOUR),)).next_opening(WEB, at("2026-01-01T00:00")) is None


@pytest.mark.parametrize(("rrule", "first", "why"), [
    ("FREQ=HOURLY", None, "must be DAILY"),
    ("BYDAY=MO", None, "must be DAILY"),
    ("FREQ=WEEKLY;BYDAY=MO;COUNT=3", None, "write `until`"),
    ("FREQ=WEEKLY;BYDAY=MO;UNTIL=20270101", None, "write `until`"),
    ("FREQ=DAILY;BYHOUR=3", None, "write `at`"),
    ("FREQ=WEEKLY", None, "write `from"),
    ("FREQ=MONTHLY;INTERVAL=3;BYDAY=1MO", None, "write `from"),
    ("FREQ=WEEKLY;BYDAY=XX", None, "cannot be read"),
    ("FREQ=WEEKLY", date(2026, 1, 1), ""),
    ("FREQ=MONTHLY;BYDAY=2TU", None, ""),
])
def test_rules_that_say_too_little_or_too_much(rrule: str, first: date | None, why: str) -> None:
    assert why in rrule_problem(rrule, first)
    assert bool(why) == bool(rrule_problem(rrule, first))


# --- properties -----------------------------------------------------------------------------------

BEGIN = at("2026-01-01T00:00")
moments = st.integers(BEGIN, BEGIN + 800 * DAY)
zones = st.sampled_from([BERLIN, KOLKATA, "America/St_Johns", "Australia/Lord_Howe", "UTC"])
weekdays = st.sets(st.sampled_from(["MO", "TU", "WE", "TH", "FR", "SA", "SU"]), min_size=1)
groups = st.sampled_from([ALL, ("web",), ("db",), ("web", "db")])
rules = st.builds(
    lambda zone, days, clock, minutes: Rule(
        zone, f"FREQ=WEEKLY;BYDAY={','.join(sorted(days))}", at=clock, seconds=minutes * 60
    ),
    zones, weekdays, st.integers(0, 1439), st.integers(1, 3 * 1440),
)
freezes = st.builds(
    lambda zone, day, length, who: Freeze("f", "why", "who", who, Rule(zone, first=day, days=length)),
    zones, st.dates(date(2026, 1, 1), date(2028, 3, 1)), st.integers(1, 40), groups,
)
calendars = st.builds(
    Calendar, st.lists(st.builds(MaintenanceWindow, st.just("w"), groups, rules), max_size=3).map(tuple),
    st.lists(freezes, max_size=3).map(tuple), st.booleans(),
)
hosts = st.sampled_from([WEB, DB, BOTH, Host("other")])


def oracle(calendar: Calendar, host: Host, when: int) -> bool:
    """The rules, said again without intervals: local days are walked one by one."""
    mine = {"all", *host.groups}

    def holds(rule: Rule) -> bool:
        zone = ZoneInfo(rule.zone)
        today = datetime.fromtimestamp(when, zone).date()
        for back in range(45):
            day = today - timedelta(days=back - 1)
            names = [part for part in rule.rrule.rpartition("=")[2].split(",") if part]
            if day == rule.first if not rule.rrule else f"{day:%a}"[:2].upper() in names:
                begins = utc_of(day, rule.at, zone)
                after = day + timedelta(days=rule.days)
                ends = utc_of(after, 0, zone) if rule.days else begins + rule.seconds
                if begins <= when < ends:
                    return True
        return False

    windows = [each.rule for each in calendar.windows if mine & set(each.groups)]
    allowed = any(map(holds, windows)) if windows else not calendar.closed_outside
    frozen = any(holds(each.dates) for each in calendar.freezes if mine & set(each.groups))  # type: ignore[arg-type]
    return allowed and not frozen


def utc_of(day: date, minutes: int, zone: ZoneInfo) -> int:
    """A local time as RFC 5545 reads it, by trying every offset that is in force around it."""
    wanted = datetime(day.year, day.month, day.day) + timedelta(minutes=minutes)  # noqa: DTZ001 - local
    guess = int(wanted.replace(tzinfo=UTC).timestamp())
    around = [offset(zone, guess + hours * HOUR) for hours in range(-36, 37, 6)]
    fits = [one for one in around if datetime.fromtimestamp(guess - one, zone).replace(tzinfo=None) == wanted]
    return guess - (max(fits) if fits else around[0])


def offset(zone: ZoneInfo, when: int) -> int:
    found = datetime.fromtimestamp(when, zone).utcoffset()
    assert found is not None
    return int(found.total_seconds())


@given(calendars, hosts, moments)
def test_open_is_what_the_rules_say(calendar: Calendar, host: Host, when: int) -> None:
    assert calendar.open_at(host, when) == oracle(calendar, host, when)


@given(calendars, hosts, moments)
def test_openings_and_closings_agree(calendar: Calendar, host: Host, when: int) -> None:
    opening = calendar.next_opening(host, when)
    closes = calendar.closes_at(host, when)
    if calendar.open_at(host, when):
        assert opening is not None
        assert when in opening
        assert closes == 0 or (closes > when and calendar.open_at(host, closes - 1))
        assert closes == 0 or not calendar.open_at(host, closes)
    else:
        assert closes == when
        if opening is not None:
            assert opening.begins > when
            assert calendar.open_at(host, opening.begins)
            assert not calendar.open_at(host, opening.begins - 1)
            middle = when + (opening.begins - when) // 2
            assert not calendar.open_at(host, middle)


@given(calendars, st.lists(hosts, min_size=1, max_size=4), moments)
def test_a_runs_window_is_open_for_every_host_and_there_is_none_before(
    calendar: Calendar, chosen: list[Host], when: int
) -> None:
    found = calendar.common(chosen, when)
    first = max(found.begins, when) if found else when + 20 * DAY
    if found:
        for moment in (first, (found.ends or first + 1) - 1):
            assert all(calendar.open_at(host, moment) for host in chosen)
        assert not found.ends or not all(calendar.open_at(host, found.ends) for host in chosen)
    for moment in range(when, min(first, when + 20 * DAY), DAY // 3):
        assert not all(calendar.open_at(host, moment) for host in chosen)


@given(calendars, hosts, moments)
def test_setting_freezes_aside_only_ever_opens(calendar: Calendar, host: Host, when: int) -> None:
    if calendar.open_at(host, when):
        assert calendar.open_at(host, when, override=True)
    bare = Calendar(calendar.windows, (), calendar.closed_outside)
    assert calendar.open_at(host, when, override=True) == bare.open_at(host, when)


spans = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 12)).map(lambda p: Span(p[0], p[0] + p[1])))


def seconds(spans_: object) -> set[int]:
    return {second for span in spans_ for second in range(span.begins, span.ends)}  # type: ignore[attr-defined]


@given(spans, spans)
def test_spans_are_sets_of_seconds(first: list[Span], second: list[Span]) -> None:
    one, two = merge(first), merge(second)
    assert seconds(one) == seconds(first)
    assert all(before.ends < after.begins for before, after in pairwise(one))
    assert seconds(intersect(one, two)) == seconds(first) & seconds(second)
    assert seconds(subtract(one, two)) == seconds(first) - seconds(second)
