"""WinRM against an endpoint that is strict about login, seals and deadlines."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import trustme
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lamplighter.errors import (
    OutputTooLargeError,
    RefusedError,
    RemoteFailedError,
    SessionLostError,
    TimedOutError,
)
from lamplighter.model.powershell import PowerShellScript
from lamplighter.transports.winrm import WinRmTransport
from lamplighter.transports.winrm_session import WinRmSession
from tasks import powershell
from tests import winrmkit as kit
from tests.lab.winrm_commands import Act, alive
from tests.lab.winrm_endpoint import Settings, WinRmEndpoint
from tests.winrmkit import ECHO, OTHER_CANARY, answering, stand_in, windows, within


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[WinRmEndpoint]:
    with WinRmEndpoint(tmp_path) as endpoint:
        yield endpoint
        assert endpoint.running == 0, "a command leaked"


@pytest.fixture
def transport() -> Iterator[WinRmTransport]:
    with WinRmTransport(kit.secret) as transport:
        yield transport


@pytest.fixture
def session(endpoint: WinRmEndpoint, transport: WinRmTransport) -> Iterator[WinRmSession]:
    session = transport.connect(windows(endpoint))
    yield session
    session.close()
    assert endpoint.service.shells == {}, "a shell leaked"


# --- programs ---


def test_output_errors_and_exit_code_arrive(session: WinRmSession) -> None:
    raw = session.execute("echo out; echo err >&2; exit 7")
    assert (raw.code, raw.out, raw.err) == (7, b"out\n", b"err\n")


def test_standard_input_arrives_whole(session: WinRmSession) -> None:
    data = os.urandom(300_000)
    assert session.execute("cat", stdin=data, cap=400_000).out == data
    assert session.execute("cat", stdin=b"").out == b""


def test_a_session_runs_one_command_after_another(session: WinRmSession, endpoint: WinRmEndpoint) -> None:
    for number in range(3):
        assert session.execute(f"echo {number}").out == f"{number}\n".encode()
        assert endpoint.running == 0
    assert endpoint.service.actions.count("Create") == 1


def test_a_command_that_reads_nothing_still_answers(session: WinRmSession) -> None:
    raw = session.execute("exec 0<&-; echo gone >&2; exit 9", stdin=b"x" * 500_000)
    assert (raw.code, raw.err) == (9, b"gone\n")


def test_a_long_command_is_waited_for(endpoint: WinRmEndpoint, transport: WinRmTransport) -> None:
    session = transport.connect(windows(endpoint, ansible_winrm_operation_timeout_sec=1))
    assert session.execute("sleep 2.2; echo late").out == b"late\n"
    assert endpoint.service.actions.count("Receive") >= 3


def test_everything_on_http_is_sealed(session: WinRmSession, endpoint: WinRmEndpoint) -> None:
    session.execute("echo a-word-to-look-for")
    assert len(endpoint.arrived) > 5
    for request in endpoint.arrived:
        if request.body:
            assert request.headers["Content-Type"].startswith("multipart/encrypted")
        assert b"a-word-to-look-for" not in request.body
        assert kit.CANARY.encode() not in request.body


def test_an_idle_connection_that_was_closed_is_made_anew(
    session: WinRmSession, endpoint: WinRmEndpoint
) -> None:
    session.execute("true")
    session._channel._link.close()
    assert session.execute("echo again").out == b"again\n"
    assert endpoint.service.actions.count("Create") == 1


def test_many_sessions_at_once(endpoint: WinRmEndpoint, transport: WinRmTransport) -> None:
    def one(number: int) -> bytes:
        session = transport.connect(windows(endpoint, f"win{number}"))
        return session.execute(f"echo {number}").out

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(one, range(40))) == [f"{number}\n".encode() for number in range(40)]
    transport.close()
    assert endpoint.service.shells == {}


def test_ipv6(tmp_path: Path, transport: WinRmTransport) -> None:
    with WinRmEndpoint(tmp_path, address="::1") as endpoint:
        session = transport.connect(windows(endpoint))
        assert session.execute("echo six").out == b"six\n"
        assert endpoint.arrived[-1].headers["Host"] == f"[::1]:{endpoint.port}"


@pytest.mark.parametrize("auth", ["ntlm", "basic"])
def test_https_with_the_pinned_authority(tmp_path: Path, transport: WinRmTransport, auth: str) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    tls = Settings(certificate=kit.pem(authority, "localhost"), basic=auth == "basic")
    with WinRmEndpoint(tmp_path, tls) as endpoint:
        host = windows(
            endpoint,
            ansible_host="localhost",
            ansible_winrm_ca_trust_path=str(tmp_path / "ca.pem"),
            ansible_winrm_transport=auth,
            ansible_user=kit.USER if auth == "basic" else f"{kit.DOMAIN}\\{kit.USER}",
        )
        session = transport.connect(host)
        assert session.execute("echo tls").out == b"tls\n"
        session.close()
        assert endpoint.service.shells == {}


# --- deadlines, caps, cleaning up ---


def test_a_command_ends_at_its_deadline(
    session: WinRmSession, endpoint: WinRmEndpoint, tmp_path: Path
) -> None:
    pid = tmp_path / "pid"
    with within(3.5, at_least=1.5), pytest.raises(TimedOutError, match=r"win1: .* within 1\.5 s"):
        session.execute(f"echo $$ > {pid}; exec sleep 600", timeout=1.5)
    assert not alive(int(pid.read_text()))
    assert endpoint.running == 0


def test_output_has_a_cap_on_each_stream(session: WinRmSession, endpoint: WinRmEndpoint) -> None:
    for stream in ("", " >&2"):
        with within(10), pytest.raises(OutputTooLargeError, match="more than 100000 bytes"):
            session.execute(f"yes{stream}", cap=100_000)
        assert endpoint.running == 0
    assert session.execute("echo usable").out == b"usable\n"


def test_a_flood_on_one_stream_does_not_starve_the_other(session: WinRmSession) -> None:
    raw = session.execute("head -c 5000000 /dev/zero >&2; echo done", cap=6_000_000)
    assert (len(raw.err), raw.out) == (5_000_000, b"done\n")


def test_an_interrupt_ends_command_and_shell(
    endpoint: WinRmEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with WinRmTransport(kit.secret) as transport:
        session = transport.connect(windows(endpoint))
        monkeypatch.setattr(session._shell, "receive", interrupted)
        with pytest.raises(KeyboardInterrupt):
            session.execute("sleep 600")
        assert endpoint.running == 0
    assert endpoint.service.shells == {}


def test_closing_twice_is_harmless_and_a_closed_session_runs_nothing(session: WinRmSession) -> None:
    session.close()
    session.close()
    with pytest.raises(SessionLostError, match="win1"):
        session.execute("true")


# --- PowerShell ---


def test_a_script_and_its_parameters_travel_as_data(session: WinRmSession, endpoint: WinRmEndpoint) -> None:
    seen: list[Any] = []

    def act(parameters: Any) -> Act:
        seen.append(parameters)
        return answering(text=parameters["Text"][::-1])

    stand_in(endpoint, ECHO, act)
    text = "'\"`$(Get-Date)\r\n%PATH% \u00e9\u4e2d\U0001f600\u2019; exit"
    result = session.invoke(ECHO, {"Text": text}, secrets={"Password": "test:other"})
    assert seen == [{"Text": text, "Password": OTHER_CANARY}]
    assert result.provenance == {"script": "Get-Echo", "digest": ECHO.digest}


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_arrives_as_it_is(session: WinRmSession, endpoint: WinRmEndpoint, text: str) -> None:
    seen: list[str] = []
    stand_in(endpoint, ECHO, lambda parameters: seen.append(parameters["Text"]) or answering(text="ok"))
    session.invoke(ECHO, {"Text": text})
    assert seen == [text]


def test_a_long_script_is_no_matter(session: WinRmSession, endpoint: WinRmEndpoint) -> None:
    long = PowerShellScript("Get-Long", "# " + "x" * 400_000, {"type": "object"}, {"type": "object"})
    stand_in(endpoint, long, answering(size=1))
    assert session.invoke(long).output == {"size": 1}
    with pytest.raises(RefusedError, match="larger than"):
        session.invoke(PowerShellScript("Get-Longer", "x" * 1_100_000))


@pytest.mark.parametrize("name", powershell.names())
def test_the_actions_travel(session: WinRmSession, endpoint: WinRmEndpoint, name: str) -> None:
    action = powershell.load(name)
    stand_in(
        endpoint, action, Act(error={"message": "asked for too much", "type": "T", "id": "I", "line": 3})
    )
    params = {"LastBoot": "2026-01-02T03:04:05Z"} if name == "Restart-WindowsHost" else {}
    with pytest.raises(RemoteFailedError, match=f"win1: {name} failed: asked for too much") as caught:
        session.invoke(action, params)
    assert caught.value.data == {"script": name, "digest": action.digest, "type": "T", "id": "I", "line": 3}


@pytest.mark.parametrize(
    ("params", "secrets", "mistake"),
    [
        ({"Txt": "a"}, {}, "additionalProperties"),
        ({"Text": 5}, {}, "Text violates type: string"),
        ({"Password": OTHER_CANARY}, {}, "Password is a secret and goes in as a reference"),
        ({}, {"Text": "test:other"}, "Text is not declared as a secret"),
    ],
)
def test_parameters_the_script_does_not_take_are_refused(
    session: WinRmSession, endpoint: WinRmEndpoint, params: Any, secrets: Any, mistake: str
) -> None:
    with pytest.raises(RefusedError, match=mistake) as caught:
        session.invoke(ECHO, params, secrets=secrets)
    assert "Command" not in endpoint.service.actions
    assert OTHER_CANARY not in str(caught.value)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (Act(output="[]"), "another shape"),
        (Act(output='{"text": 5}'), "text violates type"),
        (Act(output='{"text": "a", "extra": 1}'), "additionalProperties"),
        (Act(output='{"text": "a", "count": 1.5}'), "not one JSON object of strings and integers"),
        (Act(output="no json"), "not one JSON object"),
        (Act(output="[" * 5000), "not one JSON object"),
        (Act(framed=False, stderr=b"it is broken"), "exit code 0 and no answer: it is broken"),
        (Act(framed=False, code=0xC0000409), "exit code 3221226505 and no answer"),
        (Act(output='{"text": "a"}', code=3), "failed"),
    ],
)
def test_answers_that_are_none_are_refused(
    session: WinRmSession, endpoint: WinRmEndpoint, act: Act, message: str
) -> None:
    stand_in(endpoint, ECHO, act)
    with pytest.raises(RemoteFailedError, match=message):
        session.invoke(ECHO)


def test_chatter_is_kept_apart_from_the_answer(session: WinRmSession, endpoint: WinRmEndpoint) -> None:
    chatter = "WARNING: \x1b[31mred\x1b[0m \u202eevil\x00".encode() + b"\xff\n"
    clixml = (
        b'#< CLIXML\r\n<Objs Version="1.1.0.1" xmlns="http://schemas.microsoft.com/powershell/2004/04">'
        b'<Obj S="progress" RefId="0"><TN RefId="0"><T>x</T></TN></Obj>'
        b'<S S="Error">It broke_x000D__x000A_</S></Objs>'
    )
    stand_in(endpoint, ECHO, Act(output='{"text": "\\u001b[1mbold"}', before=chatter, stderr=clixml))
    result = session.invoke(ECHO)
    assert result.output == {"text": "bold"}
    assert result.notes == "WARNING: red evil\ufffd"
    assert result.errors.strip() == "It broke"


def test_a_script_may_take_its_time(endpoint: WinRmEndpoint, transport: WinRmTransport) -> None:
    session = transport.connect(windows(endpoint, ansible_winrm_operation_timeout_sec=1))
    stand_in(endpoint, ECHO, Act(output='{"text": "slow"}', seconds=1.5))
    result = session.invoke(ECHO)
    assert result.output == {"text": "slow"}
    assert result.seconds >= 1.5
    stand_in(endpoint, ECHO, Act(seconds=600))
    with within(3), pytest.raises(TimedOutError):
        session.invoke(ECHO, timeout=1)


# --- secrets ---


def test_no_secret_is_told(
    endpoint: WinRmEndpoint, transport: WinRmTransport, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    session = transport.connect(windows(endpoint))
    lines: list[bytes] = []

    def act(parameters: Any) -> Act:
        lines.extend(path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline"))
        slip = parameters["Password"]
        return Act(error={"message": f"cannot use {slip}"}, stderr=slip.encode(), before=slip.encode())

    stand_in(endpoint, ECHO, act)
    with pytest.raises(RemoteFailedError, match=r"cannot use \*\*\*\*") as failed:
        session.invoke(ECHO, secrets={"Password": "test:other"})
    stand_in(endpoint, ECHO, lambda parameters: answering(text=f"<{parameters['Password']}>"))
    result = session.invoke(ECHO, secrets={"Password": "test:other"})
    with pytest.raises(Exception, match="refused the account") as refused:
        transport.connect(windows(endpoint, lamplighter_winrm_password="test:wrong"))
    told = [repr(session), repr(transport), repr(session._channel), repr(result), caplog.text]
    for error in (failed.value, refused.value):
        told += [str(error), repr(error), json.dumps(dict(error.data)), repr(error.__cause__)]
    for canary in (OTHER_CANARY, kit.CANARY):
        assert not [text for text in told if canary in text]
        assert not [line for line in lines if canary.encode() in line]
    assert lines
    assert "NTLM" not in caplog.text


def test_the_request_carries_no_secret_in_clear(session: WinRmSession, endpoint: WinRmEndpoint) -> None:
    stand_in(endpoint, ECHO, answering(text="x"))
    session.invoke(ECHO, secrets={"Password": "test:other"})
    arrived = b"".join(request.body + str(request.headers).encode() for request in endpoint.arrived)
    assert OTHER_CANARY.encode() not in arrived
    assert kit.CANARY.encode() not in arrived


def test_threads_end_with_their_sessions(endpoint: WinRmEndpoint) -> None:
    before = set(threading.enumerate())
    with WinRmTransport(kit.secret) as transport:
        transport.connect(windows(endpoint)).execute("true")
    ours = {thread for thread in set(threading.enumerate()) - before if "winrm" in thread.name.lower()}
    assert ours == set()
