"""Accounts in Active Directory: found, judged, reset, unlocked. Speaks LDAP through a session handed in.

Everything about one account happens on one domain controller, because each counts wrong passwords for itself
and a new password takes time to spread. Numbers are from MS-ADTS and MS-SAMR.
"""

from __future__ import annotations

import struct
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from lamplighter.errors import UnusableError
from lamplighter.model.access import (
    AUTHENTICATED,
    CHANGE_PASSWORD,
    EVERYONE,
    EXTENDED,
    LOGON_HOURS,
    LOGON_INFORMATION,
    READ,
    RESET_PASSWORD,
    SELF,
    Access,
    read_access,
)
from lamplighter.model.canonical import Json
from lamplighter.model.directory import (
    Directory,
    Entry,
    Filter,
    Hidden,
    all_of,
    any_of,
    equals,
    replace,
)
from tasks.accounts import AccountFacts, Guard, require_one, require_there
from tasks.active_directory_groups import ActiveDirectoryGroups
from tasks.groups import Who, contexts
from tasks.judging import judged
from tasks.openldap_state import generalized_time
from tasks.owners_marks import Marks
from tasks.passwords import PasswordPolicy

_DISABLED, _NORMAL, _NEVER_EXPIRES = 0x2, 0x200, 0x10000  # MS-ADTS 2.2.16
_SMART_CARD, _LOCKED, _PASSWORD_EXPIRED = 0x40000, 0x10, 0x800000
_NOT_DELEGATED, _DELEGATES = 0x100000, 0x80000 | 0x1000000
_COMPLEX = 0x1  # DOMAIN_PASSWORD_COMPLEX, MS-SAMR 2.2.3.15
_COMPLEX_CLASSES = 3
_NEVER = 0x7FFFFFFFFFFFFFFF
_EPOCH = 11644473600  # seconds from 1601 to 1970
_TICKS = 10_000_000

_DOMAIN_RIDS = {  # MS-ADTS 6.1.1.6, MS-DTYP 2.4.2.4: groups that SDProp protects, and their like
    498: "Enterprise Read-only Domain Controllers", 512: "Domain Admins", 516: "Domain Controllers",
    517: "Cert Publishers", 518: "Schema Admins", 519: "Enterprise Admins",
    520: "Group Policy Creator Owners", 521: "Read-only Domain Controllers", 525: "Protected Users",
    526: "Key Admins",
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
    "servicePrincipalName", "msDS-ResultantPSO", "replPropertyMetaData", "userPrincipalName",
    "primaryGroupID", "logonHours", "userWorkstations", "allowedAttributesEffective",
    "msDS-AllowedToDelegateTo",
)
_KEYS = ("sAMAccountName", "userPrincipalName", "mail", "employeeID", "employeeNumber")


@dataclass(frozen=True, slots=True)
class ActiveDirectory:
    """The accounts of one domain; see `tasks.account_system.AccountSystem`.

    Attributes:
        marks: what marks an account that is not to be used, besides the directory's own.
    """

    marks: Marks = field(default_factory=Marks)

    def find(self, wanted: str, session: Directory) -> str:
        r"""The pin of the one account with this login, principal name, mail or employee number.

        `DOMAIN\login` and `login@DOMAIN` are taken where the domain is this one.

        Raises:
            RefusedError: none, or several, which are listed.
        """
        shown = ("objectGUID", "sAMAccountName", "displayName")
        found = session.search(_who(wanted, session), shown, most=50)
        require_one(wanted, [_shown(entry) for entry in found])
        return pin_of(found[0])

    def pin_at(self, dn: str, session: Directory) -> str:
        """The pin of the entry with this DN; empty when it is not there."""
        entry = session.get(dn, ("objectGUID",))
        return pin_of(entry) if entry else ""

    def read(self, pin: str, session: Directory, now: float) -> AccountFacts:
        """Read the state of an account by its objectGUID, by the server's own clock.

        Raises:
            RefusedError: it is not there any more.
            UnusableError: what is there makes no sense.
        """
        entry = require_there(session.get(_by_pin(pin), (*_ATTRIBUTES, *self.marks.attributes)))
        root = session.root(("currentTime", "tokenGroups", "defaultNamingContext"))
        domain = session.get(root.text("defaultNamingContext") or session.base, _DOMAIN)
        if domain is None:
            raise UnusableError("the domain's own object cannot be read", where=session.server)
        now = generalized_time(root.text("currentTime")) if root.has("currentTime") else now
        control = (entry.number("userAccountControl") or 0) | (
            entry.number("msDS-User-Account-Control-Computed") or 0
        )
        descriptor = session.access(entry.dn)
        access = read_access(descriptor) if descriptor else None
        token, sids = frozenset(root.all_octets("tokenGroups")), _sids(entry)
        policy, unread = self._policy(entry, domain, session)
        missing = [name for name in _NEEDED if not entry.has(name)]
        missing += [] if descriptor else ["nTSecurityDescriptor"]
        versions = attribute_versions(entry.octets("replPropertyMetaData"))
        return AccountFacts(
            pin=pin, dn=entry.dn, login=entry.text("sAMAccountName"), server=session.server,
            name=entry.text("displayName"), mails=entry.texts("mail"), manager=entry.texts("manager"),
            logins=(entry.text("sAMAccountName"), entry.text("userPrincipalName")),
            person="user" in {one.lower() for one in entry.texts("objectClass")},
            missing=(*missing, *unread), protected=tuple(_guarded(entry, control)),
            admin_count=(entry.number("adminCount") or 0) != 0,
            built_in=_rid(entry.octets("objectSid")) in _BUILT_IN_USERS,
            service=tuple(_service(entry, control)),
            disabled=bool(control & _DISABLED), expired=has_expired(entry.number("accountExpires"), now),
            locked=bool(control & _LOCKED), must_change=entry.number("pwdLastSet") == 0,
            ended=self.marks.found(entry), barred=_barred(entry, now), notes=tuple(_notes(entry)),
            lacking=tuple(_lacking(entry, access, token)),
            password_expired=bool(control & _PASSWORD_EXPIRED),
            unchangeable=_unchangeable(control, access, sids),
            unasked=tuple(_unasked(entry, access, token)),
            mark=_mark(entry, versions), failures=entry.number("badPwdCount") or 0,
            policy=policy, hints=tuple(_hints(entry, domain, versions)),
        )

    def judge(self, facts: AccountFacts, guard: Guard, session: Directory) -> AccountFacts:
        """What the site's lines and groups say of it."""
        names = ("objectSid", "tokenGroups", "primaryGroupID")
        entry = require_there(session.get(_by_pin(facts.pin), names))
        token = frozenset(session.root(("tokenGroups",)).all_octets("tokenGroups"))
        who = Who(facts.dn, facts.pin, sids=_sids(entry))
        return judged(facts, guard, who, session, ActiveDirectoryGroups(token), self)

    def pinned(self, pin: str) -> Filter:
        """The filter that finds an account by its objectGUID."""
        return equals("objectGUID", uuid.UUID(pin).bytes_le)

    def named(self, text: str, session: Directory) -> tuple[str, ...]:
        """The pins of whom a line names; see `tasks.lines.Names`."""
        found = session.search(_who(text, session), ("objectGUID",), base=contexts(session)[0])
        return tuple(pin_of(one) for one in found)

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

    def _policy(
        self, entry: Entry, domain: Entry, session: Directory
    ) -> tuple[PasswordPolicy, tuple[str, ...]]:
        """The fine-grained policy that applies (MS-ADTS 3.1.1.4.5.36), or the domain's; what is unread."""
        dn = entry.text("msDS-ResultantPSO")
        fine = session.get(dn, _FINE) if dn else None
        complexity = fine.flag("msDS-PasswordComplexityEnabled") if fine else None
        if fine is not None and complexity is not None:
            return PasswordPolicy(
                dn, fine.number("msDS-MinimumPasswordLength") or 0, 0, _COMPLEX_CLASSES if complexity else 0,
                fine.number("msDS-PasswordHistoryLength") or 0, fine.number("msDS-LockoutThreshold") or 0,
                _span(fine.number("msDS-LockoutDuration")),
            ), ()
        complexity = bool((domain.number("pwdProperties") or 0) & _COMPLEX)
        return PasswordPolicy(
            dn or domain.dn, domain.number("minPwdLength") or 0, 0, _COMPLEX_CLASSES if complexity else 0,
            domain.number("pwdHistoryLength") or 0, domain.number("lockoutThreshold") or 0,
            _span(domain.number("lockoutDuration")),
        ), (f"the fine-grained password policy {dn}",) if dn else ()


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
    if control & _DELEGATES or entry.has("msDS-AllowedToDelegateTo"):
        yield "trusted for delegation"
    if entry.has("userAccountControl") and not control & _NORMAL:
        yield "no normal user account"


def _sids(entry: Entry) -> frozenset[bytes]:
    """Of the groups in its token, its primary one among them, and its own."""
    own, primary = entry.octets("objectSid"), entry.number("primaryGroupID")
    first = {own[:-4] + primary.to_bytes(4, "little")} if primary and own else set()
    return frozenset({*entry.all_octets("tokenGroups"), own, *first})


def _guarded(entry: Entry, control: int) -> Iterator[str]:
    """The domain's own protected groups, by their numbers whatever they are called; and its owner's mark."""
    own = entry.octets("objectSid")[:-4]
    for sid in sorted(_sids(entry)):
        rids = _BUILTIN_RIDS if sid[:-4] == _BUILTIN else _DOMAIN_RIDS if sid[:-4] == own else {}
        if name := rids.get(_rid(sid), ""):
            yield name
    if control & _NOT_DELEGATED:
        yield "the accounts marked as sensitive that cannot be delegated"


def _who(wanted: str, session: Directory) -> Filter:
    r"""Who has this name: `login`, `login@realm`, `DOMAIN\login`, an address or an employee number."""
    asked = [equals(key, wanted) for key in _KEYS]
    before, slash, after = wanted.partition("\\")
    login, at, domain = (after, "\\", before) if slash else wanted.rpartition("@")
    if at and login and domain and domain.lower() in _domains(session):
        asked.append(equals("sAMAccountName", login))
    return all_of(equals("objectCategory", "person"), equals("objectClass", "user"), any_of(*asked))


def _domains(session: Directory) -> set[str]:
    """What this domain is called: its DNS and its NetBIOS name (MS-ADTS 6.1.1.2.1.1)."""
    root = session.root(("defaultNamingContext", "configurationNamingContext"))
    here, configuration = root.text("defaultNamingContext"), root.text("configurationNamingContext")
    if not here or not configuration:
        return set()
    where = all_of(equals("objectClass", "crossRef"), equals("nCName", here))
    names = ("dnsRoot", "nETBIOSName")
    found = session.search(where, names, base=f"CN=Partitions,{configuration}", most=5)
    return {one.lower() for entry in found for name in names for one in entry.texts(name)}


def _lacking(entry: Entry, access: Access | None, token: frozenset[bytes]) -> Iterator[str]:
    """Rights on it that the service account lacks (MS-ADTS 3.1.1.4.5.14, 5.1.3.2.1)."""
    if access is not None and not access.allows(token, EXTENDED, RESET_PASSWORD):
        yield "Reset Password"
    writable = {one.lower() for one in entry.texts("allowedAttributesEffective")}
    yield from (name for name in ("pwdLastSet", "lockoutTime") if name.lower() not in writable)


def _barred(entry: Entry, now: float) -> str:
    """Whether it may log in at this hour: bits of the hours of a week in UTC (MS-ADA1 2.375)."""
    hours = entry.octets("logonHours")
    if len(hours) != 21:  # noqa: PLR2004 - a bit for each hour of a week
        return ""
    at = time.gmtime(now)
    hour = (at.tm_wday + 1) % 7 * 24 + at.tm_hour
    if hours[hour // 8] >> hour % 8 & 1:
        return ""
    return "its logon hours let it in at no hour of the week" if not any(hours) else (
        "its logon hours do not let it in at this hour"
    )


def _notes(entry: Entry) -> Iterator[str]:
    if where := entry.text("userWorkstations"):
        yield f"it may log in on these computers alone: {where}"
    if len(entry.octets("logonHours")) == 21 and set(entry.octets("logonHours")) != {255}:  # noqa: PLR2004 - as above
        yield "it may log in at some hours only (logonHours)"


def _unasked(entry: Entry, access: Access | None, token: frozenset[bytes]) -> Iterator[str]:
    if not entry.has("logonHours") and access is not None and not access.allows(
        token, READ, LOGON_HOURS, LOGON_INFORMATION
    ):
        yield "at which hours it may log in, for the service account may not read logonHours"


def _unchangeable(control: int, access: Access | None, sids: frozenset[bytes]) -> str:
    if access is not None:
        who = sids | {SELF, EVERYONE, AUTHENTICATED}
        if access.denies(who, EXTENDED, CHANGE_PASSWORD):
            return "its owner is denied to change the password (User cannot change password)"
        if not access.allows(who, EXTENDED, CHANGE_PASSWORD):
            return "nobody grants its owner the right Change Password, neither SELF nor Everyone"
    if control & _SMART_CARD:
        return "it logs in by smart card and has no password to hand out"
    if control & _NEVER_EXPIRES:
        return "its password never expires, and so is never asked to be changed"
    return ""


def has_expired(ticks: int | None, now: float) -> bool:
    """Whether an accountExpires is past (MS-ADA1 2.1)."""
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
