"""Fill a freshly provisioned Samba domain; run once by the system's own Python, which has Samba's bindings.

Makes the OUs, a service account with exactly the rights that docs/directory.md delegates, and one with none.
Arguments: the smb.conf, the base DN, the password of the service accounts.
"""

import sys

import ldb
from samba.auth import system_session
from samba.dcerpc import security
from samba.ndr import ndr_pack, ndr_unpack
from samba.param import LoadParm
from samba.samdb import SamDB

RESET = "00299570-246d-11d0-a768-00aa006e0529"  # extended right Reset Password (MS-ADTS 5.1.3.2.1)
PWD_LAST_SET = "bf967a0a-0de6-11d0-a285-00aa003049e2"  # attributes, by schemaIDGUID
LOCKOUT_TIME = "28630ebf-41d5-11d1-a9c1-0000f80367c1"
USER = "bf967aba-0de6-11d0-a285-00aa003049e2"  # class user
OUS = ("Staff", "Managers", "Services")


def allow(db: SamDB, dn: str, *aces: str) -> None:
    """Put access control entries, in SDDL, before the others of an object."""
    found = db.search(dn, scope=ldb.SCOPE_BASE, attrs=["nTSecurityDescriptor"])
    text = ndr_unpack(security.descriptor, found[0]["nTSecurityDescriptor"][0]).as_sddl()
    start = text.index("(", text.index("D:"))
    text = text[:start] + "".join(aces) + text[start:]
    message = ldb.Message(ldb.Dn(db, dn))
    descriptor = ndr_pack(security.descriptor.from_sddl(text, security.dom_sid(db.get_domain_sid())))
    message["sd"] = ldb.MessageElement(descriptor, ldb.FLAG_MOD_REPLACE, "nTSecurityDescriptor")
    db.modify(message)


def main() -> None:
    """Fill the domain."""
    conf, base, password = sys.argv[1:]
    params = LoadParm()
    params.load(conf)
    db = SamDB(session_info=system_session(), lp=params)
    for name in OUS:
        db.add({"dn": f"OU={name},{base}", "objectClass": "organizationalUnit"})
    for name in ("svc-lamplighter", "svc-nobody"):
        db.newuser(name, password, userou="OU=Services")
    found = db.search(base, expression="(sAMAccountName=svc-lamplighter)", attrs=["objectSid"])
    sid = ndr_unpack(security.dom_sid, found[0]["objectSid"][0])
    allow(
        db,
        f"OU=Staff,{base}",
        f"(OA;CIIO;CR;{RESET};{USER};{sid})",
        f"(OA;CIIO;WP;{PWD_LAST_SET};{USER};{sid})",
        f"(OA;CIIO;WP;{LOCKOUT_TIME};{USER};{sid})",
    )
    computer = ldb.Message(ldb.Dn(db, f"CN=DC1,OU=Domain Controllers,{base}"))
    names = [f"{service}/dc1.lab.test" for service in ("ldap", "HOST")]
    computer["spn"] = ldb.MessageElement(names, ldb.FLAG_MOD_REPLACE, "servicePrincipalName")
    db.modify(computer)  # a domain controller does this itself, once its DNS is up
    settings = f"CN=Password Settings Container,CN=System,{base}"
    allow(db, settings, f"(A;CI;LCRPLORC;;;{sid})")


main()
