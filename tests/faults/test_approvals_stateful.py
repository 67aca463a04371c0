"""Random sequences of request, approve, reject, revoke, expire, drift, replan, crash, resume.

Beside the engine walks a second, much simpler account of who has said what (`Said`). Whenever a host is
touched, that account must say that it was allowed at that moment. In the end the offline verifier judges
every ledger. CI tries a few hundred sequences, `make torture` 10,000.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from lamplighter.engine import gatekeeper, terms
from lamplighter.engine.gatekeeper import drop_line
from lamplighter.engine.run import Run
from lamplighter.model.approval import Decision, read_statement
from lamplighter.model.envelope import read_line
from lamplighter.model.gate import DEFAULT_MAX_AGE
from tests.assurance import much, report
from tests.bench.rows import Row
from tests.enginekit import ASHA, KIRAN, LOOSE, PRIYA, Bump, Clock, Lab, problems

pytestmark = [pytest.mark.faults, pytest.mark.timeout(6 * 3600)]

HOSTS = ("a", "b", "c")
INTERNAL = (ASHA, KIRAN)
ANYBODY = (ASHA, KIRAN, PRIYA)
FIGURES: Counter[str] = Counter()
SHARED: list[Lab] = []


class Still(Clock):
    """Time that only the test moves."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead = float(int(time.time()))

    def time(self) -> float:
        return self.ahead


@dataclass
class Said:
    """Who has said what about one plan: the judge of the judge."""

    digest: str
    expires: int
    approved: dict[str, tuple[int, int]] = field(default_factory=dict)  # id: from, to
    closed: bool = False

    def allows(self, now: float) -> bool:
        in_time = any(start <= int(now) < end for start, end in self.approved.values())
        return in_time and not self.closed and now < self.expires

    def hear(self, line: str, signer: str) -> None:
        """A line that reached the run, and whose key really signed it."""
        said = read_statement(read_line(line).statement)
        if signer != said.approver or signer not in INTERNAL or said.plan != self.digest:
            return
        if said.decision is Decision.APPROVE:
            end = min(said.expires, said.not_before + DEFAULT_MAX_AGE + 1)
            self.approved[said.id] = (said.not_before, end)
        elif said.revokes:
            self.approved.pop(said.revokes, None)
            self.approved[said.revokes] = (0, 0)  # should it come later, it is revoked already
        else:
            self.closed = True


class Sequences(RuleBasedStateMachine):
    """One site, one run after the other."""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="lamplighter-", dir=_fast()))
        self.clock = Still()
        self.lab = Lab(self.folder, HOSTS, clock=self.clock, like=SHARED[0])
        self.lines: list[tuple[str, str]] = []
        self.touched: list[tuple[str, bool]] = []
        self.number = 0
        self.request()

    def request(self) -> None:
        """A new run with a plan of its own."""
        self.number += 1
        self.over = False
        for host in HOSTS:
            note = self.lab.fleet.look(host).facts.get("note", "")
            self.lab.fleet.set_facts(host, {"version": 1, "note": note})
        with self.lab.run(self.name) as run:
            self.plan = run.make_plan(run.survey())
            self.said = Said(self.plan.digest, self.plan.expires)

    @property
    def name(self) -> str:
        return f"bump-{self.number:08d}"

    # --- what people do -------------------------------------------------------------------------

    @rule(who=st.sampled_from(ANYBODY), key=st.sampled_from(ANYBODY), own=st.sampled_from([1, 1, 0]),
          lasts=st.sampled_from([60, 600, 30 * 86400]), dropped=st.booleans())
    def approve(self, who: str, lasts: int, key: str, *, own: int, dropped: bool) -> None:
        signer = who if own else key
        line = self.lab.sign(self.plan.to_bytes(), who, lasts=lasts, key=signer)
        self.deliver(line, signer, dropped=dropped)

    @precondition(lambda self: self.lines)
    @rule(data=st.data(), dropped=st.booleans())
    def replay_an_old_line(self, data: st.DataObject, *, dropped: bool) -> None:
        line, signer = data.draw(st.sampled_from(self.lines))
        self.deliver(line, signer, dropped=dropped)

    @rule(who=st.sampled_from([PRIYA, PRIYA, PRIYA, ASHA]),
          decision=st.sampled_from([Decision.REJECT, Decision.REVOKE]))
    def close(self, who: str, decision: Decision) -> None:
        self.deliver(self.lab.sign(self.plan.to_bytes(), who, decision), who, dropped=True)

    @precondition(lambda self: self.said.approved)
    @rule(who=st.sampled_from(ANYBODY), data=st.data())
    def take_one_back(self, who: str, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(sorted(self.said.approved)))
        line = self.lab.sign(self.plan.to_bytes(), who, Decision.REVOKE, revokes=one)
        self.deliver(line, who, dropped=True)

    @precondition(lambda self: not self.over)
    @rule(decision=st.sampled_from(["approve", "none", "approve", "none", "reject"]),
           text=st.sampled_from(["", "a b c"]))
    def resume_without_a_signature(self, decision: str, text: str) -> None:
        with self.open() as run:
            run.receive(run.ask(), text.split(), {"decision": decision, "reason": text})
            self.said.closed |= decision == "reject"
            self.wave(run)

    def deliver(self, line: str, signer: str, *, dropped: bool) -> None:
        self.lines.append((line, signer))
        if dropped or self.over:
            drop_line(self.lab.store, self.plan.digest, line)
        else:
            with self.open() as run:
                run.receive(run.ask(), [line], {"decision": "approve", "reason": ""})
        if not self.over:
            self.said.hear(line, signer)

    # --- what happens ---------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([6, 6, 6, 61, 61, 601, 86400, 73 * 3600]))
    def time_passes(self, seconds: int) -> None:
        self.clock.sleep(seconds)

    @rule(host=st.sampled_from(HOSTS), note=st.sampled_from(["", "x", "y"]))
    def drift(self, host: str, note: str) -> None:
        facts = self.lab.fleet.look(host).facts
        self.lab.fleet.set_facts(host, {**facts, "note": note})

    @precondition(lambda self: not self.over)
    @rule()
    def approve_and_carry_on(self) -> None:
        self.approve(ASHA, 600, ASHA, own=1, dropped=True)
        self.carry_on("", "")

    @precondition(lambda self: not self.over)
    @rule(event=st.sampled_from(["", "", "", "reject", "expire", "crash", "stop"]), at=st.sampled_from(HOSTS))
    def carry_on(self, event: str, at: str) -> None:
        """The next wave; in its middle, while a host is looked at, something may happen."""
        with self.open() as run, contextlib.suppress(KeyboardInterrupt):
            self.wave(run, event, at)

    @rule()
    def replan(self) -> None:
        if not self.over:
            with self.open() as run:
                self.finish(run)
        self.request()

    # --- how it is carried out ------------------------------------------------------------------

    @contextlib.contextmanager
    def open(self) -> Iterator[Run]:
        self.clock.sleep(6)  # the verifier forgives five seconds between a look at the gate and a step
        self.operation = Bump()
        with self.lab.run(self.name, self.operation) as run:
            yield run

    def wave(self, run: Run, event: str = "", at: str = "") -> None:
        run.check_gate()
        number = len(run.history.waves) + 1
        if run.history.passed and not run.history.ended() and number <= len(self.plan.waves):
            hooks = {"survey": self.trouble(event, at), "apply": self.notice, "probe": self.notice_probe}
            self.operation.hooks.update(hooks)
            run.rollout().roll_out(number)
        if run.history.ended() or len(run.history.waves) == len(self.plan.waves):
            self.finish(run)

    def finish(self, run: Run) -> None:
        run.close()
        self.over = True

    def trouble(self, event: str, at: str) -> Callable[[str], None]:
        def happen(host: str) -> None:
            if host != at or not event:
                return
            self.clock.sleep(10)
            if event == "reject":
                line = self.lab.sign(self.plan.to_bytes(), ASHA, Decision.REJECT)
                drop_line(self.lab.store, self.plan.digest, line)
                self.said.hear(line, ASHA)
            elif event == "expire":
                self.clock.sleep(601)
            elif event == "crash":
                self.operation.hooks["apply"] = self.die
            else:
                raise KeyboardInterrupt

        return happen

    def notice(self, host: str) -> None:
        """Called at the moment a step begins: was it allowed?"""
        self.touched.append((host, self.said.allows(self.clock.time())))

    def notice_probe(self, _: str) -> None:
        """Asking a host is always allowed."""

    def die(self, host: str) -> None:
        self.notice(host)
        raise KeyboardInterrupt

    # --- what must hold -------------------------------------------------------------------------

    @invariant()
    def nobody_touches_a_host_without_a_valid_approval(self) -> None:
        assert all(allowed for _, allowed in getattr(self, "touched", ())), self.touched

    def teardown(self) -> None:
        if not hasattr(self, "lab"):
            return
        FIGURES["sequences"] += 1
        FIGURES["touches"] += len(self.touched)
        FIGURES["without approval"] += sum(not allowed for _, allowed in self.touched)
        FIGURES["runs"] += self.number
        starts = self.lab.fleet.starts()
        found = problems(self.lab.inspect())
        self.lab.close()
        shutil.rmtree(self.folder)
        assert max(starts.values(), default=0) <= 1
        assert not found


def _fast() -> str | None:
    """Memory where there is some: nothing here is about the disk."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def test_no_host_is_touched_without_a_valid_approval(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gatekeeper, "POLICY_SECONDS", 0.0)
    monkeypatch.setattr(terms, "POLICY_SECONDS", 0.0)
    limits = {**LOOSE, "parallel": 1}
    SHARED[:] = [Lab(tmp_path, HOSTS, limits=limits, waves={"canary": 1, "shares": [100]})]
    time.sleep(2.1)  # files that are older need not be read anew each time
    wanted = much(200, 10_000)
    how: Any = {"max_examples": wanted, "stateful_step_count": 14, "database": None}
    run_state_machine_as_test(Sequences, settings=settings(
        **how, deadline=None, suppress_health_check=list(HealthCheck)
    ))
    SHARED[0].close()
    report("approvals", [
        Row("approval_sequences", FIGURES["sequences"], "sequences", wanted, higher=True),
        Row("approval_runs", FIGURES["runs"], "runs"),
        Row("approval_steps_begun", FIGURES["touches"], "steps", wanted / 10, higher=True),
        Row("approval_steps_begun_unapproved", FIGURES["without approval"], "steps", 0),
    ])
