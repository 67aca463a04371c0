"""Who is protected, denied, delegated and found in an OpenLDAP: several of each kind, and the undamaged."""

from __future__ import annotations

import os
import time
import unicodedata
from collections.abc import Iterator

import pytest

from lamplighter.model.directory import equals
from tests.directorykit import OLD, logged_in, went
from tests.lab import ldif, openldap
from tests.lab.openldap import BASE, GROUPS, PEOPLE, OpenLdap
from tests.slapdkit import CN_GROUPS, edited, made, of_class, seed

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def slapd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenLdap]:
    folder = tmp_path_factory.mktemp("slapd") / "d"
    with OpenLdap(f"slapd-grp-{os.getpid()}", folder, edited, seed()) as up:
        yield up


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
