"""Policies, logins, marks, mail and limits in real slapds: several of each kind, and the undamaged."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.expiring import expiring
from tests.directorykit import OLD, logged_in, rules_of, went
from tests.lab import ldif, openldap
from tests.lab.openldap import BASE, DEFAULT_POLICY, PEOPLE, SERVICE, OpenLdap
from tests.slapdkit import CN_GROUPS, edited, of_class, person, policy, seed, stamp

pytestmark = pytest.mark.lab


@pytest.fixture
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for a server, of a short path, as sockets need it (unix(7))."""
    return tmp_path_factory.mktemp("s") / "d"


@pytest.fixture(scope="module")
def slapd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenLdap]:
    folder = tmp_path_factory.mktemp("slapd") / "d"
    with OpenLdap(f"slapd-dirs-{os.getpid()}", folder, edited, seed()) as up:
        yield up


# --- a policy in force, and a way out of must-change ---


@pytest.mark.parametrize(("who", "own", "why"), [
    ("lenient", "easy", "pwdMustChange"), ("trapped", "stuck", "pwdAllowUserChange"),
    ("guarded", "safe", "pwdSafeModify"), ("young", "", "pwdMinAge"),
    ("pointed", "easy", "pwdPolicySubentry"), ("orphan", "deleted", "the password policy cn=deleted"),
])
def test_a_policy_that_would_keep_somebody_in_or_out(slapd: OpenLdap, who: str, own: str, why: str) -> None:
    dn = f"uid={who},{PEOPLE}"
    if own:
        slapd.user(who, OLD, pwdPolicySubentry=policy(own))
    found = went(slapd, who, dn=dn)
    assert (found.end, why in found.said) == ("refused", True), found.said


def test_a_minimum_age_that_has_passed_keeps_nobody_in(slapd: OpenLdap) -> None:
    assert went(slapd, "grown").end == "changed"


def without_overlay(text: str) -> str:
    return text[: text.index("overlay ppolicy")]


def without_default(text: str) -> str:
    return text.replace(f"ppolicy_default {DEFAULT_POLICY}\n", "")


def set_only(text: str) -> str:
    """The right that the page asked for before: to set passwords, and not to compare them."""
    return text.replace(f'by dn.exact="{SERVICE}" =cw', f'by dn.exact="{SERVICE}" =w')


def consumer(text: str) -> str:
    return text + (
        'syncrepl rid=1 provider=ldap://127.0.0.1:9 type=refreshAndPersist retry="3600 +" '
        f'searchbase="{BASE}" bindmethod=simple binddn="{openldap.ADMIN}" credentials=x\nupdateref ldap://provider.corp.example\n'
    )


SERVERS: dict[str, tuple[Any, str, str]] = {
    "no overlay": (without_overlay, "refused", "no password policy is in force"),
    "no default": (without_default, "refused", "applies no password policy"),
    "neither": (lambda text: set_only(without_default(text)), "failed", "handed to nobody"),
    "not comparable": (set_only, "changed", "may not compare userPassword"),
    "consumer": (consumer, "refused", "another server"),
}


@pytest.mark.parametrize("kind", SERVERS)
def test_what_the_server_itself_has_or_forbids(short: Path, kind: str) -> None:
    edit, end, why = SERVERS[kind]
    name = f"slapd-{os.getpid()}-{kind.replace(' ', '')}"
    with OpenLdap(name, short, edit, person("jane")) as up:
        found = went(up, "jane", dn=f"uid=jane,{PEOPLE}")
        assert (found.end, why in found.said) == (end, True), found.said


# --- passwords in other places, owners' marks ---


@pytest.mark.parametrize(("kind", "own", "why"), [
    ("samba", {**of_class("inetOrgPerson", "sambaSamAccount"), "sambaNTPassword": "8846F7EA"}, "samba"),
    ("krb", {**of_class("inetOrgPerson", "krbPrincipalAux"), "krbPrincipalName": "x@LAB.TEST"}, "Kerberos"),
    ("sasl", {"userPassword": "{SASL}other-sasl@LAB.TEST"}, "SASL"),
])
def test_a_password_in_another_place(slapd: OpenLdap, kind: str, own: dict[str, Any], why: str) -> None:
    who = f"other-{kind}"
    dn = slapd.user(who, "" if kind == "sasl" else OLD, **own)
    found = went(slapd, who, dn=dn)
    assert (found.end, "password-elsewhere: " in found.said, why in found.said) == ("refused", True, True)
    if kind == "samba":
        assert went(slapd, who, kept_in_step=["samba"]).end == "changed"


@pytest.mark.parametrize(("kind", "own", "site"), [
    ("known", {**of_class("inetOrgPerson", "inetUser"), "inetUserStatus": "Inactive"}, []),
    ("sites", {"employeeType": "gone"}, [{"attribute": "employeeType", "values": ["GONE"]}]),
    ("unknown", {}, [{"attribute": "employeeFate", "values": ["gone"]}]),
])
def test_a_mark_of_the_owner(
    slapd: OpenLdap, kind: str, own: dict[str, Any], site: list[dict[str, Any]]
) -> None:
    who = f"marked-{kind}"
    dn = slapd.user(who, OLD, **own)
    found = went(slapd, who, dn=dn, disabled=site)
    assert found.end == "refused"
    assert ("employeeFate" if kind == "unknown" else "disabled: ") in found.said
    slapd.user(f"unmarked-{kind}", OLD, employeeType="here")
    if kind != "unknown":
        assert went(slapd, f"unmarked-{kind}", disabled=site).end == "changed"


# --- why a login fails ---


@pytest.mark.parametrize(("who", "lock", "end", "why"), [
    ("idle1", "", "unchanged", "not used"), ("delayed", "", "unchanged", "delayed"),
    ("planned", "20991231235959Z", "unchanged", "planned"), ("veiled", "", "refused", "pwdAccountLockedTime"),
    ("recent", "", "changed", "locked by wrong passwords"), ("stale", "", "unchanged", "no reason"),
    ("jailed", "000001010000Z", "refused", "an administrator locked it"),
    ("fine", "", "unchanged", "no reason"),
])
def test_why_a_login_fails(slapd: OpenLdap, who: str, lock: str, end: str, why: str) -> None:
    if who in {"planned", "jailed", "fine"}:
        slapd.user(who, OLD, **({"pwdAccountLockedTime": lock} if lock else {}))
    found = went(slapd, who, do="unlock", dn=f"uid={who},{PEOPLE}")
    assert (found.end, why in found.said) == (end, True), found.said
    assert ("no reason" in found.said) == (why == "no reason")


@pytest.mark.parametrize("clock", [7200, -7200, 86400 * 30])
def test_the_servers_own_clock_says_whether_a_lock_holds(slapd: OpenLdap, clock: int) -> None:
    who = f"skewed{clock % 977}"
    lock = {"pwdPolicySubentry": policy("brief"), "pwdAccountLockedTime": stamp(-60)}
    slapd.user(who, OLD, **lock)
    assert went(slapd, who, do="unlock", clock=clock).end == "changed"


@pytest.mark.parametrize("who", ["planned2", "delayed"])
def test_a_reset_does_not_help_whom_no_password_lets_in(slapd: OpenLdap, who: str) -> None:
    if who == "planned2":
        slapd.user(who, OLD, pwdAccountLockedTime="20991231235959Z")
    assert "login-barred: " in went(slapd, who, dn=f"uid={who},{PEOPLE}").said
    assert went(slapd, "idle2").end == "changed"


def test_every_server_is_asked(tmp_path: Path) -> None:
    """Each counts wrong passwords for itself: a lock is lifted where it is, and who is silent is named."""
    locked, names = person("jane", pwdAccountLockedTime=stamp(-60)), ("ldap1.lab.test", "ldap2.lab.test")
    with (
        OpenLdap(f"slapd-one-{os.getpid()}", tmp_path / "1", seed=person("jane") + person("joan")) as one,
        OpenLdap(
            f"slapd-two-{os.getpid()}", tmp_path / "2", seed=locked + person("joan"), certified=names[1]
        ) as two,
    ):
        both = tmp_path / "both.pem"
        both.write_text(one.ca.read_text() + two.ca.read_text())
        servers = [{"address": up.address, "name": name} for up, name in zip((one, two), names, strict=True)]
        site: dict[str, Any] = {"servers": servers, "ca": str(both), "connect_seconds": 2}
        assert went(one, "joan", do="unlock", **site).end == "unchanged"
        found = went(one, "jane", do="unlock", **site)
        assert (found.end, "unlock jane on ldap2.lab.test" in found.said) == ("changed", True)
        two.stop()
        found = went(one, "joan", do="unlock", **site)
        assert (found.end, "ldap2.lab.test" in found.said) == ("unchanged", True)
        assert "no reason" not in found.said


# --- to whom a password is mailed ---


@pytest.mark.parametrize(("kind", "why"), [
    ("none", "has no manager"), ("two", "2 managers"), ("self", "the account itself"), ("gone", "not there"),
    ("ended", "past its end"), ("marked", "disabled"), ("group", "no person"), ("mute", "no mail address"),
    ("shared", "account's own"),
])
def test_a_password_goes_to_exactly_one_manager(slapd: OpenLdap, kind: str, why: str) -> None:
    who, boss = f"report-{kind}", f"uid=boss-{kind},{PEOPLE}"
    dn = f"uid={who},{PEOPLE}"
    bosses: dict[str, ldif.Values] = {
        "none": [], "two": [boss, f"uid=boss-none,{PEOPLE}"], "self": dn, "group": CN_GROUPS.format("bosses"),
    }
    own: dict[str, ldif.Values] = {"mail": "team@lab.test" if kind == "shared" else f"{who}@lab.test"}
    slapd.user(who, OLD, **own, **({"manager": bosses.get(kind, boss)} if kind != "none" else {}))
    its: dict[str, ldif.Values] = {
        "mute": {}, "shared": {"mail": "Team@lab.test"},
        "ended": {**of_class("inetOrgPerson", "shadowAccount"), "shadowExpire": 1, "mail": "b@lab.test"},
        "marked": {**of_class("inetOrgPerson", "inetUser"), "inetUserStatus": "deleted"},
    }.get(kind, {"mail": "b@lab.test"})  # type: ignore[assignment]
    if kind == "group":
        slapd.group("bosses", dn)
    elif kind != "gone":
        slapd.user(f"boss-{kind}", OLD, **its)  # type: ignore[arg-type]
    found = went(slapd, who, way="manager", dn=dn)
    assert (found.end, "no-address: " in found.said, why in found.said) == ("refused", True, True), found.said


def test_a_manager_who_is_there_gets_it(slapd: OpenLdap) -> None:
    boss = slapd.user("boss", OLD, mail="boss@lab.test")
    slapd.user("report", OLD, manager=boss, mail="report@lab.test")
    found = went(slapd, "report", way="manager")
    assert (found.end, found.to) == ("changed", "boss@lab.test")


# --- who is reminded ---


def test_nobody_is_reminded_who_ended_and_a_policy_that_is_gone_is_told(slapd: OpenLdap) -> None:
    ou = f"ou=reminded,{PEOPLE}"
    slapd.admin.apply(ldif.add(ou, of_class("organizationalUnit")))
    own: dict[str, ldif.Values] = {"pwdPolicySubentry": policy("aging")}
    shadow = {**of_class("inetOrgPerson", "shadowAccount"), "shadowExpire": 1}
    inactive = {**of_class("inetOrgPerson", "inetUser"), "inetUserStatus": "inactive"}
    for login, more in (
        ("due", {}), ("spared", {"uid": ["spared", "s-alias"]}), ("ended", {"pwdEndTime": stamp(-86400)}),
        ("unborn", {"pwdStartTime": stamp(86400)}), ("shadowed", shadow), ("inactive", inactive),
        ("fated", {"employeeType": "gone"}), ("lost", {}),
    ):
        slapd.user(login, OLD, ou=ou, **{**own, **more})
    slapd.set(f"uid=lost,{ou}", pwdPolicySubentry=policy("deleted"))
    rules = rules_of(
        slapd, delegated=[ou], disabled=[{"attribute": "employeeType", "values": ["gone"]}],
        expiring={"days": [14], "exclude": ["S-ALIAS", f"uid=left,{ou}"]},
    )
    unknown: list[str] = []
    with logged_in(slapd, rules) as session:
        assert [one.login for one in expiring(rules, session, time.time(), unknown)] == ["due"]
    assert len(unknown) == 2
    assert policy("deleted") in " ".join(unknown)
    assert f"`uid=left,{ou}` in `exclude`" in " ".join(unknown)


# --- limits ---


@pytest.mark.parametrize(("limits", "end"), [
    ("sizelimit 5\n", "changed"), (f'limits dn.exact="{SERVICE}" size.prtotal=disabled\n', "changed"),
    (f'limits dn.exact="{SERVICE}" size.unchecked=1\n', "error"),
])
def test_limits_of_the_server(short: Path, limits: str, end: str) -> None:
    """One person is found without pages and in short answers; a hard limit names who raises it."""
    def edit(text: str) -> str:
        return re.sub(r"index .*\n", "index objectClass eq\n", text.replace("sizelimit unlimited\n", limits))

    with OpenLdap(f"slapd-lim-{os.getpid()}", short, edit, person("jane") + person("joan")) as up:
        found = went(up, "jane", dn=f"uid=jane,{PEOPLE}")
        assert found.end == end, found.said
        assert end != "error" or "docs/prepare.md" in found.said
