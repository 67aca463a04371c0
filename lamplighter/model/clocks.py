"""Who held the ball, and for how long: the times of a run, and whether what was promised was kept. Pure.

From the first record of a run's ledger to its last, every moment belongs to exactly one holder: the party
that works, those who are asked to approve, or the calendar. So a slow approval never counts against the
party that waits for it, nor a closed window against anybody.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum

from lamplighter.model.history import Record
from lamplighter.model.outcome import DONE
from lamplighter.model.runbook import Sla


class Ball(StrEnum):
    """Who holds a run at a moment."""

    WORK = "work"  # the party that owns the runbook; also while its worker is down
    APPROVAL = "approval"  # the people whose signature is missing
    WINDOW = "window"  # nobody: the calendar says not yet


PASSED_ON = {"asked": Ball.APPROVAL, "window-awaited": Ball.WINDOW}
TAKEN_BACK = frozenset({"answered", "window-opened", "wave-started", "halted", "sealed"})


class Kept(StrEnum):
    """Whether a promise was kept."""

    KEPT = "kept"
    OPEN = "open"  # it still can be
    MISSED = "missed"
    NOT_DONE = "not done"  # it ended in time, and what was wanted was not done


@dataclass(frozen=True, slots=True)
class Promise:
    """One promised time, and what became of it.

    Attributes:
        name: `answer` or `complete`.
        spent: seconds so far, counting the holder's own time only.
        promised: seconds.
        kept: the verdict.
        until: when it will be missed, seconds since the epoch; 0 when that is settled, or the ball is
            elsewhere and the clock stands.
    """

    name: str
    spent: int
    promised: int
    kept: Kept
    until: int = 0


@dataclass
class Clocks:
    """A run's times.

    Attributes:
        begun: first record, seconds since the epoch; 0 for an empty ledger.
        spent: seconds by holder; they add up to the whole time.
        holder: who has the ball now; None once the run has ended.
        asked: when the gate was first asked; 0 when it never was.
        settled: when the gate was first opened, or the run ended without; 0 while it waits.
        ended: when the run was sealed; 0 while it is open.
        done: whether it ended with what was wanted done.
        now: up to when this counts, seconds since the epoch.
    """

    begun: int = 0
    spent: dict[Ball, float] = field(default_factory=lambda: dict.fromkeys(Ball, 0.0))
    holder: Ball | None = Ball.WORK
    asked: int = 0
    settled: int = 0
    ended: int = 0
    done: bool = False
    now: int = 0

    def total(self) -> int:
        """Seconds from the first record to the end, or to now."""
        return round(sum(self.spent.values()))


def read_clocks(records: Iterable[Record], now: float) -> Clocks:
    """The times of a run, from its ledger.

    Args:
        records: in order; their times come from the workers' clocks, and one that was set back counts as
            no time passing.
        now: seconds since the epoch; where an open run's time ends.
    """
    clocks, latest = Clocks(), 0.0
    for record in records:
        moment = max(latest, record.time / 1000)
        if not clocks.begun:
            clocks.begun, latest = int(moment), moment
        _spend(clocks, moment - latest)
        latest = moment
        _take(clocks, record, int(moment))
    if clocks.begun and clocks.holder is not None:
        _spend(clocks, max(0.0, now - latest))
    clocks.now = int(max(now, latest)) if not clocks.ended else clocks.ended
    return clocks


def _spend(clocks: Clocks, seconds: float) -> None:
    if clocks.holder is not None:
        clocks.spent[clocks.holder] += seconds


def _take(clocks: Clocks, record: Record, moment: int) -> None:
    if clocks.ended:
        return
    kind = record.kind
    opened = kind == "gate" and bool(record.fields.get("passed"))
    if kind == "asked":
        clocks.asked = clocks.asked or moment
    if clocks.asked and (opened or kind in {"halted", "sealed"}):
        clocks.settled = clocks.settled or moment
    if kind == "sealed":
        clocks.ended, clocks.holder = moment, None
        clocks.done = record.fields.get("state") in DONE
    elif kind in PASSED_ON:
        clocks.holder = PASSED_ON[kind]
    elif opened or kind in TAKEN_BACK:
        clocks.holder = Ball.WORK


def promises(clocks: Clocks, sla: Sla) -> tuple[Promise, ...]:
    """What was promised of this run, and whether it was kept: `answer` if it was ever asked, `complete`."""
    return tuple(_promises(clocks, sla))


def _promises(clocks: Clocks, sla: Sla) -> Iterator[Promise]:
    if clocks.asked:
        spent = (clocks.settled or clocks.now) - clocks.asked
        running = not clocks.settled
        yield _promise("answer", spent, sla.answer, running, clocks.asked + sla.answer if running else 0)
    spent = round(clocks.spent[Ball.WORK])
    until = clocks.now + sla.complete - spent if clocks.holder is Ball.WORK and clocks.begun else 0
    complete = _promise("complete", spent, sla.complete, not clocks.ended, until)
    undone = complete.kept is Kept.KEPT and not clocks.done
    yield replace(complete, kept=Kept.NOT_DONE) if undone else complete


def _promise(name: str, spent: int, promised: int, running: bool, until: int) -> Promise:
    if spent > promised:
        return Promise(name, spent, promised, Kept.MISSED)
    return Promise(name, spent, promised, Kept.OPEN if running else Kept.KEPT, until)


def clock_lines(clocks: Clocks, sla: Sla, owner: str) -> tuple[tuple[str, str], ...]:
    """The times as (name, text) pairs, the same wherever they are shown.

    Args:
        clocks: of a run.
        sla: promised for it.
        owner: the party that does the work.
    """
    kept = {promise.name: promise for promise in promises(clocks, sla)}
    lines = [(f"{owner} worked", _against(clocks.spent[Ball.WORK], kept["complete"]))]
    if "answer" in kept:
        lines.append(("Waited for approval", _against(clocks.spent[Ball.APPROVAL], kept["answer"])))
    if clocks.spent[Ball.WINDOW]:
        lines.append(("Waited for its window", span(clocks.spent[Ball.WINDOW])))
    return tuple(lines)


def _against(spent: float, promise: Promise) -> str:
    return f"{span(spent)}, promised {span(promise.promised)}: {promise.kept}"


def span(seconds: float) -> str:
    """`2 d 3 h`, `1 h 05 min`, `12 min`, `40 s`: two units at most."""
    whole = round(seconds)
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days} d {hours} h" if hours else f"{days} d"
    if hours:
        return f"{hours} h {minutes:02} min" if minutes else f"{hours} h"
    return f"{minutes} min" if minutes else f"{whole} s"
