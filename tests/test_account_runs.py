"""Whole resets and unlocks against real directories: standing approval, rates, delivery, proof."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lamplighter.delivery import sweep
from lamplighter.errors import SelectionError
from lamplighter.notify.outbox import Outbox
from tests.accountkit import KIRAN, OLD, PRIYA, Office, finish, logs_in, word_of
from tests.lab import openldap, samba_ad
from tests.lab.openldap import OpenLdap
from tests.lab.samba_ad import SambaAd
from tests.lab.smtp import MailServer

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def samba(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SambaAd]:
    with SambaAd(f"ad-run-{os.getpid()}", tmp_path_factory.mktemp("ad") / "d") as up:
        up.policy(lockoutThreshold=3, minPwdLength=12)
        yield up


@pytest.fixture(scope="module")
def slapd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenLdap]:
    with OpenLdap(f"slapd-run-{os.getpid()}", tmp_path_factory.mktemp("slapd") / "d") as up:
        yield up


@pytest.fixture
def office(samba: SambaAd, tmp_path: Path) -> Office:
    return Office(tmp_path, samba)


def test_a_reset_from_the_request_to_the_users_hand(samba: SambaAd, office: Office) -> None:
    samba.user("jroe", OLD, mail="jane.roe@example.com")
    ending = office.go("jane.roe@example.com")
    assert (str(ending.state), ending.message) == ("Completed", "1 changed"), ending.outcomes
    new = office.password()
    assert not samba.kinit("jroe", OLD).ok
    assert "must change" in samba.kinit("jroe", new).said
    assert samba.kinit("jroe", new, "Her-Own-Passw0rd!3").ok
    sealed = office.drop_off / "reset-1.age"
    assert stat.S_IMODE(sealed.stat().st_mode) == 0o600
    for path in office.folder.rglob("*"):
        assert not path.is_file() or new.encode() not in path.read_bytes(), path


def test_openldap_from_the_request_to_the_users_hand(slapd: OpenLdap, tmp_path: Path) -> None:
    dn = slapd.user("jroe", OLD)
    office = Office(tmp_path, slapd)
    ending = office.go("jroe")
    assert ending.message == "1 changed", ending.outcomes
    assert logs_in(slapd, dn, office.password())
    assert not logs_in(slapd, dn, OLD)


def test_an_unlock_says_why_and_lifts_it(samba: SambaAd, office: Office) -> None:
    samba.user("locky", OLD)
    ending = office.go("locky", "unlock-1", unlock_only=True)
    assert ending.message == "1 unchanged"
    for _ in range(4):
        samba.kinit("locky", "Wr0ng-Passw0rd!")
    ending = office.go("locky", "unlock-2", unlock_only=True)
    assert ending.message == "1 changed", ending.outcomes
    assert samba.kinit("locky", OLD).ok


def test_one_reset_too_many_is_stopped_and_both_parties_hear_of_it(samba: SambaAd, office: Office) -> None:
    samba.user("again", OLD)
    office.directory(rates={"per_user_a_day": 1, "per_hour": 50, "tell": ["internal/service-desk", PRIYA]})
    assert office.go("again", "reset-1").message == "1 changed"
    ending = office.go("again", "reset-2")
    assert str(ending.state) == "Halted"
    assert "changed 1 times in 24 hours" in ending.message
    told = {entry.notice.to for entry in Outbox(office.store, office.desk.clock).entries()}
    assert told == {KIRAN, PRIYA}
    assert office.parcel("reset-2") is None
    assert samba.kinit("again", office.password()).said.find("must change") >= 0
    office.directory(rates={"per_user_a_day": 9, "per_hour": 1})
    samba.user("other", OLD)
    assert "in the last hour" in office.go("other", "reset-3").message
    assert samba.kinit("other", OLD).ok


def test_a_vip_is_signed_for_each_time_or_refused(samba: SambaAd, office: Office) -> None:
    group = samba.group("directors", samba.group("board", samba.user("boss", OLD)))
    office.directory(vip={"groups": [group], "rule": "gated"})
    with office.run("boss") as (desk, run):
        plan = run.make_plan(run.survey())
        assert plan.change_type == "normal"
        assert not run.check_gate().passed
        assert samba.kinit("boss", OLD).ok
        run.receive(run.ask(), [office.sign(run)], {"decision": "approve", "reason": ""})
        assert finish(desk, run).message == "1 changed"
    office.directory(vip={"groups": [group], "rule": "internal-only"})
    (outcome,) = office.go("boss", "reset-2").outcomes
    assert outcome.message.startswith("internal-only:")


def test_a_vip_in_openldap_is_signed_for_each_time_or_refused(slapd: OpenLdap, tmp_path: Path) -> None:
    dn = slapd.user("boss", OLD)
    group = slapd.group("directors", slapd.group("board", dn))
    office = Office(tmp_path, slapd, vip={"groups": [group], "rule": "gated"})
    with office.run("boss") as (desk, run):
        plan = run.make_plan(run.survey())
        assert plan.change_type == "normal"
        assert not run.check_gate().passed
        run.receive(run.ask(), [office.sign(run)], {"decision": "approve", "reason": ""})
        time.sleep(1.1)  # OpenLDAP keeps the time of a change in whole seconds
        assert finish(desk, run).message == "1 changed"
    assert logs_in(slapd, dn, office.password())
    office.directory(vip={"groups": [group], "rule": "internal-only"})
    (outcome,) = office.go("boss", "reset-2").outcomes
    assert outcome.message.startswith("internal-only:")
    office.directory(protected_groups=[group])
    (outcome,) = office.go("boss", "reset-3").outcomes
    assert outcome.message.startswith("protected:"), "a group that is both is protected"


@pytest.mark.parametrize(("wanted", "rule"), [
    ("treasurer", "protected"), ("denied", "deny-list"), ("partner", "outside-delegation"),
    ("jailed", "locked-by-administrator"), ("past", "expired"), ("ghost", "0 accounts"), ("*", "0 accounts"),
])
def test_openldap_refuses_and_names_its_rule(
    slapd: OpenLdap, tmp_path: Path, wanted: str, rule: str
) -> None:
    office = Office(tmp_path, slapd)
    if wanted == "treasurer":
        office.directory(protected_groups=[slapd.group("money", slapd.user(wanted, OLD))])
    elif wanted in {"denied", "partner"}:
        slapd.user(wanted, OLD, ou=openldap.PEOPLE if wanted == "denied" else openldap.PARTNERS)
    elif wanted == "jailed":
        slapd.set(slapd.user(wanted, OLD), pwdAccountLockedTime="000001010000Z")
    elif wanted == "past":
        slapd.set(slapd.user(wanted, OLD), objectClass=["inetOrgPerson", "shadowAccount"], shadowExpire=1)
    (outcome,) = office.go(wanted).outcomes
    assert str(outcome.terminal) == "refused"
    assert rule in outcome.message
    assert office.parcel() is None


@pytest.mark.parametrize(("wanted", "rule"), [
    ("Administrator", "protected"), ("krbtgt", "built-in"), ("denied", "deny-list"), ("ghost", "0 accounts"),
    ("boss2", "outside-delegation"), ('x")(uid=*', "0 accounts"), ("\U0001f600", "0 accounts"),
])
def test_a_refusal_names_its_rule(samba: SambaAd, office: Office, wanted: str, rule: str) -> None:
    if wanted in {"denied", "boss2"}:
        samba.user(wanted, OLD, ou=samba_ad.STAFF if wanted == "denied" else samba_ad.MANAGERS)
    ending = office.go(wanted)
    (outcome,) = ending.outcomes
    assert str(outcome.terminal) == "refused"
    assert rule in outcome.message
    assert office.parcel() is None


@pytest.mark.parametrize("wanted", ["", "  ", "a\0b", "x" * 300, "a\nb"])
def test_what_is_no_name_is_refused_before_anything_is_asked(office: Office, wanted: str) -> None:
    with pytest.raises(SelectionError), office.run(wanted) as (_, run):
        run.hosts  # noqa: B018 - it raises


# --- delivery -----------------------------------------------------------------------------------------


def test_a_file_is_readable_by_one_and_gone_after_its_time(samba: SambaAd, office: Office) -> None:
    samba.user("filed", OLD)
    office.go("filed", deliver_to="file")
    path = office.drop_off / "reset-1.txt"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "must change" in samba.kinit("filed", word_of(path.read_text())).said
    rules = office.desk.directory.entry.delivery
    assert sweep(office.store, rules, time.time()) == 0
    assert sweep(office.store, rules, time.time() + 25 * 3600) == 1
    assert not path.exists()
    assert office.desk.deliveries.release("reset-1") == office.parcel(), "it is handed over once"


@pytest.fixture
def post(office: Office, monkeypatch: pytest.MonkeyPatch) -> Iterator[MailServer]:
    with MailServer(office.folder) as server:
        monkeypatch.setenv("SSL_CERT_FILE", str(server.ca.path))
        monkeypatch.setenv("LAMPLIGHTER_MAIL", server.url())
        yield server


def test_the_manager_gets_a_mail(samba: SambaAd, office: Office, post: MailServer) -> None:
    boss = samba.user("herboss", OLD, mail="boss@mail.example")
    samba.user("mailed", OLD, manager=boss)
    ending = office.go("mailed", deliver_to="manager")
    assert ending.message == "1 changed", ending.outcomes
    (mail,) = post.mails
    assert mail["X-Rcpt"] == "boss@mail.example"
    assert "must change" in samba.kinit("mailed", word_of(mail.get_content().strip())).said
    assert office.parcel().sealed == ""


def test_the_other_address_gets_a_mail(samba: SambaAd, office: Office, post: MailServer) -> None:
    samba.user("private", OLD, otherMailbox="her@mail.example")
    office.go("private", deliver_to="alternate")
    assert post.mails[0]["X-Rcpt"] == "her@mail.example"


def test_one_of_several_addresses_gets_the_mail(samba: SambaAd, office: Office, post: MailServer) -> None:
    samba.user("several", OLD, otherMailbox=["z@mail.example", "fiona.d'souza@mail.example"])
    office.go("several", deliver_to="alternate")
    assert post.answers.recipients_seen == [("fiona.d'souza@mail.example",)]


def test_what_is_no_address_is_told_as_it_stands(samba: SambaAd, office: Office, post: MailServer) -> None:
    samba.user("unclear", OLD, otherMailbox="souza, fiona@mail.example")
    (outcome,) = office.go("unclear", deliver_to="alternate").outcomes
    assert "no-address" in outcome.message
    assert "not one mail address: souza, fiona@mail.example" in outcome.message
    assert samba.kinit("unclear", OLD).ok
    assert not post.mails


def test_without_an_address_nothing_is_set(samba: SambaAd, office: Office) -> None:
    samba.user("nobodys", OLD)
    (outcome,) = office.go("nobodys", deliver_to="manager").outcomes
    assert "no-address" in outcome.message
    assert samba.kinit("nobodys", OLD).ok


def test_what_cannot_be_delivered_is_said_and_must_be_changed(
    samba: SambaAd, office: Office, post: MailServer
) -> None:
    boss = samba.user("boss3", OLD, mail="gone@mail.example")
    samba.user("undelivered", OLD, manager=boss)
    post.answers.recipients["gone@mail.example"] = ["550 no such user"]
    ending = office.go("undelivered", deliver_to="manager")
    assert str(ending.state) == "Failed"
    assert "was not delivered" in ending.message
    assert not samba.kinit("undelivered", OLD).ok
    parcel = office.parcel()
    assert (parcel.state, parcel.sealed) == ("failed", "")


def test_a_recipient_that_is_not_listed_is_refused(office: Office) -> None:
    allows = r"directory\.yaml allows"
    with pytest.raises(SelectionError, match=allows), office.run("x", deliver_to="age1xyz"):
        pass
