"""What a run's ledger says happened: the state that a restarted worker goes on from.

Pure replay: records in, state out. The same replay serves "approval arrived" and "worker was killed".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from lamplighter.model.canonical import Json
from lamplighter.model.outcome import Evidence, HostOutcome, Outcome, Phase, RunState, StepResult, Terminal


class Record(Protocol):
    """A ledger record, as far as the replay cares."""

    @property
    def kind(self) -> str:
        """What happened."""

    @property
    def time(self) -> int:
        """Milliseconds since the epoch."""

    @property
    def fields(self) -> Mapping[str, Json]:
        """What it says."""


@dataclass
class History:
    """A run so far. Built by `replay`, kept current by `note`.

    Attributes:
        hosts: terminal states.
        intents: (host, step) pairs whose intent is durable.
        outcomes: what became of them; absent while unknown to the ledger.
        begun: hosts of which any step was ever announced.
        interrupted: those closed only because the worker was stopped; a probe may know better.
        waves: 1-based wave number to the time it ended, in milliseconds since the epoch.
        started: waves that began.
        soaked: waves whose soak is over.
        facts: host to the relevant facts its plan was made from.
        bound: host to the parts of what its plan is bound to (`lamplighter.engine.binding`).
        approvals: approval lines received, in order.
        claims: what came with them and cannot be known: who, which decision, why.
        surveyed: whether it began to look at its targets.
        asked, answered: numbers of the gate's questions and answers.
        looked: how many of the lines left in the store the run knew when it asked last.
        passed: whether the gate was last found open.
        against: digests of the rejects and revokes that counted at the gate; they count ever after.
        sleeping: whether it waits for its window.
        plan: digest of the plan, empty before there is one.
        ending: the state the run will end in, once something decided that no further wave starts.
        why: the sentence for it.
        sealed: final state; empty while the run is open.
    """

    hosts: dict[str, HostOutcome] = field(default_factory=dict)
    intents: set[tuple[str, str]] = field(default_factory=set)
    begun: set[str] = field(default_factory=set)
    outcomes: dict[tuple[str, str], Outcome] = field(default_factory=dict)
    interrupted: set[tuple[str, str]] = field(default_factory=set)
    waves: dict[int, int] = field(default_factory=dict)
    started: set[int] = field(default_factory=set)
    soaked: set[int] = field(default_factory=set)
    facts: dict[str, Mapping[str, Json]] = field(default_factory=dict)
    bound: dict[str, Mapping[str, str]] = field(default_factory=dict)
    approvals: list[str] = field(default_factory=list)
    against: set[str] = field(default_factory=set)
    claims: list[Mapping[str, Json]] = field(default_factory=list)
    surveyed: bool = False
    asked: int = 0
    answered: int = 0
    looked: int = 0
    passed: bool = False
    sleeping: bool = False
    plan: str = ""
    ending: RunState | None = None
    why: str = ""
    sealed: str = ""

    def note(self, record: Record) -> None:
        """Take one more record into account; kinds that do not matter here are passed over."""
        handler = getattr(self, f"_on_{record.kind.replace('-', '_')}", None)
        if handler:
            handler(record)

    def ended(self) -> bool:
        """Whether something decided that no further wave starts."""
        return self.ending is not None

    @property
    def waits(self) -> bool:
        """Whether it stands at its gate."""
        return bool(self.asked) and not (self.passed or self.ended() or self.sealed)

    @property
    def state(self) -> str:
        """How the run ended, or where it stands: one word for each, the same everywhere."""
        if self.sealed:
            return self.sealed
        if self.ended():
            return str(Phase.CLOSING)
        if self.waits:
            return str(Phase.APPROVAL)
        if self.sleeping:
            return str(Phase.WINDOW)
        return str(Phase.ROLLING_OUT if self.passed or self.started else Phase.PLANNING)

    def _on_survey(self, record: Record) -> None:
        del record
        self.surveyed = True

    def _on_facts(self, record: Record) -> None:
        self.facts[record.fields["host"]] = record.fields["relevant"]
        self.bound[record.fields["host"]] = record.fields["bound"]

    def _on_planned(self, record: Record) -> None:
        self.plan = record.fields["plan"]

    def _on_asked(self, record: Record) -> None:
        self.asked, self.looked = record.fields["number"], record.fields.get("lines", 0)

    def _on_answered(self, record: Record) -> None:
        self.answered = record.fields["number"]
        new = (line for line in record.fields["approvals"] if line not in self.approvals)
        self.approvals.extend(new)
        self.claims.append(record.fields["claimed"])

    def _on_gate(self, record: Record) -> None:
        self.against.update(record.fields["against"])
        self.passed = record.fields["passed"]

    def _on_window_awaited(self, record: Record) -> None:
        del record
        self.sleeping = True

    def _on_window_opened(self, record: Record) -> None:
        del record
        self.sleeping = False

    def _on_wave_started(self, record: Record) -> None:
        self.started.add(record.fields["wave"])
        self.sleeping = False

    def _on_wave_ended(self, record: Record) -> None:
        self.waves[record.fields["wave"]] = record.time

    def _on_soaked(self, record: Record) -> None:
        self.soaked.add(record.fields["wave"])

    def _on_intent(self, record: Record) -> None:
        self.intents.add((record.fields["host"], record.fields["step"]))
        self.begun.add(record.fields["host"])

    def _on_outcome(self, record: Record) -> None:
        key = (record.fields["host"], record.fields["step"])
        self.outcomes[key] = _outcome(record)
        if record.fields["interrupted"]:
            self.interrupted.add(key)

    def _on_reconciliation(self, record: Record) -> None:
        key = (record.fields["host"], record.fields["step"])
        self.outcomes[key] = _outcome(record)
        self.interrupted.discard(key)

    def _on_host(self, record: Record) -> None:
        said = record.fields
        self.hosts[said["host"]] = HostOutcome(
            said["host"], Terminal(said["terminal"]), said["message"], said["wave"]
        )

    def _on_halted(self, record: Record) -> None:
        if self.ending is None:
            self.ending, self.why = RunState(record.fields["state"]), record.fields["why"]

    def _on_sealed(self, record: Record) -> None:
        self.sealed = record.fields["state"]


def replay(records: Iterable[Record]) -> History:
    """The state that all records together describe."""
    history = History()
    for record in records:
        history.note(record)
    return history


def drifted(planned: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the facts that differ, for the report: `packages.openssl: 3.0.14 → 3.0.15`."""
    lines: list[str] = []
    for key in sorted({*planned, *now}):
        old, new = planned.get(key), now.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            lines.extend(f"{key}.{line}" for line in drifted(old, new))
        elif old != new:
            lines.append(f"{key}: {_short(old)} → {_short(new)}")
    return tuple(lines)


def _short(value: Json) -> str:
    text = "absent" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."  # noqa: PLR2004 - a table cell


def _outcome(record: Record) -> Outcome:
    evidence = record.fields["evidence"]
    return Outcome(StepResult(record.fields["result"]), Evidence(evidence["summary"], evidence["data"]))
