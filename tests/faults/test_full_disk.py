"""A whole rollout whose store runs full: no action without a durable intent, and nothing lost in the end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.assurance import report
from tests.bench.rows import Row

pytestmark = [
    pytest.mark.faults, pytest.mark.lab,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounts a tmpfs of its own"),
]

HOSTS = 24
PROGRAM = """
import json, subprocess, sys
from pathlib import Path
from lamplighter.errors import LedgerError, StoreError
from lamplighter.ledger import read_ledger
from tests.enginekit import SITE, Lab, LOOSE, carry_out, problems

folder, kilobytes, hosts = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
(folder / "store").mkdir(parents=True, mode=0o700)
mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k,mode=0700", "tmpfs", str(folder / "store")]
subprocess.run(mount, check=True)
limits = {**LOOSE, "run_failures": hosts, "parallel": 4}
lab = Lab(folder, [f"h{n}" for n in range(hosts)], limits=limits, waves={"canary": 4}, persistent=True)


def attempt():
    try:
        with lab.run() as run:
            carry_out(lab, run)
    except (LedgerError, StoreError) as error:
        return str(error)
    return ""


def announced():
    records = read_ledger(lab.store, "bump-1", SITE)
    return {(one["host"], one["unit"]) for one in records if one.kind == "intent"}


told = [attempt() for _ in range(3)]
full = dict(lab.fleet.starts())
unannounced = len(full.keys() - announced())
subprocess.run(["mount", "-o", "remount,size=64m", str(folder / "store")], check=True)
last = attempt()
with lab.run() as run:
    ends = {str(one.terminal) for one in run.close().outcomes}
    count = len(run.history.hosts)
print(json.dumps({
    "told": told, "last": last, "started": len(full), "unannounced": unannounced,
    "later": len(lab.fleet.starts().keys() - announced()),
    "most": max(lab.fleet.starts().values(), default=0),
    "hosts": count, "ends": sorted(ends), "problems": problems(lab.inspect()),
}))
"""


@pytest.mark.parametrize("kilobytes", [64, 128, 192])
def test_a_full_disk_stops_a_rollout_and_room_lets_it_go_on(tmp_path: Path, kilobytes: int) -> None:
    """The tmpfs lives in a mount namespace of its own and goes with it."""
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "lab"), str(kilobytes), str(HOSTS)]
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", *command],
        capture_output=True, text=True, timeout=120, check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert all("space" in one or "written" in one for one in found["told"] if one)
    assert found["told"][0], "it was not full"
    assert (found["unannounced"], found["later"]) == (0, 0)
    assert found["most"] <= 1
    assert not found["last"]
    assert found["hosts"] == HOSTS
    assert not found["problems"]
    report("full_disk", [
        Row(f"full_{kilobytes}k_actions", found["started"], "actions"),
        Row(f"full_{kilobytes}k_actions_without_intent", found["unannounced"], "actions", 0),
    ])
