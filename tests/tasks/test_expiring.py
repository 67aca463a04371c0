"""Who hears that a password expires, and how often, over real directories."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamplighter.site import load_site
from tasks.expiring import DAY, due_step, tell_everybody
from tasks.openldap import ADMIN_LOCK
from tests.accountkit import OLD, Office
from tests.lab import openldap
from tests.lab.openldap import OpenLdap
from tests.lab.samba_ad import SambaAd
from tests.lab.smtp import MailServer


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
