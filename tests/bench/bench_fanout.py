"""One line of shell on 50 and 200 hosts: Lamplighter beside bare paramiko, pyinfra and Ansible."""

from __future__ import annotations

import getpass
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.bench.engines.contest import Contest
from tests.bench.engines.fleet_file import Target
from tests.bench.engines.peers import engines
from tests.bench.engines.proxy import cpu_seconds, far_away
from tests.bench.plots import Chart, Panel
from tests.bench.rows import Row
from tests.lab import Fleet

MOST = int(os.environ.get("LAMPLIGHTER_BENCH_HOSTS", "200"))
ROUNDS = int(os.environ.get("LAMPLIGHTER_BENCH_ROUNDS", "5"))
ONE_WAY = 0.030
PROXIES = 2


def rows() -> list[Row]:
    """Returns: ratios with goals, and what they were made of."""
    with tempfile.TemporaryDirectory(prefix="ll-bench-") as name:
        folder = Path(name)
        with Fleet(f"bench-{os.getpid()}", MOST, folder / "fleet") as fleet:
            targets = targets_of(fleet)
            return [*_near(50, targets), *_near(MOST, targets), *_far(targets, folder)]


def targets_of(fleet: Fleet) -> list[Target]:
    key, known = str(fleet.client_key), str(fleet.known_hosts)
    return [Target(host.name, host.address, host.port, getpass.getuser(), key, known) for host in fleet]


def _near(count: int, targets: Sequence[Target]) -> Iterator[Row]:
    contest = Contest(engines(), targets[:count], ROUNDS)
    yield from _ratios(f"fanout_{count}", contest)
    cpu = contest.median("lamplighter", "cpu") / count * 1000
    yield Row(f"fanout_{count}_cpu_ms_per_host", cpu, "ms", 5 if count == MOST else None)
    rss = contest.median("lamplighter", "rss_mb")
    yield Row(f"fanout_{count}_rss_mb", rss, "MB", 120 if count == MOST else None)
    for engine in contest.engines:
        cpu = contest.median(engine.name, "cpu")
        yield Row(f"fanout_{count}_{engine.name}_cpu_ms_per_host", cpu / count * 1000, "ms")


def _far(targets: Sequence[Target], folder: Path) -> Iterator[Row]:
    with far_away(targets, ONE_WAY, folder / "far", PROXIES) as (moved, proxies):
        before = cpu_seconds(proxies)
        contest = Contest(engines(), moved, ROUNDS)
        spent = cpu_seconds(proxies) - before
    name = f"fanout_{MOST}_wan"
    yield from _ratios(name, contest)
    logins = len(targets) * len(contest.engines) * (ROUNDS + 1)
    yield Row(f"{name}_proxy_cpu_ms_per_host", spent / logins * 1000, "ms")


def _ratios(name: str, contest: Contest) -> Iterator[Row]:
    goals = {"paramiko": 1.10, "pyinfra": 0.9, "ansible": 0.25}
    judged = name != "fanout_50"
    for other, goal in goals.items():
        counts = judged and (other == "paramiko" or not name.endswith("_wan"))
        ratio = contest.ratio("lamplighter", other)
        yield Row(f"{name}_vs_{other}", ratio, "ratio", goal if counts else None)
    for engine in contest.engines:
        yield Row(f"{name}_{engine.name}_s", contest.median(engine.name, "wall"), "s")


LABELS = {
    "lamplighter": "Lamplighter", "paramiko": "bare paramiko threads", "pyinfra": "pyinfra",
    "ansible": "Ansible raw",
}


def charts(values: dict[str, float]) -> list[Chart]:
    """Wall time and CPU by engine."""
    far = f"fanout_{MOST}_wan"
    places = {
        f"fanout_{MOST}": f"{MOST} hosts on loopback", far: f"{MOST} hosts, 30 ms away each way",
        "fanout_50": "50 hosts on loopback",
    }
    wall = [
        Panel(title, {label: values[f"{name}_{engine}_s"] for engine, label in LABELS.items()})
        for name, title in places.items()
    ]
    cpu = {label: values[f"fanout_{MOST}_{engine}_cpu_ms_per_host"] for engine, label in LABELS.items()}
    near, times = values[f"fanout_{MOST}_vs_paramiko"], 1 / values[f"fanout_{MOST}_vs_ansible"]
    found = f"One command on {MOST} hosts: {near:.2f} x bare paramiko, {times:.1f} x as fast as Ansible"
    ours, theirs = cpu["Lamplighter"], cpu["Ansible raw"]
    return [
        Chart("fanout-time", found, "seconds of wall time, whole process, 50 at once; less is better", wall),
        Chart("fanout-cpu", f"A host costs the worker {ours:.1f} ms of CPU; Ansible spends {theirs:.0f} ms",
              "milliseconds of CPU per host, whole process; less is better",
              [Panel(f"{MOST} hosts on loopback", cpu, goal=5)]),
    ]
