"""Replaying a run's records: the same state whether it is built at once or as the records come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from lamplighter.model.history import drifted, replay
from lamplighter.model.outcome import Evidence, Outcome, RunState, StepResult, Terminal


@dataclass(frozen=True)
class Said:
    kind: str
    fields: Mapping[str, Any]
    time: int = 0


def said(kind: str, time: int = 0, /, **fields: Any) -> Said:
    return Said(kind, fields, time)


PROOF = {"summary": "done", "data": {"n": 1}}
STORY = [
    said("opened", site="demo"),
    said("facts", host="a", relevant={"v": 1}, bound={}),
    said("planned", plan="sha256:1", hosts=1, waves=1),
    said("host", host="z", terminal="unchanged", message="up to date", wave=0),
    said("asked", number=1, plan="sha256:1"),
    said("answered", number=1, approvals=["line", "line"], claimed={"decision": "approve"}),
    said("gate", passed=True, plan="sha256:1", signed=["asha"], refused=[], against=[]),
    said("wave-started", wave=1, hosts=["a"]),
    said("intent", host="a", step="upgrade", action="x", unit="u"),
    said("outcome", host="a", step="upgrade", result="unknown", interrupted=True, evidence=PROOF),
    said("reconciliation", host="a", step="upgrade", result="ok", interrupted=False, evidence=PROOF),
    said("verified", host="a", problems=[], evidence=PROOF),
    said("host", host="a", terminal="changed", message="done", wave=1),
    said("wave-ended", 7000, wave=1, counts={"changed": 1}),
    said("soaked", wave=1, ill=[]),
    said("halted", state="Halted", why="the brake"),
    said("halted", state="Failed", why="later"),
    said("sealed", state="Halted"),
]


def test_a_whole_story() -> None:
    history = replay(STORY)
    assert history.plan == "sha256:1"
    assert history.facts == {"a": {"v": 1}}
    assert {name: one.terminal for name, one in history.hosts.items()} == {
        "z": Terminal.UNCHANGED, "a": Terminal.CHANGED,
    }
    assert (history.asked, history.answered, history.passed) == (1, 1, True)
    assert history.approvals == ["line"], "a line that comes twice counts once"
    assert history.intents == {("a", "upgrade")}
    assert history.begun == {"a"}
    assert history.outcomes == {("a", "upgrade"): Outcome(StepResult.OK, Evidence("done", {"n": 1}))}
    assert not history.interrupted
    assert (history.started, history.waves, history.soaked) == ({1}, {1: 7000}, {1})
    assert (history.ending, history.why) == (RunState.HALTED, "the brake"), "the first decision stands"
    assert history.ended()
    assert history.sealed == "Halted"


@given(st.integers(0, len(STORY)))
def test_replay_then_note_is_replay(at: int) -> None:
    """A process that lived through it and one that read it know the same."""
    history = replay(STORY[:at])
    for record in STORY[at:]:
        history.note(record)
    assert history == replay(STORY)


def test_an_interrupted_step_stays_so_until_it_is_reconciled() -> None:
    history = replay(STORY[:10])
    assert history.interrupted == {("a", "upgrade")}
    assert history.outcomes["a", "upgrade"].result is StepResult.UNKNOWN


def test_kinds_that_do_not_matter_are_passed_over() -> None:
    assert replay([said("recovered", bytes=3), said("something-new"), said("__class__")]) == replay([])


FACTS = st.recursive(
    st.integers() | st.text(max_size=5) | st.none(),
    lambda inner: st.dictionaries(st.text("abc", min_size=1, max_size=2), inner, max_size=3),
)
OBJECTS = st.dictionaries(st.text("abc", min_size=1, max_size=2), FACTS, max_size=4)


@given(OBJECTS, OBJECTS)
def test_drift_is_told_exactly_when_facts_differ(planned: dict[str, Any], now: dict[str, Any]) -> None:
    lines = drifted(planned, now)
    assert drifted(planned, planned) == ()
    if lines:
        assert planned != now


def test_drift_names_what_changed() -> None:
    assert drifted({"p": {"ssl": "1", "gone": "2"}, "b": 1}, {"p": {"ssl": "3"}, "b": 1, "x": "y" * 99}) == (
        "p.gone: 2 → absent", "p.ssl: 1 → 3", f"x: absent → {'y' * 57}...",
    )
