"""Resets against a real Active Directory: how many a second, and one on demand with its parts."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from lamplighter.model.inventory import Host
from tasks.account_changes import ResetPassword
from tasks.accounts import Guard
from tasks.active_directory import ActiveDirectory
from tests.accountkit import OLD, Office
from tests.bench.plots import Chart, Panel
from tests.bench.rows import Row
from tests.lab import samba_ad
from tests.lab.samba_ad import SambaAd

RESETS, RUNS = 30, 5


def rows() -> list[Row]:
    """Returns: resets a second; seconds of a whole run without Prefect, and of its parts."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with SambaAd(f"ad-bench-{os.getpid()}", folder / "ad") as samba:
            office = Office(folder, samba, rates={"per_user_a_day": 100, "per_hour": 500})
            parts = [_one_run(samba, office, number) for number in range(RUNS)]
            total, carried_out = (sorted(part[place] for part in parts)[RUNS // 2] for place in (0, 1))
            return [
                Row("resets_per_second", _resets(samba, office), "1/s"),
                Row("reset_run_s", total, "s"),
                Row("reset_run_from_approved_plan_s", carried_out, "s"),
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


def _one_run(samba: SambaAd, office: Office, number: int) -> tuple[float, float]:
    """Seconds of a run, and of its part after the plan."""
    samba.user(f"run{number}", OLD)
    planned: list[float] = []
    began = time.perf_counter()
    office.go(f"run{number}", f"reset-{number}", planned=lambda _: planned.append(time.perf_counter()))
    end = time.perf_counter()
    return end - began, end - planned[0]


def charts(values: dict[str, float]) -> list[Chart]:
    """Where a reset's time goes."""
    return [Chart(
        "directory", f"{values['resets_per_second']:.0f} resets a second over one connection pool",
        "seconds; less is better",
        [Panel("one run, Samba, without Prefect", {
            "from request to seal": values["reset_run_s"],
            "of it after the plan": values["reset_run_from_approved_plan_s"],
        })],
    )]
