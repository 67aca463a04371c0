"""Who hears that a password expires, and how often, over real directories and a real mail server."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lamplighter.errors import OutputTooLargeError
from lamplighter.model.notice import Notice, Occasion
from lamplighter.notify.outbox import Outbox
from lamplighter.notify.send import Delivered, deliver, send_by_apprise
from lamplighter.site import load_site
from lamplighter.site.directory import load_directory
from lamplighter.site.notify import Channel, Notify
from tasks.expiring import DAY, Expiring, Teller, Told, due_step, tell_everybody
from tasks.openldap_state import ADMIN_LOCK
from tests.accountkit import OLD, PRIYA, ROOT, Office
from tests.lab import openldap
from tests.lab.openldap import OpenLdap
from tests.lab.samba_ad import SambaAd
from tests.lab.smtp import MailServer
from tests.storekit import a_store
from tests.test_prepare import block


@given(end=st.integers(0, 10**10), now=st.integers(0, 10**10))
def test_a_step_is_the_smallest_that_holds_what_is_left(end: int, now: int) -> None:
    step, days = due_step(end, now, (14, 7, 3, 1)), (end - now) / DAY
    assert step == 0 if days <= 0 or days > 14 else step >= days
    assert not any(days <= other < step for other in (14, 7, 3, 1) if days > 0)


@pytest.fixture(scope="module")
def samba(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SambaAd]:
    with SambaAd(f"ad-exp-{os.getpid()}", tmp_path_factory.mktemp("ad") / "d") as up:
        up.policy(maxPwdAge=-int(42 * DAY * 10**7))
        yield up


@pytest.fixture(scope="module")
def slapd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenLdap]:
    with OpenLdap(f"slapd-exp-{os.getpid()}", tmp_path_factory.mktemp("slapd") / "d") as up:
        up.set(openldap.DEFAULT_POLICY, pwdMaxAge=42 * DAY)
        up.set(openldap.STRICT_POLICY, pwdMaxAge=142 * DAY)
        yield up


@pytest.fixture
def post(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MailServer]:
    with MailServer(tmp_path) as server:
        monkeypatch.setenv("SSL_CERT_FILE", str(server.ca.path))
        monkeypatch.setenv("LAMPLIGHTER_MAIL", server.url())
        yield server


# --- the mails ------------------------------------------------------------------------------------

NOW = 1_795_400_000


class Desk:
    """A site's reminders without a directory: users in, mails out. Params: folder, of the store."""

    def __init__(self, folder: Path) -> None:
        self.site, self.now = load_site(ROOT / "inventories" / "demo"), float(NOW)
        self.outbox = Outbox(a_store(folder / "store"), lambda: self.now)
        self.notify = Notify(servers={"mail": "env:LAMPLIGHTER_MAIL"}, per_round=1)
        rules = load_directory(self.site.path).entry
        self.rules = rules.model_copy(update={
            "delivery": rules.delivery.model_copy(update={"mail_through": "mail"}),
            "expiring": rules.expiring.model_copy(update={"days": [14, 3], "per_run": 3}),
        })

    def tell(self, *users: Expiring) -> Told:
        return Teller(self.site, self.rules, self.outbox, self.notify, lambda: self.now).tell(users)

    def watch(self) -> Delivered:
        """A round of `escalate`."""
        many = replace(self.notify, per_round=50)
        return deliver(self.outbox, many, self.site.title, send_by_apprise)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def user(login: str, days: float = 10, mail: str = "") -> Expiring:
    return Expiring(f"pin-{login}", "uid=x", login, mail or f"{login}@mail.example", int(NOW + days * DAY))


def test_a_server_that_is_down_costs_nobody_the_reminder(post: MailServer, desk: Desk) -> None:
    post.stop()
    try:
        told = desk.tell(user("jane"), user("john"))
        assert (told.sent, told.waiting, told.ok) == (0, 2, False)
        desk.now += DAY
        assert desk.watch().later == 2
    finally:
        post.start()
    assert desk.tell(user("jane"), user("john")).sent == 0, "the outbox has them"
    desk.now += 3600
    assert desk.watch().sent == 2
    assert sorted(post.answers.recipients_seen) == [("jane@mail.example",), ("john@mail.example",)]
    assert desk.watch().sent == 0


def test_greylisting_is_waited_out(post: MailServer, desk: Desk) -> None:
    post.answers.recipients["jane@mail.example"] = ["451 greylisted, come back in 5 minutes"] * 3 + ["250 OK"]
    assert desk.tell(user("jane")).waiting == 1
    for _ in range(8):
        desk.now += 120
        desk.watch()
    assert post.answers.recipients_seen == [("jane@mail.example",)]
    assert "expires on" in post.mails[0].get_content()


def test_a_reminder_that_is_too_late_is_not_sent(post: MailServer, desk: Desk) -> None:
    post.answers.recipients["jane@mail.example"] = ["451 later", "250 OK"]
    assert desk.tell(user("jane", days=0.5)).waiting == 1
    desk.now += DAY
    assert desk.watch().failed == 1
    assert not post.mails
    (entry,) = desk.outbox.entries()
    assert (entry.state, entry.notice.to) == ("failed", "jane")


def test_one_address_of_several_accounts_hears_of_each(post: MailServer, desk: Desk) -> None:
    users = [user(f"shared{number}", mail="desk@mail.example") for number in range(5)]
    assert desk.tell(*users).left == 2
    assert desk.tell(*users).sent == 2
    assert [one["Subject"] for one in post.mails] == ["Your password expires soon"] * 5
    assert post.answers.recipients_seen == [("desk@mail.example",)] * 5


def test_who_has_no_address_is_named(post: MailServer, desk: Desk) -> None:
    nobody = replace(user("mailless"), mail="")
    told = desk.tell(nobody, user("jane"))
    assert (told.sent, told.unreached) == (1, ("mailless",))
    assert "1 users without one mail address (mailless)" in str(told)
    assert len(post.mails) == 1


def test_in_stage_shadow_users_are_counted_and_nobody_is_told(post: MailServer, desk: Desk) -> None:
    shadow = Teller(desk.site, desk.rules, desk.outbox, desk.notify, lambda: desk.now, mail=False)
    told = shadow.tell([user("jane"), user("john")])
    assert str(told) == "stage shadow: 2 users would be told; nobody was"
    assert not post.mails
    assert not list(desk.outbox.entries())
    assert desk.tell(user("jane")).sent == 1, "and are told when it ends"


def test_those_who_run_things_hear_before_hundreds_of_users(post: MailServer, desk: Desk) -> None:
    post.stop()
    desk.tell(user("aaron"), user("abby"))
    post.start()
    desk.now += 3600
    occasion = Occasion("patch-linux-1", "gate", "d", NOW)
    os.environ["ZOE"] = "zoe@mail.example"
    desk.outbox.record(Notice(occasion, "zoe@internal.example", "mail", "Approval needed", "t", "", NOW))
    reach = {"zoe@internal.example": (Channel("mail", "env:LAMPLIGHTER_MAIL", "env:ZOE"),)}
    notify = replace(desk.notify, reach=reach)
    assert deliver(desk.outbox, notify, "demo", send_by_apprise).sent == 1
    assert post.answers.recipients_seen == [("zoe@mail.example",)]


# --- over directories -----------------------------------------------------------------------------


@pytest.mark.lab
@pytest.mark.parametrize("limits", ["", "block"])
def test_a_servers_size_limit_is_told_and_can_be_raised(
    limits: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, post: MailServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What slapd does by itself at 500 entries, here at 3; and what docs/prepare.md says to do."""
    line = block("openldap: limits").replace("dc=corp,dc=example", openldap.BASE) if limits else ""
    conf = openldap._CONF.replace("sizelimit unlimited\n", f"sizelimit 3\n{line}")
    monkeypatch.setattr(openldap, "_CONF", conf)
    monkeypatch.setenv("DESK", "desk@mail.example")
    with OpenLdap(f"slapd-lim-{os.getpid()}-{len(limits)}", tmp_path_factory.mktemp("s") / "d") as slapd:
        slapd.set(openldap.DEFAULT_POLICY, pwdMaxAge=42 * DAY)
        for number in range(5):
            slapd.user(f"many{number}", OLD, mail=f"many{number}@mail.example")
        office = Office(tmp_path, slapd, rates={"tell": [PRIYA]})
        known = yaml.safe_load((office.path / "notify.yaml").read_text())
        channel = {"name": "mail", "through": "mail", "to": "env:DESK"}
        office.edit("notify.yaml", reach={**known.get("reach", {}), PRIYA: [channel]})
        site, later = load_site(office.path), time.time() + 35 * DAY
        if limits:
            assert tell_everybody(site, clock=lambda: later).sent == 5
            return
        for _ in range(2):
            with pytest.raises(OutputTooLargeError, match=r"limits \.\.\. size="):
                tell_everybody(site, clock=lambda: later)
    (heard,) = post.mails
    assert heard["X-Rcpt"] == "desk@mail.example"
    assert "limits ... size=" in heard.get_content()


@pytest.mark.lab
@pytest.mark.parametrize("which", ["samba", "slapd"])
def test_each_step_is_told_once(
    which: str, request: pytest.FixtureRequest, tmp_path: Path, post: MailServer
) -> None:
    server: SambaAd | OpenLdap = request.getfixturevalue(which)
    office = Office(tmp_path, server, expiring={"exclude": ["excluded"]})
    for login in ("soon", "excluded"):
        server.user(login, OLD, mail=f"{login}@mail.example")
    server.user("mailless", OLD)
    site, now = load_site(office.path), time.time()
    assert tell_everybody(site, clock=lambda: now).sent == 0
    for days, sent in ((30, 1), (30, 0), (31, 0), (36, 1), (36, 0), (41.5, 1), (43, 0)):
        told = tell_everybody(site, clock=lambda days=days: now + days * DAY)
        assert told.sent == sent, (days, told)
    assert {mail["X-Rcpt"] for mail in post.mails} == {"soon@mail.example"}
    assert "http" not in str(post.mails[0].get_content())


@pytest.mark.lab
def test_in_openldap_each_has_the_policy_that_holds_for_them(
    slapd: OpenLdap, tmp_path: Path, post: MailServer
) -> None:
    mails = {login: f"{login}@mail.example" for login in ("slow", "locked", "new", "partner")}
    policy = openldap.STRICT_POLICY
    slapd.user("slow", "a-long-enough-first-password", mail=mails["slow"], pwdPolicySubentry=policy)
    slapd.set(slapd.user("locked", OLD, mail=mails["locked"]), pwdAccountLockedTime=ADMIN_LOCK)
    slapd.set(slapd.user("new", OLD, mail=mails["new"]), pwdReset="TRUE")
    slapd.user("partner", OLD, mail=mails["partner"], ou=openldap.PARTNERS)
    site, now = load_site(Office(tmp_path, slapd).path), time.time()
    tell_everybody(site, clock=lambda: now + 35 * DAY)
    assert not set(mails.values()) & {mail["X-Rcpt"] for mail in post.mails}
    tell_everybody(site, clock=lambda: now + 135 * DAY)
    assert set(mails.values()) & {mail["X-Rcpt"] for mail in post.mails} == {mails["slow"]}


@pytest.mark.lab
@pytest.mark.parametrize("which", ["samba", "slapd"])
def test_more_than_a_run_may_send_hear_in_the_next(
    which: str, request: pytest.FixtureRequest, tmp_path: Path, post: MailServer
) -> None:
    server: SambaAd | OpenLdap = request.getfixturevalue(which)
    for number in range(3):
        server.user(f"many{number}", OLD, mail=f"many{number}@mail.example")
    site = load_site(Office(tmp_path, server, expiring={"per_run": 2, "exclude": ["soon", "excluded"]}).path)
    later = time.time() + 35 * DAY
    first, second, third = (tell_everybody(site, clock=lambda: later) for _ in range(3))
    assert (first.sent, first.left) == (2, 1)
    assert (second.sent, third.sent) == (1, 0)
    assert len({mail["X-Rcpt"] for mail in post.mails}) == len(post.mails) == 3
