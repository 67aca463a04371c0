"""Who hears of a trouble, in which order, and when: the escalation path of a function. Pure.

A path is a ladder. Each rung is due so many seconds after the trouble began, and is climbed once. The last
one names a person of internal IT, so that no trouble ends with nobody. A rung whose notices all failed for
good does not hold the climb up: the next one is due at once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from lamplighter.errors import MalformedError
from lamplighter.model.outcome import RunState
from lamplighter.model.party import Party, Person
from lamplighter.model.selection import closest

MAX_RUNGS = 10
MAX_AFTER = 30 * 86400
DEFAULT_AFTER = 4 * 3600


@dataclass(frozen=True, slots=True, order=True)
class Recipient:
    """A person, or everybody of a party with a role.

    Attributes:
        person: an id of `people.yaml`; empty when a role is meant.
        party, role: empty when a person is meant.
    """

    person: str = ""
    party: str = ""
    role: str = ""

    def __str__(self) -> str:
        return self.person or f"{self.party}/{self.role}"

    def people(self, everybody: Iterable[Person]) -> tuple[Person, ...]:
        """Whom it means now: those who have left are nobody."""
        return tuple(
            one for one in everybody
            if not one.left
            and (one.id == self.person if self.person else one.party == self.party and self.role in one.roles)
        )

    def meant(self, everybody: Iterable[Person]) -> str:
        """Who may be meant where this is nobody: an address, or a role of the party; empty for no guess."""
        if not self.role:
            known = closest(self.person, (one.id for one in everybody)) if self.person else ""
            return "" if known == self.person else known
        roles = {role for one in everybody if one.party == self.party and not one.left for role in one.roles}
        close = closest(self.role, roles)
        return f"{self.party}/{close}" if close else ""


def read_recipient(text: str) -> Recipient:
    """`asha.patel@internal.example`, or `internal/change-manager`.

    Raises:
        MalformedError: it is neither.
    """
    party, slash, role = text.partition("/")
    if slash and party in set(Party) and role:
        return Recipient(party=party, role=role)
    if slash or "@" not in text:
        raise MalformedError(f"{text!r} is neither a person's address nor a role such as internal/duty-lead")
    return Recipient(text)


@dataclass(frozen=True, slots=True)
class Rung:
    """One step up.

    Attributes:
        after: seconds since the trouble began.
        to: who hears of it, at least one.
    """

    after: int
    to: tuple[Recipient, ...]


@dataclass(frozen=True, slots=True)
class EscalationPath:
    """The rungs from the first to the last; see the module's docstring."""

    rungs: tuple[Rung, ...]


def path_problems(path: EscalationPath, people: Mapping[str, Person]) -> tuple[str, ...]:
    """What is wrong with a path, a sentence each.

    Args:
        path: as written.
        people: everybody of the site by id.
    """
    if not path.rungs:
        return ("the escalation path has no step, so nobody would hear of a trouble",)
    found = [*_time_problems(path.rungs), *_people_problems(path.rungs, people)]
    if not any(_names_internal(one, people) for one in path.rungs[-1].to):
        found.append("the last step of the escalation path must name a person of internal IT")
    return tuple(found)


def _time_problems(rungs: Sequence[Rung]) -> Iterator[str]:
    if len(rungs) > MAX_RUNGS:
        yield f"the escalation path has {len(rungs)} steps; it may have {MAX_RUNGS}"
    if any(not 0 <= rung.after <= MAX_AFTER for rung in rungs):
        yield "a step of the escalation path is later than 30 days, or before the trouble"
    if any(later.after <= earlier.after for earlier, later in pairwise(rungs)):
        yield "every step of the escalation path must be later than the one before"


def _people_problems(rungs: Sequence[Rung], people: Mapping[str, Person]) -> Iterator[str]:
    seen: set[Recipient] = set()
    for number, rung in enumerate(rungs, 1):
        if not rung.to:
            yield f"step {number} of the escalation path names nobody"
        for one in rung.to:
            if one in seen:
                yield f"the escalation path comes back to {one} in step {number}"
            seen.add(one)
            if not one.people(people.values()):
                yield f"step {number} of the escalation path ends nowhere: {_nobody(one, people)}"


def _nobody(one: Recipient, people: Mapping[str, Person]) -> str:
    if one.role:
        close = one.meant(people.values())
        meant = f"; did you mean `{close}`?" if close else ""
        return f"nobody of {one.party} has the role {one.role}{meant}"
    return f"{one.person} has left" if one.person in people else f"{one.person} is not in people.yaml"


def _names_internal(one: Recipient, people: Mapping[str, Person]) -> bool:
    person = people.get(one.person)
    return person is not None and person.party is Party.INTERNAL and not person.left


def default_path(owner: Party, people: Sequence[Person]) -> EscalationPath:
    """The path of a function that has none of its own: everybody of the owner, then internal IT by name."""
    there = [person for person in people if not person.left]
    first = tuple(Recipient(person.id) for person in there if person.party is owner)
    last = tuple(Recipient(person.id) for person in there if person.party is Party.INTERNAL)
    if owner is Party.INTERNAL or not first:
        return EscalationPath((Rung(0, last),))
    return EscalationPath((Rung(0, first), Rung(DEFAULT_AFTER, last)))


class Kind(StrEnum):
    """What a trouble is."""

    GATE = "gate"  # a run waits for an answer
    ENDED = "ended"  # a run ended in a way somebody must look at
    CRASHED = "crashed"  # a run stands still: its worker died, or Prefect gave it up
    REVIEW = "review"  # nobody of internal IT has looked at an emergency in time


CLIMBING = frozenset({RunState.FAILED, RunState.HALTED})
"""How a run ends that climbs its path. A rejected or expired run is told once, and is nobody's fault."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """One occasion to tell somebody, and to climb a path; the same trouble seen twice is equal.

    Attributes:
        run: the run's id.
        kind: what it is.
        about: tells occasions of one run apart: a plan's digest, a final state.
        since: when it began, seconds since the epoch.
        zero: from when the path's rungs count; None: it is told, and not climbed.
        message: what is to be said of it.
    """

    run: str
    kind: Kind
    about: str
    since: int
    zero: int | None = None
    message: str = ""


def answer_due(asked: int, answer: int, expires: int) -> int:
    """When an unanswered gate begins to climb: at the promised time, or half-way to the plan's expiry.

    Whichever is earlier, so that the path is never climbed for a plan that nobody can sign any more.
    """
    return min(asked + answer, asked + max(0, expires - asked) // 2)


def due(
    path: EscalationPath, since: int, now: float, climbed: Collection[int], *, unheard: bool = False
) -> tuple[int, ...]:
    """The rungs to climb now, in order.

    Args:
        path: the ladder.
        since: when the trouble began, seconds since the epoch.
        now: seconds since the epoch.
        climbed: rungs that were climbed before, counted from 0.
        unheard: True when every notice of every rung climbed so far failed for good, and there was one.
    """
    late = [number for number, rung in enumerate(path.rungs) if now >= since + rung.after]
    todo = [number for number in late if number not in climbed]
    ahead = next((number for number in range(len(path.rungs)) if number not in {*climbed, *late}), None)
    if unheard and not todo and ahead is not None:
        return (ahead,)
    return tuple(todo)
