"""WinRM: who is at the other end, and who are we. Certificates, logins, and hosts that lie about either."""

from __future__ import annotations

import base64
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from lamplighter.errors import AuthFailedError, CertificateError, UnreachableError
from lamplighter.transports.winrm import WinRmTransport
from tests import winrmkit as kit
from tests.lab import winrm_trouble as trouble
from tests.lab.winrm_endpoint import Settings, WinRmEndpoint
from tests.lab.winrm_trouble import Answer, Connection
from tests.winrmkit import windows


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[WinRmEndpoint]:
    with WinRmEndpoint(tmp_path) as endpoint:
        yield endpoint


@pytest.fixture
def transport() -> Iterator[WinRmTransport]:
    with WinRmTransport(kit.secret) as transport:
        yield transport


# --- certificates ---


def tls(tmp_path: Path, transport: WinRmTransport, certificate: bytes, trusted: trustme.CA) -> WinRmEndpoint:
    trusted.cert_pem.write_to_path(tmp_path / "ca.pem")
    with WinRmEndpoint(tmp_path, Settings(certificate=certificate)) as endpoint:
        host = windows(
            endpoint, ansible_host="localhost", ansible_winrm_ca_trust_path=str(tmp_path / "ca.pem")
        )
        transport.connect(host).close()
    return endpoint


def test_a_certificate_of_another_authority_is_refused(
    tmp_path: Path, transport: WinRmTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = trustme.CA()
    other.cert_pem.write_to_path(tmp_path / "other.pem")
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "other.pem"))
    with pytest.raises(
        CertificateError, match=r"win1: the certificate of localhost:\d+ is not trusted: unable"
    ):
        tls(tmp_path, transport, kit.pem(other, "localhost"), trustme.CA())


def test_a_certificate_of_another_name_is_refused(tmp_path: Path, transport: WinRmTransport) -> None:
    authority = trustme.CA()
    with pytest.raises(CertificateError, match="Hostname mismatch"):
        tls(tmp_path, transport, kit.pem(authority, "other.example"), authority)


def test_a_certificate_out_of_date_is_refused(tmp_path: Path, transport: WinRmTransport) -> None:
    authority = trustme.CA()
    leaf = authority.issue_cert("localhost", not_after=datetime.now(UTC) - timedelta(days=1))
    certificate = leaf.private_key_pem.bytes() + leaf.cert_chain_pems[0].bytes()
    with pytest.raises(CertificateError, match="expired"):
        tls(tmp_path, transport, certificate, authority)


def test_a_trusted_certificate_is_let_pass(tmp_path: Path, transport: WinRmTransport) -> None:
    authority = trustme.CA()
    endpoint = tls(tmp_path, transport, kit.pem(authority, "localhost"), authority)
    assert endpoint.service.actions == ["Create", "Delete"]


def test_https_to_a_port_that_speaks_none(
    endpoint: WinRmEndpoint, transport: WinRmTransport, tmp_path: Path
) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    host = windows(
        endpoint, ansible_winrm_scheme="https", ansible_winrm_ca_trust_path=str(tmp_path / "ca.pem")
    )
    with pytest.raises(UnreachableError, match="speaks no TLS"):
        transport.connect(host)


def test_a_ca_file_that_is_none(endpoint: WinRmEndpoint, transport: WinRmTransport, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    for path in ("ca.pem", "none.pem"):
        host = windows(
            endpoint, ansible_winrm_scheme="https", ansible_winrm_ca_trust_path=str(tmp_path / path)
        )
        with pytest.raises(UnreachableError, match="cannot be read"):
            transport.connect(host)


def test_ntlm_over_tls_is_bound_to_the_certificate(tmp_path: Path, transport: WinRmTransport) -> None:
    """Someone in the middle with a certificate that is trusted too gets a login that is of no use to them."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with WinRmEndpoint(tmp_path, Settings(certificate=kit.pem(authority, "localhost"))) as endpoint:
        assert endpoint._server is not None
        digest = b"tls-server-end-point:" + b"\0" * 32
        endpoint._server.bindings = type(endpoint._server.bindings)(application_data=digest)
        host = windows(
            endpoint, ansible_host="localhost", ansible_winrm_ca_trust_path=str(tmp_path / "ca.pem")
        )
        with pytest.raises(AuthFailedError):
            transport.connect(host)


# --- login ---


def test_a_wrong_password_is_tried_once(endpoint: WinRmEndpoint, transport: WinRmTransport) -> None:
    with pytest.raises(AuthFailedError, match=r"win1: the host refused the account LAB\\svc-ops"):
        transport.connect(windows(endpoint, lamplighter_winrm_password="test:wrong"))
    proofs = [request for request in endpoint.arrived if b"NTLMSSP\0\3" in token(request.headers)]
    assert len(proofs) == 1
    assert endpoint.service.actions == []


def token(headers: object) -> bytes:
    return base64.b64decode(dict(headers).get("Authorization", "Negotiate ").split(" ", 1)[1])  # type: ignore[call-overload]


@pytest.mark.parametrize("auth", ["ntlm", "basic"])
def test_a_wrong_password_is_offered_to_few_hosts_however_many_there_are(
    tmp_path: Path, transport: WinRmTransport, auth: str
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    settings = Settings(certificate=kit.pem(authority, "localhost"), basic=auth == "basic")
    asked: dict[str, object] = {
        "ansible_host": "localhost",
        "ansible_winrm_ca_trust_path": str(tmp_path / "ca.pem"),
        "ansible_winrm_transport": auth,
        "ansible_user": kit.USER if auth == "basic" else f"{kit.DOMAIN}\\{kit.USER}",
    }

    def one(number: int) -> str:
        host = windows(endpoint, f"win{number}", **asked, lamplighter_winrm_password="test:wrong")
        with pytest.raises(AuthFailedError) as caught:
            transport.connect(host)
        return str(caught.value)

    with WinRmEndpoint(tmp_path, settings) as endpoint:
        with ThreadPoolExecutor(20) as pool:
            said = list(pool.map(one, range(40)))
        assert sum("the host refused the account" in text for text in said) == 3
        assert sum("3 hosts refused" in text and "is not locked" in text for text in said) == 37
        proofs = {"ntlm": b"NTLMSSP\0\3", "basic": b"wrong-"}[auth]
        assert sum(proofs in token(request.headers) for request in endpoint.arrived) == 3
        transport.connect(windows(endpoint, **asked)).close()  # another password is another matter


def test_a_password_that_was_taken_once_is_offered_to_all(
    endpoint: WinRmEndpoint, transport: WinRmTransport
) -> None:
    transport.connect(windows(endpoint)).close()
    endpoint.trouble["login"] = trouble.status(401)
    for number in range(5):
        with pytest.raises(AuthFailedError, match="refused the account"):
            transport.connect(windows(endpoint, f"win{number}"))


def test_an_account_that_may_not_use_winrm(endpoint: WinRmEndpoint, transport: WinRmTransport) -> None:
    with pytest.raises(AuthFailedError, match="does not let it in"):
        transport.connect(windows(endpoint, ansible_user="LAB\\outsider"))


def test_a_host_that_lets_anybody_in_is_not_trusted(
    endpoint: WinRmEndpoint, transport: WinRmTransport
) -> None:
    endpoint.trouble["login"] = trouble.status(200)
    with pytest.raises(AuthFailedError, match="did not prove that it knows the account"):
        transport.connect(windows(endpoint))
    assert endpoint.service.actions == []


def test_a_host_that_never_lets_us_in(endpoint: WinRmEndpoint, transport: WinRmTransport) -> None:
    endpoint.trouble["login"] = lambda to, _: to.put(Answer(401, {"WWW-Authenticate": "Negotiate"}, b""))
    with pytest.raises(AuthFailedError, match="refused the account"):
        transport.connect(windows(endpoint))
    assert len(endpoint.arrived) == 1


def test_a_host_that_asks_for_another_way_in(endpoint: WinRmEndpoint, transport: WinRmTransport) -> None:
    endpoint.trouble["login"] = lambda to, _: to.put(
        Answer(401, {"WWW-Authenticate": 'Basic realm="x"'}, b"")
    )
    with pytest.raises(AuthFailedError, match="does not offer ntlm, but: Basic"):
        transport.connect(windows(endpoint))
    assert not [
        request for request in endpoint.arrived if "Basic" in request.headers.get("Authorization", "")
    ]


@pytest.mark.parametrize("seed", range(40))
def test_mangled_tokens_end_in_a_plain_error(
    endpoint: WinRmEndpoint, transport: WinRmTransport, seed: int
) -> None:
    dice = random.Random(seed)  # noqa: S311 - reproducible, not secret

    def mangle(to: Connection, answer: Answer) -> None:
        scheme, _, text = answer.headers.get("WWW-Authenticate", "Negotiate ").partition(" ")
        data = bytearray(base64.b64decode(text) or dice.randbytes(40))
        for _ in range(dice.randint(1, 8)):
            data[dice.randrange(8, len(data))] = dice.randrange(256)
        data = data[: dice.choice([len(data), dice.randrange(len(data))])]
        to.put(Answer(401, {"WWW-Authenticate": f"{scheme} {base64.b64encode(data).decode()}"}, b""))

    endpoint.trouble["login"] = mangle
    with pytest.raises(AuthFailedError):
        transport.connect(windows(endpoint))


def test_kerberos_that_is_not_installed_is_told(endpoint: WinRmEndpoint, transport: WinRmTransport) -> None:
    host = windows(endpoint, ansible_host="localhost", ansible_winrm_transport="kerberos")
    with pytest.raises(AuthFailedError, match=r"Kerberos is not installed|kerberos failed"):
        transport.connect(host)
    assert endpoint.arrived == []
