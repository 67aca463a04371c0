"""docs/prepare.md on real servers: its own commands make accounts that suffice, and that can do no more.

The commands are read from the page, so that it cannot say something else than what was proved.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lamplighter.errors import (
    AuthFailedError,
    ChannelError,
    NotPermittedError,
    RemoteFailedError,
    TransportError,
    UnreachableError,
)
from lamplighter.ledger import Ledger
from lamplighter.model.directory import Directory, replace
from lamplighter.model.inventory import Host
from lamplighter.model.plan import HostPlan
from lamplighter.model.session import Completed
from lamplighter.secrets import Secret
from lamplighter.store.s3 import S3Store
from lamplighter.transports.ldap import LdapTransport
from lamplighter.transports.ldap_settings import LdapServer, LdapSettings, SimpleBind
from lamplighter.transports.s3 import Bucket
from lamplighter.transports.ssh import SshTransport
from lamplighter.transports.ssh_session import SshSession
from tasks.account_changes import ResetPassword, UnlockAccount
from tasks.accounts import Guard
from tasks.active_directory import ActiveDirectory
from tasks.apt import Patching
from tasks.openldap import OpenLdap as OpenLdapAccounts
from tests import s3kit
from tests.lab import Estate, HostSpec, openldap, samba_ad
from tests.lab import Host as LabHost
from tests.lab.openldap import OpenLdap
from tests.lab.samba_ad import SambaAd
from tests.lab.seaweedfs import GUEST, Seaweed
from tests.storekit import named

pytestmark = pytest.mark.lab
DOCS = Path(__file__).resolve().parents[1] / "docs"
OLD = "First-Passw0rd!1"


def block(name: str, page: str = "prepare.md") -> str:
    """The code block after the comment of that name."""
    pattern = rf"<!-- {re.escape(name)} -->\n```\w+\n(.*?)```"
    found = re.search(pattern, (DOCS / page).read_text("utf-8"), re.DOTALL)
    assert found, f"{page} has no block {name}"
    return found[1]


# --- a Linux host ---


@pytest.fixture(scope="module")
def estate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    folder = tmp_path_factory.mktemp("estate") / "state"
    specs = [HostSpec("prepared"), HostSpec("neighbour")]
    with Estate(f"prepare-{os.getpid()}", specs, folder) as estate:
        prepare(estate)
        yield estate


def prepare(estate: Estate) -> None:
    """Follow the page on one host. The lab has no systemd: sshd is told to reload by its signal."""
    lab = estate["prepared"]
    show = ["ssh-keygen", "-yf", estate.client_key]
    public = subprocess.run(show, stdout=subprocess.PIPE, text=True, check=True)
    lab.write("/root/lamplighter.pub", public.stdout)
    with socket.create_connection((lab.address, lab.port)) as link:
        worker = link.getsockname()[0]
    for name in ("account", "sshd", "forced-command", "sudoers"):
        text = block(f"linux: {name}").replace("192.0.2.10", worker)
        text = text.replace("systemctl reload ssh", "kill -HUP $(pgrep -o -x sshd)")
        lab.exec(f"set -e; cd /root; {text}")
    lab.wait_up()


def as_user(estate: Estate, lab: LabHost, user: str = "lamplighter") -> Host:
    return Host(lab.name, (), {
        "ansible_host": lab.address, "ansible_user": user,
        "ansible_ssh_private_key_file": str(estate.client_key), "lamplighter_settle_seconds": 1,
        "lamplighter_min_free_mb_root": 1,
    })


@pytest.fixture
def transport(estate: Estate) -> Iterator[SshTransport]:
    with SshTransport(estate.known_hosts) as transport:
        yield transport


@pytest.fixture
def session(estate: Estate, transport: SshTransport) -> SshSession:
    return transport.connect(as_user(estate, estate["prepared"]))


def test_the_account_suffices_for_a_patch_run(estate: Estate, session: SshSession) -> None:
    lab, patching = estate["prepared"], Patching("all")
    host = as_user(estate, lab)
    plan = patching.plan(host, patching.survey(host, session))
    assert plan.steps, plan.reason
    for step in plan.steps:
        patching.apply(host, step, session, f"prepare-{step.id}")
    assert patching.verify(host, plan, session).healthy
    assert lab.exec("dpkg-query -W -f '${Version}' lab-web").stdout == "1.1"
    kept = lab.exec("for f in /var/log/sudo-io/lamplighter/*/*/*/stdin; do zcat <$f; done").stdout
    assert "force-confold" in kept, "sudo keeps every script on the host"


@pytest.mark.parametrize("command", [
    "sudo -n id", "sudo -n sh -c id", "sudo -n sh -s", "sudo -n -u ops id", "sudo -n vi /etc/shadow",
    "sudo -n -- /usr/bin/env -i /bin/sh -c id", "sudo -n /usr/local/sbin/lamplighter-root id",
    "cat /etc/shadow", "su -c id", "echo id >>/usr/local/sbin/lamplighter-root",
    "echo x >>/etc/ssh/lamplighter_keys", "touch /etc/lamplighter.off",
])
def test_the_account_may_nothing_but_what_the_page_says(session: SshSession, command: str) -> None:
    assert session.run(command).exit_code != 0


def test_what_the_page_says_plainly_is_so(session: SshSession) -> None:
    assert session.run("id -u; head -c 4 /etc/shadow", sudo=True).stdout.startswith("0\nroot")


def raw(estate: Estate, *words: str) -> Completed:
    """OpenSSH's own client, as a thief of the key would use it."""
    lab = estate["prepared"]
    options = [
        "-F", "none", "-i", str(estate.client_key), "-o", f"UserKnownHostsFile={estate.known_hosts}",
        "-o", "BatchMode=yes", "-o", "ControlPath=none", "-o", "ExitOnForwardFailure=yes",
    ]
    argv = ["ssh", *options, f"lamplighter@{lab.address}", *words]
    done = subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False
    )
    return Completed(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("words", [("id",), (), ("/usr/lib/openssh/sftp-server",), ("scp -t /tmp",)])
def test_the_key_starts_nothing_else(estate: Estate, words: tuple[str, ...]) -> None:
    done = raw(estate, *words)
    assert (done.exit_code, done.stdout) == (126, "")
    assert "starts Lamplighter's commands only" in done.stderr


def test_no_tunnel_goes_through_it(estate: Estate, transport: SshTransport) -> None:
    lab, behind = estate["prepared"], estate["neighbour"]
    jump = f"lamplighter@{lab.address}"
    host = as_user(estate, behind, "ops")
    with pytest.raises(UnreachableError, match="jump host cannot reach"):
        transport.connect(Host("behind", (), {**host.vars, "lamplighter_ssh_jump": jump}))


def test_the_key_is_refused_from_elsewhere_and_for_others(estate: Estate, transport: SshTransport) -> None:
    lab, other = estate["prepared"], estate["neighbour"]
    other.write("/root/stolen", estate.client_key.read_text("ascii"), "600")
    login = f"ssh -i /root/stolen -o BatchMode=yes -o StrictHostKeyChecking=no lamplighter@{lab.address}"
    done = other.exec(f"{login} id </dev/null", check=False)
    assert done.returncode == 255
    assert "Permission denied" in done.stderr
    lab.exec("useradd --create-home somebody")
    lab.exec("mv /etc/ssh/lab_authorized_keys /etc/ssh/lab_authorized_keys.off")
    try:
        with pytest.raises(AuthFailedError):
            transport.connect(as_user(estate, lab, "somebody"))
        assert transport.connect(as_user(estate, lab)).run("id -un").stdout == "lamplighter\n"
    finally:
        lab.exec("mv /etc/ssh/lab_authorized_keys.off /etc/ssh/lab_authorized_keys")


def test_internal_it_can_switch_it_off(estate: Estate, session: SshSession) -> None:
    lab = estate["prepared"]
    lab.exec("touch /etc/lamplighter.off")
    try:
        for sudo in (False, True):
            with pytest.raises(ChannelError, match=r"switched off by internal IT.*Nothing was run"):
                session.run("id", sudo=sudo)
    finally:
        lab.exec("rm /etc/lamplighter.off")
    assert session.run("true").exit_code == 0


# --- a directory account ---


def reach(server: SambaAd | OpenLdap, user: str, password: str) -> LdapTransport:
    lab = samba_ad if isinstance(server, SambaAd) else openldap
    one = LdapServer(server.address, name=lab.NAME)
    settings = LdapSettings((one,), server.ca, lab.BASE, SimpleBind(user, "env:X"))
    return LdapTransport(settings, lambda _: Secret(password))


def planned(
    session: Directory, operation: ResetPassword | UnlockAccount, login: str
) -> HostPlan:
    return operation.plan(Host(login), operation.survey(Host(login), session))


def change(transport: LdapTransport, operation: ResetPassword | UnlockAccount, login: str) -> None:
    with transport.connect() as session:
        plan = planned(session, operation, login)
        assert plan.steps, plan.reason
        operation.apply(Host(login), plan.steps[0], session, "u")
        assert operation.verify(Host(login), plan, session).healthy


@pytest.fixture(scope="module")
def ad(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SambaAd]:
    """A domain in which `svc-nobody` is given, over one OU, what the page says."""
    with SambaAd(f"ad-prepare-{os.getpid()}", tmp_path_factory.mktemp("ad") / "d") as up:
        up.policy(lockoutThreshold=3, minPwdLength=12, minPwdAge=0)
        text = block("ad: delegation").replace("svc-lamplighter", "svc-nobody")
        text = text.replace("OU=Staff,DC=corp,DC=example", samba_ad.MANAGERS)
        database = up.state_dir / "private" / "sam.ldb"
        conf = f"-s {up.state_dir / 'smb.conf'} -H {database}"
        for command in ("dsacl set", "user show"):
            text = text.replace(command, f"{command} {conf}")
        subprocess.run(["sh", "-ec", text], check=True, timeout=120, capture_output=True)
        yield up


@pytest.fixture
def directory_reset() -> ResetPassword:
    guard = Guard(delegated=(samba_ad.MANAGERS, samba_ad.STAFF, openldap.PEOPLE))
    return ResetPassword(ActiveDirectory(), guard, lambda *_: None)


def test_active_directory(ad: SambaAd, directory_reset: ResetPassword) -> None:
    inside = ad.user("mira", OLD, ou=samba_ad.MANAGERS)
    ad.user("ines", OLD, ou=samba_ad.MANAGERS, objectClass="inetOrgPerson")
    outside = ad.user("sam", OLD, ou=samba_ad.STAFF)
    with reach(ad, samba_ad.NOBODY, samba_ad.SERVICE_PASSWORD) as transport:
        change(transport, directory_reset, "mira")
        for number in range(3):
            mistyped = reach(ad, f"mira@{samba_ad.REALM}", f"Wrong-{number}")
            with mistyped, pytest.raises(AuthFailedError):
                mistyped.connect()
        change(transport, UnlockAccount(directory_reset.system, directory_reset.guard), "mira")
        change(transport, directory_reset, "ines")
        with transport.connect() as session:
            assert "no-right" in planned(session, directory_reset, "sam").reason
            for dn, attribute, value in (
                (inside, "description", "x"), (inside, "userAccountControl", 512),
                (inside, "servicePrincipalName", "http/x"), (outside, "lockoutTime", 0),
                (f"CN=Administrator,CN=Users,{samba_ad.BASE}", "pwdLastSet", 0),
            ):
                with pytest.raises(NotPermittedError):
                    session.modify(dn, replace(attribute, value))


@pytest.fixture
def slapd(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[OpenLdap]:
    """A directory with the page's access rules in place of the lab's."""
    head, _, rest = openldap._CONF.partition("access to ")
    rules = block("openldap: access").replace("dc=corp,dc=example", openldap.BASE)
    assert "{" not in rules
    head = re.sub(r"index .*\n", block("openldap: index"), head)
    monkeypatch.setattr(openldap, "_CONF", head + rules + rest[rest.index("overlay memberof"):])
    with OpenLdap(f"slapd-prepare-{os.getpid()}", tmp_path_factory.mktemp("slapd") / "d") as up:
        yield up


def test_openldap(slapd: OpenLdap) -> None:
    mira = slapd.user("mira", OLD)
    system = OpenLdapAccounts(openldap.DEFAULT_POLICY)
    guard = Guard(delegated=(openldap.PEOPLE,))
    reset = ResetPassword(system, guard, lambda *_: None)
    with reach(slapd, openldap.SERVICE, openldap.SERVICE_PASSWORD) as transport:
        change(transport, reset, "mira")
        with transport.connect() as session:
            entry = session.get(mira, ("userPassword", "cn"))
            assert entry is not None
            assert entry.has("cn")
            assert not entry.has("userPassword"), "hashes cannot be read"
            with pytest.raises(NotPermittedError):
                session.set_password(openldap.NOBODY, Secret("Another-Passw0rd!1"))
            with pytest.raises(RemoteFailedError):
                session.set_password(mira, Secret("short"))
    with (
        reach(slapd, openldap.NOBODY, openldap.SERVICE_PASSWORD) as transport, transport.connect() as session,
        pytest.raises(NotPermittedError),
    ):
        session.set_password(mira, Secret("Another-Passw0rd!1"))


# --- a bucket ---


def grant(seaweed: Seaweed, bucket: str, policy: str) -> None:
    """As the bucket's policy, which names whom it is for; the statements are the page's."""
    value = json.loads(policy)
    for statement in value["Statement"]:
        statement["Principal"] = {"AWS": GUEST}
    s3kit.client(seaweed).put_bucket_policy(Bucket=bucket, Policy=json.dumps(value))


def guest(seaweed: Seaweed, bucket: str) -> Bucket:
    """Without checksums in trailers: for uploads with those, SeaweedFS 4.48 does not ask bucket policies."""
    keys = {"env:ACCESS": seaweed.guest_key, "env:SECRET": seaweed.guest_secret}
    settings = s3kit.settings(seaweed, bucket, checksums=False)
    return Bucket(settings, lambda name: Secret(keys[name], name))


def refused_by(seaweed: Seaweed, bucket: str, *operations: tuple[str, dict[str, object]]) -> None:
    client = s3kit.client(seaweed, seaweed.guest_key, seaweed.guest_secret)
    for name, arguments in operations:
        with pytest.raises(client.exceptions.ClientError, match=r"AccessDenied|Access Denied"):
            getattr(client, name)(Bucket=bucket, **arguments)


def test_a_store_needs_no_more_than_its_policy(seaweed: Seaweed) -> None:
    bucket = s3kit.shared_bucket(seaweed, lock=True)
    text = re.search(r"```json\n(.*?)```", (DOCS / "stores.md").read_text("utf-8"), re.DOTALL)
    assert text
    grant(seaweed, bucket, text[1].replace("acme-lamplighter", bucket))
    store = S3Store(guest(seaweed, bucket), f"s3://{bucket}/acme")
    named(store, "acme")
    with Ledger.open(store, "run-1", "acme") as ledger:
        ledger.append("opened", site="acme")
        ledger.seal("Completed")
    key = next(iter(guest(seaweed, bucket).list("acme/runs/run-1", flat=False))).key
    refused_by(
        seaweed, bucket, ("delete_object", {"Key": key}), ("put_object", {"Key": "other/x", "Body": b""}),
        ("delete_bucket", {}), ("put_bucket_policy", {"Policy": "{}"}),
        ("put_bucket_versioning", {"VersioningConfiguration": {"Status": "Suspended"}}),
    )


def test_looking_at_backups_needs_no_more_than_its_policy(seaweed: Seaweed) -> None:
    bucket = s3kit.shared_bucket(seaweed)
    admin = s3kit.client(seaweed)
    admin.put_object(Bucket=bucket, Key="servers/web1/data", Body=b"backup")
    admin.put_object(Bucket=bucket, Key="private/salaries", Body=b"no backup")
    grant(seaweed, bucket, block("bucket: backups").replace("corp-backups", bucket))
    reader = guest(seaweed, bucket)
    stored = reader.get("servers/web1/data")
    assert stored is not None
    assert stored.data == b"backup"
    assert [one.key for one in reader.versions("servers/")] == ["servers/web1/data"]
    assert not reader.locks()
    with pytest.raises(TransportError):
        reader.get("private/salaries")
    refused_by(
        seaweed, bucket, ("put_object", {"Key": "servers/web1/data", "Body": b""}),
        ("delete_object", {"Key": "servers/web1/data"}), ("get_object", {"Key": "private/salaries"}),
    )
