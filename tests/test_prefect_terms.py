"""Windows and stages, seen from Prefect: what a schedule, the UI, the API and the command line can start."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from lamplighter.ledger import read_ledger
from lamplighter.model.calendar import told as in_zone
from lamplighter.site import load_site
from tests.lab.demo_site import APPROVERS, REQUESTER, DemoSite
from tests.lab.prefect_api import PrefectApi
from tests.lab.prefect_stack import PrefectStack
from tests.storekit import opened

pytestmark = [pytest.mark.lab, pytest.mark.prefect]

ASHA = APPROVERS[0]


@pytest.fixture
def api(prefect: PrefectStack, patch_site: DemoSite) -> Iterator[PrefectApi]:
    for host in patch_site.estate:
        host.reset()
    for host in patch_site.estate:
        host.wait_up()
    before = (patch_site.path / "responsibilities.yaml").read_text()
    yield PrefectApi(prefect)
    (patch_site.path / "responsibilities.yaml").write_text(before)
    (patch_site.path / "calendar.yaml").unlink(missing_ok=True)


def kinds(api: PrefectApi, site: DemoSite, flow_run: str) -> list[str]:
    return [one.kind for one in read_ledger(opened(site.store), api.run_id(flow_run), "demo")]


def versions(site: DemoSite) -> set[str]:
    return {host.exec("dpkg-query -W -f '${Version}' lab-web").stdout for host in site.estate}


def window(site: DemoSite, opens: datetime, minutes: int = 60) -> None:
    """Write a calendar whose only window opens then."""
    value = {"outside_windows": "closed", "windows": [{
        "name": "only", "dates": [f"{opens:%Y-%m-%d}"], "at": f"{opens:%H:%M}", "duration": f"{minutes}m",
        "time_zone": "UTC",
    }]}
    (site.path / "calendar.yaml").write_text(yaml.safe_dump(value))


def stage(site: DemoSite, name: str) -> None:
    path: Path = site.path / "responsibilities.yaml"
    value = yaml.safe_load(path.read_text())
    value["functions"]["patch-management"]["stage"] = name
    path.write_text(yaml.safe_dump(value))


def due(api: PrefectApi, when: datetime) -> str:
    """Start a run that was due at another time, as a worker that was down finds it."""
    found = api.post("deployments/name/patch-linux/all-weekly")
    body: dict[str, Any] = {
        "parameters": {"hosts": "all", "requester": REQUESTER},
        "state": {"type": "SCHEDULED", "state_details": {"scheduled_time": when.isoformat()}},
    }
    return str(api.post(f"deployments/{found['id']}/create_flow_run", body)["id"])


def test_a_signed_run_waits_for_its_window_without_a_worker(
    api: PrefectApi, prefect: PrefectStack, patch_site: DemoSite
) -> None:
    opens = (datetime.now(UTC) + timedelta(seconds=100)).replace(second=0, microsecond=0)
    window(patch_site, opens)
    flow_run = api.start("all-weekly", hosts="all", requester=REQUESTER)
    assert api.until(flow_run, "Suspended")["state_name"] == "Suspended"
    zone = load_site(patch_site.path).time_zone
    assert f"from {in_zone(int(opens.timestamp()), zone)}" in api.form(flow_run).replace("\\", "")
    prefect.lamplighter("approve", api.run_id(flow_run), "--key", str(patch_site.key(ASHA)), "--yes")
    waits = api.until(flow_run, "AwaitingWindow")
    assert waits["state_name"] == "AwaitingWindow", waits["state"]["message"]
    assert versions(patch_site) == {"1.0"}
    ended = api.until(flow_run, seconds=240)
    assert (ended["state_name"], ended["state"]["message"]) == ("Completed", "4 changed")
    told = kinds(api, patch_site, flow_run)
    assert told.index("window-awaited") < told.index("window-opened") < told.index("wave-started")
    assert time.time() >= opens.timestamp()


def test_a_late_run_is_missed(api: PrefectApi, patch_site: DemoSite) -> None:
    now = datetime.now(UTC)
    window(patch_site, now - timedelta(hours=2), minutes=60)
    ended = api.until(due(api, now - timedelta(minutes=90)))
    assert (ended["state_name"], ended["state_type"]) == ("Missed", "CANCELLED")
    assert "its window closed" in ended["state"]["message"]
    assert "4 skipped" in ended["state"]["message"]
    assert versions(patch_site) == {"1.0"}


def test_in_shadow_no_route_changes_a_host(
    api: PrefectApi, prefect: PrefectStack, patch_site: DemoSite
) -> None:
    waiting = api.start("all-weekly", hosts="all", requester=REQUESTER)
    assert api.until(waiting, "Suspended")["state_name"] == "Suspended"
    stage(patch_site, "shadow")
    prefect.lamplighter("approve", api.run_id(waiting), "--key", str(patch_site.key(ASHA)), "--yes")
    fresh = api.start("all-weekly", hosts="all", requester=REQUESTER)
    scheduled = due(api, datetime.now(UTC))
    for flow_run in (waiting, fresh, scheduled):
        ended = api.until(flow_run)
        assert (ended["state_name"], ended["state_type"]) == ("Planned", "COMPLETED")
        assert "shadow" in ended["state"]["message"]
        assert "wave-started" not in kinds(api, patch_site, flow_run)
    shown = json.loads(prefect.lamplighter("plan", "patch-linux", "--json"))
    assert shown["waves"], "planning is what a shadow is for"
    assert versions(patch_site) == {"1.0"}


def test_in_stage_internal_the_msp_looks_at_no_host(api: PrefectApi, patch_site: DemoSite) -> None:
    stage(patch_site, "internal")
    ended = api.until(api.start("all-weekly", hosts="all", requester=REQUESTER))
    assert ended["state_name"] == "Rejected"
    assert "4 refused" in ended["state"]["message"]
