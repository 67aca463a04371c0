"""A gated run on real hosts behind a real Prefect server, for everybody who tries something with it."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from lamplighter.engine.gatekeeper import stored_plan
from lamplighter.ledger import read_ledger
from lamplighter.model.chain import Record
from lamplighter.model.envelope import folded
from lamplighter.signing import Wish, approve_line, signer_of
from lamplighter.site import load_site
from lamplighter.store import Store
from tests.lab.demo_site import APPROVERS, REQUESTER, DemoSite
from tests.lab.errors import LabError
from tests.lab.prefect_api import PrefectApi
from tests.lab.prefect_stack import PrefectStack
from tests.storekit import opened

ASHA, KIRAN, PRIYA = APPROVERS


class Desk:
    """What somebody at a desk can do: the command line with a key, Prefect's API, a look at the hosts."""

    def __init__(self, prefect: PrefectStack, site: DemoSite) -> None:
        self.prefect, self.site, self.api = prefect, site, PrefectApi(prefect)

    @property
    def store(self) -> Store:
        return opened(self.site.store)

    def old_packages(self, *hosts: str) -> None:
        """Give hosts their old packages back."""
        for name in hosts:
            self.site.estate[name].reset()
        for name in hosts:
            self.site.estate[name].wait_up()

    def versions(self, *hosts: str) -> set[str]:
        return {self.site.estate[name].exec("dpkg-query -W -f '${Version}' lab-web").stdout for name in hosts}

    def wait(self, hosts: str = "alpha", **parameters: Any) -> str:
        """Start a run and wait for its gate; returns the flow run's id."""
        flow_run = self.api.start("all-weekly", **{"hosts": hosts, "requester": REQUESTER, **parameters})
        return self.at_gate(flow_run)

    def at_gate(self, flow_run: str, after: str = "") -> str:
        """Wait until a run is suspended, in another state than `after` names."""
        end = time.monotonic() + 120
        while time.monotonic() < end:
            run = self.api.until(flow_run, "Suspended")
            if run["state_name"] != "Suspended":
                raise LabError(f"the run ended: {run['state_name']}, {run['state']['message']}")
            if run["state"]["id"] != after:
                return flow_run
            time.sleep(0.3)
        raise LabError("the run did not come back to its gate")

    def still_shut(self, flow_run: str, **answer: str) -> str:
        """Answer, and wait until the run asks again; returns what stands above its form then."""
        before = self.api.run(flow_run)["state"]["id"]
        self.api.answer(flow_run, **answer)
        return self.form(self.at_gate(flow_run, before))

    def run_id(self, flow_run: str) -> str:
        return self.api.run_id(flow_run)

    def form(self, flow_run: str) -> str:
        """What a reader sees above the form, without the marks that keep text from being markup."""
        return self.api.form(flow_run).replace("<wbr>", "").replace("\\", "")

    def approve(self, flow_run: str, who: str = ASHA, *words: str) -> str:
        """What `lamplighter approve` prints."""
        return self.prefect.lamplighter(
            "approve", self.run_id(flow_run), "--key", str(self.site.key(who)), "--yes", *words
        ).strip()

    def line(self, flow_run: str, who: str = ASHA) -> str:
        """An approval line, folded, to be pasted: also one that `lamplighter approve` would not make."""
        planned = next(one for one in self.records(flow_run) if one.kind == "planned")
        _, data = stored_plan(self.store, str(planned.fields["plan"]), self.run_id(flow_run))
        key = self.site.key(who)
        wish = Wish(signer_of(key, load_site(self.site.path).signers))
        return folded(approve_line(data, wish, key, int(time.time())))

    def ended(self, flow_run: str, seconds: float = 180) -> tuple[str, str]:
        run = self.api.until(flow_run, seconds=seconds)
        return run["state_name"], run["state"]["message"]

    def records(self, flow_run: str) -> list[Record]:
        return list(read_ledger(self.store, self.run_id(flow_run), "demo"))

    def kinds(self, flow_run: str) -> list[str]:
        return [record.kind for record in self.records(flow_run)]

    def verified(self) -> bool:
        found = json.loads(self.prefect.lamplighter("verify", "--site", "demo", "--json"))
        return bool(found["sound"])

    @contextlib.contextmanager
    def site_says(self, **changes: Any) -> Iterator[None]:
        """Change `site.yaml` for a while."""
        path = Path(self.site.path / "site.yaml")
        before = path.read_text()
        with _reads(path, yaml.safe_dump({**yaml.safe_load(before), **changes}, sort_keys=False)):
            yield

    @contextlib.contextmanager
    def deployed(self, *deployments: Mapping[str, Any]) -> Iterator[None]:
        """The site declares these as well, with their schedules, and they are deployed for a while."""
        declared = yaml.safe_load((self.site.path / "site.yaml").read_text())["deployments"]
        with self.site_says(deployments=[*declared, *deployments]):
            self.prefect.deploy(self.site.prefect_yaml())
            try:
                yield
            finally:
                for one in deployments:
                    found = self.api.post(f"deployments/name/{one['runbook']}/{one['name']}")
                    self.api.post(f"deployments/{found['id']}", {}, "DELETE")

    @contextlib.contextmanager
    def delegated(self) -> Iterator[None]:
        """Patching is handed over whole for a while: the demo's matrix has it signed for each time."""
        path = Path(self.site.path / "responsibilities.yaml")
        matrix = path.read_text()
        assert matrix.count("stage: supervised") == 1
        with _reads(path, matrix.replace("stage: supervised", "stage: delegated")):
            yield


@contextlib.contextmanager
def _reads(path: Path, text: str) -> Iterator[None]:
    before = path.read_text()
    path.write_text(text)
    try:
        yield
    finally:
        path.write_text(before)
