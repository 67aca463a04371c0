"""The responsibility matrix: who answers for which routine function, and what that means for runs. Pure.

Exactly one party is responsible (does the work) and exactly one is accountable (answers for it). A function
names its runbooks, its stage, its promised times, who hears when they are missed, and the minutes of manual
work per target that both parties agreed a run saves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import NamedTuple

from lamplighter.model.escalation import EscalationPath, Recipient, path_problems
from lamplighter.model.gate import Gate
from lamplighter.model.party import Party, Person
from lamplighter.model.runbook import Runbook, Sla
from lamplighter.model.selection import closest
from lamplighter.model.stage import Stage, Trigger

Where = tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class Function:
    """A line of the matrix.

    Attributes:
        id: `patch-management`.
        title: one line.
        responsible: the party that does the work.
        accountable: the party that answers for it.
        consulted, informed: who is asked before, who is told after; persons or roles.
        runbooks: ids of the runbooks that do it.
        stage: the highest stage; see `lamplighter.model.stage`.
        escalation: who hears of a trouble.
        review_by: when both parties look at this line again at the latest.
        sla: promised times; None: each runbook's own.
        minutes_per_target: agreed manual work that a run saves for each target; None: not agreed.
        demote_on: what takes `delegated` away.
    """

    id: str
    title: str
    responsible: Party
    accountable: Party
    consulted: tuple[Recipient, ...]
    informed: tuple[Recipient, ...]
    runbooks: tuple[str, ...]
    stage: Stage
    escalation: EscalationPath
    review_by: date
    sla: Sla | None = None
    minutes_per_target: int | None = None
    demote_on: frozenset[Trigger] = frozenset(Trigger)


@dataclass(frozen=True, slots=True)
class Matrix:
    """All functions by id, in file order."""

    functions: Mapping[str, Function] = field(default_factory=dict)

    def of(self, runbook: str) -> Function | None:
        """The function that claims a runbook; None: nobody answers for it, so it may do nothing."""
        return next((one for one in self.functions.values() if runbook in one.runbooks), None)


class Problem(NamedTuple):
    """Something wrong in the matrix.

    Attributes:
        where: keys down to the value that is wrong.
        message, advice: as in `lamplighter.errors.Mistake`.
    """

    where: Where
    message: str
    advice: str = ""


def matrix_problems(
    matrix: Matrix, people: Mapping[str, Person] | None, runbooks: Mapping[str, Runbook] | None,
    gates: Mapping[str, Gate], today: date | None,
) -> Iterator[Problem]:
    """Everything the matrix gets wrong.

    Args:
        matrix: as written.
        people: everybody of the site by id; None leaves out what needs them.
        runbooks: the known ones by id; None leaves out what needs them.
        gates: the effective gate of each of them.
        today: to tell stale review dates; None leaves them out.
    """
    for function in matrix.functions.values():
        here: Where = ("functions", function.id)
        if people is not None:
            yield from _people(function, people, here)
        if today is not None and function.review_by < today:
            yield Problem(
                (*here, "review_by"), f"`{function.id}` was to be reviewed by {function.review_by}",
                "look at the line together, then write the next date",
            )
    yield from _claims(matrix)
    if runbooks is not None:
        yield from _runbooks(matrix, runbooks, gates)


def _people(function: Function, people: Mapping[str, Person], here: Where) -> Iterator[Problem]:
    for key in ("consulted", "informed"):
        for number, one in enumerate(getattr(function, key)):
            if not one.people(people.values()):
                left, meant = one.person in people, one.meant(people.values())
                why = "has left" if left else "is nobody of the site"
                yield Problem((*here, key, number), f"`{function.id}`: {one} {why}",
                              "" if left or not meant else f"did you mean `{meant}`?")
    for problem in path_problems(function.escalation, people):
        yield Problem((*here, "escalation"), f"`{function.id}`: {problem}")


def _claims(matrix: Matrix) -> Iterator[Problem]:
    claimed: dict[str, str] = {}
    for function in matrix.functions.values():
        for number, runbook in enumerate(function.runbooks):
            first = claimed.setdefault(runbook, function.id)
            if first != function.id:
                here: Where = ("functions", function.id, "runbooks", number)
                yield Problem(here, f"`{runbook}` is claimed by `{first}` and by `{function.id}`",
                              "leave it in one of the two")


def _runbooks(
    matrix: Matrix, runbooks: Mapping[str, Runbook], gates: Mapping[str, Gate]
) -> Iterator[Problem]:
    for function in matrix.functions.values():
        for number, name in enumerate(function.runbooks):
            here: Where = ("functions", function.id, "runbooks", number)
            if name not in runbooks:
                yield Problem(here, f"there is no runbook `{name}`", _closest(name, runbooks))
            else:
                yield from _disagreements(function, runbooks[name], gates.get(name, Gate()), here)
    for name, runbook in runbooks.items():
        if matrix.of(name) is None:
            yield Problem(("functions",), f"no function claims the runbook `{name}`",
                          f"add it to the `runbooks` of `{runbook.function}`")


def _disagreements(function: Function, runbook: Runbook, gate: Gate, here: Where) -> Iterator[Problem]:
    """Where the matrix and the tags of the runbook's deployments say different things."""
    if runbook.function != function.id:
        yield Problem(here, f"`{runbook.id}` has the tag function:{runbook.function}, and `{function.id}` "
                      "claims it", f"move it to `{runbook.function}`")
    if runbook.owner is not function.responsible:
        yield Problem(here, f"`{runbook.id}` has the tag owner:{runbook.owner}, and {function.responsible} "
                      f"is responsible for `{function.id}`", "let the runbook's owner be responsible")
    if runbook.changes and function.accountable not in {runbook.owner, *gate.parties}:
        yield Problem(here, f"{function.accountable} is accountable for `{function.id}`, and the gate of "
                      f"`{runbook.id}` does not ask it", "add the party to the site's `gates`")


def _closest(name: str, known: Iterable[str]) -> str:
    close = closest(name, known) if name else ""
    return f"did you mean `{close}`?" if close else ""
