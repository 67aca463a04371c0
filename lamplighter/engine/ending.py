"""How a run ended."""

from __future__ import annotations

from dataclasses import dataclass

from lamplighter.model.history import History
from lamplighter.model.outcome import HostOutcome, RunState, Terminal, sentence, tally

LEFT_ALONE = frozenset({Terminal.DRIFTED, Terminal.SKIPPED, Terminal.REFUSED})
"""Targets that were wanted changed and were not, without anything having failed."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended: what its report shows."""

    state: RunState
    message: str
    outcomes: tuple[HostOutcome, ...]


def conclude(history: History, outcomes: tuple[HostOutcome, ...]) -> Ending:
    """The state a run ends in: as decided at a gate or brake, else by its hosts.

    It is completed only when something was changed, or nothing had to be.
    """
    counts = tally(outcomes)
    told = sentence(counts)
    if history.ending is not None:
        return Ending(history.ending, f"{told}. {history.why}", outcomes)
    spent = [outcome.host for outcome in outcomes if outcome.terminal.spends_budget]
    if spent:
        return Ending(RunState.FAILED, f"{told}. Look at: {', '.join(spent[:10])}", outcomes)
    left_alone = [outcome for outcome in outcomes if outcome.terminal in LEFT_ALONE]
    if Terminal.CHANGED in counts or (outcomes and not left_alone):
        return Ending(RunState.COMPLETED, told, outcomes)
    why = f": {left_alone[0].message}" if len(left_alone) == 1 else ""
    state = RunState.REFUSED if set(counts) == {Terminal.REFUSED} else RunState.NOTHING_DONE
    return Ending(state, f"{told}{why}. Nothing was changed", outcomes)
