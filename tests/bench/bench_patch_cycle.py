"""A whole gated patch run over 20 real hosts, through Prefect: time, and Prefect task runs."""

import itertools
import os
import re
import tempfile
from datetime import datetime
from pathlib import Path

from lamplighter.ledger import read_ledger
from lamplighter.model.chain import Record
from tests.bench.plots import Chart, Panel
from tests.bench.rows import Row
from tests.lab import Estate, HostSpec
from tests.lab.demo_site import APPROVERS, REQUESTER, DemoSite
from tests.lab.prefect_api import PrefectApi
from tests.lab.prefect_stack import PrefectStack
from tests.storekit import opened

HOSTS = 20


def rows() -> list[Row]:
    """Patch 20 hosts in three waves. Returns: the run's own time, with and without reboots; its task runs."""
    with tempfile.TemporaryDirectory() as folder:
        return _measure(Path(folder))


def _measure(folder: Path) -> list[Row]:
    specs = [HostSpec(f"host{number:02d}", boot_seconds=1) for number in range(1, HOSTS + 1)]
    with Estate(f"bench-{os.getpid()}", specs, folder / "estate") as estate:
        site = DemoSite(folder / "site", estate, {"rollout": {"default": {
            "limits": {"soak_seconds": 0}, "waves": {"canary": 1, "shares": [50, 100]},
        }}})
        site.write()
        with PrefectStack(folder / "prefect", env=site.env) as stack:
            stack.start_worker("msp")
            stack.deploy()
            return _patch(site, stack)


def _patch(site: DemoSite, stack: PrefectStack) -> list[Row]:
    api = PrefectApi(stack)
    flow_run = api.start("all-weekly", hosts="all", requester=REQUESTER)
    api.until(flow_run, "Suspended", seconds=180)
    run = api.run_id(flow_run)
    stack.lamplighter("approve", run, "--key", str(site.key(APPROVERS[0])), "--yes")
    ended = api.until(flow_run, seconds=300)
    if ended["state"]["message"] != f"{HOSTS} changed":
        raise RuntimeError(f"the run ended otherwise: {ended['state']['message']}")
    spent = _running(api, flow_run)
    boots = _reboot_seconds(list(read_ledger(opened(site.store), run, "demo")))
    return [
        Row("patch_20_hosts_s", spent - boots, "s", 60),
        Row("patch_20_hosts_with_reboots_s", spent, "s"),
        Row("patch_20_hosts_task_runs", len(api.task_runs(flow_run)), "task runs", 3 + 3),
    ]


def _running(api: PrefectApi, flow_run: str) -> float:
    """Seconds the run was pending or running: everything but the wait for its approval."""
    states = api.post(f"flow_run_states/?flow_run_id={flow_run}")
    states.sort(key=lambda state: state["timestamp"])
    total = 0.0
    for state, following in itertools.pairwise(states):
        if state["type"] in {"PENDING", "RUNNING"}:
            total += (_time(following["timestamp"]) - _time(state["timestamp"])).total_seconds()
    return total


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _reboot_seconds(records: list[Record]) -> float:
    """The longest reboot of each wave: hosts of a wave reboot side by side."""
    longest: dict[int, int] = {}
    wave = 0
    for record in records:
        if record.kind == "wave-started":
            wave = record.fields["wave"]
        elif record.kind == "outcome":
            away = re.search(r"back after (\d+) s", record.fields["evidence"]["summary"])
            longest[wave] = max(longest.get(wave, 0), int(away[1]) if away else 0)
    return float(sum(longest.values()))


def charts(values: dict[str, float]) -> list[Chart]:
    """With and without the hosts' reboots."""
    seconds = values["patch_20_hosts_s"]
    return [Chart(
        "patch-cycle", f"{HOSTS} real Debian hosts patched in three waves in {seconds:.0f} s",
        "seconds the run was pending or running; less is better",
        [Panel(f"{HOSTS} hosts, through Prefect, without the wait for the approval", {
            "without reboots": seconds,
            "with reboots": values["patch_20_hosts_with_reboots_s"],
        }, goal=60)],
    )]
