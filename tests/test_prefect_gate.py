"""A gated patch run on real hosts, driven through a real Prefect server by everybody who can reach it."""

from __future__ import annotations

import json
import logging
import os
import signal
import time
from pathlib import Path

import pytest

from lamplighter.ledger import read_ledger
from lamplighter.model.chain import Record
from tests.lab.demo_site import APPROVERS, REQUESTER, DemoSite
from tests.lab.errors import LabError
from tests.lab.prefect_api import PrefectApi
from tests.lab.prefect_stack import PrefectStack
from tests.lab.system import Process
from tests.prefectkit import Desk
from tests.storekit import opened

pytestmark = [pytest.mark.lab, pytest.mark.prefect]

TAGS = {"owner:msp", "function:patch-management", "change:normal", "gate:internal", "site:demo"}
ASHA = APPROVERS[0]
MSP = APPROVERS[2]


@pytest.fixture
def api(prefect: PrefectStack, patch_site: DemoSite) -> PrefectApi:
    for host in patch_site.estate:
        host.reset()
    for host in patch_site.estate:
        host.wait_up()
    return PrefectApi(prefect)


def _records(api: PrefectApi, site: DemoSite, flow_run: str) -> list[Record]:
    return list(read_ledger(opened(site.store), api.run_id(flow_run), "demo"))


def _versions(site: DemoSite) -> set[str]:
    return {host.exec("dpkg-query -W -f '${Version}' lab-web").stdout for host in site.estate}


def _waiting(api: PrefectApi, hosts: str = "all") -> str:
    flow_run = api.start("all-weekly", hosts=hosts, requester=REQUESTER, change_ref="CHG-7")
    reached = api.until(flow_run, "Suspended")
    assert reached["state_name"] == "Suspended", reached["state"]["message"]
    return flow_run


def test_a_gated_run_from_the_form_to_the_report(
    api: PrefectApi, prefect: PrefectStack, patch_site: DemoSite
) -> None:
    flow_run = _waiting(api)
    run = api.run(flow_run)
    assert run["name"] == api.run_id(flow_run)
    assert run["state"]["message"].startswith("Waiting for approval: menu, Resume")
    assert set(run["tags"]) >= TAGS
    form = api.form(flow_run)
    for word in ("4 of 4 hosts", "lab-web 1.1", "CHG-7", "nobody yet", "host.reboot", "(claimed)", "Expires"):
        assert word in form

    rejected = api.post(f"flow_runs/{flow_run}/resume", {})
    assert rejected["status"] == "REJECT"
    for nothing in ({}, {"approval": ""}, {"approval": "junk"}):
        said = api.answer(flow_run, decision="approve", **nothing)
        assert said["status"] == "REJECT", "a tick for what counts for nothing"
    _still_shut(api, flow_run, {"decision": "look again"}, "did not open the gate")
    own = Desk(prefect, patch_site).line(flow_run, MSP)
    why = "nobody approves what they asked for"
    _still_shut(api, flow_run, {"decision": "approve", "approval": own}, why)
    assert _versions(patch_site) == {"1.0"}

    _approve(prefect, patch_site, flow_run, ASHA)
    ended = api.until(flow_run, seconds=180)
    assert (ended["state_name"], ended["state"]["message"]) == ("Completed", "4 changed")
    assert _versions(patch_site) == {"1.1"}
    assert api.task_runs(flow_run) == ["plan", "report", "survey", "wave-1", "wave-2", "wave-3"]
    table = json.loads(api.artifacts(flow_run)["report"]["data"])
    assert sorted(row["host"] for row in table) == ["alpha", "beta", "delta", "gamma"]
    assert json.loads(prefect.lamplighter("verify", "--site", "demo", "--json"))


def _approve(prefect: PrefectStack, site: DemoSite, flow_run: str, person: str, *more: str) -> str:
    run = PrefectApi(prefect).run_id(flow_run)
    return prefect.lamplighter("approve", run, "--key", str(site.key(person)), "--yes", *more)


def _still_shut(api: PrefectApi, flow_run: str, answer: dict[str, str], why: str) -> None:
    """The run suspends again, and its form says why."""
    before = api.run(flow_run)["state"]["id"]
    api.answer(flow_run, **answer)
    end = time.monotonic() + 60
    while True:
        run = api.until(flow_run, "Suspended")
        if run["state"]["id"] != before and run["state_name"] == "Suspended":
            break
        assert run["state_type"] not in {"COMPLETED", "FAILED"}, run["state"]
        if time.monotonic() > end:
            raise LabError("the run did not come back to its gate")
        time.sleep(0.3)
    assert why in api.form(flow_run)


def test_a_rejection_needs_no_signature(api: PrefectApi, patch_site: DemoSite) -> None:
    flow_run = _waiting(api, "alpha")
    api.answer(flow_run, decision="reject", reason="not this week")
    ended = api.until(flow_run, "Rejected")
    assert ended["state_name"] == "Rejected"
    assert "not this week" in ended["state"]["message"]
    assert _versions(patch_site) == {"1.0"}
    assert _records(api, patch_site, flow_run)[-1].fields["state"] == "Rejected"


def test_a_requester_must_be_somebody(api: PrefectApi, patch_site: DemoSite) -> None:
    flow_run = api.start("all-weekly", requester="nobody@internal.example")
    ended = api.until(flow_run)
    assert ended["state_name"] == "Failed"
    assert "nobody of demo" in ended["state"]["message"]
    said = _errors(api, flow_run)
    assert len(said) == 1, said
    assert said[0].startswith("the requester 'nobody@internal.example' is nobody of demo")
    assert "Traceback" not in said[0], "the sentence, and nothing in front of it"
    assert _versions(patch_site) == {"1.0"}


def _errors(api: PrefectApi, flow_run: str) -> list[str]:
    """What a run's log says went wrong; a run sends its log a little later than its state."""
    wanted = {"logs": {"flow_run_id": {"any_": [flow_run]}}, "sort": "TIMESTAMP_ASC"}
    end = time.monotonic() + 30
    while time.monotonic() < end:
        logs = api.post("logs/filter", wanted)
        if said := [log["message"] for log in logs if log["level"] >= logging.ERROR]:
            return said
        time.sleep(0.5)
    return []


def test_the_form_does_not_call_optional_what_it_cannot_do_without(api: PrefectApi) -> None:
    for deployment in ("patch-linux/all-weekly", "reset-password/service-desk"):
        found = api.post(f"deployments/name/{deployment}")
        assert {"requester", "site"} <= set(found["parameter_openapi_schema"]["required"])


def test_a_killed_flow_goes_on_where_it_was(
    api: PrefectApi, prefect: PrefectStack, patch_site: DemoSite
) -> None:
    flow_run = _waiting(api)
    _approve(prefect, patch_site, flow_run, ASHA)
    _wait_for_record(api, patch_site, flow_run, "intent")
    _process(api, flow_run).kill(signal.SIGKILL)
    assert api.until(flow_run, "Crashed")["state_name"] == "Crashed"
    prefect.process("server").kill(signal.SIGKILL)
    prefect.restart_server()
    prefect.lamplighter("resume", api.run_id(flow_run))
    ended = _until_again(api, flow_run)
    assert (ended["state_name"], ended["state"]["message"]) == ("Completed", "4 changed")
    intents = _steps(api, patch_site, flow_run, "intent")
    assert len(intents) == len(set(intents)) == 8
    for host in patch_site.estate:
        log = host.read("/var/log/dpkg.log")
        assert log.count(" upgrade lab-web:all 1.0 1.1") == 1


def test_a_worker_that_is_stopped_lets_its_runs_close_what_they_began(
    api: PrefectApi, prefect: PrefectStack, patch_site: DemoSite
) -> None:
    flow_run = _waiting(api)
    _approve(prefect, patch_site, flow_run, ASHA)
    _wait_for_record(api, patch_site, flow_run, "intent")
    run, worker = _process(api, flow_run), prefect.process("worker-msp")
    worker.kill(signal.SIGTERM)
    assert worker.wait(60)
    assert run.wait(60)
    begun, closed = (_steps(api, patch_site, flow_run, kind) for kind in ("intent", "outcome"))
    assert sorted(begun) == sorted(closed)
    assert len(begun) < 8, "it went on as if nothing had been said"
    prefect.start_worker("msp")
    prefect.lamplighter("resume", api.run_id(flow_run))
    ended = _until_again(api, flow_run)
    assert (ended["state_name"], ended["state"]["message"]) == ("Completed", "4 changed")


def _steps(api: PrefectApi, site: DemoSite, flow_run: str, kind: str) -> list[tuple[str, str]]:
    records = (one.fields for one in _records(api, site, flow_run) if one.kind == kind)
    return [(str(fields["host"]), str(fields["step"])) for fields in records]


def _process(api: PrefectApi, flow_run: str) -> Process:
    process = Process.of(int(str(api.run(flow_run)["infrastructure_pid"])))
    assert process is not None
    return process


def _wait_for_record(api: PrefectApi, site: DemoSite, flow_run: str, kind: str) -> None:
    end = time.monotonic() + 60
    while not any(record.kind == kind for record in _records(api, site, flow_run)):
        assert time.monotonic() < end, f"no {kind} in the ledger"
        time.sleep(0.05)


def _until_again(api: PrefectApi, flow_run: str) -> dict[str, object]:
    """A crashed run is in a final state already: first wait until it has left it."""
    end = time.monotonic() + 60
    while api.run(flow_run)["state_name"] == "Crashed":
        assert time.monotonic() < end
        time.sleep(0.2)
    return api.until(flow_run, seconds=180)


def test_no_secret_and_no_key_in_prefects_database(prefect: PrefectStack, patch_site: DemoSite) -> None:
    private = patch_site.estate.client_key.read_bytes().splitlines()[1]
    files = [path for path in Path(prefect.folder).rglob("*") if path.is_file()]
    assert any(path.name.endswith(".db") for path in files)
    assert not [path for path in files if private in path.read_bytes()]
    assert os.environ.get("PREFECT_API_URL") is None
