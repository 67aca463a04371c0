"""Who held the ball, and for how long."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamplighter.model.clocks import Ball, Kept, clock_lines, promises, read_clocks, span
from lamplighter.model.runbook import Sla

HOUR = 3600
BEGAN = 1_795_400_000


@dataclass(frozen=True)
class Told:
    kind: str
    time: int
    fields: dict[str, Any] = field(default_factory=dict)


def ledger(*events: tuple[str, int] | tuple[str, int, dict[str, Any]]) -> list[Told]:
    """Records at so many minutes after the beginning."""
    return [Told(event[0], (BEGAN + event[1] * 60) * 1000, *event[2:]) for event in events]


WHOLE = ledger(
    ("opened", 0), ("planned", 10), ("asked", 10), ("answered", 130), ("gate", 130, {"passed": True}),
    ("window-awaited", 131), ("window-opened", 431), ("wave-started", 431), ("wave-ended", 460),
    ("sealed", 465, {"state": "Completed"}),
)


def minutes(records: list[Told], now: int) -> dict[str, int]:
    clocks = read_clocks(records, BEGAN + now * 60)
    return {str(ball): round(clocks.spent[ball] / 60) for ball in Ball}


def test_every_minute_has_one_holder() -> None:
    assert minutes(WHOLE, 9999) == {"work": 10 + 1 + 34, "approval": 120, "window": 300}
    clocks = read_clocks(WHOLE, BEGAN + 9999 * 60)
    assert clocks.total() == 465 * 60
    assert (clocks.holder, clocks.asked - BEGAN, clocks.settled - BEGAN) == (None, 600, 7800)


def test_a_wrong_answer_gives_the_ball_back_at_once() -> None:
    records = ledger(("opened", 0), ("asked", 1), ("answered", 30), ("asked", 30), ("answered", 60),
                     ("gate", 60, {"passed": True}), ("sealed", 70, {"state": "Completed"}))
    assert minutes(records, 0) == {"work": 11, "approval": 59, "window": 0}
    (answer, _) = promises(read_clocks(records, 0), Sla(answer=58 * 60))
    assert (answer.spent, answer.kept) == (59 * 60, Kept.MISSED)


def test_a_signature_left_in_the_store_ends_the_waiting_without_an_answer() -> None:
    records = ledger(("opened", 0), ("asked", 0), ("gate", 45, {"passed": True}), ("sealed", 50))
    assert minutes(records, 0) == {"work": 5, "approval": 45, "window": 0}


def test_an_unanswered_gate_counts_until_now_and_says_until_when() -> None:
    clocks = read_clocks(ledger(("opened", 0), ("asked", 1)), BEGAN + 2 * HOUR)
    answer, complete = promises(clocks, Sla(answer=HOUR * 3, complete=HOUR))
    assert (answer.kept, answer.until) == (Kept.OPEN, BEGAN + 60 + 3 * HOUR)
    assert (complete.kept, complete.spent, complete.until) == (Kept.OPEN, 60, 0), "the ball is elsewhere"
    late = read_clocks(ledger(("opened", 0), ("asked", 1)), BEGAN + 4 * HOUR)
    assert promises(late, Sla(answer=HOUR * 3))[0].kept is Kept.MISSED


def test_a_run_nobody_was_asked_about_promises_no_answer() -> None:
    records = ledger(("opened", 0), ("sealed", 5, {"state": "Failed"}))
    (complete,) = promises(read_clocks(records, 0), Sla())
    assert (complete.name, complete.kept) == ("complete", Kept.NOT_DONE)
    assert clock_lines(read_clocks(records, 0), Sla(), "msp") == (
        ("msp worked", "5 min, promised 8 h: not done"),
    )


def test_an_empty_ledger_has_no_times() -> None:
    assert read_clocks([], BEGAN).total() == 0


@pytest.mark.parametrize(("seconds", "text"), [
    (0, "0 s"), (59, "59 s"), (60, "1 min"), (3600, "1 h"), (3900, "1 h 05 min"), (90000, "1 d 1 h"),
    (172800, "2 d"),
])
def test_spans_are_told_in_two_units_at_most(seconds: int, text: str) -> None:
    assert span(seconds) == text


KINDS = ("opened", "facts", "asked", "answered", "gate", "window-awaited", "window-opened", "wave-started",
         "halted", "sealed")


@given(
    st.lists(st.tuples(st.sampled_from(KINDS), st.integers(-600, 10_000), st.booleans()), max_size=30),
    st.integers(0, 10**6),
)
def test_times_add_up_whatever_the_ledger_says(steps: list[tuple[str, int, bool]], later: int) -> None:
    """Even when workers' clocks are set back: no time is counted twice, none is negative."""
    moment, records = BEGAN, []
    for kind, seconds, passed in steps:
        moment += seconds
        records.append(Told(kind, moment * 1000, {"passed": passed, "state": "Completed"}))
    now = max((record.time // 1000 for record in records), default=BEGAN) + later
    clocks = read_clocks(records, now)
    assert all(seconds >= 0 for seconds in clocks.spent.values())
    if records:
        end = clocks.ended or now
        assert clocks.total() == end - clocks.begun
        assert (clocks.holder is None) == bool(clocks.ended)
    for promise in promises(clocks, Sla(answer=HOUR, complete=HOUR)):
        assert promise.spent >= 0
        assert (promise.kept is Kept.MISSED) == (promise.spent > promise.promised)
        assert not promise.until or promise.until >= now
