"""Logging in to a directory: to the right one, over TLS, once, and elsewhere only if this one is gone."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lamplighter.errors import (
    AuthFailedError,
    CertificateError,
    TimedOutError,
    UnreachableError,
)
from lamplighter.model.directory import replace
from lamplighter.secrets import Secret
from lamplighter.transports import ldap
from lamplighter.transports.ldap import LdapTransport
from lamplighter.transports.ldap_settings import LdapServer, Security, SimpleBind
from tests.lab import rogue_ldap as rogue
from tests.lab.pki import Ca
from tests.lab.rogue_ldap import RogueLdap
from tests.ldapkit import (
    DN,
    NAME,
    no_secret,
    settings,
    starttls,
    transport,
)

Pem = tuple[Path, Path]


@pytest.fixture(autouse=True)
def _fresh_breaker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ldap, "_breaker", ldap._Breaker())


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Ca:
    return Ca(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def pem(ca: Ca) -> Pem:
    return ca.issue(NAME)


def _other_ca(folder: Path) -> Pem:
    return Ca(folder, "Lab CA").issue(NAME)


def _other_name(folder: Path, ca: Ca) -> Pem:
    return ca.issue("dc2.lab.test", "127.0.0.1", file=f"{folder.name}-other")


def _expired(folder: Path, ca: Ca) -> Pem:
    return ca.issue(NAME, days=-2, file=f"{folder.name}-expired")


@pytest.mark.parametrize("security", Security)
@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda folder, _: _other_ca(folder), "unable to get local issuer|self.signed|signature failure"),
        (_other_name, "[Hh]ostname mismatch"),
        (_expired, "expired"),
    ],
)
def test_a_certificate_that_proves_nothing_gets_no_password(
    ca: Ca, tmp_path: Path, security: Security, make: Callable[[Path, Ca], Pem], why: str
) -> None:
    pem = make(tmp_path, ca)
    with RogueLdap(pem, starttls=security is Security.STARTTLS) as server, RogueLdap(pem) as spare:
        with transport(ca, server, spare, security=security) as directory:
            with pytest.raises(CertificateError, match=why) as caught:
                directory.connect()
            no_secret(caught.value)
        assert rogue.BIND not in server.seen
        assert spare.connections == 0, "another server was tried although this one is an impostor"


def test_a_server_that_speaks_plain_gets_no_password(ca: Ca) -> None:
    with RogueLdap() as server, transport(ca, server) as directory:
        with pytest.raises(UnreachableError, match="TLS"):
            directory.connect()
        assert rogue.BIND not in server.seen


def test_a_refused_starttls_is_not_worked_around(ca: Ca) -> None:
    answers = {rogue.EXTENDED: lambda n: (rogue.result(n, rogue.EXTENDED_DONE, 52, "no TLS here"),)}
    with RogueLdap(None, answers) as server:
        with starttls(ca, server) as directory, pytest.raises(UnreachableError, match="refuses StartTLS"):
            directory.connect()
        assert server.seen == [rogue.EXTENDED]


def test_what_is_slipped_in_before_tls_ends_the_connection(ca: Ca, pem: Pem) -> None:
    def answer(n: int) -> Iterator[bytes]:
        yield rogue.result(n, rogue.EXTENDED_DONE) + rogue.result(n + 1, rogue.BIND_DONE)

    with RogueLdap(pem, {rogue.EXTENDED: answer}, starttls=True) as server:
        with starttls(ca, server) as directory, pytest.raises(UnreachableError, match="StartTLS"):
            directory.connect()
        assert rogue.BIND not in server.seen


def test_a_server_that_never_begins_tls_hits_the_deadline(ca: Ca) -> None:
    mute = dict.fromkeys(range(256), lambda _: ())
    with RogueLdap(None, mute) as server, transport(ca, server, connect_timeout=0.4) as directory:
        began = time.monotonic()
        with pytest.raises(UnreachableError):
            directory.connect()
        assert time.monotonic() - began < 14


def _refuse(n: int) -> Iterator[bytes]:
    yield rogue.result(n, rogue.BIND_DONE, 49, "80090308: LdapErr: DSID-0C0903A9, data 52e, v3839")


def test_a_refused_login_is_never_tried_again_nor_elsewhere(ca: Ca, pem: Pem) -> None:
    with RogueLdap(pem, {rogue.BIND: _refuse}) as first, RogueLdap(pem) as second:
        refused = []

        def log_in() -> None:
            with transport(ca, first, second) as directory:
                try:
                    directory.connect()
                except AuthFailedError as error:
                    refused.append(error)

        threads = [threading.Thread(target=log_in) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(refused) == 12
        assert first.seen.count(rogue.BIND) == 1
        assert second.connections == 0
        assert all(error.data == {"refusal": "wrong-credentials"} for error in refused)


def test_another_password_is_another_login(ca: Ca, pem: Pem) -> None:
    words = iter(("wrong", "right"))
    with RogueLdap(pem, {rogue.BIND: _refuse}) as server:
        with LdapTransport(settings(ca, server), lambda _: Secret(next(words))) as directory:
            for _ in range(2):
                with pytest.raises(AuthFailedError):
                    directory.connect()
        assert server.seen.count(rogue.BIND) == 2


def test_a_login_without_an_answer_is_not_tried_elsewhere(ca: Ca, pem: Pem) -> None:
    with RogueLdap(pem, {rogue.BIND: lambda _: ()}) as first, RogueLdap(pem) as second:
        with transport(ca, first, second, connect_timeout=0.5) as directory, pytest.raises(TimedOutError):
            directory.connect()
        assert second.connections == 0


def test_a_server_that_is_down_is_passed_over(ca: Ca, pem: Pem) -> None:
    with RogueLdap(pem) as gone:
        port = gone.port
    with RogueLdap(pem) as second, transport(ca, port, second) as directory:
        directory.connect().modify(DN, replace("description", "x"))
        assert rogue.MODIFY in second.seen


def test_when_all_are_down_each_is_named(ca: Ca) -> None:
    with RogueLdap() as one, RogueLdap() as two:
        ports = (one.port, two.port)
    with transport(ca, *ports) as directory, pytest.raises(UnreachableError, match="no server") as caught:
        directory.connect()
    assert all(f"port {port}" in str(caught.value) for port in ports)


def test_a_connection_is_used_again_unless_something_is_wrong_with_it(ca: Ca, pem: Pem) -> None:
    with RogueLdap(pem) as server, transport(ca, server) as directory:
        for _ in range(3):
            session = directory.connect()
            session.modify(DN, replace("description", "x"))
            session.close()
        assert server.connections == 1
        server.drop()
        time.sleep(0.05)
        session = directory.connect()
        session.modify(DN, replace("description", "x"))
        assert server.connections == 2


@pytest.mark.parametrize(
    ("changes", "mistake"),
    [
        ({"servers": ()}, "no server"),
        ({"servers": (LdapServer("*"),)}, "host name"),
        ({"servers": (LdapServer("127.0.0.1", name="*.lab.test"),)}, "single name"),
        ({"servers": (LdapServer("127.0.0.1", port=70000),)}, "port"),
        ({"base": ""}, "base DN"),
        ({"base": "not a dn"}, "no DN"),
        ({"timeout": 0}, "seconds"),
        ({"bind": SimpleBind(" ", "env:X")}, "nobody"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_anything_is_sent(
    ca: Ca, changes: dict[str, object], mistake: str
) -> None:
    with pytest.raises(UnreachableError, match=mistake):
        transport(ca, 636, **changes)
