"""A whole gated run over 1,000 and over 10,000 simulated hosts: memory, and whether time is linear."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

from tests.bench.engines.peers import ROOT
from tests.bench.plots import Chart, Panel
from tests.bench.rows import Row

ROUNDS = 3
SMALL, LARGE = 1_000, 10_000
SECONDS = 900


def rows() -> list[Row]:
    """Returns: memory of the large run, and its time as a multiple of the small one's, pair by pair."""
    pairs = [(_run(SMALL), _run(LARGE)) for _ in range(ROUNDS)]
    return [
        Row("simulated_10000_rss_mb", max(large["rss_mb"] for _, large in pairs), "MB", 400),
        Row("simulated_10000_vs_1000", _times(pairs, "seconds"), "ratio", 11),
        Row("simulated_10000_vs_1000_cpu", _times(pairs, "cpu"), "ratio"),
        Row("simulated_1000_s", statistics.median(small["seconds"] for small, _ in pairs), "s"),
        Row("simulated_10000_s", statistics.median(large["seconds"] for _, large in pairs), "s"),
        Row("simulated_1000_rss_mb", max(small["rss_mb"] for small, _ in pairs), "MB"),
    ]


def _times(pairs: list[tuple[dict[str, float], dict[str, float]]], what: str) -> float:
    return statistics.median(large[what] / small[what] for small, large in pairs)


def _run(count: int) -> dict[str, float]:
    """A process of its own for each, so that memory is its own."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.engines.simulated", str(count)], cwd=ROOT, check=True,
        stdout=subprocess.PIPE, timeout=SECONDS,
    )
    used: dict[str, float] = json.loads(done.stdout)
    return used


def charts(values: dict[str, float]) -> list[Chart]:
    """Time and memory by size."""
    times, memory = values["simulated_10000_vs_1000"], values["simulated_10000_rss_mb"]
    return [Chart(
        "simulated", f"Ten times the hosts take {times:.1f} times as long, in {memory:.0f} MB",
        "less is better", [
            Panel("time of a whole gated run, in seconds", {
                "1,000 hosts": values["simulated_1000_s"],
                "10,000 hosts": values["simulated_10000_s"],
            }),
            Panel("peak memory, in MB", {
                "1,000 hosts": values["simulated_1000_rss_mb"],
                "10,000 hosts": memory,
            }, goal=400),
        ], own_scales=True,
    )]
