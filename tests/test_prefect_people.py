"""Quorum, signed requests, standing approvals, emergencies: a real Prefect server and real hosts."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.lab.demo_site import DemoSite
from tests.lab.keys import make_key, public_line
from tests.lab.prefect_stack import PrefectStack
from tests.prefectkit import ASHA, KIRAN, PRIYA, Desk

pytestmark = [pytest.mark.lab, pytest.mark.prefect]


@pytest.fixture
def desk(prefect: PrefectStack, patch_site: DemoSite) -> Desk:
    made = Desk(prefect, patch_site)
    made.old_packages("alpha")
    return made


def _ask(desk: Desk, *words: str) -> str:
    """`lamplighter request`, by the MSP's duty lead; returns the flow run's id."""
    told = desk.prefect.lamplighter(
        "request", "patch-linux", "--site", "demo", "--hosts", "alpha",
        "--key", str(desk.site.key(PRIYA)), *words,
    )
    return told.strip().rpartition("/")[2]


@pytest.mark.parametrize("order", [(ASHA, KIRAN), (KIRAN, ASHA)], ids=["asha first", "kiran first"])
def test_two_people_are_two_people(desk: Desk, order: tuple[str, str]) -> None:
    first, second = order
    two = {"party": "internal", "roles": ["change-manager"], "quorum": 2}
    with desk.site_says(gates={"patch-linux": [two]}):
        flow_run = desk.wait()
        form = desk.form(flow_run)
        assert "2 internal people with the role change-manager" in form
        form = desk.still_shut(flow_run, decision="approve", approval=desk.line(flow_run, first))
        assert "1 of 2 have signed" in form
        assert first in form.split("Signed by")[1].split("Still needed")[0]
        assert "1 internal person with the role change-manager" in form
        if first == ASHA:
            _second_key(desk, ASHA)
            again = desk.still_shut(flow_run, decision="approve", approval=desk.line(flow_run, "asha-too"))
            assert "duplicate-person" in again
            assert "1 of 2 have signed" in again
        assert desk.versions("alpha") == {"1.0"}
        desk.approve(flow_run, second)
        assert desk.ended(flow_run) == ("Completed", "1 changed")
    gate = next(record for record in reversed(desk.records(flow_run)) if record.kind == "gate")
    assert gate.fields["signed"] == [ASHA, KIRAN]


def _second_key(desk: Desk, person: str) -> None:
    """A second key of the same person."""
    key = desk.site.key("asha-too")
    make_key(key, person)
    with (desk.site.path / "approvers").open("a") as file:
        file.write(f"{person} {public_line(key)}\n")


def test_a_signed_request_is_a_fact_and_serves_once(desk: Desk) -> None:
    line = desk.prefect.lamplighter(
        "request", "patch-linux", "--site", "demo", "--hosts", "alpha", "--key", str(desk.site.key(PRIYA)),
        "--change-ref", "CHG-9", "--print",
    ).strip()
    flow_run = desk.wait(requester=line, change_ref="CHG-9")
    assert f"{PRIYA} (signed)" in desk.form(flow_run)
    again = desk.api.start("all-weekly", hosts="alpha", requester=line, change_ref="CHG-9")
    state, message = desk.ended(again)
    assert state == "Failed"
    assert "it started another run already" in message
    other = desk.api.start("all-weekly", hosts="all", requester=line, change_ref="CHG-9")
    assert "differ in: hosts" in desk.ended(other)[1]
    desk.api.answer(flow_run, decision="reject", reason="enough")
    assert desk.ended(flow_run)[0] == "Rejected"
    assert [desk.records(other), desk.records(again)] == [[], []]


def test_what_is_approved_beforehand_does_not_wait(desk: Desk) -> None:
    desk.prefect.lamplighter(
        "standing", "patch-linux", "--site", "demo", "--hosts", "alpha", "--set", "packages=security",
        "--per-hour", "9", "--per-day", "9", "--valid-for", "90d",
        "--key", str(desk.site.key(KIRAN)), "--reason", "monthly patches",
    )
    listed = json.loads(desk.prefect.lamplighter("standing", "--site", "demo", "--list", "--json"))
    assert [(one["state"], one["approver"]) for one in listed] == [("counts", KIRAN)]
    signed_each_time = desk.at_gate(_ask(desk, "--set", "packages=security"))
    desk.api.answer(signed_each_time, decision="reject", reason="not yet handed over")
    with desk.delegated():
        flow_run = _ask(desk, "--set", "packages=security")
        assert desk.ended(flow_run) == ("Completed", "1 changed")
    assert "asked" not in desk.kinds(flow_run)
    desk.prefect.lamplighter(
        "standing", "--site", "demo", "--revoke", listed[0]["id"], "--key", str(desk.site.key(ASHA))
    )
    listed = json.loads(desk.prefect.lamplighter("standing", "--site", "demo", "--list", "--json"))
    assert listed[0]["state"] == "revoked"
    desk.old_packages("alpha")
    with desk.delegated():
        waiting = desk.at_gate(_ask(desk, "--set", "packages=security"))
        assert "revoked" in desk.form(waiting)
    desk.api.answer(waiting, decision="reject", reason="enough")
    assert desk.ended(waiting)[0] == "Rejected"
    assert desk.versions("alpha") == {"1.0"}
    assert desk.verified()
    shutil.rmtree(desk.site.path / "standing")


def test_an_emergency_from_the_signed_request_to_the_review(desk: Desk) -> None:
    unsigned = desk.api.start("all-weekly", hosts="alpha", requester=PRIYA, emergency=True)
    assert "needs a signed request" in desk.ended(unsigned)[1]
    flow_run = desk.at_gate(_ask(desk, "--emergency", "--change-ref", "INC-1"))
    assert "change:emergency" in desk.api.run(flow_run)["tags"]
    form = desk.form(flow_run)
    assert "Internal IT hears of it at once" in form
    assert "lacks-role" in desk.still_shut(flow_run, decision="approve", approval=desk.line(flow_run, KIRAN))
    desk.approve(flow_run, ASHA)
    assert desk.ended(flow_run) == ("Completed", "1 changed")
    kinds = desk.kinds(flow_run)
    assert kinds.index("review-opened") < kinds.index("wave-started")
    row = _row(desk, flow_run)
    assert row["review"].startswith("due until")
    desk.prefect.lamplighter("review", desk.run_id(flow_run), "--key", str(desk.site.key(KIRAN)), "--yes")
    assert _row(desk, flow_run)["review"] == ""
    assert desk.verified()


def _row(desk: Desk, flow_run: str) -> dict[str, str]:
    rows = json.loads(desk.prefect.lamplighter("runs", "--site", "demo", "--json"))
    return next(row for row in rows if row["run"] == desk.run_id(flow_run))
