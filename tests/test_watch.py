"""The watch over real runs: who is told, once, in which order, whatever dies in between."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from lamplighter.engine.drafting import Request
from lamplighter.engine.run import Run
from lamplighter.errors import SelectionError
from lamplighter.leases import Leases
from lamplighter.ledger import Ledger
from lamplighter.model.notice import Answer, Notice, Result
from lamplighter.model.outcome import RunState
from lamplighter.model.plan import Requester
from lamplighter.notify.heartbeat import beat, ping, silence, warning
from lamplighter.notify.watch import Watch
from lamplighter.seals import ledger_key
from lamplighter.secrets import Secret
from lamplighter.site import load_site
from lamplighter.site.notify import Channel, load_notify
from tests.enginekit import ASHA, HOSTS, PRIYA, RUNBOOK, SITE, Bump, Lab, carry_out, labs, on
from tests.lab.smtp import Webhook

MINUTE, HOUR = 60, 3600
Sent = list[tuple[str, str]]


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    for make in labs(tmp_path):
        yield make(HOSTS)


@pytest.fixture
def sent() -> Sent:
    return []


def watch(lab: Lab, sent: Sent, answer: Answer = Answer(Result.SENT)) -> Watch:  # noqa: B008 - immutable
    """A new one each time: nothing is remembered in it."""
    site = load_site(lab.path)

    def send(channel: Channel, subject: str, _text: str) -> Answer:
        sent.append((channel.to or channel.url, subject.partition(":")[0]))
        return answer

    notify = load_notify(lab.path, site.people)
    known = {RUNBOOK.id: RUNBOOK}
    return Watch(site, lab.store, notify, known, lambda run: f"http://ui/{run}", lab.clock.time, send)


def look(lab: Lab, sent: Sent, state: str = "PAUSED", **how: Answer) -> tuple[Notice, ...]:
    """One round of a watch that has just been started."""
    new = watch(lab, sent, **how)
    notices: list[Notice] = []
    for run in new.unsettled():
        case = new.case(run)
        notices += new.tell(case, state)
        new.settle(case)
    new.deliver(60)
    return tuple(notices)


def waiting(lab: Lab) -> None:
    with lab.run() as run:
        run.make_plan(run.survey())
        run.check_gate()
        run.ask()


def to(notices: tuple[Notice, ...]) -> list[tuple[str, str, int]]:
    return sorted((one.to.partition("@")[0], one.occasion.kind, one.occasion.rung) for one in notices)


# --- a gate ---------------------------------------------------------------------------------------


def test_whoever_may_sign_is_asked_at_once_and_once(lab: Lab, sent: Sent) -> None:
    waiting(lab)
    notices = look(lab, sent)
    assert to(notices) == [("asha.patel", "gate", -1), ("kiran.shah", "gate", -1)]
    (one, _) = notices
    with lab.run() as run:
        digest = run.plan().digest
    assert "Simulated upgrade at Sabarmati Textiles" in one.subject
    for word in ("bump-1", digest, "1 of internal (change-manager)", "http://ui/bump-1", "Answer until",
                 "priya.nair@msp.example (claimed)"):
        assert word in one.text
    for _ in range(3):
        assert look(lab, sent) == ()
    assert len(sent) == 2


def test_an_unanswered_gate_climbs_its_path_rung_by_rung(lab: Lab, sent: Sent) -> None:
    """The promised 24 hours, then the duty lead, an hour later the change managers, then a named person."""
    waiting(lab)
    heard = []
    for _ in range(40):
        heard += to(look(lab, sent))
        lab.clock.ahead += HOUR
    at = [(rung, name) for name, _, rung in heard]
    assert [rung for rung, _ in at] == sorted(rung for rung, _ in at)
    first = {name for rung, name in at if rung == 0}
    assert first == {"msp/duty-lead", "priya.nair", "asha.patel", "kiran.shah"}
    assert {rung for rung, _ in at} == {-1, 0, 1, 2}
    assert len(at) == len(set(at)), "each rung once"


def test_a_watch_that_was_away_tells_everything_once(lab: Lab, sent: Sent) -> None:
    waiting(lab)
    lab.clock.ahead += 30 * HOUR
    first = look(lab, sent)
    assert {one.occasion.rung for one in first} == {-1, 0, 1, 2}
    assert look(lab, sent) == ()


def test_an_answered_gate_climbs_no_further(lab: Lab, sent: Sent) -> None:
    waiting(lab)
    look(lab, sent)
    with lab.run() as run:
        carry_out(lab, run)
    lab.clock.ahead += 48 * HOUR
    assert look(lab, sent, "COMPLETED") == ()
    assert watch(lab, sent).unsettled() == (), "a run that ended well is not read again"


def test_an_expired_gate_is_to_be_woken_and_not_climbed(lab: Lab, sent: Sent) -> None:
    waiting(lab)
    lab.clock.ahead += 73 * HOUR
    case = watch(lab, sent).case("bump-1")
    assert case.expired
    assert look(lab, sent, "FAILED") == ()
    with lab.run() as run:
        run.check_gate()
        assert run.close().state is RunState.EXPIRED
    assert to(look(lab, sent, "")) == [
        ("msp/duty-lead", "ended", -1), ("priya.nair", "ended", -1),
    ]
    assert watch(lab, sent).unsettled() == ()


# --- a run that looked at nothing -----------------------------------------------------------------


def mistyped(lab: Lab, known: str = "claimed", requester: str = PRIYA) -> None:
    """As `tasks.steps.open_run` ends a run whose form names a host that is none."""
    request = Request(RUNBOOK, load_site(lab.path), Bump(), Requester(requester, known), "web:!wbe2")
    with (
        Ledger.open(lab.store, "bump-1", SITE, clock=lab.clock.time) as ledger,
        Leases(lab.store, ttl=5, margin=0, clock=lab.clock.time) as leases,
    ):
        run = Run("bump-1", request, lab.store, ledger, lab.fleet.connect, leases, lab.clock.time)
        with pytest.raises(SelectionError) as caught:
            run.hosts  # noqa: B018 - what a flow asks first
        run.end(RunState.FAILED, str(caught.value))
        run.close()


@pytest.mark.parametrize("known", ["claimed", "signed"])
def test_a_typo_concerns_who_asked_and_nobody_else(lab: Lab, sent: Sent, known: str) -> None:
    mistyped(lab, known)
    (one,) = look(lab, sent, "")
    assert (one.to, one.occasion.kind) == (PRIYA, "ended")
    assert "'web' names no host" in one.text
    for _ in range(30):
        lab.clock.ahead += HOUR
        assert look(lab, sent, "") == ()
    assert watch(lab, sent).unsettled() == ()


def test_a_schedule_that_looks_at_nothing_is_climbed(lab: Lab, sent: Sent) -> None:
    mistyped(lab, "schedule", "schedule:weekly")
    assert to(look(lab, sent, "")) == [("msp/duty-lead", "ended", 0), ("priya.nair", "ended", 0)]
    lab.clock.ahead += 61 * MINUTE
    assert {rung for _, _, rung in to(look(lab, sent, ""))} == {1}


def test_a_run_that_looked_and_failed_before_its_plan_is_climbed(lab: Lab, sent: Sent) -> None:
    with lab.run() as run:
        run.survey()
        run.end(RunState.FAILED, "the plan is too large")
        run.close()
    assert ("msp/duty-lead", "ended", 0) in to(look(lab, sent, ""))


# --- a run that went wrong ------------------------------------------------------------------------


def failed(lab: Lab) -> None:
    with lab.run(operation=Bump(hooks={"verify": on(*HOSTS, error=RuntimeError("boom"))})) as run:
        assert carry_out(lab, run).state is RunState.HALTED


def test_a_halted_run_climbs_until_somebody_has_it_in_hand(lab: Lab, sent: Sent) -> None:
    failed(lab)
    assert to(look(lab, sent, "")) == [("msp/duty-lead", "ended", 0), ("priya.nair", "ended", 0)]
    lab.clock.ahead += 61 * MINUTE
    assert {rung for _, _, rung in to(look(lab, sent, ""))} == {1}
    watch(lab, sent).acknowledge("bump-1", PRIYA, "looking at it")
    lab.clock.ahead += 24 * HOUR
    assert look(lab, sent, "") == ()
    assert watch(lab, sent).unsettled() == ()
    with pytest.raises(SelectionError, match="in hand already"):
        watch(lab, sent).acknowledge("bump-1", ASHA, "")


def test_a_rung_that_reached_nobody_is_passed_at_once(lab: Lab, sent: Sent) -> None:
    failed(lab)
    refused = Answer(Result.FAILED, "the mail server refused it for good (550)")
    assert {rung for _, _, rung in to(look(lab, sent, "", answer=refused))} == {0}
    assert {rung for _, _, rung in to(look(lab, sent, "", answer=refused))} == {1}
    assert {rung for _, _, rung in to(look(lab, sent, "", answer=Answer(Result.SENT)))} == {2}
    assert look(lab, sent, "") == ()


@pytest.mark.parametrize("state", ["CRASHED", "FAILED", "CANCELLED", "GONE"])
def test_a_run_that_stands_still_is_told_with_what_to_do(lab: Lab, sent: Sent, state: str) -> None:
    with lab.run() as run:
        run.make_plan(run.survey())
    notices = look(lab, sent, state)
    assert {one.occasion.kind for one in notices} == {"crashed"}
    assert "lamplighter resume bump-1" in notices[0].text
    assert look(lab, sent, state) == ()
    assert look(lab, sent, "RUNNING") == ()


def test_a_ledger_that_was_changed_is_told(lab: Lab, sent: Sent) -> None:
    waiting(lab)
    file = lab.store.root / ledger_key("bump-1")
    whole = file.read_bytes()
    file.write_bytes(whole[:-200] + b"x" + whole[-199:])
    notices = look(lab, sent)
    assert {one.occasion.kind for one in notices} == {"crashed"}
    assert "its ledger is broken" in notices[0].text
    assert look(lab, sent) == ()
    file.write_bytes(whole)


def test_hostile_words_of_a_requester_stay_words(lab: Lab, sent: Sent) -> None:
    waiting(lab)
    new = watch(lab, sent)
    case = new.case("bump-1")
    (opened, *rest) = case.records
    forged = type(opened)(opened.seq, opened.prev, opened.time, opened.kind, {
        **opened.fields, "change_ref": "CHG-1\nBcc: x@y\n<a href='https://evil.example'>approved</a> @here",
    }, opened.hash)
    notices = new.tell(type(case)(case.run, (forged, *rest), "", case.plan, case.now), "PAUSED")
    assert "Bcc: x@y" not in notices[0].text.splitlines()
    assert "https://evil" not in notices[0].text
    assert " @here" not in notices[0].text


# --- dying ----------------------------------------------------------------------------------------


class DiesError(Exception):
    """The process is gone."""


@pytest.mark.parametrize("dies_at", range(1, 12))
def test_a_watch_that_dies_anywhere_tells_everything_once(
    lab: Lab, sent: Sent, dies_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever write is the last one: afterwards everybody was told of every rung, and nobody twice."""
    waiting(lab)
    lab.clock.ahead += 30 * HOUR
    writes = 0
    put_new = type(lab.store).put_new

    def counting(store: object, key: str, data: bytes) -> None:
        nonlocal writes
        writes += 1
        if writes == dies_at:
            raise DiesError
        put_new(store, key, data)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(type(lab.store), "put_new", counting)
        with pytest.raises(DiesError):
            look(lab, sent)
    lab.clock.ahead += HOUR
    look(lab, sent)
    outbox = watch(lab, sent).outbox
    told = [one.notice.occasion.rung for one in outbox.entries()]
    assert sorted(set(told)) == [-1, 0, 1, 2]
    assert {one.state for one in outbox.entries()} == {"sent"}
    assert look(lab, sent) == ()
    per_address = [one.notice.address for one in outbox.entries()]
    assert len(told) == len(set(zip(told, per_address, strict=True)))


# --- emergencies ----------------------------------------------------------------------------------


def test_internal_it_hears_of_an_emergency_at_once(lab: Lab, sent: Sent) -> None:
    waiting(lab)
    new = watch(lab, sent)
    case = new.case("bump-1")
    assert case.plan is not None
    assert new.teller.emergency(case) == ()
    emergency = type(case)(case.run, case.records, "", case.plan.replace(change_type="emergency"), case.now)
    notices = new.tell(emergency, "PAUSED")
    assert [one.to for one in notices if one.occasion.kind == "emergency"] == [ASHA]
    assert notices[0].subject.startswith("EMERGENCY change")


# --- the watch's own silence ----------------------------------------------------------------------


def test_a_silent_watch_is_noticed(lab: Lab) -> None:
    now = int(lab.clock.time())
    assert "never ran" in silence(lab.store, now, 1200)
    beat(lab.store, now)
    assert silence(lab.store, now + 1200, 1200) == ""
    assert "nobody has watched this site for 20 min" in silence(lab.store, now + 1201, 1200)
    beat(lab.store, now + 1300)
    assert silence(lab.store, now + 1301, 1200) == ""
    site = load_site(lab.path)
    assert warning(site, lab.store, now + 10**6) == "", "a site without a scheduled watch is not warned"


def test_only_a_site_that_has_a_watch_is_warned(lab: Lab) -> None:
    file = lab.path / "site.yaml"
    said = yaml.safe_load(file.read_text())
    said["deployments"] = [{"runbook": "escalate", "schedules": [{"cron": "*/5 * * * *"}]}]
    file.write_text(yaml.safe_dump(said))
    assert "never ran" in warning(load_site(lab.path), lab.store, lab.clock.time())


def test_the_ping_goes_out_and_never_shows_its_url() -> None:
    with Webhook() as hook:
        url = f"http://127.0.0.1:{hook.port}/uuid-1234"
        assert ping("env:PING", ok=True, resolver=lambda ref: Secret(url, ref)) == ""
        assert ping("env:PING", ok=False, resolver=lambda ref: Secret(url, ref)) == ""
        assert hook.paths == ["/uuid-1234", "/uuid-1234/fail"]
        hook.codes = [500]
        refused = ping("env:PING", ok=True, resolver=lambda ref: Secret(url, ref))
        assert refused == "the ping was answered with 500"
    down = ping("env:PING", ok=True, resolver=lambda ref: Secret(url, ref))
    assert down == "the ping was not taken: ConnectionRefusedError"
    assert "uuid" not in down
    assert "NO_SUCH_PING" in ping("env:NO_SUCH_PING", ok=True)
