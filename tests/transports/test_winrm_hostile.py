"""WinRM against hosts and networks that mean harm: each attack on a library's defaults, and more."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lamplighter.errors import (
    OutputTooLargeError,
    SessionLostError,
    TimedOutError,
    UnreachableError,
)
from lamplighter.transports import winrm_soap
from lamplighter.transports.winrm import WinRmTransport
from tests import winrmkit as kit
from tests.lab import winrm_trouble as trouble
from tests.lab.winrm_endpoint import WinRmEndpoint
from tests.lab.winrm_trouble import Answer, Connection
from tests.winrmkit import windows, within

SPREAD = b"<?xml version='1.0'?><!DOCTYPE x [<!ENTITY a 'aaaaaaaaaa'>%s]><x>&j;</x>" % b"".join(
    b"<!ENTITY %c '%s'>" % (98 + number, b"&%c;" % (97 + number) * 10) for number in range(9)
)

FAULT = (
    b'<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Body><s:Fault><s:Code><s:Value>s:Receiver'
    b'</s:Value></s:Code><s:Reason><s:Text>later</s:Text></s:Reason><s:Detail><f:WSManFault Code="%s" '
    b'xmlns:f="http://schemas.microsoft.com/wbem/wsman/1/wsmanfault"/></s:Detail></s:Fault></s:Body></s:Envelope>'
)


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[WinRmEndpoint]:
    with WinRmEndpoint(tmp_path) as endpoint:
        yield endpoint


@pytest.fixture
def transport() -> Iterator[WinRmTransport]:
    with WinRmTransport(kit.secret) as transport:
        yield transport


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host may be late by half a second only, so that tests of silence are short."""
    monkeypatch.setattr(winrm_soap, "GRACE", 0.5)


@pytest.fixture
def bystander() -> Iterator[tuple[int, list[bytes]]]:
    """A port nothing should ever arrive at, and what did."""
    arrived: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        stop = threading.Event()

        def listen() -> None:
            while not stop.is_set():
                try:
                    link, _ = server.accept()
                except TimeoutError:
                    continue
                with link:
                    arrived.append(b"connected")
                    link.settimeout(0.5)
                    arrived.append(link.recv(65536))

        thread = threading.Thread(target=listen)
        thread.start()
        yield int(server.getsockname()[1]), arrived
        stop.set()
        thread.join()


# --- nothing is sent where it must not go ---


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("action", ["login", "Create", "Command", "Send", "Receive"])
def test_a_redirect_delivers_nothing(
    endpoint: WinRmEndpoint,
    transport: WinRmTransport,
    bystander: tuple[int, list[bytes]],
    status: int,
    action: str,
) -> None:
    port, arrived = bystander
    endpoint.trouble[action] = trouble.redirect(f"http://user:pw@localhost:{port}/wsman", status)
    with pytest.raises(
        (UnreachableError, SessionLostError), match=f"redirect to localhost:{port}, which"
    ) as caught:
        transport.connect(windows(endpoint)).execute("cat", stdin=b"secret script")
    assert isinstance(caught.value, UnreachableError) == (action in {"login", "Create"})
    assert arrived == []


def test_the_environment_decides_nothing(
    endpoint: WinRmEndpoint, transport: WinRmTransport, bystander: tuple[int, list[bytes]],
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    port, arrived = bystander
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login other password other\n")
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
    monkeypatch.setenv("NETRC", str(netrc))
    assert transport.connect(windows(endpoint)).execute("echo direct").out == b"direct\n"
    assert arrived == []


def test_basic_without_tls_is_refused_before_anything_is_sent(
    transport: WinRmTransport, bystander: tuple[int, list[bytes]]
) -> None:
    host = windows(None, ansible_host="127.0.0.1", ansible_port=bystander[0],
                   ansible_winrm_scheme="http", ansible_winrm_transport="basic")  # fmt: skip
    with pytest.raises(UnreachableError, match="basic sends the password itself, so it goes over https only"):
        transport.connect(host)
    assert bystander[1] == []


@pytest.mark.parametrize(
    "address",
    [
        "good.corp@evil.corp", "good.corp/../", "good.corp#", "good.corp?x", "a\r\nHost: evil",
        "evil.corp\\@good", "", " ", "[::1]", "http://good.corp", "good.corp:80:90/",
    ],
)  # fmt: skip
def test_addresses_that_are_more_than_addresses_are_refused(transport: WinRmTransport, address: str) -> None:
    with pytest.raises(UnreachableError, match=r"ansible_host|cannot be reached|found no address"):
        transport.connect(windows(None, ansible_host=address, ansible_winrm_scheme="http"))


# --- answers that do harm ---

HARM: list[tuple[str, trouble.Trouble, str]] = [
    ("unsealed", trouble.unsealed, "with an unsealed one"),
    ("tampered", trouble.tampered, "seal of the host's answer is broken"),
    ("compressed", trouble.compressed, "answered compressed"),
    ("oversized", trouble.oversized, "larger than 614400 bytes"),
    ("entities", trouble.replaced(SPREAD), "built to do harm"),
    (
        "external entity",
        trouble.replaced(b'<!DOCTYPE x SYSTEM "http://127.0.0.1:1/x"><x/>'),
        "built to do harm",
    ),
    ("utf-16 entities", trouble.replaced(SPREAD.decode().encode("utf-16")), "built to do harm"),
    ("nested", trouble.replaced(b"<x>" * 100_000), "built to do harm"),
    ("no XML", trouble.replaced(b"\xff\xfe<Envelope"), "built to do harm"),
    ("no SOAP", trouble.replaced(b"<html/>"), "no SOAP envelope"),
    ("no fault code", trouble.replaced(FAULT % b"x", 500), "no WinRM answer"),
    ("empty", trouble.replaced(b" "), "built to do harm"),
    ("not found", trouble.status(404), "HTTP status 404"),
    ("plain error", trouble.status(500, b"<fault/>"), "with an unsealed one"),
    ("torn", trouble.torn, "connection broke"),
    ("no HTTP", lambda to, _: (to.raw(b"SSH-2.0-OpenSSH\r\n"), to.cut()), "connection broke"),  # type: ignore[dict-item,list-item]
    ("endless headers", lambda to, _: to.raw(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 500), "connection broke"),
]


@pytest.mark.parametrize("action", ["Create", "Receive"])
@pytest.mark.parametrize(("what", "harm", "message"), HARM, ids=[row[0] for row in HARM])
def test_answers_that_do_harm(
    endpoint: WinRmEndpoint,
    transport: WinRmTransport,
    what: str,
    harm: trouble.Trouble,
    message: str,
    action: str,
) -> None:
    endpoint.trouble[action] = harm
    with (
        within(5),
        pytest.raises((UnreachableError, SessionLostError, OutputTooLargeError), match=message) as caught,
    ):
        transport.connect(windows(endpoint)).execute("echo x; exec sleep 600")
    assert str(caught.value).startswith("win1: "), what
    if action == "Create":
        assert isinstance(caught.value, UnreachableError)
    else:
        assert "may still be running" in str(caught.value) or isinstance(caught.value, OutputTooLargeError)
        assert endpoint.running == 0, "the command leaked"


# --- hosts that do not answer ---


@pytest.mark.parametrize("how", [trouble.silent, trouble.trickling, trouble.stuck])
@pytest.mark.usefixtures("hurried")
def test_a_host_that_falls_silent_ends_at_the_deadline(
    endpoint: WinRmEndpoint, transport: WinRmTransport, how: trouble.Trouble
) -> None:
    session = transport.connect(windows(endpoint))
    endpoint.trouble["Receive"] = how
    with within(4, at_least=1), pytest.raises(TimedOutError, match="did not answer in time") as caught:
        session.execute("sleep 600", timeout=1)
    assert "may still be running" in str(caught.value)
    assert endpoint.running == 0, "the command leaked"


@pytest.mark.parametrize("action", ["login", "Create"])
@pytest.mark.usefixtures("hurried")
def test_a_host_that_is_silent_from_the_start(
    endpoint: WinRmEndpoint, transport: WinRmTransport, action: str
) -> None:
    endpoint.trouble[action] = trouble.silent
    with within(4), pytest.raises(UnreachableError, match="did not answer in time"):
        transport.connect(windows(endpoint, lamplighter_connect_timeout=1))


def test_not_yet_for_ever_ends_at_the_deadline(endpoint: WinRmEndpoint, transport: WinRmTransport) -> None:
    """A host that says "operation timeout" at once, again and again, is neither believed nor hammered."""

    def later(to: Connection, _answer: Answer) -> None:
        to.put(to.seal(Answer(500, {}, plain=FAULT % b"2150858793")))

    session = transport.connect(windows(endpoint, ansible_winrm_operation_timeout_sec=1))
    endpoint.trouble["Receive"] = later
    with within(5, at_least=2), pytest.raises(TimedOutError, match="did not end within 2 s"):
        session.execute("sleep 600", timeout=2)
    assert endpoint.service.actions.count("Receive") <= 5
    assert endpoint.running == 0


def test_a_host_that_forgot_the_shell(endpoint: WinRmEndpoint, transport: WinRmTransport) -> None:
    session = transport.connect(windows(endpoint))

    def forget() -> None:
        time.sleep(0.3)
        endpoint.service.close()

    thread = threading.Thread(target=forget)
    thread.start()
    with within(5), pytest.raises(SessionLostError, match="no longer knows the shell"):
        session.execute("sleep 2; echo x")
    thread.join()
    assert session.execute("echo anew").out == b"anew\n"
    session.close()
    with pytest.raises(SessionLostError, match="win1: the session is closed"):
        session.execute("true")


def test_a_lost_session_is_had_back_but_a_refused_login_is_not_repeated(
    endpoint: WinRmEndpoint, transport: WinRmTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = transport.connect(windows(endpoint))
    endpoint.trouble["Command"] = trouble.torn
    with pytest.raises(SessionLostError, match="connection broke"):
        session.execute("true")
    endpoint.trouble.clear()
    assert session.execute("echo anew").out == b"anew\n"
    endpoint.trouble["Command"] = trouble.torn
    with pytest.raises(SessionLostError):
        session.execute("true")
    monkeypatch.setattr(endpoint, "trouble", {"login": trouble.status(401)})
    before = len(endpoint.arrived)
    with pytest.raises(SessionLostError, match="cannot be had back"):
        session.execute("true")
    asked = len(endpoint.arrived) - before
    assert asked > 0
    with pytest.raises(SessionLostError, match="the session is closed"):
        session.execute("true")
    assert len(endpoint.arrived) == before + asked


def test_nobody_listens(transport: WinRmTransport) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    host = windows(None, ansible_host="127.0.0.1", ansible_port=port, ansible_winrm_scheme="http")
    with pytest.raises(UnreachableError, match=f"127.0.0.1 port {port} cannot be reached.*WinRM listener"):
        transport.connect(host)


@pytest.mark.parametrize("action", ["Command", "Send", "Receive", "Signal", "Delete"])
def test_nothing_leaks_whatever_breaks(endpoint: WinRmEndpoint, action: str) -> None:
    """One broken answer at any point: command and shell are gone when the transport is."""
    broken: list[str] = []

    def once(to: Connection, answer: Answer) -> None:
        if broken:
            to.put(to.seal(answer))
        else:
            broken.append(action)
            to.cut()

    with WinRmTransport(kit.secret) as transport:
        session = transport.connect(windows(endpoint))
        endpoint.trouble[action] = once
        with contextlib.suppress(SessionLostError):
            session.execute("cat; sleep 0.5", stdin=b"x", timeout=10)
    assert broken == [action]
    assert endpoint.service.shells == {}
