"""Stopping a worker, killing it, losing its ledger: the next one goes on from what is recorded."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lamplighter.engine.gatekeeper import drop_line
from lamplighter.engine.run import Run
from lamplighter.engine.turn import unit_name
from lamplighter.errors import LedgerError, UnreachableError
from lamplighter.ledger import read_ledger
from lamplighter.model.approval import Decision
from lamplighter.model.inventory import Host
from lamplighter.model.outcome import Evidence, Outcome, RunState, StepResult
from lamplighter.model.session import Session
from tests.enginekit import (
    LOOSE,
    SITE,
    Bump,
    Lab,
    Make,
    carry_out,
    finish,
    labs,
    message,
    problems,
    quiet_threads,
    states,
)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    yield from labs(tmp_path)


def interrupted(run: Run, when: Callable[[], bool], drain: float) -> None:
    def tick() -> None:
        if when():
            raise KeyboardInterrupt

    rollout = run.rollout(tick=tick)
    rollout.drain = drain
    with pytest.raises(KeyboardInterrupt):
        rollout.roll_out(len(run.history.waves) + 1)


def test_a_stopped_worker_drains_closes_its_intents_and_the_next_one_asks_the_hosts(make: Make) -> None:
    lab = make([f"h{number}" for number in range(8)], waves={"canary": 8}, limits={"parallel": 3})
    release, threads = threading.Event(), threading.active_count()

    class Slow(Bump):
        def apply(self, host: Host, step: Any, session: Session, unit: str) -> Evidence:
            done = super().apply(host, step, session, unit)
            time.sleep(0.2)
            if host.name == "h1":
                release.wait(60)  # the host did it, and its answer does not come
            return done

    with lab.run(operation=Slow()) as run:
        run.make_plan(run.survey())
        lab.approve(run)
        run.check_gate()
        began = time.monotonic()
        interrupted(run, lambda: ("h1", "upgrade") in run.history.intents, drain=0.3)
        assert time.monotonic() - began < 11, "stopping is bounded, whatever hangs"
        assert not run.journal.open_steps(), "every intent has an outcome"
        assert ("h1", "upgrade") in run.history.interrupted
        assert "h1" not in run.history.hosts
        begun, written = set(run.history.begun), run.ledger.count
        release.set()
        assert quiet_threads(threads + 1)  # the leases' own
        assert run.ledger.count == written, "a thread that comes too late begins nothing and says nothing"
    assert len(begun) < 8
    with lab.run() as run:
        ending = finish(run)
        assert run.ledger.records("reconciliation")
    assert set(states(ending).values()) == {"changed"}
    assert set(lab.fleet.starts().values()) == {1}


def test_what_ends_while_draining_is_kept(make: Make) -> None:
    lab = make(waves={"canary": 5}, limits={"parallel": 2})
    operation = Bump(hooks={"apply": lambda _: time.sleep(0.6)})
    with lab.run(operation=operation) as run:
        run.make_plan(run.survey())
        lab.approve(run)
        run.check_gate()
        interrupted(run, lambda: bool(run.history.intents), drain=30)
        assert not run.history.interrupted
        assert len(run.history.begun) == 2
        assert {result.result for result in run.history.outcomes.values()} == {StepResult.OK}
    with lab.run() as run:
        assert set(states(finish(run)).values()) == {"changed"}
    assert set(lab.fleet.starts().values()) == {1}


def crashed(lab: Lab, host: str, *, really: bool) -> None:
    """Leave the ledger as a worker does that is killed after its first intent, with or without its effect."""
    with lab.run() as run:
        plan = run.make_plan(run.survey())
        lab.approve(run)
        assert run.check_gate().passed
        run.journal.record("wave-started", wave=1, hosts=list(plan.waves[0]))
        step = plan.host(host).step("upgrade")
        run.journal.intend(host, step, unit_name(plan.digest, host, "upgrade"))
        if really:
            session = lab.fleet.connect(Host(host))
            session.launch(unit_name(plan.digest, host, "upgrade"), "upgrade", "2")


@pytest.mark.parametrize("really", [True, False])
def test_a_crash_after_an_intent_is_settled_by_asking_the_host(make: Make, *, really: bool) -> None:
    lab = make()
    crashed(lab, "a", really=really)
    with lab.run() as run:
        ending = finish(run)
    assert set(states(ending).values()) == {"changed"}
    assert set(lab.fleet.starts().values()) == {1}


@pytest.mark.parametrize(("really", "terminal", "told"), [
    (True, "failed", "upgrade done, restart not begun: "),
    (False, "refused", "upgrade refused: it never began"),
])
def test_a_revoke_after_a_crash_begins_nothing_and_still_learns_how_it_ended(
    make: Make, terminal: str, told: str, *, really: bool
) -> None:
    lab = make()
    crashed(lab, "a", really=really)
    with lab.run() as run:
        plan = run.plan()
        lab.clock.sleep(10)
        drop_line(lab.store, plan.digest, lab.sign(plan.to_bytes(), decision=Decision.REVOKE))
        assert not run.check_gate().passed
        ending = finish(run)
    assert states(ending) == {"a": terminal, **dict.fromkeys("bcde", "skipped")}
    assert told in message(ending, "a")
    assert "revoked" in message(ending, "a")
    assert sum(lab.fleet.starts().values()) == (1 if really else 0)


def test_a_run_closed_after_a_crash_in_its_last_wave_is_not_called_complete(make: Make) -> None:
    lab = make(["a"], waves={"canary": 1})
    crashed(lab, "a", really=False)
    with lab.run() as run:
        ending = run.close()
    assert ending.state is RunState.HALTED
    assert "closed before all of it was carried out" in ending.message
    assert not lab.counts("a")
    assert not problems(lab.inspect())


def test_a_host_that_drifted_after_a_crash_before_the_effect_is_not_touched(make: Make) -> None:
    lab = make()
    crashed(lab, "a", really=False)
    lab.fleet.set_facts("a", {"note": "somebody was here"})
    with lab.run() as run:
        ending = finish(run)
    assert states(ending)["a"] == "refused"
    assert "it never began: changed since the plan" in message(ending, "a")
    assert not lab.counts("a")


def test_a_host_that_cannot_be_asked_after_a_crash_is_unknown(make: Make) -> None:
    lab = make(limits=LOOSE)
    crashed(lab, "a", really=True)

    def connect(host: Host) -> Session:
        if host.name == "a":
            raise UnreachableError("no route", where="a")
        return lab.fleet.connect(host)

    with lab.run(connect=connect) as run:
        ending = finish(run)
    assert states(ending)["a"] == "unknown"
    assert "upgrade was begun, and the host could not be asked how it ended" in message(ending, "a")
    assert set(lab.fleet.starts().values()) == {1}


def test_a_host_another_run_took_after_a_crash_is_unknown(make: Make) -> None:
    lab = make(limits=LOOSE)
    crashed(lab, "a", really=True)
    with lab.run("bump-2") as other, other.leases.hold("a", "bump-2"), lab.run() as run:
        ending = finish(run)
    assert states(ending)["a"] == "unknown"
    assert "bump-2" in message(ending, "a")


def test_an_interrupted_step_that_turns_out_unknown_is_not_repeated(make: Make) -> None:
    lab = make(limits=LOOSE)
    crashed(lab, "a", really=True)
    unknown = Bump()
    unknown.probe = lambda *_: Outcome(StepResult.UNKNOWN, Evidence("cannot tell"))  # type: ignore[method-assign]
    with lab.run(operation=unknown) as run:
        ending = finish(run)
    assert states(ending)["a"] == "unknown"
    assert lab.counts("a") == {"upgrade": 1}


def test_no_action_begins_before_its_intent_can_be_read_back(make: Make) -> None:
    lab = make(["a", "b", "c"], waves={"canary": 3})

    def look(host: str) -> None:
        records = read_ledger(lab.store, "bump-1", SITE)
        assert host in {record.fields["host"] for record in records if record.kind == "intent"}

    operation = Bump(steps=("upgrade",), hooks={"apply": look})
    with lab.run(operation=operation) as run:
        assert states(carry_out(lab, run)) == dict.fromkeys("abc", "changed")


def test_when_the_ledger_cannot_be_written_nothing_more_is_started(make: Make) -> None:
    lab = make([f"h{number}" for number in range(30)], waves={"canary": 30}, limits={"parallel": 4})
    with lab.run() as run:
        run.make_plan(run.survey())
        lab.approve(run)
        run.check_gate()

        def pull_the_disk(_: object) -> None:
            if len(run.history.hosts) == 5:
                reader = os.open("/dev/null", os.O_RDONLY)
                os.dup2(reader, run.ledger._log._descriptor)  # every write fails now
                os.close(reader)

        with pytest.raises(LedgerError, match="could not be written"):
            run.rollout(progress=pull_the_disk).roll_out(1)
        durable = {(one["host"], one["step"]) for one in run.ledger.records("intent")}
        started = {(host, unit.rsplit("-", 1)[1]) for host, unit in lab.fleet.starts()}
        assert started <= durable, "no action without a durable intent"
    assert len({host for host, _ in started}) < 15
    with lab.run() as run:
        assert set(states(finish(run)).values()) == {"changed"}
    assert set(lab.fleet.starts().values()) == {1}
