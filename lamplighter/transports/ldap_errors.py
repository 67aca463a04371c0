"""From a directory's result codes to errors that say what to do."""

from __future__ import annotations

import re
from collections.abc import Iterable

from lamplighter.errors import (
    AuthFailedError,
    LamplighterError,
    MalformedError,
    NoSuchEntryError,
    NotPermittedError,
    OutputTooLargeError,
    PolicyViolationError,
    ReferralError,
    RemoteFailedError,
    TimedOutError,
    UnreachableError,
    UnwillingError,
)
from lamplighter.model.logins import BindRefusal, PolicyError, PolicyState
from lamplighter.secrets import MASK
from lamplighter.transports.ldap_ber import PASSWORD_POLICY, Result, read_policy
from lamplighter.transports.text import clean

SUCCESS = 0
TIME_LIMIT, SIZE_LIMIT, REFERRAL, ADMIN_LIMIT, SASL_IN_PROGRESS = 3, 4, 10, 11, 14
COMPARE_FALSE, COMPARE_TRUE, UNAVAILABLE_EXTENSION = 5, 6, 12
NO_SUCH_OBJECT, BUSY, UNAVAILABLE = 32, 51, 52
_STRONGER, _CONFIDENTIAL, _INVALID_CREDENTIALS = 8, 13, 49
_UNCHANGED = "Nothing was changed"
_AD_DATA = re.compile(r"\bdata ([0-9a-fA-F]{1,8})\b")
_AD_ERROR = re.compile(r"^([0-9A-Fa-f]{8}):")

_AD_REFUSALS = {  # Microsoft's system error codes that follow `data` in the answer to a bind
    0x525: (BindRefusal.WRONG, "there is no such account"),
    0x52E: (BindRefusal.WRONG, "the name or the password is wrong"),
    0x530: (BindRefusal.RESTRICTED, "the account may not log in at this time"),
    0x531: (BindRefusal.RESTRICTED, "the account may not log in from this computer"),
    0x532: (BindRefusal.PASSWORD_EXPIRED, "its password has expired"),
    0x533: (BindRefusal.DISABLED, "the account is disabled"),
    0x534: (BindRefusal.RESTRICTED, "the account may not log in this way"),
    0x701: (BindRefusal.EXPIRED, "the account has expired"),
    0x773: (BindRefusal.MUST_CHANGE, "its password must be changed first"),
    0x775: (BindRefusal.LOCKED, "the account is locked out"),
}
_POLICY_REFUSALS = {
    PolicyError.EXPIRED: BindRefusal.PASSWORD_EXPIRED,
    PolicyError.LOCKED: BindRefusal.LOCKED,
    PolicyError.MUST_CHANGE: BindRefusal.MUST_CHANGE,
}
_NAMES = {  # RFC 4511 4.1.9, as far as they are met
    1: "operations error", 2: "protocol error", 7: "authentication method not supported",
    12: "critical extension unavailable", 16: "no such attribute", 17: "undefined attribute type",
    18: "inappropriate matching", 20: "attribute or value exists", 21: "invalid attribute syntax",
    34: "invalid DN syntax", 48: "inappropriate authentication", 54: "loop detected", 64: "naming violation",
    65: "object class violation", 66: "not allowed on non-leaf", 67: "not allowed on RDN",
    68: "entry already exists", 71: "affects multiple servers", 80: "other", 122: "assertion failed",
}
_REFUSALS = {
    TIME_LIMIT: (
        OutputTooLargeError, "the server's time limit for the service account was reached",
        "Raise it: slapd's `limits ... time=`, or index what is searched (docs/prepare.md)",
    ),
    SIZE_LIMIT: (
        OutputTooLargeError, "the server's size limit for the service account was reached",
        "Raise it for the service account: slapd's `limits ... size=` (docs/prepare.md); it is 500 by itself",
    ),
    ADMIN_LIMIT: (
        OutputTooLargeError, "the server's limit for what it looks through was reached",
        "Raise it: slapd's `limits ... size.unchecked=`, or index what is searched (docs/prepare.md)",
    ),
    19: (PolicyViolationError, "", "Choose a value that the server's rules allow"),
    NO_SUCH_OBJECT: (NoSuchEntryError, "there is no such object, or the account may not see it", ""),
    50: (NotPermittedError, "no right to do this", "Delegate it to the service account, or ask who has it"),
    53: (UnwillingError, "the server declines", "Read what the server says"),
}
_AD_HINTS = {
    0x05: "access is denied to this account; AD takes delegated rights over protected accounts away",
    0x1F: "Active Directory sets passwords over encrypted connections only",
    0x56: "the old password is wrong",
    0x52D: "the password does not meet the length, complexity, history or minimum age that its policy asks",
}


def refused_bind(result: Result, identity: str, secrets: Iterable[str] = ()) -> LamplighterError:
    """The error for a bind that did not succeed.

    Args:
        result: the directory's answer.
        identity: who tried to log in.
        secrets: values that must not show, should the server quote them.
    """
    policy = _policy(result)
    refusal, why = _why(result, policy)
    if result.code == REFERRAL:
        return _referral()
    if result.code in {BUSY, UNAVAILABLE}:
        return UnreachableError(f"the server is busy or going down{said(result, secrets)}")
    error = AuthFailedError(
        f"{identity} was refused: {why}{said(result, secrets)}",
        changed="It was tried once and is not tried again by this process, so that nothing locks the account",
        advice=_bind_advice(refusal),
    )
    error.data = {"refusal": str(refusal)}
    return error


def refused(what: str, result: Result, secrets: Iterable[str] = ()) -> LamplighterError:
    """The error for any other operation that did not succeed.

    Args:
        what: the operation, as `the password could not be set`.
        result: the directory's answer.
        secrets: values that must not show, should the server quote them.
    """
    policy = _policy(result)
    objection = f": {policy.error}" if policy is not None and policy.error else _ad_hint(result.text)
    if result.code == REFERRAL:
        return _referral(what)
    kind, name, advice = _REFUSALS.get(result.code, (RemoteFailedError, "", ""))
    name = name or (_NAMES.get(result.code, f"result code {result.code}") if not objection else "")
    message = f"{what}{': ' if name else ''}{name}{objection}{said(result, secrets)}"
    return kind(message, changed=_UNCHANGED, advice=advice)


def timed_out(what: str, changed: str) -> TimedOutError:
    """The error for a deadline that passed."""
    return TimedOutError(f"{what}: the directory did not answer in time", changed=changed)


def said(result: Result, secrets: Iterable[str] = ()) -> str:
    """What the server wrote, clean, short, and without any of the secrets."""
    spellings = {form for one in secrets for form in (one, one.strip(), repr(one)[1:-1]) if form}
    # Twice: cleaning takes away what a secret holds, and puts together what a NUL kept apart.
    text = _masked(" ".join(clean(_masked(result.text, spellings)).split()), spellings)[:200]
    return f" (the server says: {text})" if text else ""


def _masked(text: str, spellings: Iterable[str]) -> str:
    for spelling in spellings:
        text = text.replace(spelling, MASK)
    return text


def _policy(result: Result) -> PolicyState | None:
    """What the password policy says; nothing when it cannot be read, for it was refused either way."""
    try:
        return read_policy(result.controls.get(PASSWORD_POLICY))
    except MalformedError:
        return None


def _referral(what: str = "") -> ReferralError:
    return ReferralError(
        f"{what}{': ' if what else ''}the server points to another server, which is never followed",
        changed="Nothing was changed, and nothing was sent to the other server",
        advice="Give a writable server of this very domain in the directory's settings",
    )


def _why(result: Result, policy: PolicyState | None) -> tuple[BindRefusal, str]:
    if policy is not None and policy.error in _POLICY_REFUSALS:
        return _POLICY_REFUSALS[policy.error], str(policy.error)
    if data := _AD_DATA.search(result.text):
        return _AD_REFUSALS.get(int(data[1], 16), (BindRefusal.UNSAID, f"error {data[1]}"))
    if result.code == _INVALID_CREDENTIALS:
        return BindRefusal.WRONG, "the name or the password is wrong, or the account is locked or disabled"
    if result.code in {_STRONGER, _CONFIDENTIAL}:
        return BindRefusal.UNSAID, "the server wants stronger protection of the connection"
    return BindRefusal.UNSAID, _NAMES.get(result.code, f"result code {result.code}")


def _bind_advice(refusal: BindRefusal) -> str:
    if refusal is BindRefusal.WRONG:
        return "Check the account and its secret reference, then start anew"
    return "Have the directory's owner look at the account, then start anew"


def _ad_hint(text: str) -> str:
    code = _AD_ERROR.match(text)
    hint = _AD_HINTS.get(int(code[1], 16)) if code else None
    return f": {hint}" if hint else ""
