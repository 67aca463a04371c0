"""Did this run keep the promises? Judged from its records alone, offline, years later.

The chain proves that the records are the ones that were written (`model/chain.py`); this module asks
whether what they say was allowed: the plan is the stored one, every wave came in its order and only after
the one before was terminal, within budget and looked after, every host was touched inside its window and
under a gate that was open at that moment, every intent has exactly one outcome, every host one end.

Records come in one by one; what is kept is proportional to the hosts of the plan, not to the records.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lamplighter.errors import MalformedError
from lamplighter.model.canonical import sha256
from lamplighter.model.chain import SEALED, Record
from lamplighter.model.gate import GateResult
from lamplighter.model.outcome import HostOutcome, RunState, StepResult, Terminal, tally
from lamplighter.model.plan import HostPlan, Plan, read_plan
from lamplighter.model.waves import overspent

GRACE = 5
"""Seconds between the worker's last look at the gate and the durable intent."""

Bytes = Callable[[str], bytes | None]
"""Digest of a plan to its stored bytes."""
Judge = Callable[[bytes, Sequence[str], int], GateResult]
"""Plan bytes, the signed lines recorded so far, and a time, to the gate's answer."""

_UNTOUCHED = {Terminal.UNCHANGED, Terminal.UNREACHABLE, Terminal.DRIFTED, Terminal.SKIPPED}


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One broken promise.

    Attributes:
        record: the record that shows it; the last one when it is about what is missing.
        code: short and stable, for programs.
        message: for people.
    """

    record: int
    code: str
    message: str


class Audit:
    """Follows one run, record by record; see the module's docstring.

    Args:
        run, site: what the records belong to.
        plan_bytes: finds a plan's stored bytes.
        judge: evaluates the gate; None leaves signatures and gates unjudged.

    Attributes:
        problems: in the order they were found.
        open: (host, step) of intents without an outcome so far.
    """

    def __init__(self, run: str, site: str, plan_bytes: Bytes, judge: Judge | None) -> None:
        self.problems: list[Problem] = []
        self.open: set[tuple[str, str]] = set()
        self._run, self._site, self._plan_bytes, self._judge = run, site, plan_bytes, judge
        self._plan: Plan | None = None
        self._bytes = b""
        self._planned: dict[str, HostPlan] = {}
        self._wave_of: dict[str, int] = {}
        self._lines: list[str] = []
        self._hosts: dict[str, HostOutcome] = {}
        self._done: dict[str, list[StepResult]] = {}
        self._begun: dict[str, list[str]] = {}
        self._running = self._ended = self._soaked = 0
        self._opened = self._passed = False
        self._halted = False
        self._last = 0
        self._judged: tuple[tuple[int, int], str] = ((-1, -1), "")

    def note(self, record: Record) -> None:
        """Judge one more record; kinds that promise nothing are passed over."""
        if not self._opened and record.kind not in {"opened", "recovered"}:
            self._find(record, "no-opening", "the first record does not open the run")
            self._opened = True  # said once
        self._last = record.seq
        handler = getattr(self, f"_on_{record.kind.replace('-', '_')}", None)
        try:
            for line in record.get("approvals") or ():
                if line not in self._lines:
                    self._lines.append(str(line))
            if handler:
                handler(record)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            self._find(record, "malformed", f"a {record.kind} record lacks or misstates {error}")

    def finish(self) -> tuple[Problem, ...]:
        """The problems, first record first."""
        return tuple(sorted(self.problems, key=lambda problem: problem.record))

    # --- plan and gate ----------------------------------------------------------------------------

    def _on_opened(self, record: Record) -> None:
        if self._opened:
            self._find(record, "opened-twice", "the run is opened a second time")
        self._opened = True  # a crash may have torn the opening itself: then its recovery stands before it

    def _on_planned(self, record: Record) -> None:
        if self._plan:
            self._find(record, "planned-twice", "a second plan takes the place of the first")
            return
        data = self._plan_bytes(record["plan"])
        if data is None:
            self._find(record, "plan-missing", f"the plan {record['plan']} is not in the store")
            return
        try:
            plan = read_plan(data)
        except MalformedError as error:
            self._find(record, "plan-differs", f"the stored plan cannot be read: {error.message}")
            return
        if sha256(data) != record["plan"]:
            self._find(record, "plan-differs", f"the stored plan is {sha256(data)}, not {record['plan']}")
        elif (plan.run, plan.site) != (self._run, self._site):
            self._find(record, "plan-foreign", f"the plan is that of run {plan.run} at {plan.site}")
        else:
            self._plan, self._bytes = plan, data
            self._planned = {host.host: host for host in plan.hosts}
            self._wave_of = {host: at for at, wave in enumerate(plan.waves, start=1) for host in wave}

    def _on_gate(self, record: Record) -> None:
        self._passed = record["passed"]
        if self._plan and record["plan"] != sha256(self._bytes):
            self._find(record, "plan-differs", "the gate was asked about another plan")
        if self._passed:
            self._check_gate(record, "the gate is recorded as open")

    def _check_gate(self, record: Record, what: str) -> None:
        when = int(record.when)
        key = (when, len(self._lines))
        if self._judge is None or self._plan is None:
            return
        if self._judged[0] != key:
            found = self._judge(self._bytes, self._lines, when)
            if not found.passed:
                earlier = self._judge(self._bytes, self._lines, when - GRACE)
                found = earlier if earlier.passed else found
            why = "; ".join(found.needed) or "no signature counted"
            self._judged = (key, "" if found.passed else why)
        if self._judged[1]:
            self._find(record, "gate-closed", f"{what}, but the gate was closed: {self._judged[1]}")

    # --- waves ------------------------------------------------------------------------------------

    def _on_wave_started(self, record: Record) -> None:
        number, plan = record["wave"], self._plan
        if plan is None:
            self._find(record, "no-plan", f"wave {number} starts without a plan")
            return
        if not self._passed:
            self._find(record, "gate-closed", f"wave {number} starts though no gate was passed")
        if self._halted:
            self._find(record, "after-halt", f"wave {number} starts after the run was halted")
        if number != self._running + 1 or not 1 <= number <= len(plan.waves):
            self._find(record, "wave-order", f"wave {number} starts after wave {self._running}")
        elif tuple(record["hosts"]) != plan.waves[number - 1]:
            self._find(record, "wave-hosts", f"the hosts of wave {number} are not those of the plan")
        if self._ended != self._running or (number > 1 and self._soaked != number - 1):
            self._find(record, "wave-early", f"wave {number} starts before the last ended and soaked")
        why = self._overspent(number - 1) if number > 1 else ""
        if why:
            self._find(record, "over-budget", f"wave {number} starts in spite of {why}")
        self._check_gate(record, f"wave {number} starts")
        self._running = number

    def _overspent(self, wave: int) -> str:
        if self._plan is None:
            return ""
        in_wave = [
            outcome for host, outcome in self._hosts.items() if self._wave_of.get(host) == wave
        ]
        return overspent(self._plan.limits, wave, in_wave, self._hosts.values())

    def _on_wave_ended(self, record: Record) -> None:
        number = record["wave"]
        if number != self._running or self._ended == number:
            self._find(record, "wave-order", f"wave {number} ends, and wave {self._running} is running")
        missing = [host for host, wave in self._wave_of.items() if wave == number and host not in self._hosts]
        if missing:
            self._find(record, "host-missing", f"wave {number} ends without {', '.join(missing[:5])}")
        counts = tally(one for host, one in self._hosts.items() if self._wave_of.get(host) == number)
        self._check_counts(record, counts)
        self._ended = number

    def _on_soaked(self, record: Record) -> None:
        if record["wave"] != self._ended:
            self._find(record, "wave-order", f"wave {record['wave']} soaks after wave {self._ended} ended")
        self._soaked = record["wave"]

    def _on_halted(self, _: Record) -> None:
        self._halted = True

    # --- hosts and steps --------------------------------------------------------------------------

    def _on_intent(self, record: Record) -> None:
        host, step = record["host"], record["step"]
        begun = self._begun.setdefault(host, [])
        planned = [one.id for one in self._planned[host].steps] if host in self._planned else []
        if step in begun:
            self._find(record, "intent-twice", f"{step} on {host} is started a second time")
        elif step not in planned:
            self._find(record, "not-planned", f"{step} on {host} is not in the approved plan")
        elif planned[: len(begun) + 1] != [*begun, step]:
            self._find(record, "step-order", f"{step} on {host} comes out of its order")
        elif self._done.get(host, []) != [StepResult.OK] * len(begun):
            self._find(record, "step-early", f"{step} on {host} starts after one that did not succeed")
        if self._wave_of.get(host, 0) != self._running or self._ended == self._running:
            self._find(record, "not-in-wave", f"{host} is touched while wave {self._running} has its turn")
        if host in self._hosts:
            self._find(record, "after-end", f"{host} is touched after its end was recorded")
        if self._halted:
            self._find(record, "after-halt", f"{host} is touched after the run was halted")
        if self._plan and record.when not in self._plan.window:
            self._find(record, "outside-window", f"{host} is touched outside the plan's window")
        if not begun:
            self._check_gate(record, f"{host} is touched")
        begun.append(step)
        self.open.add((host, step))

    def _on_outcome(self, record: Record) -> None:
        key = (record["host"], record["step"])
        if key not in self.open:
            known = key[1] in self._begun.get(key[0], ())
            self._find(
                record, "outcome-twice" if known else "no-intent",
                f"{key[1]} on {key[0]} has {'a second outcome' if known else 'an outcome and no intent'}",
            )
        self.open.discard(key)
        self._done.setdefault(key[0], []).append(StepResult(record["result"]))

    def _on_reconciliation(self, record: Record) -> None:
        host, step = record["host"], record["step"]
        begun = self._begun.get(host, [])
        if step not in begun or (host, step) in self.open:
            self._find(record, "no-outcome", f"{step} on {host} is reconciled without an outcome before it")
            return
        self._done[host][begun.index(step)] = StepResult(record["result"])

    def _on_host(self, record: Record) -> None:
        host, terminal = record["host"], Terminal(record["terminal"])
        before = self._hosts.get(host)
        ill = before and before.terminal is Terminal.CHANGED and terminal is Terminal.FAILED
        if before and not (ill and self._wave_of.get(host) == self._ended != self._soaked):
            self._find(record, "host-twice", f"{host} ends a second time: {before.terminal}, then {terminal}")
        if self._plan and host not in self._planned:
            self._find(record, "not-planned", f"{host} is not in the plan")
        if any(name == host for name, _ in self.open):
            self._find(record, "intent-open", f"{host} ends while a step of it has no outcome")
        why = self._contradiction(host, terminal)
        if why:
            self._find(record, "wrong-end", f"{host} is said to be {terminal}, but {why}")
        self._hosts[host] = HostOutcome(host, terminal, "", self._wave_of.get(host, 0))

    def _contradiction(self, host: str, terminal: Terminal) -> str:
        results = self._done.get(host, [])
        if terminal in _UNTOUCHED and self._begun.get(host):
            return "a step of it was started"
        if terminal is Terminal.CHANGED and host in self._planned:
            steps = len(self._planned[host].steps)
            if results.count(StepResult.OK) != steps:
                return f"{results.count(StepResult.OK)} of its {steps} steps succeeded"
        if terminal is Terminal.REFUSED and StepResult.OK in results:
            return "a step of it succeeded"
        return ""

    # --- the end ----------------------------------------------------------------------------------

    def _on_sealed(self, record: Record) -> None:
        for host, step in sorted(self.open):
            self._find(record, "intent-open", f"{step} on {host} was started and has no outcome")
        missing = sorted(self._planned.keys() - self._hosts.keys())
        if missing:
            self._find(record, "host-missing", f"no end of {len(missing)} hosts: {', '.join(missing[:5])}")
        if record["state"] == RunState.COMPLETED and self._plan and self._ended != len(self._plan.waves):
            self._find(record, "wave-order", f"{self._ended} of {len(self._plan.waves)} waves ended")
        self._check_counts(record, tally(self._hosts.values()))

    def _check_counts(self, record: Record, counts: dict[Terminal, int]) -> None:
        said = record.get("counts")
        if said is not None and said != {str(state): count for state, count in counts.items()}:
            what = "the run" if record.kind == SEALED else f"wave {record['wave']}"
            self._find(record, "counts-differ", f"the numbers of {what} are not those of its hosts")

    def _find(self, record: Record, code: str, message: str) -> None:
        self.problems.append(Problem(record.seq, code, message))
