"""Detached units on real hosts: begun at most once, whatever breaks."""

from __future__ import annotations

import subprocess
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from lamplighter.errors import (
    RefusedError,
    RemoteFailedError,
    SessionLostError,
    TimedOutError,
    UnitExistsError,
)
from lamplighter.model.session import UnitState
from lamplighter.transports import ssh_detached
from lamplighter.transports.ssh import SshTransport
from lamplighter.transports.ssh_session import SshSession
from tests.lab.estate import Estate
from tests.transports.conftest import Open, lab_host

pytestmark = pytest.mark.lab

COUNT = 'echo started >>"/tmp/$1"; sleep "$2"; echo out; echo err >&2; exit 7'
BASE = "/var/lib/lamplighter/units"


@pytest.fixture
def unit() -> str:
    return f"u-{uuid.uuid4().hex[:12]}"


def starts(estate: Estate, unit: str, host: str = "alpha") -> int:
    return int(estate[host].exec(f"cat /tmp/{unit} 2>/dev/null | wc -l").stdout)


@pytest.mark.parametrize("sudo", [False, True])
def test_a_unit_from_launch_to_end(enter: Open, unit: str, sudo: bool) -> None:
    session = enter()
    session.launch(unit, COUNT + "; unreachable", unit, "0.4", sudo=sudo)
    assert session.unit_state(unit, sudo=sudo) is UnitState.RUNNING
    done = session.wait(unit, sudo=sudo, timeout=20)
    assert (done.exit_code, done.stdout, done.stderr, done.truncated) == (7, "out\n", "err\n", False)
    assert session.unit_state(unit, sudo=sudo) is UnitState.FINISHED
    with pytest.raises(UnitExistsError):
        session.launch(unit, COUNT, unit, "0", sudo=sudo)
    assert session.wait(unit, sudo=sudo, timeout=5).exit_code == 7


def test_who_runs_it_and_what_it_sees(enter: Open, unit: str) -> None:
    session = enter()
    session.launch(unit, 'id -un; echo "$LC_ALL $1"; cat; umask', "a 'b\nc", sudo=True)
    assert session.wait(unit, sudo=True, timeout=10).stdout == "root\nC.UTF-8 a 'b\nc\n0022\n"


def test_a_short_unit_is_seen_soon(enter: Open, unit: str) -> None:
    session = enter()
    began = time.monotonic()
    session.launch(unit, "sleep 0.2")
    session.wait(unit, timeout=10)
    assert time.monotonic() - began < 7.5


def test_fifty_racing_launches_start_it_once(estate: Estate, unit: str) -> None:
    results: Counter[str] = Counter()
    barrier = threading.Barrier(10)
    with SshTransport(estate.known_hosts) as one, SshTransport(estate.known_hosts) as two:
        sessions = [(one, two)[n % 2].connect(lab_host(estate)) for n in range(10)]

        def race(session: SshSession) -> None:
            barrier.wait()
            for _ in range(5):
                try:
                    session.launch(unit, COUNT, unit, "0.1", sudo=True)
                    results["started"] += 1
                except UnitExistsError:
                    results["refused"] += 1

        with ThreadPoolExecutor(10) as pool:
            list(pool.map(race, sessions))
        assert sessions[0].wait(unit, sudo=True, timeout=10).exit_code == 7
    assert results == {"started": 1, "refused": 49}
    assert starts(estate, unit) == 1


def test_launches_and_fences_race(estate: Estate, unit: str) -> None:
    """While some launch and others ask, the unit begins once, and only after every earlier fence."""
    results: Counter[str] = Counter()
    with SshTransport(estate.known_hosts) as transport:
        sessions = [transport.connect(lab_host(estate)) for _ in range(8)]

        def race(number: int) -> None:
            for _ in range(4):
                try:
                    if number % 2:
                        results[sessions[number].unit_state(unit, sudo=True)] += 1
                    else:
                        sessions[number].launch(unit, COUNT, unit, "0", sudo=True)
                        results["started"] += 1
                except UnitExistsError:
                    results["refused"] += 1
                except RemoteFailedError as error:  # a slow host, and each attempt was asked about too soon
                    if "fenced off" not in error.message:
                        raise
                    results["given up"] += 1

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(race, range(8)))
    assert results["started"] == starts(estate, unit)
    assert results["started"] <= 1


def test_it_survives_killed_connections_and_is_found_again(estate: Estate, enter: Open, unit: str) -> None:
    session = enter()
    session.launch(unit, COUNT, unit, "3", sudo=True)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(session.wait, unit, sudo=True, timeout=30)
        for _ in range(3):
            time.sleep(0.5)
            estate["alpha"].kill_sessions()
        assert waiting.result().exit_code == 7
    assert session.unit_state(unit, sudo=True) is UnitState.FINISHED
    assert session.run("echo on").stdout == "on\n"
    assert starts(estate, unit) == 1


def test_wait_outlasts_a_cut_cable(
    estate: Estate, enter: Open, unit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh_detached, "POLL", 1)
    monkeypatch.setattr(ssh_detached, "_SLACK", 0.5)
    session = enter(lamplighter_connect_timeout=1)
    session.launch(unit, COUNT, unit, "2", sudo=True)
    estate["alpha"].link_down()
    timer = threading.Timer(2.5, estate["alpha"].link_up)
    timer.start()
    assert session.wait(unit, sudo=True, timeout=30).exit_code == 7
    timer.join()


def test_wait_ends_at_its_deadline(enter: Open, unit: str) -> None:
    session = enter()
    session.launch(unit, "sleep 4")
    began = time.monotonic()
    with pytest.raises(TimedOutError):
        session.wait(unit, timeout=0.5)
    assert time.monotonic() - began < 7.6
    assert session.unit_state(unit) is UnitState.RUNNING
    assert session.wait(unit, timeout=10).exit_code == 0


def runner(estate: Estate, unit: str, attempt: int = 1) -> str:
    return estate["alpha"].exec(["readlink", f"{BASE}/{unit}/{attempt}/go"]).stdout.split(",")[0]


def test_a_killed_unit_is_lost(estate: Estate, enter: Open, unit: str) -> None:
    session = enter()
    session.launch(unit, COUNT, unit, "60", sudo=True)
    estate["alpha"].exec(f"kill -9 -{runner(estate, unit)}")
    assert session.unit_state(unit, sudo=True) is UnitState.LOST
    with pytest.raises(SessionLostError, match="without leaving an exit code"):
        session.wait(unit, sudo=True, timeout=10)
    with pytest.raises(UnitExistsError):
        session.launch(unit, COUNT, unit, "0", sudo=True)
    assert starts(estate, unit) == 1


def test_a_unit_whose_runner_alone_was_killed_still_runs(estate: Estate, enter: Open, unit: str) -> None:
    session = enter()
    session.launch(unit, COUNT, unit, "1.5", sudo=True)
    estate["alpha"].exec(f"kill -9 {runner(estate, unit)}")
    assert session.unit_state(unit, sudo=True) is UnitState.RUNNING
    with pytest.raises(SessionLostError):
        session.wait(unit, sudo=True, timeout=10)
    assert session.unit_state(unit, sudo=True) is UnitState.LOST


@pytest.mark.parametrize("how", ["reboot", "power"])
def test_a_host_that_goes_down_loses_it_and_remembers(
    estate: Estate, enter: Open, unit: str, how: str
) -> None:
    session = enter("bravo")
    session.launch(unit, COUNT, unit, "60", sudo=True)
    before = estate["bravo"].boot_id()
    if how == "reboot":
        estate["bravo"].exec("reboot", check=False)
        session.await_boot(before, timeout=30)
    else:
        estate["bravo"].power_off()
        estate["bravo"].power_on()
    assert session.unit_state(unit, sudo=True) is UnitState.LOST
    with pytest.raises(UnitExistsError):
        session.launch(unit, COUNT, unit, "0", sudo=True)


# claimed, fenced, absent


def test_absent_is_a_promise(estate: Estate, enter: Open, unit: str) -> None:
    """A launch that was sent before the host said absent, and arrives after, starts nothing."""
    late, asking = enter(), enter()
    assert asking.unit_state(unit, sudo=True) is UnitState.ABSENT
    with pytest.raises(UnitExistsError):
        late.launch(unit, COUNT, unit, "0", sudo=True)
    assert starts(estate, unit) == 0
    asking.launch(unit, COUNT, unit, "0", sudo=True)
    assert asking.wait(unit, sudo=True, timeout=10).exit_code == 7
    assert late.unit_state(unit, sudo=True) is UnitState.FINISHED
    assert starts(estate, unit) == 1


def test_a_claim_that_did_not_begin_is_fenced(estate: Estate, enter: Open, unit: str) -> None:
    place = f"{BASE}/{unit}/1"
    estate["alpha"].exec(f"mkdir -p {place}; echo 'touch /tmp/{unit}' >{place}/script")
    session = enter()
    began = time.monotonic()
    assert session.unit_state(unit, sudo=True) is UnitState.ABSENT
    assert 1 < time.monotonic() - began < 12
    script = ssh_detached._text("unit_runner.sh")
    estate["alpha"].write(f"{place}/runner", script)
    estate["alpha"].exec(f"setsid sh {place}/runner {place}")
    assert starts(estate, unit) == 0
    session.launch(unit, COUNT, unit, "0", sudo=True)
    assert session.wait(unit, sudo=True, timeout=10).exit_code == 7
    assert starts(estate, unit) == 1


def test_waiting_for_what_was_never_launched(enter: Open, unit: str) -> None:
    with pytest.raises(SessionLostError, match="never launched"):
        enter().wait(unit, timeout=5)


def test_a_host_that_cannot_start_it_says_so(estate: Estate, enter: Open, unit: str) -> None:
    session = enter("bravo")
    estate["bravo"].exec("mv /usr/bin/setsid /usr/bin/setsid.away")
    try:
        with pytest.raises(RemoteFailedError, match=r"could not be started.* setsid.*Nothing was started"):
            session.launch(unit, COUNT, unit, "0", sudo=True)
    finally:
        estate["bravo"].exec("mv /usr/bin/setsid.away /usr/bin/setsid")
    assert session.unit_state(unit, sudo=True) is UnitState.ABSENT
    session.launch(unit, COUNT, unit, "0", sudo=True)
    assert session.wait(unit, sudo=True, timeout=10).exit_code == 7


def test_what_could_not_be_started_is_known_before(estate: Estate, enter: Open) -> None:
    session, lab = enter("bravo"), estate["bravo"]
    session.ready()
    session.ready(sudo=True)
    lab.exec("mkdir -p /var/lib/lamplighter; mount -t tmpfs -o ro none /var/lib/lamplighter")
    try:
        with pytest.raises(RefusedError, match=r"bravo: .*lamplighter is read-only"):
            session.ready(sudo=True)
        lab.exec("cd /var/lib/lamplighter; mount -o remount,rw,size=16k .; head -c 99k /dev/zero >x; :")
        with pytest.raises(RefusedError, match=r"file system of /var/lib/lamplighter is full"):
            session.ready(sudo=True)
    finally:
        lab.exec("umount /var/lib/lamplighter")
    lab.exec("mount -t tmpfs -o ro none /proc/sys")
    try:
        with pytest.raises(RefusedError, match="hides the boot id"):
            session.ready(sudo=True)
    finally:
        lab.exec("umount /proc/sys")


@pytest.mark.parametrize("record", ["", "13", "7 who", "7\n", "1000 whole\n"])
def test_a_damaged_record_is_no_end(estate: Estate, enter: Open, unit: str, record: str) -> None:
    session = enter()
    session.launch(unit, "exit 7", sudo=True)
    assert session.wait(unit, sudo=True, timeout=10).exit_code == 7
    estate["alpha"].write(f"{BASE}/{unit}/1/rc", record)
    with pytest.raises(RemoteFailedError, match="damaged"):
        session.wait(unit, sudo=True, timeout=10)
    with pytest.raises(RemoteFailedError, match="cannot be read"):
        session.unit_state(unit, sudo=True)


def test_no_room_for_the_output_is_no_whole_output(estate: Estate, enter: Open, unit: str) -> None:
    session, lab = enter("bravo"), estate["bravo"]
    lab.exec("mkdir -p /var/lib/lamplighter; mount -t tmpfs -o size=128k,mode=700 none /var/lib/lamplighter")
    try:
        session.launch(unit, "head -c 400000 /dev/zero | tr '\\0' x; exit 7", sudo=True)
        with pytest.raises(RemoteFailedError, match=r"exit code 7, and its output is not whole.*full"):
            session.wait(unit, sudo=True, timeout=20)
        assert session.unit_state(unit, sudo=True) is UnitState.FINISHED
    finally:
        lab.exec("umount /var/lib/lamplighter")


def test_a_full_disk(estate: Estate, enter: Open, unit: str) -> None:
    session = enter("bravo")
    estate["bravo"].fill_disk()
    try:
        with pytest.raises(RemoteFailedError, match=r"bravo: .*No space left.*Nothing was started"):
            session.launch(unit, COUNT, unit, "0", sudo=True)
    finally:
        estate["bravo"].free_disk()
    assert starts(estate, unit, "bravo") == 0
    assert session.unit_state(unit, sudo=True) is UnitState.ABSENT


def test_where_sh_is_bash(estate: Estate, enter: Open, unit: str) -> None:
    estate["bravo"].exec("ln -sf bash /bin/sh")
    try:
        session = enter("bravo")
        session.launch(unit, COUNT, unit, "0.2", sudo=True)
        assert session.unit_state(unit, sudo=True) is UnitState.RUNNING
        assert session.wait(unit, sudo=True, timeout=10).exit_code == 7
        assert session.unit_state(f"{unit}-b", sudo=True) is UnitState.ABSENT
        session.launch(f"{unit}-b", "kill -9 $PPID", sudo=True)
        time.sleep(0.2)
        assert session.unit_state(f"{unit}-b", sudo=True) is UnitState.LOST
    finally:
        estate["bravo"].exec("ln -sf dash /bin/sh")


def test_names_are_checked(enter: Open) -> None:
    session = enter()
    with pytest.raises(RefusedError):
        session.launch("../x", "true")
    with pytest.raises(RefusedError):
        session.unit_state("a/b")
    with pytest.raises(RefusedError):
        session.wait("", timeout=1)


# output


def test_much_output_keeps_head_and_tail(enter: Open, unit: str) -> None:
    session = enter()
    script = "echo HEAD; head -c 100000000 /dev/zero | tr '\\0' x; echo; echo TAIL; printf '\\377\\33[1m' >&2"
    session.launch(unit, script)
    began = time.monotonic()
    done = session.wait(unit, timeout=60, cap=10_000)
    assert done.truncated
    assert done.stdout.startswith("HEAD\nxxx")
    assert done.stdout.endswith("xxx\nTAIL\n")
    assert "[... 99990011 bytes left out ...]" in done.stdout
    assert len(done.stdout) < 10_100
    assert done.stderr == "\ufffd"
    assert time.monotonic() - began < 30
    session.run("rm -r ~/.local/state/lamplighter")


def test_old_output_is_pruned_and_the_claim_stays(estate: Estate, enter: Open, unit: str) -> None:
    session = enter()
    session.launch(unit, COUNT, unit, "0", sudo=True)
    session.wait(unit, sudo=True, timeout=10)
    estate["alpha"].exec(f"touch -d '91 days ago' {BASE}/{unit}/1/rc")
    session.launch(f"{unit}-b", "true", sudo=True)
    session.wait(f"{unit}-b", sudo=True, timeout=10)
    assert estate["alpha"].exec(["ls", f"{BASE}/{unit}/1"]).stdout.split() == ["go", "rc"]
    assert session.unit_state(unit, sudo=True) is UnitState.FINISHED
    assert session.wait(unit, sudo=True, timeout=5).stdout == ""
    with pytest.raises(UnitExistsError):
        session.launch(unit, COUNT, unit, "0", sudo=True)


def test_only_root_reads_it(estate: Estate, enter: Open, unit: str) -> None:
    session = enter()
    session.launch(unit, "true", "argument", sudo=True)
    session.wait(unit, sudo=True, timeout=10)
    modes = estate["alpha"].exec(f"stat -c '%U %a' {BASE} {BASE}/{unit} {BASE}/{unit}/1/script").stdout
    assert modes == "root 700\nroot 700\nroot 600\n"


@pytest.fixture(autouse=True)
def _no_leftovers(estate: Estate) -> Iterator[None]:
    yield
    estate["alpha"].link_up()


def test_the_scripts_are_posix_shell() -> None:
    for name in ("place", "ready", "ask", "launch", "runner", "state", "wait"):
        text = ssh_detached._text(f"unit_{name}.sh")
        for program in ("dash", "bash"):
            argv = [program, "-n"]
            done = subprocess.run(argv, input=text.encode(), capture_output=True, check=False, timeout=10)
            assert (done.returncode, done.stderr) == (0, b"")
