"""Whole gated rollouts, killed again and again, and gone on with until they end.

A driver process plans, gets its approval, and rolls out over simulated hosts that outlive it. It is killed
with SIGKILL at every named crash point and at random moments, or stopped with SIGTERM, and started again.
The judges are the hosts themselves, which count what was started on them, and the offline verifier.
`make torture` runs the full numbers; SIGKILL leaves the page cache alone, so this shows order and recovery,
not fsync (tests/test_ledger.py watches the syncs).
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from lamplighter import crashpoints
from lamplighter.model.outcome import Terminal
from lamplighter.transports.simulator import Faults
from tests.assurance import much, report
from tests.bench.rows import Row
from tests.enginekit import Lab, carry_out, problems

pytestmark = [pytest.mark.faults, pytest.mark.timeout(3600)]

HOSTS = [f"h{number}" for number in range(6)]
LOOSE = {"canary_failures": 9, "wave_percent": 100, "run_failures": 99, "parallel": 3}
ELSEWHERE = ("outbox.", "delivery.")  # a rollout sends nothing
POINTS = [name for name in crashpoints.NAMES if not name.startswith(ELSEWHERE)]
RECOVERING = {"log.truncate.before", "log.truncate.done", "ledger.recovered"}
CALM, ROUGH = Faults(unit=(0, 0.02)), Faults(unit=(0, 0.02), drop=0.15, latency=(0, 0.002))
TRIES = 60


def drive(lab: Lab) -> int:
    """What the driver does, each time it is started."""

    def terminate(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, terminate)
    lab.open()
    try:
        with lab.run() as run:
            carry_out(lab, run)
    except KeyboardInterrupt:
        return 130
    return 0


def start(lab: Lab, crash: tuple[str, int] = ("", 0)) -> int:
    """Fork a driver that dies as told; returns its process id."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.setpgid(0, 0)
            quiet = os.open(os.devnull, os.O_WRONLY)
            os.dup2(quiet, 2)
            crashpoints._NAME, crashpoints._COUNT = crash
            crashpoints._PASSED.clear()
            status = drive(lab)
        finally:
            os._exit(status)
    return pid


def ended(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


class Campaign:
    """Counts over many rollouts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.figures: Counter[str] = Counter()

    def lab(self, faults: Faults = CALM) -> Lab:
        self.figures["rollouts"] += 1
        folder = self.folder / str(self.figures["rollouts"])
        lab = Lab(
            folder, HOSTS, limits=LOOSE, waves={"canary": 1, "shares": [50, 100]}, persistent=True,
            faults=faults, seed=self.figures["rollouts"],
        )
        lab.close()
        return lab

    def finish(self, lab: Lab) -> None:
        """Start it until it ends, and judge."""
        for _ in range(TRIES):
            if ended(start(lab)) == 0:
                break
        else:
            raise AssertionError("it does not end")
        lab.open()
        self._judge(lab)
        lab.close()

    def _judge(self, lab: Lab) -> None:
        twice = [key for key, times in lab.fleet.starts().items() if times != 1]
        twice += [host for host in HOSTS if max([*lab.counts(host).values(), 0]) > 1]
        with lab.run() as run:
            history = run.history
            lost = set(HOSTS) - set(history.hosts)
            without = history.intents - history.outcomes.keys()
            outcomes = Counter((one["host"], one["step"]) for one in run.ledger.records("outcome"))
            unsure = sum(one.terminal is Terminal.UNKNOWN for one in history.hosts.values())
            done = [host for host, one in history.hosts.items() if one.terminal is Terminal.CHANGED]
        said = {host: lab.counts(host) for host in done}
        untrue = [host for host, counts in said.items() if counts != {"upgrade": 1, "restart": 1}]
        found = {
            "steps applied twice": twice, "hosts lost": lost, "intents without outcome": without,
            "outcomes twice": [key for key, times in outcomes.items() if times > 1],
            "said to be changed, and the host says no": untrue, "broken promises": problems(lab.inspect()),
        }
        assert not any(found.values()), (lab.folder, found)
        assert not history.interrupted
        assert len(list(lab.store.list("seals"))) == 1, "sealed once, however often it died"
        self.figures["unknown"] += unsure
        self.figures["hosts"] += len(HOSTS)

    def report(self, name: str, goal: int, **more: float) -> None:
        """The figures; a campaign that found something wrong did not come here."""
        figures = self.figures
        report("kills", [
            Row(f"{name}_kills", figures["kills"], "kills", goal, higher=True),
            Row(f"{name}_rollouts", figures["rollouts"], "rollouts"),
            Row(f"{name}_steps_twice", 0, "steps", 0),
            Row(f"{name}_intents_without_outcome", 0, "intents", 0),
            Row(f"{name}_hosts_lost", 0, "hosts", 0),
            Row(f"{name}_hosts_unknown_percent", 100 * figures["unknown"] / max(figures["hosts"], 1), "%"),
            *(Row(f"{name}_{key}", value, "times") for key, value in more.items()),
        ])


@pytest.mark.parametrize("name", POINTS)
def test_killed_at_every_named_point(tmp_path: Path, name: str) -> None:
    campaign, dice = Campaign(tmp_path), random.Random(name)  # noqa: S311 - a repeatable campaign
    wanted = much(2, 50)
    while campaign.figures["kills"] < wanted:
        lab = campaign.lab()
        for _ in range(6):
            if name in RECOVERING:
                ended(start(lab, ("log.append.half", dice.randint(1, 12))))
            most = 1 if name.startswith("ledger.seal") or name in RECOVERING else 12
            campaign.figures["kills"] += ended(start(lab, (name, dice.randint(1, most)))) == -signal.SIGKILL
            if campaign.figures["kills"] >= wanted:
                break
        campaign.finish(lab)
        assert campaign.figures["rollouts"] < 20 * wanted, f"nothing comes past {name}"
    campaign.report(f"at_{name.replace('.', '_').replace('-', '_')}", wanted)


@pytest.mark.parametrize(("name", "faults"), [("calm", CALM), ("rough", ROUGH)])
def test_killed_at_random_moments(tmp_path: Path, name: str, faults: Faults) -> None:
    """Half of the kills at a crash point, half at any moment; in the rough, connections break as well."""
    campaign, dice = Campaign(tmp_path), random.Random(name)  # noqa: S311 - as above
    wanted = much(25, 500)
    while campaign.figures["kills"] < wanted:
        lab = campaign.lab(faults)
        for _ in range(dice.randint(1, 6)):
            if dice.random() < 0.5:
                status = ended(start(lab, ("*", dice.randint(1, 150))))
            else:
                pid = start(lab)
                time.sleep(dice.uniform(0, 0.25))
                os.kill(pid, signal.SIGKILL)
                status = ended(pid)
            campaign.figures["kills"] += status == -signal.SIGKILL
        campaign.finish(lab)
    campaign.report(f"random_{name}", wanted)


def test_stopped_at_random_moments(tmp_path: Path) -> None:
    campaign, dice = Campaign(tmp_path), random.Random("stop")  # noqa: S311 - as above
    wanted, slowest = much(12, 500), 0.0
    while campaign.figures["kills"] < wanted:
        lab = campaign.lab(ROUGH)
        for _ in range(dice.randint(1, 4)):
            pid = start(lab)
            time.sleep(dice.uniform(0.02, 0.3))
            began = time.monotonic()
            os.kill(pid, signal.SIGTERM)
            status = ended(pid)
            slowest = max(slowest, time.monotonic() - began)
            campaign.figures["kills"] += status in {130, -signal.SIGTERM}
            if status == 130:
                self_closed(lab)
        campaign.finish(lab)
    campaign.report("stopped", wanted, slowest_stop_s=slowest)


def self_closed(lab: Lab) -> None:
    """A worker that was stopped in good order leaves no intent open."""
    lab.open()
    with lab.run() as run:
        assert not run.journal.open_steps()
    lab.close()


def test_the_campaign_notices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that repeats what it announced, instead of asking the host, is found out."""
    from tests import enginekit  # noqa: PLC0415 - patched below

    def blind(*_: Any) -> None:
        return None

    def careless(self: Any, host: Any, step: Any, session: Any, unit: str) -> Any:
        del unit
        name = f"again-{random.getrandbits(64):x}"
        session.launch(name, step.id, str(step.args["to"]))
        return self._proof(host, step, session.wait(name, timeout=60))

    monkeypatch.setattr(enginekit.Bump, "probe", blind)
    monkeypatch.setattr(enginekit.Bump, "apply", careless)
    lab = Campaign(tmp_path).lab()
    assert ended(start(lab, ("rollout.before-outcome", 2))) == -signal.SIGKILL
    with pytest.raises(AssertionError, match=r"h\d"):
        Campaign(tmp_path).finish(lab)
