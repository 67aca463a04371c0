"""The LDAP transport against real directories: Samba as Active Directory, and OpenLDAP."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lamplighter.errors import (
    AuthFailedError,
    CertificateError,
    NoSuchEntryError,
    NotPermittedError,
    OutputTooLargeError,
    PolicyViolationError,
    RemoteFailedError,
    SessionLostError,
    TimedOutError,
    UnreachableError,
)
from lamplighter.model.directory import (
    IN_CHAIN,
    Scope,
    all_of,
    equals,
    matches,
    none_of,
    present,
    remove,
    replace,
)
from lamplighter.model.dn import join_dn
from lamplighter.model.logins import BindRefusal
from lamplighter.secrets import Secret
from lamplighter.transports import ldap
from lamplighter.transports.ldap import LdapTransport
from lamplighter.transports.ldap_session import LdapSession
from lamplighter.transports.ldap_settings import (
    KerberosBind,
    LdapServer,
    LdapSettings,
    Security,
    SimpleBind,
)
from tests.lab import ldif, openldap, samba_ad
from tests.lab.openldap import OpenLdap
from tests.lab.samba_ad import SambaAd

pytestmark = pytest.mark.lab
PERSON = {"objectClass": "inetOrgPerson", "sn": "x"}
GOOD = "First-Passw0rd!1"
AWKWARD = (
    "Roe, Jane", 'O"Brien', "a+b=c;d", "#first", " blank ", "(*)", "back\\slash", "\U0001f600 \u00e9", "<x>",
)


@pytest.fixture(scope="module")
def ad(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SambaAd]:
    with SambaAd(f"ad-ldap-{os.getpid()}", tmp_path_factory.mktemp("ad") / "d") as up:
        up.policy(lockoutThreshold=3, minPwdAge=0)
        yield up


@pytest.fixture(scope="module")
def slapd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenLdap]:
    with OpenLdap(f"slapd-ldap-{os.getpid()}", tmp_path_factory.mktemp("slapd") / "d") as up:
        yield up


@pytest.fixture(autouse=True)
def _fresh_breaker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ldap, "_breaker", ldap._Breaker())


def of_ad(ad: SambaAd, user: str = samba_ad.SERVICE, **changes: object) -> LdapSettings:
    server = LdapServer(ad.address, name=samba_ad.NAME)
    values = {"servers": (server,), "ca": ad.ca, "base": samba_ad.BASE, "bind": SimpleBind(user, "env:X")}
    return LdapSettings(**{**values, **changes})


def of_slapd(slapd: OpenLdap, user: str = openldap.SERVICE, **changes: object) -> LdapSettings:
    server = LdapServer(slapd.address, name=openldap.NAME)
    values = {"servers": (server,), "ca": slapd.ca, "base": openldap.BASE, "bind": SimpleBind(user, "env:X")}
    return LdapSettings(**{**values, **changes})


def log_in(settings: LdapSettings, password: str) -> None:
    with LdapTransport(settings, lambda _: Secret(password)) as directory:
        directory.connect()


@pytest.fixture
def ad_session(ad: SambaAd) -> Iterator[LdapSession]:
    with LdapTransport(of_ad(ad), lambda _: Secret(samba_ad.SERVICE_PASSWORD)) as directory:
        yield directory.connect()


@pytest.fixture
def slapd_session(slapd: OpenLdap) -> Iterator[LdapSession]:
    with LdapTransport(of_slapd(slapd), lambda _: Secret(openldap.SERVICE_PASSWORD)) as directory:
        yield directory.connect()


@pytest.mark.parametrize("security", Security)
def test_both_directories_over_both_kinds_of_tls(ad: SambaAd, slapd: OpenLdap, security: Security) -> None:
    log_in(of_ad(ad, security=security), samba_ad.SERVICE_PASSWORD)
    log_in(of_slapd(slapd, security=security), openldap.SERVICE_PASSWORD)


def test_the_wrong_ca_or_name_gets_no_login(ad: SambaAd, slapd: OpenLdap) -> None:
    with pytest.raises(CertificateError):
        log_in(of_ad(ad, ca=slapd.ca), samba_ad.SERVICE_PASSWORD)
    for name in ("dc2.lab.test", "", "lab.test"):
        with pytest.raises(CertificateError):
            log_in(of_ad(ad, servers=(LdapServer(ad.address, name=name),)), samba_ad.SERVICE_PASSWORD)


def test_names_survive_both_directories(
    ad: SambaAd, slapd: OpenLdap, ad_session: LdapSession, slapd_session: LdapSession
) -> None:
    for number, name in enumerate(AWKWARD):
        for server, session, ou in (
            (ad, ad_session, samba_ad.STAFF), (slapd, slapd_session, openldap.PEOPLE),
        ):
            if server is ad and name == " blank ":
                continue  # Active Directory has no such names
            dn = join_dn(("cn", name), base=ou)
            fields: dict[str, ldif.Values] = {**PERSON, "description": name}
            if server is ad:
                fields = {"objectClass": "user", "sAMAccountName": f"odd{number}", "description": name}
            server.admin.apply(ldif.add(dn, fields))
            found = session.search(equals("description", name), ["description"], base=ou)
            assert [one.text("description") for one in found] == [name]
            entry = session.get(dn, ["description"])
            assert entry is not None
            assert session.get(entry.dn, ["description"]) == entry


def test_a_large_answer_comes_in_pages_and_has_a_cap(slapd: OpenLdap, slapd_session: LdapSession) -> None:
    slapd.admin.apply("".join(
        ldif.add(f"uid=many{i},{openldap.PARTNERS}", {**PERSON, "cn": "many"})
        for i in range(1100)
    ))
    found = slapd_session.search(equals("cn", "many"), ["uid"], most=2000)
    assert len({one.text("uid") for one in found}) == 1100
    with pytest.raises(OutputTooLargeError, match="more than 1000"):
        slapd_session.search(equals("cn", "many"), [])
    assert len(slapd_session.search(equals("uid", "many7"), [])) == 1


def test_scopes_and_what_is_not_there(slapd_session: LdapSession) -> None:
    assert slapd_session.get(f"uid=ghost,{openldap.PEOPLE}", ["cn"]) is None
    with pytest.raises(NoSuchEntryError):
        slapd_session.search(present("objectClass"), [], base=f"ou=ghosts,{openldap.BASE}")
    children = slapd_session.search(present("objectClass"), [], scope=Scope.CHILDREN)
    assert openldap.PEOPLE in {one.dn for one in children}
    assert not slapd_session.search(all_of(equals("ou", "people"), none_of(equals("ou", "people"))), [])


def test_membership_through_groups(ad: SambaAd, ad_session: LdapSession) -> None:
    dn = ad.user("nested", GOOD)
    inner = ad.group("nest-inner", dn)
    outer = ad.group("nest-outer", ad.group("nest-mid", inner))
    found = ad_session.search(
        all_of(equals("sAMAccountName", "nested"), matches("memberOf", IN_CHAIN, outer)), []
    )
    assert [one.dn for one in found] == [dn]


def test_active_directory_says_why_a_login_is_refused(ad: SambaAd) -> None:
    dn = ad.user("codes", GOOD)
    user = f"codes@{samba_ad.REALM}"
    log_in(of_ad(ad, user), GOOD)

    def refusal(password: str = GOOD) -> object:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ldap, "_breaker", ldap._Breaker())
            with pytest.raises(AuthFailedError) as caught:
                log_in(of_ad(ad, user), password)
        assert password not in str(caught.value)
        return caught.value.data["refusal"]

    assert refusal("Mistyped-1") == BindRefusal.WRONG
    ad.set(dn, pwdLastSet=0)
    assert refusal() == BindRefusal.MUST_CHANGE
    ad.set(dn, pwdLastSet=-1, userAccountControl=514)
    assert refusal() == BindRefusal.DISABLED
    ad.set(dn, userAccountControl=512, accountExpires=132223104000000000)
    assert refusal() == BindRefusal.EXPIRED
    ad.set(dn, accountExpires=0)
    for _ in range(4):
        refusal("Mistyped-1")
    assert refusal() == BindRefusal.LOCKED
    ad.set(dn, lockoutTime=0)
    log_in(of_ad(ad, user), GOOD)


def test_openldap_says_why_a_login_is_refused(slapd: OpenLdap, slapd_session: LdapSession) -> None:
    dn = slapd.user("codes", "first-pw-123")
    for _ in range(3):
        with pytest.raises(AuthFailedError) as caught:
            log_in(of_slapd(slapd, dn), f"wrong-{_}")
    with pytest.raises(AuthFailedError) as caught:
        log_in(of_slapd(slapd, dn), "first-pw-123")
    assert caught.value.data == {"refusal": BindRefusal.LOCKED}
    slapd_session.modify(dn, remove("pwdAccountLockedTime"))
    with pytest.raises(AuthFailedError, match="not tried again"):
        log_in(of_slapd(slapd, dn), "first-pw-123")


def test_a_reset_in_one_modification(ad: SambaAd, ad_session: LdapSession) -> None:
    dn = ad.user("resetme", GOOD)
    entry = ad_session.get(dn, ["objectGUID"])
    assert entry is not None
    pinned = f"<GUID={entry.octets('objectGUID').hex()}>"
    ad_session.modify(pinned, replace("unicodePwd", Secret("Temp-Passw0rd!2")), replace("pwdLastSet", 0))
    assert "incorrect" in ad.kinit("resetme", GOOD).said
    assert "must change" in ad.kinit("resetme", "Temp-Passw0rd!2").said
    assert ad.kinit("resetme", "Temp-Passw0rd!2", "Own-Passw0rd!3").ok
    assert ad.kinit("resetme", "Own-Passw0rd!3").ok


def test_what_the_server_forbids_changes_nothing(ad: SambaAd, ad_session: LdapSession) -> None:
    dn = ad.user("weak", GOOD)
    with pytest.raises(PolicyViolationError, match="length, complexity, history"):
        ad_session.modify(dn, replace("unicodePwd", Secret("short")))
    with pytest.raises(NotPermittedError):
        ad_session.modify(f"CN=Administrator,CN=Users,{samba_ad.BASE}", replace("unicodePwd", Secret(GOOD)))
    with LdapTransport(of_ad(ad, samba_ad.NOBODY), lambda _: Secret(samba_ad.SERVICE_PASSWORD)) as directory:
        session = directory.connect()
        with pytest.raises(NotPermittedError):
            session.modify(dn, replace("unicodePwd", Secret("Temp-Passw0rd!2")))
    with pytest.raises(NoSuchEntryError):
        ad_session.modify(f"CN=ghost,{samba_ad.STAFF}", replace("pwdLastSet", 0))
    assert ad.kinit("weak", GOOD).ok


def test_openldap_password_policy(slapd: OpenLdap, slapd_session: LdapSession) -> None:
    dn = slapd.user("policy", "first-pw-123")
    with pytest.raises(PolicyViolationError, match="too short"):
        slapd_session.set_password(dn, Secret("short"))
    log_in(of_slapd(slapd, dn), "first-pw-123")
    slapd_session.set_password(dn, Secret("temp-pw-12345"))
    with pytest.raises(AuthFailedError):
        log_in(of_slapd(slapd, dn), "first-pw-123")
    with LdapTransport(of_slapd(slapd, dn), lambda _: Secret("temp-pw-12345")) as directory:
        session = directory.connect()
        with pytest.raises((NotPermittedError, RemoteFailedError)):
            session.set_password(openldap.SERVICE, Secret("evil-pw-12345"))


def test_a_server_that_hangs_in_the_middle(slapd: OpenLdap) -> None:
    settings = of_slapd(slapd, timeout=2.0, connect_timeout=2.0)
    with LdapTransport(settings, lambda _: Secret(openldap.SERVICE_PASSWORD)) as directory:
        session = directory.connect()
        slapd.pause()
        try:
            with pytest.raises(TimedOutError, match="not known"):
                session.modify(openldap.PEOPLE, replace("description", "x"))
            with pytest.raises(UnreachableError):
                directory.connect()
        finally:
            slapd.resume()


def test_a_server_that_goes_away_and_comes_back(slapd: OpenLdap) -> None:
    settings = of_slapd(slapd)
    with LdapTransport(settings, lambda _: Secret(openldap.SERVICE_PASSWORD)) as directory:
        session = directory.connect()
        slapd.stop()
        try:
            with pytest.raises(SessionLostError):
                session.modify(openldap.PEOPLE, replace("description", "x"))
            with pytest.raises(UnreachableError):
                directory.connect()
        finally:
            slapd.start()
        assert directory.connect().get(openldap.PEOPLE, ["description"]) is not None


def test_kerberos_without_its_library_says_what_to_do(ad: SambaAd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gssapi", None)  # as if it were not installed
    with pytest.raises(UnreachableError, match="gssapi"):
        log_in(of_ad(ad, bind=KerberosBind(samba_ad.SERVICE)), "")


def test_kerberos_with_a_keytab(ad: SambaAd, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KRB5_CONFIG", str(ad.krb5_conf))
    keytab = ad.keytab("svc-lamplighter")
    settings = of_ad(ad, bind=KerberosBind(samba_ad.SERVICE, keytab))
    with LdapTransport(settings) as directory:
        dn = ad.user("viakrb", GOOD)
        directory.connect().modify(dn, replace("unicodePwd", Secret("Temp-Passw0rd!2")))
    assert ad.kinit("viakrb", "Temp-Passw0rd!2").ok
    wrong = of_ad(ad, bind=KerberosBind(samba_ad.SERVICE, tmp_path / "none"))
    with pytest.raises(UnreachableError, match="Kerberos"):
        log_in(wrong, "")
