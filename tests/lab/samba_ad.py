"""A real Active Directory: Samba as a domain controller, on a loopback address of its own.

Provisioned once per recipe (a minute or less) and kept as an archive in the user's cache; after that it is up
in about two seconds. Nothing in the machine's /etc is changed.
"""

import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.lab import ldif
from tests.lab.cache import kept_file
from tests.lab.daemon import Daemon
from tests.lab.pki import Ca
from tests.lab.system import environment, require, run

REALM, DOMAIN, BASE, NAME = "LAB.TEST", "LAB", "DC=lab,DC=test", "dc1.lab.test"
STAFF, MANAGERS, SERVICES = (f"OU={name},{BASE}" for name in ("Staff", "Managers", "Services"))
ADMIN, ADMIN_PASSWORD = f"Administrator@{REALM}", "Adm1n-Passw0rd!"
SERVICE, NOBODY = f"svc-lamplighter@{REALM}", f"svc-nobody@{REALM}"
SERVICE_PASSWORD = "Serv1ce-Passw0rd!"
LDAPS, LDAP, KERBEROS = 636, 389, 88

_REVISION = 1
_SEED = Path(__file__).with_name("files") / "ad_seed.py"
_ACES = _SEED.with_name("ad_aces.py")
_SERVICES = "rpc, ldap, cldap, kdc"
_CONF = """[global]
netbios name = DC1
realm = {realm}
workgroup = {domain}
server role = active directory domain controller
server services = {services}
dcerpc endpoint servers = +winreg
interfaces = {address}/8
bind interfaces only = yes
private dir = {folder}/private
state directory = {folder}/state
cache directory = {folder}/cache
lock directory = {folder}
binddns dir = {folder}/bind-dns
pid directory = {folder}/run
ncalrpc dir = {folder}/rpc
log file = {folder}/samba.log
max log size = 0
panic action =
dns forwarder =
idmap_ldb:use rfc2307 = yes
rpc server dynamic port range = 20000-40000
tls enabled = yes
ldap server require strong auth = allow_sasl_over_tls
tls cafile = {folder}/ca.pem
tls certfile = {folder}/server.pem
tls keyfile = {folder}/server.key
"""
_KRB5 = """[libdefaults]
default_realm = {realm}
dns_lookup_kdc = false
dns_lookup_realm = false
dns_canonicalize_hostname = false
rdns = false
udp_preference_limit = 1
[realms]
{realm} = {{
  kdc = {address}
  kpasswd_server = {address}
}}
[domain_realm]
.lab.test = {realm}
"""


@dataclass(frozen=True)
class Kinit:
    """How a kinit ended, and what it said."""

    ok: bool
    said: str


class SambaAd(Daemon):
    """A domain controller; see `Daemon`.

    Attributes:
        ca: the CA its certificate is of; the certificate carries `NAME`.
        krb5_conf: for clients.
    """

    def __init__(self, name: str, state_dir: Path) -> None:
        super().__init__(name, state_dir)
        self.ca = self.state_dir / "ca.pem"
        self.krb5_conf = self.state_dir / "krb5.client.conf"

    @property
    def admin(self) -> ldif.Admin:
        """The domain's administrator."""
        password = self.state_dir / "admin.secret"
        return ldif.Admin(f"ldaps://{self.address}", self.ca, ADMIN, password)

    def user(
        self, login: str, password: str = "", *, ou: str = STAFF, cn: str = "", **attributes: ldif.Values
    ) -> str:
        """Add a user, enabled when there is a password.

        Returns:
            Its DN.
        """
        dn = f"CN={cn or login},{ou}"
        fields: dict[str, ldif.Values] = {
            "objectClass": "user",
            "sAMAccountName": login,
            "userPrincipalName": f"{login}@{REALM}",
            "userAccountControl": 512 if password else 514,
            **({"unicodePwd": quoted(password)} if password else {}),
        }
        self.admin.apply(ldif.add(dn, {**fields, **attributes}))
        return dn

    def group(self, name: str, *members: str, ou: str = STAFF) -> str:
        """Add a global group; returns its DN."""
        dn = f"CN={name},{ou}"
        fields: dict[str, ldif.Values] = {"objectClass": "group", "sAMAccountName": name}
        self.admin.apply(ldif.add(dn, {**fields, **({"member": members} if members else {})}))
        return dn

    def join(self, group: str, *members: str) -> None:
        """Add members, by DN, to a group, by DN."""
        self.admin.apply(ldif.append(group, {"member": members}))

    def set(self, dn: str, **attributes: ldif.Values) -> None:
        """Set attributes of an object."""
        self.admin.apply(ldif.replace(dn, attributes))

    def policy(self, **attributes: ldif.Values) -> None:
        """Set attributes of the default domain policy: minPwdLength, lockoutThreshold and so on."""
        self.set(BASE, **attributes)

    def pso(self, name: str, *applies_to: str, precedence: int = 10, length: int = 20) -> str:
        """Add a fine-grained password policy; returns its DN."""
        dn = f"CN={name},CN=Password Settings Container,CN=System,{BASE}"
        fields: dict[str, ldif.Values] = {
            "objectClass": "msDS-PasswordSettings",
            "msDS-PasswordSettingsPrecedence": precedence,
            "msDS-PasswordReversibleEncryptionEnabled": "FALSE",
            "msDS-PasswordHistoryLength": 0,
            "msDS-PasswordComplexityEnabled": "TRUE",
            "msDS-MinimumPasswordLength": length,
            "msDS-MinimumPasswordAge": 0,
            "msDS-MaximumPasswordAge": -36288000000000,
            "msDS-LockoutThreshold": 0,
            "msDS-LockoutObservationWindow": -18000000000,
            "msDS-LockoutDuration": -18000000000,
            "msDS-PSOAppliesTo": applies_to,
        }
        self.admin.apply(ldif.add(dn, fields))
        return dn

    def sid(self, dn: str) -> str:
        """The objectSid of an account or group, as SDDL has it."""
        login = dn.partition(",")[0].partition("=")[2]
        conf = self.state_dir / "smb.conf"
        text = run(["samba-tool", "user", "show", login, "--attributes=objectSid", "-s", conf])
        return text.rpartition("objectSid: ")[2].strip()

    def aces(self, *changes: str) -> None:
        """Change access control lists; see `files/ad_aces.py` for the threes of arguments."""
        run(["/usr/bin/python3", _ACES, self.state_dir / "smb.conf", *changes])

    def kinit(self, login: str, password: str, new: str = "") -> Kinit:
        """Log in by Kerberos, changing the password when that is asked and `new` is given."""
        with tempfile.NamedTemporaryFile(dir=self.state_dir, prefix="cc-") as cache:
            done = subprocess.run(
                ["kinit", f"{login}@{REALM}"],
                input=f"{password}\n" + (f"{new}\n{new}\n" if new else ""),
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
                env=environment({"KRB5_CONFIG": str(self.krb5_conf), "KRB5CCNAME": f"FILE:{cache.name}"}),
            )
        return Kinit(done.returncode == 0, " ".join((done.stdout + done.stderr).split())[-300:])

    def keytab(self, login: str) -> Path:
        """Export a user's Kerberos key.

        Returns:
            The keytab.
        """
        path = self.state_dir / f"{login}.keytab"
        principal = f"--principal={login}@{REALM}"
        run(["samba-tool", "domain", "exportkeytab", path, principal, "-s", self.state_dir / "smb.conf"])
        return path

    def _start(self) -> None:
        require(["samba", "samba-tool", "ldapmodify", "kinit", "setpriv"])
        with tarfile.open(_provisioned()) as archive:
            archive.extractall(self.state_dir, filter="tar")
        Ca(self.state_dir, "Lab AD CA").issue(NAME)
        _write_conf(self.state_dir, self.address)
        values = {"realm": REALM, "address": self.address}
        self.krb5_conf.write_text(_KRB5.format(**values), encoding="utf-8")
        ldif.write_secret(self.state_dir / "admin.secret", ADMIN_PASSWORD)
        self._run()

    def _run(self) -> None:
        conf = f"--configfile={self.state_dir / 'smb.conf'}"
        self._spawn(["samba", "-i", "-M", "single", "--no-process-group", conf], (LDAPS, LDAP, KERBEROS))


def quoted(password: str) -> bytes:
    """A password as `unicodePwd` takes it."""
    return f'"{password}"'.encode("utf-16-le")


def _write_conf(folder: Path, address: str) -> Path:
    values = {"realm": REALM, "domain": DOMAIN, "services": _SERVICES, "address": address, "folder": folder}
    conf = folder / "smb.conf"
    conf.write_text(_CONF.format(**values), encoding="utf-8")
    for name in ("run", "rpc", "cache"):
        (folder / name).mkdir(mode=0o755, exist_ok=True)
    return conf


def _provisioned() -> Path:
    """The archive of a provisioned domain, made first if this recipe has none yet."""
    version = run(["samba", "--version"]).strip()
    recipe = (_REVISION, version, REALM, ADMIN_PASSWORD, SERVICE_PASSWORD, _SEED.read_bytes())
    return kept_file("samba-ad", recipe, _provision)


def _provision(scratch: Path) -> Path:
    folder = scratch / "ad"
    run(
        [
            "samba-tool", "domain", "provision", f"--targetdir={folder}", "--server-role=dc",
            f"--realm={REALM}", f"--domain={DOMAIN}", "--host-name=dc1", "--host-ip=127.0.0.1",
            f"--adminpass={ADMIN_PASSWORD}", "--dns-backend=SAMBA_INTERNAL", "--use-rfc2307",
            "--option=interfaces=127.0.0.1/8", "--option=bind interfaces only=yes",
            f"--option=server services={_SERVICES}",
        ],
        timeout=300,
    )
    conf = _write_conf(folder, "127.0.0.1")
    run(["/usr/bin/python3", _SEED, conf, BASE, SERVICE_PASSWORD], timeout=120)
    shutil.rmtree(folder / "etc")
    fresh = scratch / "fresh.tar"
    with tarfile.open(fresh, "w") as archive:
        archive.add(folder, ".", filter=lambda one: None if one.isfifo() or "msg." in one.name else one)
    return fresh
