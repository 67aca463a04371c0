"""Runs over many simulated Windows hosts: what the engine does when actions hang, break and reboot."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lamplighter.engine.survey import survey
from lamplighter.errors import (
    OutputTooLargeError,
    RefusedError,
    RemoteFailedError,
    SessionLostError,
    UnreachableError,
)
from lamplighter.model.inventory import Host
from lamplighter.model.session import Completed, Session
from lamplighter.transports.simulator import FastClock, Faults, SimulatedFleet, SimulatedHost
from lamplighter.transports.simulator_powershell import SimulatedPowerShell, connect
from tests.enginekit import LOOSE, carry_out, labs, states
from tests.powershellkit import GET, SET, LevelUp, obey

WINDOWS = {"ansible_connection": "winrm"}


def play(host: SimulatedHost, script: str, args: tuple[str, ...]) -> Completed:
    """A host that knows both scripts, and misbehaves when its facts say so."""
    if host.facts.get("broken"):
        return Completed(1, "", host.facts["broken"])
    answer = obey(host.facts, script, json.loads(args[0]))
    return Completed(0, host.facts.get("answer") or json.dumps(answer), "")


def session(fleet: SimulatedFleet, name: str = "win1") -> SimulatedPowerShell:
    found = connect(fleet, Host(name, (), WINDOWS))
    assert isinstance(found, SimulatedPowerShell)
    return found


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Any]:
    yield from labs(tmp_path)


def test_a_host_is_of_the_kind_its_inventory_says() -> None:
    fleet = SimulatedFleet(1, ["win1", "web1"], play)
    assert "simulated" in repr(session(fleet))
    assert isinstance(connect(fleet, Host("web1")), Session)
    with pytest.raises(UnreachableError):
        connect(fleet, Host("win2", (), WINDOWS))


def test_what_a_script_declares_is_held_to() -> None:
    fleet = SimulatedFleet(1, ["win1"], play)
    result = session(fleet).invoke(SET, {"Level": 3, "Unit": "u"})
    assert (result.output, result.digest) == ({"level": 3, "seen": ["u"]}, SET.digest)
    with pytest.raises(RefusedError, match="Level"):
        session(fleet).invoke(SET, {"Level": "three", "Unit": "u"})
    fleet.set_facts("win1", {"answer": '{"lvl": 3}'})
    with pytest.raises(RemoteFailedError, match="another shape"):
        session(fleet).invoke(GET)
    with pytest.raises(OutputTooLargeError):
        session(fleet).invoke(GET, cap=5)
    fleet.set_facts("win1", {"broken": "no such cmdlet"})
    with pytest.raises(RemoteFailedError, match="no such cmdlet"):
        session(fleet).invoke(GET)


def test_a_lost_session_is_had_back_when_the_host_is() -> None:
    fleet = SimulatedFleet(1, ["win1"], play, clock=FastClock(), faults=Faults(boot=(50, 50)))
    one = session(fleet)
    fleet.reboot("win1")
    with pytest.raises(SessionLostError):
        one.invoke(GET)
    time.sleep(0.2)
    assert one.invoke(GET).output["level"] == 1


def test_under_drops_hangs_and_reboots_every_host_ends_once_and_nothing_is_done_twice(made: Any) -> None:
    names = [f"win{number}" for number in range(120)]
    faults = Faults(down=0.05, hang=0.05, drop=0.15, reboot=0.05, latency=(0, 0.5))
    lab = made({name: WINDOWS | {"ansible_user": "svc", "ansible_password": "env:X", "ansible_port": 5985}
                for name in names}, limits=LOOSE, waves={"canary": 1, "shares": [50, 100]})
    lab.fleet.close()
    lab.fleet = SimulatedFleet(11, names, play, faults=faults, clock=lab.clock)
    with lab.run(operation=LevelUp(), connect=partial(connect, lab.fleet)) as run:
        ended = states(carry_out(lab, run))
    assert sorted(ended) == sorted(names)
    counts = Counter(ended.values())
    assert counts["changed"] > 40
    assert {"unreachable"} < set(counts)
    for name, end in ended.items():
        seen = lab.fleet.look(name).facts.get("seen", [])
        assert len(seen) == len(set(seen)) <= 1, name
        assert end != "changed" or seen, name
        assert end != "unreachable" or not seen, name


def test_two_thousand_windows_hosts_are_surveyed() -> None:
    names = [f"win{number}" for number in range(2000)]
    fleet = SimulatedFleet(3, names, play, faults=Faults(down=0.02, drop=0.02))
    hosts = [Host(name, (), WINDOWS) for name in names]
    seen = survey(hosts, LevelUp(), partial(connect, fleet), 50)
    assert [one.host.name for one in seen] == names
    assert 1800 < sum(one.facts is not None for one in seen) < 2000
