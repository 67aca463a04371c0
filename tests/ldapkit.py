"""Clients of lab directories that mean harm, and the two passwords nobody may ever see."""

from lamplighter.model.directory import equals, replace
from lamplighter.secrets import Secret
from lamplighter.transports.ldap import LdapTransport
from lamplighter.transports.ldap_session import LdapSession
from lamplighter.transports.ldap_settings import LdapServer, LdapSettings, Security, SimpleBind
from tests.lab.pki import Ca
from tests.lab.rogue_ldap import RogueLdap

NAME, BASE, USER = "dc1.lab.test", "dc=lab,dc=test", "cn=service,dc=lab,dc=test"
SERVICE_CANARY, NEW_CANARY = "canary-service-4711", "canary-new-0815"
NEW = Secret(NEW_CANARY)
DN = "cn=Roe,dc=lab,dc=test"


def settings(ca: Ca, *servers: RogueLdap | int, **changes: object) -> LdapSettings:
    ports = [one.port if isinstance(one, RogueLdap) else one for one in servers]
    values = {
        "servers": tuple(LdapServer("127.0.0.1", port, NAME) for port in ports),
        "ca": ca.path,
        "base": BASE,
        "bind": SimpleBind(USER, "env:UNUSED"),
        "connect_timeout": 2.0,
        "timeout": 2.0,
    }
    return LdapSettings(**{**values, **changes})


def transport(ca: Ca, *servers: RogueLdap | int, **changes: object) -> LdapTransport:
    return LdapTransport(settings(ca, *servers, **changes), lambda _: Secret(SERVICE_CANARY))


def starttls(ca: Ca, server: RogueLdap) -> LdapTransport:
    return transport(ca, server, security=Security.STARTTLS)


def set_by_modify(session: LdapSession) -> None:
    session.modify(DN, replace("unicodePwd", NEW), replace("pwdLastSet", 0))


def set_by_extension(session: LdapSession) -> None:
    session.set_password(DN, NEW)


def search(session: LdapSession) -> None:
    session.search(equals("uid", "x"), ["cn"])


def no_secret(error: BaseException) -> None:
    seen: BaseException | None = error
    while seen is not None:
        text = f"{seen!s} {seen!r} {vars(seen)}"
        assert SERVICE_CANARY not in text
        assert NEW_CANARY not in text
        seen = seen.__context__
