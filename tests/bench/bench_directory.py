"""Resets against a real Active Directory: how many a second, and where the time of one on demand goes."""

from __future__ import annotations

import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from lamplighter.ledger import read_ledger
from lamplighter.model.inventory import Host
from lamplighter.worker import POLL_SECONDS
from tasks.account_changes import ResetPassword
from tasks.accounts import Guard
from tasks.active_directory import ActiveDirectory
from tests.accountkit import OLD, Office, served, submit
from tests.bench.plots import Chart, Panel
from tests.bench.rows import Row
from tests.lab import samba_ad
from tests.lab.prefect_api import PrefectApi
from tests.lab.samba_ad import SambaAd

RESETS, RUNS, PROMISED = 30, 5, 15
STATES = {"picked_up": "PENDING", "started": "RUNNING"}
RECORDS = {"planned": "planned", "gate_passed": "gate", "applied": "outcome", "delivered": "delivery"}
PARTS = (*STATES, *RECORDS, "ended")
"""What a reset on demand passes through, each from the one before; the first from its request."""


def rows() -> list[Row]:
    """Returns: resets a second; seconds of whole runs, without Prefect and through it, and of their parts."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with SambaAd(f"ad-bench-{os.getpid()}", folder / "ad") as samba:
            office = Office(folder, samba, rates={"per_user_a_day": 100, "per_hour": 500})
            alone = [_alone(samba, office, number) for number in range(RUNS)]
            with served(office, folder / "prefect", PREFECT_WORKER_QUERY_SECONDS=str(POLL_SECONDS)) as stack:
                api = PrefectApi(stack)
                _on_demand(samba, office, api, "warm")  # the server's first run of anything is slower
                runs = [_on_demand(samba, office, api, f"demand{number}") for number in range(RUNS)]
            whole = [sum(run.values()) for run in runs]
            parts = {part: statistics.median(run[part] for run in runs) for part in PARTS}
            return [
                Row("resets_per_second", _resets(samba, office), "1/s"),
                Row("reset_run_s", statistics.median(alone), "s"),
                Row("reset_on_demand_s", statistics.median(whole), "s", PROMISED),
                Row("reset_on_demand_slowest_s", max(whole), "s", PROMISED),
                *(Row(f"reset_{part}_s", seconds, "s") for part, seconds in parts.items()),
            ]


def _resets(samba: SambaAd, office: Office) -> float:
    """Finding, planning, setting and reading back, one after the other, over one connection pool."""
    names = [f"pool{number}" for number in range(RESETS)]
    for name in names:
        samba.user(name, OLD)
    operation = ResetPassword(ActiveDirectory(), Guard((samba_ad.STAFF,)), lambda *_: None)
    desk = office.desk
    with desk.reach(desk.site) as connect:
        began = time.perf_counter()
        for name in names:
            session = connect(Host(name))
            plan = operation.plan(Host(name), operation.survey(Host(name), session))  # type: ignore[arg-type]
            operation.apply(Host(name), plan.steps[0], session, "")  # type: ignore[arg-type]
            session.close()
        return RESETS / (time.perf_counter() - began)


def _alone(samba: SambaAd, office: Office, number: int) -> float:
    """Seconds of a whole run without Prefect."""
    samba.user(f"run{number}", OLD)
    began = time.perf_counter()
    office.go(f"run{number}", f"reset-{number}")
    return time.perf_counter() - began


def _on_demand(samba: SambaAd, office: Office, api: PrefectApi, account: str) -> dict[str, float]:
    """Seconds of each part of a reset that is started as the form starts it."""
    samba.user(account, OLD)
    asked = time.time()
    run = api.until(flow_run := submit(api, account))
    if run["state"]["message"] != "1 changed":
        raise RuntimeError(f"the run ended otherwise: {run['state']['message']}")
    times = [asked, *_times(office, api, flow_run, run["name"])]
    parts = (after - before for before, after in itertools.pairwise(times))
    return dict(zip(PARTS, parts, strict=True))


def _times(office: Office, api: PrefectApi, flow_run: str, run: str) -> Iterator[float]:
    """When each part was done, by Prefect's states and the ledger's records."""
    states = {one["type"]: one["timestamp"] for one in api.post(f"flow_run_states/?flow_run_id={flow_run}")}
    records = {record.kind: record.when for record in read_ledger(office.store, run, "demo")}
    yield from (datetime.fromisoformat(states[name]).timestamp() for name in STATES.values())
    yield from (records[kind] for kind in RECORDS.values())
    yield datetime.fromisoformat(states["COMPLETED"]).timestamp()


def charts(values: dict[str, float]) -> list[Chart]:
    """Where a reset's time goes."""
    total, most = values["reset_on_demand_s"], values["reset_on_demand_slowest_s"]
    return [Chart(
        "directory",
        f"A reset from the form is done after {total:.0f} s, the slowest of {RUNS} after {most:.0f} s",
        "seconds; less is better",
        [
            Panel("through Prefect, Samba, medians", {
                "from submit to done": total,
                f"worker asks, every {POLL_SECONDS:.0f} s": values["reset_picked_up_s"],
                "process begun, Prefect loaded": values["reset_started_s"],
                "account found, plan made": values["reset_planned_s"],
                "standing approval judged": values["reset_gate_passed_s"],
                "password set and read back": values["reset_applied_s"],
                "sealed and delivered": values["reset_delivered_s"],
                "report shown, run ended": values["reset_ended_s"],
            }, goal=PROMISED),
            Panel("without Prefect", {"the same run": values["reset_run_s"]}),
        ],
        ours="from submit",
    )]
