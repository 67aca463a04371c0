"""`lamplighter replan` after a real run in which a host drifted."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from lamplighter.cli import main
from lamplighter.derive.catalogue import named
from lamplighter.engine.opening import Wanted, open_request
from lamplighter.engine.replanning import deltas
from lamplighter.engine.run import Run
from lamplighter.errors import SelectionError
from lamplighter.leases import Leases
from lamplighter.ledger import Ledger
from lamplighter.model.outcome import Terminal
from lamplighter.model.show import gate_page
from lamplighter.signing import Wish, approve_line
from lamplighter.site import load_site
from lamplighter.store import open_store
from lamplighter.transports.ssh import SshTransport
from tests.enginekit import finish
from tests.lab import Estate, HostSpec
from tests.lab.demo_site import APPROVERS, REQUESTER, DemoSite

pytestmark = [
    pytest.mark.lab, pytest.mark.skipif(os.geteuid() != 0, reason="real hosts need root"),
]
RUN, NEXT = "patch-linux-0000000d", "patch-linux-0000000e"


@contextlib.contextmanager
def opened(site: DemoSite, name: str, replans: str = "") -> Iterator[Run]:
    place = load_site(site.path)
    store = open_store(place.store)
    runbook = named("patch-linux").runbook
    assert runbook.operation is not None
    wanted = Wanted(name, runbook, runbook.operation(packages="all"), requester=REQUESTER, replans=replans)
    request = open_request(wanted, place, store, int(time.time()))
    with (
        Ledger.open(store, name, place.name) as ledger, Leases(store) as leases,
        SshTransport(place.host_keys) as transport,
    ):
        yield Run(name, request, store, ledger, transport.connect, leases)


def carry_out(site: DemoSite) -> None:
    """A run whose host changes between plan and rollout."""
    with opened(site, RUN) as run:
        plan = run.make_plan(run.survey())
        wish = Wish(APPROVERS[0])
        line = approve_line(plan.to_bytes(), wish, site.key(APPROVERS[0]), int(time.time()))
        run.receive(run.ask(), [line], {"decision": "approve", "reason": ""})
        assert run.check_gate().passed
        site.estate["solo"].exec("apt-mark hold lab-web")
        ending = finish(run)
    assert [one.terminal for one in ending.outcomes] == [Terminal.DRIFTED]


def test_a_drifted_host_is_planned_anew_and_only_the_difference_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Estate(f"replan-{os.getpid()}", [HostSpec("solo", boot_seconds=1)], tmp_path / "estate") as estate:
        site = DemoSite(tmp_path / "site", estate, {"rollout": {}})
        site.write()
        hosts = yaml.safe_load((site.path / "hosts.yaml").read_text())
        hosts["all"]["vars"] |= {"lamplighter_min_free_mb_root": 1}
        (site.path / "hosts.yaml").write_text(yaml.safe_dump(hosts))
        for name, value in site.env.items():
            monkeypatch.setenv(name, value)
        carry_out(site)
        with pytest.raises(SystemExit) as ended:
            main(["replan", RUN, "--json"])
        assert not ended.value.code
        told = json.loads(capsys.readouterr().out)
        (host,) = told["hosts"]
        assert host["ended"].startswith("drifted: changed since the plan, not touched: held")
        assert any("lab-web" in line and line.endswith("→ absent") for line in host["different"])
        assert told["plan"]["hosts"][0]["steps"], "the other packages are still to be upgraded"
        with pytest.raises(SystemExit):
            main(["replan", RUN])
        shown = capsys.readouterr().out
        assert "left by" in shown
        assert "1 of 1 hosts would be changed" in shown
        takes_it_up(site, capsys, monkeypatch)


def takes_it_up(
    site: DemoSite, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The approver of the next run sees what differs, and below it all that they sign."""
    with opened(site, NEXT, RUN) as run:
        plan = run.make_plan(run.survey())
        page = gate_page(plan, "UTC", run.check_gate(), 1, RUN, deltas(run.store, run.site, RUN, plan))
    told = r"What differs from .*0000000d.*\| solo \| drifted: .*lab-web.*→ absent"
    assert re.search(told, page, re.DOTALL)
    assert plan.digest[:20] in page
    assert page.index("What differs from") < page.index("What will be done"), "and all of it below"
    monkeypatch.setattr("typer.prompt", lambda *_, **__: "no")
    with pytest.raises(SystemExit):
        main(["approve", NEXT, "--key", str(site.key(APPROVERS[0]))])
    asked = capsys.readouterr().out
    assert f"left by {RUN}" in asked
    assert asked.index("left by") < asked.index("to note"), "the difference stands above the plan"
    with opened(site, NEXT) as run:
        assert run.request.replans == RUN, "the ledger says so, whatever the parameters say by now"
    with pytest.raises(SystemExit):
        main(["show", NEXT])
    assert f"left by {RUN}" in capsys.readouterr().out
    with pytest.raises(SelectionError, match="has not ended"), opened(site, "patch-linux-0000000f", NEXT):
        pass
    with pytest.raises(SelectionError, match="is no run of demo"), opened(site, "patch-linux-0000000f", "x"):
        pass
