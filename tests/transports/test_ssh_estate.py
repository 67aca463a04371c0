"""Sudo, freezing, cut cables and reboots, on real hosts."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lamplighter.errors import (
    HostKeyError,
    SessionLostError,
    SudoRefusedError,
    TimedOutError,
    UnreachableError,
)
from lamplighter.model.session import Session
from lamplighter.transports.ssh import SshTransport
from tests.lab.estate import Estate
from tests.lab.spec import OPSPW_PASSWORD
from tests.transports.conftest import Open, lab_host

pytestmark = pytest.mark.lab


@pytest.fixture
def sudo_password(tmp_path: Path) -> str:
    path = tmp_path / "sudo"
    path.write_text(f"{OPSPW_PASSWORD}\n")
    path.chmod(0o600)
    return f"file:{path}"


@pytest.fixture
def thawed(estate: Estate) -> Iterator[None]:
    yield
    estate["alpha"].thaw()
    estate["alpha"].link_up()


# sudo


def test_without_sudo_and_with(enter: Open) -> None:
    session = enter()
    assert isinstance(session, Session)
    assert session.run("id -un").stdout == "ops\n"
    done = session.run('id -un; echo "$1" >&2; exit 3', "arg", sudo=True)
    assert (done.stdout, done.stderr, done.exit_code) == ("root\n", "arg\n", 3)


def test_root_needs_no_sudo(enter: Open) -> None:
    assert enter(user="root").run("id -un", sudo=True).stdout == "root\n"


def test_sudo_with_a_password(enter: Open, sudo_password: str) -> None:
    session = enter(user="opspw", lamplighter_sudo_password=sudo_password)
    for _ in range(2):
        done = session.run("id -un; cat; exit 4", sudo=True)
        assert (done.stdout, done.stderr, done.exit_code) == ("root\n", "", 4)
    session.put("/root/put", b"by root", mode=0o640, sudo=True)
    assert session.get("/root/put", sudo=True) == b"by root"
    assert session.run("stat -c '%U %a' /root/put; rm /root/put", sudo=True).stdout == "root 640\n"


def test_a_password_sudo_does_not_want_goes_nowhere(enter: Open, sudo_password: str) -> None:
    done = enter(lamplighter_sudo_password=sudo_password).run("cat; echo done", sudo=True)
    assert (done.stdout, done.stderr) == ("done\n", "")


def test_sudo_that_wants_a_password_and_has_none(enter: Open) -> None:
    with pytest.raises(SudoRefusedError, match="password is required") as caught:
        enter(user="opspw").run("touch /tmp/never", sudo=True)
    assert "lamplighter_sudo_password" in str(caught.value)
    assert enter(user="opspw").run("test -e /tmp/never").exit_code == 1


def test_a_wrong_password_is_offered_once(
    estate: Estate, enter: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LL_WRONG", "wrong-password")
    session = enter(user="opspw", lamplighter_sudo_password="env:LL_WRONG")
    with pytest.raises(SudoRefusedError, match="wrong"):
        session.run("touch /tmp/never", sudo=True)
    with pytest.raises(SudoRefusedError):
        session.launch("never", "touch /tmp/never", sudo=True)
    assert estate["alpha"].exec("test -e /tmp/never", check=False).returncode == 1
    assert session.run("id -un").stdout == "opspw\n"


def test_an_account_that_may_not_sudo(enter: Open, sudo_password: str) -> None:
    with pytest.raises(SudoRefusedError):
        enter(user="nosudo").run("id", sudo=True)
    monkey = enter(user="nosudo", lamplighter_sudo_password=sudo_password)
    with pytest.raises(SudoRefusedError):
        monkey.run("id", sudo=True)


def test_a_secret_that_cannot_be_read_is_a_refusal(enter: Open) -> None:
    with pytest.raises(SudoRefusedError, match="env:LL_NO_SUCH"):
        enter(user="opspw", lamplighter_sudo_password="env:LL_NO_SUCH").run("id", sudo=True)


def test_secrets_show_up_nowhere(
    estate: Estate, enter: Open, sudo_password: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    session = enter(user="opspw", lamplighter_sudo_password=sudo_password)
    look = "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ"
    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(lambda: [estate["alpha"].exec(look, check=False).stdout for _ in range(30)])
        while not watching.done():
            session.run("sleep 0.05", "arg-canary", sudo=True)
        seen = watching.result()
    assert any("sudo" in text for text in seen)
    for text in (*seen, caplog.text, repr(session), repr(session._settings)):
        assert OPSPW_PASSWORD not in text
        assert "arg-canary" not in text
    with pytest.raises(TimedOutError) as caught:
        session.run("sleep 9", sudo=True, timeout=0.3)
    assert OPSPW_PASSWORD not in "".join(traceback.format_exception(caught.value))


def test_a_password_of_two_lines_is_refused(enter: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LL_TWO", "one\ntwo")
    with pytest.raises(SudoRefusedError, match="one line") as caught:
        enter(user="opspw", lamplighter_sudo_password="env:LL_TWO").run("id", sudo=True)
    assert "two" not in str(caught.value)


# hosts that stop answering


@pytest.mark.usefixtures("thawed")
def test_a_frozen_host_is_noticed_by_the_deadline(estate: Estate, enter: Open) -> None:
    session = enter()
    session.run("true")
    estate["alpha"].freeze()
    for data in (b"", b"x" * 30_000_000):
        began = time.monotonic()
        with pytest.raises(SessionLostError):
            session.put("/tmp/big", data, timeout=1.5)
        assert 1.0 < time.monotonic() - began < 8.6


@pytest.mark.usefixtures("thawed")
def test_a_host_frozen_before_login(estate: Estate, enter: Open) -> None:
    estate["alpha"].freeze()
    began = time.monotonic()
    with pytest.raises(UnreachableError, match="in time"):
        enter(lamplighter_connect_timeout=1)
    assert time.monotonic() - began < 8


@pytest.mark.usefixtures("thawed")
def test_a_cut_cable(estate: Estate, enter: Open) -> None:
    session = enter()
    estate["alpha"].link_down()
    began = time.monotonic()
    with pytest.raises(TimedOutError, match="not answer"):
        session.run("true", timeout=1)
    with pytest.raises(UnreachableError, match="not answer"):
        enter(user="root", lamplighter_connect_timeout=1)
    assert time.monotonic() - began < 10


def test_a_killed_session_is_lost_and_runs_nothing_more(estate: Estate, enter: Open) -> None:
    session = enter()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(session.run, "sleep 30")
        time.sleep(0.3)
        estate["alpha"].kill_sessions()
        with pytest.raises(SessionLostError, match="broke"):
            running.result(timeout=5)
    with pytest.raises(SessionLostError, match="not sent"):
        session.run("true")
    assert enter().run("echo again").stdout == "again\n"
    assert enter() is not session


def test_a_changed_host_key(estate: Estate, enter: Open) -> None:
    host = estate["bravo"]
    assert enter("bravo").run("true").exit_code == 0
    old = host.host_key_line
    host.rekey()
    try:
        with SshTransport(estate.known_hosts) as fresh, pytest.raises(HostKeyError) as caught:
            fresh.connect(lab_host(estate, "bravo"))
        assert "changed" in str(caught.value)
        assert str(caught.value).count("SHA256:") == 2
        assert old != host.host_key_line
    finally:
        host.reset()


# reboots


def test_a_reboot_is_awaited(estate: Estate, enter: Open) -> None:
    session = enter("bravo")
    before = session.run("cat /proc/sys/kernel/random/boot_id").stdout.strip()
    session.launch("reboot", "sleep 0.2; reboot", sudo=True)
    after = session.await_boot(before, timeout=30)
    assert after != before
    assert after == estate["bravo"].boot_id()
    assert session.run("echo up").stdout == "up\n"
    assert session.unit_state("reboot", sudo=True) in {"lost", "finished"}  # reboot may return first


def test_a_reboot_that_never_comes(enter: Open) -> None:
    session = enter()
    boot = session.run("cat /proc/sys/kernel/random/boot_id").stdout.strip()
    began = time.monotonic()
    with pytest.raises(TimedOutError, match="same boot"):
        session.await_boot(boot, timeout=1)
    assert time.monotonic() - began < 8
