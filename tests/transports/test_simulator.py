"""The simulator keeps the promises engine tests rely on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lamplighter.errors import SessionLostError, TimedOutError, UnitExistsError, UnreachableError
from lamplighter.model.inventory import Host
from lamplighter.model.session import Completed, Session, UnitState
from lamplighter.transports.simulator import FastClock, Faults, SimulatedFleet, SimulatedHost


def upgrade(host: SimulatedHost, script: str, args: tuple[str, ...]) -> Completed:
    if script == "upgrade":
        host.facts["upgrades"] = host.facts.get("upgrades", 0) + 1
    elif script == "reboot":
        host.rebooting = True
    elif script == "boot":
        return Completed(0, host.boot_id, "")
    return Completed(0, " ".join((script, *args)), "")


def test_a_session_fits_the_protocol_and_says_it_is_simulated() -> None:
    fleet = SimulatedFleet(1, ["a"], upgrade)
    session = fleet.connect(Host("a"))
    assert isinstance(session, Session)
    assert "simulated" in repr(session)
    assert "simulated" in repr(fleet)
    assert session.run("echo", "x").stdout == "echo x"
    with pytest.raises(UnreachableError):
        fleet.connect(Host("b"))


def test_a_unit_starts_once_whoever_launches_it() -> None:
    fleet = SimulatedFleet(1, ["a"], upgrade, faults=Faults(unit=(1500, 1500)), clock=FastClock())
    refused = Counter[str]()

    def launch(_: int) -> None:
        try:
            fleet.connect(Host("a")).launch("u", "upgrade")
        except UnitExistsError:
            refused["refused"] += 1

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(launch, range(50)))
    assert refused["refused"] == 49
    assert fleet.starts() == {("a", "u"): 1}
    assert fleet.look("a").facts == {"upgrades": 1}
    session = fleet.connect(Host("a"))
    assert session.unit_state("u") is UnitState.RUNNING
    assert session.unit_state("never") is UnitState.ABSENT
    assert session.wait("u", timeout=60_000).exit_code == 0
    assert session.unit_state("u") is UnitState.FINISHED


def test_a_reboot_loses_what_runs_and_changes_the_boot_id() -> None:
    fleet = SimulatedFleet(1, ["a"], upgrade, faults=Faults(unit=(500, 500)), clock=FastClock())
    session = fleet.connect(Host("a"))
    before = session.run("boot").stdout
    session.launch("u", "upgrade")
    with pytest.raises(SessionLostError):
        session.run("reboot")
    with pytest.raises(SessionLostError):
        session.run("boot")
    assert session.await_boot(before, timeout=120) != before
    assert session.unit_state("u") is UnitState.LOST
    with pytest.raises(SessionLostError):
        session.wait("u", timeout=5)


def fates(seed: int) -> list[str]:
    faults = Faults(down=0.1, hang=0.1, drop=0.2, reboot=0.1, latency=(0, 5))
    names = [f"h{number}" for number in range(200)]
    fleet = SimulatedFleet(seed, names, upgrade, faults=faults, clock=FastClock(100_000))

    def fate(name: str) -> str:
        try:
            fleet.connect(Host(name)).launch("u", "upgrade")
        except (UnreachableError, SessionLostError) as error:
            return type(error).__name__
        return "ok"

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(fate, names))


def test_chance_depends_on_the_seed_alone() -> None:
    first = fates(7)
    assert first == fates(7)
    assert first != fates(8)
    assert {"ok", "UnreachableError", "SessionLostError", "TimedOutError"} == set(first)


def test_a_hang_lasts_until_the_deadline() -> None:
    clock = FastClock(100)
    session = SimulatedFleet(1, ["a"], upgrade, faults=Faults(hang=1), clock=clock).connect(Host("a"))
    began = time.monotonic()
    with pytest.raises(TimedOutError):
        session.run("x", timeout=20)
    assert 0.15 < time.monotonic() - began < 8


def test_state_outlives_a_killed_process(tmp_path: Path) -> None:
    path = tmp_path / "fleet.sqlite"
    program = (
        "import sys, time; sys.path[:0] = sys.argv[2:]\n"
        "from pathlib import Path; from test_simulator import upgrade\n"
        "from lamplighter.model.inventory import Host\n"
        "from lamplighter.transports.simulator import SimulatedFleet\n"
        "fleet = SimulatedFleet(1, ['a'], upgrade, path=Path(sys.argv[1]))\n"
        "fleet.connect(Host('a')).launch('u', 'upgrade'); print('launched', flush=True); time.sleep(60)\n"
    )
    argv = [sys.executable, "-c", program, str(path), str(Path(__file__).parent)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"launched\n"
        os.kill(process.pid, signal.SIGKILL)
    fleet = SimulatedFleet(1, ["a"], upgrade, path=path)
    with pytest.raises(UnitExistsError):
        fleet.connect(Host("a")).launch("u", "upgrade")
    assert fleet.starts() == {("a", "u"): 1}
    assert fleet.connect(Host("a")).wait("u", timeout=5).stdout == "upgrade"
    fleet.close()


def test_ten_thousand_hosts() -> None:
    names = [f"h{number}" for number in range(10_000)]
    fleet = SimulatedFleet(3, names, upgrade)
    began = time.monotonic()

    def survey(name: str) -> None:
        fleet.connect(Host(name)).run("facts")

    with ThreadPoolExecutor(50) as pool:
        list(pool.map(survey, names))
    assert time.monotonic() - began < 30
    assert threading.active_count() < 20
