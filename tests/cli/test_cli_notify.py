"""`lamplighter notifications`, `acknowledge`, `sla` and what other commands say of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from lamplighter.cli import main
from lamplighter.model.notice import Answer, Result
from tests.enginekit import HOSTS, PRIYA, Clock, Lab, carry_out, labs
from tests.test_watch import failed, look


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """A site with a run that halted two days ago, nobody was told of in the end, and one that went well."""
    monkeypatch.setenv("COLUMNS", "200")
    for make in labs(tmp_path):
        clock = Clock()
        made = make(HOSTS, clock=clock)
        failed(made)
        look(made, [], "", answer=Answer(Result.FAILED, "the mail server refused it for good (550)"))
        with made.run("bump-2") as run:
            carry_out(made, run)
        monkeypatch.setenv("LAMPLIGHTER_INVENTORIES", str(made.path.parent))
        yield made


def cli(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    return int(ended.value.code or 0)


def test_what_could_not_be_sent_is_shown(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli("notifications", "demo") == 1
    shown = capsys.readouterr().out
    assert "failed" in shown
    assert "(550)" in shown
    assert cli("notifications", "demo", "--run", "bump-2") == 0
    assert "no notices" in capsys.readouterr().out
    cli("notifications", "demo", "--text")
    assert "lamplighter acknowledge bump-1" in capsys.readouterr().out
    cli("notifications", "demo", "--json", "--unsent")
    assert {one["state"] for one in json.loads(capsys.readouterr().out)} == {"failed"}
    assert lab.hosts


def test_a_trouble_is_taken_once_and_by_somebody(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli("acknowledge", "bump-1", "--by", "who@internal.example") == 2
    assert "is nobody of demo" in capsys.readouterr().err
    assert cli("acknowledge", "bump-1", "--by", PRIYA, "--reason", "looking") == 0
    assert cli("acknowledge", "bump-1", "--by", PRIYA) == 2
    assert "in hand already" in capsys.readouterr().err
    lab.clock.ahead += 48 * 3600
    assert look(lab, [], "") == ()


def test_times_are_shown_with_what_was_promised(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli("sla", "demo") == 0
    shown = capsys.readouterr().out
    assert "complete: 1 kept, 1 not done" in shown
    assert cli("sla", "demo", "--json") == 0
    assert {row["run"]: row["state"] for row in json.loads(capsys.readouterr().out)} == {
        "bump-1": "Halted", "bump-2": "Completed",
    }
    cli("show", "bump-1")
    assert "promised 8 h: not done" in capsys.readouterr().out
    assert lab.hosts


def test_a_missed_promise_is_an_exit_code(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    lab.clock.ahead -= 25 * 3600
    with lab.run("bump-3") as run:
        run.make_plan(run.survey())
        run.check_gate()
        run.ask()
    assert cli("sla", "demo") == 1
    assert "missed: 1 d 1 h of 1 d" in capsys.readouterr().out
    assert cli("sla", "demo", "--days", "1") == 0
