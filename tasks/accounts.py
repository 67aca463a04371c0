"""Accounts of a directory: what is known of one, when a reset is refused, why a login fails. Pure.

Whoever can make the helpdesk reset a password owns the account. So the rules come first, each has a name, all
that apply are told, and what cannot be read counts against the reset.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise

from lamplighter.errors import RefusedError
from lamplighter.model.address import is_address
from lamplighter.model.canonical import Json, JsonObject
from lamplighter.model.directory import Entry
from lamplighter.model.dn import within_any
from lamplighter.model.outcome import Evidence, Outcome, StepResult, Terminal
from lamplighter.model.plan import HostPlan, Step
from lamplighter.transports.text import clean
from tasks.passwords import PasswordPolicy

SHOWN = 5
"""Accounts listed when a name fits several."""

RESET, UNLOCK = "reset", "unlock"
_REGULAR = 3


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


@dataclass(frozen=True, slots=True)
class Refusal:
    """One rule that applies, and what made it."""

    rule: Rule
    why: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.why}"


@dataclass(frozen=True, slots=True)
class Guard:
    """What the site lets be touched.

    Attributes:
        delegated: DNs of the OUs whose accounts may be reset; none means none.
        denied: logins and pins of accounts, and DNs of accounts or OUs, that may not.
        vip: DNs, in lower case, of the groups among the protected ones whose members are signed for each
            time; that they are protected is known by their being found.
        vip_refused: such members are internal IT's alone.
    """

    delegated: tuple[str, ...] = ()
    denied: frozenset[str] = frozenset()
    vip: frozenset[str] = frozenset()
    vip_refused: bool = False

    def vip_of(self, facts: AccountFacts) -> tuple[str, ...]:
        """The VIP groups an account is in."""
        return tuple(one for one in facts.protected if one.lower() in self.vip)


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
        if is_address(facts.address):
            return ()
        why = "the directory has no mail address to send it to"
        if facts.address:
            why = f"what the directory has to send it to is not one mail address: {facts.address}"
        return (Refusal(Rule.NO_ADDRESS, plain(f"{why} ({self.way})")),)

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
        dn, login, name, mail, manager: as they are now.
        server: where it was read; what is written must be read there.
        missing: attributes that a decision needs and that could not be read.
        protected: names or SIDs of protected groups it is in, through any number of groups.
        admin_count, built_in: see `Rule`.
        service: what marks it as no person's.
        disabled, expired, locked, admin_locked: its state.
        must_change, password_expired: its password's state.
        unchangeable: why its owner cannot be made to change the password; empty when they can.
        mark: changes whenever the password is set, for proof and for drift.
        failures: wrong passwords the directory has counted since the last right one.
        failed_at: when, in seconds since the epoch, as far as it is kept; oldest first.
        policy: what its password must be.
        hints: what else the directory knows that helps to find the source of lockouts.
        address: where a new password is to be sent, when it goes by mail: one address, or what the directory
            has instead of one.
    """

    pin: str
    dn: str
    login: str
    server: str
    name: str = ""
    mail: str = ""
    manager: str = ""
    missing: tuple[str, ...] = ()
    protected: tuple[str, ...] = ()
    admin_count: bool = False
    built_in: bool = False
    service: tuple[str, ...] = ()
    disabled: bool = False
    expired: bool = False
    locked: bool = False
    admin_locked: bool = False
    must_change: bool = False
    password_expired: bool = False
    unchangeable: str = ""
    mark: Mapping[str, Json] = field(default_factory=dict)
    failures: int = 0
    failed_at: tuple[int, ...] = ()
    policy: PasswordPolicy = field(default_factory=PasswordPolicy)
    hints: tuple[str, ...] = ()
    address: str = ""

    def relevant(self) -> JsonObject:
        """What must not change between plan and apply. Wrong passwords may go on being typed."""
        return {
            "pin": self.pin, "dn": plain(self.dn), "login": plain(self.login), "missing": list(self.missing),
            "protected": [plain(one) for one in self.protected], "admin_count": self.admin_count,
            "built_in": self.built_in, "service": [plain(one) for one in self.service],
            "disabled": self.disabled, "expired": self.expired,
            "locked": self.locked, "admin_locked": self.admin_locked, "unchangeable": self.unchangeable,
            "address": plain(self.address),
            "mark": {key: self.mark[key] for key in sorted(self.mark)},
        }


def plain(text: str) -> str:
    """What a directory said, in one spelling (NFC) and without what could deceive a reader."""
    return unicodedata.normalize("NFC", clean(text))


def refusals(facts: AccountFacts, guard: Guard) -> tuple[Refusal, ...]:
    """Every rule that forbids touching the account; none when it may be touched."""
    return tuple(_refusals(facts, guard))


def _refusals(facts: AccountFacts, guard: Guard) -> Iterator[Refusal]:
    vip = guard.vip_of(facts)
    protected = tuple(one for one in facts.protected if one not in vip)
    cases: tuple[tuple[Rule, object, str], ...] = (
        (Rule.UNREADABLE, facts.missing, f"the service account cannot read {', '.join(facts.missing)}"),
        (Rule.PROTECTED, protected, f"member, through groups or not, of {', '.join(protected)}"),
        (Rule.INTERNAL_ONLY, guard.vip_refused and vip, f"internal IT does it itself, for {', '.join(vip)}"),
        (Rule.ADMIN_COUNT, facts.admin_count, "adminCount is set: it is, or was, an administrator"),
        (Rule.BUILT_IN, facts.built_in, "it came with the directory"),
        (Rule.SERVICE, facts.service, f"it is no person's: {', '.join(facts.service)}"),
        (Rule.DISABLED, facts.disabled, "it was disabled, which is somebody's decision, and no lockout"),
        (Rule.EXPIRED, facts.expired, "its end date has passed"),
        (Rule.LOCKED_BY_ADMIN, facts.admin_locked, "an administrator locked it, for good"),
        (Rule.OUTSIDE, not within_any(facts.dn, guard.delegated), "it is in none of the delegated OUs"),
        (Rule.DENIED, _is_denied(facts, guard), "it is on the site's deny-list"),
    )
    return (Refusal(rule, plain(why)) for rule, applies, why in cases if applies)


def _is_denied(facts: AccountFacts, guard: Guard) -> bool:
    names = {facts.login.lower(), facts.pin.lower()} - {""}
    plain = {one.lower() for one in guard.denied if "=" not in one}
    return bool(names & plain) or within_any(facts.dn, (one for one in guard.denied if "=" in one))


class Trouble(StrEnum):
    """Why a login fails, the first that applies."""

    DISABLED = "disabled"
    EXPIRED = "expired"
    LOCKED = "locked"
    PASSWORD_EXPIRED = "password-expired"  # noqa: S105 - a state
    MUST_CHANGE = "must-change"
    WRONG_PASSWORD = "wrong-password"  # noqa: S105 - a state
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Why a login fails, in a sentence, and what else is known."""

    trouble: Trouble
    sentence: str
    hints: tuple[str, ...] = ()


def diagnose(facts: AccountFacts) -> Diagnosis:
    """Say why the account cannot log in. Locked is not disabled."""
    also = "; it is locked as well" if facts.locked else ""
    by = "by an administrator" if facts.admin_locked else "by wrong passwords"
    times = "once" if facts.failures == 1 else f"{facts.failures} times"
    cases = (
        (facts.disabled, Trouble.DISABLED, f"the account is disabled, and unlocking does not help{also}"),
        (facts.expired, Trouble.EXPIRED, f"the account has expired, and unlocking does not help{also}"),
        (facts.locked, Trouble.LOCKED, f"the account is locked {by}"),
        (facts.must_change, Trouble.MUST_CHANGE, "the password must be changed at the next login"),
        (facts.password_expired, Trouble.PASSWORD_EXPIRED, "the password has expired; change it at login"),
        (facts.failures, Trouble.WRONG_PASSWORD, f"a wrong password was given {times}; it is not locked"),
        (True, Trouble.NONE, "the directory sees no reason why a login should fail"),
    )
    trouble, sentence = next((trouble, sentence) for applies, trouble, sentence in cases if applies)
    return Diagnosis(trouble, sentence, (*facts.hints, *_pattern(facts.failed_at)))


def _pattern(times: Sequence[int]) -> Iterator[str]:
    """Wrong passwords at even intervals come from a device, not from a person."""
    gaps = [later - earlier for earlier, later in pairwise(times)]
    if len(times) >= _REGULAR and min(gaps) > 0 and max(gaps) <= 1.2 * min(gaps) + 1:
        yield (
            f"wrong passwords came every {round(sum(gaps) / len(gaps))} s, as from a device or service "
            "with an old password rather than a person"
        )


def plan_reset(
    target: str, facts: AccountFacts, guard: Guard, *, unlock: bool, claims: Claims | None = None
) -> HostPlan:
    """One step that sets a generated password, or every rule against it.

    Args:
        target: the account as it was asked for.
        facts: of the account.
        guard: the site's.
        unlock: take a lockout away in the same change.
        claims: what was said of the caller, and where the password goes.
    """
    claims = claims or Claims()
    against = refusals(facts, guard) + claims.refusals(facts)
    if facts.unchangeable:
        against += (Refusal(Rule.NO_CHANGE, facts.unchangeable),)
    if against:
        return _refused(target, facts, against)
    lifts = unlock and facts.locked
    login, dn = plain(facts.login), plain(facts.dn)
    policy = {**facts.policy.to_json(), "source": plain(facts.policy.source)}
    summary = f"set a generated password for {login}, to be changed at the next login"
    step = Step(
        RESET, "account.reset", summary + (", and unlock the account" if lifts else ""),
        {**_args(facts, guard), "unlock": lifts, "policy": policy, **claims.args(facts)},
    )
    notes = (f"{login} is {dn}", diagnose(facts).sentence, *claims.notes(facts))
    return HostPlan.of(target, facts, (step,), notes=notes)


def plan_unlock(target: str, facts: AccountFacts, guard: Guard, verified: str = "") -> HostPlan:
    """One step that takes a lockout away, or why that would not help or is not allowed."""
    against = refusals(facts, guard)
    if against:
        return _refused(target, facts, against)
    found = diagnose(facts)
    login, dn = plain(facts.login), plain(facts.dn)
    notes = (f"{login} is {dn}", found.sentence, *map(plain, found.hints))
    if not facts.locked:
        return HostPlan.of(target, facts, (), f"{Rule.NOT_LOCKED}: {found.sentence}", notes=notes)
    step = Step(UNLOCK, "account.unlock", f"unlock {login}", {**_args(facts, guard), "verified": verified})
    return HostPlan.of(target, facts, (step,), notes=notes)


def _refused(target: str, facts: AccountFacts, against: Sequence[Refusal]) -> HostPlan:
    reason = "; ".join(str(one) for one in against)
    return HostPlan.of(target, facts, (), reason, end=Terminal.REFUSED, notes=(diagnose(facts).sentence,))


def _args(facts: AccountFacts, guard: Guard) -> dict[str, Json]:
    return {
        "pin": facts.pin, "login": plain(facts.login), "server": facts.server, "mark": dict(facts.mark),
        "signed_each_time": bool(guard.vip_of(facts)),
    }


def judge_reset(before: Mapping[str, Json], after: Mapping[str, Json]) -> Outcome:
    """What became of a reset whose outcome is not known, from the marks before it and now.

    A reset that is not to be seen may still be on its way in the server, so that is never "did not happen".
    """
    if before != after:
        return Outcome(
            StepResult.OK,
            Evidence("the password was set since the facts were read", {"before": before, "after": after}),
        )
    return Outcome(
        StepResult.UNKNOWN,
        Evidence("the directory shows no new password; it is not set again by this run", {"mark": before}),
    )


def require_one(wanted: str, found: Sequence[str]) -> None:
    """Make sure that exactly one account was found.

    Raises:
        RefusedError: none, or several, which are listed.
    """
    if len(found) == 1:
        return
    listed = "; ".join(plain(one) for one in sorted(found)[:SHOWN])
    listed += "; and more" if len(found) > SHOWN else ""
    raise RefusedError(
        f"{len(found)} accounts have the login, mail address or employee number {wanted!r}"
        + (f": {listed}" if listed else ""),
        changed="Nothing was changed",
        advice="Give the exact login" if found else "Check the spelling, and that the account exists",
    )


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
