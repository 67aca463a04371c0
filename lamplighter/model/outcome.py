"""How things end: a step's result, a host's terminal state, a run's final state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from lamplighter.model.canonical import Json


class StepResult(StrEnum):
    """What became of one intent. Exactly one is recorded for each."""

    OK = "ok"
    FAILED = "failed"
    UNKNOWN = "unknown"
    REFUSED = "refused"


class Terminal(StrEnum):
    """The one state every target ends in."""

    CHANGED = "changed"
    UNCHANGED = "unchanged"
    FAILED = "failed"
    UNREACHABLE = "unreachable"
    DRIFTED = "drifted"
    SKIPPED = "skipped"
    REFUSED = "refused"
    UNKNOWN = "unknown"

    @property
    def spends_budget(self) -> bool:
        """Whether the host counts against the failure budget."""
        return self in {Terminal.FAILED, Terminal.UNREACHABLE, Terminal.UNKNOWN}


class RunState(StrEnum):
    """How a run ends; also the name of the Prefect state it ends in."""

    COMPLETED = "Completed"  # what was wanted was done, or was so before
    NOTHING_DONE = "NothingDone"  # no target was changed, and some were to be: drifted, skipped, refused
    REFUSED = "Refused"  # every target declined: a rule, a lock, no such account
    HALTED = "Halted"
    REJECTED = "Rejected"
    EXPIRED = "Expired"
    PLANNED = "Planned"  # its function is in shadow: planned and reported, nothing changed
    MISSED = "Missed"  # its window closed before it began
    FAILED = "Failed"


DONE = frozenset({RunState.COMPLETED, RunState.PLANNED})
"""How a run ends that did what was wanted of it; only then can a promise of its completion be kept."""


class Phase(StrEnum):
    """Where a run stands that has not ended; one word for each, wherever it is shown."""

    PLANNING = "planning"
    APPROVAL = "waiting for approval"
    WINDOW = "waiting for its window"
    ROLLING_OUT = "rolling out"
    CLOSING = "closing"  # something decided that no further wave starts


@dataclass(frozen=True, slots=True)
class Evidence:
    """Proof of one step or reading.

    Attributes:
        summary: one line for the report.
        data: canonical JSON (strings, integers, lists, objects); no secrets; at most a few kilobytes.
    """

    summary: str
    data: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one step."""

    result: StepResult
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class Health:
    """A verify step's verdict: healthy when `problems` is empty."""

    problems: tuple[str, ...] = ()
    evidence: Evidence = field(default_factory=lambda: Evidence("verified"))

    @property
    def healthy(self) -> bool:
        """No problem was found."""
        return not self.problems


@dataclass(frozen=True, slots=True)
class HostOutcome:
    """A host's terminal state, and the sentence that explains it."""

    host: str
    terminal: Terminal
    message: str
    wave: int = 0


def tally(outcomes: Iterable[HostOutcome]) -> dict[Terminal, int]:
    """Count hosts by terminal state, in the order of `Terminal`, leaving out zeros."""
    counts = Counter(outcome.terminal for outcome in outcomes)
    return {state: counts[state] for state in Terminal if counts[state]}


def sentence(counts: Mapping[Terminal, int]) -> str:
    """`12 changed, 1 failed` for a state's message."""
    return ", ".join(f"{count} {state}" for state, count in counts.items()) or "no hosts"
