"""One run as its ledger has it: plan, gate, restart, end."""

from __future__ import annotations

import shutil
import time
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lamplighter.engine import gatekeeper
from lamplighter.engine.gatekeeper import drop_line, plan_key
from lamplighter.errors import (
    LedgerBrokenError,
    LedgerError,
    LimitExceededError,
    NotApprovedError,
    StoreError,
)
from lamplighter.model.approval import Decision
from lamplighter.model.outcome import RunState
from lamplighter.model.plan import Limits
from lamplighter.seals import notes_of
from tests.enginekit import ASHA, HOSTS, KIRAN, PRIYA, Bump, Make, carry_out, finish, labs, message, states


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    yield from labs(tmp_path)


def test_a_restarted_run_goes_on_from_its_ledger(make: Make) -> None:
    lab = make(waves={"canary": 1, "shares": [100]})
    with lab.run() as run:
        digest = run.make_plan(run.survey()).digest
    with lab.run() as run:
        assert run.survey() == ()
        assert run.make_plan(()).digest == digest
        assert not run.check_gate().passed
        assert run.ask() == run.ask() == 1
        lab.approve(run)
    with lab.run() as run:
        assert run.ask() == 2, "an answered question is asked anew"
        assert run.check_gate().passed
        run.rollout().roll_out(1)
    with lab.run() as run:
        assert finish(run).message == "5 changed"
    with lab.run() as run:
        assert run.close().message == "5 changed", "closing again says the same"
    assert [one for one in lab.inspect().runs if one.state == "Completed"]


def test_too_many_hosts_end_the_run_with_a_row_for_each(make: Make) -> None:
    lab = make(limits={"hosts": 2})
    with lab.run() as run:
        with pytest.raises(LimitExceededError) as caught:
            run.make_plan(run.survey())
        run.end(RunState.FAILED, str(caught.value))
        ending = run.close()
    assert states(ending) == dict.fromkeys(HOSTS, "skipped")
    assert "5 hosts are more than the 2" in message(ending, "a")
    assert "have internal IT raise the limit" in ending.message
    assert {one.wave for one in ending.outcomes} == {0}


def test_the_plan_that_runs_is_the_one_in_the_ledger(make: Make) -> None:
    lab = make()
    with lab.run() as run:
        plan = run.make_plan(run.survey())
    path = lab.folder / "store" / plan_key(plan.digest)
    whole = path.read_bytes()
    path.write_bytes(plan.replace(limits=Limits(hosts=999)).to_bytes())
    with lab.run() as run, pytest.raises(LedgerBrokenError, match="not the one in the ledger"):
        run.plan()
    path.unlink()
    with lab.run() as run, pytest.raises(StoreError, match="the plan's bytes are gone"):
        run.plan()
    path.write_bytes(whole)


def test_a_plan_of_another_run_is_not_carried_out(make: Make) -> None:
    lab = make()
    with lab.run("bump-1") as run:
        plan = run.make_plan(run.survey())
    with lab.run("bump-2") as run:
        run.journal.record("planned", plan=plan.digest, hosts=5, waves=1)
        with pytest.raises(LedgerBrokenError):
            run.plan()
    # the verifier says so as well; this ledger is not one a run wrote
    found = next(one for one in lab.inspect().runs if one.run == "bump-2")
    assert [one.code for one in found.problems] == ["plan-foreign"]
    shutil.rmtree(lab.folder / "store" / "runs" / "bump-2")
    notes_of(lab.store).forget_run("bump-2")


def test_an_answer_of_any_shape_is_recorded_and_opens_nothing(make: Make) -> None:
    lab = make()
    apart = unicodedata.normalize("NFD", "é") + "\ud800" + "x" * 100_000
    with lab.run() as run:
        run.make_plan(run.survey())
        run.receive(run.ask(), [apart, "ÿ" * 70_000, *["x"] * 5000], {"decision": "approve", "reason": apart})
        assert not run.check_gate().passed
        with pytest.raises(NotApprovedError, match="the gate is closed"):
            run.guard()
    with lab.run() as run:
        assert run.check_gate().refused
        run.receive(run.ask(), [], {"decision": "reject", "reason": apart})
        assert finish(run).state is RunState.REJECTED
    assert not lab.fleet.starts()


def test_an_unsigned_reject_ends_the_run(make: Make) -> None:
    lab = make()
    with lab.run() as run:
        run.make_plan(run.survey())
        run.receive(run.ask(), [], {"decision": "reject", "reason": "not this week"})
        ending = finish(run)
    assert ending.state is RunState.REJECTED
    assert "rejected at the gate: not this week" in ending.message
    assert states(ending) == dict.fromkeys(HOSTS, "skipped")


def test_a_signed_reject_left_in_the_store_ends_the_run(make: Make) -> None:
    lab = make()
    with lab.run() as run:
        plan = run.make_plan(run.survey())
        drop_line(lab.store, plan.digest, lab.sign(plan.to_bytes(), decision=Decision.REJECT))
        assert not run.check_gate().passed
        assert finish(run).state is RunState.REJECTED


def test_a_plan_nobody_approves_expires(make: Make) -> None:
    lab = make()
    with lab.run() as run:
        plan = run.make_plan(run.survey())
        lab.clock.sleep(plan.expires - lab.clock.time() + 1)
        assert not run.check_gate().passed
        ending = finish(run)
    assert ending.state is RunState.EXPIRED
    assert "nobody approved the plan before it expired" in ending.message


def test_a_plan_that_expires_half_way_says_so(make: Make) -> None:
    lab = make(waves={"canary": 1, "shares": [100]})
    with lab.run() as run:
        plan = run.make_plan(run.survey())
        lab.approve(run, lasts=30 * 86400)
        assert run.check_gate().passed
        run.rollout().roll_out(1)
    lab.clock.sleep(plan.expires - lab.clock.time() + 1)
    with lab.run() as run:
        assert not run.check_gate().passed
        ending = finish(run)
    assert ending.state is RunState.EXPIRED
    assert "expired before all of it was carried out" in ending.message
    assert states(ending) == {"a": "changed", **dict.fromkeys("bcde", "skipped")}


def test_an_approval_serves_one_plan_only(make: Make) -> None:
    """Its id is burned: a second plan that claims it, were it signed again under the same id, is refused."""
    lab = make()
    with lab.run("bump-1") as run:
        plan = run.make_plan(run.survey())
        lab.approve(run)
        result = run.check_gate()
        assert result.passed
        burned = [key.rpartition("/")[2] for key in lab.store.list("approvals/used")]
        assert burned == list(result.approvals)
        assert lab.store.get(f"approvals/used/{burned[0]}") == plan.digest.encode()


def test_two_runs_cannot_burn_one_approval(make: Make) -> None:
    lab = make()
    with lab.run("bump-1") as run:
        plan = run.make_plan(run.survey())
        lab.approve(run)
        (approval,) = run.check_gate().signed and run._judge().approvals
        burned = lab.store.root / f"approvals/used/{approval}"
        burned.write_bytes(b"sha256:" + b"0" * 64)
        result = run.check_gate()
        assert not result.passed
        assert [str(code) for _, code in result.refused] == ["used"]
        burned.write_bytes(plan.digest.encode())


@pytest.mark.parametrize(("who", "code"), [(PRIYA, "requester"), ("key", "unknown-key")])
def test_signatures_that_do_not_count(make: Make, who: str, code: str) -> None:
    lab = make()
    with lab.run() as run:
        run.make_plan(run.survey())
        if who == "key":
            lab.approve(run, KIRAN, key=ASHA)
        else:
            lab.approve(run, who)
        result = run.check_gate()
        assert not result.passed
        assert code in [str(reason) for _, reason in result.refused]


def test_the_gate_looks_at_the_sites_files_as_they_are_now(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lamplighter.engine.gatekeeper.POLICY_SECONDS", 0.01)
    lab = make()
    approvers = lab.path / "approvers"
    whole = approvers.read_text()
    with lab.run() as run:
        run.make_plan(run.survey())
        lab.approve(run)
        assert run.check_gate().passed
        run.guard()
        approvers.write_text("".join(line for line in whole.splitlines(True) if not line.startswith(ASHA)))
        with pytest.raises(NotApprovedError, match="the gate is closed"):
            again(run.guard)
        approvers.write_text("nonsense\n")
        with pytest.raises(NotApprovedError, match="cannot be judged"):
            again(run.guard)
        result = run.check_gate()
        assert not result.passed
        assert "cannot be judged" in result.needed[0]
        approvers.write_text(whole)
        assert run.check_gate().passed
        assert not run.history.ended(), "a site that is mended opens the gate again"


def again(guard: Callable[[], None]) -> None:
    """Ask once what was read before is too old."""
    time.sleep(0.05)
    guard()


def test_an_open_gate_is_judged_once_until_something_changes(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = make()
    judged: list[int] = []
    real = gatekeeper.evaluate

    def counting(*arguments: object) -> object:
        judged.append(1)
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(gatekeeper, "evaluate", counting)
    with lab.run() as run:
        plan = run.make_plan(run.survey())
        lab.approve(run, lasts=600)
        run.check_gate()
        run.guard()
        before = len(judged)
        for _ in range(100):
            run.guard()
        assert len(judged) == before
        drop_line(lab.store, plan.digest, "another line")
        run.guard()
        assert len(judged) == before + 1, "a new line is looked at"
        lab.clock.sleep(601)
        with pytest.raises(NotApprovedError):
            run.guard()


def test_a_store_that_cannot_be_listed_closes_the_gate(make: Make) -> None:
    lab = make()
    with lab.run() as run:
        plan = run.make_plan(run.survey())
        lab.approve(run)
        assert run.check_gate().passed
        run._stored[1]._store = type("Gone", (), {"list": gone})()  # type: ignore[assignment]
        with pytest.raises(NotApprovedError, match="cannot be judged"):
            run.guard()
        assert plan.waves


def gone(*_: object) -> None:
    raise StoreError("the bucket does not answer")


def test_typed_text_in_any_form_does_not_keep_a_run_from_starting(make: Make) -> None:
    lab = make()
    with lab.run(requester=unicodedata.normalize("NFD", "Zoë")) as run:
        plan = run.make_plan(run.survey())
    assert plan.requester.id == unicodedata.normalize("NFC", "Zoë")


def test_a_sealed_run_takes_nothing_more(make: Make) -> None:
    lab = make()
    with lab.run() as run:
        carry_out(lab, run)
        with pytest.raises(LedgerError):
            run.receive(1, [], {})


def test_nothing_to_do_needs_no_gate(make: Make) -> None:
    lab = make()
    with lab.run(operation=Bump(target=1)) as run:
        plan = run.make_plan(run.survey())
        assert not plan.waves
        assert finish(run).message == "5 unchanged"




def test_a_run_that_is_closed_before_its_waves_is_not_completed(make: Make) -> None:
    lab = make()
    with lab.run() as run:
        run.make_plan(run.survey())
        ending = run.close()
    assert ending.state is RunState.HALTED
    assert "closed before all of it was carried out" in message(ending, "a")
