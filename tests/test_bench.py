"""The benches measure what they say: a small contest, the distance a proxy adds, what is left behind."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.bench.bench_fanout import targets_of
from tests.bench.engines import launch
from tests.bench.engines.contest import Contest
from tests.bench.engines.fleet_file import Target
from tests.bench.engines.peers import engines
from tests.bench.engines.proxy import far_away
from tests.bench.plots import Chart, Panel, figure
from tests.bench.readme import HOW, write
from tests.bench.rows import Row
from tests.lab import Fleet

BENCHES = Path(__file__).parent / "bench"


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Target]]:
    with Fleet(f"bench-test-{os.getpid()}", 3, tmp_path_factory.mktemp("fleet") / "state") as fleet:
        yield targets_of(fleet)


@pytest.mark.lab
def test_a_contest_takes_turns_and_counts_answers(targets: list[Target]) -> None:
    contest = Contest(engines()[:2], targets, rounds=1)
    assert {name: len(costs) for name, costs in contest.costs.items()} == {"lamplighter": 1, "paramiko": 1}
    cost = contest.costs["lamplighter"][0]
    assert 0 < cost.cpu < 60
    assert 10 < cost.rss_mb < 200
    assert contest.ratio("lamplighter", "lamplighter") == 1


@pytest.mark.lab
def test_an_engine_that_misses_a_host_is_no_result(targets: list[Target]) -> None:
    gone = replace(targets[0], name="gone", address="127.0.1.250")
    with pytest.raises(RuntimeError, match="lamplighter: 3 of 4 hosts"):
        Contest(engines()[:1], [*targets, gone], rounds=1)


@pytest.mark.lab
def test_the_proxy_is_as_far_away_as_it_says(targets: list[Target], tmp_path: Path) -> None:
    with far_away(targets, 0.05, tmp_path / "far") as (moved, proxies):
        assert len(proxies) == 2
        for target in moved:
            began = time.monotonic()
            with socket.create_connection((target.address, target.port), timeout=10) as link:
                assert link.recv(4) == b"SSH-"
            assert 0.2 <= time.monotonic() - began < 5  # handshake and banner: four ways


def test_what_an_engine_leaves_running_is_ended_and_counted(tmp_path: Path) -> None:
    script = "sleep 600 & echo answer-host1"
    argv = [sys.executable, launch.__file__, tmp_path / "out", "20", "--", "setsid", "sh", "-c", script]
    began = time.monotonic()
    done = subprocess.run(argv, capture_output=True, check=True, timeout=60)
    assert json.loads(done.stdout)["code"] == 0
    assert time.monotonic() - began < 30


@pytest.mark.parametrize(("row", "met"), [
    (Row("a", 1, "s", 2), True), (Row("a", 3, "s", 2), False), (Row("a", 3, "s", 2, higher=True), True),
    (Row("a", 3, "s"), True),
])
def test_a_goal_is_met_or_not(row: Row, met: bool) -> None:
    assert row.met is met
    assert row.to_json() == {"name": "a", "value": row.value, "unit": "s", "goal": row.goal, "met": met}


def test_every_bench_has_a_place_on_the_page(tmp_path: Path) -> None:
    assert set(HOW) == {path.stem.removeprefix("bench_") for path in BENCHES.glob("bench_*.py")}
    rows = [Row("gate_ms", 0.4219, "ms", 0.1).to_json()]
    found = {"machine": "m", "load": [1.0, 2.0], "charts": ["gate"], "rows": rows}
    (tmp_path / "gate.json").write_text(json.dumps(found))
    text = write(tmp_path).read_text()
    assert "| `gate_ms` | 0.42 ms | 0.1 | **missed** |" in text
    assert "load average 1.0 before and 2.0 after" in text


def test_a_chart_is_drawn_the_same_each_time(tmp_path: Path) -> None:
    chart = Chart("c", "Found", "seconds", [Panel("hosts", {"Lamplighter": 1.5, "other": 1234.0}, goal=2)])
    first = chart.draw(tmp_path).read_bytes()
    assert chart.draw(tmp_path).read_bytes() == first
    assert (figure(1234), figure(12.34), figure(1.234)) == ("1,234", "12.3", "1.23")
