"""Directories as people have them, on real slapds: several of each kind, and the undamaged beside them."""

from __future__ import annotations

import os
import re
import time
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lamplighter.model.directory import equals
from tasks.expiring import expiring
from tests.directorykit import OLD, logged_in, rules_of, went
from tests.lab import ldif, openldap
from tests.lab.openldap import BASE, DEFAULT_POLICY, GROUPS, PEOPLE, POLICIES, SERVICE, OpenLdap

pytestmark = pytest.mark.lab

CN_GROUPS = "cn={}," + GROUPS
_SCHEMA = """
include /etc/ldap/schema/dyngroup.schema
attributetype ( 1.3.6.1.4.1.7165.2.1.25 NAME 'sambaNTPassword' EQUALITY caseIgnoreIA5Match
  SYNTAX 1.3.6.1.4.1.1466.115.121.1.26{32} SINGLE-VALUE )
objectclass ( 1.3.6.1.4.1.7165.2.2.6 NAME 'sambaSamAccount' SUP top AUXILIARY MUST uid MAY sambaNTPassword )
attributetype ( 2.16.840.1.113719.1.301.4.1.1 NAME 'krbPrincipalName' EQUALITY caseExactIA5Match
  SYNTAX 1.3.6.1.4.1.1466.115.121.1.26 )
objectclass ( 2.16.840.1.113719.1.301.6.8.1 NAME 'krbPrincipalAux' SUP top AUXILIARY MAY krbPrincipalName )
attributetype ( 2.16.840.1.113730.3.1.692 NAME 'inetUserStatus' EQUALITY caseIgnoreMatch
  SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )
objectclass ( 2.16.840.1.113730.3.2.130 NAME 'inetUser' SUP top AUXILIARY MAY inetUserStatus )
attributetype ( 1.3.6.1.4.1.99999.1 NAME 'guildMember' SUP distinguishedName )
objectclass ( 1.3.6.1.4.1.99999.2 NAME 'guild' SUP top STRUCTURAL MUST cn MAY guildMember )
"""
_HIDDEN = f"""
access to dn.exact="cn=assistants,{GROUPS}" by dn.exact="{SERVICE}" none by users read
access to dn.exact="cn=sealed,{GROUPS}" attrs=member by dn.exact="{SERVICE}" none by users read
access to dn.exact="uid=veiled,{PEOPLE}" attrs=pwdAccountLockedTime,pwdFailureTime
  by dn.exact="{SERVICE}" =w by users read
access to dn.exact="uid=pointed,{PEOPLE}" attrs=pwdPolicySubentry by dn.exact="{SERVICE}" none by users read
access to dn.exact="uid=listed,{PEOPLE}" attrs=employeeType by dn.exact="{SERVICE}" none by users read
"""
_POLICIES: dict[str, dict[str, ldif.Values]] = {
    "easy": {"pwdMustChange": "FALSE"}, "stuck": {"pwdAllowUserChange": "FALSE"},
    "safe": {"pwdSafeModify": "TRUE"}, "slow": {"pwdMinAge": 86400}, "idle": {"pwdMaxIdle": 86400 * 90},
    "brief": {"pwdLockoutDuration": 900}, "aging": {"pwdMaxAge": 86400 * 10},
}


def stamp(seconds: float = 0) -> str:
    return time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() + seconds))


def policy(name: str) -> str:
    return f"cn={name},{POLICIES}"


def person(login: str, **more: ldif.Values) -> str:
    fields = {"objectClass": "inetOrgPerson", "cn": login, "sn": login, "userPassword": OLD}
    return ldif.add(f"uid={login},{PEOPLE}", {**fields, **more})


def seed() -> str:
    """What nobody may write later: policies, and what the server keeps of an account by itself."""
    usual = {
        "objectClass": ["pwdPolicy", "device"], "pwdAttribute": "userPassword", "pwdMinLength": 10,
        "pwdMaxFailure": 3, "pwdLockout": "TRUE", "pwdMustChange": "TRUE", "pwdAllowUserChange": "TRUE",
    }
    policies = (ldif.add(policy(name), {**usual, **fields}) for name, fields in _POLICIES.items())
    long_ago, just_now = stamp(-86400 * 200), stamp(-600)
    return "".join((
        *policies,
        person("idle1", pwdPolicySubentry=policy("idle"), pwdLastSuccess=long_ago),
        person("idle2", pwdPolicySubentry=policy("idle"), pwdLastSuccess=stamp(-86400)),
        person("delayed", pwdAccountTmpLockoutEnd=stamp(3600)),
        person("young", pwdPolicySubentry=policy("slow"), pwdChangedTime=just_now),
        person("grown", pwdPolicySubentry=policy("slow"), pwdChangedTime=long_ago),
        person("veiled", pwdAccountLockedTime=just_now),
        person("recent", pwdPolicySubentry=policy("brief"), pwdAccountLockedTime=just_now),
        person("stale", pwdPolicySubentry=policy("brief"), pwdAccountLockedTime=stamp(-86400)),
    ))


def edited(text: str) -> str:
    head, rest = text.split("moduleload memberof\n")
    before, after = rest.split("access to ", 1)
    return f"{head}moduleload memberof\n{_SCHEMA}{before}lastbind on\n{_HIDDEN.lstrip()}access to {after}"


def of_class(*classes: str) -> dict[str, ldif.Values]:
    return {"objectClass": list(classes)}


@pytest.fixture(scope="module")
def slapd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenLdap]:
    folder = tmp_path_factory.mktemp("slapd") / "d"
    with OpenLdap(f"slapd-dirs-{os.getpid()}", folder, edited, seed()) as up:
        yield up


def made(slapd: OpenLdap, name: str, fields: dict[str, ldif.Values]) -> str:
    dn = CN_GROUPS.format(name)
    slapd.admin.apply(ldif.add(dn, {"cn": name, **fields}))
    return dn


# --- protection by group ---


def classes_of_groups(who: str) -> dict[str, tuple[dict[str, ldif.Values], dict[str, ldif.Values]]]:
    """For each kind of group: the group that holds the account, and the account's own attributes."""
    dn, other = f"uid={who},{PEOPLE}", f"uid=nobody,{PEOPLE}"
    posix = of_class("inetOrgPerson", "posixAccount")
    posix |= {"uidNumber": 7, "gidNumber": 77, "homeDirectory": "/"}
    old = f"{who}-old"
    return {
        "names": ({**of_class("groupOfNames"), "member": [dn]}, {}),
        "unique": ({**of_class("groupOfUniqueNames"), "uniqueMember": [f"{dn}#'0101'B"]}, {}),
        "role": ({**of_class("organizationalRole"), "roleOccupant": [dn]}, {}),
        "wheel": ({**of_class("posixGroup"), "gidNumber": 5, "memberUid": [old]}, {"uid": [who, old]}),
        "primary": ({**of_class("posixGroup"), "gidNumber": 77}, posix),
        "net": ({**of_class("nisNetgroup"), "nisNetgroupTriple": [f"(host,{who},)"]}, {}),
        "alias": ({**of_class("groupOfNames"), "member": [f"cn=to-{who},{GROUPS}", other]}, {}),
    }


@pytest.mark.parametrize("kind", ["names", "unique", "role", "wheel", "primary", "net", "alias"])
def test_every_class_of_group_protects(slapd: OpenLdap, kind: str) -> None:
    who = f"held-{kind}"
    group, own = classes_of_groups(who)[kind]
    dn = slapd.user(who, OLD, **own)
    if kind == "alias":
        fields = {**of_class("alias", "extensibleObject"), "aliasedObjectName": dn}
        slapd.admin.apply(ldif.add(f"cn=to-{who},{GROUPS}", fields))
    lines = [made(slapd, f"holds-{kind}", group)]
    found = went(slapd, who, dn=dn, base=PEOPLE, protected_groups=lines)
    assert found.end == "refused"
    assert "protected: " in found.said
    slapd.user(f"free-{kind}", OLD)
    assert went(slapd, f"free-{kind}", base=PEOPLE, protected_groups=lines).end == "changed"


def test_a_group_is_found_however_it_is_named_and_nested(slapd: OpenLdap) -> None:
    dn = slapd.user("nestling", OLD)
    ring = slapd.group("ring-a", slapd.group("ring-b", dn))
    slapd.set(CN_GROUPS.format("ring-b"), member=[dn, ring])
    slapd.group("outer", ring)
    for line in (
        "commonName=outer,organizationalUnitName=groups,domainComponent=lab,domainComponent=test",
        f"2.5.4.3=OUTER, OU=Groups,{BASE}", CN_GROUPS.format("ring-a"),
    ):
        assert "protected: " in went(slapd, "nestling", dn=dn, protected_groups=[line]).said
    beside = slapd.group("beside", f"uid=nobody,{PEOPLE}")
    assert went(slapd, "nestling", protected_groups=[beside]).end == "changed"


@pytest.mark.parametrize("kind", ["sub", "one", "unsearchable"])
def test_a_list_that_is_made_by_a_search(slapd: OpenLdap, kind: str) -> None:
    scope, wanted = ("one", "(uid=listed-one)") if kind == "one" else ("sub", f"(uid=listed-{kind})")
    who = "listed" if kind == "unsearchable" else f"listed-{kind}"
    wanted = "(employeeType=boss)" if kind == "unsearchable" else wanted
    dn = slapd.user(who, OLD)
    fields = {**of_class("groupOfURLs"), "memberURL": f"ldap:///{PEOPLE}??{scope}?{wanted}"}
    line = made(slapd, f"list-{kind}", fields)
    found = went(slapd, who, dn=dn, protected_groups=[line])
    assert found.end == "refused"
    assert ("may not search" if kind == "unsearchable" else "protected: ") in found.said
    slapd.user(f"unlisted-{kind}", OLD)
    assert went(slapd, f"unlisted-{kind}", protected_groups=[line]).end == "changed"


@pytest.mark.parametrize(("kind", "why"), [
    ("between", "assistants"), ("members", "may not search member"), ("class", "guild"),
    ("ghost", "not there"), ("netgroup", "which is not there"),
])
def test_what_cannot_be_judged_is_refused_and_said(slapd: OpenLdap, kind: str, why: str) -> None:
    dn = slapd.user(f"doubted-{kind}", OLD)
    if kind == "between":
        line = slapd.group("board", slapd.group("assistants", f"uid=nobody,{PEOPLE}"))
    elif kind == "members":
        line = slapd.group("sealed", f"uid=nobody,{PEOPLE}")
    elif kind == "class":
        line = made(slapd, "masons", of_class("guild"))
    elif kind == "netgroup":
        line = made(slapd, "nets", {**of_class("nisNetgroup"), "memberNisNetgroup": "elsewhere"})
    else:
        line = CN_GROUPS.format("ghost")
    found = went(slapd, f"doubted-{kind}", dn=dn, protected_groups=[line])
    assert (found.end, "unreadable: " in found.said) == ("refused", True)
    assert why in found.said


def test_whoever_left_is_no_doubt_and_a_large_group_takes_a_second(slapd: OpenLdap) -> None:
    slapd.user("patient", OLD)
    inner = slapd.group("inside-crowd", f"uid=nobody,{PEOPLE}")
    line = slapd.group("crowd", *(f"uid=gone{number},{PEOPLE}" for number in range(4000)), inner)
    begun = time.monotonic()
    assert went(slapd, "patient", protected_groups=[line]).end == "changed"
    assert time.monotonic() - begun < 8
    slapd.set(inner, member=f"uid=patient,{PEOPLE}")
    assert "protected: " in went(slapd, "patient", protected_groups=[line]).said


def test_a_vip_is_one_however_the_group_is_spelled(slapd: OpenLdap) -> None:
    slapd.user("chair", OLD)
    made(slapd, "chairs", {**of_class("organizationalRole"), "roleOccupant": [f"uid=chair,{PEOPLE}"]})
    vip = {"groups": [f"CN=Chairs,{GROUPS}"]}
    assert went(slapd, "chair", vip=vip).end == "waits"
    assert went(slapd, "chair", vip={**vip, "rule": "internal-only"}).end == "refused"


# --- the deny list, delegated units ---


def test_the_deny_list_is_whom_the_server_says(slapd: OpenLdap) -> None:
    ou = unicodedata.normalize("NFD", f"ou=Zu\u0308rich,{PEOPLE}")
    slapd.admin.apply(ldif.add(ou, of_class("organizationalUnit")))
    dn = slapd.user("denied1", OLD, ou=ou)
    slapd.set(dn, uid=["denied1", "d-one"], employeeNumber="991", mail="d1@lab.test")
    with logged_in(slapd) as session:
        (entry,) = session.search(equals("uid", "denied1"), ("entryUUID",))
        pin = entry.text("entryUUID")
    for line in (
        f"ou=Z\u00fcrich,{PEOPLE}", f"organizationalUnitName=Z\u00fcrich,{PEOPLE}", "d-one", "D-ONE", "991",
        "d1@lab.test", pin, pin.upper(), "{" + pin + "}", f"urn:uuid:{pin}", pin.replace("-", ""),
        f"UID=Denied1,{ou}",
    ):
        found = went(slapd, "denied1", dn=dn, denied=[line])
        assert (found.end, "deny-list: " in found.said) == ("refused", True), line


def test_a_line_that_names_nobody_is_told_and_refuses_whom_it_may_mean(slapd: OpenLdap) -> None:
    slapd.admin.apply(ldif.add(f"ou=sales,{PEOPLE}", of_class("organizationalUnit")))
    dn = slapd.user("moved", OLD, ou=f"ou=sales,{PEOPLE}")
    slapd.user("other", OLD)
    for line in (f"uid=moved,{PEOPLE}", f"uid=MOVED,ou=old,{PEOPLE}", "moved@corp.example"):
        found = went(slapd, "moved", dn=dn, denied=[line])
        assert (found.end, "mistake-in-settings: " in found.said) == ("refused", True), line
        found = went(slapd, "other", denied=[line])
        assert (found.end, f"`{line}` in `denied`" in found.said) == ("changed", True)


def test_a_delegated_unit_is_found_in_any_spelling(slapd: OpenLdap) -> None:
    ou = f"ou=M\u00fcller\\, S\u00f6hne & Co's,{PEOPLE}"
    fields = {**of_class("organizationalUnit"), "ou": "M\u00fcller, S\u00f6hne & Co's"}
    slapd.admin.apply(ldif.add(ou, fields))
    slapd.user("inside", OLD, ou=ou)
    line = f"OU=M\u00dcLLER\\2C S\u00f6hne & Co's,{PEOPLE}"
    assert went(slapd, "inside", delegated=[line]).end == "changed"
    assert "outside-delegation" in went(slapd, "inside", delegated=[f"ou=nowhere,{PEOPLE}"]).said


# --- finding the one person ---


@pytest.mark.parametrize(("typed", "why"), [
    (r"LAB\sought", "Type the login alone: sought"), ("sought@lab", "Type the login alone: sought"),
    ("robot", "account, posixAccount"), ("abroad", "no inetOrgPerson below"), ("nobody-at-all", "0 accounts"),
])
def test_why_nobody_was_found(slapd: OpenLdap, typed: str, why: str) -> None:
    if typed == "robot":
        posix = {"uidNumber": 9, "gidNumber": 9, "homeDirectory": "/", "cn": "robot", "uid": "robot"}
        slapd.admin.apply(ldif.add(f"uid=robot,{PEOPLE}", {**of_class("account", "posixAccount"), **posix}))
    if typed == "abroad":
        slapd.user("abroad", OLD, ou=openldap.PARTNERS)
    found = went(slapd, typed, base=PEOPLE)
    assert (found.end, why in found.said) == ("refused", True), found.said


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
def test_what_the_server_itself_has_or_forbids(tmp_path: Path, kind: str) -> None:
    edit, end, why = SERVERS[kind]
    name = f"slapd-{os.getpid()}-{kind.replace(' ', '')}"
    with OpenLdap(name, tmp_path / "d", edit, person("jane")) as up:
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
def test_limits_of_the_server(tmp_path: Path, limits: str, end: str) -> None:
    """One person is found without pages and in short answers; a hard limit names who raises it."""
    def edit(text: str) -> str:
        return re.sub(r"index .*\n", "index objectClass eq\n", text.replace("sizelimit unlimited\n", limits))

    with OpenLdap(f"slapd-lim-{os.getpid()}", tmp_path / "d", edit, person("jane") + person("joan")) as up:
        found = went(up, "jane", dn=f"uid=jane,{PEOPLE}")
        assert found.end == end, found.said
        assert end != "error" or "docs/prepare.md" in found.said
