"""The operations of the runbooks reset-password and unlock-account, for any directory.

They have the shape of `lamplighter.model.operation.Operation`, where the target is an account, named as the
operator typed it, and the session is a `Directory`. What kinds of directory do differently is in an
`AccountSystem`. A reset is started at most once: `apply` looks at the account's mark again first, and `probe`
never says that it may be done again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from lamplighter.errors import RefusedError, RemoteFailedError
from lamplighter.model.canonical import Json, JsonObject
from lamplighter.model.directory import Directory
from lamplighter.model.inventory import Host
from lamplighter.model.outcome import Evidence, Health, Outcome, StepResult
from lamplighter.model.plan import HostPlan, Step
from lamplighter.secrets import Secret
from tasks.account_looks import addressed, declining, elsewhere, look, prove
from tasks.account_plans import judge_reset, plan_reset, plan_unlock
from tasks.account_system import AccountSystem, NoDirectory
from tasks.accounts import AccountFacts, Claims, Guard, plain, refusals
from tasks.passwords import PasswordPolicy, Style, generate

Keep = Callable[[Step, AccountFacts, Secret], None]
"""Seals the new password for its recipient, durably, before it is set: what was set can then always be
delivered, even when the worker dies in between. Raises `RefusedError` when it cannot; nothing is set then."""


@dataclass(frozen=True, slots=True)
class ResetPassword:
    """Set a generated password that must be changed at the next login.

    Attributes:
        system: the directory's kind.
        guard: whom the site lets be touched.
        keep: see `Keep`.
        unlock: take a lockout away in the same change.
        style: how the password reads.
        claims: what was said when it was asked for.
        clock: seconds since the epoch.
    """

    system: AccountSystem = field(default_factory=NoDirectory)
    guard: Guard = field(default_factory=Guard)
    keep: Keep = field(default_factory=lambda: _keep_nothing)
    unlock: bool = True
    style: Style = Style.WORDS
    claims: Claims = field(default_factory=Claims)
    clock: Callable[[], float] = field(default=time.time)

    def __post_init__(self) -> None:
        object.__setattr__(self, "style", Style(self.style))  # a ledger keeps its text

    def options(self) -> JsonObject:
        """What the operator chose, as it goes into the plan."""
        return {"unlock": self.unlock, "style": str(self.style)}

    def survey(self, host: Host, session: Directory) -> AccountFacts:
        """Find the one account and read it, and where its password would be sent; changes nothing."""
        facts = look(self, self.system.find(host.name, session), session)
        return addressed(facts, self.claims, self.system, session, self.clock())

    def plan(self, host: Host, facts: AccountFacts) -> HostPlan:
        """One step, or every rule against it. Pure."""
        return plan_reset(host.name, facts, self.guard, unlock=self.unlock, claims=self.claims)

    def apply(self, host: Host, step: Step, session: Directory, unit: str) -> Evidence:  # noqa: ARG002 - a directory has no units
        """Generate, seal, set, read back, and prove by one login that it must be changed.

        Raises:
            RefusedError: nothing was set: the account changed meanwhile, the password cannot be kept, or the
                directory declined.
            RemoteFailedError: the directory does not show, or not prove, what it accepted.
            SessionLostError: it is not known whether it was set; the engine probes.
        """
        facts = _again(self, step, session)
        policy = PasswordPolicy(**step.args["policy"])
        secret = generate(policy, self.style, (facts.login, facts.name))
        self.keep(step, facts, secret)
        with declining():
            self.system.reset(facts.pin, secret, session, unlock=step.args["unlock"] is True)
        after = self.system.read(facts.pin, session, self.clock())
        problems = _after_reset(after, unlocked=step.args["unlock"] is True)
        if problems := problems or prove(after, secret, session):
            raise RemoteFailedError(
                f"the directory accepted the password of {plain(facts.login)}, but {problems[0]}",
                where=session.server,
                changed="The password was set, and is handed to nobody",
                advice="Look at the account, and at its password policy, before it is reset again",
            )
        return _evidence("set a new password, to be changed at the next login", after, facts.mark)

    def probe(self, host: Host, step: Step, session: Directory, unit: str) -> Outcome:  # noqa: ARG002 - as `apply`
        """Tell by its mark whether the password was set, as it is sealed by then; never None."""
        _require_server(step, session)
        facts = self.system.read(step.args["pin"], session, self.clock())
        held = facts.must_change and not facts.unchangeable
        return judge_reset(step.args["mark"], facts.mark, must_change=held)

    def verify(self, host: Host, plan: HostPlan, session: Directory) -> Health:  # noqa: ARG002 - one account
        """Whether the account is as a reset leaves it, or its owner has changed the password since."""
        problems: list[str] = []
        for step in plan.steps:
            facts = self.system.read(step.args["pin"], session, self.clock())
            if dict(facts.mark) == step.args["mark"] or facts.must_change:
                problems += _after_reset(facts, unlocked=step.args["unlock"] is True)
        return Health(tuple(problems))


@dataclass(frozen=True, slots=True)
class UnlockAccount:
    """Say why an account cannot log in, and take its lockout away where that is why.

    Attributes:
        system: the directory's kind.
        guard: whom the site lets be touched.
        claims: what was said when it was asked for.
        clock: seconds since the epoch.
    """

    system: AccountSystem = field(default_factory=NoDirectory)
    guard: Guard = field(default_factory=Guard)
    claims: Claims = field(default_factory=Claims)
    clock: Callable[[], float] = field(default=time.time)

    def options(self) -> JsonObject:
        """Nothing was to be chosen."""
        return {}

    def survey(self, host: Host, session: Directory) -> AccountFacts:
        """Find the one account and read it, here and on every other server; changes nothing.

        The server it is locked on is the one to unlock it on: wrong passwords are counted by each for itself.
        """
        facts = look(self, self.system.find(host.name, session), session)
        return elsewhere(self, facts, session)

    def plan(self, host: Host, facts: AccountFacts) -> HostPlan:
        """One step, or why it would not help or is not allowed. Pure."""
        return plan_unlock(host.name, facts, self.guard, self.claims.verified)

    def apply(self, host: Host, step: Step, session: Directory, unit: str) -> Evidence:  # noqa: ARG002 - a directory has no units
        """Unlock, and read back.

        Raises:
            RefusedError: nothing was done: the account changed meanwhile.
            RemoteFailedError: the directory refused, or still shows it locked.
            SessionLostError: it is not known whether it was done; the engine probes.
        """
        facts = _again(self, step, session)
        with declining():
            self.system.unlock(facts.pin, session)
        after = self.system.read(facts.pin, session, self.clock())
        if after.locked:
            raise RemoteFailedError(
                f"{plain(facts.login)} is locked again, or still",
                where=session.server,
                changed="The lockout was lifted once",
                advice="Find what keeps using an old password: " + "; ".join(after.hints),
            )
        return _evidence("unlocked", after, facts.mark)

    def probe(self, host: Host, step: Step, session: Directory, unit: str) -> Outcome | None:  # noqa: ARG002 - as `apply`
        """Done when it is not locked; otherwise it may be done again, as unlocking twice does no harm."""
        _require_server(step, session)
        facts = self.system.read(step.args["pin"], session, self.clock())
        if facts.locked:
            return None
        return Outcome(StepResult.OK, _evidence("not locked any more", facts, step.args["mark"]))

    def verify(self, host: Host, plan: HostPlan, session: Directory) -> Health:  # noqa: ARG002 - one account
        """Whether the account is unlocked."""
        facts = [self.system.read(step.args["pin"], session, self.clock()) for step in plan.steps]
        return Health(tuple(f"{plain(one.login)} is locked again" for one in facts if one.locked))


def _keep_nothing(*_: object) -> None:
    raise RefusedError("nothing keeps the password for its user", changed="Nothing was changed")


def _again(operation: ResetPassword | UnlockAccount, step: Step, session: Directory) -> AccountFacts:
    """The account's facts, on the server of the plan, still allowed, its password set by nobody since."""
    _require_server(step, session)
    facts = look(operation, step.args["pin"], session)
    if against := refusals(facts, operation.guard):
        raise RefusedError(
            "; ".join(str(one) for one in against), where=session.server, changed="Nothing was changed"
        )
    if dict(facts.mark) != step.args["mark"]:
        raise RefusedError(
            f"the password of {plain(facts.login)} was set by somebody else since the plan was made",
            where=session.server,
            changed="Nothing was changed",
            advice="Ask the user whether they still need help, and start anew if so",
        )
    return facts


def _require_server(step: Step, session: Directory) -> None:
    if session.server != step.args["server"]:
        raise RefusedError(
            f"the account was read on {step.args['server']} and can only be changed and judged there",
            where=session.server,
            changed="Nothing was changed",
            advice="Start anew when that server cannot be reached",
        )


def _after_reset(facts: AccountFacts, *, unlocked: bool) -> list[str]:
    login = plain(facts.login)
    problems = [] if facts.must_change else [f"{login} need not change the password at the next login"]
    if unlocked and facts.locked:
        problems.append(f"{login} is locked")
    return problems


def _evidence(what: str, facts: AccountFacts, before: Mapping[str, Json]) -> Evidence:
    data = {
        "pin": facts.pin, "server": facts.server, "before": dict(before), "after": dict(facts.mark),
        "must_change": facts.must_change, "locked": facts.locked,
    }
    return Evidence(f"{plain(facts.login)}: {what}", data)
