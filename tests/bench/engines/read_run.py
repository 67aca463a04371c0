"""A run that only reads: one line of shell on each host, nothing to do afterwards, a sealed ledger.

`python -m tests.bench.engines.read_run SITE NUMBER` is it without Prefect; `read_flow` is the same with.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lamplighter.engine.drafting import Request
from lamplighter.engine.run import Run
from lamplighter.leases import Leases
from lamplighter.ledger import Ledger
from lamplighter.model.gate import internal
from lamplighter.model.inventory import Host
from lamplighter.model.operation import Operation
from lamplighter.model.outcome import Evidence, Health, Outcome
from lamplighter.model.party import Party
from lamplighter.model.plan import HostPlan, Requester, Step
from lamplighter.model.runbook import ChangeType, Risk, Runbook
from lamplighter.model.session import Session
from lamplighter.site import load_site
from lamplighter.store import open_store
from lamplighter.transports.ssh import SshTransport
from tests.bench.engines.ours import Answer, OneCommand
from tests.lab.demo_site import REQUESTER


@dataclass(frozen=True)
class Reading(OneCommand, Operation[Answer]):
    """Reads one line and finds nothing to do."""

    def options(self) -> dict[str, Any]:
        return {}

    def plan(self, host: Host, facts: Answer) -> HostPlan:
        return HostPlan.of(host.name, facts, reason=facts.text.strip())

    def apply(self, host: Host, step: Step, session: Session, unit: str) -> Evidence:
        raise NotImplementedError

    def probe(self, host: Host, step: Step, session: Session, unit: str) -> Outcome | None:
        raise NotImplementedError

    def verify(self, host: Host, plan: HostPlan, session: Session) -> Health:
        raise NotImplementedError


RUNBOOK = Runbook(
    id="bench-read", title="Read one line", function="patch-management", owner=Party.INTERNAL,
    change=ChangeType.NORMAL, gate=internal("change-manager"), risk=Risk.LOW, operation=Reading,
)


def main(path: Path, name: str) -> None:
    site = load_site(path)
    store = open_store(site.store)
    request = Request(RUNBOOK, site, Reading(), Requester(REQUESTER), "all")
    with (
        Ledger.open(store, name, site.name) as ledger,
        SshTransport(site.host_keys) as transport,
        Leases(store) as leases,
    ):
        run = Run(name, request, store, ledger, transport.connect, leases)
        run.make_plan(run.survey())
        print(run.close().message)


if __name__ == "__main__":
    main(Path(sys.argv[1]), f"bench-read-{sys.argv[2]}")
