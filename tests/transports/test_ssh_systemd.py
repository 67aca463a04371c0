"""Detached units where systemd is the first process, and logind ends what a login leaves behind."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator

import pytest

from lamplighter.errors import RefusedError, RemoteFailedError
from lamplighter.model.session import UnitState
from lamplighter.transports.ssh import SshTransport
from lamplighter.transports.ssh_session import SshSession
from tests.lab.estate import Estate
from tests.lab.spec import HostSpec
from tests.transports.conftest import lab_host

pytestmark = pytest.mark.lab

SLEEP = 'cat /proc/self/cgroup; sleep "$1"; echo woke'


@pytest.fixture(scope="module")
def modern(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    folder = tmp_path_factory.mktemp("systemd") / "state"
    with Estate(f"systemd-{os.getpid()}", [HostSpec("modern", systemd=True)], folder) as estate:
        yield estate


@pytest.fixture
def session(modern: Estate) -> Iterator[SshSession]:
    with SshTransport(modern.known_hosts) as transport:
        yield transport.connect(lab_host(modern, "modern"))


@pytest.fixture
def unit() -> str:
    return f"u-{uuid.uuid4().hex[:12]}"


def log_out(modern: Estate) -> None:
    """End every login, and wait until logind has ended what they left."""
    modern["modern"].kill_sessions()
    deadline = time.monotonic() + 20
    while modern["modern"].exec("loginctl list-sessions --no-legend").stdout.strip():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_unit_of_the_system_survives_the_login_that_started_it(
    modern: Estate, session: SshSession, unit: str
) -> None:
    session.launch(unit, SLEEP, "3", sudo=True)
    log_out(modern)
    with SshTransport(modern.known_hosts) as transport:
        done = transport.connect(lab_host(modern, "modern")).wait(unit, sudo=True, timeout=30)
    assert done.exit_code == 0
    assert f"/system.slice/lamplighter-{unit}-1.service" in done.stdout
    assert done.stdout.endswith("woke\n")
    left = modern["modern"].exec(["systemctl", "list-units", "--all", "--no-legend", "lamplighter-*"])
    assert left.stdout.strip() == "", "its unit is collected when it has ended"


def test_a_unit_that_logind_would_end_with_the_login_is_not_begun(session: SshSession, unit: str) -> None:
    with pytest.raises(RefusedError, match="KillUserProcesses=yes"):
        session.ready()
    with pytest.raises(RemoteFailedError, match=r"KillUserProcesses=yes.*Nothing was started"):
        session.launch(unit, SLEEP, "60")
    assert session.unit_state(unit) is UnitState.ABSENT
    session.ready(sudo=True)


def test_where_logind_leaves_processes_alone_it_is(modern: Estate, session: SshSession, unit: str) -> None:
    conf = "/etc/systemd/logind.conf.d/lab.conf"
    modern["modern"].exec(f"sed -i s/=yes/=no/ {conf}; systemctl restart systemd-logind")
    try:
        session.launch(unit, SLEEP, "3")
        log_out(modern)
        with SshTransport(modern.known_hosts) as transport:
            done = transport.connect(lab_host(modern, "modern")).wait(unit, timeout=30)
        assert done.stdout.endswith("woke\n")
    finally:
        modern["modern"].exec(f"sed -i s/=no/=yes/ {conf}; systemctl restart systemd-logind")


def test_a_systemd_run_that_fails_is_told_with_its_words(
    modern: Estate, session: SshSession, unit: str
) -> None:
    """It is there and does not work: the unit is not begun in the login instead, where it would be killed."""
    lab, real = modern["modern"], "/usr/bin/systemd-run"
    lab.exec(f"mv {real} {real}.away")
    lab.write(real, "#!/bin/sh\necho the bus is broken >&2; exit 1\n", "755")
    try:
        with pytest.raises(RemoteFailedError, match=r"the bus is broken.*Nothing was started"):
            session.launch(unit, SLEEP, "0", sudo=True)
        assert session.unit_state(unit, sudo=True) is UnitState.ABSENT
        lab.exec(["rm", real])
        with pytest.raises(RefusedError, match="systemd-run is not to be had"):
            session.ready(sudo=True)
    finally:
        lab.exec(f"mv {real}.away {real}")
    session.launch(unit, SLEEP, "0", sudo=True)
    assert session.wait(unit, sudo=True, timeout=20).exit_code == 0


def test_what_a_unit_leaves_running_is_not_killed_with_it(session: SshSession, unit: str) -> None:
    """apt restarts services from its hooks; those that are no units of their own must live on."""
    session.launch(unit, "sleep 30 >/dev/null 2>&1 & echo $!", sudo=True)
    done = session.wait(unit, sudo=True, timeout=20)
    assert session.run(f"kill -0 {done.stdout.strip()}", sudo=True).exit_code == 0
