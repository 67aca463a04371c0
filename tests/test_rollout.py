"""The engine over simulated hosts: every terminal state, the fan-out, the brakes, the gate."""

from __future__ import annotations

import threading
import time
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lamplighter.engine.gatekeeper import drop_line
from lamplighter.engine.run import Ending
from lamplighter.errors import RefusedError, SecretError, SessionLostError, UnreachableError
from lamplighter.model.approval import Decision
from lamplighter.model.inventory import Host
from lamplighter.model.outcome import Evidence, Health, RunState
from lamplighter.model.session import Session
from tests.enginekit import (
    HOSTS,
    LOOSE,
    Bump,
    Lab,
    Make,
    carry_out,
    finish,
    labs,
    locked,
    message,
    on,
    states,
)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    yield from labs(tmp_path)


def rolled(lab: Lab, operation: Bump | None = None, **how: Any) -> Ending:
    with lab.run(operation=operation, **how) as run:
        return carry_out(lab, run)


# --- terminal states --------------------------------------------------------------------------------


def test_every_host_changes_once_in_its_wave(make: Make) -> None:
    lab = make(waves={"canary": 1, "shares": [50, 100]})
    ending = rolled(lab)
    assert ending.state is RunState.COMPLETED
    assert ending.message == "5 changed"
    assert {one.host: one.wave for one in ending.outcomes} == {"a": 1, "b": 2, "c": 2, "d": 3, "e": 3}
    assert all(lab.counts(host) == {"upgrade": 1, "restart": 1} for host in HOSTS)
    assert message(ending, "a") == "upgrade done; restart done"


def test_hosts_with_nothing_to_do_are_not_touched(make: Make) -> None:
    lab = make()
    for host in HOSTS:
        lab.fleet.set_facts(host, {"version": 2})
    ending = rolled(lab)
    assert ending.state is RunState.COMPLETED
    assert set(states(ending).values()) == {"unchanged"}
    assert not lab.fleet.starts()


def refuse_upgrade(_: Lab) -> Bump:
    return Bump(hooks={"apply": on("a", error=RefusedError("the lock is held"))})


def break_upgrade(lab: Lab) -> Bump:
    lab.fleet.set_facts("a", {"breaks": ["upgrade"]})
    return Bump()


def break_restart(lab: Lab) -> Bump:
    lab.fleet.set_facts("a", {"breaks": ["restart"]})
    return Bump()


def lose_before(_: Lab) -> Bump:
    return Bump(hooks={"apply": on("a", error=SessionLostError("cut off"))})


def lose_for_good(_: Lab) -> Bump:
    lost = SessionLostError("cut off")
    return Bump(hooks={"apply": on("a", error=lost), "probe": on("a", error=lost)})


def secret_gone(_: Lab) -> Bump:
    calls: list[str] = []

    def survey(host: str) -> None:
        calls.append(host)
        if host == "a" and calls.count("a") == 2:
            raise SecretError("env:TOKEN is not set")

    return Bump(hooks={"survey": survey})


def bug(name: str) -> Callable[[Lab], Bump]:
    return lambda _: Bump(hooks={name: on("a", error=ValueError("secret text"))})


@pytest.mark.parametrize(("trouble", "terminal", "told"), [
    (refuse_upgrade, "refused", "upgrade refused: the lock is held"),
    (break_upgrade, "failed", "upgrade failed: a: upgrade ended with 100: it broke"),
    (break_restart, "failed", "done before: upgrade done. restart failed"),
    (lose_before, "failed", "upgrade failed: it never began: cut off"),
    (lose_for_good, "unknown", "upgrade unknown: the host could not be asked how it ended: cut off"),
    (secret_gone, "refused", "env:TOKEN is not set. Nothing was changed"),
    (bug("survey"), "failed", "unexpected ValueError; this is a bug in the runbook"),
    (bug("plan"), "failed", "unexpected ValueError; this is a bug in the runbook"),
    (bug("apply"), "unknown", "upgrade unknown: unexpected ValueError"),
    (bug("verify"), "failed", "upgrade done; restart done; but unexpected ValueError"),
])
def test_trouble_on_one_host_is_its_own(
    make: Make, trouble: Callable[[Lab], Bump], terminal: str, told: str
) -> None:
    lab = make(limits=LOOSE)
    ending = rolled(lab, trouble(lab))
    assert states(ending) == {"a": terminal, **dict.fromkeys("bcde", "changed")}
    assert told in message(ending, "a")
    assert "secret text" not in str(ending)
    assert ending.state is (RunState.COMPLETED if terminal == "refused" else RunState.FAILED)
    assert max(lab.fleet.starts().values()) == 1


@pytest.mark.parametrize("error", [
    UnreachableError("no route to host", where="a"), SecretError("env:KEY is not set"), ValueError("bug"),
])
def test_a_host_that_cannot_be_reached_is_a_row_in_the_report(make: Make, error: Exception) -> None:
    lab = make(limits=LOOSE)

    def connect(host: Host) -> Session:
        if host.name == "a":
            raise error
        return lab.fleet.connect(host)

    ending = rolled(lab, connect=connect)
    assert states(ending)["a"] == ("unreachable" if isinstance(error, UnreachableError) else "failed")
    assert list(states(ending).values())[1:] == ["changed"] * 4
    assert ending.state is RunState.FAILED
    assert "Look at: a" in ending.message


def test_facts_that_changed_since_the_plan_keep_a_host_untouched(make: Make) -> None:
    lab = make()
    with lab.run() as run:
        run.make_plan(run.survey())
        lab.approve(run)
        lab.fleet.set_facts("b", {"version": 1, "note": "rebooted"})
        ending = carry_out(lab, run)
    assert states(ending)["b"] == "drifted"
    assert "note: " in message(ending, "b")
    assert "rebooted" in message(ending, "b")
    assert not lab.counts("b")


def test_a_host_that_left_the_inventory_is_not_touched(make: Make) -> None:
    lab = make(limits=LOOSE)
    with lab.run() as run:
        run.make_plan(run.survey())
        lab.approve(run)
    hosts = (lab.path / "hosts.yaml").read_text()
    (lab.path / "hosts.yaml").write_text(hosts.replace("    c: {}\n", ""))
    with lab.run() as run:
        ending = carry_out(lab, run)
    assert states(ending)["c"] == "failed"
    assert "not in the inventory any more" in message(ending, "c")
    assert not lab.counts("c")


def test_text_in_any_unicode_form_can_be_recorded(make: Make) -> None:
    apart = unicodedata.normalize("NFD", "Ängström é")

    class Accents(Bump):
        def apply(self, *args: Any) -> Evidence:
            super().apply(*args)
            return Evidence(apart, {"raw": apart})

        def verify(self, *args: Any) -> Health:
            super().verify(*args)
            return Health((), Evidence("x" * 100_000, {"load": 0.5}))

    lab = make(["a"])
    lab.fleet.set_facts("a", {"note": "plain"})
    ending = rolled(lab, Accents())
    assert states(ending) == {"a": "changed"}
    assert "Ängström" in unicodedata.normalize("NFC", message(ending, "a"))


def test_facts_and_plans_that_cannot_be_written_down_are_that_hosts_trouble(make: Make) -> None:
    lab = make(limits=LOOSE)
    lab.fleet.set_facts("a", {"note": unicodedata.normalize("NFD", "é")})
    lab.fleet.set_facts("b", {"note": "x" * 1_048_100})
    ending = rolled(lab)
    assert states(ending) == {"a": "refused", "b": "refused", **dict.fromkeys("cde", "changed")}
    assert "cannot be planned for" in message(ending, "a")


# --- fan-out ----------------------------------------------------------------------------------------


def test_a_hung_host_delays_nobody(make: Make) -> None:
    lab = make([f"h{number}" for number in range(20)], waves={"canary": 20}, limits={"parallel": 4})
    release, ended = threading.Event(), []
    operation = Bump(hooks={"apply": on("h0", act=lambda: release.wait(30))})
    with lab.run(operation=operation) as run:
        run.make_plan(run.survey())
        lab.approve(run)
        run.check_gate()
        rollout = run.rollout(progress=lambda one: ended.append(one.host))
        thread = threading.Thread(target=rollout.roll_out, args=(1,))
        thread.start()
        deadline = time.monotonic() + 10
        while len(ended) < 19 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(ended) == 19
        assert "h0" not in ended
        release.set()
        thread.join(10)
        assert set(states(run.close()).values()) == {"changed"}


def test_a_display_that_fails_stops_nothing(make: Make) -> None:
    lab = make()

    def broken(*_: Any) -> None:
        raise ConnectionError("Prefect is away")

    with lab.run() as run:
        run.make_plan(run.survey(broken))
        lab.approve(run)
        run.check_gate()
        rollout = run.rollout(broken, broken)
        for wave, _ in enumerate(run.plan().waves, 1):
            rollout.roll_out(wave)
        assert set(states(run.close()).values()) == {"changed"}


def test_a_wave_out_of_turn_is_refused(make: Make) -> None:
    lab = make()
    with lab.run() as run:
        plan = run.make_plan(run.survey())
        lab.approve(run)
        run.check_gate()
        for number in (2, 0, -1, len(plan.waves) + 1):
            with pytest.raises(RefusedError, match="cannot start: 0 of"):
                run.rollout().roll_out(number)
        assert not lab.fleet.starts()
        run.rollout().roll_out(1)
        records = run.ledger.count
        run.rollout().roll_out(1)
        assert run.ledger.count == records, "a wave that ended is left alone"


# --- brakes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("broken", "limits", "waves", "stopped_after", "why"), [
    ("a", {}, {"canary": 1}, 1, "1 failed of 1 in the canary wave, and its budget is 0"),
    ("ab", {"canary_failures": 1}, {"canary": 3}, 3, "2 failed of 3 in the canary wave, and its budget is 1"),
    ("b", {}, {"canary": 1, "shares": [60, 100]}, 3, "1 failed of 2 in wave 2, and its budget is 0"),
    ("bc", {"wave_percent": 50}, {"canary": 1, "shares": [60, 100]}, 3, "2 failed of 2 in wave 2"),
    ("ab", {"canary_failures": 3, "run_failures": 1}, {"canary": 3}, 3,
     "2 failed in this run, and its budget is 1"),
])
def test_the_brake_stops_before_the_next_wave(
    make: Make, broken: str, limits: dict[str, int], waves: dict[str, Any], stopped_after: int, why: str
) -> None:
    lab = make(limits=limits, waves=waves)
    for host in broken:
        lab.fleet.set_facts(host, {"breaks": ["upgrade"]})
    ending = rolled(lab)
    assert ending.state is RunState.HALTED
    assert why in ending.message
    assert "soak" not in ending.message, "it stops at once"
    after = [one for one in ending.outcomes if str(one.terminal) == "skipped"]
    assert [one.host for one in after] == HOSTS[stopped_after:]
    assert all(why in one.message for one in after)
    assert {host for host, _ in lab.fleet.starts()} == set(HOSTS[:stopped_after])


def test_unreachable_hosts_of_the_survey_spend_the_runs_budget(make: Make) -> None:
    lab = make(limits={"run_failures": 1})

    def connect(host: Host) -> Session:
        if host.name in "ab":
            raise UnreachableError("no route", where=host.name)
        return lab.fleet.connect(host)

    ending = rolled(lab, connect=connect)
    assert ending.state is RunState.HALTED
    assert "2 unreachable in this run" in ending.message
    assert not lab.fleet.starts()


def test_another_runs_host_is_refused_and_named(make: Make) -> None:
    lab = make()
    with lab.run("bump-2") as other, other.leases.hold("b", "bump-2"):
        ending = rolled(lab)
    assert states(ending)["b"] == "refused"
    assert "run bump-2" in message(ending, "b")
    assert not lab.counts("b")


def test_a_locked_host_is_refused_and_the_others_go_on(make: Make) -> None:
    lab = make()
    hooks = {"apply": lambda host: locked(host) if host == "b" else None}
    ending = rolled(lab, Bump(hooks=hooks))
    assert states(ending)["b"] == "refused"
    assert "the package database is locked. Nothing was changed" in message(ending, "b")
    assert ending.state is RunState.COMPLETED


# --- gate -------------------------------------------------------------------------------------------


def test_a_revoked_approval_stops_before_the_next_host_and_halts(make: Make) -> None:
    """Also in the last wave: a run that was stopped is not `Completed`."""
    lab = make(waves={"canary": 5}, limits={"parallel": 1})
    with lab.run() as run:
        plan = run.make_plan(run.survey())
        lab.approve(run)
        assert run.check_gate().passed

        def revoke(_: object) -> None:
            if len(run.history.hosts) == 2:
                lab.clock.sleep(10)
                drop_line(lab.store, plan.digest, lab.sign(plan.to_bytes(), decision=Decision.REVOKE))

        run.rollout(progress=revoke).roll_out(1)
        ending = run.close()
    assert list(states(ending).values()) == ["changed", "changed", "skipped", "skipped", "skipped"]
    assert ending.state is RunState.HALTED
    assert "revoked" in ending.message
    assert {host for host, _ in lab.fleet.starts()} == {"a", "b"}


def test_an_approval_that_expires_while_a_host_is_looked_at_does_not_touch_it(make: Make) -> None:
    lab = make()
    operation = Bump()
    with lab.run(operation=operation) as run:
        run.make_plan(run.survey())
        lab.approve(run, lasts=600)
        assert run.check_gate().passed
        operation.hooks["survey"] = on("a", act=lambda: lab.clock.sleep(601))
        ending = finish(run)
    assert set(states(ending).values()) == {"skipped"}
    assert not lab.fleet.starts()


def test_the_gate_is_asked_before_each_wave(make: Make) -> None:
    """A wave that may not start is not even announced."""
    lab = make(waves={"canary": 1, "shares": [100]})
    with lab.run() as run:
        plan = run.make_plan(run.survey())
        lab.approve(run)
        assert run.check_gate().passed
        lab.clock.sleep(10)
        drop_line(lab.store, plan.digest, lab.sign(plan.to_bytes(), decision=Decision.REVOKE))
        run.rollout().roll_out(1)
        assert not run.history.started
        assert finish(run).state is RunState.HALTED


def test_a_lease_that_is_lost_stops_the_next_step(make: Make) -> None:
    lab = make(["a"])
    with lab.run() as run:
        run.make_plan(run.survey())
        lab.approve(run)
        run.check_gate()

        def lose(_: str) -> None:
            run.leases._held["a"].good_until = 0.0

        run.request.operation.hooks["apply"] = lose
        ending = finish(run)
    assert states(ending) == {"a": "failed"}
    assert "upgrade done, restart not begun: the lease of a was lost" in message(ending, "a")
    assert lab.counts("a") == {"upgrade": 1}


def test_a_window_is_kept(make: Make) -> None:
    lab = make()
    with lab.run() as run:
        run.make_plan(run.survey())
        lab.approve(run)
        assert run.check_gate().passed
        now = int(lab.clock.time())
        for opens, closes, told in ((now + 60, 0, "is not open yet"), (0, now - 60, "has closed")):
            plan = run.plan()
            object.__setattr__(plan.window, "opens", opens)
            object.__setattr__(plan.window, "closes", closes)
            with pytest.raises(Exception, match=f"window {told}"):
                run.guard()
        object.__setattr__(plan.window, "closes", 0)
        run.guard()
