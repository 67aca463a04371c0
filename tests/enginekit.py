"""A whole run over simulated hosts: site, people, keys, signatures, and an operation that counts.

The hosts are `lamplighter.transports.simulator` rows, so everything but the hosts is the real thing: site
files, gate, signatures, leases, ledger on disk, waves. The oracle is on the hosts' side: each host counts
what was started on it.
"""

from __future__ import annotations

import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lamplighter.engine.drafting import Request
from lamplighter.engine.run import Ending, Run
from lamplighter.engine.stages import keep_decision
from lamplighter.errors import RefusedError, RemoteFailedError, SessionLostError, UnitExistsError
from lamplighter.inspection import Inspection, inspect
from lamplighter.leases import Leases
from lamplighter.ledger import Ledger
from lamplighter.model import stage
from lamplighter.model.approval import NAMESPACE, Decision, Statement
from lamplighter.model.canonical import sha256
from lamplighter.model.envelope import Envelope
from lamplighter.model.gate import internal
from lamplighter.model.inventory import Host
from lamplighter.model.outcome import Evidence, Health, Outcome, StepResult
from lamplighter.model.party import Party
from lamplighter.model.plan import HostPlan, Requester, Step
from lamplighter.model.runbook import ChangeType, Risk, Runbook
from lamplighter.model.session import Completed, Session, UnitState
from lamplighter.site import load_site
from lamplighter.transports.simulator import SimulatedFleet, SimulatedHost
from tests.sshkit import Pair
from tests.storekit import a_store, store_entry

ASHA, KIRAN = "asha.patel@internal.example", "kiran.shah@internal.example"
PRIYA = "priya.nair@msp.example"
ROOT = Path(__file__).parents[1]
SITE = "demo"
PEOPLE = (ASHA, KIRAN, PRIYA)


@dataclass(frozen=True)
class HostFacts:
    """What a simulated host tells."""

    version: int
    note: str = ""

    def relevant(self) -> dict[str, Any]:
        return {"version": self.version, "note": self.note}


def play(host: SimulatedHost, script: str, args: tuple[str, ...]) -> Completed:
    """The simulated host: it counts what it is told to do."""
    facts = host.facts
    if script == "facts":
        return Completed(0, f"{facts.get('version', 1)} {facts.get('note', '')}", "")
    if script == "upgrade":
        facts["version"] = int(args[0])
    counts = facts.setdefault("counts", {})
    counts[script] = counts.get(script, 0) + 1
    code = 100 if script in facts.get("breaks", ()) else 0
    return Completed(code, script, "it broke" if code else "")


@dataclass
class Bump:
    """An operation of two steps, `upgrade` and `restart`, both of which must not happen twice.

    Attributes:
        steps: of each host that is not at the target version yet.
        hooks: called by name (`survey`, `plan`, `apply`, `probe`, `verify`) with the host's name; what they
            raise is what that call raises.
    """

    target: int = 2
    steps: tuple[str, ...] = ("upgrade", "restart")
    hooks: dict[str, Callable[[str], None]] = field(default_factory=dict)

    def _hook(self, name: str, host: str) -> None:
        if name in self.hooks:
            self.hooks[name](host)

    def options(self) -> dict[str, Any]:
        return {"target": self.target}

    def survey(self, host: Host, session: Session) -> HostFacts:
        self._hook("survey", host.name)
        version, _, note = session.run("facts").stdout.partition(" ")
        return HostFacts(int(version), note)

    def plan(self, host: Host, facts: HostFacts) -> HostPlan:
        self._hook("plan", host.name)
        if facts.version >= self.target:
            return HostPlan.of(host.name, facts, reason="up to date")
        told = f"{facts.version} to {self.target}"
        steps = [Step(name, f"sim.{name}", f"{name}: {told}", {"to": self.target}) for name in self.steps]
        return HostPlan.of(host.name, facts, steps)

    def apply(self, host: Host, step: Step, session: Session, unit: str) -> Evidence:
        self._hook("apply", host.name)
        try:
            session.launch(unit, step.id, str(step.args["to"]))
        except UnitExistsError as error:
            raise AssertionError("the engine begins a step that began before") from error
        return self._proof(host, step, session.wait(unit, timeout=3600))

    @staticmethod
    def _proof(host: Host, step: Step, done: Completed) -> Evidence:
        if done.exit_code:
            raise RemoteFailedError(f"{step.id} ended with {done.exit_code}: {done.stderr}", where=host.name)
        return Evidence(f"{step.id} done", {"exit": done.exit_code})

    def probe(self, host: Host, step: Step, session: Session, unit: str) -> Outcome | None:
        self._hook("probe", host.name)
        if session.unit_state(unit) is UnitState.ABSENT:
            return None
        try:
            return Outcome(StepResult.OK, self._proof(host, step, session.wait(unit, timeout=3600)))
        except RemoteFailedError as error:
            return Outcome(StepResult.FAILED, Evidence(str(error)))
        except SessionLostError as error:
            return Outcome(StepResult.UNKNOWN, Evidence(str(error)))

    def verify(self, host: Host, plan: HostPlan, session: Session) -> Health:
        self._hook("verify", host.name)
        del plan
        version = int(session.run("facts").stdout.split()[0])
        return Health(() if version == self.target else (f"version {version}",))


def locked(_: str) -> None:
    """A hook: the host declines."""
    raise RefusedError("the package database is locked", changed="Nothing was changed")


RUNBOOK = Runbook(
    id="bump-version", title="Simulated upgrade", function="patch-management", owner=Party.MSP,
    change=ChangeType.NORMAL, gate=internal("change-manager"), risk=Risk.LOW, operation=Bump,
)


class Clock:
    """Time that a test moves; follows real time plus what was slept."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def time(self) -> float:
        return time.time() + self.ahead

    def sleep(self, seconds: float) -> None:
        self.ahead += max(0.0, seconds)


class Lab:
    """A site of simulated hosts on disk: opening the folder again goes on from what is there.

    Args:
        folder: everything is below it.
        hosts: names, or names with inventory variables.
        limits, waves: as in site.yaml.
        fleet: keyword arguments for `SimulatedFleet`.
        persistent: whether the hosts live in a file, for other processes and after a crash.
        like: another lab, whose site's files are used, so that they need not be written and read again.
    """

    def __init__(
        self, folder: Path, hosts: Sequence[str] | Mapping[str, dict[str, Any]], *,
        limits: Mapping[str, Any] | None = None, waves: Mapping[str, Any] | None = None,
        persistent: bool = False, clock: Clock | None = None, like: Lab | None = None, **fleet: Any,
    ) -> None:
        self.folder, self.path, self.clock = folder, folder / SITE, clock or Clock()
        self.hosts = dict(hosts) if isinstance(hosts, Mapping) else {name: {} for name in hosts}
        self.keys: dict[str, Pair] = {}
        if like:
            self.path, self.keys, self._decision = like.path, like.keys, like._decision
        else:
            self._write(dict(limits or {}), dict(waves or {}))
        keep_decision(a_store(folder / "store"), RUNBOOK.function, self._decision)
        self._how = {"seed": 1, "clock": self.clock, **fleet}
        self._kept = folder / "fleet.sqlite" if persistent else None
        self.forged = False  # set by a test that writes what no worker of ours would
        self.open()

    def open(self) -> None:
        """Connect to hosts and store: a forked process must do so for itself."""
        self.fleet = SimulatedFleet(names=self.hosts, handler=play, path=self._kept, **self._how)
        self.store = a_store(self.folder / "store")

    def _write(self, limits: dict[str, Any], waves: dict[str, Any]) -> None:
        """The demo site with simulated hosts, new keys, and nothing that a rollout does not need."""
        shutil.copytree(ROOT / "inventories" / SITE, self.path)
        site = yaml.safe_load((self.path / "site.yaml").read_text())
        rollout = {"default": {"limits": {"soak_seconds": 0, **limits}, "waves": waves}}
        store = store_entry(self.folder / "store")
        site |= {"store": store, "rollout": rollout, "deployments": [], "gates": {}}
        everything = {"vars": {"ansible_connection": "simulated"}, "hosts": self.hosts}
        (self.path / "calendar.yaml").unlink(missing_ok=True)  # it names groups that are not here
        for name, value in (("site.yaml", site), ("hosts.yaml", {"all": everything})):
            (self.path / name).write_text(yaml.dump(value, sort_keys=False, Dumper=_DUMPER))
        (self.path / "host_keys").write_text("")
        self.keys = {person: Pair() for person in PEOPLE}
        lines = [f"{person} {pair.public_line}\n" for person, pair in self.keys.items()]
        (self.path / "approvers").write_text("".join(lines))
        self._hand_over()

    def _hand_over(self) -> None:
        """Internal IT delegates the simulated runbook's function, for good."""
        matrix = yaml.safe_load((self.path / "responsibilities.yaml").read_text())
        matrix["functions"][RUNBOOK.function] |= {
            "runbooks": [RUNBOOK.id], "stage": "delegated", "demote_on": [],
        }
        (self.path / "responsibilities.yaml").write_text(yaml.dump(matrix, Dumper=_DUMPER))
        now = int(self.clock.time())
        decision = stage.Decision(
            SITE, RUNBOOK.function, stage.Stage.DELEGATED, ASHA, now - 1, now + 86400 * 300,
            secrets.token_hex(16), sha256(b"none"),
        ).to_bytes()
        signature = self.keys[ASHA].sign(decision, stage.NAMESPACE)
        self._decision = Envelope(decision, signature).to_line()

    @contextmanager
    def run(
        self, run: str = "bump-1", operation: Bump | None = None, *, selection: str = "all",
        requester: str = PRIYA, connect: Callable[[Host], Session] | None = None,
    ) -> Iterator[Run]:
        """Open a run, new or to go on with."""
        site = load_site(self.path)
        request = Request(RUNBOOK, site, operation or Bump(), Requester(requester), selection)
        with (
            Ledger.open(self.store, run, SITE, clock=self.clock.time) as ledger,
            Leases(self.store, ttl=5, margin=0, clock=self.clock.time) as leases,
        ):
            yield Run(
                run, request, self.store, ledger, connect or self.fleet.connect, leases,
                self.clock.time, self.clock.sleep, 0.02, 0.1,
            )

    def sign(
        self, plan: bytes, who: str = ASHA, decision: Decision = Decision.APPROVE, *,
        lasts: int = 3600, revokes: str = "", key: str = "",
    ) -> str:
        """A signed line."""
        now = int(self.clock.time())
        statement = Statement(
            sha256(plan), decision, who, now, now + lasts, secrets.token_hex(16), "", revokes
        ).to_bytes()
        return Envelope(statement, self.keys[key or who].sign(statement, NAMESPACE)).to_line()

    def approve(self, run: Run, who: str = ASHA, **how: Any) -> str:
        """Sign the run's plan and hand the line in, as a resume would; returns it."""
        line = self.sign(run.plan().to_bytes(), who, **how)
        run.receive(run.ask(), [line], {"decision": "approve", "reason": ""})
        return line

    def counts(self, host: str) -> dict[str, int]:
        """What the host itself says was started on it, by step."""
        return dict(self.fleet.look(host).facts.get("counts", {}))

    def inspect(self) -> Inspection:
        """What `lamplighter verify --site` finds."""
        site = load_site(self.path)
        return inspect(self.store, SITE, lambda runbook: site.gate_policy(runbook, self.store))

    def close(self) -> None:
        self.fleet.close()


def problems(found: Inspection) -> list[str]:
    """What the offline verifier complains about."""
    return [
        *(f"{run.run} {one.record} {one.code} {one.message}" for run in found.runs for one in run.problems),
        *(f"chain {one.record} {one.code} {one.message}" for one in found.problems),
    ]


def carry_out(lab: Lab, run: Run) -> Ending:
    """Everything a flow does, with an approver who signs at once."""
    plan = run.make_plan(run.survey())
    if plan.waves and not run.history.ended() and not run.check_gate().passed:
        if not run.history.ended() and not run.history.approvals:
            lab.approve(run)
        run.check_gate()
    return finish(run)


def finish(run: Run) -> Ending:
    """The waves and the report."""
    for wave, _ in enumerate(run.plan().waves, 1):
        if run.history.ended():
            break
        run.rollout().roll_out(wave)
    return run.close()


def states(ending: Ending) -> dict[str, str]:
    """Host to terminal state."""
    return {one.host: str(one.terminal) for one in ending.outcomes}


def message(ending: Ending, host: str) -> str:
    return next(one.message for one in ending.outcomes if one.host == host)


def on(*names: str, error: BaseException | None = None, act: Callable[[], None] = lambda: None) -> Any:
    """A hook that acts, and fails, on some hosts."""

    def hook(host: str) -> None:
        if host in names:
            act()
            if error:
                raise error

    return hook


Make = Callable[..., Lab]
HOSTS = ["a", "b", "c", "d", "e"]
LOOSE = {"canary_failures": 9, "wave_percent": 100, "run_failures": 99}


def labs(folder: Path) -> Iterator[Make]:
    """For a fixture: builds labs, and in the end has the offline verifier look at each of them."""
    made: list[Lab] = []

    def build(hosts: Any = HOSTS, **how: Any) -> Lab:
        made.append(Lab(folder / f"lab{len(made)}", hosts, **how))
        return made[-1]

    yield build
    for lab in made:
        found = lab.inspect()
        lab.close()
        assert lab.forged or not problems(found), "the offline verifier must find nothing"


def quiet_threads(before: int, seconds: float = 5.0) -> bool:
    """Whether no more threads than before are left."""
    deadline = time.monotonic() + seconds
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.02)
    return threading.active_count() <= before


class _Dumper(yaml.CSafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        del data
        return True


_DUMPER = _Dumper
