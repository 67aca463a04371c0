"""Who hears that a password expires, and how often, over a real Active Directory."""

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
from tests.accountkit import OLD, Office
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


@pytest.mark.lab
def test_each_step_is_told_once(
    samba: SambaAd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    office = Office(tmp_path, samba, expiring={"exclude": ["excluded"]})
    for login in ("soon", "excluded"):
        samba.user(login, OLD, mail=f"{login}@mail.example")
    samba.user("mailless", OLD)
    site, now = load_site(office.path), time.time()
    with MailServer(tmp_path) as post:
        monkeypatch.setenv("SSL_CERT_FILE", str(post.ca.path))
        monkeypatch.setenv("LAMPLIGHTER_MAIL", post.url())
        assert tell_everybody(site, clock=lambda: now).sent == 0
        for days, sent in ((30, 1), (30, 0), (31, 0), (36, 1), (36, 0), (41.5, 1), (43, 0)):
            told = tell_everybody(site, clock=lambda days=days: now + days * DAY)
            assert told.sent == sent, (days, told)
        assert {mail["X-Rcpt"] for mail in post.mails} == {"soon@mail.example"}
