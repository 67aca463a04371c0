"""The watch against a real Prefect server: a gate nobody answers is told, expires, and is told again."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from lamplighter.engine.gatekeeper import drop_line
from lamplighter.notify.heartbeat import silence
from tests.lab.demo_site import APPROVERS, DemoSite
from tests.lab.prefect_stack import PrefectStack
from tests.lab.smtp import Webhook
from tests.prefectkit import ASHA, KIRAN, PRIYA, Desk

pytestmark = [pytest.mark.lab, pytest.mark.prefect]
LASTS = 12


@pytest.fixture
def desk(prefect: PrefectStack, patch_site: DemoSite) -> Desk:
    return Desk(prefect, patch_site)


@pytest.fixture
def hook(patch_site: DemoSite) -> Iterator[Webhook]:
    """A chat that everybody of the site reads, and nothing else reaches them."""
    with Webhook() as chat:
        url = patch_site.folder / "chat-url"
        url.touch(mode=0o600)
        url.write_text(f"json://127.0.0.1:{chat.port}/hook\n")
        channel = [{"name": "chat", "url": f"file:{url}"}]
        file = patch_site.path / "notify.yaml"
        before = file.read_text()
        said = {"reach": dict.fromkeys(APPROVERS, channel), "limits": {"per_hour": 100, "per_round": 100}}
        file.write_text(yaml.safe_dump({**yaml.safe_load(before), **said}))
        try:
            yield chat
        finally:
            file.write_text(before)


def told(hook: Webhook, run: str) -> list[str]:
    """Subjects of what the chat was told about a run."""
    bodies = [json.loads(body) for body in hook.bodies]
    return [body["title"] for body in bodies if run in body["title"] + body["message"]]


def watch(desk: Desk) -> dict[str, Any]:
    """One round, as the schedule starts it."""
    found = desk.api.post("deployments/name/escalate/every-5-minutes")
    while True:
        made = desk.api.post(f"deployments/{found['id']}/create_flow_run", {"parameters": {}})
        run = desk.api.until(made["id"])
        if run["state_name"] != "Cancelled":  # the schedule was just at it, and one round at a time is enough
            return run
        time.sleep(1)


def test_a_gate_nobody_answers_is_told_at_once_and_expires(desk: Desk, hook: Webhook) -> None:
    desk.old_packages("alpha")
    rollout = yaml.safe_load((desk.site.path / "site.yaml").read_text())["rollout"]["default"]
    with desk.site_says(rollout={"default": {**rollout, "approval_seconds": LASTS}}):
        flow_run = desk.wait("alpha")
    run = desk.run_id(flow_run)
    assert [title.partition(":")[0] for title in told(hook, run)] == ["Approval needed"] * 2
    asked = json.loads(hook.bodies[-1])["message"]
    plan = next(record for record in desk.records(flow_run) if record.kind == "planned").fields["plan"]
    assert f"{desk.prefect.url}/v2/runs/flow-run/{flow_run}" in asked
    assert plan in asked

    planned = next(record for record in desk.records(flow_run) if record.kind == "planned").time / 1000
    time.sleep(max(0.0, planned + LASTS + 1 - time.time()))
    first = watch(desk)
    assert first["state_name"] == "Completed", first["state"]
    assert {"owner:msp", "gate:none", "change:none", "function:monitoring-and-alerts"} <= set(first["tags"])
    assert desk.ended(flow_run) == ("Expired", desk.ended(flow_run)[1])
    assert "before it expired" in desk.ended(flow_run)[1]
    sealed = desk.records(flow_run)[-1]
    assert (sealed.kind, sealed.fields["state"]) == ("sealed", "Expired")
    assert desk.versions("alpha") == {"1.0"}

    second = watch(desk)
    assert second["state_name"] == "Completed", second["state"]
    assert [title.partition(":")[0] for title in told(hook, run)] == ["Approval needed"] * 2 + ["Expired"]
    assert silence(desk.store, time.time(), 60) == ""
    _shown(desk, run)


def test_a_run_that_was_signed_past_prefect_is_woken(desk: Desk) -> None:
    """`lamplighter approve` without Prefect leaves its line in the store, and no more."""
    desk.old_packages("alpha")
    flow_run = desk.wait("alpha")
    planned = next(record for record in desk.records(flow_run) if record.kind == "planned")
    drop_line(desk.store, planned.fields["plan"], "".join(desk.line(flow_run).split()))
    assert desk.api.run(flow_run)["state_name"] == "Suspended"
    assert desk.run_id(flow_run) in watch(desk)["state"]["message"]
    assert desk.ended(flow_run) == ("Completed", "1 changed")


def _shown(desk: Desk, run: str) -> None:
    notices = json.loads(desk.prefect.lamplighter("notifications", "demo", "--json", "--run", run))
    assert sorted((one["kind"], one["to"], one["state"]) for one in notices) == [
        ("ended", PRIYA, "sent"), ("gate", ASHA, "sent"), ("gate", KIRAN, "sent"),
    ]
    times = json.loads(desk.prefect.lamplighter("sla", "demo", "--json"))
    (row,) = (one for one in times if one["run"] == run)
    assert row["state"] == "Expired"
    assert row["seconds"]["approval"] >= LASTS - 5


def test_a_watch_whose_function_is_not_handed_over_looks_at_nothing(desk: Desk, patch_site: DemoSite) -> None:
    file = patch_site.path / "responsibilities.yaml"
    before = file.read_text()
    matrix = yaml.safe_load(before)
    matrix["functions"]["monitoring-and-alerts"]["stage"] = "internal"
    file.write_text(yaml.safe_dump(matrix))
    try:
        run = watch(desk)
    finally:
        file.write_text(before)
    assert run["state_name"] == "Rejected"
    assert "stage internal" in run["state"]["message"]
