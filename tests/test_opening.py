"""Who asks, what is approved beforehand, and emergencies: whole runs over simulated hosts."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from lamplighter.engine.opening import Wanted, open_request
from lamplighter.engine.reviews import due_of, head_of, keep_review, open_reviews, overdue, review_of
from lamplighter.engine.run import Run
from lamplighter.errors import LedgerError, NotApprovedError, SelectionError
from lamplighter.leases import Leases
from lamplighter.ledger import Ledger, read_ledger
from lamplighter.model.approval import NAMESPACE as APPROVAL
from lamplighter.model.approval import Decision, Statement
from lamplighter.model.canonical import sha256
from lamplighter.model.envelope import Envelope, read_line
from lamplighter.model.plan import Limits
from lamplighter.model.request import NAMESPACE as REQUEST
from lamplighter.model.request import Asked, SignedRequest
from lamplighter.model.review import NAMESPACE as REVIEW
from lamplighter.model.review import SECONDS, Review, Verdict
from lamplighter.model.standing import NAMESPACE as STANDING
from lamplighter.model.standing import Standing, Uses, Widening
from lamplighter.site import Site, load_site
from tests.enginekit import ASHA, KIRAN, PRIYA, RUNBOOK, SITE, Bump, Lab, Make, finish, labs

ASKED = Asked(SITE, "bump-version", {
    "hosts": "all", "change_ref": "", "emergency": False, "override": "", "replans": "", "target": 2,
})


def asking(asked: Asked = ASKED, **changes: object) -> Asked:
    return replace(asked, parameters={**asked.parameters, **changes})




@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    yield from labs(tmp_path)


@pytest.fixture
def lab(make: Make) -> Lab:
    made = make(["a", "b"])
    people = yaml.safe_load((made.path / "people.yaml").read_text())
    people["people"][ASHA]["roles"].append("emergency")
    (made.path / "people.yaml").write_text(yaml.safe_dump(people))
    return made


@contextmanager
def opened(lab: Lab, requester: str = PRIYA, run: str = "bump-1", **wanted: Any) -> Iterator[Run]:
    """As `tasks.steps.open_run` does, without Prefect."""
    site = load_site(lab.path)
    operation = wanted.pop("operation", Bump())
    said = {name: wanted.get(name, value) for name, value in ASKED.parameters.items()}
    started = Wanted(
        run, RUNBOOK, operation, requester=requester, parameters={**said, **operation.options()}, **wanted
    )
    request = open_request(started, site, lab.store, int(lab.clock.time()))
    with (
        Ledger.open(lab.store, run, SITE, clock=lab.clock.time) as ledger,
        Leases(lab.store, ttl=5, margin=0, clock=lab.clock.time) as leases,
    ):
        yield Run(run, request, lab.store, ledger, lab.fleet.connect, leases, lab.clock.time, lab.clock.sleep)


def signed(lab: Lab, who: str, statement: bytes, namespace: str) -> str:
    return Envelope(statement, lab.keys[who].sign(statement, namespace)).to_line()


def asks(lab: Lab, who: str = PRIYA, asked: Asked = ASKED, lasts: int = 600) -> str:
    now = int(lab.clock.time())
    request = SignedRequest(asked, who, now, now + lasts, secrets.token_hex(16))
    return signed(lab, who, request.to_bytes(), REQUEST)


def planned(run: Run) -> Run:
    run.make_plan(run.survey())
    return run


# --- signed requests ------------------------------------------------------------------------------


def test_a_name_is_a_claim_and_a_signature_a_fact(lab: Lab) -> None:
    with opened(lab) as run:
        assert (run.request.requester.id, run.request.requester.known) == (PRIYA, "claimed")
    line = asks(lab)
    with opened(lab, f"  {line}\n", "bump-2") as run:
        assert (run.request.requester.id, run.request.requester.known) == (PRIYA, "signed")
        assert planned(run).plan().requester == run.request.requester
        assert run.ledger.records("opened")[0].fields["request"] == line


@pytest.mark.parametrize("target", ["2", None, True, 2.5])
def test_an_option_of_another_kind_opens_nothing(lab: Lab, target: object) -> None:
    with pytest.raises(SelectionError, match="`target` cannot be"), opened(lab, operation=Bump(target)):
        pass
    assert not list(lab.store.list("runs"))


def test_a_ledger_is_one_flow_runs(lab: Lab) -> None:
    with opened(lab, flow_run="019ac3a1-5f00-7000-8000-000000000001") as run:
        assert run.ledger.records("opened")[0].fields["flow_run"] == "019ac3a1-5f00-7000-8000-000000000001"
    with opened(lab, flow_run="019ac3a1-5f00-7000-8000-000000000001") as run:  # the same, restarted
        before = len(run.ledger.records())
    for other in ("019ac3a1-5f00-7000-8000-000000000002", ""):
        with pytest.raises(LedgerError, match="000000000001 wrote it"), opened(lab, flow_run=other):
            pass
    assert len(list(read_ledger(lab.store, "bump-1", SITE))) == before


def test_a_schedule_is_asked_for_once_and_by_its_site(lab: Lab) -> None:
    def refuse(_: Site) -> str:
        raise NotApprovedError("the site does not declare it")

    with pytest.raises(NotApprovedError, match="declare"), opened(lab, "", schedule=refuse):
        pass
    assert list(lab.store.list("runs")) == []
    with opened(lab, "", schedule=lambda site: f"weekly-{site.name}") as run:
        assert (run.request.requester.id, run.request.requester.known) == ("schedule:weekly-demo", "schedule")
    with opened(lab, "", schedule=refuse) as run:  # the site's file was changed since; the ledger counts
        assert run.request.requester.id == "schedule:weekly-demo"


def test_a_request_serves_one_run(lab: Lab) -> None:
    line = asks(lab)
    with opened(lab, line):
        pass
    with opened(lab, line):  # the same run, restarted
        pass
    with pytest.raises(NotApprovedError, match=r"\(used\): it started another"), opened(lab, line, "bump-2"):
        pass


@pytest.mark.parametrize(("asked", "named"), [
    (asking(hosts="a"), "hosts"),
    (asking(target=3), "target"),
    (asking(change_ref="CHG-1"), "change_ref"),
    (asking(emergency=True), "emergency"),
    (asking(override="because"), "override"),
    (asking(replans="bump-0"), "replans"),
    (asking(deliver_to="me"), "deliver_to"),
    (replace(ASKED, site="other"), "site"),
    (replace(ASKED, runbook="patch-linux"), "runbook"),
])
def test_a_request_for_something_else_says_what_differs(lab: Lab, asked: Asked, named: str) -> None:
    with pytest.raises(NotApprovedError, match=rf"wrong-digest.*differ in: {named}\."), opened(
        lab, asks(lab, asked=asked)
    ):
        pass
    assert list(lab.store.list("runs")) == []


@pytest.mark.parametrize(("spoil", "code"), [
    (lambda _: "nonsense", "malformed"),
    (lambda lab: asks(lab)[:-9], "malformed"),
    (lambda lab: signed(lab, PRIYA, read_line(asks(lab)).statement, APPROVAL), "wrong-namespace"),
    (lambda lab: signed(lab, ASHA, read_line(asks(lab)).statement, REQUEST), "unknown-key"),
    (lambda lab: (asks(lab, lasts=1), setattr(lab.clock, "ahead", 5.0))[0], "expired"),
])
def test_a_line_that_does_not_count_starts_nothing(lab: Lab, spoil: Any, code: str) -> None:
    line = spoil(lab)
    with pytest.raises(NotApprovedError, match=f"does not count .{code}."), opened(lab, line):
        pass
    assert list(lab.store.list("runs")) == []


@pytest.mark.parametrize("name", ["", "nobody@msp.example"])
def test_a_claim_must_be_somebody(lab: Lab, name: str) -> None:
    with pytest.raises(SelectionError, match="requester"), opened(lab, name):
        pass


def test_parameters_that_were_edited_later_count_for_nothing(lab: Lab) -> None:
    with opened(lab, change_ref="CHG-1") as run:
        planned(run)
    with opened(lab, KIRAN, hosts="a", operation=Bump(9), change_ref="x") as run:
        assert (run.request.change_ref, run.request.selection) == ("CHG-1", "all")
        assert run.request.requester.id == PRIYA
        wanted = Wanted("bump-1", RUNBOOK, Bump(9), "a", "CHG-1")
        assert wanted.differs(run.request) == ("hosts", "target")
        lab.approve(run)
        assert run.check_gate().passed
        assert finish(run).message == "2 changed"


# --- standing approvals ---------------------------------------------------------------------------


def stand(lab: Lab, who: str = ASHA, lasts: int = 90 * 86400, **changes: Any) -> Standing:
    """Put a standing approval into the site's folder."""
    now = int(lab.clock.time())
    limits = load_site(lab.path).rollout(RUNBOOK)[0]
    said = Standing(**{
        "site": SITE, "runbook": "bump-version", "selection": "all", "approver": who, "not_before": now,
        "expires": now + lasts, "id": secrets.token_hex(16), "options": {"target": 2}, "limits": limits,
        "waves": Widening(1, (10, 50, 100)), "members": 99, "uses": Uses(100, 200), **changes,
    })
    keep(lab, signed(lab, who, said.to_bytes(), STANDING), said.id)
    return said


def keep(lab: Lab, line: str, name: str) -> None:
    (lab.path / "standing").mkdir(exist_ok=True)
    (lab.path / "standing" / f"{name}.line").write_text(line + "\n")


def take_back(lab: Lab, said: Standing, who: str = KIRAN) -> None:
    now = int(lab.clock.time())
    statement = Statement(sha256(said.to_bytes()), Decision.REVOKE, who, now, now + 1, secrets.token_hex(16))
    keep(lab, signed(lab, who, statement.to_bytes(), APPROVAL), f"revoke-{said.id}")


def test_a_standing_approval_lets_its_kind_of_run_pass_without_asking(lab: Lab) -> None:
    stand(lab)
    for name in ("bump-1", "bump-2"):
        with opened(lab, run=name) as run:
            assert planned(run).plan().change_type == "standard"
            if run.plan().waves:
                assert run.check_gate().signed == (ASHA,)
                assert run.history.asked == 0
            assert finish(run).state == "Completed"
    assert lab.counts("a") == {"upgrade": 1, "restart": 1}


@pytest.mark.parametrize("changes", [
    {"selection": "a"}, {"runbook": "patch-linux"}, {"options": {"target": 3}}, {"limits": Limits(hosts=1)},
])
def test_a_run_outside_of_it_waits_like_any_other(lab: Lab, changes: dict[str, Any]) -> None:
    stand(lab, **changes)
    with opened(lab) as run:
        assert planned(run).plan().change_type == "normal"
        assert not run.check_gate().passed


def test_it_serves_so_many_targets_an_hour_whatever_number_of_runs(lab: Lab) -> None:
    """Two hosts a run: the second run of the hour is one too many, and passes an hour later."""
    stand(lab, uses=Uses(3, 9))
    with opened(lab, run="bump-1") as run:
        assert planned(run).check_gate().passed
        assert run.check_gate().passed, "its own place is not counted against it"
    with opened(lab, run="bump-2") as run:
        planned(run)
        for _ in range(3):  # asking again takes no place
            assert [str(code) for _, code in run.check_gate().refused] == ["spent"]
    lab.clock.sleep(3601)
    with opened(lab, run="bump-2") as run:
        assert run.check_gate().passed
        assert finish(run).state == "Completed"


@pytest.mark.parametrize("changes", [
    {"members": 1, "waves": Widening(2)}, {"waves": Widening(1, (10, 50))},
])
def test_a_group_that_grew_or_a_wider_wave_is_asked_for(lab: Lab, changes: dict[str, Any]) -> None:
    site_file = lab.path / "site.yaml"
    wide = {"rollout": {"default": {"waves": {"canary": 2, "shares": [100]}}}}
    site_file.write_text(yaml.safe_dump({**yaml.safe_load(site_file.read_text()), **wide}))
    stand(lab, **changes)
    with opened(lab) as run:
        assert planned(run).plan().change_type == "normal"


def test_whoever_asks_cannot_have_approved_it_beforehand(lab: Lab) -> None:
    stand(lab)
    with opened(lab, asks(lab, ASHA)) as run:
        assert planned(run).plan().change_type == "standard"
        result = run.check_gate()
        assert not result.passed
        assert [str(code) for _, code in result.refused] == ["requester"]


@pytest.mark.parametrize("gone", ["revoked", "deleted", "expired"])
def test_one_that_ends_stops_the_run_that_rests_on_it(
    lab: Lab, gone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lamplighter.engine.gatekeeper.POLICY_SECONDS", 0.0)
    said = stand(lab, lasts=3600)
    with opened(lab) as run:
        assert planned(run).check_gate().passed
        run.guard()
        lab.clock.sleep(60)
        if gone == "revoked":
            take_back(lab, said)
        elif gone == "deleted":
            (lab.path / "standing" / f"{said.id}.line").unlink()
        else:
            lab.clock.sleep(3600)
        with pytest.raises(NotApprovedError, match="gate is closed"):
            run.guard()
        assert finish(run).state == "Halted"
    assert lab.counts("a") == lab.counts("b") == {}


def test_a_standing_approval_that_cannot_be_read_is_a_mistake_of_the_site(lab: Lab) -> None:
    stand(lab)
    keep(lab, "nonsense", "x")
    keep(lab, asks(lab), "y")
    with pytest.raises(Exception, match="2 mistakes") as caught:
        load_site(lab.path)
    assert "standing/x.line:1" in str(caught.value)
    for name in "xy":
        (lab.path / "standing" / f"{name}.line").unlink()


# --- emergencies ----------------------------------------------------------------------------------


URGENT = asking(emergency=True)


def emergency(lab: Lab, name: str = "bump-1") -> None:
    """One that passes, to a version of its own."""
    target = int(name.rpartition("-")[2]) + 1
    line = asks(lab, asked=asking(URGENT, target=target))
    with opened(lab, line, name, emergency=True, operation=Bump(target)) as run:
        assert planned(run).plan().change_type == "emergency"
        assert not run.check_gate().passed
        lab.approve(run, ASHA)
        assert run.check_gate().passed
        assert finish(run).state == "Completed"


def reviewed(lab: Lab, who: str = KIRAN, run: str = "bump-1", **changes: Any) -> str:
    said = Review(**{
        "site": SITE, "run": run, "head": head_of(lab.store, run), "reviewer": who,
        "verdict": Verdict.JUSTIFIED, "time": int(lab.clock.time()), "id": secrets.token_hex(16), **changes,
    })
    return signed(lab, who, said.to_bytes(), REVIEW)


def test_an_emergency_passes_on_one_second_person_and_opens_a_review(lab: Lab) -> None:
    emergency(lab)
    assert lab.counts("a") == {"upgrade": 1, "restart": 1}
    trust, now = load_site(lab.path).trust, lab.clock.time()
    due, = open_reviews(lab.store, trust)
    assert (due.run, due.requester) == ("bump-1", PRIYA)
    assert overdue((due,), now) == ()
    assert overdue((due,), now + SECONDS) == (due,)
    keep_review(lab.store, due, reviewed(lab), trust)
    assert open_reviews(lab.store, trust) == ()
    assert review_of(lab.store, due, trust).reviewer == KIRAN


def test_an_emergency_that_nobody_signed_for_is_refused_at_once(lab: Lab) -> None:
    for schedule in (None, lambda _: "weekly"):
        with pytest.raises(NotApprovedError, match="needs a signed request"), opened(
            lab, emergency=True, schedule=schedule
        ):
            pass


def test_the_role_is_asked_for_and_the_requester_never_counts(lab: Lab) -> None:
    with opened(lab, asks(lab, asked=URGENT), emergency=True) as run:
        planned(run)
        for who, code in ((KIRAN, "lacks-role"), (PRIYA, "requester")):
            lab.approve(run, who)
            assert code in [str(found) for _, found in run.check_gate().refused]
    assert list(lab.store.list("reviews")) == []


@pytest.mark.parametrize(("who", "changes", "code"), [
    (PRIYA, {}, "wrong-party"),
    (KIRAN, {"head": "sha256:" + 64 * "0"}, "wrong-digest"),
    (KIRAN, {"site": "other"}, "wrong-digest"),
    (KIRAN, {"reviewer": ASHA}, "unknown-key"),
])
def test_a_review_that_does_not_count_is_not_kept(
    lab: Lab, who: str, changes: dict[str, Any], code: str
) -> None:
    emergency(lab)
    due, trust = due_of(lab.store, "bump-1"), load_site(lab.path).trust
    with pytest.raises(NotApprovedError, match=code):
        keep_review(lab.store, due, reviewed(lab, who, **changes), trust)
    lab.store.put_new("reviews/bump-1/forged", reviewed(lab, who, **changes).encode())
    assert open_reviews(lab.store, trust) == (due,)


def test_overdue_reviews_block_further_emergencies_past_the_sites_limit(lab: Lab) -> None:
    for number in (1, 2, 3):
        emergency(lab, f"bump-{number}")
    lab.clock.sleep(SECONDS)
    line = asks(lab, asked=URGENT)
    with pytest.raises(NotApprovedError, match=r"3 reviews .* at most 2 pass: bump-1, bump-2, b"), opened(
        lab, line, "bump-9", emergency=True
    ):
        pass
    trust = load_site(lab.path).trust
    keep_review(lab.store, due_of(lab.store, "bump-2"), reviewed(lab, run="bump-2"), trust)
    with opened(lab, asks(lab, asked=URGENT), "bump-9", emergency=True):
        pass


def test_an_objection_needs_a_reason_and_closes_the_review_too(lab: Lab) -> None:
    emergency(lab)
    due, trust = due_of(lab.store, "bump-1"), load_site(lab.path).trust
    kept = keep_review(
        lab.store, due, reviewed(lab, verdict=Verdict.OBJECTED, reason="could have waited"), trust
    )
    assert kept.verdict is Verdict.OBJECTED
    assert open_reviews(lab.store, trust) == ()
