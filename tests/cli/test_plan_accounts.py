"""`lamplighter plan` for runbooks about accounts: what a reset or an unlock would do, on a real directory."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lamplighter.cli import main
from tests.accountkit import OLD, Office
from tests.lab import openldap
from tests.lab.openldap import OpenLdap

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def slapd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenLdap]:
    with OpenLdap(f"slapd-plan-{os.getpid()}", tmp_path_factory.mktemp("slapd") / "d") as up:
        yield up


@pytest.fixture
def office(slapd: OpenLdap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Office:
    made = Office(tmp_path, slapd)
    monkeypatch.setenv("LAMPLIGHTER_INVENTORIES", str(made.folder))
    return made


def ended(*words: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["plan", *words])
    return int(caught.value.code or 0)


def test_a_reset_is_planned_and_nothing_is_changed(
    slapd: OpenLdap, office: Office, capsys: pytest.CaptureFixture[str]
) -> None:
    slapd.user("jane", OLD)
    before = sorted(office.folder.rglob("*"))
    assert ended("reset-password", "--set", "account=jane", "--set", "deliver_to=file", "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    ((step,),) = [host["steps"] for host in plan["hosts"]]
    assert (step["action"], step["args"]["way"]) == ("account.reset", "file")
    assert "nobody yet" in str(plan["hosts"][0]["notes"])
    assert sorted(office.folder.rglob("*")) == before


@pytest.mark.usefixtures("office")
def test_an_unlock_says_why_there_is_nothing_to_do(
    slapd: OpenLdap, capsys: pytest.CaptureFixture[str]
) -> None:
    slapd.user("joan", OLD)
    assert ended("unlock-account", "--set", "account=joan") == 0
    assert "not-locked" in " ".join(capsys.readouterr().out.split())
    assert ended("unlock-account", "--set", "account=ghost") == 1
    assert "0 accounts" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(("words", "why"), [
    ((), "--set account=LOGIN"),
    (("--hosts", "web", "--set", "account=jane"), "about one account, and not about hosts"),
    (("--set", "account=jane", "--set", "unlock=maybe"), "write true or false"),
    (("--set", "account=jane", "--set", "style=words"), "there are: account, deliver_to, unlock"),
    (("--set", "account=jane", "--set", "deliver_to=pigeon"), "directory.yaml allows"),
    (("--set", "account=a\nb"), "cannot be seen"),
])
@pytest.mark.usefixtures("office")
def test_what_cannot_be_planned_says_what_to_write(
    words: tuple[str, ...], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended("reset-password", *words) == 2
    assert why in " ".join(capsys.readouterr().err.split())


def test_check_asks_the_directory_whom_its_lines_name(
    slapd: OpenLdap, office: Office, capsys: pytest.CaptureFixture[str]
) -> None:
    slapd.user("jill", OLD, employeeNumber="4711")
    group = slapd.group("board", f"uid=jill,{openldap.PEOPLE}")
    lines = {"denied": ["4711", f"uid=JILL, {openldap.PEOPLE}"], "protected_groups": [group]}

    def checked() -> str:
        with pytest.raises(SystemExit):
            main(["check", "demo", "--here"])
        said = capsys.readouterr()
        return said.out + said.err

    office.directory(**lines)
    assert "names nobody" not in checked()
    office.directory(denied=["4711", "ghost"], vip={"groups": [f"cn=nowhere,{openldap.GROUPS}"]})
    said = checked()
    assert "`ghost` in `denied` of directory.yaml names nobody" in said
    assert "`cn=nowhere,ou=groups,dc=lab,dc=test` in `vip`" in said
    assert "4711" not in said
    slapd.stop()
    try:
        assert "the directory was not asked" in " ".join(checked().split())
    finally:
        slapd.start()
