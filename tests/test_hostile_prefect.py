"""Somebody owns the Prefect database, its API and its queue, and no key of internal IT: no host changes.

Everything here is done with the tester's own hands on a real server: its HTTP API, and its SQLite file.
"""

from __future__ import annotations

import json
import sqlite3
import time
import urllib.error
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.lab.demo_site import REQUESTER, DemoSite
from tests.lab.prefect_stack import PrefectStack
from tests.prefectkit import ASHA, PRIYA, Desk

pytestmark = [pytest.mark.lab, pytest.mark.prefect]
OLD = {"1.0"}
FORGED = "A" * 400


@pytest.fixture
def desk(prefect: PrefectStack, patch_site: DemoSite) -> Iterator[Desk]:
    made = Desk(prefect, patch_site)
    made.old_packages("alpha", "beta")
    yield made
    assert made.verified()


def sql(desk: Desk, statement: str, *values: Any) -> list[Any]:
    """Edit the server's own database, as whoever has its file can."""
    file = next(Path(desk.prefect.folder).rglob("prefect.db"))
    for _ in range(50):
        try:
            with closing(sqlite3.connect(file, timeout=30)) as database, database:
                return database.execute(statement, values).fetchall()
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise
            time.sleep(0.2)
    raise AssertionError("the database stays locked")


def force(desk: Desk, flow_run: str, kind: str, name: str) -> None:
    """Set a state by force, as anybody with API access can."""
    desk.api.post(f"flow_runs/{flow_run}/set_state", {"state": {"type": kind, "name": name}, "force": True})


def settled(desk: Desk, flow_run: str) -> str:
    """Wait until a forced run waits again or has ended."""
    end = time.monotonic() + 90
    while time.monotonic() < end:
        run = desk.api.run(flow_run)
        if run["state_type"] in {"COMPLETED", "FAILED", "CANCELLED", "CRASHED"} or (
            run["state_name"] == "Suspended" and run["run_count"] > 1
        ):
            return str(run["state_name"])
        time.sleep(0.3)
    raise AssertionError(run["state"])


def untouched(desk: Desk, *flow_runs: str) -> None:
    """No host has another package, and no ledger an intent."""
    assert desk.versions("alpha", "beta") == OLD
    for flow_run in flow_runs:
        assert "intent" not in desk.kinds(flow_run)


@pytest.mark.parametrize(("kind", "name"), [("SCHEDULED", "AwaitingRetry"), ("SCHEDULED", "Resuming")])
def test_a_state_set_by_force_brings_the_run_back_to_its_gate(desk: Desk, kind: str, name: str) -> None:
    flow_run = desk.wait()
    force(desk, flow_run, kind, name)
    assert settled(desk, flow_run) == "Suspended"
    force(desk, flow_run, "COMPLETED", "Completed")
    untouched(desk, flow_run)
    assert "sealed" not in desk.kinds(flow_run), "what Prefect says completed is not, in the ledger"


@pytest.mark.parametrize("written", ["api", "sql"])
def test_an_answer_written_past_the_form_is_read_as_an_answer_only(desk: Desk, written: str) -> None:
    flow_run = desk.wait()
    answer = {"decision": "approve", "approval": FORGED, "reason": "trust me"}
    key = desk.api.run(flow_run)["state"]["state_details"]["run_input_keyset"]["response"]
    if written == "api":
        desk.api.post(f"flow_runs/{flow_run}/input", {"key": key, "value": json.dumps(answer)})
    else:
        sql(desk, "insert into flow_run_input (id, key, value, flow_run_id) values (?, ?, ?, ?)",
            str(uuid.uuid4()), key, json.dumps(answer), flow_run)
    force(desk, flow_run, "SCHEDULED", "AwaitingRetry")
    assert settled(desk, flow_run) == "Suspended"
    assert "malformed" in desk.form(flow_run)
    untouched(desk, flow_run)


def test_edited_parameters_change_nothing_about_a_run_that_is_planned(desk: Desk) -> None:
    flow_run = desk.wait("alpha")
    digest = next(one for one in desk.records(flow_run) if one.kind == "planned").fields["plan"]
    changed = json.dumps({
        "site": "demo", "hosts": "all", "requester": ASHA, "packages": "all", "reboot": "never",
        "emergency": True,
    })
    sql(desk, "update flow_run set parameters = ?, auto_scheduled = 1 where id = ?", changed, flow_run)
    form = desk.still_shut(flow_run, decision="approve", approval=FORGED)
    assert digest[:30] in form
    assert REQUESTER in form
    untouched(desk, flow_run)
    desk.approve(flow_run)
    assert desk.ended(flow_run) == ("Completed", "1 changed")
    assert desk.versions("alpha") == {"1.1"}
    assert desk.versions("beta") == OLD


def test_the_approval_of_another_run_opens_nothing(desk: Desk) -> None:
    first = desk.wait("alpha")
    line = desk.line(first)
    desk.api.answer(first, decision="approve", approval=line)
    assert desk.ended(first) == ("Completed", "1 changed")
    second = desk.wait("beta")
    assert "wrong-digest" in desk.still_shut(second, decision="approve", approval=line)
    assert desk.versions("beta") == OLD
    assert "intent" not in desk.kinds(second)
    force(desk, first, "SCHEDULED", "AwaitingRetry")
    assert settled(desk, first) == "Completed"
    assert desk.kinds(first).count("sealed") == 1, "an ended run that is run again does nothing"


def test_a_run_that_is_deleted_leaves_its_ledger_and_no_change(desk: Desk) -> None:
    flow_run = desk.wait()
    line = desk.line(flow_run)
    desk.api.post(f"flow_runs/{flow_run}", {}, method="DELETE")
    assert desk.kinds(flow_run)[-1] == "asked"
    again = desk.wait()
    assert "wrong-digest" in desk.still_shut(again, decision="approve", approval=line)
    untouched(desk, flow_run, again)


def test_fifty_racing_resumes_are_one_rollout(desk: Desk) -> None:
    flow_run = desk.wait("alpha")
    answer = {"decision": "approve", "approval": desk.line(flow_run), "reason": "race"}

    def push(_: int) -> str:
        try:
            return str(desk.api.answer(flow_run, **answer)["status"])
        except (urllib.error.HTTPError, OSError) as error:
            return type(error).__name__

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(push, range(50)))
    assert "ACCEPT" in answers
    assert desk.ended(flow_run) == ("Completed", "1 changed")
    intents = [one.fields["step"] for one in desk.records(flow_run) if one.kind == "intent"]
    assert len(intents) == len(set(intents)) > 0
    assert desk.site.estate["alpha"].read("/var/log/dpkg.log").count(" upgrade lab-web:all 1.0 1.1") == 1


def _canary(tmp_path: Path) -> tuple[Path, str]:
    """A file, and the command that would make it."""
    file = tmp_path / "owned"
    return file, f"touch {file}"


def test_a_command_of_the_apis_is_not_run(desk: Desk, tmp_path: Path) -> None:
    file, command = _canary(tmp_path)
    deployment = desk.api.post("deployments/name/patch-linux/all-weekly")
    made = desk.api.post(f"deployments/{deployment['id']}/create_flow_run", {
        "parameters": {"hosts": "alpha", "requester": REQUESTER},
        "job_variables": {"command": command, "working_dir": str(tmp_path), "env": {"PYTHONSTARTUP": "x"}},
    })
    flow_run = desk.at_gate(made["id"])
    pool = desk.api.post("work_pools/msp")
    template = pool["base_job_template"]
    hostile = {**template, "job_configuration": {**template["job_configuration"], "command": command}}
    desk.api.post("work_pools/msp", {"base_job_template": hostile}, method="PATCH")
    try:
        time.sleep(16)  # the worker reads its pool anew every ten to fifteen seconds
        second = desk.wait("alpha")
    finally:
        desk.api.post("work_pools/msp", {"base_job_template": template}, method="PATCH")
    untouched(desk, flow_run, second)
    assert not file.exists()


def test_code_that_the_api_names_is_not_loaded(desk: Desk, tmp_path: Path) -> None:
    file, command = _canary(tmp_path)
    evil = tmp_path / "evil.py"
    evil.write_text(
        f"import os\nfrom prefect import flow\nos.system({command!r})\n@flow\ndef patch_linux(): pass\n"
    )
    deployment = desk.api.post("deployments/name/patch-linux/all-weekly")["id"]
    shell = {"prefect.deployments.steps.run_shell_script": {"script": command}}
    before = sql(desk, "select entrypoint, path, pull_steps from deployment where id = ?", deployment)[0]
    edit = "update deployment set entrypoint = ?, path = ?, pull_steps = ? where id = ?"
    sql(desk, edit, f"{evil}:patch_linux", str(tmp_path), json.dumps([shell]), deployment)
    try:
        flow_run = desk.wait("alpha")
        force(desk, flow_run, "CANCELLING", "Cancelling")  # Prefect would load the flow for its hooks
        time.sleep(5)
    finally:
        sql(desk, edit, *before, deployment)
    untouched(desk, flow_run)
    assert not file.exists()


def test_a_flow_that_is_not_in_the_checkout_is_not_run(desk: Desk) -> None:
    flow = desk.api.post("flows/", {"name": "anything"})["id"]
    deployment = desk.api.post("deployments/name/patch-linux/all-weekly")["id"]
    made = desk.api.post(f"deployments/{deployment}/create_flow_run", {
        "parameters": {"hosts": "alpha", "requester": REQUESTER},
        "state": {
            "type": "SCHEDULED", "name": "Later", "state_details": {"scheduled_time": "2999-01-01T00:00:00Z"},
        },
    })["id"]
    sql(desk, "update flow_run set flow_id = ? where id = ?", flow, made)
    force(desk, made, "SCHEDULED", "AwaitingRetry")
    assert settled(desk, made) in {"Crashed", "Failed"}
    untouched(desk)
    assert desk.kinds(made) == []


def test_a_claimed_requester_of_the_approving_party_opens_nothing(desk: Desk) -> None:
    flow_run = desk.api.start("all-weekly", hosts="alpha", requester=ASHA)
    state, message = desk.ended(flow_run)
    assert state == "Rejected" or "signed request" in message
    untouched(desk, flow_run)
    own = desk.wait("alpha", requester=PRIYA)
    assert "requester" in desk.still_shut(own, decision="approve", approval=desk.line(own, PRIYA))
    untouched(desk, own)
    assert desk.api.run(own)["name"] == desk.run_id(own)
