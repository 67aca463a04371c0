"""Old TLS, and ciphers that protect nothing: refused before a secret goes out, by each transport with TLS."""

import contextlib
import socket
import ssl
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from lamplighter.errors import LamplighterError, UnreachableError
from lamplighter.secrets import Secret
from lamplighter.transports import ldap
from lamplighter.transports.s3 import Bucket
from lamplighter.transports.s3_values import S3Settings
from lamplighter.transports.winrm import WinRmTransport
from tests import ldapkit, winrmkit
from tests.lab.pki import Ca

OFFERS = {
    "tls1": (ssl.TLSVersion.TLSv1, "ALL:@SECLEVEL=0"),
    "tls1.1": (ssl.TLSVersion.TLSv1_1, "ALL:@SECLEVEL=0"),
    "no-encryption": (ssl.TLSVersion.TLSv1_2, "eNULL:!aNULL:@SECLEVEL=0"),
    "no-certificate": (ssl.TLSVersion.TLSv1_2, "aNULL:!eNULL:@SECLEVEL=0"),
}


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Ca:
    return Ca(tmp_path_factory.mktemp("ca"))


@pytest.fixture(autouse=True)
def _fresh_breaker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ldap, "_breaker", ldap._Breaker())


@contextmanager
def offering(ca: Ca, version: ssl.TLSVersion, ciphers: str) -> Iterator[tuple[int, bytearray]]:
    """A listener that speaks one version of TLS and hangs up after a first message; and what it read."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version
    context.set_ciphers(ciphers)
    context.load_cert_chain(*ca.issue("127.0.0.1", ldapkit.NAME))
    read = bytearray()

    def serve(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):  # until the test closes it
            while True:
                link, _ = listener.accept()
                link.settimeout(5)
                with link, contextlib.suppress(OSError), context.wrap_socket(link, server_side=True) as tls:
                    read.extend(tls.recv(4096))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        try:
            yield listener.getsockname()[1], read
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def by_ldap(ca: Ca, port: int) -> None:
    with ldapkit.transport(ca, port) as directory:
        directory.connect()


def by_winrm(ca: Ca, port: int) -> None:
    host = winrmkit.windows(
        None, ansible_host="127.0.0.1", ansible_port=port, ansible_winrm_scheme="https",
        ansible_winrm_ca_trust_path=str(ca.path),
    )  # fmt: skip
    with WinRmTransport(winrmkit.secret) as transport:
        transport.connect(host)


def by_s3(ca: Ca, port: int) -> None:
    place = S3Settings(
        "b", f"https://127.0.0.1:{port}", access_key="env:A", secret_key="env:B", ca=str(ca.path), tries=1
    )
    with contextlib.closing(Bucket(place, lambda reference: Secret("canary-s3-4711", reference))) as bucket:
        bucket.get("a")


by_each = pytest.mark.parametrize("ask", [by_ldap, by_winrm, by_s3])


@by_each
@pytest.mark.parametrize("offer", OFFERS)
def test_a_downgrade_is_refused(ca: Ca, ask: Callable[[Ca, int], None], offer: str) -> None:
    with offering(ca, *OFFERS[offer]) as (port, read):
        with pytest.raises(UnreachableError):
            ask(ca, port)
        assert not read


@by_each
def test_the_same_listener_is_spoken_to_over_tls_1_2(ca: Ca, ask: Callable[[Ca, int], None]) -> None:
    """Else the test above would pass with a listener that nobody can speak to."""
    with offering(ca, ssl.TLSVersion.TLSv1_2, "DEFAULT") as (port, read):
        with pytest.raises(LamplighterError):  # it hangs up
            ask(ca, port)
        assert read
