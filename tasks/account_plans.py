"""What is said and done about an account: why a login fails, and the plan of a reset or an unlock. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from lamplighter.model.canonical import Json
from lamplighter.model.outcome import Evidence, Outcome, StepResult, Terminal
from lamplighter.model.plan import HostPlan, Step
from tasks.accounts import RESET, UNLOCK, AccountFacts, Claims, Guard, Refusal, Rule, plain, refusals

_REGULAR = 3


class Trouble(StrEnum):
    """Why a login fails, the first that applies."""

    DISABLED = "disabled"
    EXPIRED = "expired"
    BARRED = "barred"
    LOCKED = "locked"
    IDLE = "idle"
    PASSWORD_EXPIRED = "password-expired"  # noqa: S105 - a state
    MUST_CHANGE = "must-change"
    WRONG_PASSWORD = "wrong-password"  # noqa: S105 - a state
    UNKNOWN = "unknown"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Why a login fails, in a sentence, and what else is known."""

    trouble: Trouble
    sentence: str
    hints: tuple[str, ...] = ()


def diagnose(facts: AccountFacts) -> Diagnosis:
    """Say why the account cannot log in. Locked is not disabled, and not seen is not "no reason"."""
    also = "; it is locked as well" if facts.locked else ""
    by = "by an administrator" if facts.admin_locked else "by wrong passwords"
    times = "once" if facts.failures == 1 else f"{facts.failures} times"
    unknown = f"nothing that can be seen keeps it from logging in; not known: {'; '.join(facts.unasked)}"
    cases = (
        (facts.disabled, Trouble.DISABLED, f"the account is disabled, and unlocking does not help{also}"),
        (facts.ended, Trouble.DISABLED, f"the account was ended by its owner ({facts.ended}){also}"),
        (facts.expired, Trouble.EXPIRED, f"the account has expired, and unlocking does not help{also}"),
        (facts.barred, Trouble.BARRED, f"{facts.barred}; unlocking does not lift that{also}"),
        (facts.locked, Trouble.LOCKED, f"the account is locked {by}"),
        (facts.idle, Trouble.IDLE, f"{facts.idle}; unlocking does not help, a reset does"),
        (facts.must_change, Trouble.MUST_CHANGE, "the password must be changed at the next login"),
        (facts.password_expired, Trouble.PASSWORD_EXPIRED, "the password has expired; change it at login"),
        (facts.failures, Trouble.WRONG_PASSWORD, f"a wrong password was given {times}; it is not locked"),
        (facts.unasked or facts.missing or facts.away, Trouble.UNKNOWN, unknown),
        (True, Trouble.NONE, "the directory sees no reason why a login should fail"),
    )
    trouble, sentence = next((trouble, sentence) for applies, trouble, sentence in cases if applies)
    return Diagnosis(trouble, plain(sentence), (*facts.away, *facts.hints, *_pattern(facts.failed_at)))


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
    lifts = unlock and facts.locked
    against = refusals(facts, guard) + tuple(_against_reset(facts, lifts=lifts)) + claims.refusals(facts)
    if against:
        return _refused(target, facts, against)
    login, dn = plain(facts.login), plain(facts.dn)
    policy = {**facts.policy.to_json(), "source": plain(facts.policy.source)}
    summary = f"set a generated password for {login}, to be changed at the next login"
    step = Step(
        RESET, "account.reset", summary + (", and unlock the account" if lifts else ""),
        {**_args(facts), "unlock": lifts, "policy": policy, **claims.args(facts)},
    )
    notes = (f"{login} is {dn}", diagnose(facts).sentence, *map(plain, facts.notes), *claims.notes(facts))
    return HostPlan.of(target, facts, (step,), notes=notes)


def plan_unlock(target: str, facts: AccountFacts, guard: Guard, verified: str = "") -> HostPlan:
    """One step that takes a lockout away, or why that would not help or is not allowed."""
    against = refusals(facts, guard)
    if facts.locked:
        against += tuple(_no_right(facts, {"lockoutTime"}))
    if against:
        return _refused(target, facts, against)
    found = diagnose(facts)
    login, dn = plain(facts.login), plain(facts.dn)
    notes = (f"{login} is {dn}", found.sentence, *map(plain, found.hints), *map(plain, facts.notes))
    if not facts.locked:
        why = "; ".join(map(plain, (found.sentence, *facts.away)))
        return HostPlan.of(target, facts, (), f"{Rule.NOT_LOCKED}: {why}", notes=notes)
    summary = f"unlock {login} on {facts.server}"
    step = Step(UNLOCK, "account.unlock", summary, {**_args(facts), "verified": verified})
    return HostPlan.of(target, facts, (step,), notes=notes)


def _against_reset(facts: AccountFacts, *, lifts: bool) -> Iterator[Refusal]:
    """What keeps a reset from helping, where an unlock may still do."""
    if facts.unchangeable:
        yield Refusal(Rule.NO_CHANGE, plain(facts.unchangeable))
    if facts.barred:
        yield Refusal(Rule.BARRED, plain(f"{facts.barred}, and a new password changes nothing about that"))
    if facts.elsewhere:
        logins = ", ".join(facts.elsewhere)
        yield Refusal(Rule.ELSEWHERE, plain(f"these logins would keep the old one: {logins}"))
    yield from _no_right(facts, {"Reset Password", "pwdLastSet"} | ({"lockoutTime"} if lifts else set()))


def _no_right(facts: AccountFacts, needed: set[str]) -> Iterator[Refusal]:
    lacking = [one for one in facts.lacking if one in needed]
    if lacking and facts.delegated:
        yield Refusal(Rule.NO_RIGHT, plain(
            f"the service account lacks the rights {', '.join(lacking)} on it: were they delegated for its "
            "class, and does it inherit them?"
        ))


def _refused(target: str, facts: AccountFacts, against: Sequence[Refusal]) -> HostPlan:
    reason = "; ".join(str(one) for one in against)
    notes = (diagnose(facts).sentence, *map(plain, facts.away))
    return HostPlan.of(target, facts, (), reason, end=Terminal.REFUSED, notes=notes)


def _args(facts: AccountFacts) -> dict[str, Json]:
    return {
        "pin": facts.pin, "login": plain(facts.login), "server": facts.server, "mark": dict(facts.mark),
        "signed_each_time": bool(facts.vip),
    }


def judge_reset(before: Mapping[str, Json], after: Mapping[str, Json], *, must_change: bool) -> Outcome:
    """What became of a reset whose outcome is not known, from the marks before it and now.

    No login can prove it any more, for the password is sealed; the server must show that it is to be changed.

    A reset that is not to be seen may still be on its way in the server, so that is never "did not happen".
    """
    if before != after:
        data = {"before": before, "after": after}
        if not must_change:
            why = "the password was set since the facts were read, and need not be changed at the next login"
            return Outcome(StepResult.FAILED, Evidence(why, data))
        return Outcome(StepResult.OK, Evidence("the password was set since the facts were read", data))
    return Outcome(
        StepResult.UNKNOWN,
        Evidence("the directory shows no new password; it is not set again by this run", {"mark": before}),
    )
