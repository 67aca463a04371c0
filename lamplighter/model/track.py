"""A function's track record: what its runs did, for the people who decide how far to hand it over. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field

from lamplighter.model.canonical import Json, canonical, sha256
from lamplighter.model.history import History
from lamplighter.model.outcome import RunState, Terminal

OPEN = "open"


@dataclass(frozen=True, slots=True)
class RunSeen:
    """One run, as its ledger tells it.

    Attributes:
        run: its id.
        opened: seconds since the epoch.
        history: replayed from its ledger.
        refused: signed lines that did not count.
        ill: hosts that were not well after their change.
    """

    run: str
    opened: int
    history: History
    refused: int = 0
    ill: int = 0


@dataclass(frozen=True, slots=True)
class Track:
    """What is shown, and signed by its digest.

    Attributes:
        function, site: whose.
        since: the last decision, or 0; only runs opened since then are looked at.
        until: when this was gathered; both in seconds since the epoch.
        runs: final state, or `open`, to how many runs ended so.
        hosts: terminal state to how many hosts ended so, over all runs.
        reached: hosts that a run set out to change.
        as_planned: of those, how many ended `changed`, exactly as the plan said.
        drifted: how many had changed since their plan, and so were left alone.
        ill: how many were not well after their change.
        rejected: runs that an approver turned down.
        refused: signed lines that did not count.
        halted: ids of the runs that halted.
    """

    function: str
    site: str
    since: int
    until: int
    runs: Mapping[str, int] = field(default_factory=dict)
    hosts: Mapping[str, int] = field(default_factory=dict)
    reached: int = 0
    as_planned: int = 0
    drifted: int = 0
    ill: int = 0
    rejected: int = 0
    refused: int = 0
    halted: tuple[str, ...] = ()

    def to_bytes(self) -> bytes:
        """Canonical bytes; kept beside the decision that names their digest."""
        value: dict[str, Json] = {**asdict(self), "halted": list(self.halted), "v": 1}
        return canonical(value)

    @property
    def digest(self) -> str:
        """`sha256:...` over the canonical bytes."""
        return sha256(self.to_bytes())


def track(function: str, site: str, runs: Iterable[RunSeen], since: int, until: int) -> Track:
    """Count what the runs opened since `since` did.

    Args:
        function, site: whose they are.
        runs: all of the function's runbooks.
        since, until: seconds since the epoch.
    """
    counted = [run for run in runs if run.opened >= since]
    states = Counter(run.history.sealed or OPEN for run in counted)
    ends = [outcome for run in counted for outcome in run.history.hosts.values()]
    reached = [one for one in ends if one.wave and one.terminal is not Terminal.SKIPPED]
    return Track(
        function, site, since, until,
        {state: states[state] for state in sorted(states)},
        {str(state): count for state in Terminal if (count := sum(one.terminal is state for one in ends))},
        len(reached), sum(one.terminal is Terminal.CHANGED for one in reached),
        sum(one.terminal is Terminal.DRIFTED for one in reached), sum(run.ill for run in counted),
        states[RunState.REJECTED], sum(run.refused for run in counted),
        tuple(sorted(run.run for run in counted if run.history.sealed == RunState.HALTED)),
    )
