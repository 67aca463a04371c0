"""Schedules on a real server: they fire by themselves, and no service of the server fails meanwhile."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any, TypeAlias

import pytest

from tests.lab.demo_site import DemoSite
from tests.lab.prefect_api import FINAL
from tests.lab.prefect_stack import PrefectStack
from tests.prefectkit import Desk

pytestmark = [pytest.mark.lab, pytest.mark.prefect, pytest.mark.timeout(600)]
Runs: TypeAlias = dict[str, list[dict[str, Any]]]
LASTS = 80
"""Seconds for which the schedules start runs, every twenty: a busy machine is not to drown in them."""
MINUTE = 60
"""Every service of the server has its turn in that time; the slowest that schedules has it each minute."""
BUSY = "database is locked"
"""What SQLite says on a busy machine when two write at once; whoever asked is told 503, and asks again."""


@pytest.fixture(scope="module")
def desk(prefect: PrefectStack, patch_site: DemoSite) -> Desk:
    return Desk(prefect, patch_site)


@pytest.fixture(scope="module")
def runs(desk: Desk) -> Iterator[Runs]:
    """Runs that schedules made, by deployment, at their ends or gates; the schedules are paused then."""
    desk.old_packages("alpha")
    file = desk.prefect.folder / "server.log"
    begun, before = time.monotonic(), file.stat().st_size
    patching = {"runbook": "patch-linux", "hosts": "alpha"}
    until = time.strftime("%Y%m%dT%H%M%S", time.gmtime(time.time() + LASTS))
    often = f"FREQ=SECONDLY;INTERVAL=20;UNTIL={until}"
    own = [{"rrule": often, "time_zone": "UTC"}]
    with desk.deployed(
        {"runbook": "escalate", "name": "often", "schedules": own},
        {"name": "first", **patching, "schedules": own}, {"name": "second", **patching, "schedules": own},
        {"name": "third", **patching},
    ):
        found = desk.api.post("deployments/name/patch-linux/third")
        foreign = [{
            "active": True, "schedule": {"rrule": often, "timezone": "UTC"},
            "parameters": {"requester": "schedule:third"},
        }]
        desk.api.post(f"deployments/{found['id']}/schedules", foreign)
        wanted = {"first": 2, "second": 1, "third": 1, "often": 1}
        made = {name: _scheduled(desk, name, count) for name, count in wanted.items()}
        for name in wanted:
            _pause(desk, name)
        yield made
        time.sleep(max(0.0, MINUTE - (time.monotonic() - begun)))
        assert _errors(file.read_bytes()[before:].decode()) == []


def _pause(desk: Desk, name: str) -> None:
    """Nothing more is started; a run of it goes on all the same."""
    (found,) = desk.api.post("deployments/filter", {"deployments": {"name": {"any_": [name]}}})
    desk.api.post(f"deployments/{found['id']}/pause_deployment", {})


def _scheduled(desk: Desk, deployment: str, want: int, seconds: float = 300) -> list[dict[str, Any]]:
    """Wait until the first runs of a deployment that its schedule made have ended, or wait at a gate."""
    wanted = {
        "deployments": {"name": {"any_": [deployment]}}, "sort": "EXPECTED_START_TIME_ASC",
        "flow_runs": {"state": {"type": {"any_": [*FINAL, "PAUSED"]}}},
    }
    end = time.monotonic() + seconds
    while True:
        found = [run for run in desk.api.post("flow_runs/filter", wanted) if run["auto_scheduled"]]
        if len(found) >= want:
            return found[:want]
        assert time.monotonic() < end, f"{len(found)} of {want} runs of {deployment}"
        time.sleep(0.5)


def _errors(log: str) -> list[str]:
    entries = re.split(r"(?m)^(?=\d\d:\d\d:\d\d\.\d{3} \| )", log)
    return [one for one in entries if re.search("ERROR|CRITICAL|Traceback", one) and BUSY not in one]


def test_what_an_error_in_the_log_is() -> None:
    fine, bad = "01:02:03.456 | WARNING | prefect - slow\n", "01:02:03.456 | ERROR   | prefect.server - x\n"
    assert _errors(fine + bad + fine) == [bad]
    trace = "Traceback (most recent call last):\n  x\n"
    assert _errors(trace + fine) == [trace]
    assert _errors(f"{bad}OperationalError: {BUSY}\n{fine}") == []


def test_a_schedule_fires_and_its_run_does_its_work(runs: Runs) -> None:
    (run,) = runs["often"]
    assert run["state_name"] == "Completed", run["state"]["message"]
    assert run["created_by"]["type"] == "SCHEDULE"


def test_runs_that_one_pass_of_the_scheduler_made_are_each_on_their_own(desk: Desk, runs: Runs) -> None:
    """Two at one time, and another soon after: each has an id, a ledger and a plan, and waits by itself."""
    three = [("first", runs["first"][0]), ("first", runs["first"][1]), ("second", runs["second"][0])]
    assert len({run["id"][:6] for _, run in three}) == 1, "made within seconds: version 7 begins with a clock"
    assert {run["state_name"] for _, run in three} == {"Suspended"}
    names = {run["name"] for _, run in three}
    assert all(run["state"]["message"].endswith(f"lamplighter approve {run['name']}") for _, run in three)
    assert names == {desk.run_id(run["id"]) for _, run in three}
    assert len(names) == len(three)
    plans = set()
    for by, run in three:
        opened, *_ = records = desk.records(run["id"])
        assert (opened.fields["flow_run"], opened.fields["requester"]) == (run["id"], f"schedule:{by}")
        plans |= {record.fields["plan"] for record in records if record.kind == "planned"}
    assert len(plans) == len(three)
    waits, approved = three[0][1]["id"], three[1][1]["id"]
    desk.approve(approved)
    assert desk.ended(approved) == ("Completed", "1 changed")
    assert desk.versions("alpha") == {"1.1"}
    assert "gate" not in desk.kinds(waits)
    desk.api.answer(waits, decision="reject")
    assert desk.ended(waits)[0] == "Rejected"


def test_a_schedule_that_the_site_does_not_declare_starts_nothing(desk: Desk, runs: Runs) -> None:
    (run,) = runs["third"]
    assert run["state_name"] == "Failed"
    assert "the site does not declare it so: it has no schedule" in run["state"]["message"]
    assert desk.records(run["id"]) == []
