"""One whole gated run over N simulated hosts: `python -m tests.bench.engines.simulated N`, JSON on stdout.

Everything but the hosts is real: site files, signatures, leases, the ledger on disk with its fsyncs, waves.
Each host answers after 5 to 20 ms, is upgraded and restarted, and is looked at afterwards.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

from lamplighter.transports.simulator import Faults
from tests.enginekit import LOOSE, Lab, carry_out

PARALLEL = 50
MOST_IN_WAVE = 100_000


def main(count: int) -> None:
    names = [f"host{number:05d}" for number in range(1, count + 1)]
    faults = Faults(latency=(0.005, 0.020))
    limits = {**LOOSE, "parallel": PARALLEL, "hosts": MOST_IN_WAVE}
    with tempfile.TemporaryDirectory(prefix="ll-bench-") as folder:
        lab = Lab(Path(folder), names, limits=limits, waves={"canary": 1, "shares": [10, 50, 100]},
                  faults=faults, clock=time)  # type: ignore[arg-type]  # the module is a clock
        began, cpu = time.monotonic(), time.process_time()
        with lab.run() as run:
            ending = carry_out(lab, run)
        seconds, cpu = time.monotonic() - began, time.process_time() - cpu
        if ending.message != f"{count} changed" or sum(lab.fleet.starts().values()) != 2 * count:
            raise RuntimeError(f"the run ended otherwise: {ending.message}")
        lab.close()
    rss_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    json.dump({"seconds": seconds, "cpu": cpu, "rss_mb": rss_mb}, sys.stdout)


if __name__ == "__main__":
    main(int(sys.argv[1]))
