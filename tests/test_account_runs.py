"""Whole resets and unlocks against real directories: standing approval, rates, delivery, proof."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.accountkit import OLD, Office
from tests.lab.openldap import OpenLdap
from tests.lab.samba_ad import SambaAd

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
