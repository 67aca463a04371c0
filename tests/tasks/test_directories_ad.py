"""Domains as people have them, on a real Samba: several of each kind, and the undamaged beside them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from lamplighter.model.directory import equals
from tests.directorykit import OLD, logged_in, went
from tests.lab import ldif
from tests.lab.samba_ad import BASE, STAFF, SambaAd

pytestmark = pytest.mark.lab

DISTRIBUTION = 2  # groupType: global, not security (MS-ADTS 2.2.12)
USERS = f"CN=Users,{BASE}"
_CHANGE, _MEMBER, _MEMBER_OF, _MEMBERSHIP = (
    "ab721a53-1e2f-11d0-9819-00aa0040529b", "bf9679c0-0de6-11d0-a285-00aa003049e2",
    "bf967991-0de6-11d0-a285-00aa003049e2", "bc0ac240-79a9-11d0-9020-00c04fc2d4cf",
)


def person(login: str) -> str:
    return f"CN={login},{STAFF}"


@pytest.fixture(scope="module")
def samba(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SambaAd]:
    with SambaAd(f"ad-dirs-{os.getpid()}", tmp_path_factory.mktemp("ad") / "d") as up:
        up.policy(lockoutThreshold=3, minPwdLength=12)
        prepare(up)
        yield up


def prepare(up: SambaAd) -> None:
    """Whatever needs an access control list is made at once, for each change of one costs a second."""
    for login in ("unseen", "closed", "barred-self", "barred-all", "ungranted", "hidden"):
        up.user(login, OLD)
    up.user("inet", OLD, objectClass="inetOrgPerson")
    up.group("Secret", person("unseen"))
    up.group("Open", person("unseen"))
    up.group("Between", person("hidden"))
    up.group("Outer", f"CN=Between,{STAFF}")
    service = up.sid("CN=svc-lamplighter")
    denies = "(OD;;RP;{};;" + service + ")"
    hides = "".join(denies.format(one) for one in (_MEMBER_OF, _MEMBERSHIP))
    up.aces(
        "add", person("unseen"), hides, "add", f"CN=Secret,{STAFF}", denies.format(_MEMBER),
        "only", person("closed"), "(A;;LCRPLORC;;;AU)",
        "add", person("barred-self"), f"(OD;;CR;{_CHANGE};;PS)",
        "add", person("barred-all"), f"(OD;;CR;{_CHANGE};;WD)", "drop", person("ungranted"), _CHANGE,
        "add", f"CN=Between,{STAFF}", f"(D;;LCRPLORC;;;{service})",
    )


# --- protection by group ---


@pytest.mark.parametrize("kind", ["security", "distribution", "nested", "primary"])
def test_every_way_into_a_group_protects(samba: SambaAd, kind: str) -> None:
    dn = samba.user(f"in-{kind}", OLD)
    held = [] if kind == "primary" else [dn]
    more: dict[str, ldif.Values] = {"groupType": DISTRIBUTION} if kind == "distribution" else {}
    fields: dict[str, ldif.Values] = {"objectClass": "group", "sAMAccountName": f"g-{kind}", **more}
    line = f"CN=g-{kind},{STAFF}"
    if kind == "nested":
        held = [samba.group("g-middle", samba.group("g-inner", dn))]
    samba.admin.apply(ldif.add(line, {**fields, **({"member": held} if held else {})}))
    if kind == "primary":
        samba.join(line, dn)
        with logged_in(samba) as session:
            group = session.get(line, ("objectSid",))
            assert group is not None
        samba.set(dn, primaryGroupID=int.from_bytes(group.octets("objectSid")[-4:], "little"))
    found = went(samba, f"in-{kind}", dn=dn, protected_groups=[line])
    assert (found.end, "protected: " in found.said) == ("refused", True), found.said
    samba.user(f"out-{kind}", OLD)
    assert went(samba, f"out-{kind}", protected_groups=[line]).end == "changed"


@pytest.mark.parametrize(("who", "group", "why"), [
    ("unseen", "Open", "protected: "), ("closed", "Secret", "may not read the members"),
    ("hidden", "Outer", "protected: "), ("closed", "Ghost", "is not there"),
    ("closed", "closed", "is no group"), ("barred-self", "Outer", "Between"),
])
def test_hidden_memberships(samba: SambaAd, who: str, group: str, why: str) -> None:
    found = went(samba, who, dn=person(who), protected_groups=[f"CN={group},{STAFF}"])
    assert (found.end, why in found.said) == ("refused", True), found.said


@pytest.mark.parametrize(("kind", "fields", "why"), [
    ("protected", {}, "Protected Users"),
    ("sensitive", {"userAccountControl": 0x100200}, "cannot be delegated"),
    ("trusted", {"userAccountControl": 0x80200}, "trusted for delegation"),
    ("renamed", {}, "Backup Operators"),
])
def test_marks_of_the_domain(samba: SambaAd, kind: str, fields: dict[str, Any], why: str) -> None:
    dn = samba.user(f"mark-{kind}", OLD, **fields)
    if kind == "protected":
        samba.join(f"CN=Protected Users,{USERS}", dn)
    if kind == "renamed":
        samba.join(f"CN=Backup Operators,CN=Builtin,{BASE}", samba.group("Sicherungs-Operatoren", dn))
    found = went(samba, f"mark-{kind}", dn=dn)
    assert (found.end, why in found.said) == ("refused", True), found.said


# --- names ---


def test_the_deny_list_is_whom_the_domain_says(samba: SambaAd) -> None:
    dn = samba.user("denied1", OLD, employeeID="991", mail="d1@lab.test")
    with logged_in(samba) as session:
        (entry,) = session.search(equals("sAMAccountName", "denied1"), ("objectGUID",))
        octets = entry.octets("objectGUID")
    for line in (
        "denied1@lab.test", r"LAB\denied1", "denied1@LAB", "DENIED1", "991", "d1@lab.test", octets.hex(),
        f"cn=Denied1, ou=staff,{BASE}",
    ):
        found = went(samba, "denied1", dn=dn, denied=[line])
        assert (found.end, "deny-list: " in found.said) == ("refused", True), f"{line}: {found.said}"
    samba.user("allowed1", OLD)
    assert went(samba, r"lab\allowed1", denied=["denied1@lab.test"]).end == "changed"
    assert went(samba, "allowed1@lab").end == "changed"
    assert "0 accounts" in went(samba, r"ELSEWHERE\allowed1").said


def test_a_contact_is_no_account(samba: SambaAd) -> None:
    samba.user("real", OLD, mail="real@lab.test")
    contact = {"objectClass": "contact", "mail": "real@lab.test"}
    samba.admin.apply(ldif.add(f"CN=Real (home),{STAFF}", contact))
    assert went(samba, "real@lab.test").end == "changed"


# --- rights, and the way out of must-change ---


@pytest.mark.parametrize(("who", "why"), [
    ("closed", "no-right: "), ("inet", "no-right: "), ("ungranted", "nobody grants"),
    ("barred-self", "is denied to change"), ("barred-all", "is denied to change"),
])
def test_what_will_be_refused_is_seen_before(samba: SambaAd, who: str, why: str) -> None:
    found = went(samba, who, dn=person(who))
    assert (found.end, why in found.said) == ("refused", True), found.said


def test_a_policy_that_cannot_be_seen_is_refused_by_the_domain(samba: SambaAd) -> None:
    """The container may be read here; where it may not, the domain says no, and nothing was changed."""
    dn = samba.user("longing", OLD)
    settings = samba.pso("Longer", dn, length=120)
    samba.aces("only", settings, "(A;;GA;;;DA)")
    found = went(samba, "longing", dn=dn)
    assert found.end == "refused", found.said
    assert "password" in found.said


# --- why a login fails ---


@pytest.mark.parametrize(("hours", "why"), [(bytes(21), "at no hour"), (b"\xff" * 21, "no reason")])
def test_logon_hours_are_told_and_not_lifted(samba: SambaAd, hours: bytes, why: str) -> None:
    who = f"hours{hours[0]}"
    dn = samba.user(who, OLD, logonHours=hours)
    found = went(samba, who, do="unlock", dn=dn)
    assert (found.end, why in found.said) == ("unchanged", True)
    assert went(samba, who, dn=dn if why != "no reason" else "").end == ("changed" if hours[0] else "refused")


def test_the_domains_own_clock_counts(samba: SambaAd) -> None:
    samba.user("timeless", OLD, accountExpires=(1893456000 + 11644473600) * 10**7)  # 2030
    assert went(samba, "timeless", clock=86400 * 3650).end == "changed"


# --- to whom a password is mailed ---


@pytest.mark.parametrize(("kind", "why"), [
    ("self", "the account itself"), ("off", "disabled"), ("contact", "no person"), ("mute", "mail address"),
])
def test_a_password_goes_to_a_manager_who_is_there(samba: SambaAd, kind: str, why: str) -> None:
    who = f"report-{kind}"
    dn, boss = samba.user(who, OLD, mail=f"{who}@lab.test"), f"CN=boss-{kind},{STAFF}"
    if kind == "contact":
        samba.admin.apply(ldif.add(boss, {"objectClass": "contact", "mail": "b@lab.test"}))
    elif kind != "self":
        mail: dict[str, ldif.Values] = {} if kind == "mute" else {"mail": "b@lab.test"}
        samba.user(f"boss-{kind}", "" if kind == "off" else OLD, **mail)
    samba.set(dn, manager=dn if kind == "self" else boss)
    found = went(samba, who, way="manager", dn=dn)
    assert (found.end, "no-address: " in found.said, why in found.said) == ("refused", True, True), found.said
