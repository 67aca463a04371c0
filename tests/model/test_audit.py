"""Each promise broken once: a run that kept them all is sound, and every single breach is named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from lamplighter.model.audit import GRACE, Audit, Judge, Problem
from lamplighter.model.canonical import sha256
from lamplighter.model.chain import Record
from lamplighter.model.gate import GateResult, internal
from lamplighter.model.outcome import Terminal
from lamplighter.model.plan import HostPlan, Limits, Plan, Requester, Step, Window

START = 1_700_000_000
STEPS = (Step("upgrade", "apt.install", "upgrade"), Step("reboot", "host.reboot", "reboot"))
PLAN = Plan(
    run="run-1", site="demo", runbook="patch-linux", owner="msp", change_type="normal",
    requester=Requester("schedule:weekly", "schedule"), selection="all", fleet=4, created=START,
    expires=START + 10_000, code="0", nonce="n", gate=internal("change-manager"),
    waves=(("a",), ("b", "c")), limits=Limits(canary_failures=0, wave_percent=50, soak_seconds=0),
    hosts=(
        HostPlan("a", "f", STEPS), HostPlan("b", "f", STEPS[:1]), HostPlan("c", "f", STEPS[:1]),
        HostPlan("d", reason="nothing to do", end=Terminal.UNCHANGED),
    ),
    window=Window(START, START + 5000),
)
Row = tuple[str, dict[str, Any]]


def step(host: str, name: str, result: str = "ok") -> list[Row]:
    return [
        ("intent", {"host": host, "step": name, "action": "x", "unit": "u"}),
        ("outcome", {"host": host, "step": name, "result": result, "interrupted": False, "evidence": {}}),
    ]


def end(host: str, terminal: str = "changed", wave: int = 2) -> Row:
    return ("host", {"host": host, "terminal": terminal, "message": "m", "wave": wave})


def good(plan: Plan = PLAN) -> list[Row]:
    return [
        ("opened", {}), ("facts", {"host": "a", "relevant": {}, "bound": {}}),
        ("planned", {"plan": plan.digest}),
        end("d", "unchanged", 0), ("asked", {"number": 1}),
        ("answered", {"number": 1, "approvals": ["line"], "claimed": {}}),
        ("gate", {"passed": True, "plan": plan.digest, "signed": ["x"], "refused": [], "against": []}),
        ("wave-started", {"wave": 1, "hosts": ["a"]}),
        *step("a", "upgrade"), *step("a", "reboot"), ("verified", {"host": "a", "problems": []}),
        end("a", wave=1), ("wave-ended", {"wave": 1, "counts": {"changed": 1}}),
        ("soaked", {"wave": 1, "ill": []}),
        ("wave-started", {"wave": 2, "hosts": ["b", "c"]}),
        *step("b", "upgrade"), *step("c", "upgrade", "failed"), end("b"), end("c", "failed"),
        ("wave-ended", {"wave": 2, "counts": {"changed": 1, "failed": 1}}),
        ("sealed", {"state": "Failed", "counts": {"changed": 2, "unchanged": 1, "failed": 1}}),
    ]


def open_with_a_line(_: bytes, lines: Sequence[str], when: int) -> GateResult:
    return GateResult(passed=bool(lines) and when < START + 9000, needed=() if lines else ("a signature",))


def audit(
    rows: Sequence[Row], *, plan: Plan = PLAN, data: bytes | None = b"", judge: Judge = open_with_a_line,
    clock: Callable[[int], int] = lambda seq: START + seq,
) -> tuple[Problem, ...]:
    stored = plan.to_bytes() if data == b"" else data
    found = Audit("run-1", "demo", lambda _: stored, judge)
    for seq, (kind, fields) in enumerate(rows, start=1):
        found.note(Record(seq, "", clock(seq) * 1000, kind, fields, ""))
    return found.finish()


def codes(rows: Sequence[Row], **options: Any) -> set[str]:
    return {problem.code for problem in audit(rows, **options)}


def at(kind: str, **fields: Any) -> int:
    """Where a record of the good run stands."""
    return next(
        place for place, (name, found) in enumerate(good())
        if name == kind and all(found.get(key) == value for key, value in fields.items())
    )


def without(kind: str, **fields: Any) -> list[Row]:
    rows = good()
    del rows[at(kind, **fields)]
    return rows


def put(place: int, *more: Row) -> list[Row]:
    rows = good()
    rows[place:place] = more
    return rows


def changed(place: int, **fields: Any) -> list[Row]:
    rows = good()
    rows[place] = (rows[place][0], {**rows[place][1], **fields})
    return rows


def test_a_run_that_kept_every_promise_is_sound() -> None:
    assert audit(good()) == ()


def test_a_crash_while_the_run_was_opened_is_no_breach() -> None:
    torn: Row = ("recovered", {"bytes": 12, "digest": "sha256:0"})
    assert audit(put(0, torn)) == ()
    assert audit(put(0, torn, torn)) == ()
    assert codes([torn, *good()[1:]]) >= {"no-opening"}


def test_a_run_that_is_still_open_is_sound_so_far() -> None:
    rows = good()
    for length in range(1, len(rows)):
        assert audit(rows[:length]) == ()


@pytest.mark.parametrize(("code", "rows"), [
    ("no-opening", good()[1:]),
    ("opened-twice", put(3, ("opened", {}))),
    ("planned-twice", put(3, ("planned", {"plan": PLAN.digest}))),
    ("no-plan", without("planned")),
    ("gate-closed", without("gate")),
    ("gate-closed", without("answered")),
    ("wave-order", changed(at("wave-started", wave=1), wave=2)),
    ("wave-order", without("wave-started", wave=1)),
    ("wave-hosts", changed(at("wave-started", wave=2), hosts=["b"])),
    ("wave-early", without("wave-ended", wave=1)),
    ("wave-early", without("soaked")),
    ("host-missing", without("host", host="a")),
    ("host-missing", without("host", host="d")),
    ("after-halt", put(at("wave-started", wave=2), ("halted", {"state": "Halted", "why": "w"}))),
    ("after-halt", put(at("intent", host="b"), ("halted", {"state": "Halted", "why": "w"}))),
    ("over-budget", changed(at("host", host="a"), terminal="failed")),
    ("not-planned", changed(at("intent", host="b"), step="reboot")),
    ("not-planned", changed(at("intent", host="b"), host="x")),
    ("not-planned", put(at("sealed"), end("x"))),
    ("not-in-wave", put(at("wave-ended", wave=1), *step("b", "upgrade"))),
    ("not-in-wave", put(at("soaked"), *step("b", "upgrade"))),
    ("intent-twice", put(at("intent", host="a", step="reboot"), *step("a", "upgrade"))),
    ("step-order", without("intent", host="a", step="upgrade")),
    ("step-early", changed(at("outcome", host="a", step="upgrade"), result="failed")),
    ("step-early", without("outcome", host="a", step="upgrade")),
    ("after-end", put(at("intent", host="a", step="reboot"), end("a", "failed", 1))),
    ("no-intent", without("intent", host="b")),
    ("outcome-twice", put(at("host", host="b"), step("b", "upgrade")[1])),
    ("intent-open", without("outcome", host="b")),
    ("no-outcome", put(at("intent", host="b"), ("reconciliation", step("b", "upgrade")[1][1]))),
    ("host-twice", put(at("sealed"), end("c", "failed"))),
    ("wrong-end", changed(at("host", host="b"), terminal="unchanged")),
    ("wrong-end", changed(at("host", host="c"), terminal="changed")),
    ("wrong-end", changed(at("host", host="b"), terminal="refused")),
    ("counts-differ", changed(at("wave-ended", wave=2), counts={"changed": 2})),
    ("counts-differ", changed(at("sealed"), counts={"changed": 3})),
    ("wave-order", changed(at("wave-ended", wave=2), wave=1)),
    ("plan-differs", changed(at("gate"), plan="sha256:" + "0" * 64)),
    ("malformed", changed(at("outcome", host="b"), result="perhaps")),
    ("malformed", changed(at("host", host="b"), terminal=3)),
    ("malformed", put(3, ("wave-started", {}))),
])
def test_every_breach_is_named(code: str, rows: list[Row]) -> None:
    assert code in codes(rows)


def test_the_first_record_that_shows_it_is_named() -> None:
    problem = audit(changed(at("intent", host="b"), host="x"))[0]
    assert (problem.record, problem.code) == (at("intent", host="b") + 1, "not-planned")


@pytest.mark.parametrize(("code", "data"), [
    ("plan-missing", None), ("plan-differs", b"{}"), ("plan-differs", PLAN.replace(nonce="m").to_bytes()),
])
def test_the_stored_plan_must_be_the_one_that_is_named(code: str, data: bytes | None) -> None:
    assert code in codes(good(), data=data)


def test_the_plan_of_another_run_is_foreign() -> None:
    other = PLAN.replace(run="run-2")
    assert "plan-foreign" in codes(good(other), plan=other)


def test_every_host_is_judged_at_the_time_it_was_touched() -> None:
    place = at("intent", host="c")
    late = audit(good(), clock=lambda seq: START + (9000 + GRACE if seq > place else seq))
    assert {(problem.record, problem.code) for problem in late} == {
        (place + 1, "gate-closed"), (place + 1, "outside-window"),
    }
    within = audit(good(), clock=lambda seq: START + (9000 if seq > place else seq))
    assert {problem.code for problem in within} == {"outside-window"}, "the worker looked a moment earlier"


def test_an_approval_that_came_later_does_not_count_before() -> None:
    rows = without("answered")
    rows.insert(at("sealed") - 1, good()[at("answered")])
    assert "gate-closed" in codes(rows)


def test_an_interrupted_step_is_reconciled_and_goes_on() -> None:
    rows = changed(at("outcome", host="a", step="upgrade"), result="unknown", interrupted=True)
    rows.insert(at("intent", host="a", step="reboot"), ("reconciliation", step("a", "upgrade")[1][1]))
    assert audit(rows) == ()


def test_a_host_that_fell_ill_during_the_soak_ends_failed() -> None:
    plan = PLAN.replace(limits=replace(PLAN.limits, canary_failures=1))
    rows = good(plan)
    rows.insert(at("soaked"), end("a", "failed", 1))
    rows[-1] = ("sealed", {"state": "Failed", "counts": {"changed": 1, "unchanged": 1, "failed": 2}})
    assert audit(rows, plan=plan) == ()
    assert sha256(plan.to_bytes()) == plan.digest


def test_without_a_judge_signatures_are_left_alone() -> None:
    found = Audit("run-1", "demo", lambda _: PLAN.to_bytes(), None)
    for seq, (kind, fields) in enumerate(without("answered"), start=1):
        found.note(Record(seq, "", (START + seq) * 1000, kind, fields, ""))
    assert found.finish() == ()
