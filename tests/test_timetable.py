"""Schedules: times are Prefect's, and a run is a schedule's only when its site declares all of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamplighter.derive.agenda import agenda
from lamplighter.derive.catalogue import discover
from lamplighter.derive.prefect_yaml import offered, prefect_yaml
from lamplighter.derive.timetable import declared, is_start, starts
from lamplighter.errors import NotApprovedError, SelectionError
from lamplighter.site import Deployment, Schedule, Site, load_site
from lamplighter.site.schedule import cron_problem, rrule_problem

ROOT = Path(__file__).parent.parent
DAY = 86400
BERLIN, KOLKATA = "Europe/Berlin", "Asia/Kolkata"


def schedule(rule: str, zone: str, *, active: bool = True) -> Schedule:
    return Schedule("" if "=" in rule else rule, rule if "=" in rule else "", zone, active)


def second(text: str, zone: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp())


def told(rule: str, zone: str, begin: str, days: int) -> list[str]:
    low = second(begin, zone)
    found = starts(schedule(rule, zone), low, low + days * DAY)
    return [f"{datetime.fromtimestamp(when, ZoneInfo(zone)):%m-%d %H:%M}" for when in found]


CASES = [
    ("30 2 * * 6", KOLKATA, "2026-11-23", 7, ["11-28 02:30"]),
    ("0 9 * * 7", KOLKATA, "2026-11-23", 7, ["11-29 09:00"]),
    ("0 9 24 * fri", KOLKATA, "2026-11-23", 7, ["11-24 09:00", "11-27 09:00"]),  # both given: either day
    # A day of the month with a step is a day that is given: crontab(5)'s "starts with *" is not asked here.
    ("0 0 */2 * 1", BERLIN, "2026-11-23", 9, [
        "11-23 00:00", "11-25 00:00", "11-27 00:00", "11-29 00:00", "11-30 00:00", "12-01 00:00",
    ]),
    ("45/5 9 24 nov *", KOLKATA, "2026-11-23", 7, ["11-24 09:45", "11-24 09:50", "11-24 09:55"]),
    ("30 2 * * *", BERLIN, "2026-03-28", 3, ["03-28 02:30", "03-29 03:30", "03-30 02:30"]),
    ("30 2 * * *", BERLIN, "2026-10-24", 3, ["10-24 02:30", "10-25 02:30", "10-26 02:30"]),
    ("*/20 2 * * *", BERLIN, "2026-03-29", 1, ["03-29 03:00", "03-29 03:20", "03-29 03:40"]),
    ("*/20 2,3 * * *", BERLIN, "2026-03-29", 1, ["03-29 03:00", "03-29 03:20", "03-29 03:40"]),
    ("0 1-4 * * *", BERLIN, "2026-10-25", 1, ["10-25 01:00", "10-25 02:00", "10-25 03:00", "10-25 04:00"]),
    # A recurrence rule without a beginning begins on 1 January 2020, a Wednesday, at midnight.
    ("FREQ=WEEKLY;INTERVAL=2", KOLKATA, "2026-11-24", 30, ["11-25 00:00", "12-09 00:00", "12-23 00:00"]),
    ("FREQ=MONTHLY;BYDAY=2TU;BYHOUR=10;BYMINUTE=30;BYSECOND=0", KOLKATA, "2026-11-24", 60, [
        "12-08 10:30", "01-12 10:30",
    ]),
]


@pytest.mark.parametrize(("rule", "zone", "begin", "days", "expected"), CASES)
def test_when_rules_start(rule: str, zone: str, begin: str, days: int, expected: list[str]) -> None:
    assert told(rule, zone, begin, days) == expected
    assert (rrule_problem if "=" in rule else cron_problem)(rule) == ""


@pytest.mark.parametrize(("rule", "why"), [
    ("0 0 31 2 *", "never comes"), ("0 0 30-31 feb *", "never comes"), ("0 0 31 4,6,9,nov *", "never comes"),
    ("0 0 31 */11 *", ""), ("0 0 29 2 *", ""), ("0 0 31 2 mon", "never comes"), ("0 0 28/3 2 *", ""),
    ("FREQ=DAILY;COUNT=3", "2020"), ("freq=daily;count=3", "2020"), ("FREQ=DAILY;UNTIL=20300101T000000", ""),
])
def test_rules_that_never_come_are_told(rule: str, why: str) -> None:
    told = (rrule_problem if "=" in rule else cron_problem)(rule)
    assert why in told
    assert bool(told) == bool(why)
    now = second("2026-11-24", "UTC")
    comes = next(starts(schedule(rule, "UTC"), now, now + 5 * 366 * DAY), None) is not None
    assert comes == (not told)


RULES = st.sampled_from([(rule, zone) for rule, zone, *_ in CASES] + [("*/5 * * * *", BERLIN)])


@settings(max_examples=60)
@given(RULES, st.integers(0, 700 * DAY), st.lists(st.integers(1, 5 * DAY), min_size=1, max_size=4))
def test_when_one_looks_changes_nothing(of: tuple[str, str], begin: int, parts: list[int]) -> None:
    """The server looks again every minute, from then on: a run has its time at whatever pass it is made."""
    rule, low = schedule(*of), second("2026-01-01", "UTC") + begin
    edges = [low]
    for part in parts:
        edges.append(edges[-1] + part)
    whole = list(starts(rule, low, edges[-1]))
    pieces = [when for a, b in pairwise(edges) for when in starts(rule, a, b)]
    assert pieces == whole
    assert all(is_start(rule, when) for when in whole[:20])
    assert not any(is_start(rule, when + 1) for when in whole[:20])


@pytest.fixture(scope="module")
def site() -> Site:
    return load_site(ROOT / "inventories" / "demo")


def monthly(site: Site) -> Deployment:
    return next(one for one in site.deployments if one.name == "web-prod-monthly")


def test_the_agenda_shows_what_starts(site: Site) -> None:
    low = second("2026-11-24", KOLKATA)
    shown = [each for each in agenda(site, low, low + 20 * DAY) if each.kind == "run"]
    found = [each.span.begins for each in shown if each.name == "patch-linux/web-prod-monthly"]
    assert found == [second("2026-12-08 10:30", KOLKATA)]


GIVEN = {
    "site": "demo", "hosts": "web:&prod", "packages": "all", "requester": "schedule:web-prod-monthly",
}
DUE = second("2026-12-08 10:30", KOLKATA)


def test_a_declared_schedule_is_named(site: Site) -> None:
    assert declared(discover(ROOT)["patch-linux"], site, "web-prod-monthly", GIVEN, DUE) == "web-prod-monthly"


@pytest.mark.parametrize(("name", "given", "due", "why"), [
    ("nightly", GIVEN, DUE, "no deployment of that name"),
    ("Web-prod-monthly", GIVEN, DUE, "no deployment of that name"),
    ("service-desk", GIVEN, DUE, "no deployment of that name"),  # another runbook's
    ("x\x1b[31m\n# approved", GIVEN, DUE, r"'x\\x1b\[31m\\n# approved'"),
    ("web-prod-monthly", {**GIVEN, "hosts": "all"}, DUE, "other parameters: 'hosts'"),
    ("web-prod-monthly", {**GIVEN, "override": "now"}, DUE, "other parameters: 'override'"),
    ("web-prod-monthly", {**GIVEN, "requester": ""}, DUE, "other parameters: 'requester'"),
    ("web-prod-monthly", {**GIVEN, "packages": "security"}, DUE, "other parameters: 'packages'"),
    ("web-prod-monthly", GIVEN, DUE + 1, "start nothing at 2026-12-08 05:00:01 UTC"),
    ("web-prod-monthly", GIVEN, DUE - 7 * DAY, "start nothing at"),
])
def test_nothing_else_is_a_schedule(
    site: Site, name: str, given: Mapping[str, Any], due: int, why: str
) -> None:
    with pytest.raises(NotApprovedError, match=why) as caught:
        declared(discover(ROOT)["patch-linux"], site, name, given, due)
    assert "\x1b" not in str(caught.value)


def test_true_is_not_one(site: Site) -> None:
    changed = replace(monthly(site), options={"packages": "all", "repair": True})
    place, given = replace(site, deployments=(changed,)), {**GIVEN, "repair": 1}
    with pytest.raises(NotApprovedError, match="'repair'"):
        declared(discover(ROOT)["patch-linux"], place, "web-prod-monthly", given, DUE)


def test_a_schedule_that_is_switched_off_starts_nothing(site: Site) -> None:
    off = tuple(replace(one, active=False) for one in monthly(site).schedules)
    place = replace(site, deployments=(replace(monthly(site), schedules=off),))
    with pytest.raises(NotApprovedError, match="switched on"):
        declared(discover(ROOT)["patch-linux"], place, "web-prod-monthly", GIVEN, DUE)


def test_names_say_what_is_done_and_are_one_sites(site: Site) -> None:
    assert offered(site, "reset-password") == "reset-password/service-desk"
    with pytest.raises(SelectionError, match="no deployment of verify-backups"):
        offered(site, "verify-backups")
    with pytest.raises(SelectionError, match=r"has a deployment patch-linux/all-weekly as well"):
        prefect_yaml(discover(ROOT), [site, replace(site, name="other")])
