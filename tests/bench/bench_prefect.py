"""What Prefect adds to a run: a whole reading run over 200 hosts, through a running worker and without."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

from tests.bench.bench_fanout import MOST, ROUNDS
from tests.bench.engines.fleet_site import FleetSite
from tests.bench.engines.peers import ROOT
from tests.bench.plots import Chart, Panel
from tests.bench.rows import Row
from tests.lab import Fleet
from tests.lab.demo_site import REQUESTER
from tests.lab.prefect_api import PrefectApi
from tests.lab.prefect_stack import PrefectStack

FLOW = "tests/bench/engines/read_flow.py:bench_read"


def rows() -> list[Row]:
    """Returns: medians of both, pair by pair, and of their difference."""
    with tempfile.TemporaryDirectory(prefix="ll-bench-") as name:
        folder = Path(name)
        with Fleet(f"bench-{os.getpid()}", MOST, folder / "fleet") as fleet:
            site = FleetSite(folder / "site", fleet)
            site.write()
            env = {**site.env, **_checkout(folder / "checkout")}
            with PrefectStack(folder / "prefect", env=env) as stack:
                stack.start_worker("msp")
                stack.prefect("--no-prompt", "deploy", FLOW, "--name", "bench", "--pool", "msp")
                _through(stack)  # the server's first run of anything is slower
                pairs = [(_through(stack), _without(site, number)) for number in range(ROUNDS)]
    through, without = zip(*pairs, strict=True)
    return [
        Row("fanout_prefect_overhead_s", statistics.median(a - b for a, b in pairs), "s", 4),
        Row("fanout_prefect_through_s", statistics.median(through), "s"),
        Row("fanout_prefect_without_s", statistics.median(without), "s"),
    ]


def _checkout(folder: Path) -> dict[str, str]:
    """A checkout whose one flow is the reading run: a worker runs what lies in flows/, nothing else."""
    flows = folder / "flows"
    flows.mkdir(parents=True)
    (flows / "__init__.py").touch()
    shutil.copyfile(ROOT / FLOW.partition(":")[0], flows / f"{FLOW.partition(':')[2]}.py")
    return {"LAMPLIGHTER_HOME": str(folder)}


def _through(stack: PrefectStack) -> float:
    """Seconds from the request that starts a run to the end of the run, as the server knows them."""
    api = PrefectApi(stack)
    deployment = api.post("deployments/name/bench-read/bench")["id"]
    asked = time.time()
    body = {"parameters": {"site": "demo", "requester": REQUESTER}}
    flow_run = str(api.post(f"deployments/{deployment}/create_flow_run", body)["id"])
    ended = api.until(flow_run)
    if ended["state"]["message"] != f"{MOST} unchanged":
        raise RuntimeError(f"the run ended otherwise: {ended['state']['message']}")
    return datetime.fromisoformat(ended["end_time"]).timestamp() - asked


def _without(site: FleetSite, number: int) -> float:
    """Seconds a process takes that does the same by itself."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.engines.read_run", site.path, str(number)], cwd=ROOT, check=True,
        env={**os.environ, **site.env}, stdout=subprocess.PIPE, text=True, timeout=300,
    )
    if done.stdout.strip() != f"{MOST} unchanged":
        raise RuntimeError(f"the run ended otherwise: {done.stdout}")
    return time.monotonic() - began


def charts(values: dict[str, float]) -> list[Chart]:
    """The same run, twice."""
    more, through = values["fanout_prefect_overhead_s"], values["fanout_prefect_through_s"]
    bars = {
        "through Prefect, from request to end": through,
        "Lamplighter alone, a process of its own": values["fanout_prefect_without_s"],
    }
    return [Chart(
        "prefect", f"Prefect adds {more:.1f} s to a reading run over {MOST} hosts",
        "seconds of wall time; less is better",
        [Panel(f"a whole reading run over {MOST} hosts, ledger included", bars)],
    )]
