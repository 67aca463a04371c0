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
    cpu = contest.median("lamplighter", "cpu")
    yield Row(f"fanout_{count}_cpu_ms_per_host", cpu / count * 1000, "ms", 5 if count == MOST else None)
    rss = contest.median("lamplighter", "rss_mb")
    yield Row(f"fanout_{count}_rss_mb", rss, "MB", 120 if count == MOST else None)
    for engine in contest.engines[1:]:
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
        yield Row(f"{name}_vs_{other}", contest.ratio("lamplighter", other), "ratio", goal if counts else None)
    for engine in contest.engines:
        yield Row(f"{name}_{engine.name}_s", contest.median(engine.name, "wall"), "s")
