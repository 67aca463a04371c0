"""Roles are a site's own words: one misspelt where it is given leaves every place that names it empty."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lamplighter.model.runbook import Runbook
from lamplighter.model.selection import closest
from lamplighter.site.files import PEOPLE, Files

_LIKE = 0.75
"""How much alike two words are of which one is a slip of the pen."""


def check_roles(files: Files, runbooks: Mapping[str, Runbook] | None) -> None:
    """Note roles in `people.yaml` that nothing names and that look like ones that nobody has.

    It is told there, once; the checks of people pass over what follows from it.

    Args:
        files: with people and a matrix that were read.
        runbooks: the known ones by id; their gates name roles, too.
    """
    named = set(_named(files, runbooks))
    held = {(person.party, role) for person in files.people if not person.left for role in person.roles}
    for party, role in sorted(named - held):
        spare = {other for side, other in held - named if side == party}
        close = closest(role, spare, cutoff=_LIKE)
        if not close:
            continue
        holder = next(person for person in files.people if person.party == party and close in person.roles)
        files.source(PEOPLE).mistake(
            files.line_of_person(holder.id),
            f"`{holder.id}` has the role `{close}`, which nothing names, and nobody has `{party}/{role}`",
            f"did you mean `{role}`?")


def _named(files: Files, runbooks: Mapping[str, Runbook] | None) -> Iterator[tuple[str, str]]:
    for function in files.matrix.functions.values():
        steps = (to for rung in function.escalation.rungs for to in rung.to)
        yield from ((one.party, one.role) for one in (*function.consulted, *function.informed, *steps)
                    if one.role and one.party)
    for gate in (files.entry.gates if files.entry else {}).values():
        yield from ((one.party, role) for one in gate for role in one.roles)
    for runbook in (runbooks or {}).values():
        yield from ((one.party, role) for one in runbook.gate.requirements for role in one.roles)
