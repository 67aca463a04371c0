"""A real OpenLDAP with a password policy, on a loopback address of its own."""

from collections.abc import Callable
from pathlib import Path

from tests.lab import ldif
from tests.lab.daemon import Daemon
from tests.lab.pki import Ca
from tests.lab.system import require, run

BASE, NAME = "dc=lab,dc=test", "ldap1.lab.test"
_OUS = ("people", "partners", "groups", "services")
PEOPLE, PARTNERS, GROUPS, SERVICES = (f"ou={name},{BASE}" for name in _OUS)
POLICIES = f"ou=policies,{BASE}"
DEFAULT_POLICY, STRICT_POLICY = f"cn=default,{POLICIES}", f"cn=strict,{POLICIES}"
ADMIN, ADMIN_PASSWORD = f"cn=admin,{BASE}", "admin-pw-lab"
SERVICE, NOBODY = f"uid=svc-lamplighter,{SERVICES}", f"uid=svc-nobody,{SERVICES}"
SERVICE_PASSWORD = "serv1ce-pw-lab"
LDAPS, LDAP = 636, 389

_CONF = """include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
include /etc/ldap/schema/nis.schema
modulepath /usr/lib/ldap
moduleload back_mdb
moduleload ppolicy
moduleload memberof
pidfile {folder}/slapd.pid
TLSCACertificateFile {folder}/ca.pem
TLSCertificateFile {folder}/server.pem
TLSCertificateKeyFile {folder}/server.key
security simple_bind=128
database mdb
suffix {base}
rootdn {admin}
rootpw {password}
directory {folder}/db
maxsize 67108864
sizelimit unlimited
index objectClass,uid,mail,employeeNumber,member,entryUUID eq
access to dn.subtree="{people}" attrs=userPassword by dn.exact="{service}" =cw by self =xw by anonymous auth
access to attrs=userPassword by self =xw by anonymous auth by * none
access to dn.subtree="{people}" attrs=pwdReset,pwdAccountLockedTime
  by dn.exact="{service}" write by * read
access to * by users read
overlay memberof
overlay ppolicy
ppolicy_default {policy}
ppolicy_use_lockout
"""


class OpenLdap(Daemon):
    """A slapd; see `Daemon`.

    Args:
        name, state_dir: see `Daemon`.
        certified: the name in its certificate.
        edit: makes of the lab's configuration the one that is wanted.
        seed: LDIF records to begin with besides the lab's own; what nobody may write later can stand there.

    Attributes:
        ca: the CA its certificate is of.
    """

    def __init__(
        self, name: str, state_dir: Path, edit: Callable[[str], str] = lambda text: text, seed: str = "",
        certified: str = NAME,
    ) -> None:
        super().__init__(name, state_dir)
        self.ca = self.state_dir / "ca.pem"
        self.certified = certified
        self._edit, self._seed = edit, seed.replace("changetype: add\n", "")

    @property
    def admin(self) -> ldif.Admin:
        """The directory's root."""
        return ldif.Admin(f"ldaps://{self.address}", self.ca, ADMIN, self.state_dir / "admin.secret")

    def user(
        self, login: str, password: str = "", *, ou: str = PEOPLE, cn: str = "", **attributes: ldif.Values
    ) -> str:
        """Add a person; returns its DN."""
        dn = f"uid={login},{ou}"
        fields: dict[str, ldif.Values] = {"objectClass": "inetOrgPerson", "cn": cn or login, "sn": login}
        secret: dict[str, ldif.Values] = {"userPassword": password} if password else {}
        self.admin.apply(ldif.add(dn, {**fields, **secret, **attributes}))
        return dn

    def group(self, name: str, *members: str) -> str:
        """Add a group of names; returns its DN."""
        dn = f"cn={name},{GROUPS}"
        self.admin.apply(ldif.add(dn, {"objectClass": "groupOfNames", "member": members}))
        return dn

    def set(self, dn: str, **attributes: ldif.Values) -> None:
        """Set attributes of an entry."""
        self.admin.apply(ldif.replace(dn, attributes))

    def _start(self) -> None:
        require(["slapd", "slapadd", "ldapmodify", "setpriv"])
        folder = self.state_dir
        Ca(folder, "Lab LDAP CA").issue(self.certified)
        ldif.write_secret(folder / "admin.secret", ADMIN_PASSWORD)
        (folder / "db").mkdir()
        values = {
            "folder": folder, "base": BASE, "admin": ADMIN, "password": ADMIN_PASSWORD, "people": PEOPLE,
            "service": SERVICE, "policy": DEFAULT_POLICY,
        }
        conf = folder / "slapd.conf"
        conf.write_text(self._edit(_CONF.format(**values)), encoding="utf-8")
        seed = folder / "seed.ldif"
        seed.write_text(_seed() + self._seed, encoding="utf-8")
        run(["slapadd", "-q", "-f", conf, "-l", seed])
        self._run()

    def _run(self) -> None:
        urls = f"ldaps://{self.address}:{LDAPS} ldap://{self.address}:{LDAP}"
        self._spawn(["slapd", "-d", "0", "-f", self.state_dir / "slapd.conf", "-h", urls], (LDAPS, LDAP))


def _seed() -> str:
    records = [ldif.add(BASE, {"objectClass": ["dcObject", "organization"], "o": "lab", "dc": "lab"})]
    ous = (PEOPLE, PARTNERS, GROUPS, SERVICES, POLICIES)
    records += [ldif.add(dn, {"objectClass": "organizationalUnit"}) for dn in ous]
    for dn, length in ((DEFAULT_POLICY, 10), (STRICT_POLICY, 24)):
        policy = {
            "objectClass": ["pwdPolicy", "device"], "pwdAttribute": "userPassword", "pwdMinLength": length,
            "pwdCheckQuality": 2, "pwdInHistory": 3, "pwdMaxFailure": 3, "pwdLockout": "TRUE",
            "pwdMustChange": "TRUE", "pwdAllowUserChange": "TRUE",
        }
        records.append(ldif.add(dn, policy))
    for dn in (SERVICE, NOBODY):
        account = {"objectClass": "inetOrgPerson", "cn": "service", "sn": "service"}
        records.append(ldif.add(dn, {**account, "userPassword": SERVICE_PASSWORD}))
    return "".join(records).replace("changetype: add\n", "")
