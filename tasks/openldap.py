"""Accounts in OpenLDAP with a password policy: found, judged, reset, unlocked. Speaks LDAP through a session.

Which policy is the default is in the server's own configuration, which a service account does not see: the
site says it, the server is asked whether one is in force, and one login proves it.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from lamplighter.errors import RefusedError, RemoteFailedError
from lamplighter.model.canonical import Json
from lamplighter.model.directory import (
    Directory,
    Entry,
    Filter,
    Hidden,
    all_of,
    any_of,
    equals,
    remove,
)
from lamplighter.model.directory import replace as set_to
from lamplighter.model.dn import parse_dn
from lamplighter.model.logins import Answer
from tasks.accounts import AccountFacts, Guard, listed, require_one, require_there
from tasks.groups import DoubtError, Who, contexts
from tasks.judging import judged
from tasks.openldap_groups import OpenLdapGroups, groups_around, unseen
from tasks.openldap_state import POLICY, generalized_time, rules_of, state_of
from tasks.owners_marks import Marks

_KEYS = ("uid", "mail", "employeeNumber")
_NEEDED = ("entryUUID", "objectClass", "uid")
_STATE = ("pwdChangedTime", "pwdReset", "pwdAccountLockedTime", "pwdPolicySubentry")
"""What must be known for sure, there or not; every version of the overlay has them."""
_NEWER = ("pwdEndTime", "pwdStartTime")
"""The same, of slapd 2.5 and later, which are told by their account usability control."""
_ATTRIBUTES = (
    *_NEEDED, *_STATE, *_NEWER, "displayName", "cn", "sn", "mail", "manager", "pwdFailureTime",
    "pwdLastSuccess", "pwdAccountTmpLockoutEnd", "shadowExpire", "gidNumber",
    "sambaNTPassword", "sambaLMPassword", "krbPrincipalName", "krbPrincipalKey", "krb5PrincipalName",
    "krb5Key",
)
_SERVICE_CLASSES = {"applicationprocess", "simplesecurityobject", "device", "account"}
_ELSEWHERE = {  # classes and attributes with a password of their own: the schemas of Samba 3, MIT and Heimdal
    "samba": (("sambasamaccount",), ("sambaNTPassword", "sambaLMPassword"), "Windows file shares (samba)"),
    "kerberos": (
        ("krbprincipalaux", "krbprincipal", "krb5principal", "krb5kdcentry"),
        ("krbPrincipalName", "krbPrincipalKey", "krb5PrincipalName", "krb5Key"), "Kerberos",
    ),
}


@dataclass(frozen=True, slots=True)
class OpenLdap:
    """The accounts of one directory; see `tasks.account_changes.AccountSystem`.

    Attributes:
        default_policy: DN of the password policy of accounts that name none; empty for none known.
        groups: DN below which groups that hold others are looked for; empty for everywhere.
        marks: what marks an account that is not to be used.
        in_step: kinds of other passwords that the server changes along.
        people: object class of a person's account.
    """

    default_policy: str = ""
    groups: str = ""
    marks: Marks = field(default_factory=Marks)
    in_step: frozenset[str] = frozenset()
    people: str = "inetOrgPerson"

    def find(self, wanted: str, session: Directory) -> str:
        """The pin of the one account with this login, mail or employee number.

        Raises:
            RefusedError: none, or several, which are listed, or one that is no person's.
        """
        keys = any_of(*(equals(key, wanted) for key in _KEYS))
        who = all_of(equals("objectClass", self.people), keys)
        found = session.search(who, ("entryUUID", "uid", "cn"), most=50)
        if not found:
            self._why_not(wanted, keys, session)
        require_one(wanted, [f"{'/'.join(one.texts('uid'))}, {one.dn}" for one in found])
        return pin_of(found[0])

    def _why_not(self, wanted: str, keys: Filter, session: Directory) -> None:
        """Say what is there instead, if anything is.

        Raises:
            RefusedError: an account has the name, and is no person's, or lies outside of `base`.
        """
        for base in contexts(session):
            found = session.search(keys, ("objectClass",), base=base, most=20)
            if found:
                kinds = ", ".join(found[0].texts("objectClass"))
                raise RefusedError(
                    f"{wanted!r} is {listed([one.dn for one in found])}, which is no {self.people} below "
                    f"{session.base} (it is {kinds or 'of a class that cannot be read'})",
                    changed="Nothing was changed",
                    advice="Accounts of other kinds are not reset here; ask who looks after them",
                )
        if "\\" in wanted or "@" in wanted:
            login = wanted.rpartition("\\")[2].partition("@")[0]
            raise RefusedError(
                f"0 accounts have the login, mail address or employee number {wanted!r}; logins have no "
                "domain here", changed="Nothing was changed", advice=f"Type the login alone: {login}",
            )

    def pin_at(self, dn: str, session: Directory) -> str:
        """The pin of the entry with this DN; empty when it is not there."""
        entry = session.get(dn, ("entryUUID",))
        return pin_of(entry) if entry else ""

    def read(self, pin: str, session: Directory, now: float) -> AccountFacts:
        """Read the state of an account by its entryUUID.

        Raises:
            RefusedError: it is not there any more.
            UnusableError: what is there makes no sense.
        """
        entry = self._entry(pin, session, (*_ATTRIBUTES, *self.marks.attributes))
        says = session.usability(entry.dn)
        asked = says.answer is Answer.SILENT and session.compares(entry.dn, "userPassword", "?") is not None
        policy_dn = entry.text("pwdPolicySubentry") or self.default_policy
        policy = session.get(policy_dn, POLICY) if policy_dn else None
        state = state_of(entry, policy, says, asked=asked, now=now)
        classes = {kind.lower() for kind in entry.texts("objectClass")}
        return AccountFacts(
            pin=pin, dn=entry.dn, login=_first(entry, "uid"), server=session.server,
            name=_first(entry, "displayName") or _first(entry, "cn"), mails=entry.texts("mail"),
            logins=entry.texts("uid"), manager=entry.texts("manager"), person=self.people.lower() in classes,
            missing=tuple(self._missing(entry, policy_dn, policy, says.answer, session)),
            service=tuple(f"object class {kind}" for kind in sorted(classes & _SERVICE_CLASSES)),
            locked=state.locked, admin_locked=state.admin_locked, barred=state.barred, idle=state.idle,
            expired=state.expired, ended=self.marks.found(entry),
            elsewhere=tuple(self._elsewhere(entry, classes, session)),
            must_change=entry.flag("pwdReset") is True, password_expired=state.password_expired,
            unchangeable=state.unchangeable, unasked=state.unasked, mark=_mark(entry),
            failures=len(entry.all_octets("pwdFailureTime")),
            failed_at=tuple(sorted(generalized_time(text) for text in entry.texts("pwdFailureTime"))),
            policy=rules_of(policy_dn, policy),
            hints=("slapd's log and the accesslog overlay name the address wrong passwords come from",),
        )

    def judge(self, facts: AccountFacts, guard: Guard, session: Directory) -> AccountFacts:
        """What the site's lines and groups say of it, and whether this server takes changes."""
        entry = self._entry(facts.pin, session, ("uid", "gidNumber", "objectClass"))
        posix = "posixaccount" in {one.lower() for one in entry.texts("objectClass")}
        logins = frozenset(one.lower() for one in facts.logins)
        who = Who(facts.dn, facts.pin, logins, entry.number("gidNumber"), posix)
        unjudged: tuple[str, ...] = ()
        around: frozenset[str] = frozenset()
        if guard.protected or guard.vip:
            try:
                bases = (self.groups,) if self.groups else contexts(session)
                around = groups_around(facts.dn, session, bases)
            except DoubtError as error:
                unjudged = (error.message,)
        seen = judged(facts, guard, who, session, OpenLdapGroups(self.groups, around), self)
        refers = session.refers(facts.dn, "pwdReset")
        return replace(seen, unjudged=(*seen.unjudged, *unjudged), read_only=refers)

    def pinned(self, pin: str) -> Filter:
        """The filter that finds an account by its entryUUID."""
        return equals("entryUUID", pin)

    def named(self, text: str, session: Directory) -> tuple[str, ...]:
        """The pins of whom a line names; see `tasks.lines.Names`."""
        guesses = {text, text.rpartition("\\")[2]}
        keys = any_of(*(equals(key, one) for key in (*_KEYS, "cn") for one in sorted(guesses) if one))
        found = (one for base in contexts(session) for one in session.search(keys, ("entryUUID",), base=base))
        return tuple(pin_of(one) for one in found)

    def mark(self, pin: str, session: Directory) -> Mapping[str, Json]:
        """What changes whenever the password is set: pwdChangedTime, in whole seconds."""
        return _mark(self._entry(pin, session, _ATTRIBUTES))

    def reset(self, pin: str, secret: Hidden, session: Directory, *, unlock: bool) -> None:
        """Set the password (RFC 3062), then must-change and the lockout in one modification.

        Raises:
            RemoteFailedError: where the password was set and what follows was refused, that is said.
        """
        dn = self._entry(pin, session, _NEEDED).dn
        session.set_password(dn, secret)
        lifts = (set_to("pwdAccountLockedTime"),) if unlock else ()
        try:
            session.modify(dn, set_to("pwdReset", "TRUE"), *lifts)
        except RemoteFailedError as error:
            raise RemoteFailedError(
                error.message, where=error.where,
                changed="The password was set, but need not be changed at the next login",
                advice="Let the service account write pwdReset and pwdAccountLockedTime; reset it again",
            ) from None

    def unlock(self, pin: str, session: Directory) -> None:
        """Take the lockout away; the server forgets the wrong passwords with it."""
        session.modify(self._entry(pin, session, _NEEDED).dn, remove("pwdAccountLockedTime"))

    def _entry(self, pin: str, session: Directory, attributes: tuple[str, ...]) -> Entry:
        where = self.pinned(str(uuid.UUID(pin)))
        found = session.search(where, attributes, most=1)
        return require_there(found[0] if found else None)

    def _missing(
        self, entry: Entry, policy_dn: str, policy: Entry | None, answer: Answer, session: Directory
    ) -> Iterator[str]:
        yield from (name for name in _NEEDED if not entry.has(name))
        if answer is not Answer.NO_POLICY:
            yield from unseen(entry, _STATE if answer is Answer.UNKNOWN else (*_STATE, *_NEWER), session)
        yield from unseen(entry, self.marks.own, session)
        if policy_dn and policy is None:
            yield f"the password policy {policy_dn}"

    def _elsewhere(self, entry: Entry, classes: set[str], session: Directory) -> Iterator[str]:
        for kind, (its_classes, attributes, words) in _ELSEWHERE.items():
            has = classes & set(its_classes) or any(entry.has(name) for name in attributes)
            if has and kind not in self.in_step:
                yield words
        if any(session.compares(entry.dn, "userPassword", guess) for guess in _passed_on(entry)):
            yield "whatever {SASL} in userPassword passes its logins on to"


def _passed_on(entry: Entry) -> Iterator[str]:
    """How a userPassword that is kept elsewhere is usually spelled; it can be compared and not read."""
    realm = ".".join(value for rdn in parse_dn(entry.dn).rdns for kind, value in rdn if kind == "dc")
    for login in entry.texts("uid"):
        yield from (f"{{SASL}}{login}", f"{{SASL}}{login}@{realm}", f"{{SASL}}{login}@{realm.upper()}")
    yield from (f"{{SASL}}{one}" for name in ("mail", "krbPrincipalName") for one in entry.texts(name))


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
