"""WinRM with Kerberos against a real KDC."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lamplighter.errors import AuthFailedError
from lamplighter.model.inventory import Host
from lamplighter.secrets import Secret
from lamplighter.transports.winrm import WinRmTransport
from tests.lab.samba_ad import REALM, SambaAd
from tests.lab.system import environment, run
from tests.lab.winrm_endpoint import Settings, WinRmEndpoint
from tests.winrmkit import windows

pytestmark = pytest.mark.lab
NAME = "win1.lab.test"
PASSWORD = "Kerb3ros-Canary"


@pytest.fixture(scope="module")
def domain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SambaAd]:
    folder = tmp_path_factory.mktemp("winrm-ad") / "state"
    with SambaAd(f"winrm-{os.getpid()}", folder) as ad:
        ad.user("svc-win1", "Machine-Passw0rd", servicePrincipalName=f"HTTP/{NAME}")
        ad.user("ops1", PASSWORD)
        yield ad


@pytest.fixture
def endpoint(domain: SambaAd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WinRmEndpoint]:
    keytab = tmp_path / "win1.keytab"
    principal = f"--principal=HTTP/{NAME}@{REALM}"
    run(["samba-tool", "domain", "exportkeytab", keytab, principal, "-s", domain.state_dir / "smb.conf"])
    monkeypatch.setenv("KRB5_KTNAME", str(keytab))
    monkeypatch.setenv("KRB5_CONFIG", str(domain.krb5_conf))
    monkeypatch.setenv("KRB5CCNAME", f"FILE:{tmp_path / 'cache'}")
    with WinRmEndpoint(tmp_path, Settings(protocol="kerberos")) as endpoint:
        yield endpoint


def kerberized(endpoint: WinRmEndpoint, **variables: object) -> Host:
    common = {
        "ansible_winrm_transport": "kerberos",
        "ansible_user": f"ops1@{REALM}",
        "ansible_winrm_kerberos_hostname_override": NAME,
        "lamplighter_winrm_password": "test:kerberos",
    }
    return windows(endpoint, **(common | variables))


def test_a_password_gets_a_ticket_and_messages_are_sealed(endpoint: WinRmEndpoint) -> None:
    with WinRmTransport(lambda _: Secret(PASSWORD)) as transport:
        session = transport.connect(kerberized(endpoint))
        raw = session.execute("echo a-word; cat", stdin=b"x" * 200_000, cap=300_000)
        assert raw.out == b"a-word\n" + b"x" * 200_000
    assert endpoint.service.shells == {}
    assert all(b"a-word" not in request.body for request in endpoint.arrived)
    assert not (Path(os.environ["KRB5CCNAME"].removeprefix("FILE:"))).exists(), "no ticket is left on disk"


def test_a_ticket_that_is_there_needs_no_password(endpoint: WinRmEndpoint) -> None:
    run(["kinit", f"ops1@{REALM}"], stdin=f"{PASSWORD}\n", env=environment(dict(os.environ)))
    with WinRmTransport() as transport:
        session = transport.connect(kerberized(endpoint, lamplighter_winrm_password=None))
        assert session.execute("echo ticket").out == b"ticket\n"


def test_a_wrong_password_is_told_without_repeating_it(endpoint: WinRmEndpoint) -> None:
    transport = WinRmTransport(lambda _: Secret("wrong-" + PASSWORD))
    with pytest.raises(AuthFailedError, match=r"kerberos failed for ops1@LAB\.TEST: Preauth") as caught:
        transport.connect(kerberized(endpoint))
    assert PASSWORD not in str(caught.value)
    assert endpoint.arrived == []


def test_a_host_without_that_name_is_refused(endpoint: WinRmEndpoint) -> None:
    host = kerberized(endpoint, ansible_winrm_kerberos_hostname_override="other.lab.test")
    transport = WinRmTransport(lambda _: Secret(PASSWORD))
    with pytest.raises(AuthFailedError, match="not found in Kerberos database"):
        transport.connect(host)
    assert endpoint.arrived == []
