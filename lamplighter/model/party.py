"""Parties, and the people who belong to them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Party(StrEnum):
    """Who a person belongs to, and who owns a function."""

    INTERNAL = "internal"
    MSP = "msp"

    @property
    def other(self) -> Party:
        """The party across the table."""
        return Party.MSP if self is Party.INTERNAL else Party.INTERNAL


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody named in `people.yaml`.

    Attributes:
        id: the principal, as in the `approvers` file: `priya@internal.example`.
        name: for display.
        party: the one party the person belongs to.
        roles: lower-case names such as `change-manager`.
        left: True once the person has left; their signature counts for nothing.
    """

    id: str
    name: str
    party: Party
    roles: frozenset[str] = frozenset()
    left: bool = False
