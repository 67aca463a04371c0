"""What goes wrong around a reset, on both real directories: servers, certificates, referrals, names, others.

Whether a password was set is told by the old one, which then logs in no more.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from lamplighter.engine.run import Run
from lamplighter.ledger import read_ledger
from lamplighter.model.dn import join_dn
from lamplighter.model.inventory import Host
from lamplighter.model.session import Connect
from lamplighter.transports import ldap
from tasks.accounts import AccountFacts
from tasks.openldap_state import ADMIN_LOCK
from tests.accountkit import OLD, Office, logs_in
from tests.lab import ldif, openldap, samba_ad
from tests.lab.openldap import OpenLdap
from tests.lab.pki import Ca
from tests.lab.rogue_ldap import RogueLdap
from tests.lab.samba_ad import SambaAd

pytestmark = [pytest.mark.lab, pytest.mark.faults, pytest.mark.timeout(120)]
NAMES = yaml.safe_load((Path(__file__).parents[1] / "cases" / "accounts" / "names.yaml").read_text("utf-8"))
DECEIVING = frozenset("\0\n\t\u202e")
Server = SambaAd | OpenLdap


@pytest.fixture(scope="module", params=["active-directory", "openldap"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    kind, folder = request.param, tmp_path_factory.mktemp("d") / "d"
    if kind == "openldap":
        with OpenLdap(f"slapd-fault-{os.getpid()}", folder) as slapd:
            yield slapd
        return
    with SambaAd(f"ad-fault-{os.getpid()}", folder) as samba:
        samba.policy(minPwdLength=12)
        yield samba


@pytest.fixture
def office(server: Server, tmp_path: Path) -> Office:
    return Office(tmp_path, server, connect_seconds=2, seconds=2)


@pytest.fixture(autouse=True)
def _fresh_breaker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ldap, "_breaker", ldap._Breaker())


def user(server: Server, login: str, cn: str = "", **more: str) -> str:
    """An account whose password was set a while ago, for OpenLDAP keeps that time in whole seconds."""
    ad = isinstance(server, SambaAd)
    fields: dict[str, ldif.Values] = {"cn": cn or login, **more}
    if ad:
        fields |= {
            "objectClass": "user", "sAMAccountName": login, "unicodePwd": samba_ad.quoted(OLD),
            "userAccountControl": 512,
        }
        dn = join_dn(("cn", cn or login), base=samba_ad.STAFF)
    else:
        fields |= {"objectClass": "inetOrgPerson", "sn": login, "uid": login, "userPassword": OLD}
        dn = join_dn(("cn", cn or login), base=openldap.PEOPLE)
    server.admin.apply(ldif.add(dn, fields))
    if not ad:
        threading.Event().wait(1.1)
    return dn


def ended(office: Office, account: str, **how: Any) -> str:
    (outcome,) = office.go(account, **how).outcomes
    return str(outcome.terminal)


# --- servers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["down", "of another name", "of another authority"])
def test_a_server_that_is_not_the_right_one_gets_nothing(server: Server, office: Office, how: str) -> None:
    login = how.replace(" ", "-")
    dn, name = user(server, login), samba_ad.NAME if isinstance(server, SambaAd) else openldap.NAME
    if how == "down":
        office.directory(servers=[{"address": server.address, "name": name, "port": 9}])
    elif how == "of another name":
        office.directory(servers=[{"address": server.address, "name": "dc2.lab.test"}])
    else:
        Ca(office.folder, "Another CA").issue(name)
        office.directory(ca=str(office.folder / "ca.pem"))
    assert ended(office, login) == "unreachable"
    assert office.parcel() is None
    assert logs_in(server, dn, OLD)


def test_a_server_that_answers_slowly_is_waited_for(server: Server, office: Office) -> None:
    dn = user(server, "slow")
    office.directory(connect_seconds=10, seconds=10)

    def pause(_: Run) -> None:
        server.pause()
        threading.Timer(1.5, server.resume).start()

    assert ended(office, "slow", planned=pause) == "changed"
    assert not logs_in(server, dn, OLD)


class Fragile:
    """A session whose server fails right before or right after the password is written."""

    def __init__(self, inner: Any, when: str, fail: Any) -> None:
        self._inner, self._when, self._fail = inner, when, fail

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        return self._write(found) if name in {"modify", "set_password"} else found

    def _write(self, act: Any) -> Any:
        def write(*arguments: Any) -> None:
            if self._when == "before":
                self._fail()
            act(*arguments)
            if self._when == "after":
                self._fail()

        return write


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("how", ["hangs", "dies"])
def test_a_server_that_fails_at_the_write_is_asked_again(
    server: Server, office: Office, how: str, when: str
) -> None:
    login = f"{how}-{when}"
    dn, back = user(server, login), threading.Timer(3, server.resume)

    def fail() -> None:
        if how == "dies":
            server.stop()
        elif not back.ident:
            server.pause()
            back.start()

    def fragile(connect: Connect) -> Connect:
        return lambda host: Fragile(connect(host), when, fail)

    terminal = ended(office, login, connect=fragile)
    if how == "dies":
        server.start()
    else:
        back.join()
    was_set, parcel = not logs_in(server, dn, OLD), office.parcel()
    assert terminal in {"changed", "unknown"}, terminal
    assert was_set or when == "before"
    assert was_set or terminal == "unknown", "what is said to be done was done"
    assert parcel is not None
    assert parcel.state == ("delivered" if terminal == "changed" else "dropped")
    if terminal == "changed":
        assert facts_of(office, login).must_change


def facts_of(office: Office, login: str) -> AccountFacts:
    desk = office.desk
    with desk.reach(desk.site) as connect:
        session: Any = connect(Host(login))
        try:
            return desk.system.read(desk.system.find(login, session), session, desk.clock())
        finally:
            session.close()


# --- referrals ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def slapd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenLdap]:
    with OpenLdap(f"slapd-refer-{os.getpid()}", tmp_path_factory.mktemp("r") / "d") as up:
        yield up


def test_a_referral_beside_the_account_is_not_followed(slapd: OpenLdap, tmp_path: Path) -> None:
    office, dn = Office(tmp_path, slapd), user(slapd, "beside")
    with RogueLdap() as rogue:
        slapd.admin.apply(refer(f"cn=elsewhere,{openldap.PEOPLE}", rogue))
        assert ended(office, "beside") == "changed"
        assert rogue.connections == 0
    assert not logs_in(slapd, dn, OLD)


def test_an_account_that_became_a_referral_is_left_alone(slapd: OpenLdap, tmp_path: Path) -> None:
    office, dn = Office(tmp_path, slapd), user(slapd, "referred")
    with RogueLdap() as rogue:
        swap = ldif.delete(dn) + refer(dn, rogue)
        assert ended(office, "referred", planned=lambda _: slapd.admin.apply(swap)) in {"drifted", "refused"}
        assert rogue.connections == 0
    assert office.parcel() is None


def refer(dn: str, rogue: RogueLdap) -> str:
    """An entry that sends whoever asks to another server (RFC 3296)."""
    kind, value = dn.partition(",")[0].split("=")
    url = f"ldap://127.0.0.1:{rogue.port}/{dn}"
    return ldif.add(dn, {"objectClass": ["referral", "extensibleObject"], kind: value, "ref": url})


# --- somebody else ------------------------------------------------------------------------------------


def test_of_two_resets_at_the_same_moment_one_is_done(server: Server, office: Office) -> None:
    dn, both = user(server, "raced", mail="raced@example.com"), threading.Barrier(2)

    def planned(_: Run) -> None:
        both.wait(20)

    with ThreadPoolExecutor(2) as pool:
        runs = [
            pool.submit(office.go, wanted, f"reset-{number}", planned=planned)
            for number, wanted in enumerate(("raced", "raced@example.com"))
        ]
        endings = [run.result(60) for run in runs]
    terminals = sorted(str(one.outcomes[0].terminal) for one in endings)
    assert terminals[0] == "changed"
    assert terminals[1] in {"drifted", "refused", "skipped", "unreachable"}, endings
    parcels = [office.parcel(f"reset-{number}") for number in range(2)]
    assert [one.state for one in parcels if one] == ["delivered"]
    assert not logs_in(server, dn, OLD)


@pytest.mark.parametrize("how", ["moved", "deleted", "renamed", "disabled"])
def test_an_account_that_changes_after_the_plan_is_left_alone(
    server: Server, office: Office, how: str
) -> None:
    dn = user(server, f"then-{how}")
    ad = isinstance(server, SambaAd)
    rdn = f"cn=then-{how}" + ("2" if how == "renamed" else "")
    move = f"dn: {dn}\nchangetype: modrdn\nnewrdn: {rdn}\ndeleteoldrdn: 1\n"
    change = {
        "moved": f"{move}newsuperior: {samba_ad.MANAGERS if ad else openldap.PARTNERS}\n",
        "renamed": move, "deleted": ldif.delete(dn),
        "disabled": ldif.replace(
            dn, {"userAccountControl": 514} if ad else {"pwdAccountLockedTime": ADMIN_LOCK}
        ),
    }[how]
    assert ended(office, f"then-{how}", planned=lambda _: server.admin.apply(change)) in {
        "drifted", "refused",
    }
    assert office.parcel() is None


# --- names --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", NAMES, ids=lambda case: case["about"])
def test_a_name_is_a_name_whatever_is_in_it(server: Server, office: Office, case: dict[str, str]) -> None:
    if isinstance(server, SambaAd) and case.get("only") == "openldap":
        (outcome,) = office.go(case["login"]).outcomes
        assert "0 accounts" in outcome.message, "Active Directory has no such names"
        return
    dn = user(server, case["login"], case["cn"])
    ending = office.go(case["login"])
    assert ending.message == "1 changed", ending.outcomes
    assert not logs_in(server, dn, OLD)
    assert logs_in(server, dn, office.password()) or isinstance(server, SambaAd)
    told = [record.fields for record in read_ledger(office.store, "reset-1", "demo")]
    assert not DECEIVING & set(str(told)), "nothing that could deceive a reader is written down"
