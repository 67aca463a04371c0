"""Resets and unlocks started as the Prefect UI starts them, over a real server, worker and directory."""

from __future__ import annotations

import json
import os
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.accountkit import KIRAN, OLD, Office, served, submit
from tests.canaries import Watch, know
from tests.lab.prefect_api import PrefectApi
from tests.lab.prefect_stack import PrefectStack
from tests.lab.samba_ad import SambaAd

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
def stack(office: Office, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectStack]:
    with served(office, tmp_path_factory.mktemp("prefect")) as up:
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
