"""What OpenLDAP's password policy makes of an account: in force or not, locked, and why a login fails. Pure.

The overlay is slapo-ppolicy(5), after draft-behera-ldap-password-policy. By the server's own clock speaks the
account usability control alone; where it is silent, the worker's clock is a guess, and said to be one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from lamplighter.errors import UnusableError
from lamplighter.model.directory import Entry
from lamplighter.model.logins import Answer, Usability
from tasks.passwords import PasswordPolicy

ADMIN_LOCK = "000001010000Z"
"""pwdAccountLockedTime of an account that only an administrator may unlock (draft-behera 5.3.3)."""

POLICY = (
    "objectClass", "pwdMinLength", "pwdMaxLength", "pwdInHistory", "pwdMaxFailure", "pwdLockout",
    "pwdLockoutDuration", "pwdMaxAge", "pwdMinAge", "pwdMustChange", "pwdAllowUserChange", "pwdSafeModify",
    "pwdMaxIdle",
)
_DAY = 86400
_SKEW = 6 * 3600
"""Seconds by which a clock may be wrong before nothing it says is worth a guess."""


@dataclass(frozen=True, slots=True)
class State:
    """An account as its policy has it.

    Attributes:
        locked, admin_locked, barred, idle, expired, password_expired: see `tasks.accounts.AccountFacts`.
        unchangeable: why its owner cannot be made to change the password.
        unasked: what is not known.
    """

    locked: bool
    admin_locked: bool
    barred: str
    idle: str
    expired: bool
    password_expired: bool
    unchangeable: str
    unasked: tuple[str, ...]


def state_of(entry: Entry, policy: Entry | None, says: Usability, *, asked: bool, now: float) -> State:
    """Judge an account.

    Args:
        entry: the account's.
        policy: the one that the site or the account names; None when there is none.
        says: what the server says of it.
        asked: whether the service account may ask that at all; a silent server then applies no policy.
        now: seconds since the epoch, by the worker's clock.
    """
    usable, unusable = says.answer is Answer.USABLE, says.answer is Answer.UNUSABLE
    idle = "" if usable else _idle(entry, policy, now)
    ended = has_shadow_ended(entry, now) or (not usable and has_ended(entry, now))
    expired = not usable and _password_expired(entry, policy, now)
    barred = "" if usable and not _planned(entry, now) else _barred(entry, now, waits=says.unlocks_in > 0)
    locked, by_admin = _lock(entry, policy, says, now)
    if unusable and not (locked or barred or idle or ended or expired or says.must_change):
        barred = "the server says that it cannot be used, for a reason that the service account cannot see"
    return State(
        locked, by_admin, barred, idle, ended, expired,
        next(_unchangeable(entry, policy, says, asked=asked, now=now), ""),
        () if usable or unusable else tuple(_unasked(says, asked=asked)),
    )


def _unasked(says: Usability, *, asked: bool) -> Iterator[str]:
    if says.answer is Answer.SILENT and not asked:
        yield (
            "what the server itself says by its own clock, for the service account may not compare "
            "userPassword (docs/prepare.md)"
        )
    elif says.answer is Answer.UNKNOWN:
        yield "what the server itself says, for it does not know the account usability control"
    else:
        yield "what else keeps logins out, for the server applies no password policy to it"


def _lock(entry: Entry, policy: Entry | None, says: Usability, now: float) -> tuple[bool, bool]:
    """Whether it is locked, and whether by an administrator; a lock may run out (slapo-ppolicy(5))."""
    since = entry.text("pwdAccountLockedTime")
    if not since or since == ADMIN_LOCK:
        return bool(since), bool(since)
    if says.answer is Answer.USABLE or _planned(entry, now):
        return False, False
    lasts = policy.number("pwdLockoutDuration") if policy else None
    leeway = 0 if says.answer is Answer.UNUSABLE else _SKEW
    ours = not lasts or generalized_time(since) + lasts + leeway > now
    return says.unlocks_in > 0 or ours, False


def _planned(entry: Entry, now: float) -> bool:
    """A lock of a day to come, which the server does not heed yet; no wrong password writes that."""
    since = entry.text("pwdAccountLockedTime")
    return bool(since) and since != ADMIN_LOCK and generalized_time(since) > now + _SKEW


def _barred(entry: Entry, now: float, *, waits: bool) -> str:
    if _planned(entry, now):
        since = entry.text("pwdAccountLockedTime")
        return f"a lock is planned for {since}: an administrator's decision, and no lockout"
    until = entry.text("pwdAccountTmpLockoutEnd")
    if until and (waits or generalized_time(until) > now):
        return f"logins are delayed after wrong passwords until {until}, which runs out by itself"
    return ""


def _idle(entry: Entry, policy: Entry | None, now: float) -> str:
    most, last = policy.number("pwdMaxIdle") if policy else None, entry.text("pwdLastSuccess")
    if not most or not last or generalized_time(last) + most > now:
        return ""
    days = most // _DAY
    return f"it is locked because it was not used: the last login was {last}, and pwdMaxIdle is {days} days"


def has_ended(entry: Entry, now: float) -> bool:
    """Whether it is before its beginning or past its end, by its policy (draft-behera 5.3.10, 5.3.11)."""
    end, start = entry.text("pwdEndTime"), entry.text("pwdStartTime")
    return (bool(end) and generalized_time(end) <= now) or (bool(start) and generalized_time(start) > now)


def has_shadow_ended(entry: Entry, now: float) -> bool:
    """By shadow(5), which the server knows nothing of: days since 1970, -1 for never."""
    days = entry.number("shadowExpire")
    return days is not None and 0 <= days * _DAY <= now


def _password_expired(entry: Entry, policy: Entry | None, now: float) -> bool:
    changed = entry.text("pwdChangedTime")
    most = policy.number("pwdMaxAge") if policy else None
    return bool(changed and most) and generalized_time(changed) + (most or 0) <= now


def _unchangeable(
    entry: Entry, policy: Entry | None, says: Usability, *, asked: bool, now: float
) -> Iterator[str]:
    if says.answer is Answer.NO_POLICY:
        yield "no password policy is in force where it lies: the overlay is not on this database"
    if says.answer is Answer.SILENT and asked:
        yield (
            "the server applies no password policy to it, whatever directory.yaml names: its own "
            "configuration has no default policy"
        )
    if policy is None or policy.flag("pwdMustChange") is not True:
        yield "no policy with pwdMustChange applies to it, so that a new password would stay"
        return
    if policy.flag("pwdAllowUserChange") is False:
        yield "its policy lets nobody change their own password (pwdAllowUserChange is FALSE)"
    if policy.flag("pwdSafeModify") is True:
        yield "its policy asks for the old password with every change (pwdSafeModify): nobody can reset it"
    age, changed = policy.number("pwdMinAge") or 0, entry.text("pwdChangedTime")
    if age and changed and entry.flag("pwdReset") is not True and generalized_time(changed) + age > now:
        yield f"it was changed at {changed}, and its policy's minimum age (pwdMinAge) is {age} seconds"


def rules_of(dn: str, entry: Entry | None) -> PasswordPolicy:
    """What a policy asks of a password."""
    if entry is None:
        return PasswordPolicy()
    locks = entry.flag("pwdLockout") is True
    return PasswordPolicy(
        dn, entry.number("pwdMinLength") or 0, entry.number("pwdMaxLength") or 0, 0,
        entry.number("pwdInHistory") or 0, (entry.number("pwdMaxFailure") or 0) if locks else 0,
        (entry.number("pwdLockoutDuration") or 0) if locks else 0,
    )


def generalized_time(text: str) -> int:
    """Seconds since the epoch of a generalised time in UTC (RFC 4517 3.3.13), fractions dropped.

    Raises:
        UnusableError: it is none.
    """
    digits = text.removesuffix("Z").partition(".")[0]
    try:
        return int(datetime.strptime(digits, "%Y%m%d%H%M%S").replace(tzinfo=UTC).timestamp())
    except ValueError:
        raise UnusableError(f"{text[:40]!r} is no time") from None
