"""Real patching of real Debian hosts, whose driver is killed with SIGKILL at random moments.

The judges are the hosts: dpkg's own log says how often each package went from one version to the next, the
boot count how often a host was rebooted, the unit directory what was launched. `make torture` kills 200
times; CI about a dozen.
"""

from __future__ import annotations

import os
import random
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from lamplighter.engine.drafting import Request
from lamplighter.engine.run import Run
from lamplighter.inspection import inspect
from lamplighter.leases import Leases
from lamplighter.ledger import Ledger
from lamplighter.model.history import replay
from lamplighter.model.outcome import Terminal
from lamplighter.model.plan import Requester
from lamplighter.signing import Wish, approve_line
from lamplighter.site import load_site
from lamplighter.store import open_store
from lamplighter.transports.ssh import SshTransport
from tasks.apt import Patching
from tests.assurance import much, report
from tests.bench.rows import Row
from tests.enginekit import finish, problems
from tests.lab import Estate, HostSpec
from tests.lab.demo_site import APPROVERS, REQUESTER, DemoSite

pytestmark = [
    pytest.mark.faults, pytest.mark.lab, pytest.mark.timeout(3600),
    pytest.mark.skipif(os.geteuid() != 0, reason="real hosts need root"),
]

HOSTS = ("kill1", "kill2", "kill3")
QUICK = {"lamplighter_settle_seconds": 1, "lamplighter_min_free_mb_root": 1}
LIMITS = {"soak_seconds": 0, "canary_failures": 9, "wave_percent": 100, "parallel": 3}
STARTS = 40


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoSite]:
    folder = tmp_path_factory.mktemp("kills")
    specs = [HostSpec(name, boot_seconds=1) for name in HOSTS]
    with Estate(f"kills-{os.getpid()}", specs, folder / "estate", updates=False) as estate:
        made = DemoSite(folder / "site", estate, {
            "rollout": {"default": {"limits": LIMITS, "waves": {"canary": 1, "shares": [100]}}},
        })
        made.write()
        hosts = yaml.safe_load((made.path / "hosts.yaml").read_text())
        hosts["all"]["vars"] |= QUICK
        (made.path / "hosts.yaml").write_text(yaml.safe_dump(hosts, sort_keys=False))
        yield made


def drive(site: DemoSite, run_id: str) -> None:
    """A whole run: plan, approval, waves, report; or what is left of it."""
    from flows.patch_linux import RUNBOOK  # noqa: PLC0415 - Prefect takes its time

    place = load_site(site.path)
    store = open_store(place.store)
    with (
        Ledger.open(store, run_id, place.name) as ledger, Leases(store, ttl=5, margin=0) as leases,
        SshTransport(place.host_keys) as transport,
    ):
        request = Request(RUNBOOK, place, Patching("all"), Requester(REQUESTER))
        run = Run(run_id, request, store, ledger, transport.connect, leases, pause=0.5, patience=60)
        plan = run.make_plan(run.survey())
        if not run.check_gate().passed:
            line = approve_line(
                plan.to_bytes(), Wish(APPROVERS[0]), site.key(APPROVERS[0]), int(time.time())
            )
            run.receive(run.ask(), [line], {"decision": "approve", "reason": ""})
            assert run.check_gate().passed
        finish(run)


def start(site: DemoSite, run_id: str, log: Path) -> int:
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            heard = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(heard, 1)
            os.dup2(heard, 2)
            drive(site, run_id)
            status = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
            raise
        finally:
            sys.stderr.flush()
            os._exit(status)
    return pid


def wait(pid: int, seconds: float) -> int | None:
    """How it ended; None when it still runs after so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    return None


def upgrades(site: DemoSite) -> Counter[tuple[str, str, str]]:
    """(host, package, from and to) as dpkg's log has it."""
    found: Counter[tuple[str, str, str]] = Counter()
    for host in site.estate:
        for line in host.read("/var/log/dpkg.log").splitlines():
            said = re.match(r"\S+ \S+ upgrade (\S+) (\S+ \S+)$", line)
            if said:
                found[host.name, said[1], said[2]] += 1
    return found


def judge(site: DemoSite, run_id: str, boots: dict[str, str], rounds: int) -> Counter[str]:
    """What the hosts, the ledger and the verifier say after a rollout that was killed again and again."""
    store = open_store(load_site(site.path).store)
    with Ledger.open(store, run_id, "demo") as ledger:
        records = ledger.records()
    history = replay(records)
    assert set(history.hosts) == set(HOSTS), "no host is lost"
    assert not history.intents - history.outcomes.keys(), "every intent has an outcome"
    outcomes = Counter((one["host"], one["step"]) for one in records if one.kind == "outcome")
    assert not [key for key, times in outcomes.items() if times > 1]
    twice = {key: times for key, times in upgrades(site).items() if times > 1}
    assert not twice, "dpkg's log shows an upgrade that was done twice"
    for host in site.estate:
        changed = history.hosts[host.name].terminal is Terminal.CHANGED
        assert not changed or host.exec("dpkg-query -W -f '${Version}' lab-web").stdout == f"1.{rounds}"
        units = {one["unit"] for one in records if one.kind == "intent" and one["host"] == host.name}
        assert len(units) == len({one for one in history.intents if one[0] == host.name})
        reboots = [key for key in history.outcomes if key == (host.name, "reboot")]
        assert not changed or not reboots or host.boot_id() != boots[host.name]
        boots[host.name] = host.boot_id()
    policy = load_site(site.path)
    found = problems(inspect(store, "demo", lambda runbook: policy.gate_policy(runbook, store)))
    assert not found
    return Counter(str(one.terminal) for one in history.hosts.values())


def boots_of(site: DemoSite) -> dict[str, int]:
    return {host.name: host.console.count("Server listening on 0.0.0.0") for host in site.estate}


def test_real_patching_survives_its_driver_being_killed(site: DemoSite, tmp_path: Path) -> None:
    import flows.patch_linux  # noqa: F401, PLC0415 - once, before the forks

    dice, wanted = random.Random(11), much(12, 200)  # noqa: S311 - a repeatable campaign
    kills = rounds = reboots = 0
    ends: Counter[str] = Counter()
    ids = {host.name: host.boot_id() for host in site.estate}
    while kills < wanted:
        rounds += 1
        site.estate.repo.publish(f"1.{rounds}")
        run_id, before = f"patch-linux-{rounds:08x}", boots_of(site)
        for number in range(STARTS):
            pid = start(site, run_id, tmp_path / "driver.log")
            most = 1.0 if number < 2 else 3.5
            status = wait(pid, dice.uniform(0.2, most) if kills < wanted and number < STARTS - 5 else 120)
            if status is None:
                os.kill(pid, signal.SIGKILL)
                status = wait(pid, 10)
                kills += 1
            if status == 0:
                break
            assert status == -signal.SIGKILL, (tmp_path / "driver.log").read_text()[-3000:]
        else:
            raise AssertionError("it does not end")
        ends += judge(site, run_id, ids, rounds)
        extra = {name: count - before[name] for name, count in boots_of(site).items()}
        assert max(extra.values()) <= 1, "a host was rebooted twice"
        reboots += sum(extra.values())
    print(dict(ends))  # noqa: T201 - figures
    report("kills_real", [
        Row("real_kills", kills, "kills", wanted, higher=True),
        Row("real_rollouts", rounds, "rollouts"),
        Row("real_package_upgrades", sum(upgrades(site).values()), "upgrades"),
        Row("real_reboots", reboots, "reboots"),
        Row("real_upgrades_twice", 0, "upgrades", 0),
        Row("real_hosts_lost", 0, "hosts", 0),
        Row("real_hosts_changed", ends["changed"], "hosts"),
        Row("real_hosts_not_changed", ends.total() - ends["changed"], "hosts"),
    ])
