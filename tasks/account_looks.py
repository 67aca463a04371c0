"""Looking at an account: here and on other servers, where its mail goes, and whether its password serves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol

from lamplighter.errors import (
    LamplighterError,
    NotPermittedError,
    PolicyViolationError,
    ReferralError,
    RefusedError,
    SessionLostError,
    UnreachableError,
    UnwillingError,
)
from lamplighter.model.address import pick_address
from lamplighter.model.directory import Directory, Hidden
from lamplighter.model.logins import BindRefusal
from tasks.account_system import AccountSystem
from tasks.accounts import AccountFacts, Claims, Guard


class Looking(Protocol):
    """What of an operation is needed to look at an account."""

    @property
    def system(self) -> AccountSystem:
        """The directory's kind."""

    @property
    def guard(self) -> Guard:
        """Whom the site lets be touched."""

    @property
    def clock(self) -> Callable[[], float]:
        """Seconds since the epoch."""


def look(operation: Looking, pin: str, session: Directory) -> AccountFacts:
    """The account's state, and what the site's lines and groups say of it."""
    facts = operation.system.read(pin, session, operation.clock())
    return operation.system.judge(facts, operation.guard, session)


def elsewhere(operation: Looking, facts: AccountFacts, session: Directory) -> AccountFacts:
    """The account as the server has it that it is locked on, with what every other one says.

    A server that cannot be asked is named: what it says is not known.
    """
    found, away, unasked = facts, [], list(facts.unasked)
    for name in session.peers:
        try:
            other = session.peer(name)
            try:
                there = _there(operation, facts, other, locked=not found.locked)
            finally:
                other.close()
        except LamplighterError as error:
            unasked.append(f"what the other server {name} says ({error.message})")
            continue
        if there is None:
            unasked.append(f"what the other server {name} says, for it does not have the account")
        elif there.locked and not found.locked:
            away.append(f"it is locked on {name}, and not on {facts.server}: each server counts for itself")
            found = there
        elif there.locked:
            away.append(f"it is locked on the other server {name} as well: unlock it there in another run")
    return replace(found, away=tuple(away), unasked=tuple(unasked))


def _there(
    operation: Looking, facts: AccountFacts, session: Directory, *, locked: bool
) -> AccountFacts | None:
    """The account on another server: by its DN, as its pin is the other's own where they do not replicate."""
    pin = operation.system.pin_at(facts.dn, session)
    if not pin:
        return None
    there = operation.system.read(pin, session, operation.clock())
    return operation.system.judge(there, operation.guard, session) if locked and there.locked else there


def addressed(
    facts: AccountFacts, claims: Claims, system: AccountSystem, session: Directory, now: float
) -> AccountFacts:
    """The facts with the address the password would be mailed to, or why there is none."""
    own = {pick_address((one,)).casefold() for one in facts.mails}
    if claims.way == "alternate" and claims.alternate:
        entry = session.get(facts.dn, (claims.alternate,))
        addresses = entry.texts(claims.alternate) if entry else ()
        whose = f"{claims.alternate} of the account"
    elif claims.way == "manager":
        boss, why = _manager(facts, system, session, now)
        if boss is None:
            return replace(facts, no_address=why)
        addresses, whose = boss.mails, f"its manager {boss.login}"
    else:
        return facts
    address = pick_address(addresses)
    if not address:
        what = f"what is not one mail address: {', '.join(sorted(addresses))[:200]}" if addresses else "none"
        return replace(facts, no_address=f"the directory has no mail address: {whose} has {what}")
    if address.casefold() in own:
        why = f"the address of {whose} is the account's own, which cannot be opened"
        return replace(facts, no_address=why)
    return replace(facts, address=address)


def _manager(
    facts: AccountFacts, system: AccountSystem, session: Directory, now: float
) -> tuple[AccountFacts | None, str]:
    """The one manager, a person who is there and may be written to; or why there is none."""
    if len(facts.manager) != 1:
        count = f"{len(facts.manager)} managers, which have no order" if facts.manager else "no manager"
        return None, f"the account has {count} in the directory"
    try:
        pin = system.pin_at(facts.manager[0], session)
        boss = system.read(pin, session, now) if pin else None
    except (UnreachableError, SessionLostError):
        raise
    except LamplighterError as error:
        return None, f"its manager {facts.manager[0]} cannot be read ({error.message})"
    if boss is None:
        return None, f"its manager {facts.manager[0]} is not there, or the service account may not see it"
    wrong = {
        "the account itself": boss.pin == facts.pin, "no person": not boss.person or bool(boss.service),
        "disabled": boss.disabled or bool(boss.ended), "past its end": boss.expired,
    }
    why = next((what for what, so in wrong.items() if so), "")
    return (None, f"its manager {boss.login} is {why}") if why else (boss, "")


def prove(facts: AccountFacts, secret: Hidden, session: Directory) -> list[str]:
    """Log in once with the new password: it must be let in to change it, and for nothing else.

    Returns:
        What is wrong, nothing when it was proved.
    """
    try:
        login = session.try_login(facts.dn, secret)
    except LamplighterError as error:
        return [f"whether it must be changed could not be proved by a login: {error.message}"]
    if login.refusal is BindRefusal.MUST_CHANGE:
        return []
    return [f"a login with it does not have to change it: {login.said}"]


@contextmanager
def declining() -> Iterator[None]:
    """A server that declines a change, all of it, has changed nothing: that is refused, and no failure.

    Raises:
        RefusedError: for what it said.
    """
    try:
        yield
    except (NotPermittedError, PolicyViolationError, ReferralError, UnwillingError) as error:
        raise RefusedError(
            error.message, where=error.where, changed="Nothing was changed", advice=error.advice
        ) from None
