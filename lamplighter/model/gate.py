"""The gate: who must sign a plan before it may change anything."""

from __future__ import annotations

from dataclasses import dataclass

from lamplighter.model.party import Party

DEFAULT_MAX_AGE = 7 * 24 * 3600


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


@dataclass(frozen=True, slots=True)
class Gate:
    """All requirements must be met. A gate without requirements never passes.

    Attributes:
        requirements: each is satisfied by its own people; one person fills one place only.
        max_age: seconds after which a signed approval no longer counts.
    """

    requirements: tuple[Requirement, ...] = ()
    max_age: int = DEFAULT_MAX_AGE

    @property
    def parties(self) -> frozenset[Party]:
        """The parties whose signatures the gate names."""
        return frozenset(requirement.party for requirement in self.requirements)


def internal(*roles: str, quorum: int = 1, max_age: int = DEFAULT_MAX_AGE) -> Gate:
    """The usual gate: people of internal IT."""
    return Gate((Requirement(Party.INTERNAL, roles, quorum),), max_age)
