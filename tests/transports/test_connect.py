"""Which transport a host gets, and whole runs on Windows hosts through our own endpoint."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.patch_linux import RUNBOOK as PATCH_LINUX
from lamplighter.engine.survey import survey
from lamplighter.errors import RefusedError
from lamplighter.model.inventory import Host, Shell
from lamplighter.model.outcome import Terminal
from lamplighter.transports.connect import HostTransport
from tasks.apt import Patching
from tests import winrmkit as kit
from tests.enginekit import Lab, carry_out, labs, message, states
from tests.lab import winrm_trouble as trouble
from tests.lab.fleet import Fleet
from tests.lab.winrm_endpoint import WinRmEndpoint
from tests.lab.winrm_trouble import Answer, Connection
from tests.powershellkit import Counter, LevelUp
from tests.transports.conftest import fleet_host

PASSWORD = {"lamplighter_winrm_password": None, "ansible_password": "env:WINRM_PASSWORD"}
SWITCH = Host("switch1", (), {"ansible_connection": "network_cli"})
CMD = Host("win9", (), {"ansible_connection": "ssh", "ansible_shell_type": "powershell"})


@pytest.fixture
def endpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[WinRmEndpoint, Counter]]:
    monkeypatch.setenv("WINRM_PASSWORD", kit.PASSWORD)
    counter = Counter()
    with WinRmEndpoint(tmp_path) as endpoint:
        counter.play(endpoint)
        yield endpoint, counter
        assert endpoint.service.shells == {}, "a shell leaked"


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Any]:
    yield from labs(tmp_path)


def test_each_host_is_opened_as_its_inventory_says(
    fleet: Fleet, endpoints: tuple[WinRmEndpoint, Counter]
) -> None:
    endpoint, _ = endpoints
    with HostTransport(fleet.known_hosts) as transport:
        linux = transport.connect(fleet_host(fleet))
        windows = transport.connect(kit.windows(endpoint, **PASSWORD))
        assert linux.run("echo in").stdout == "in\n"  # type: ignore[union-attr]
        assert windows.execute("echo in").out == b"in\n"  # type: ignore[union-attr]
        for host in (SWITCH, CMD):
            with pytest.raises(RefusedError, match=r"not spoken here.*Nothing was sent.*:!"):
                transport.connect(host)


def test_a_runbook_for_one_kind_refuses_the_other_before_anything_is_sent(
    fleet: Fleet, endpoints: tuple[WinRmEndpoint, Counter]
) -> None:
    endpoint, _ = endpoints
    hosts = (kit.windows(endpoint, **PASSWORD), SWITCH, CMD)
    with HostTransport(fleet.known_hosts, PATCH_LINUX.shells) as transport:
        seen = survey(hosts, Patching(), transport.connect, 4)
    assert [one.end for one in seen] == [Terminal.REFUSED] * 3
    assert "works through a POSIX shell over SSH" in seen[0].message
    assert "Leave it out of the selection (:!win1)" in seen[0].message
    assert "network_cli, which is not spoken here" in seen[1].message
    assert endpoint.arrived == []
    with HostTransport(fleet.known_hosts, (Shell.POWERSHELL,)) as transport:
        (linux,) = survey((fleet_host(fleet),), LevelUp(), transport.connect, 1)
    assert linux.end is Terminal.REFUSED
    assert "works through PowerShell over WinRM" in linux.message


def windows_lab(made: Any, endpoint: WinRmEndpoint) -> Lab:
    lab: Lab = made({"win1": dict(kit.windows(endpoint, **PASSWORD).vars), "sim1": {}})
    return lab


def run(lab: Lab) -> dict[str, str]:
    with HostTransport(lab.path / "host_keys", (Shell.POWERSHELL,)) as transport:
        with lab.run(operation=LevelUp(), connect=transport.connect) as run:  # type: ignore[arg-type]
            ending = carry_out(lab, run)
        assert "not spoken here" in message(ending, "sim1")
        return states(ending)


def test_a_whole_run_over_winrm(made: Any, endpoints: tuple[WinRmEndpoint, Counter]) -> None:
    endpoint, counter = endpoints
    assert run(windows_lab(made, endpoint)) == {"win1": "changed", "sim1": "refused"}
    assert counter.state["level"] == 2
    assert len(counter.state["seen"]) == 1


@pytest.mark.parametrize(("action", "ended"), [("Receive", "changed"), ("Command", "failed")])
def test_a_connection_that_breaks_under_a_step_is_asked_about_and_nothing_is_done_twice(
    made: Any, endpoints: tuple[WinRmEndpoint, Counter], action: str, ended: str
) -> None:
    """`Receive`: the step was done and its answer is lost. `Command`: it was never given its script."""
    endpoint, counter = endpoints
    cut: list[str] = []

    def once(to: Connection, answer: Answer) -> None:
        here = counter.state.get("level") == 2 if action == "Receive" else \
            endpoint.service.actions.count("Command") == 3  # after the survey and the look for drift
        if cut or not here:
            to.put(to.seal(answer))
        else:
            cut.append("here")
            trouble.torn(to, answer)

    endpoint.trouble[action] = once
    assert run(windows_lab(made, endpoint))["win1"] == ended
    assert cut
    assert len(counter.state["seen"]) == (ended == "changed")
