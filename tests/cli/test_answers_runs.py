"""Which run is meant, whose trouble is whose, and what a run may say of itself: see `test_answers.py`."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.answerkit import DEMO, Place, places
from tests.enginekit import ASHA, PRIYA, ROOT, Bump, carry_out, locked, on
from tests.test_watch import look


@pytest.fixture
def place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Place]:
    yield from places(tmp_path, monkeypatch, capsys)


# --- ids ------------------------------------------------------------------------------------------


def test_a_run_is_found_by_whatever_people_see_of_it(place: Place) -> None:
    flow_run = str(uuid.uuid4())
    place.begun("bump-20261125-k3v9", flow_run)
    place.begun("bump-20261126-x7q2", str(uuid.uuid4()))
    forms = [
        "bump-20261125-k3v9", "bump-20261125", "k3v9", "20261125-k3v9", "K3V9", flow_run, flow_run[:8],
        flow_run.replace("-", ""), flow_run.upper(), f"http://127.0.0.1:4200/v2/runs/flow-run/{flow_run}",
        f"http://127.0.0.1:4200/runs/flow-run/{flow_run}?tab=Logs", f" {flow_run}\n",
    ]
    for form in forms:
        for command in ("show", "verify"):
            said = place.say(command, form, "--json")
            assert "bump-20261125-k3v9" in said.out, (form, said)
            assert said.code == 0


@pytest.mark.parametrize(("form", "why"), [
    ("bump", "matches several runs"), ("nothing", "is no run"), ("", "is no run"), ("-", "is no run"),
    ("0192f3c4-5a6b-7c8d-9e0f-a1b2c3d4e5f6", "is no run"), ("/", "is no run"), ("../demo", "is no run"),
])
def test_what_is_none_is_told(place: Place, form: str, why: str) -> None:
    for name in ("bump-1", "bump-2"):
        place.waiting(name)
    said = place.say("show", "--", form)
    assert said.code == 2
    assert why in said.err


def test_one_run_is_verified_as_the_report_advises(place: Place) -> None:
    with place.lab.run() as run:
        carry_out(place.lab, run)
    said = place.say("verify", "bump-1")
    assert said.code == 0
    assert "sealed as number 1" in said.all
    ledger = place.lab.folder / "store" / "runs" / "bump-1" / "ledger.jsonl"
    before = ledger.read_bytes()
    ledger.write_bytes(before.replace(b'"bump-version"', b'"bump-versiom"', 1))
    assert place.say("verify", "bump-1").code == 1
    ledger.write_bytes(before)
    assert "neither a store's directory nor a run" in place.say("verify", "bump-7").err


# --- one customer's trouble -----------------------------------------------------------------------


def typo(text: str) -> str:
    return text.replace("time_zone:", "time_zoen:")


def closed(text: str) -> str:
    return re.sub(r"(?m)^store: .*$", "store: s3://127.0.0.1:9/nowhere/demo", text)


@pytest.mark.parametrize("edit", [typo, closed])
def test_one_sites_trouble_keeps_nobody_from_the_others(place: Place, edit: Callable[[str], str]) -> None:
    place.waiting()
    place.other_site("acme", edit)
    listed = place.say("runs")
    assert listed.code == 2, "the list is not whole, and says so"
    assert "bump-1" in listed.out
    assert "acme is left out" in listed.all
    shown = place.say("show", "bump-1", "--json")
    assert (shown.code, json.loads(shown.out)["state"]) == (0, "waiting for approval")
    assert "acme is left out" in shown.err
    signed = place.say("approve", "bump-1", "--key", place.keys[ASHA], "--yes", "--print")
    assert signed.code == 0
    assert place.say("runs", "--site", "demo").code == 0
    assert place.say("runs", "--site", "acme").code == 2
    missing = place.say("show", "bump-7")
    assert (missing.code, "1 sites could not be looked at" in missing.err) == (2, True)


def test_one_broken_ledger_hides_no_other_run(place: Place) -> None:
    place.waiting("bump-1")
    place.waiting("bump-2")
    ledger = place.lab.folder / "store" / "runs" / "bump-1" / "ledger.jsonl"
    before = ledger.read_bytes()
    ledger.write_bytes(before.replace(b'"bump-version"', b'"bump-versiom"', 1))
    listed = place.say("runs", "--json")
    assert listed.code == 2
    assert {row["run"]: row["state"] for row in json.loads(listed.out)} == {
        "bump-1": "broken", "bump-2": "waiting for approval",
    }
    ledger.write_bytes(before)


# --- green only when it was done ------------------------------------------------------------------

ENDS: list[tuple[dict[str, Any], str, str]] = [
    ({}, "Completed", "kept"),
    ({"plan": on("a", "b", act=lambda: locked(""))}, "Refused", "not done"),
    ({"apply": on("a", "b", act=lambda: locked(""))}, "Refused", "not done"),
    ({"plan": on("a", act=lambda: locked("")), "drift": "b"}, "NothingDone", "not done"),
    ({"drift": "ab"}, "NothingDone", "not done"),
    ({"plan": on("a", act=lambda: locked(""))}, "Completed", "kept"),
]


@pytest.mark.parametrize(("hooks", "state", "sla"), ENDS)
def test_a_run_that_did_nothing_of_what_was_wanted_is_not_completed(
    place: Place, hooks: dict[str, Any], state: str, sla: str
) -> None:
    drifting = hooks.get("drift", "")
    operation = Bump(hooks={name: hook for name, hook in hooks.items() if name != "drift"})
    with place.lab.run(operation=operation) as run:
        plan = run.make_plan(run.survey())
        for host in drifting:
            place.lab.fleet.set_facts(host, {"version": 1, "note": "somebody was here"})
        if plan.waves:
            place.lab.approve(run)
            run.check_gate()
        for wave, _ in enumerate(plan.waves, 1):
            run.rollout().roll_out(wave)
        ending = run.close()
    assert str(ending.state) == state, ending.message
    (row,) = json.loads(place.say("sla", "demo", "--json").out)
    assert {one["name"]: one["verdict"] for one in row["promises"]}["complete"] == sla
    told = {one.to for one in look(place.lab, [])}
    assert (PRIYA in told) == (state != "Completed")
    assert f"State {state}" in place.say("show", "bump-1").all


def test_no_state_of_a_run_is_green_but_those_that_did_it() -> None:
    from lamplighter import orchestrator  # noqa: PLC0415 - imports Prefect
    from lamplighter.model.outcome import DONE, RunState  # noqa: PLC0415

    green = {state for state in RunState if orchestrator.final(state, "").is_completed()}
    assert green == DONE


# --- a plan without an answer ---------------------------------------------------------------------


def test_a_plan_without_an_answer_is_no_answer(place: Place) -> None:
    """Nobody listens at the demo's addresses."""
    for name in ("hosts.yaml", "host_keys"):
        text = re.sub(r"192\.0\.2\.(\d+)", r"127.0.0.\1", (DEMO / name).read_text())
        (place.lab.path / name).write_text(text)
    place.real_matrix()
    said = place.say("plan", "patch-linux", "--hosts", "web", "--json")
    assert said.code == 2
    assert json.loads(said.out)["hosts"]
    assert "could be looked at" in said.err


# --- the worker -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("pool", "home", "why"), [
    ("mps", ROOT, "there is no work pool 'mps'. Nothing was started. did you mean msp?"),
    ("default-agent-pool", ROOT, "It is one of: internal, msp"),
    ("msp", "empty", "no runbook in flows/: every run would fail"),
    ("msp", "broken", "a runbook cannot be loaded"),
    ("internal", ROOT, "no runbook of internal in flows/"),
])
def test_a_worker_whose_runs_would_all_fail_does_not_start(
    place: Place, monkeypatch: pytest.MonkeyPatch, pool: str, home: str | Path, why: str
) -> None:
    folder = place.lab.folder / "checkout" if isinstance(home, str) else home
    if isinstance(home, str):
        (folder / "flows").mkdir(parents=True)
        if home == "broken":
            (folder / "flows" / "never_mind.py").write_text("def broken(:\n")
    monkeypatch.setenv("LAMPLIGHTER_HOME", str(folder))
    said = place.say("worker", "--pool", pool)
    assert said.code == 2
    assert why in said.all


def test_a_list_of_runs_has_dates_and_targets(place: Place) -> None:
    place.waiting()
    (row,) = json.loads(place.say("runs", "--json").out)
    assert (row["state"], row["targets"]) == ("waiting for approval", "2 planned, all")
    assert re.fullmatch(r"\w{3} \d{4}-\d\d-\d\d \d\d:\d\d IST", row["opened"])
    assert row["opened"] in place.say("runs").out
    shown = place.say("show", "bump-1").all
    assert "State waiting for approval" in shown
    assert "To decide: lamplighter approve bump-1" in shown
    assert re.search(r"Expires \w{3} [0-9-]+ [0-9:]+ IST", shown)
