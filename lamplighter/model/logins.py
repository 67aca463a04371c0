"""What a directory says of a login: why it was refused, and whether an account could log in at all."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class BindRefusal(StrEnum):
    """Why a directory refused a login, in `AuthFailedError.data["refusal"]`."""

    WRONG = "wrong-credentials"  # 52e, 525: name or password
    DISABLED = "disabled"  # 533
    EXPIRED = "account-expired"  # 701
    PASSWORD_EXPIRED = "password-expired"  # noqa: S105 - 532; ppolicy passwordExpired
    MUST_CHANGE = "must-change"  # 773; ppolicy changeAfterReset
    LOCKED = "locked"  # 775; ppolicy accountLocked
    RESTRICTED = "restricted"  # 530, 531, 534: not now, not from here, not this way
    UNSAID = "unsaid"


class PolicyError(StrEnum):
    """What a password policy objected to (draft-behera-ldap-password-policy-11 6.2), by number."""

    EXPIRED = "the password has expired"
    LOCKED = "the account is locked"
    MUST_CHANGE = "the password was reset and must be changed first"
    NOT_ALLOWED = "the account may not change its password"
    OLD_REQUIRED = "the old password must be given"
    QUALITY = "the password is not good enough"
    TOO_SHORT = "the password is too short"
    TOO_YOUNG = "the password was changed too recently"
    IN_HISTORY = "the password was used before"
    TOO_LONG = "the password is too long"


@dataclass(frozen=True, slots=True)
class PolicyState:
    """The response control of a password policy.

    Attributes:
        error: what it objected to; None for nothing.
        expires_in: seconds until the password expires; None when not said.
        grace_logins: logins left with an expired password; None when not said.
    """

    error: PolicyError | None = None
    expires_in: int | None = None
    grace_logins: int | None = None


@dataclass(frozen=True, slots=True)
class Login:
    """What became of a login that was tried.

    Attributes:
        refusal: why it was refused, or `MUST_CHANGE` when it was let in to change the password and no more;
            None when it was simply let in.
        said: the same in words.
    """

    refusal: BindRefusal | None
    said: str = ""


class Answer(StrEnum):
    """What a server says when it is asked whether an account is usable."""

    USABLE = "usable"
    UNUSABLE = "unusable"
    SILENT = "silent"  # no policy holds for it, or the service account may not ask
    NO_POLICY = "no-policy"  # no password policy is in force where the account lies
    UNKNOWN = "unknown"  # the server does not know the question


@dataclass(frozen=True, slots=True)
class Usability:
    """The account usability control's answer (draft-vchu-ldap-pwd-policy, as slapo-ppolicy(5) has it).

    Attributes:
        answer: see `Answer`.
        must_change: its password must be changed. Of other reasons slapd 2.5 tells none apart.
        unlocks_in: seconds until it may log in again; 0 or less for never by itself, or not said.
    """

    answer: Answer
    must_change: bool = False
    unlocks_in: int = 0
