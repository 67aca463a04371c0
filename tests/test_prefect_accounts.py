"""Resets and unlocks started as the Prefect UI starts them, over a real server, worker and directory."""

from __future__ import annotations

import json
import os
import urllib.error
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.accountkit import KIRAN, OLD, Office, served, submit, word_of
from tests.canaries import Watch, know
from tests.lab.prefect_api import PrefectApi
from tests.lab.prefect_stack import PrefectStack
from tests.lab.samba_ad import SambaAd
from tests.lab.smtp import MailServer

pytestmark = [pytest.mark.lab, pytest.mark.prefect]


@pytest.fixture(scope="module")
def samba(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SambaAd]:
    with SambaAd(f"ad-prefect-{os.getpid()}", tmp_path_factory.mktemp("ad") / "d") as up:
        up.policy(minPwdLength=12, lockoutThreshold=3)
        yield up


@pytest.fixture(scope="module")
def office(samba: SambaAd, tmp_path_factory: pytest.TempPathFactory) -> Office:
    return Office(tmp_path_factory.mktemp("office"), samba)


@pytest.fixture(scope="module")
def post(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MailServer]:
    with MailServer(tmp_path_factory.mktemp("mail")) as server:
        yield server


@pytest.fixture(scope="module")
def stack(
    office: Office, post: MailServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PrefectStack]:
    mail = {"LAMPLIGHTER_MAIL": post.url(), "SSL_CERT_FILE": str(post.ca.path)}
    with served(office, tmp_path_factory.mktemp("prefect"), **mail) as up:
        yield up


@pytest.fixture
def api(stack: PrefectStack) -> PrefectApi:
    return PrefectApi(stack)


def ended(run: dict[str, Any]) -> tuple[str, str]:
    return run["state_name"], run["state"]["message"]


def test_a_reset_from_the_form_to_the_recipient_leaves_no_password_anywhere(
    samba: SambaAd, office: Office, stack: PrefectStack, api: PrefectApi, caplog: pytest.LogCaptureFixture
) -> None:
    samba.user("webform", OLD)
    with Watch(caplog) as watch:
        flow_run = submit(api, "webform")
        run = api.until(flow_run)
        assert ended(run) == ("Completed", "1 changed")
        new = know("user-password", office.password(run["name"]))
        assert watch.commands
        watch.files(stack.folder, office.folder)
    assert any(path.suffix == ".db" for path in Path(stack.folder).rglob("*")), "it was looked into"
    assert "must change" in samba.kinit("webform", new).said
    assert not samba.kinit("webform", OLD).ok
    assert {"change:normal", "function:password-resets", "owner:msp", "site:demo"} <= set(run["tags"])
    (row,) = json.loads(api.artifacts(flow_run)["report"]["data"])
    assert row["host"] == "webform"
    assert row["state"].endswith(" changed")
    assert "password: delivered sealed for desk, until" in api.artifacts(flow_run)["report-page"]["data"]
    assert "call-back" in api.artifacts(flow_run)["plan"]["data"]
    assert json.loads(stack.lamplighter("verify", "--site", "demo", "--json"))["sound"]


def test_a_vips_reset_waits_for_internal_it(
    samba: SambaAd, office: Office, stack: PrefectStack, api: PrefectApi
) -> None:
    office.directory(vip={"groups": [samba.group("board", samba.user("chair", OLD))], "rule": "gated"})
    flow_run = submit(api, "chair")
    run = api.until(flow_run, "Suspended")
    assert run["state_name"] == "Suspended", run["state"]
    assert "by call" in api.form(flow_run).replace("\\", "").replace("<wbr>", "")
    assert samba.kinit("chair", OLD).ok
    stack.lamplighter("approve", run["name"], "--key", str(office.key(KIRAN)), "--yes")
    assert ended(api.until(flow_run)) == ("Completed", "1 changed")
    assert "must change" in samba.kinit("chair", office.password(run["name"])).said


def test_a_mail_server_that_asks_to_come_back_gets_the_mail_later(
    samba: SambaAd, office: Office, post: MailServer, api: PrefectApi
) -> None:
    samba.user("greylisted", OLD, manager=samba.user("herboss", OLD, mail="o'neil@mail.example"))
    post.answers.recipients["o'neil@mail.example"] = ["451 greylisted", "250 OK"]
    flow_run = submit(api, "greylisted", deliver_to="manager")
    run = api.until(flow_run, "AwaitingMail")
    assert "its mail waits until" in run["state"]["message"]
    assert not samba.kinit("greylisted", OLD).ok
    waiting = office.parcel(run["name"])
    assert office.store.swap(
        f"live/deliveries/{run['name']}", waiting.to_bytes(), replace(waiting, until=1).to_bytes()
    ), "a minute later"
    api.post(f"flow_runs/{flow_run}/set_state", {"state": {"type": "SCHEDULED"}, "force": True})
    assert ended(api.until(flow_run)) == ("Completed", "1 changed")
    assert post.answers.recipients_seen == [("o'neil@mail.example",)]
    assert "must change" in samba.kinit("greylisted", word_of(post.mails[0].get_content().strip())).said


def test_an_unlock_says_why(samba: SambaAd, api: PrefectApi) -> None:
    samba.user("webform2", OLD)
    for _ in range(4):
        samba.kinit("webform2", "Wr0ng-Passw0rd!")
    assert not samba.kinit("webform2", OLD).ok
    flow_run = submit(api, "webform2", "unlock-account")
    assert ended(api.until(flow_run)) == ("Completed", "1 changed")
    assert "locked by wrong passwords" in api.artifacts(flow_run)["plan"]["data"]
    assert samba.kinit("webform2", OLD).ok


def test_a_refusal_is_told_in_the_runs_report(api: PrefectApi) -> None:
    flow_run = submit(api, "Administrator")
    (row,) = json.loads(api.artifacts(api.until(flow_run)["id"])["report"]["data"])
    assert row["state"].endswith(" refused")
    assert "protected" in row["what happened"]


@pytest.mark.parametrize("left_out", ["gut-feeling", ""])
def test_how_the_caller_was_verified_must_be_said(api: PrefectApi, left_out: str) -> None:
    with pytest.raises(urllib.error.HTTPError, match=r"409|422") as caught:
        submit(api, "webform", verified=left_out)
    caught.value.close()
