"""A new plan is passed off as one that was approved before: `replans` may name any ended run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lamplighter.engine.replanning import deltas
from lamplighter.model.approval import Decision
from lamplighter.model.plan import Plan
from lamplighter.model.show import gate_page
from tests.enginekit import ASHA, Lab, Make, carry_out, finish, labs


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    yield from labs(tmp_path)


def next_plan(lab: Lab) -> tuple[Plan, str]:
    """The plan that takes up the first run, and what its approver is shown."""
    with lab.run("bump-2") as run:
        plan = run.make_plan(run.survey())
        different = deltas(run.store, run.site, "bump-1", plan)
        page = gate_page(plan, "UTC", run.check_gate(), 1, "bump-1", different)
    return plan, page


def shows_every_step(plan: Plan, page: str) -> bool:
    return "What will be done" in page and all(name in page for name in plan.targets)


def test_a_rejected_plan_was_not_approved_before(make: Make) -> None:
    lab = make(["a", "b"])
    with lab.run() as run:
        plan = run.make_plan(run.survey())
        line = lab.sign(plan.to_bytes(), decision=Decision.REJECT)
        run.receive(run.ask(), [line], {"decision": "reject", "reason": ""})
        run.check_gate()
        assert finish(run).state == "Rejected"
    plan, page = next_plan(lab)
    assert "which nobody approved: all of it is new" in page
    assert "as approved before" not in page
    assert shows_every_step(plan, page)


def test_a_gate_that_only_the_ledger_calls_open_was_not(make: Make) -> None:
    """A worker in hostile hands writes the record; the signatures in it do not bear it out."""
    lab = make(["a", "b"])
    lab.forged = True
    with lab.run() as run:
        plan = run.make_plan(run.survey())
        run.journal.record(
            "gate", passed=True, plan=plan.digest, signed=[ASHA], refused=[], approvals=[], against=[]
        )
        run.end("Halted", "x")  # type: ignore[arg-type]
        run.close()
    plan, page = next_plan(lab)
    assert "which nobody approved" in page
    assert shows_every_step(plan, page)


def test_what_was_approved_is_told_above_the_plan_and_hides_nothing(make: Make) -> None:
    lab = make(["a", "b"])
    with lab.run() as run:
        run.make_plan(run.survey())
        lab.approve(run)
        assert run.check_gate().passed
        run.end("Halted", "enough")  # type: ignore[arg-type]
        run.close()
    plan, page = next_plan(lab)
    assert page.index("which was approved and left this undone") < page.index("What will be done")
    assert "as approved before" in page
    assert shows_every_step(plan, page)


def test_an_approval_by_a_key_that_was_lost_vouches_for_nothing(make: Make) -> None:
    lab = make(["a", "b"])
    with lab.run() as run:
        run.make_plan(run.survey())
        lab.approve(run)
        assert run.check_gate().passed
        run.end("Halted", "enough")  # type: ignore[arg-type]
        run.close()
    lab.forged = True  # to the verifier of today, too, that run was never approved
    (lab.path / "revoked_keys").write_text(f"{lab.keys[ASHA].public_line}\n")
    listed = (lab.path / "approvers").read_text().splitlines(keepends=True)
    (lab.path / "approvers").write_text("".join(one for one in listed if not one.startswith(ASHA)))
    assert "which nobody approved" in next_plan(lab)[1]


def test_a_run_that_was_carried_out_leaves_nothing_to_take_up(make: Make) -> None:
    lab = make(["a"])
    with lab.run() as run:
        assert carry_out(lab, run).state == "Completed"
    plan, _ = next_plan(lab)
    assert plan.waves == ()
