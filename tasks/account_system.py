"""What the operations on accounts ask of a kind of directory, and the one that is none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from lamplighter.errors import RefusedError
from lamplighter.model.canonical import Json
from lamplighter.model.directory import Directory, Hidden
from tasks.accounts import AccountFacts, Guard


class AccountSystem(Protocol):
    """What a kind of directory can do: `tasks.active_directory`, `tasks.openldap`."""

    def find(self, wanted: str, session: Directory) -> str:
        """The pin of exactly one account, or `RefusedError` with what was found."""

    def pin_at(self, dn: str, session: Directory) -> str:
        """The pin of the entry with this DN; empty when it is not there."""

    def read(self, pin: str, session: Directory, now: float) -> AccountFacts:
        """The state of an account."""

    def judge(self, facts: AccountFacts, guard: Guard, session: Directory) -> AccountFacts:
        """The facts with what the site's lines and groups say of it."""

    def mark(self, pin: str, session: Directory) -> Mapping[str, Json]:
        """What changes whenever the password is set."""

    def reset(self, pin: str, secret: Hidden, session: Directory, *, unlock: bool) -> None:
        """Set the password, to be changed at the next login."""

    def unlock(self, pin: str, session: Directory) -> None:
        """Take the lockout away."""


class NoDirectory:
    """An `AccountSystem` that is none: what an operation has that was made only to name its options."""

    def find(self, wanted: str, session: Directory) -> str:
        """Refuse."""
        raise _none(wanted, session)

    def read(self, pin: str, session: Directory, now: float) -> AccountFacts:
        """Refuse."""
        raise _none(pin, session, now)

    def pin_at(self, dn: str, session: Directory) -> str:
        """Refuse."""
        raise _none(dn, session)

    def judge(self, facts: AccountFacts, guard: Guard, session: Directory) -> AccountFacts:
        """Refuse."""
        raise _none(facts, guard, session)

    def mark(self, pin: str, session: Directory) -> Mapping[str, Json]:
        """Refuse."""
        raise _none(pin, session)

    def reset(self, pin: str, secret: Hidden, session: Directory, *, unlock: bool) -> None:
        """Refuse."""
        raise _none(pin, secret, session, unlock)

    def unlock(self, pin: str, session: Directory) -> None:
        """Refuse."""
        raise _none(pin, session)


def _none(*_: object) -> RefusedError:
    return RefusedError("no directory is given", changed="Nothing was changed")
