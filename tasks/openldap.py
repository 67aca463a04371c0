"""Accounts in OpenLDAP with a password policy: found, judged, reset, unlocked. Speaks LDAP through a session.

The policy is the overlay slapo-ppolicy(5), after draft-behera-ldap-password-policy. Which policy is the
default is in the server's own configuration, which a service account does not see: the site says it.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from lamplighter.errors import RefusedError, RemoteFailedError, UnusableError
from lamplighter.model.canonical import Json
from lamplighter.model.directory import (
    Directory,
    Entry,
    Hidden,
    all_of,
    any_of,
    equals,
    remove,
    replace,
)
from tasks.accounts import AccountFacts, require_one, require_there
from tasks.passwords import PasswordPolicy

ADMIN_LOCK = "000001010000Z"
"""pwdAccountLockedTime of an account that only an administrator may unlock (draft-behera 5.3.3)."""

MOST_GROUPS = 500
DEEPEST = 20
_KEYS = ("uid", "mail", "employeeNumber")
_NEEDED = ("entryUUID", "objectClass", "uid")
_ATTRIBUTES = (
    *_NEEDED, "displayName", "cn", "sn", "mail", "manager", "pwdChangedTime", "pwdReset",
    "pwdAccountLockedTime", "pwdFailureTime", "pwdPolicySubentry", "pwdEndTime", "pwdStartTime",
    "shadowExpire",
)
_POLICY = (
    "pwdMinLength", "pwdMaxLength", "pwdInHistory", "pwdMaxFailure", "pwdLockout", "pwdLockoutDuration",
    "pwdMaxAge", "pwdMustChange",
)
_SERVICE_CLASSES = {"applicationprocess", "simplesecurityobject", "device", "account"}
_DAY = 86400


@dataclass(frozen=True, slots=True)
class OpenLdap:
    """The accounts of one directory; see `tasks.account_changes.AccountSystem`.

    Attributes:
        default_policy: DN of the password policy of accounts that name none; empty for none known.
        protected_groups: DNs of groups whose members, through any number of groups, are protected.
        people: object class of a person's account.
    """

    default_policy: str = ""
    protected_groups: tuple[str, ...] = ()
    people: str = "inetOrgPerson"

    def find(self, wanted: str, session: Directory) -> str:
        """The pin of the one account with this login, mail or employee number.

        Raises:
            RefusedError: none, or several, which are listed.
        """
        who = all_of(equals("objectClass", self.people), any_of(*(equals(key, wanted) for key in _KEYS)))
        found = session.search(who, ("entryUUID", "uid", "cn"), most=50)
        require_one(wanted, [f"{'/'.join(one.texts('uid'))}, {one.dn}" for one in found])
        return pin_of(found[0])

    def read(self, pin: str, session: Directory, now: float) -> AccountFacts:
        """Read the facts of an account by its entryUUID.

        Raises:
            RefusedError: it is not there any more.
            UnusableError: what is there makes no sense.
        """
        entry = self._entry(pin, session)
        policy_dn = entry.text("pwdPolicySubentry") or self.default_policy
        policy = session.get(policy_dn, _POLICY) if policy_dn else None
        locked, by_admin = _lock(entry, policy, now)
        rules = _policy(policy_dn, policy)
        missing = [name for name in _NEEDED if not entry.has(name)]
        if policy_dn and policy is None:
            missing.append(f"the password policy {policy_dn}")
        return AccountFacts(
            pin=pin, dn=entry.dn, login=_first(entry, "uid"), server=session.server,
            name=_first(entry, "displayName") or _first(entry, "cn"), mail=_first(entry, "mail"),
            manager=_first(entry, "manager"), missing=tuple(missing),
            protected=tuple(self._protected(entry.dn, session)),
            service=tuple(f"object class {kind}" for kind in sorted(_service_classes(entry))),
            expired=_has_ended(entry, now), locked=locked, admin_locked=by_admin,
            must_change=entry.flag("pwdReset") is True,
            password_expired=_password_expired(entry, policy, now), unchangeable=_unchangeable(policy),
            mark=_mark(entry), failures=len(entry.all_octets("pwdFailureTime")),
            failed_at=tuple(sorted(generalized_time(text) for text in entry.texts("pwdFailureTime"))),
            policy=rules,
            hints=("slapd's log and the accesslog overlay name the address wrong passwords come from",),
        )

    def mark(self, pin: str, session: Directory) -> Mapping[str, Json]:
        """What changes whenever the password is set: pwdChangedTime, in whole seconds."""
        return _mark(self._entry(pin, session))

    def reset(self, pin: str, secret: Hidden, session: Directory, *, unlock: bool) -> None:
        """Set the password (RFC 3062), then must-change and the lockout in one modification.

        Raises:
            RemoteFailedError: where the password was set and what follows was refused, that is said.
        """
        dn = self._entry(pin, session).dn
        session.set_password(dn, secret)
        lifts = (replace("pwdAccountLockedTime"),) if unlock else ()
        try:
            session.modify(dn, replace("pwdReset", "TRUE"), *lifts)
        except RemoteFailedError as error:
            error.changed = "The password was set, but need not be changed at the next login"
            error.advice = "Let the service account write pwdReset and pwdAccountLockedTime; reset it again"
            raise

    def unlock(self, pin: str, session: Directory) -> None:
        """Take the lockout away; the server forgets the wrong passwords with it."""
        session.modify(self._entry(pin, session).dn, remove("pwdAccountLockedTime"))

    def _entry(self, pin: str, session: Directory) -> Entry:
        found = session.search(equals("entryUUID", str(uuid.UUID(pin))), _ATTRIBUTES, most=1)
        return require_there(found[0] if found else None)

    def _protected(self, dn: str, session: Directory) -> Iterator[str]:
        """Protected groups that hold the account, through any number of groups."""
        for group in self.protected_groups:
            if session.get(group, ("cn",)) is None:
                raise UnusableError(
                    f"the protected group {group} cannot be read, so nobody can be said not to be in it",
                    where=session.server,
                    advice="Correct it in the directory's settings, or let the service account see it",
                )
        around = groups_around(dn, session) if self.protected_groups else frozenset()
        yield from (group for group in self.protected_groups if group.lower() in around)


def groups_around(dn: str, session: Directory) -> frozenset[str]:
    """DNs, in lower case, of all groups an object is in, through any number of groups.

    OpenLDAP has no rule for this, so it is asked level by level.

    Raises:
        UnusableError: the groups are too many or too deep to be sure.
    """
    seen: set[str] = set()
    level = [dn]
    for _ in range(DEEPEST):
        holds = any_of(*(equals(kind, one) for one in level for kind in ("member", "uniqueMember")))
        found = [one.dn for one in session.search(holds, (), most=MOST_GROUPS)]
        level = [one for one in found if one.lower() not in seen]
        seen |= {one.lower() for one in level}
        if not level:
            return frozenset(seen)
        if len(seen) > MOST_GROUPS:
            break
    raise UnusableError(f"{dn} is in too many groups, or too deep ones, to be sure", where=session.server)


def pin_of(entry: Entry) -> str:
    """How the account is named wherever this program names it: in plans, rates, reminders."""
    try:
        return str(uuid.UUID(entry.text("entryUUID")))
    except ValueError:
        raise RefusedError("an account without an entryUUID cannot be pinned", where=entry.dn) from None


def _first(entry: Entry, name: str) -> str:
    return (entry.texts(name) or ("",))[0]


def _mark(entry: Entry) -> dict[str, Json]:
    return {"set": entry.text("pwdChangedTime")}


def _service_classes(entry: Entry) -> set[str]:
    return {kind.lower() for kind in entry.texts("objectClass")} & _SERVICE_CLASSES


def _lock(entry: Entry, policy: Entry | None, now: float) -> tuple[bool, bool]:
    """Whether it is locked, and whether by an administrator; a lock may run out (slapo-ppolicy(5))."""
    since = entry.text("pwdAccountLockedTime")
    if not since:
        return False, False
    if since == ADMIN_LOCK:
        return True, True
    lasts = policy.number("pwdLockoutDuration") if policy else None
    return not lasts or generalized_time(since) + lasts > now, False


def _has_ended(entry: Entry, now: float) -> bool:
    end, start = entry.text("pwdEndTime"), entry.text("pwdStartTime")
    shadow = entry.number("shadowExpire")  # days since 1970, shadow(5); -1 for never
    return (
        (bool(end) and generalized_time(end) <= now)
        or (bool(start) and generalized_time(start) > now)
        or (shadow is not None and 0 <= shadow * _DAY <= now)
    )


def _password_expired(entry: Entry, policy: Entry | None, now: float) -> bool:
    changed = entry.text("pwdChangedTime")
    most = policy.number("pwdMaxAge") if policy else None
    return bool(changed and most) and generalized_time(changed) + (most or 0) <= now


def _unchangeable(policy: Entry | None) -> str:
    if policy is None or policy.flag("pwdMustChange") is not True:
        return "no policy with pwdMustChange applies to it, so that a new password would stay"
    return ""


def _policy(dn: str, entry: Entry | None) -> PasswordPolicy:
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
