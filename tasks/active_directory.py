"""Accounts in Active Directory: found, judged, reset, unlocked. Speaks LDAP through a session handed in.

Everything about one account happens on one domain controller, because each counts wrong passwords for itself
and a new password takes time to spread. Numbers are from MS-ADTS and MS-SAMR.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lamplighter.errors import UnusableError
from lamplighter.model.canonical import Json
from lamplighter.model.directory import (
    IN_CHAIN,
    Directory,
    Entry,
    Hidden,
    Scope,
    all_of,
    any_of,
    equals,
    matches,
    replace,
)
from tasks.accounts import AccountFacts, require_one, require_there
from tasks.passwords import PasswordPolicy

_DISABLED, _NORMAL, _NEVER_EXPIRES = 0x2, 0x200, 0x10000  # MS-ADTS 2.2.16
_SMART_CARD, _LOCKED, _PASSWORD_EXPIRED = 0x40000, 0x10, 0x800000
_COMPLEX = 0x1  # DOMAIN_PASSWORD_COMPLEX, MS-SAMR 2.2.3.15
_COMPLEX_CLASSES = 3
_NEVER = 0x7FFFFFFFFFFFFFFF
_EPOCH = 11644473600  # seconds from 1601 to 1970
_TICKS = 10_000_000

_DOMAIN_RIDS = {  # MS-ADTS 6.1.1.6, MS-DTYP 2.4.2.4: groups that SDProp protects, and their like
    498: "Enterprise Read-only Domain Controllers", 512: "Domain Admins", 516: "Domain Controllers",
    517: "Cert Publishers", 518: "Schema Admins", 519: "Enterprise Admins",
    520: "Group Policy Creator Owners", 521: "Read-only Domain Controllers", 526: "Key Admins",
    527: "Enterprise Key Admins",
}
_BUILTIN_RIDS = {
    544: "Administrators", 548: "Account Operators", 549: "Server Operators", 550: "Print Operators",
    551: "Backup Operators", 552: "Replicator", 578: "Hyper-V Administrators",
}
_BUILT_IN_USERS = frozenset({500, 501, 502, 503})  # Administrator, Guest, krbtgt, DefaultAccount
_SERVICE_CLASSES = {
    "computer": "computer", "msds-managedserviceaccount": "managed service account",
    "msds-groupmanagedserviceaccount": "group managed service account",
    "msds-delegatedmanagedserviceaccount": "delegated managed service account",
}
_UNICODE_PWD, _LOCKOUT_TIME = 0x9005A, 0x90296  # attribute ids in replPropertyMetaData, MS-DRSR 5.16.4
_NEEDED = (
    "objectGUID", "objectSid", "sAMAccountName", "userAccountControl",
    "msDS-User-Account-Control-Computed", "accountExpires", "pwdLastSet", "tokenGroups", "objectClass",
)
_ATTRIBUTES = (
    *_NEEDED, "displayName", "mail", "manager", "lockoutTime", "badPwdCount", "badPasswordTime", "adminCount",
    "servicePrincipalName", "msDS-ResultantPSO", "replPropertyMetaData",
)
_KEYS = ("sAMAccountName", "userPrincipalName", "mail", "employeeID", "employeeNumber")


@dataclass(frozen=True, slots=True)
class ActiveDirectory:
    """The accounts of one domain; see `tasks.account_changes.AccountSystem`.

    Attributes:
        protected_groups: DNs of groups, besides the domain's own administrators', to look for.
    """

    protected_groups: tuple[str, ...] = ()

    def find(self, wanted: str, session: Directory) -> str:
        """The pin of the one account with this login, principal name, mail or employee number.

        Raises:
            RefusedError: none, or several, which are listed.
        """
        who = all_of(equals("objectCategory", "person"), any_of(*(equals(key, wanted) for key in _KEYS)))
        found = session.search(who, ("objectGUID", "sAMAccountName", "displayName"), most=50)
        require_one(wanted, [_shown(entry) for entry in found])
        return pin_of(found[0])

    def read(self, pin: str, session: Directory, now: float) -> AccountFacts:
        """Read the facts of an account by its objectGUID.

        Raises:
            RefusedError: it is not there any more.
            UnusableError: what is there makes no sense.
        """
        entry = require_there(session.get(_by_pin(pin), _ATTRIBUTES))
        domain = session.get(session.base, _DOMAIN)
        if domain is None:
            raise UnusableError("the domain's own object cannot be read", where=session.server)
        control = (entry.number("userAccountControl") or 0) | (
            entry.number("msDS-User-Account-Control-Computed") or 0
        )
        missing = tuple(name for name in _NEEDED if not entry.has(name))
        versions = attribute_versions(entry.octets("replPropertyMetaData"))
        sid = entry.octets("objectSid")
        return AccountFacts(
            pin=pin, dn=entry.dn, login=entry.text("sAMAccountName"), server=session.server,
            name=entry.text("displayName"), mail=entry.text("mail"), manager=entry.text("manager"),
            missing=missing, protected=tuple(self._protected(entry, session)),
            admin_count=(entry.number("adminCount") or 0) != 0,
            built_in=_rid(sid) in _BUILT_IN_USERS, service=tuple(_service(entry, control)),
            disabled=bool(control & _DISABLED), expired=_has_expired(entry.number("accountExpires"), now),
            locked=bool(control & _LOCKED), must_change=entry.number("pwdLastSet") == 0,
            password_expired=bool(control & _PASSWORD_EXPIRED), unchangeable=_unchangeable(control),
            mark=_mark(entry, versions), failures=entry.number("badPwdCount") or 0,
            policy=self._policy(entry, domain, session), hints=tuple(_hints(entry, domain, versions)),
        )

    def mark(self, pin: str, session: Directory) -> Mapping[str, Json]:
        """What changes whenever the password is set: its version on this controller, and pwdLastSet."""
        entry = require_there(session.get(_by_pin(pin), ("pwdLastSet", "replPropertyMetaData")))
        return _mark(entry, attribute_versions(entry.octets("replPropertyMetaData")))

    def reset(self, pin: str, secret: Hidden, session: Directory, *, unlock: bool) -> None:
        """Set the password, to be changed at the next login, in one modification (MS-ADTS 3.1.1.3.1.5.1)."""
        lifts = (replace("lockoutTime", 0),) if unlock else ()
        session.modify(_by_pin(pin), replace("unicodePwd", secret), replace("pwdLastSet", 0), *lifts)

    def unlock(self, pin: str, session: Directory) -> None:
        """Take the lockout away."""
        session.modify(_by_pin(pin), replace("lockoutTime", 0))

    def _protected(self, entry: Entry, session: Directory) -> Iterator[str]:
        """Protected groups by tokenGroups, and the site's by the in-chain rule, distribution groups too."""
        own = entry.octets("objectSid")[:-4]
        for sid in sorted(entry.all_octets("tokenGroups")):
            rids = _BUILTIN_RIDS if sid[:-4] == _BUILTIN else _DOMAIN_RIDS if sid[:-4] == own else {}
            if name := rids.get(_rid(sid), ""):
                yield name
        for group in self.protected_groups:
            if session.get(group, ("objectSid",)) is None:
                raise UnusableError(
                    f"the protected group {group} cannot be read, so nobody can be said not to be in it",
                    where=session.server,
                    advice="Correct it in the directory's settings, or let the service account see it",
                )
            inside = matches("memberOf", IN_CHAIN, group)
            if session.search(inside, (), base=entry.dn, scope=Scope.BASE, most=1):
                yield group

    def _policy(self, entry: Entry, domain: Entry, session: Directory) -> PasswordPolicy:
        """The fine-grained policy that applies (MS-ADTS 3.1.1.4.5.36), or else the domain's."""
        dn = entry.text("msDS-ResultantPSO")
        fine = session.get(dn, _FINE) if dn else None
        complexity = fine.flag("msDS-PasswordComplexityEnabled") if fine else None
        if fine is not None and complexity is not None:
            return PasswordPolicy(
                dn, fine.number("msDS-MinimumPasswordLength") or 0, 0, _COMPLEX_CLASSES if complexity else 0,
                fine.number("msDS-PasswordHistoryLength") or 0, fine.number("msDS-LockoutThreshold") or 0,
                _span(fine.number("msDS-LockoutDuration")),
            )
        complexity = bool((domain.number("pwdProperties") or 0) & _COMPLEX)
        return PasswordPolicy(
            dn or domain.dn, max(domain.number("minPwdLength") or 0, _UNKNOWN_LENGTH if dn else 0), 0,
            _COMPLEX_CLASSES if complexity or dn else 0,
            domain.number("pwdHistoryLength") or 0, domain.number("lockoutThreshold") or 0,
            _span(domain.number("lockoutDuration")),
        )


_UNKNOWN_LENGTH = 24
"""Characters, where a fine-grained policy applies that cannot be read: more than most ask."""

_BUILTIN = bytes.fromhex("01020000000000052000000000000000")[:12]  # S-1-5-32, the rid follows
_DOMAIN = (
    "minPwdLength", "pwdProperties", "pwdHistoryLength", "lockoutThreshold", "lockoutDuration",
    "fSMORoleOwner",
)
_FINE = (
    "msDS-MinimumPasswordLength", "msDS-PasswordComplexityEnabled", "msDS-PasswordHistoryLength",
    "msDS-LockoutThreshold", "msDS-LockoutDuration",
)


def attribute_versions(data: bytes) -> dict[int, int]:
    """How often each attribute was written, from replPropertyMetaData (MS-DRSR 5.162), by attribute id.

    Returns:
        Nothing when it cannot be read: it proves something or it does not.
    """
    head, row = struct.Struct("<IIII"), struct.Struct("<II40x")
    if len(data) < head.size:
        return {}
    version, _, count, _ = head.unpack_from(data)
    if version != 1 or len(data) < head.size + count * row.size:
        return {}
    rows = (row.unpack_from(data, head.size + index * row.size) for index in range(count))
    return {attribute & 0xFFFFFFFF: written for attribute, written in rows}


def ticks_to_epoch(ticks: int) -> int:
    """Seconds since 1970 from 100 ns since 1601 (MS-DTYP 2.3.3)."""
    return ticks // _TICKS - _EPOCH


def pin_of(entry: Entry) -> str:
    """How the account is named wherever this program names it: in plans, rates, reminders."""
    data = entry.octets("objectGUID")
    if len(data) != 16:  # noqa: PLR2004 - a GUID
        raise UnusableError("an account without an objectGUID cannot be pinned", where=entry.dn)
    return str(uuid.UUID(bytes_le=data))


def _by_pin(pin: str) -> str:
    """The DN form that follows an object wherever it is moved (MS-ADTS 3.1.1.3.1.2.4)."""
    return f"<GUID={uuid.UUID(pin)}>"


def _shown(entry: Entry) -> str:
    return f"{entry.text('sAMAccountName')} ({entry.text('displayName') or 'no name'}), {entry.dn}"


def _mark(entry: Entry, versions: Mapping[int, int]) -> dict[str, Json]:
    return {"set": str(entry.number("pwdLastSet") or 0), "version": versions.get(_UNICODE_PWD, 0)}


def _rid(sid: bytes) -> int:
    return int.from_bytes(sid[-4:], "little") if len(sid) >= 12 else -1  # noqa: PLR2004 - shortest with a rid


def _service(entry: Entry, control: int) -> Iterator[str]:
    if names := entry.texts("servicePrincipalName"):
        yield f"service principal name {names[0]}"
    for kind in entry.texts("objectClass"):
        if what := _SERVICE_CLASSES.get(kind.lower()):
            yield what
    if entry.has("userAccountControl") and not control & _NORMAL:
        yield "no normal user account"


def _unchangeable(control: int) -> str:
    if control & _SMART_CARD:
        return "it logs in by smart card and has no password to hand out"
    if control & _NEVER_EXPIRES:
        return "its password never expires, and so is never asked to be changed"
    return ""


def _has_expired(ticks: int | None, now: float) -> bool:
    return ticks not in {None, 0, _NEVER} and ticks_to_epoch(ticks or 0) <= now


def _span(ticks: int | None) -> int:
    """Seconds of a negative interval; 0 for none and for ever."""
    return -ticks // _TICKS if ticks and -ticks < _NEVER else 0


def _hints(entry: Entry, domain: Entry, versions: Mapping[int, int]) -> Iterator[str]:
    """What the directory itself knows of the source: little, so it says where to look on."""
    if last := entry.number("badPasswordTime"):
        yield f"this controller last saw a wrong password at {ticks_to_epoch(last)} (seconds since 1970)"
    if (written := versions.get(_LOCKOUT_TIME, 0)) > 2:  # noqa: PLR2004 - locked, unlocked, and again
        yield f"the lockout was set or lifted {written} times so far: find the source before unlocking again"
    owner = domain.text("fSMORoleOwner").split(",")
    if len(owner) > 1 and owner[1].upper().startswith("CN="):
        yield f"event 4740 on the PDC emulator, {owner[1][3:]}, names the computer they came from"
