"""Commands and files over SSH, against OpenSSH on loopback."""

from __future__ import annotations

import base64
import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lamplighter.errors import (
    OutputTooLargeError,
    RefusedError,
    RemoteFailedError,
    SessionLostError,
    TimedOutError,
)
from lamplighter.model.inventory import Host
from lamplighter.model.session import Session
from lamplighter.transports import ssh_session
from lamplighter.transports.ssh import SshTransport
from lamplighter.transports.ssh_session import SshSession
from lamplighter.transports.ssh_wire import Wire
from tests.lab.fleet import WHO, Fleet
from tests.transports.conftest import fleet_host


@pytest.fixture
def transport(fleet: Fleet) -> Iterator[SshTransport]:
    with SshTransport(fleet.known_hosts) as transport:
        yield transport


@pytest.fixture
def session(fleet: Fleet, transport: SshTransport) -> SshSession:
    return transport.connect(fleet_host(fleet))


def test_it_is_a_session(session: SshSession) -> None:
    assert isinstance(session, Session)
    assert session.host == "host1"
    assert "host1" in repr(session)


def test_exit_codes_streams_and_arguments(session: SshSession) -> None:
    done = session.run('printf "%s|" "$@"; echo err >&2; exit 3', "a b", "'", "", "$HOME", "x\ny")
    assert (done.exit_code, done.stdout, done.stderr) == (3, "a b|'||$HOME|x\ny|", "err\n")
    assert 0 < done.seconds < 5
    assert not done.truncated


@pytest.mark.parametrize(("name", "code"), [("KILL", 137), ("TERM", 143), ("SEGV", 139)])
def test_a_signal_is_told_as_by_a_shell(session: SshSession, name: str, code: int) -> None:
    assert session.run(f"exec sh -c 'kill -{name} $$'").exit_code == code


def test_an_answer_whose_end_is_missing_is_none(session: SshSession) -> None:
    with pytest.raises(SessionLostError, match="broke off") as caught:
        session.run("echo half; kill -KILL $$")  # the shell around the script: nobody is left to mark the end
    assert "not known" in str(caught.value)
    assert session.run("echo next").stdout == "next\n"


def test_a_syntax_error_runs_nothing(session: SshSession, tmp_path: Path) -> None:
    done = session.run(f"touch {tmp_path}/mark\nif then")
    assert done.exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_text_is_marked_and_cleaned(session: SshSession) -> None:
    out, err = r"caf\351 \033[31mred\033[0m \342\200\256gpj.exe\r\n\000", r"\033]0;x\007"
    done = session.run(f"printf '{out}'; printf '{err}' >&2")
    assert (done.stdout, done.stderr) == ("caf\ufffd red gpj.exe\n", "")


# floods, caps, deadlines


def test_a_flood_on_standard_error_blocks_nothing(session: SshSession) -> None:
    done = session.run("head -c 5000000 /dev/zero | tr '\\0' e >&2; echo out", cap=6_000_000, timeout=20)
    assert len(done.stderr) == 5_000_000
    assert done.stdout == "out\n"


def test_both_streams_at_once(session: SshSession) -> None:
    script = "head -c 4000000 /dev/zero | tr '\\0' o & head -c 4000000 /dev/zero | tr '\\0' e >&2; wait"
    done = session.run(script, cap=5_000_000, timeout=20)
    assert (len(done.stdout), len(done.stderr)) == (4_000_000, 4_000_000)


def test_endless_output_ends_at_the_cap(session: SshSession) -> None:
    for script in ("yes", "yes >&2"):
        began = time.monotonic()
        with pytest.raises(OutputTooLargeError, match="100000 bytes"):
            session.run(script, cap=100_000)
        assert time.monotonic() - began < 9
    assert session.run("echo next").stdout == "next\n"


def test_the_cap_is_exact(session: SshSession) -> None:
    assert len(session.run("head -c 1000 /dev/zero | tr '\\0' x", cap=1000).stdout) == 1000
    with pytest.raises(OutputTooLargeError):
        session.run("head -c 1001 /dev/zero | tr '\\0' x", cap=1000)


@pytest.mark.parametrize("script", ["sleep 9", "while :; do echo; sleep 0.01; done", "yes", "sleep 9 & wait"])
def test_a_deadline_is_kept(session: SshSession, script: str) -> None:
    began = time.monotonic()
    with pytest.raises(TimedOutError) as caught:
        session.run(script, timeout=0.5, cap=10**10)
    assert 0.5 <= time.monotonic() - began < 7.5
    assert "host1: the command did not end within 0.5 s" in str(caught.value)
    assert "may still be running" in str(caught.value)
    assert session.run("echo next").stdout == "next\n"


def test_a_process_left_behind_does_not_hold_the_answer(session: SshSession) -> None:
    began = time.monotonic()
    assert session.run("sleep 5 & echo started").stdout == "started\n"
    assert time.monotonic() - began < 8


def test_a_long_script_and_long_arguments(session: SshSession) -> None:
    script = "".join(f": line {number} {'x' * 100}\n" for number in range(20_000))
    done = session.run(f'{script}echo "${{#1}}"', "y" * 1_000_000)
    assert done.stdout == "1000000\n"


def test_input_that_nobody_reads(session: SshSession) -> None:
    """The script is long, and its first line ends it."""
    done = session.run(f"exit 4\n# {'nothing more ' * 1_000_000}", timeout=20)
    assert done.exit_code == 4
    assert session.run("echo next").stdout == "next\n"


def test_much_in_and_much_out(session: SshSession) -> None:
    text = base64.b64encode(os.urandom(3_000_000)).decode()
    done = session.run('printf %s "$1"; printf %s "$1" >&2', text, timeout=30, cap=5_000_000)
    assert done.stdout == done.stderr == text


def test_a_script_starts_from_nothing(session: SshSession) -> None:
    names = {line.partition("=")[0] for line in session.run("env").stdout.splitlines()}
    ours = {"HOME", "USER", "LOGNAME", "SHELL", "LC_ALL", "LANGUAGE", "PATH"}
    assert names - {"PWD", "OLDPWD", "_"} == ours, "the last three a shell makes by itself"


def test_marks_in_what_is_printed_are_no_end(session: SshSession) -> None:
    done = session.run('set; printf "%s" "$ll_word"; exit 5')
    assert done.exit_code == 5
    assert "ll_word=" in done.stdout
    assert done.stdout.count("-end %s") >= 1, "the text itself was printed, and is not taken for the end"


def test_many_commands_on_one_connection(session: SshSession) -> None:
    for number in range(50):
        assert session.run('echo "$1"', str(number)).stdout == f"{number}\n"


# files


def test_files_both_ways(session: SshSession, tmp_path: Path) -> None:
    for data in (b"", b"text\n", os.urandom(3_000_000)):
        path = tmp_path / "a file's name"
        session.put(str(path), data, mode=0o640)
        assert path.read_bytes() == data
        assert path.stat().st_mode & 0o777 == 0o640
        assert session.get(str(path), cap=3_000_000) == data
    assert [path.name for path in tmp_path.iterdir()] == ["a file's name"]


def test_a_file_is_replaced_whole_or_not_at_all(session: SshSession, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("old")
    before = (tmp_path / "f").stat().st_ino
    session.put(str(tmp_path / "f"), b"new")
    assert (tmp_path / "f").stat().st_ino != before
    with pytest.raises(RemoteFailedError, match="could not be written"):
        session.put(str(tmp_path / "no" / "f"), b"new")
    args = (str(tmp_path / "f"), "600", "9")
    assert session.run(ssh_session._PUT, *args, base64.b64encode(b"cut short").decode()).exit_code == 0
    assert session.run(ssh_session._PUT, *args, base64.b64encode(b"cut").decode()).exit_code == 1
    assert (tmp_path / "f").read_text() == "cut short"
    assert len(list(tmp_path.iterdir())) == 1


def test_files_that_cannot_be_read(session: SshSession, tmp_path: Path) -> None:
    with pytest.raises(RemoteFailedError, match="No such file"):
        session.get(str(tmp_path / "missing"))
    with pytest.raises(OutputTooLargeError):
        session.get("/dev/zero", cap=1000)
    with pytest.raises(RemoteFailedError):
        session.get("-n")


# one connection per host


def test_a_connection_is_shared_and_outlives_its_sessions(fleet: Fleet, transport: SshTransport) -> None:
    first, second = transport.connect(fleet_host(fleet)), transport.connect(fleet_host(fleet))
    assert first._wire is second._wire
    first.close()
    first.close()
    with pytest.raises(SessionLostError, match="closed"):
        first.run("true")
    assert second.run("echo on").stdout == "on\n"
    third = transport.connect(fleet_host(fleet))
    assert third._wire is second._wire
    transport.close()
    with pytest.raises(SessionLostError, match="lost before"):
        third.run("true")
    second.close()


def test_a_session_closed_while_it_waits_stops_waiting(fleet: Fleet, transport: SshTransport) -> None:
    session = transport.connect(fleet_host(fleet))
    threading.Timer(0.2, session.close).start()
    with pytest.raises(SessionLostError, match="closed"):
        session.await_boot(Path("/proc/sys/kernel/random/boot_id").read_text().strip(), timeout=30)


def test_only_so_many_idle_connections_are_kept(fleet: Fleet) -> None:
    with SshTransport(fleet.known_hosts, keep=2) as transport:
        sessions = [transport.connect(fleet_host(fleet, number)) for number in range(5)]
        assert len(transport._wires) == 5
        for session in sessions[:4]:
            session.close()
        assert len(transport._wires) == 3
        assert sessions[4].run("echo on").stdout == "on\n"
        again = transport.connect(fleet_host(fleet, 0))
        assert again.run("echo back").stdout == "back\n"
        assert len(transport._wires) == 4
        sessions[4].close()
        assert again.run("echo on").stdout == "on\n"


def test_many_threads(fleet: Fleet, transport: SshTransport) -> None:
    def survey(number: int) -> str:
        session = transport.connect(fleet_host(fleet, number % len(fleet)))
        return session.run(WHO).stdout.strip()

    with ThreadPoolExecutor(24) as pool:
        names = list(pool.map(survey, range(48)))
    assert names == [fleet.hosts[number % len(fleet)].name for number in range(48)]
    assert len(transport._wires) == len(fleet)


def wires() -> int:
    return sum(isinstance(thread, Wire) for thread in threading.enumerate())


def settle(count: int) -> bool:
    for _ in range(100):
        if wires() == count:
            return True
        time.sleep(0.02)
    return False


def test_closing_is_quick_and_leaves_no_thread(fleet: Fleet) -> None:
    assert settle(0)
    transport = SshTransport(fleet.known_hosts)
    for number in range(len(fleet)):
        transport.connect(fleet_host(fleet, number))
    assert wires() == len(fleet)
    began = time.monotonic()
    transport.close()
    assert time.monotonic() - began < 6.5
    assert settle(0)
    transport.close()


def test_nothing_is_logged(
    fleet: Fleet, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    with SshTransport(fleet.known_hosts) as transport:
        transport.connect(fleet_host(fleet)).run("echo canary; echo canary >&2")
    assert "canary" not in caplog.text
    assert capfd.readouterr() == ("", "")


def test_nul_is_refused_before_anything_is_sent(session: SshSession) -> None:
    with pytest.raises(RefusedError):
        session.run("echo", "a\0b")


# slow lines


class Narrow:
    """A line of `rate` bytes a second from a host to whoever connects, with little room in it."""

    def __init__(self, address: str, port: int, rate: int) -> None:
        self._to, self._rate = (address, port), rate
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                threading.Thread(target=self._join, args=(near,), daemon=True).start()

    def _join(self, near: socket.socket) -> None:
        with near, socket.create_connection(self._to) as far:
            far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
            there = threading.Thread(target=self._carry, args=(near, far, 0.0), daemon=True)
            there.start()
            self._carry(far, near, 1 / self._rate)
            there.join()

    def _carry(self, one: socket.socket, other: socket.socket, seconds: float) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(8192):
                other.sendall(data)
                time.sleep(len(data) * seconds)
        for link in (one, other):
            with contextlib.suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)


def test_an_answer_is_whole_on_a_slow_line(fleet: Fleet, tmp_path: Path) -> None:
    """1.5 MB over 10 Mbit/s: the exit code overtakes what the command printed."""
    host = fleet_host(fleet)
    line = Narrow(host.vars["ansible_host"], host.vars["ansible_port"], 1_250_000)
    key = fleet.hosts[0].host_key_line.split(maxsplit=1)[1]
    (tmp_path / "known").write_text(f"[127.0.0.1]:{line.port} {key}\n")
    variables = {"ansible_host": "127.0.0.1", "ansible_port": line.port}
    try:
        with SshTransport(tmp_path / "known") as transport:
            session = transport.connect(Host(host.name, (), {**host.vars, **variables}))
            done = session.run("head -c 1500000 /dev/zero | tr '\\0' x; exit 6", timeout=60, cap=2_000_000)
    finally:
        line.close()
    assert (done.exit_code, len(done.stdout)) == (6, 1_500_000)
    assert done.seconds > 1
