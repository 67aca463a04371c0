"""Between waves: the soak, and the second look at the hosts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lamplighter.engine.rollout import Rollout
from lamplighter.engine.run import Ending
from lamplighter.errors import SessionLostError
from lamplighter.model.outcome import RunState
from tests.enginekit import (
    Bump,
    Lab,
    Make,
    labs,
    message,
    on,
    states,
)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    yield from labs(tmp_path)


def soaked(lab: Lab, act: Callable[[], None], operation: Bump | None = None) -> Ending:
    """Two waves; something happens during the first one's soak."""
    with lab.run(operation=operation) as run:
        run.make_plan(run.survey())
        lab.approve(run, lasts=7200)
        run.check_gate()
        rollout = run.rollout()
        rollout.roll_out(1)
        began = lab.clock.time()

        def sleep(seconds: float) -> None:
            lab.clock.sleep(seconds)
            act()

        waiting = Rollout(rollout.plan, rollout.hosts, rollout.means, sleep=sleep, clock=lab.clock.time)
        waiting.roll_out(2)
        assert lab.clock.time() - began >= 590
        return run.close()


def test_a_host_that_falls_ill_during_the_soak_halts_the_run(make: Make) -> None:
    lab = make(limits={"soak_seconds": 600}, waves={"canary": 1, "shares": [100]})
    ending = soaked(lab, lambda: lab.fleet.set_facts("a", {"version": 7}))
    assert ending.state is RunState.HALTED
    assert "after the soak: 1 failed of 1 in the canary wave" in ending.message
    assert message(ending, "a") == "ill after the soak: version 7"
    assert list(states(ending).values())[1:] == ["skipped"] * 4


def test_one_lost_connection_after_the_soak_is_not_an_illness(make: Make) -> None:
    lab = make(limits={"soak_seconds": 600}, waves={"canary": 1, "shares": [100]})
    looks: list[str] = []

    def verify(host: str) -> None:
        looks.append(host)
        if looks.count("a") in {2, 3}:
            raise SessionLostError("a moment of silence")

    ending = soaked(lab, lambda: None, Bump(hooks={"verify": verify}))
    assert set(states(ending).values()) == {"changed"}


def test_a_host_that_stays_away_after_the_soak_is_ill(make: Make) -> None:
    lab = make(limits={"soak_seconds": 600}, waves={"canary": 1, "shares": [100]})
    operation = Bump()
    lost = SessionLostError("gone")
    ending = soaked(lab, lambda: operation.hooks.update(verify=on("a", error=lost)), operation)
    assert ending.state is RunState.HALTED
    assert "it could not be looked at: gone" in message(ending, "a")


def test_a_clock_that_was_set_back_does_not_hold_a_soak_for_ever(make: Make) -> None:
    lab = make(limits={"soak_seconds": 600}, waves={"canary": 1, "shares": [100]})
    with lab.run() as run:
        run.make_plan(run.survey())
        lab.approve(run)
        run.check_gate()
        run.rollout().roll_out(1)
        slept: list[float] = []
        rollout = run.rollout()
        rollout.sleep, rollout.clock = slept.append, lambda: lab.clock.time() - 100_000
        rollout.roll_out(2)
        assert slept == [600]
        run.close()
