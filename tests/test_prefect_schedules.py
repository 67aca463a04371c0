"""Schedules on a real server: they fire by themselves, and no service of the server fails meanwhile."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab.demo_site import DemoSite
from tests.lab.prefect_api import FINAL
from tests.lab.prefect_stack import PrefectStack
from tests.prefectkit import Desk

pytestmark = [pytest.mark.lab, pytest.mark.prefect]
MINUTE = 60
"""Every service of the server has its turn in that time; the slowest that schedules has it each minute."""


@pytest.fixture(scope="module", autouse=True)
def _no_error_in_the_log(prefect: PrefectStack) -> Iterator[None]:
    """What the server says while this module's schedules fire: no error, for a minute at least."""
    begun, file = time.monotonic(), prefect.folder / "server.log"
    before = file.stat().st_size
    yield
    time.sleep(max(0.0, MINUTE - (time.monotonic() - begun)))
    said = file.read_bytes()[before:].decode()
    assert not [line for line in said.splitlines() if "ERROR" in line or "Traceback" in line], said[-4000:]


@pytest.fixture
def desk(prefect: PrefectStack, patch_site: DemoSite) -> Desk:
    return Desk(prefect, patch_site)


def scheduled(desk: Desk, flow: str, deployment: str, want: int, seconds: float = 90) -> list[dict[str, Any]]:
    """Wait until that many runs of a deployment, which its schedule made, have ended or wait at a gate."""
    wanted = {
        "flows": {"name": {"any_": [flow]}}, "deployments": {"name": {"any_": [deployment]}},
        "flow_runs": {"state": {"type": {"any_": [*FINAL, "PAUSED"]}}},
        "sort": "EXPECTED_START_TIME_ASC",
    }
    end = time.monotonic() + seconds
    while True:
        found = [run for run in desk.api.post("flow_runs/filter", wanted) if run["auto_scheduled"]]
        if len(found) >= want:
            return found
        assert time.monotonic() < end, f"{len(found)} of {want} runs of {flow}/{deployment}"
        time.sleep(0.5)


def test_a_schedule_fires_and_its_run_does_its_work(desk: Desk) -> None:
    with desk.deployed({"runbook": "escalate", "name": "often", "schedules": [{"cron": "* * * * *"}]}):
        (run, *_) = scheduled(desk, "escalate", "demo-often", 1)
    assert run["state_name"] == "Completed", run["state"]["message"]
    assert run["created_by"]["type"] == "SCHEDULE"
