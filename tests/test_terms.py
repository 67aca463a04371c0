"""Stages, windows and freezes, as whole runs over simulated hosts: what may be changed, and when."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from lamplighter.engine import provenance, terms
from lamplighter.engine.drafting import Request
from lamplighter.engine.run import Run
from lamplighter.engine.stages import keep_decision, keep_demotion, kept, stage_for
from lamplighter.engine.terms import await_window
from lamplighter.errors import NotApprovedError, SelectionError, WindowClosedError
from lamplighter.leases import Leases
from lamplighter.ledger import Ledger
from lamplighter.model import stage
from lamplighter.model.canonical import sha256
from lamplighter.model.envelope import Envelope
from lamplighter.model.outcome import RunState
from lamplighter.model.plan import Requester
from lamplighter.model.runbook import ChangeType
from lamplighter.model.stage import Demotion, Stage
from lamplighter.site import load_site
from tests.enginekit import (
    ASHA,
    HOSTS,
    KIRAN,
    LOOSE,
    PRIYA,
    RUNBOOK,
    SITE,
    Bump,
    Lab,
    Make,
    carry_out,
    finish,
    labs,
    message,
    on,
    states,
)

HOUR = 3600


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    monkeypatch.setattr(terms, "POLICY_SECONDS", 0.0)  # what a test changes counts at once
    yield from labs(tmp_path)


def declare(lab: Lab, **how: Any) -> None:
    path = lab.path / "responsibilities.yaml"
    matrix = yaml.safe_load(path.read_text())
    matrix["functions"][RUNBOOK.function] |= how
    path.write_text(yaml.safe_dump(matrix))


def decide(lab: Lab, name: Stage, who: str = ASHA, **code: str) -> None:
    now = int(lab.clock.time())
    decision = stage.Decision(
        SITE, RUNBOOK.function, name, who, now, now + 86400, secrets.token_hex(16), sha256(b"e"), code
    ).to_bytes()
    line = Envelope(decision, lab.keys[who].sign(decision, stage.NAMESPACE)).to_line()
    keep_decision(lab.store, RUNBOOK.function, line)


def clock_text(when: float) -> dict[str, Any]:
    moment = datetime.fromtimestamp(when, UTC)
    return {"dates": [f"{moment:%Y-%m-%d}"], "at": f"{moment:%H:%M}", "time_zone": "UTC"}


def calendar(lab: Lab, *windows: tuple[float, str], frozen: int = 0, closed: bool = True) -> None:
    """Write a calendar: windows as (hours from now, duration), and for how many days all is frozen."""
    now = lab.clock.time()
    value: dict[str, Any] = {"outside_windows": "closed" if closed else "open", "windows": [
        {"name": f"w{number}", "duration": lasts, **clock_text(now + hours * HOUR)}
        for number, (hours, lasts) in enumerate(windows)
    ]}
    if frozen:
        first, last = (datetime.fromtimestamp(now + add * 86400, UTC).date() for add in (0, frozen - 1))
        value["freezes"] = [{
            "name": "books", "from": str(first), "to": str(last), "reason": "closed", "time_zone": "UTC",
            "owner": "internal/change-manager",
        }]
    (lab.path / "calendar.yaml").write_text(yaml.safe_dump(value))


@contextmanager
def open_with(lab: Lab, runbook: Any = RUNBOOK, operation: Any = None, **how: Any) -> Iterator[Run]:
    """A run of the schedule, with more in its request than the kit's."""
    asks = Requester("schedule:nightly", "schedule")
    request = Request(runbook, load_site(lab.path), operation or Bump(), asks, **how)
    clock, sleep = lab.clock.time, lab.clock.sleep
    with (
        Ledger.open(lab.store, "bump-1", SITE, clock=clock) as ledger,
        Leases(lab.store, ttl=5, margin=0, clock=clock) as leases,
    ):
        yield Run("bump-1", request, lab.store, ledger, lab.fleet.connect, leases, clock, sleep)


# --- stages ---------------------------------------------------------------------------------------


def test_shadow_plans_and_changes_nothing_whoever_signs(make: Make) -> None:
    lab = make()
    declare(lab, stage="shadow")
    with lab.run() as run:
        plan = run.make_plan(run.survey())
        assert plan.targets == tuple(HOSTS)
        lab.approve(run)
        assert not run.check_gate().passed
        with pytest.raises(NotApprovedError, match="stage shadow"):
            run.guard(("a",))
        run.rollout().roll_out(1)
        ending = run.close()
    assert ending.state is RunState.PLANNED
    assert set(states(ending).values()) == {"skipped"}
    assert "planned only" in ending.message
    assert all(lab.counts(host) == {} for host in HOSTS)


def test_the_rollout_itself_asks_for_the_stage(make: Make) -> None:
    lab = make()
    with lab.run() as run:
        run.make_plan(run.survey())
        lab.approve(run)
        assert run.check_gate().passed
        declare(lab, stage="shadow")
        ending = finish(run)
    assert ending.state is RunState.HALTED
    assert all(lab.counts(host) == {} for host in HOSTS)


def test_a_stage_taken_back_stops_a_run_before_its_next_host(make: Make) -> None:
    lab = make(limits={"parallel": 1})

    def act() -> None:
        keep_demotion(lab.store, RUNBOOK.function, Demotion(Stage.SHADOW, int(lab.clock.time()), "enough"))

    with lab.run(operation=Bump(hooks={"verify": on("b", act=act)})) as run:
        ending = carry_out(lab, run)
    assert ending.state is RunState.HALTED
    changed = [host for host, state in states(ending).items() if state == "changed"]
    assert changed == ["a", "b"]
    assert lab.counts("c") == {}


def test_internal_looks_at_no_host(make: Make) -> None:
    lab = make()
    declare(lab, stage="internal")
    asked: list[str] = []
    with lab.run(operation=Bump(hooks={"survey": on(*HOSTS, act=lambda: asked.append("x"))})) as run:
        ending = carry_out(lab, run)
    assert ending.state is RunState.REJECTED
    assert set(states(ending).values()) == {"refused"}
    assert asked == []


def test_what_nobody_answers_for_is_internal(make: Make) -> None:
    lab = make()
    declare(lab, runbooks=[])
    with lab.run() as run:
        ending = carry_out(lab, run)
    assert ending.state is RunState.REJECTED
    assert "no function in responsibilities.yaml claims bump-version" in ending.message


def test_the_msp_decides_nothing(make: Make) -> None:
    lab = make()
    for key in list(lab.store.list(f"stages/{RUNBOOK.function}/")):
        (lab.store.root / key).unlink()
    decide(lab, Stage.DELEGATED, PRIYA)
    site = load_site(lab.path)
    now = int(lab.clock.time())
    assert stage_for(RUNBOOK, site, lab.store, now).stage is Stage.SHADOW
    assert [one.why for one in kept(lab.store, site, RUNBOOK.function, now).rulings] == ["wrong-party"]


def test_a_record_that_cannot_be_read_takes_away_what_any_could(make: Make) -> None:
    lab = make()
    lab.store.put_new(f"stages/{RUNBOOK.function}/demotion-x", b"{}")
    found = stage_for(RUNBOOK, load_site(lab.path), lab.store, int(lab.clock.time()))
    assert (found.stage, found.why) == (Stage.SHADOW, "the record demotion-x cannot be read")


STANDARD = replace(RUNBOOK, change=ChangeType.STANDARD)


@pytest.mark.parametrize(("declared", "change"), [("supervised", "normal"), ("delegated", "standard")])
def test_supervised_signs_for_every_run(make: Make, declared: str, change: str) -> None:
    lab = make()
    declare(lab, stage=declared)
    with open_with(lab, runbook=STANDARD) as run:
        assert run.make_plan(run.survey()).change_type == change
        run.close()


def test_a_standard_run_stops_when_its_function_is_demoted(make: Make) -> None:
    lab = make()
    with open_with(lab, runbook=STANDARD) as run:
        run.make_plan(run.survey())
        lab.approve(run)
        assert run.check_gate().passed
        run.guard(("a",))
        demotion = Demotion(Stage.SUPERVISED, int(lab.clock.time()) + 1, "a run halted")
        keep_demotion(lab.store, RUNBOOK.function, demotion)
        with pytest.raises(NotApprovedError, match="supervised by now"):
            run.guard(("a",))
        run.close()


@pytest.mark.parametrize(("hooks", "triggers", "demoted"), [
    ({"verify": on("a", error=NotApprovedError("ill"))}, ["failed-verify"], True),
    ({"verify": on("a", error=NotApprovedError("ill"))}, ["halted"], True),  # an ill canary halts as well
    ({"verify": on("a", error=NotApprovedError("ill"))}, [], False),
    ({}, ["halted", "failed-verify"], False),
])
def test_a_run_that_goes_wrong_takes_the_function_back(
    make: Make, hooks: dict[str, Any], triggers: list[str], demoted: bool
) -> None:
    lab = make()
    declare(lab, demote_on=triggers)
    with lab.run(operation=Bump(hooks=hooks)) as run:
        ending = carry_out(lab, run)
        kinds = [one.kind for one in run.ledger.records()]
    assert ("at most supervised" in ending.message) == demoted
    assert ("demoted" in kinds) == demoted
    now = int(lab.clock.time())
    assert (stage_for(RUNBOOK, load_site(lab.path), lab.store, now).stage is Stage.SUPERVISED) == demoted
    lab.clock.sleep(2)
    decide(lab, Stage.DELEGATED)
    now = int(lab.clock.time())
    assert stage_for(RUNBOOK, load_site(lab.path), lab.store, now).stage is Stage.DELEGATED, "decided anew"


def test_other_code_than_was_decided_on_is_supervised(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = make()
    lab.clock.sleep(2)
    declare(lab, demote_on=["code-change"])
    decide(lab, Stage.DELEGATED, **{RUNBOOK.id: provenance.code_digest(RUNBOOK)})
    site = load_site(lab.path)
    assert stage_for(RUNBOOK, site, lab.store, int(lab.clock.time())).stage is Stage.DELEGATED
    monkeypatch.setattr("lamplighter.engine.stages.code_digest", lambda _: "sha256:other")
    assert stage_for(RUNBOOK, site, lab.store, int(lab.clock.time())).stage is Stage.SUPERVISED


# --- windows --------------------------------------------------------------------------------------


def test_a_run_that_comes_too_late_is_missed_and_looks_at_no_host(make: Make) -> None:
    lab = make()
    calendar(lab, (-4, "2h"), (20, "2h"))
    due = int(lab.clock.time()) - 3 * HOUR
    asked: list[str] = []
    operation = Bump(hooks={"survey": on(*HOSTS, act=lambda: asked.append("x"))})
    with open_with(lab, due=due, operation=operation) as run:
        ending = carry_out(lab, run)
    assert ending.state is RunState.MISSED
    assert set(states(ending).values()) == {"skipped"}
    assert "its window closed" in ending.message
    assert "the next one opens" in ending.message
    assert asked == []


def test_a_run_planned_early_waits_for_its_window(make: Make) -> None:
    lab = make()
    calendar(lab, (5, "2h"))
    with lab.run() as run:
        plan = run.make_plan(run.survey())
        assert plan.window.opens < plan.window.closes == plan.expires
        lab.approve(run, lasts=8 * HOUR)
        assert run.check_gate().passed
        assert await_window(run.journal, plan.window, lab.clock.time()) == plan.window.opens
        assert await_window(run.journal, plan.window, lab.clock.time()) == plan.window.opens
        with pytest.raises(WindowClosedError, match="not open yet"):
            run.guard(("a",))
        lab.clock.sleep(plan.window.opens - lab.clock.time() + 1)
        assert await_window(run.journal, plan.window, lab.clock.time()) == 0
        kinds = [one.kind for one in run.ledger.records()]
        assert (kinds.count("window-awaited"), kinds.count("window-opened")) == (1, 1)
        ending = finish(run)
    assert ending.state is RunState.COMPLETED


def test_a_signed_run_whose_worker_slept_through_the_window_is_missed(make: Make) -> None:
    lab = make()
    calendar(lab, (5, "2h"))
    with lab.run() as run:
        run.make_plan(run.survey())
        lab.approve(run, lasts=20 * HOUR)
        assert run.check_gate().passed
    lab.clock.sleep(8 * HOUR)
    with lab.run() as run:
        assert not run.check_gate().passed
        ending = run.close()
    assert ending.state is RunState.MISSED
    assert all(lab.counts(host) == {} for host in HOSTS)


def test_a_wave_that_would_not_be_over_does_not_start(make: Make) -> None:
    lab = make(waves={"minutes": 40})
    calendar(lab, (-1, "90m"))
    with lab.run() as run:
        ending = carry_out(lab, run)
    assert ending.state is RunState.MISSED
    assert "a wave takes up to 40 min" in ending.message
    assert all(lab.counts(host) == {} for host in HOSTS)


def test_a_later_wave_that_would_not_be_over_halts_the_run(make: Make) -> None:
    lab = make(waves={"minutes": 10, "canary": 1, "shares": [100]}, limits=LOOSE)
    calendar(lab, (-1, "80m"))
    hooks = {"verify": on("a", act=lambda: lab.clock.sleep(15 * 60))}
    with lab.run(operation=Bump(hooks=hooks)) as run:
        ending = carry_out(lab, run)
    assert ending.state is RunState.HALTED
    assert states(ending) == {"a": "changed", **dict.fromkeys("bcde", "skipped")}


def test_a_freeze_written_while_the_run_is_under_way_stops_it_before_the_next_host(make: Make) -> None:
    lab = make(limits={"parallel": 1})
    calendar(lab, closed=False)
    hooks = {"verify": on("b", act=lambda: calendar(lab, closed=False, frozen=1))}
    with lab.run(operation=Bump(hooks=hooks)) as run:
        ending = carry_out(lab, run)
    assert ending.state is RunState.HALTED
    assert lab.counts("c") == {}
    assert "frozen: books (closed; internal/change-manager)" in message(ending, "c") + ending.message


def test_hosts_without_a_window_in_common_cannot_be_one_run(make: Make) -> None:
    lab = make()
    calendar(lab)
    with lab.run() as run, pytest.raises(SelectionError, match="no maintenance window in common"):
        run.survey()


# --- setting a freeze aside -----------------------------------------------------------------------


def test_a_freeze_takes_both_parties_to_set_aside(make: Make) -> None:
    lab = make()
    calendar(lab, closed=False, frozen=2)
    with open_with(lab, override="the mill stands still") as run:
        plan = run.make_plan(run.survey())
        assert plan.window.override == "the mill stands still"
        assert {str(one.party) for one in plan.gate.requirements} == {"internal", "msp"}
        lab.approve(run, ASHA)
        first = run.check_gate()
        assert not first.passed
        assert "msp" in first.needed[0]
        lab.approve(run, PRIYA)
        assert run.check_gate().passed
        ending = finish(run)
    assert ending.state is RunState.COMPLETED


def test_two_of_one_party_do_not_set_a_freeze_aside(make: Make) -> None:
    lab = make()
    calendar(lab, closed=False, frozen=2)
    with open_with(lab, override="why") as run:
        run.make_plan(run.survey())
        lab.approve(run, ASHA)
        lab.approve(run, KIRAN)
        assert not run.check_gate().passed
        run.close()


@pytest.mark.parametrize("how", [{"emergency": True}, {"runbook": STANDARD}])
def test_no_emergency_or_standard_change_is_a_way_around_it(make: Make, how: dict[str, Any]) -> None:
    lab = make()
    calendar(lab, closed=False, frozen=2)
    with open_with(lab, override="why", **how) as run:
        assert run.make_plan(run.survey()).change_type == "normal"
        run.close()


def test_without_an_override_a_frozen_run_waits_for_the_end_of_the_freeze(make: Make) -> None:
    lab = make()
    calendar(lab, closed=False, frozen=2)
    with lab.run() as run:
        plan = run.make_plan(run.survey())
        lab.approve(run, lasts=90 * HOUR)
        assert run.check_gate().passed
        with pytest.raises(WindowClosedError):
            run.guard(("a",))
        lab.clock.sleep(plan.window.opens - lab.clock.time() + 1)
        run.guard(("a",))
        run.close()
