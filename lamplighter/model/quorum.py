"""Gates as values: who must sign, compared, combined, and filled with people.

A gate is a set of *places*: a requirement with a quorum of two has two. A gate is filled when every place
has its own person; which person takes which place is worked out (bipartite matching), so that a filling
is found whenever there is one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from lamplighter.model.party import Party, Person

DEFAULT_MAX_AGE = 7 * 24 * 3600
MAX_PLACES = 32
"""A gate with more places never passes: nobody means it, and a hostile plan could mean to burn time."""

_Taker = TypeVar("_Taker")


@dataclass(frozen=True, slots=True)
class Requirement:
    """A number of distinct people of one party, holding one of some roles.

    Attributes:
        party: whose people may sign.
        roles: any one of them suffices; empty means any person of the party.
        quorum: how many distinct people, at least 1.
    """

    party: Party
    roles: tuple[str, ...] = ()
    quorum: int = 1

    def __post_init__(self) -> None:
        if self.quorum < 1:
            raise ValueError("a quorum is at least 1")
        object.__setattr__(self, "roles", tuple(sorted(set(self.roles))))

    def admits(self, person: Person) -> bool:
        """Tell whether the person may take one of its places."""
        right_role = not self.roles or not person.roles.isdisjoint(self.roles)
        return person.party is self.party and right_role and not person.left

    def covers(self, other: Requirement) -> bool:
        """Tell whether everybody `self` admits is admitted by `other` too."""
        narrower = not other.roles or (bool(self.roles) and set(self.roles) <= set(other.roles))
        return self.party is other.party and narrower

    def __str__(self) -> str:
        people = "person" if self.quorum == 1 else "people"
        roles = f" with the role {' or '.join(self.roles)}" if self.roles else ""
        return f"{self.quorum} {self.party} {people}{roles}"


class Emergency(StrEnum):
    """Whose signature an emergency change passes on."""

    EITHER = "either"
    INTERNAL = "internal"  # nobody of the MSP lets an emergency of the MSP pass

    @property
    def parties(self) -> tuple[Party, ...]:
        """The parties, one person of any of which suffices."""
        return (Party.INTERNAL,) if self is Emergency.INTERNAL else tuple(Party)

    def tightened(self, other: Emergency) -> Emergency:
        """The stricter of two words."""
        return Emergency.INTERNAL if Emergency.INTERNAL in (self, other) else Emergency.EITHER


@dataclass(frozen=True, slots=True)
class Gate:
    """All requirements must be met. A gate without requirements never passes.

    Attributes:
        requirements: each is satisfied by its own people; one person fills one place only.
        max_age: seconds after which a signed approval no longer counts.
        emergency: whose second person opens an emergency's gate.
    """

    requirements: tuple[Requirement, ...] = ()
    max_age: int = DEFAULT_MAX_AGE
    emergency: Emergency = Emergency.EITHER

    @property
    def parties(self) -> frozenset[Party]:
        """The parties whose signatures the gate names."""
        return frozenset(requirement.party for requirement in self.requirements)

    @property
    def size(self) -> int:
        """How many people it takes."""
        return sum(requirement.quorum for requirement in self.requirements)


def internal(
    *roles: str, quorum: int = 1, max_age: int = DEFAULT_MAX_AGE, emergency: Emergency = Emergency.EITHER
) -> Gate:
    """The usual gate: people of internal IT."""
    return Gate((Requirement(Party.INTERNAL, roles, quorum),), max_age, emergency)


def missing(gate: Gate, people: Sequence[Person]) -> tuple[Requirement, ...]:
    """What is left of a gate after `people` took as many places as they can; empty means filled.

    Args:
        gate: with at least one and at most `MAX_PLACES` places.
        people: distinct; their order does not matter to whether the gate is filled.
    """
    if not 0 < gate.size <= MAX_PLACES:
        raise ValueError("an empty or oversized gate cannot be filled")
    places = _places(gate)
    taken = _match(places, sorted(people, key=lambda person: person.id), Requirement.admits)
    return _grouped(place for at, place in enumerate(places) if at not in taken)


def implies(gate: Gate, other: Gate) -> bool:
    """Tell whether people who fill `gate` always fill `other`, too (ages apart)."""
    places = _places(other)
    return len(_match(places, _places(gate), lambda place, by: by.covers(place))) == len(places)


def stricter(first: Gate, second: Gate) -> Gate:
    """The gate that passes only when both would: how a site tightens a runbook's gate, never loosens it.

    When one gate implies the other, it is the answer. Otherwise places are paired where everybody one of
    the two admits is admitted by the other: a pair needs one person, as the narrower place asks. Places
    without a partner stay, each with a person of its own. The shorter `max_age` holds, and the stricter
    word on emergencies. An empty gate stays empty, and so never passes.
    """
    max_age = min(first.max_age, second.max_age)
    urgent = first.emergency.tightened(second.emergency)
    if not (0 < first.size <= MAX_PLACES and 0 < second.size <= MAX_PLACES):
        return Gate((), max_age, urgent)
    if implies(first, second):
        return Gate(first.requirements, max_age, urgent)
    if implies(second, first):
        return Gate(second.requirements, max_age, urgent)
    same = Counter(_places(first)) & Counter(_places(second))
    left = list((Counter(_places(first)) - same).elements())
    right = list((Counter(_places(second)) - same).elements())
    pairs = _match(left, right, lambda one, two: one.covers(two) or two.covers(one))
    narrower = [left[a] if left[a].covers(right[b]) else right[b] for a, b in pairs.items()]
    alone = [place for at, place in enumerate(left) if at not in pairs]
    alone += [place for at, place in enumerate(right) if at not in pairs.values()]
    return Gate(_grouped([*same.elements(), *narrower, *alone]), max_age, urgent)


def satisfiable(gate: Gate, people: Mapping[str, Person], requester: str | None = None) -> tuple[str, ...]:
    """Why a gate could never pass with these people; empty when it can.

    Args:
        gate: the effective gate.
        people: everybody who could sign; leave out those without a key in `approvers`.
        requester: who is excluded, when known.
    """
    if not gate.requirements:
        return ("the gate names nobody who must sign, so it never passes",)
    if gate.size > MAX_PLACES:
        return (f"the gate asks for {gate.size} people; more than {MAX_PLACES} never passes",)
    reasons = [] if gate.max_age > 0 else ["the gate's max_age is not positive: every approval is too old"]
    able = [person for person in people.values() if not person.left and person.id != requester]
    for requirement in gate.requirements:
        count = sum(requirement.admits(person) for person in able)
        if count < requirement.quorum:
            reasons.append(f"the gate asks for {requirement}, and the site has {count} who could sign")
    if not reasons and (lacking := missing(gate, able)):
        reasons.append(
            "one person fills one place only, so the gate also lacks " + " and ".join(map(str, lacking)),
        )
    return tuple(reasons)


def _places(gate: Gate) -> list[Requirement]:
    return [
        Requirement(requirement.party, requirement.roles)
        for requirement in gate.requirements
        for _ in range(min(requirement.quorum, MAX_PLACES + 1))
    ]


def _grouped(places: Iterable[Requirement]) -> tuple[Requirement, ...]:
    counts = Counter(places)
    return tuple(
        Requirement(place.party, place.roles, counts[place])
        for place in sorted(counts, key=lambda place: (place.party, place.roles))
    )


def _match(
    places: Sequence[Requirement], takers: Sequence[_Taker], fits: Callable[[Requirement, _Taker], bool],
) -> dict[int, int]:
    """The largest pairing of places with takers, as place index to taker index (Kuhn's algorithm)."""
    place_of: dict[int, int] = {}

    def seat(place: int, tried: set[int]) -> bool:
        for taker in range(len(takers)):
            if taker in tried or not fits(places[place], takers[taker]):
                continue
            tried.add(taker)
            if taker not in place_of or seat(place_of[taker], tried):
                place_of[taker] = place
                return True
        return False

    for place in range(len(places)):
        seat(place, set())
    return {place: taker for taker, place in place_of.items()}


def needs(gate: Gate) -> str:
    """The gate in words: `1 of internal IT (change-manager)`."""
    parts = []
    for requirement in gate.requirements:
        roles = f" ({' or '.join(requirement.roles)})" if requirement.roles else ""
        parts.append(f"{requirement.quorum} of {requirement.party}{roles}")
    return " and ".join(parts) or "nobody can open it"
