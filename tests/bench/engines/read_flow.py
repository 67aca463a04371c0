"""The reading run of `read_run` as a flow, so that what Prefect adds can be told."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from tasks.steps import close, make_plan, open_run, pass_gate, survey
from tests.bench.engines.read_run import RUNBOOK, Reading


@flow(**RUNBOOK.flow_options())
def bench_read(site: str = "demo", hosts: str = "all", requester: str = "") -> State[Any]:
    """Read one line on each host."""
    with open_run(RUNBOOK, site, hosts, Reading(), requester=requester) as run:
        pass_gate(run, make_plan(run, survey(run)))
        return close(run)
