"""Engines against each other on the same hosts: round by round, one after the other, each its own process."""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.engines.fleet_file import Target
from tests.bench.engines.peers import ROOT, Engine

SECONDS = 300.0
_LAUNCH = Path(__file__).with_name("launch.py")
_ANSWER = re.compile(rb"answer-(host\d+)")


@dataclass(frozen=True, slots=True)
class Cost:
    """What one start of an engine cost: seconds of wall time and of CPU, MB of its largest process."""

    wall: float
    cpu: float
    rss_mb: float


class Contest:
    """Rounds of all engines over the same hosts.

    Args:
        engines: who takes part; each round begins with another.
        targets: the hosts.
        rounds: how many are counted; one more, which is not, comes first.
    """

    def __init__(self, engines: Sequence[Engine], targets: Sequence[Target], rounds: int) -> None:
        self.engines, self.targets = engines, targets
        self.costs: dict[str, list[Cost]] = {engine.name: [] for engine in engines}
        for number in range(rounds + 1):
            turn = number % len(engines)
            for engine in (*engines[turn:], *engines[:turn]):
                cost = self._start(engine)
                if number:
                    self.costs[engine.name].append(cost)

    def median(self, engine: str, what: str) -> float:
        return statistics.median(getattr(cost, what) for cost in self.costs[engine])

    def ratio(self, engine: str, other: str) -> float:
        """Wall time by wall time, pair by pair: the median of the rounds' ratios."""
        pairs = zip(self.costs[engine], self.costs[other], strict=True)
        return statistics.median(ours.wall / theirs.wall for ours, theirs in pairs)

    def _start(self, engine: Engine) -> Cost:
        with tempfile.TemporaryDirectory(prefix="ll-") as name:
            folder = Path(name)
            argv = engine.prepare(folder, self.targets)
            output = folder / "output"
            env = {key: value.format(folder=folder, root=ROOT) for key, value in engine.env.items()}
            launch = [sys.executable, "-S", "-E", _LAUNCH, output, str(SECONDS), "--", *argv]
            done = subprocess.run(
                launch, check=True, stdout=subprocess.PIPE, cwd=folder, env={**os.environ, **env}
            )
            used = json.loads(done.stdout)
            answered = set(_ANSWER.findall(output.read_bytes()))
            if used["code"] != 0 or len(answered) != len(self.targets):
                tail = output.read_text("utf-8", "replace")[-2000:]
                raise RuntimeError(f"{engine.name}: {len(answered)} of {len(self.targets)} hosts\n{tail}")
        return Cost(used["wall"], used["cpu"], used["rss_kib"] / 1024)
