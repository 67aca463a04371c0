"""Reads `responsibilities.yaml`: the responsibility matrix of a site."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from typing import Annotated

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from lamplighter.errors import MalformedError
from lamplighter.model.escalation import EscalationPath, Recipient, Rung, read_recipient
from lamplighter.model.gate import stricter
from lamplighter.model.party import Party
from lamplighter.model.responsibility import Function, Matrix, matrix_problems
from lamplighter.model.runbook import Runbook, Sla
from lamplighter.model.stage import Stage, Trigger
from lamplighter.site.checks import minimum_gate, site_gates
from lamplighter.site.files import PEOPLE, RESPONSIBILITIES, Files
from lamplighter.site.schema import AFTER, Day, Length, Line, PartyName, Slug, Strict, checked
from lamplighter.site.yaml import Node, read_yaml
from lamplighter.timespan import seconds


def _one(value: object) -> object:
    if isinstance(value, list):
        raise PydanticCustomError("one_party", "one party")
    return value


def _several(value: object) -> object:
    return [value] if isinstance(value, str) else value


OneParty = Annotated[PartyName, BeforeValidator(_one)]
StageName = Annotated[Stage, Field(strict=False)]
TriggerName = Annotated[Trigger, Field(strict=False)]
After = Annotated[str, Field(pattern=AFTER)]
Recipients = Annotated[list[Line], Field(min_length=1), BeforeValidator(_several)]


class RungEntry(Strict):
    """One step of an escalation path."""

    after: After
    """Since the trouble began: `0m`, `30m`, `4h`. Each step is later than the one before."""
    to: Recipients
    """Persons, or roles such as `msp/duty-lead`; the last step names a person of internal IT."""


class SlaEntry(Strict):
    """Promised times."""

    answer: Length
    """A gate is answered within: `24h`."""
    complete: Length
    """A run is done within, not counting the time others hold it: `8h`."""


class FunctionEntry(Strict):
    """One function of the matrix."""

    title: Line
    """One line for people."""
    responsible: OneParty
    """The party that does the work: `internal` or `msp`. Its runbooks' owner."""
    accountable: OneParty
    """The one party that answers for it."""
    consulted: list[Line] = Field(default=[])
    """Who is asked before something is changed about it: persons, or roles such as `internal/dba`."""
    informed: list[Line] = Field(default=[])
    """Who is told afterwards."""
    runbooks: list[Slug] = Field(default=[])
    """The runbooks that do it; each belongs to one function."""
    stage: StageName
    """How far it may be handed over: `internal`, `shadow`, `supervised`, `delegated`. Above `shadow` it also
    takes a signed decision of internal IT: `lamplighter promote`."""
    sla: SlaEntry | None = None
    """Promised times; those of each runbook when left out."""
    escalation: Annotated[list[RungEntry], Field(min_length=1)]
    """Who hears of a trouble, in which order."""
    minutes_per_target: Annotated[int, Field(ge=0, le=10_000)] | None = None
    """Minutes of manual work that a run saves for each target, as both parties agreed."""
    review_by: Day
    """When both parties look at this line again, at the latest."""
    demote_on: list[TriggerName] = Field(default=list(Trigger))
    """What takes `delegated` away until internal IT decides anew: `halted`, `failed-verify`,
    `code-change`."""


class MatrixEntry(Strict):
    """`responsibilities.yaml`."""

    functions: Annotated[dict[Slug, FunctionEntry], Field(min_length=1)]
    """Every routine function by name, those that stay with internal IT included."""


def read_matrix(files: Files) -> tuple[Matrix, Node | None]:
    """Read and check the file on its own; mistakes go into the report.

    Returns:
        The matrix, and the file's root for the lines of further mistakes; an empty one when it cannot be
        read: then nobody answers for anything, and no run may do anything.
    """
    source = files.source(RESPONSIBILITIES)
    root = read_yaml(files.folder / RESPONSIBILITIES, source)
    entry = checked(MatrixEntry, root, source) if root is not None else None
    if root is None or entry is None:
        return Matrix(), None
    return Matrix({name: _function(name, one) for name, one in entry.functions.items()}), root


def _function(name: str, entry: FunctionEntry) -> Function:
    sla = Sla(seconds(entry.sla.answer), seconds(entry.sla.complete)) if entry.sla else None
    path = EscalationPath(tuple(
        Rung(0 if rung.after[0] == "0" else seconds(rung.after), _recipients(rung.to))
        for rung in entry.escalation
    ))
    return Function(
        name, entry.title, entry.responsible, entry.accountable, _recipients(entry.consulted),
        _recipients(entry.informed), tuple(entry.runbooks), entry.stage, path, entry.review_by, sla,
        entry.minutes_per_target, frozenset(entry.demote_on),
    )


def _recipients(texts: Iterable[str]) -> tuple[Recipient, ...]:
    return tuple(map(_recipient, texts))


def _recipient(text: str) -> Recipient:
    """What is neither a person nor a role stays as it is: it is nobody, and told so with the others."""
    try:
        return read_recipient(text)
    except MalformedError:
        return Recipient(text)


def check_matrix(files: Files, runbooks: Mapping[str, Runbook] | None, today: date | None) -> None:
    """Note what only other files, the runbooks or the day show to be wrong.

    Args:
        files: with a matrix that was read.
        runbooks: the known ones by id; None leaves out what needs them.
        today: at the site; None leaves out what is stale.
    """
    root, source = files.matrix_root, files.source(RESPONSIBILITIES)
    if root is not None:
        people = {person.id: person for person in files.people} if files.clean(PEOPLE) else None
        minimums = site_gates(files.entry) if files.entry else {}
        gates = {}
        for name, runbook in (runbooks or {}).items():
            minimum = minimum_gate(minimums, name)
            gates[name] = stricter(runbook.gate, minimum) if minimum else runbook.gate
        for where, message, advice in matrix_problems(files.matrix, people, runbooks, gates, today):
            source.mistake(root.line_of(where), message, advice)
    _check_sides(files)


def _check_sides(files: Files) -> None:
    """Nobody belongs to both parties: separation of duties rests on it. `approvers` sees to shared keys."""
    by_name: dict[str, dict[Party, str]] = {}
    for person in files.people:
        if not person.left:
            by_name.setdefault(" ".join(person.name.casefold().split()), {})[person.party] = person.id
    for sides in by_name.values():
        if len(sides) > 1:
            files.source(PEOPLE).mistake(0, f"{' and '.join(sorted(sides.values()))} have one name and two "
                                         "parties", "a person belongs to one party; tell namesakes apart")
