"""Answers that are so: nothing says "done" where nothing was done, nobody is meant who was not named.

As an operator, an approver and somebody at night would try it, on simulated hosts with real keys and stores.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lamplighter.cli import commands
from lamplighter.engine.gatekeeper import dropped_lines
from tests.answerkit import Place, places
from tests.enginekit import ASHA, KIRAN, PRIYA, ROOT, carry_out
from tests.test_watch import watch

ARJUN = "arjun.rao@msp.example"
NO_PREFECT = {
    "not named": ("", "it is not known where Prefect is"),
    "nobody there": ("http://127.0.0.1:9/api", "Prefect does not answer"),
    "no address": ("prefect", "Prefect does not answer"),
}


@pytest.fixture
def place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Place]:
    yield from places(tmp_path, monkeypatch, capsys)


# --- which site -----------------------------------------------------------------------------------

DECIDING: dict[str, tuple[str, ...]] = {
    "demote": ("patch-management", "--reason", "x"),
    "promote": ("patch-management", "--to", "supervised", "--yes"),
    "plan": ("patch-linux",),
    "request": ("patch-linux", "--key", "KEY", "--print"),
    "standing": ("patch-linux", "--key", "KEY", "--hosts", "all"),
}


@pytest.mark.parametrize("command", DECIDING)
def test_among_several_sites_none_is_meant_by_itself(place: Place, command: str) -> None:
    place.other_site("acme")
    before = sorted(place.lab.folder.rglob("*"))
    words = [str(place.keys[ASHA]) if word == "KEY" else word for word in DECIDING[command]]
    said = place.say(command, *words)
    assert said.code == 2
    assert "--site: acme, demo" in said.err
    assert sorted(place.lab.folder.rglob("*")) == before


def test_no_command_has_a_site_of_its_own() -> None:
    defaults = {
        name: option.default for name, command in commands().items() for option in command.params
        if option.name == "site"
    }
    assert set(defaults.values()) <= {None, ""}, defaults


def test_no_runbook_has_a_site_of_its_own() -> None:
    from lamplighter.derive.catalogue import discover  # noqa: PLC0415 - imports Prefect

    for entry in discover(ROOT).values():
        schema = entry.flow.parameters
        assert "site" in schema.required, f"{entry.runbook.id} would run at a site that nobody named"


def test_the_only_site_there_is_is_meant_and_named(place: Place) -> None:
    place.real_matrix()
    said = place.say("demote", "patch-management", "--reason", "x")
    assert said.code == 0, said
    assert "patch-management at demo is shadow now: x" in said.all


# --- JSON -----------------------------------------------------------------------------------------


def test_every_command_answers_in_json() -> None:
    without = [
        name for name, command in commands().items()
        if not any("--json" in option.opts for option in command.params)
    ]
    assert not without


@pytest.mark.parametrize("words", [
    ("show", "none"), ("runs", "--site", "none"), ("approve", "none", "--yes"), ("verify", "none"),
    ("plan", "patch-linx"), ("worker", "--pool", "mps"), ("resume", "none"),
    ("gate", "--site", "x", "--plan", "y"),
])
def test_an_error_is_one_json_value_as_well(place: Place, words: tuple[str, ...]) -> None:
    said = place.say(*words, "--json")
    assert said.code == 2
    assert json.loads(said.out)["error"] in said.err


# --- an approval that counts for nothing ----------------------------------------------------------


def test_whose_approval_cannot_count_is_told_before_anything_is_asked(place: Place) -> None:
    plan = place.waiting()
    for person, run_of, words in (
        (PRIYA, PRIYA, "nobody approves what they asked for"),
        (PRIYA, ARJUN, "not of a party that this gate asks: it needs 1 of internal (change-manager)"),
    ):
        if run_of != PRIYA:
            plan = place.waiting("bump-2", run_of)
        for command in ("approve",) if run_of == PRIYA else ("approve", "reject", "revoke"):
            said = place.say(command, plan.run, "--key", place.keys[person])
            assert said.code == 1, said
            assert words in said.all or command != "approve"
            assert person in said.err
            assert "To approve, type" not in said.all
            assert not place.lines(plan)


def test_a_role_that_is_missing_is_named(place: Place) -> None:
    people = place.lab.path / "people.yaml"
    text = people.read_text()
    people.write_text(text.replace("roles: [change-manager, service-desk]", "roles: [service-desk]"))
    plan = place.waiting()
    said = place.say("approve", plan.run, "--key", place.keys[KIRAN], "--yes", "--json")
    assert (said.code, place.lines(plan)) == (1, ())
    assert f"{KIRAN} does not hold the role: this gate needs 1 of internal (change-manager)" in said.err
    assert KIRAN in json.loads(said.out)["error"]


@pytest.mark.parametrize("command", ["approve", "reject", "revoke", "promote", "sign", "request", "review"])
@pytest.mark.parametrize("key", ["stranger", "missing"])
def test_the_key_is_looked_at_first(place: Place, command: str, key: str) -> None:
    plan = place.waiting()
    file = place.lab.folder / "plan.json"
    file.write_bytes(plan.to_bytes())
    words = {
        "promote": ["patch-management", "--to", "supervised"], "sign": [file], "request": ["patch-linux"],
    }.get(command, [plan.run])
    place.real_matrix()
    said = place.say(command, *words, "--key", place.lab.folder / key)
    assert said.code == 2, said
    why = "is not in the site's approvers file" if key == "stranger" else "there is no such key"
    assert why in said.all
    assert not said.out, "nothing is shown, and nothing asked, that the key cannot sign"
    assert not place.lines(plan)


def test_a_name_that_is_not_the_keys_is_refused(place: Place) -> None:
    plan = place.waiting()
    said = place.say("approve", plan.run, "--key", place.keys[KIRAN], "--as", ASHA, "--yes")
    assert said.code == 2
    assert f"is listed for {KIRAN}, not for {ASHA}" in said.all


def test_who_approves_a_second_time_is_told_so(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = place.waiting()
    monkeypatch.setenv("PREFECT_API_URL", "")
    place.say("approve", plan.run, "--key", place.keys[ASHA], "--yes", "--valid-for", "3d")
    assert len(place.lines(plan)) == 1
    said = place.say("approve", plan.run, "--key", place.keys[ASHA], "--yes", "--valid-for", "1h")
    assert (said.code, len(place.lines(plan))) == (1, 1)
    assert f"{ASHA} has approved already" in said.all


# --- runs that have ended -------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["approve", "reject", "revoke", "resume"])
def test_an_ended_run_is_not_decided_on(place: Place, command: str) -> None:
    with place.lab.run() as run:
        ending = carry_out(place.lab, run)
        digest = run.plan().digest
    before = dropped_lines(place.lab.store, digest)
    key = () if command == "resume" else ("--key", place.keys[ASHA])
    said = place.say(command, "bump-1", *key)
    assert said.code == 1
    assert f"bump-1 at demo has ended as {ending.state}" in said.all
    assert dropped_lines(place.lab.store, digest) == before


def test_an_approval_that_was_never_given_is_not_taken_back(place: Place) -> None:
    plan = place.waiting()
    said = place.say("revoke", plan.run, "--key", place.keys[ASHA], "--approval", "a" * 16)
    assert (said.code, place.lines(plan)) == (1, ())
    assert "Nobody has signed it yet" in said.all


# --- without Prefect ------------------------------------------------------------------------------


@pytest.mark.parametrize("how", NO_PREFECT)
@pytest.mark.parametrize("command", ["approve", "resume", "request", "worker"])
def test_without_prefect_one_sentence_and_no_server_of_its_own(place: Place, how: str, command: str) -> None:
    plan, key = place.waiting(), str(place.keys[ASHA])
    words = {
        "approve": [plan.run, "--key", key, "--yes"], "resume": [plan.run],
        "request": ["patch-linux", "--key", key, "--deployment", "patch-linux/web"],
        "worker": ["--pool", "msp"],
    }[command]
    address, why = NO_PREFECT[how]
    home = place.lab.folder / "home"
    home.mkdir()
    told = {"HOME": str(home), **({"PREFECT_API_URL": address} if address else {})}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    done = subprocess.run(
        [Path(sys.executable).parent / "lamplighter", command, *words], env={**kept, **told}, cwd=ROOT,
        capture_output=True, text=True, timeout=60, check=False,
    )
    both = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == 2, both
    assert why in both
    assert "Traceback" not in both
    assert not list(home.rglob("*.db")), "a server was started in the reader's home"
    assert len(place.lines(plan)) == (command == "approve")
    assert ("The watch wakes bump-1 at demo in its next round" in both) == (command == "approve")


def test_the_watch_sees_lines_that_nobody_looked_at(place: Place) -> None:
    plan = place.waiting()
    assert not watch(place.lab, []).case(plan.run).unread
    assert place.say("approve", plan.run, "--key", place.keys[ASHA], "--yes").code == 2
    assert watch(place.lab, []).case(plan.run).unread
    with place.lab.run(plan.run) as run:
        run.receive(1, (), {"decision": "look again", "reason": ""})
        assert run.check_gate().passed
    assert not watch(place.lab, []).case(plan.run).unread


def test_a_line_that_opens_nothing_wakes_a_run_once(place: Place) -> None:
    plan = place.waiting()
    place.lab.store.put_new(f"approvals/{plan.digest.removeprefix('sha256:')}/junk", b"junk")
    assert watch(place.lab, []).case(plan.run).unread
    with place.lab.run(plan.run) as run:
        run.receive(1, (), {"decision": "look again", "reason": ""})
        assert not run.check_gate().passed
        run.ask()
    assert not watch(place.lab, []).case(plan.run).unread
