"""Accounts of a directory: what is known of one, and when a reset is refused. Pure.

Whoever can make the helpdesk reset a password owns the account. So the rules come first, each has a name, all
that apply are told, and what cannot be read counts against the reset.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from lamplighter.errors import RefusedError
from lamplighter.model.address import is_address
from lamplighter.model.canonical import Json, JsonObject
from lamplighter.model.directory import Entry
from lamplighter.transports.text import clean
from tasks.passwords import PasswordPolicy

SHOWN = 5
"""Accounts listed when a name fits several."""

RESET, UNLOCK = "reset", "unlock"


class Rule(StrEnum):
    """Why an account is not touched."""

    UNREADABLE = "unreadable"  # not enough can be read to be sure
    PROTECTED = "protected"  # member of a protected group, through any number of groups
    ADMIN_COUNT = "admin-count"  # adminCount: is or was administrator, SDProp guards it
    BUILT_IN = "built-in"  # Administrator, Guest, krbtgt
    SERVICE = "service-account"  # service principal names, managed service accounts, computers
    DISABLED = "disabled"
    EXPIRED = "expired"
    OUTSIDE = "outside-delegation"  # not in an OU that was delegated
    DENIED = "deny-list"
    NO_CHANGE = "cannot-be-made-to-change"  # a new password would stay known to two people
    NOT_LOCKED = "not-locked"  # nothing to unlock
    INTERNAL_ONLY = "internal-only"  # a VIP, whom internal IT serves itself
    NO_ADDRESS = "no-address"  # nowhere to send the new password to
    LOCKED_BY_ADMIN = "locked-by-administrator"  # on purpose, so not for the helpdesk
    SETTINGS = "mistake-in-settings"  # a line of directory.yaml names nobody
    ELSEWHERE = "password-elsewhere"  # another login would keep the old password
    BARRED = "login-barred"  # no password would let it in
    NO_RIGHT = "no-right"  # the server would not let the service account do it


@dataclass(frozen=True, slots=True)
class Refusal:
    """One rule that applies, and what made it."""

    rule: Rule
    why: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.why}"


@dataclass(frozen=True, slots=True)
class Guard:
    """What the site lets be touched: the lines of its `directory.yaml`, as they stand there.

    What they name is the server's to say, see `tasks.lines` and `tasks.groups`; it stands in the facts.

    Attributes:
        delegated: DNs of the OUs whose accounts may be reset; none means none.
        denied: logins and pins of accounts, and DNs of accounts or OUs, that may not.
        protected: DNs of groups, besides the directory's own administrators', whose members may not.
        vip: DNs of groups whose members are signed for each time.
        vip_refused: such members are internal IT's alone.
    """

    delegated: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()
    protected: tuple[str, ...] = ()
    vip: tuple[str, ...] = ()
    vip_refused: bool = False


@dataclass(frozen=True, slots=True)
class Claims:
    """What was said when a reset was asked for.

    Attributes:
        verified: how it is claimed that the caller was verified; no machine can check it.
        way: how the password is delivered: `sealed`, `manager`, `alternate`, `file`.
        to: the recipient's name, when it is `sealed`.
        alternate: the attribute with a user's other address.
    """

    verified: str = ""
    way: str = "sealed"
    to: str = ""
    alternate: str = ""

    def refusals(self, facts: AccountFacts) -> tuple[Refusal, ...]:
        """A password that can go nowhere is not set."""
        if self.way not in {"manager", "alternate"}:
            return ()
        why = facts.no_address or ("" if is_address(facts.address) else "the directory has no mail address")
        return (Refusal(Rule.NO_ADDRESS, plain(f"{why} ({self.way})")),) if why else ()

    def args(self, facts: AccountFacts) -> dict[str, Json]:
        """For the plan's step."""
        return {"verified": self.verified, "way": self.way, "to": self.to or plain(facts.address)}

    def notes(self, facts: AccountFacts) -> tuple[str, ...]:
        """For whoever reads the plan."""
        return (
            f"the caller was verified by {self.verified or 'nobody knows what'} (claimed)",
            f"the password is delivered {way_words(self.way, self.to or plain(facts.address))}",
        )


def way_words(way: str, to: str) -> str:
    """How a password is delivered, in words."""
    return {
        "sealed": f"sealed for {to}", "manager": f"by mail to the manager, {to}",
        "alternate": f"by mail to {to}", "file": "as a file on the worker",
    }.get(way, f"by {way}")


@dataclass(frozen=True, slots=True)
class AccountFacts:
    """What a directory says of one account.

    Attributes:
        pin: objectGUID or entryUUID; stays the same when the account is renamed or moved.
        dn, login, name, manager: as they are now.
        server: where it was read; what is written must be read there.
        logins: every name it logs in by.
        mails: its addresses.
        person: it is a person's entry.
        missing: attributes that a decision needs and that could not be read.
        unjudged: why a rule cannot be judged, a sentence each.
        mistakes: lines of the settings that name nobody, and could concern this account.
        notes: what else whoever reads the plan is told.
        protected: protected groups it is in, through any number of groups.
        vip: VIP groups it is in.
        denied: lines of the deny list that mean it.
        delegated: it is in an OU that was delegated.
        admin_count, built_in: see `Rule`.
        service: what marks it as no person's.
        disabled, expired, locked, admin_locked: its state.
        ended: its owner's mark that it is not to be used, other than the directory's own.
        barred: why no password would let it in now, a decision that is told and never lifted.
        idle: that it was not used for too long, as a password policy counts it.
        lacking: rights that the service account lacks on it.
        read_only: the server refers changes to another one.
        elsewhere: other logins of its owner that would keep their password.
        must_change, password_expired: its password's state.
        unchangeable: why its owner cannot be made to change the password; empty when they can.
        unasked: what is not known of why a login fails, and why.
        away: what other servers of the directory say of it.
        mark: changes whenever the password is set, for proof and for drift.
        failures: wrong passwords the directory has counted since the last right one.
        failed_at: when, in seconds since the epoch, as far as it is kept; oldest first.
        policy: what its password must be.
        hints: what else the directory knows that helps to find the source of lockouts.
        address, no_address: where a new password is to be sent by mail, or why nowhere.
    """

    pin: str
    dn: str
    login: str
    server: str
    name: str = ""
    logins: tuple[str, ...] = ()
    mails: tuple[str, ...] = ()
    manager: tuple[str, ...] = ()
    person: bool = True
    missing: tuple[str, ...] = ()
    unjudged: tuple[str, ...] = ()
    mistakes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    protected: tuple[str, ...] = ()
    vip: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()
    delegated: bool = False
    admin_count: bool = False
    built_in: bool = False
    service: tuple[str, ...] = ()
    disabled: bool = False
    expired: bool = False
    locked: bool = False
    admin_locked: bool = False
    ended: str = ""
    barred: str = ""
    idle: str = ""
    lacking: tuple[str, ...] = ()
    read_only: bool = False
    elsewhere: tuple[str, ...] = ()
    must_change: bool = False
    password_expired: bool = False
    unchangeable: str = ""
    unasked: tuple[str, ...] = ()
    away: tuple[str, ...] = ()
    mark: Mapping[str, Json] = field(default_factory=dict)
    failures: int = 0
    failed_at: tuple[int, ...] = ()
    policy: PasswordPolicy = field(default_factory=PasswordPolicy)
    hints: tuple[str, ...] = ()
    address: str = ""
    no_address: str = ""

    def relevant(self) -> JsonObject:
        """What must not change between plan and apply. Wrong passwords may go on being typed."""
        lists: dict[str, Json] = {
            name: [plain(one) for one in getattr(self, name)]
            for name in (
                "missing", "unjudged", "mistakes", "protected", "vip", "denied", "service", "lacking",
                "elsewhere",
            )
        }
        texts: dict[str, Json] = {
            name: plain(getattr(self, name))
            for name in ("dn", "login", "ended", "unchangeable", "address", "no_address")
        }
        states: dict[str, Json] = {
            name: getattr(self, name)
            for name in (
                "delegated", "admin_count", "built_in", "disabled", "expired", "locked", "admin_locked",
                "read_only",
            )
        }
        mark = {key: self.mark[key] for key in sorted(self.mark)}
        return {"pin": self.pin, "barred": bool(self.barred), "mark": mark, **lists, **texts, **states}


def plain(text: str) -> str:
    """What a directory said, in one spelling (NFC) and without what could deceive a reader."""
    return unicodedata.normalize("NFC", clean(text))


def refusals(facts: AccountFacts, guard: Guard) -> tuple[Refusal, ...]:
    """Every rule that forbids touching the account; none when it may be touched."""
    return tuple(_refusals(facts, guard))


def _refusals(facts: AccountFacts, guard: Guard) -> Iterator[Refusal]:
    cases: tuple[tuple[Rule, object, str], ...] = (
        (Rule.UNREADABLE, facts.missing, f"the service account cannot read {', '.join(facts.missing)}"),
        (Rule.UNREADABLE, facts.unjudged, "; ".join(facts.unjudged)),
        (Rule.SETTINGS, facts.mistakes, "; ".join(facts.mistakes)),
        (Rule.PROTECTED, facts.protected, f"member, through groups or not, of {', '.join(facts.protected)}"),
        (Rule.INTERNAL_ONLY, guard.vip_refused and facts.vip,
         f"internal IT does it itself, for {', '.join(facts.vip)}"),
        (Rule.ADMIN_COUNT, facts.admin_count, "adminCount is set: it is, or was, an administrator"),
        (Rule.BUILT_IN, facts.built_in, "it came with the directory"),
        (Rule.SERVICE, facts.service, f"it is no person's: {', '.join(facts.service)}"),
        (Rule.DISABLED, facts.disabled, "it was disabled, which is somebody's decision, and no lockout"),
        (Rule.DISABLED, facts.ended, f"its owner ended it: {facts.ended}"),
        (Rule.EXPIRED, facts.expired, "its end date has passed"),
        (Rule.LOCKED_BY_ADMIN, facts.admin_locked, "an administrator locked it, for good"),
        (Rule.OUTSIDE, not facts.delegated, "it is in none of the delegated OUs"),
        (Rule.DENIED, facts.denied, f"the site's deny list names it: {', '.join(facts.denied)}"),
        (Rule.NO_RIGHT, facts.read_only,
         "this server refers changes to another server: name a writable one in directory.yaml"),
    )
    return (Refusal(rule, plain(why)) for rule, applies, why in cases if applies)


def require_one(wanted: str, found: Sequence[str]) -> None:
    """Make sure that exactly one account was found.

    Raises:
        RefusedError: none, or several, which are listed.
    """
    if len(found) == 1:
        return
    raise RefusedError(
        f"{len(found)} accounts have the login, mail address or employee number {wanted!r}"
        + (f": {listed(found)}" if found else ""),
        changed="Nothing was changed",
        advice="Give the exact login" if found else (
            "Check the spelling, and that the account exists; type the login alone, such as jane.roe, a mail "
            "address, or an employee number"
        ),
    )


def listed(found: Sequence[str]) -> str:
    """What was found, as far as it is shown."""
    shown = "; ".join(plain(one) for one in sorted(found)[:SHOWN])
    return shown + ("; and more" if len(found) > SHOWN else "")


def require_there(entry: Entry | None) -> Entry:
    """The entry of a pinned account.

    Raises:
        RefusedError: it is not there any more.
    """
    if entry is None:
        raise RefusedError(
            "the account is gone, or not to be seen any more",
            changed="Nothing was changed",
            advice="Look it up again by its login",
        )
    return entry
