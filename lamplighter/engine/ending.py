"""How a run ended."""

from __future__ import annotations

from dataclasses import dataclass

from lamplighter.model.history import History
from lamplighter.model.outcome import HostOutcome, RunState, sentence, tally


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended: what its report shows."""

    state: RunState
    message: str
    outcomes: tuple[HostOutcome, ...]


def conclude(history: History, outcomes: tuple[HostOutcome, ...]) -> Ending:
    """The state a run ends in: as decided at a gate or brake, else by its hosts."""
    counts = tally(outcomes)
    told = sentence(counts)
    if history.ending is not None:
        return Ending(history.ending, f"{told}. {history.why}", outcomes)
    spent = [outcome.host for outcome in outcomes if outcome.terminal.spends_budget]
    if spent:
        return Ending(RunState.FAILED, f"{told}. Look at: {', '.join(spent[:10])}", outcomes)
    return Ending(RunState.COMPLETED, told, outcomes)
