"""Resets and unlocks against real directories: Samba as Active Directory, and OpenLDAP."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest

from lamplighter.errors import (
    AuthFailedError,
    NotPermittedError,
    RefusedError,
    SessionLostError,
)
from lamplighter.model.directory import Directory
from lamplighter.model.dn import join_dn
from lamplighter.model.inventory import Host
from lamplighter.model.outcome import StepResult, Terminal
from lamplighter.model.plan import HostPlan, facts_digest
from lamplighter.secrets import Secret
from lamplighter.transports import ldap
from lamplighter.transports.ldap import LdapTransport
from lamplighter.transports.ldap_settings import LdapServer, LdapSettings, SimpleBind
from tasks.account_changes import ResetPassword, UnlockAccount
from tasks.accounts import Guard, Rule
from tasks.active_directory import ActiveDirectory
from tasks.openldap import OpenLdap as OpenLdapAccounts
from tasks.passwords import Style
from tests.lab import ldif, openldap, samba_ad
from tests.lab.openldap import OpenLdap
from tests.lab.samba_ad import SambaAd

pytestmark = pytest.mark.lab
OLD = "First-Passw0rd!1"


@dataclass
class Bench:
    """A directory with a transport, and what it needs to be told apart by."""

    server: SambaAd | OpenLdap
    transport: LdapTransport
    system: ActiveDirectory | OpenLdapAccounts
    guard: Guard
    kept: list[Secret]

    def reset(self, **changes: object) -> ResetPassword:
        operation = ResetPassword(self.system, self.guard, lambda _, __, secret: self.kept.append(secret))
        return replace(operation, **changes)

    def unlock(self) -> UnlockAccount:
        return UnlockAccount(self.system, self.guard)

    def plan(self, operation: ResetPassword | UnlockAccount, wanted: str) -> HostPlan:
        with self.transport.connect() as session:
            return operation.plan(Host(wanted), operation.survey(Host(wanted), session))

    def apply(self, operation: ResetPassword | UnlockAccount, plan: HostPlan) -> str:
        with self.transport.connect(str(plan.steps[0].args["server"])) as session:
            evidence = operation.apply(Host(plan.host), plan.steps[0], session, "u")
            assert operation.verify(Host(plan.host), plan, session).healthy
        assert not any(one.reveal() in repr((evidence, plan)) for one in self.kept)
        return evidence.summary


@pytest.fixture(autouse=True)
def _fresh_breaker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ldap, "_breaker", ldap._Breaker())


def reach(server: SambaAd | OpenLdap, user: str, password: str, **changes: object) -> LdapTransport:
    lab = samba_ad if isinstance(server, SambaAd) else openldap
    one = LdapServer(server.address, name=lab.NAME)
    values = {"servers": (one,), "ca": server.ca, "base": lab.BASE, "bind": SimpleBind(user, "env:X")}
    return LdapTransport(LdapSettings(**{**values, **changes}), lambda _: Secret(password))


@pytest.fixture(scope="module")
def samba(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SambaAd]:
    with SambaAd(f"ad-acc-{os.getpid()}", tmp_path_factory.mktemp("ad") / "d") as up:
        up.policy(lockoutThreshold=3, minPwdLength=12)
        yield up


@pytest.fixture(scope="module")
def slapd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenLdap]:
    with OpenLdap(f"slapd-acc-{os.getpid()}", tmp_path_factory.mktemp("slapd") / "d") as up:
        yield up


@pytest.fixture
def ad(samba: SambaAd) -> Iterator[Bench]:
    guard = Guard(delegated=(samba_ad.STAFF,), denied=("denied",))
    with reach(samba, samba_ad.SERVICE, samba_ad.SERVICE_PASSWORD) as transport:
        yield Bench(samba, transport, ActiveDirectory(), guard, [])


@pytest.fixture
def ol(slapd: OpenLdap) -> Iterator[Bench]:
    guard = Guard(delegated=(openldap.PEOPLE,), denied=("denied",))
    with reach(slapd, openldap.SERVICE, openldap.SERVICE_PASSWORD) as transport:
        yield Bench(slapd, transport, OpenLdapAccounts(openldap.DEFAULT_POLICY), guard, [])


def mistype(server: SambaAd | OpenLdap, user: str, times: int) -> None:
    for number in range(times):
        with reach(server, user, f"Mistyped-{number}") as transport, pytest.raises(AuthFailedError):
            transport.connect()


def may_log_in(server: SambaAd | OpenLdap, user: str, password: str) -> bool:
    try:
        with reach(server, user, password) as transport:
            transport.connect()
    except AuthFailedError:
        return False
    return True


def test_a_reset_is_proven_by_kerberos(samba: SambaAd, ad: Bench) -> None:
    dn = samba.user("jroe", OLD, displayName="Jane Roe", mail="jane.roe@example.com", employeeID="4711")
    assert samba.kinit("jroe", OLD).ok
    for wanted in ("jroe", "JROE", "jane.roe@example.com", "4711", "jroe@lab.test"):
        plan = ad.plan(ad.reset(), wanted)
        assert plan.steps[0].args["login"] == "jroe"
    assert dn in plan.notes[0]
    assert "set a new password" in ad.apply(ad.reset(), plan)
    (secret,) = ad.kept
    assert not samba.kinit("jroe", OLD).ok
    must = samba.kinit("jroe", secret.reveal())
    assert not must.ok
    assert "must change" in must.said
    assert samba.kinit("jroe", secret.reveal(), "Her-Own-Passw0rd!3").ok
    assert samba.kinit("jroe", "Her-Own-Passw0rd!3").ok
    assert not samba.kinit("jroe", secret.reveal()).ok


def test_a_reset_in_openldap_is_proven_by_login(slapd: OpenLdap, ol: Bench) -> None:
    dn = slapd.user("jroe", OLD, mail="jane@example.com", employeeNumber="4711")
    plan = ol.plan(ol.reset(style=Style.CHARACTERS), "4711")
    ol.apply(ol.reset(style=Style.CHARACTERS), plan)
    (secret,) = ol.kept
    assert not may_log_in(slapd, dn, OLD)
    with reach(slapd, dn, secret.reveal()) as transport:
        session = transport.connect()
        with pytest.raises(NotPermittedError):
            session.get(openldap.PEOPLE, ["ou"])
        session.set_password(dn, Secret("her-own-pw-123"))
    assert may_log_in(slapd, dn, "her-own-pw-123")
    assert not may_log_in(slapd, dn, secret.reveal())


@pytest.mark.parametrize("which", ["ad", "ol"])
def test_none_or_several_are_refused(which: str, request: pytest.FixtureRequest) -> None:
    bench: Bench = request.getfixturevalue(which)
    bench.server.user("twin1", OLD, mail="twins@example.com")
    bench.server.user("twin2", OLD, mail="twins@example.com")
    with pytest.raises(RefusedError, match=r"2 accounts .*twin1.*twin2"):
        bench.plan(bench.reset(), "twins@example.com")
    for wanted in ("ghost", "twin*", "twin1)(uid=*", "\0", "\U0001f600"):
        with pytest.raises(RefusedError, match="0 accounts"):
            bench.plan(bench.reset(), wanted)


@pytest.mark.parametrize("which", ["ad", "ol"])
def test_an_awkward_name_is_reset_like_any_other(which: str, request: pytest.FixtureRequest) -> None:
    bench: Bench = request.getfixturevalue(which)
    name = 'Ro\u0065\u0301, "J\u202eane" (#1) \\ \U0001f600'
    fields = {"objectClass": "user" if which == "ad" else "inetOrgPerson", "description": name}
    base = samba_ad.STAFF if which == "ad" else openldap.PEOPLE
    if which == "ad":
        fields |= {"sAMAccountName": "awkward", "unicodePwd": samba_ad.quoted(OLD), "userAccountControl": 512}
    else:
        fields |= {"uid": "awkward", "sn": name, "userPassword": OLD}
    bench.server.admin.apply(ldif.add(join_dn(("cn", name), base=base), fields))
    plan = bench.plan(bench.reset(), "awkward")
    assert "\u202e" not in repr(plan)
    assert plan.facts
    bench.apply(bench.reset(), plan)


def rules(bench: Bench, wanted: str) -> set[str]:
    plan = bench.plan(bench.reset(), wanted)
    assert plan.end is Terminal.REFUSED
    return {part.split(":")[0] for part in plan.reason.split("; ")}


def test_active_directory_refuses_by_rule(samba: SambaAd, ad: Bench) -> None:
    nested = samba.user("nested", OLD)
    admins = f"CN=Backup Operators,CN=Builtin,{samba_ad.BASE}"
    samba.join(admins, samba.group("outer", samba.group("mid", samba.group("inner", nested))))
    assert rules(ad, "nested") == {Rule.PROTECTED}
    assert Rule.PROTECTED in rules(ad, "Administrator")
    assert {Rule.BUILT_IN, Rule.SERVICE} <= rules(ad, "krbtgt")
    samba.user("counted", OLD, adminCount=1)
    assert rules(ad, "counted") == {Rule.ADMIN_COUNT}
    samba.user("svc", OLD, servicePrincipalName="HTTP/app.lab.test")
    assert rules(ad, "svc") == {Rule.SERVICE}
    samba.user("off")
    assert rules(ad, "off") == {Rule.DISABLED}
    samba.user("left", OLD, accountExpires=132223104000000000)
    assert rules(ad, "left") == {Rule.EXPIRED}
    samba.user("elsewhere", OLD, ou=samba_ad.MANAGERS)
    assert rules(ad, "elsewhere") == {Rule.OUTSIDE}
    samba.user("denied", OLD)
    assert rules(ad, "denied") == {Rule.DENIED}
    samba.user("forever", OLD, userAccountControl=0x10200)
    assert rules(ad, "forever") == {Rule.NO_CHANGE}
    samba.user("card", OLD, userAccountControl=0x40200)
    assert rules(ad, "card") == {Rule.NO_CHANGE}


def test_the_sites_own_groups_protect_and_must_be_there(samba: SambaAd, ad: Bench) -> None:
    group = samba.group("finance", samba.group("payroll", samba.user("payer", OLD)))
    ad.guard = replace(ad.guard, protected=(group,))
    assert rules(ad, "payer") == {Rule.PROTECTED}
    ad.guard = replace(ad.guard, protected=(f"CN=ghosts,{samba_ad.STAFF}",))
    assert rules(ad, "payer") == {Rule.UNREADABLE}


def test_openldap_refuses_by_rule(slapd: OpenLdap, ol: Bench) -> None:
    nested = slapd.user("nested", OLD)
    group = slapd.group("outer", slapd.group("mid", slapd.group("inner", nested)))
    ol.guard = replace(ol.guard, protected=(group,))
    assert rules(ol, "nested") == {Rule.PROTECTED}
    ol.guard = replace(ol.guard, protected=())
    slapd.user("denied", OLD)
    assert rules(ol, "denied") == {Rule.DENIED}
    slapd.user("elsewhere", OLD, ou=openldap.PARTNERS)
    assert rules(ol, "elsewhere") == {Rule.OUTSIDE}
    slapd.set(slapd.user("jailed", OLD), pwdAccountLockedTime="000001010000Z")
    assert rules(ol, "jailed") == {Rule.LOCKED_BY_ADMIN}
    ol.system = OpenLdapAccounts()
    slapd.user("nopolicy", OLD)
    assert rules(ol, "nopolicy") == {Rule.NO_CHANGE}
    ol.system = OpenLdapAccounts(f"cn=ghost,{openldap.POLICIES}")
    assert Rule.UNREADABLE in rules(ol, "nopolicy")


def test_groups_that_hold_each_other_end(slapd: OpenLdap, ol: Bench) -> None:
    one = slapd.group("ring1", slapd.user("ringed", OLD))
    two = slapd.group("ring2", one)
    slapd.set(one, member=[f"uid=ringed,{openldap.PEOPLE}", two])
    ol.guard = replace(ol.guard, protected=(two,))
    assert rules(ol, "ringed") == {Rule.PROTECTED}


def test_a_fine_grained_policy_is_met(samba: SambaAd, ad: Bench) -> None:
    samba.pso("tough", samba.user("strict", OLD), length=40)
    plan = ad.plan(ad.reset(), "strict")
    assert plan.steps[0].args["policy"]["shortest"] == 40
    ad.apply(ad.reset(), plan)
    assert len(ad.kept[0].reveal()) >= 40


def test_a_policy_of_its_own_is_met(slapd: OpenLdap, ol: Bench) -> None:
    slapd.user("strict", "a-long-enough-first-password", pwdPolicySubentry=openldap.STRICT_POLICY)
    plan = ol.plan(ol.reset(), "strict")
    assert plan.steps[0].args["policy"]["shortest"] == 24
    ol.apply(ol.reset(), plan)


def test_unlock_says_why_first(samba: SambaAd, ad: Bench) -> None:
    dn = samba.user("locky", OLD)
    user = f"locky@{samba_ad.REALM}"
    assert "no reason" in ad.plan(ad.unlock(), "locky").reason
    mistype(samba, user, 1)
    assert "not-locked: a wrong password was given once" in ad.plan(ad.unlock(), "locky").reason
    mistype(samba, user, 3)
    plan = ad.plan(ad.unlock(), "locky")
    assert "locked by wrong passwords" in " ".join(plan.notes)
    assert "4740" in " ".join(plan.notes)
    assert not may_log_in(samba, user, OLD)
    ad.apply(ad.unlock(), plan)
    assert samba.kinit("locky", OLD).ok
    samba.set(dn, userAccountControl=514)
    assert "disabled" in ad.plan(ad.unlock(), "locky").reason


def test_unlock_in_openldap(slapd: OpenLdap, ol: Bench) -> None:
    dn = slapd.user("locky", OLD)
    mistype(slapd, dn, 1)
    assert "wrong password was given once" in ol.plan(ol.unlock(), "locky").reason
    mistype(slapd, dn, 3)
    plan = ol.plan(ol.unlock(), "locky")
    assert not may_log_in(slapd, dn, OLD)
    ol.apply(ol.unlock(), plan)
    ldap._breaker = ldap._Breaker()
    assert may_log_in(slapd, dn, OLD)


@pytest.mark.parametrize("which", ["ad", "ol"])
def test_a_reset_unlocks_in_the_same_change(which: str, request: pytest.FixtureRequest) -> None:
    bench: Bench = request.getfixturevalue(which)
    dn = bench.server.user("both", OLD)
    mistype(bench.server, f"both@{samba_ad.REALM}" if which == "ad" else dn, 4)
    plan = bench.plan(bench.reset(), "both")
    assert "unlock" in plan.steps[0].summary
    bench.apply(bench.reset(), plan)
    with bench.transport.connect() as session:
        facts = bench.reset().survey(Host("both"), session)
    assert (facts.locked, facts.must_change) == (False, True)


@pytest.mark.parametrize("which", ["ad", "ol"])
def test_two_resets_of_one_account_set_one_password(which: str, request: pytest.FixtureRequest) -> None:
    bench: Bench = request.getfixturevalue(which)
    bench.server.user("raced", OLD)
    first, second = bench.plan(bench.reset(), "raced"), bench.plan(bench.reset(), "raced")
    wait_a_second(which)
    bench.apply(bench.reset(), first)
    with pytest.raises(RefusedError, match="set by somebody else"):
        bench.apply(bench.reset(), second)
    assert len(bench.kept) == 1


def wait_a_second(which: str) -> None:
    """OpenLDAP keeps the time of a change in whole seconds."""
    if which == "ol":
        import time  # noqa: PLC0415 - only here

        time.sleep(1.1)


@pytest.mark.parametrize("which", ["ad", "ol"])
def test_an_unknown_outcome_is_probed_and_never_repeated(which: str, request: pytest.FixtureRequest) -> None:
    bench: Bench = request.getfixturevalue(which)
    bench.server.user("probed", OLD)
    plan = bench.plan(bench.reset(), "probed")
    step, host = plan.steps[0], Host("probed")
    with bench.transport.connect() as session:
        assert bench.reset().probe(host, step, session, "u").result is StepResult.UNKNOWN
        wait_a_second(which)
        bench.reset().apply(host, step, session, "u")
        assert bench.reset().probe(host, step, session, "u").result is StepResult.OK


@pytest.mark.parametrize("which", ["ad", "ol"])
def test_a_password_that_cannot_be_kept_is_not_set(which: str, request: pytest.FixtureRequest) -> None:
    bench: Bench = request.getfixturevalue(which)
    bench.server.user("nokeep", OLD)

    def keep(*_: object) -> None:
        raise RefusedError("the recipient's key cannot be read")

    operation = bench.reset(keep=keep)
    plan = bench.plan(operation, "nokeep")
    with pytest.raises(RefusedError, match="recipient"), bench.transport.connect() as session:
        operation.apply(Host("nokeep"), plan.steps[0], session, "u")
    assert bench.plan(operation, "nokeep").facts == plan.facts


def test_what_moved_is_drift_and_what_is_gone_is_refused(samba: SambaAd, ad: Bench) -> None:
    dn = samba.user("mover", OLD)
    plan = ad.plan(ad.reset(), "mover")
    samba.admin.apply(
        f"dn: {dn}\nchangetype: modrdn\nnewrdn: CN=mover\ndeleteoldrdn: 1\nnewsuperior: {samba_ad.MANAGERS}\n"
    )
    with ad.transport.connect() as session:
        facts = ad.reset().survey(Host("mover"), session)
        assert facts_digest(facts) != plan.facts
        with pytest.raises(RefusedError, match="outside-delegation"):
            ad.reset().apply(Host("mover"), plan.steps[0], session, "u")
        samba.admin.apply(f"dn: CN=mover,{samba_ad.MANAGERS}\nchangetype: delete\n")
        with pytest.raises(RefusedError, match="gone"):
            ad.reset().apply(Host("mover"), plan.steps[0], session, "u")
    assert not ad.kept


def test_a_service_account_without_rights_is_told_before_anybody_signs(samba: SambaAd, ad: Bench) -> None:
    samba.user("guarded", OLD)
    with reach(samba, samba_ad.NOBODY, samba_ad.SERVICE_PASSWORD) as transport:
        bench = replace(ad, transport=transport)
        assert rules(bench, "guarded") == {Rule.NO_RIGHT}
    assert samba.kinit("guarded", OLD).ok


def test_a_server_that_hangs_in_the_modification_leaves_the_outcome_open(samba: SambaAd, ad: Bench) -> None:
    samba.user("hung", OLD)
    plan = ad.plan(ad.reset(), "hung")
    paused: Callable[..., None] = lambda *_: samba.pause()  # noqa: E731 - between the reading and the writing
    with reach(samba, samba_ad.SERVICE, samba_ad.SERVICE_PASSWORD, timeout=1.0) as transport:
        session: Directory = transport.connect()
        try:
            with pytest.raises(SessionLostError, match="not known"):
                ad.reset(keep=paused).apply(Host("hung"), plan.steps[0], session, "u")
        finally:
            samba.resume()
    with ad.transport.connect() as fresh:
        outcome = ad.reset().probe(Host("hung"), plan.steps[0], fresh, "u")
    assert outcome.result in {StepResult.OK, StepResult.UNKNOWN}
    assert outcome.result is (StepResult.UNKNOWN if samba.kinit("hung", OLD).ok else StepResult.OK)
