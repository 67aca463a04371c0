"""No secret of any kind is seen where it must not be: see `tests.canaries`, which lists the kinds."""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

from lamplighter.errors import (
    AuthFailedError,
    NotPermittedError,
    PolicyViolationError,
    SudoRefusedError,
    TransportError,
)
from lamplighter.ledger import Ledger
from lamplighter.model.inventory import Host
from lamplighter.notify.send import send_by_apprise
from lamplighter.secrets import Secret, resolve
from lamplighter.site.notify import Channel
from lamplighter.store import StoreAddress, reach
from lamplighter.transports.ldap import LdapTransport
from lamplighter.transports.ldap_settings import LdapServer, LdapSettings, SimpleBind
from lamplighter.transports.s3 import Bucket
from lamplighter.transports.ssh import SshTransport
from lamplighter.transports.winrm import WinRmTransport
from tasks.account_changes import ResetPassword
from tasks.accounts import Guard
from tasks.openldap import OpenLdap as OpenLdapAccounts
from tests import s3kit
from tests.canaries import KINDS, Watch, canary, found, kept, know, search, source
from tests.lab import openldap, winrm_endpoint
from tests.lab.demo_site import APPROVERS, REQUESTER, DemoSite
from tests.lab.host import Host as LabHost
from tests.lab.openldap import OpenLdap
from tests.lab.prefect_api import PrefectApi
from tests.lab.prefect_stack import PrefectStack
from tests.lab.seaweedfs import Seaweed
from tests.lab.winrm_commands import Act
from tests.lab.winrm_endpoint import WinRmEndpoint
from tests.storekit import a_store, named
from tests.winrmkit import ECHO, answering, stand_in, windows


@pytest.fixture
def watch(caplog: pytest.LogCaptureFixture) -> Iterator[Watch]:
    """Last among a test's arguments: preparing may need a canary in a command line, as ssh-keygen does."""
    with Watch(caplog) as watch:
        yield watch


# --- the watch itself ---


def test_a_watch_sees_what_it_is_there_to_see(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    value = canary("webhook")
    left = tmp_path / "left-behind"
    left.write_bytes(b"\0" * 10 + value.encode("utf-8") + b"\n")
    source(left)  # from the session's last look, which it would fail
    watch = Watch(caplog)
    watch.__enter__()
    logging.getLogger("paramiko.transport").debug("sent %s", value)
    subprocess.run(["sh", "-c", "sleep 0.3", value], check=True)
    watch.shows(value)
    watch.fails(ValueError, lambda: int(value))
    with pytest.raises(AssertionError) as caught:
        watch.__exit__(None, None, None)
    assert watch.commands > 10
    for place in ("a process list", "a log line", "of a str", "a ValueError", "a traceback"):
        assert place in str(caught.value)
    assert found(value.encode("utf-16-le")) == ["webhook"]
    assert search(tmp_path) == []


# --- SSH ---


@pytest.fixture
def locked_key(patch_site: DemoSite, tmp_path: Path) -> tuple[Path, str]:
    """A key that every lab host takes, under a passphrase that is a canary; and the reference of that."""
    passphrase = canary("ssh-passphrase")
    key = tmp_path / "locked"
    shutil.copy(patch_site.estate.client_key, key)
    change = ["ssh-keygen", "-q", "-p", "-P", "", "-N", passphrase, "-f", key]
    subprocess.run(change, check=True, stdin=subprocess.DEVNULL)
    return key, kept(tmp_path / "passphrase", passphrase)


@pytest.fixture
def sudoer(patch_site: DemoSite, tmp_path: Path) -> Iterator[tuple[LabHost, str]]:
    """A host whose account `opspw` needs a canary for sudo; and the reference of that."""
    host = patch_site.estate["alpha"]
    host.reset()
    host.wait_up()
    password = canary("sudo-password")
    host.exec("chpasswd", stdin=f"opspw:{password}\n")
    yield host, kept(tmp_path / "sudo", password)
    host.reset()
    host.wait_up()


def ssh_vars(host: LabHost, key: tuple[Path, str], sudo: str) -> dict[str, Any]:
    return {
        "ansible_host": host.address, "ansible_user": "opspw", "ansible_ssh_private_key_file": str(key[0]),
        "lamplighter_ssh_passphrase": key[1], "lamplighter_sudo_password": sudo,
    }


@pytest.mark.lab
def test_ssh(
    locked_key: tuple[Path, str], sudoer: tuple[LabHost, str], patch_site: DemoSite, tmp_path: Path,
    watch: Watch,
) -> None:
    lab, sudo = sudoer
    good = ssh_vars(lab, locked_key, sudo)
    near = kept(tmp_path / "wrong", canary("ssh-passphrase"))
    wrong = kept(tmp_path / "wrong-sudo", canary("sudo-password"))
    with SshTransport(patch_site.path / "host_keys") as transport:
        session = transport.connect(Host("alpha", (), good))
        done = session.run("id -u; ps -ef; env", sudo=True)
        assert done.stdout.startswith("0\n")
        unit = session.launch("canary-unit", "ps -ef; sleep 0.2", sudo=True)
        waited = session.wait("canary-unit", sudo=True, timeout=20)
        watch.shows(session, transport, done, unit, waited, Host("alpha", (), good))
        bad = Host("alpha", (), {**good, "lamplighter_ssh_passphrase": near})
        watch.fails(AuthFailedError, lambda: transport.connect(bad))
        mistyped = transport.connect(Host("alpha", (), {**good, "lamplighter_sudo_password": wrong}))
        watch.fails(SudoRefusedError, lambda: mistyped.run("true", sudo=True))
        assert watch.commands
    assert not found(lab.exec("cat /proc/[0-9]*/environ; cat /var/log/* 2>/dev/null; true").stdout.encode())


# --- WinRM ---


def test_winrm(tmp_path: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    password, wrong, parameter = canary("winrm-password"), canary("winrm-password"), canary("user-password")
    monkeypatch.setattr(winrm_endpoint, "PASSWORD", password)
    folder = tmp_path / "server"
    folder.mkdir()
    source(folder)
    with WinRmEndpoint(folder) as endpoint, WinRmTransport() as transport:
        stand_in(endpoint, ECHO, answering(text="done"))
        reference = kept(tmp_path / "password", password)
        host = windows(endpoint, lamplighter_winrm_password=reference)
        session = transport.connect(host)
        hidden = {"Password": kept(tmp_path / "parameter", parameter)}
        answer = session.invoke(ECHO, {"Text": "hello"}, secrets=hidden)
        watch.shows(session, transport, host, answer)
        stand_in(endpoint, ECHO, Act(output=json.dumps({"text": parameter}), stderr=parameter.encode()))
        watch.shows(session.invoke(ECHO, {"Text": "parrot"}, secrets=hidden))
        failed = session.execute("ps -ef >&2; exit 3")
        watch.shows(failed, failed.out, failed.err)
        session.close()
        reference = kept(tmp_path / "wrong", wrong)
        mistyped = windows(endpoint, lamplighter_winrm_password=reference)
        watch.fails(AuthFailedError, lambda: transport.connect(mistyped))


# --- LDAP, and generated passwords ---


@pytest.fixture
def slapd(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[OpenLdap]:
    """A directory whose service account has a canary for a password."""
    monkeypatch.setattr(openldap, "SERVICE_PASSWORD", canary("ldap-password"))
    folder = tmp_path_factory.mktemp("d")
    with OpenLdap(f"slapd-canary-{os.getpid()}", folder / "d") as up:
        source(folder)
        yield up


@pytest.mark.lab
def test_directory_and_generated_passwords(slapd: OpenLdap, tmp_path: Path, watch: Watch) -> None:
    jane = slapd.user("jane", mail="jane@lab.test")
    settings = LdapSettings(
        servers=(LdapServer(slapd.address, name=openldap.NAME),), ca=slapd.ca, base=openldap.BASE,
        bind=SimpleBind(openldap.SERVICE, kept(tmp_path / "service", openldap.SERVICE_PASSWORD)),
    )
    sealed: list[Secret] = []
    system = OpenLdapAccounts(openldap.DEFAULT_POLICY)
    guard = Guard(delegated=(openldap.PEOPLE,))
    operation = ResetPassword(system, guard, lambda _, __, new: sealed.append(new))
    with LdapTransport(settings) as transport, transport.connect() as session:
        facts = operation.survey(Host("jane"), session)
        plan = operation.plan(Host("jane"), facts)
        evidence = operation.apply(Host("jane"), plan.steps[0], session, "u")
        know("user-password", sealed[0].reveal())
        with Ledger.open(a_store(tmp_path / "store"), "canary-1", "demo") as ledger:
            ledger.append("outcome", evidence=asdict(evidence), facts=facts.relevant())
        watch.shows(evidence, plan, facts, session, transport, settings, sealed[0])
        too_short = Secret(know("user-password", f"Sh0rt-{secrets.token_hex(1)}Q"), "generated")
        watch.fails(PolicyViolationError, lambda: session.set_password(jane, too_short))
        stranger = f"uid=nobody,{openldap.SERVICES}"
        watch.fails(NotPermittedError, lambda: session.set_password(openldap.NOBODY, sealed[0]))
    wrong = replace(settings, bind=SimpleBind(stranger, kept(tmp_path / "other", canary("ldap-password"))))
    with LdapTransport(wrong) as transport:
        watch.fails(AuthFailedError, transport.connect)
    watch.files(tmp_path)


# --- S3 ---


@pytest.mark.lab
def test_s3(seaweed: Seaweed, tmp_path: Path, watch: Watch) -> None:
    know("s3-secret-key", seaweed.secret_key)
    assert seaweed.ca is not None
    source(seaweed.ca.parent / "s3.json")
    name = s3kit.shared_bucket(seaweed)
    references = {
        "access_key": kept(tmp_path / "access", seaweed.access_key),
        "secret_key": kept(tmp_path / "secret", seaweed.secret_key),
    }
    bucket = Bucket(s3kit.settings(seaweed, name, **references))
    store = named(reach(StoreAddress(f"s3://{name}/canary/site", {
        "endpoint": seaweed.endpoint, "ca": str(seaweed.ca), "access-key": references["access_key"],
        "secret-key": references["secret_key"],
    })))
    with Ledger.open(store, "canary-1", "demo") as ledger:
        ledger.append("opened", site="demo")
        watch.shows(ledger, store, bucket)
    assert bucket.put("canary/one", b"data")
    wrong = kept(tmp_path / "wrong", canary("s3-secret-key"))
    mistyped = Bucket(s3kit.settings(seaweed, name, **{**references, "secret_key": wrong}))
    watch.fails(AuthFailedError, lambda: mistyped.put("canary/two", b"data"))
    gone = Bucket(s3kit.settings(seaweed, name, **references, endpoint="https://127.0.0.1:1"))
    watch.fails(TransportError, lambda: gone.put("canary/three", b"data"))
    bucket.close()


# --- notifications ---


class _Mailbox:
    """Takes a login it is told to, and mail for everybody but one."""

    def __init__(self, password: str) -> None:
        self.password, self.mails = password.encode(), []

    def authenticate(self, *asked: Any) -> AuthResult:
        return AuthResult(success=asked[-1].password == self.password, handled=False)

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        del server, session
        self.mails.append(envelope.content)
        return "250 taken"


@contextmanager
def mail_server(password: str) -> Iterator[tuple[_Mailbox, int]]:
    box = _Mailbox(password)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    controller = Controller(
        box, hostname="127.0.0.1", port=port, auth_require_tls=False,
        authenticator=box.authenticate,
    )
    controller.start()
    try:
        yield box, port
    finally:
        controller.stop()


def test_notifications(tmp_path: Path, watch: Watch) -> None:
    password, hook = canary("smtp-password"), canary("webhook")
    told = "canary@lab.test"
    with mail_server(password) as (box, port):
        def channel(secret: str, name: str) -> Channel:
            url = f"mailto://bob:{secret}@127.0.0.1:{port}?from=lamplighter@lab.test&to={told}&smtp=127.0.0.1"
            return Channel(name, kept(tmp_path / name, url))

        good = channel(password, "mail")
        answer = send_by_apprise(good, "subject", "text", resolve)
        assert (str(answer.result), len(box.mails)) == ("sent", 1), answer
        refused = send_by_apprise(channel(canary("smtp-password"), "mistyped"), "subject", "text", resolve)
        assert "login" in refused.why
        assert not found(box.mails[0])
    gone = Channel("hook", kept(tmp_path / "hook", f"jsons://127.0.0.1:1/{hook}"))
    unreached = send_by_apprise(gone, "subject", "text", resolve)
    nonsense = Channel("odd", kept(tmp_path / "odd", f"nonsense:/{hook}"))
    odd = send_by_apprise(nonsense, "subject", "text", resolve)
    watch.shows(answer, refused, unreached, odd, good, gone)


# --- a whole run through Prefect ---


@contextmanager
def reached_with(site: DemoSite, host: str, variables: dict[str, Any]) -> Iterator[None]:
    """One host of a site gets other variables for a while; workers read the file anew for each run."""
    path = site.path / "hosts.yaml"
    before = path.read_text("utf-8")
    inventory = yaml.safe_load(before)
    inventory["all"]["hosts"][host] = variables
    path.write_text(yaml.safe_dump(inventory), encoding="utf-8")
    try:
        yield
    finally:
        path.write_text(before, encoding="utf-8")


@pytest.mark.lab
@pytest.mark.prefect
def test_a_run_through_prefect(
    prefect: PrefectStack, patch_site: DemoSite, locked_key: tuple[Path, str], sudoer: tuple[LabHost, str],
    watch: Watch,
) -> None:
    lab, sudo = sudoer
    api = PrefectApi(prefect)
    with reached_with(patch_site, "alpha", ssh_vars(lab, locked_key, sudo)):
        flow_run = api.start("all-weekly", hosts="alpha", packages="all", requester=REQUESTER)
        reached = api.until(flow_run, "Suspended", seconds=180)
        assert reached["state_name"] == "Suspended", reached["state"]["message"]
        run = api.run_id(flow_run)
        key = str(patch_site.key(APPROVERS[0]))
        printed = prefect.lamplighter("approve", run, "--key", key, "--yes")
        ended = api.until(flow_run, seconds=240)
    assert ended["state"]["message"] == "1 changed", ended["state"]
    databases = {path.suffix for path in prefect.folder.rglob("*.db*")}
    assert {".db", ".db-wal"} <= databases
    watch.files(prefect.folder, patch_site.folder)
    watch.shows(printed, ended, api.artifacts(flow_run))
    assert watch.commands > 40


# --- the list ---


def test_every_kind_on_the_list_is_brought_through_the_code() -> None:
    here = Path(__file__).read_text("utf-8")
    assert set(re.findall(r'(?:canary|know)\("([a-z0-9-]+)"', here)) == set(KINDS)
