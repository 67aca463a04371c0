"""An OpenLDAP as people have them: hidden entries, policies of every kind, schemas of other programs."""

from __future__ import annotations

import time

from tests.directorykit import OLD
from tests.lab import ldif
from tests.lab.openldap import GROUPS, PEOPLE, POLICIES, SERVICE, OpenLdap

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


def made(slapd: OpenLdap, name: str, fields: dict[str, ldif.Values]) -> str:
    dn = CN_GROUPS.format(name)
    slapd.admin.apply(ldif.add(dn, {"cn": name, **fields}))
    return dn
