"""A standing approval: the signature that pre-authorises `standard` changes.

It names the runbook, site, selection, options, limits, waves and expiry of what may run without asking
again, how large the selection may grow, and how many targets all runs together may change in an hour and in
a day. It is signed in the namespace `lamplighter-standing@v1`, and is judged by the gate like any other
approval.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from itertools import accumulate

from lamplighter.errors import MalformedError
from lamplighter.model.canonical import Json, canonical
from lamplighter.model.envelope import MAX_LINE, MAX_REASON, Fields
from lamplighter.model.plan import Limits, Plan

NAMESPACE = "lamplighter-standing@v1"
ACCOUNTS = "accounts"
"""The selection of a standing approval that is about accounts of the directory."""
VERSION = 1
HOUR, DAY = 3600, 86400
LAST = "\U0010ffff"
"""Sorts after every run's id."""
MAX_SECONDS = 366 * DAY
"""Longest life of a standing approval: it is thought over at least once a year."""


@dataclass(frozen=True, slots=True)
class Widening:
    """The widest waves a plan may have; see `Standing.waves`."""

    canary: int = 1
    shares: tuple[int, ...] = (100,)

    def admits(self, plan: Plan) -> bool:
        """Whether each wave of a plan leaves as many targets for later as this asks."""
        total = len(plan.targets)
        bounds = [min(self.canary, total)]
        for reached in (*(-(-total * share // 100) for share in self.shares), total):
            bounds += [reached] if reached > bounds[-1] else []
        so_far = accumulate(map(len, plan.waves))
        return all(changed <= most for changed, most in zip(so_far, bounds, strict=False))


@dataclass(frozen=True, slots=True)
class Uses:
    """Targets changed; see `Standing.uses`."""

    hour: int = 0
    day: int = 0


@dataclass(frozen=True, slots=True)
class Use:
    """What a run was let through for on a standing approval.

    Attributes:
        time: seconds since the epoch.
        run: its id.
        targets: how many it changes.
    """

    time: int
    run: str
    targets: int


@dataclass(frozen=True, slots=True)
class Standing:
    """What is signed.

    Attributes:
        site, runbook: where, and what may run.
        selection: an Ansible host pattern; what it matches when a plan is judged may be changed. For a
            runbook about accounts it is `ACCOUNTS`: those that need not be signed for each time.
        approver: the signer's id.
        not_before, expires: when it counts, seconds since the epoch, the second one excluded.
        id: unique; 8 to 64 letters, digits, dots, dashes, underscores.
        reason: one line for the record.
        options: the runbook's options, exactly.
        limits: the loosest a plan may have.
        waves: the widest its waves may be: `canary` targets first, then `shares`, cumulative per cent.
        members: most hosts the selection may match; a group that grew past it is signed for anew. Not asked
            of accounts.
        uses: most targets changed in any `hour` and in any `day`, by all runs together.
    """

    site: str
    runbook: str
    selection: str
    approver: str
    not_before: int
    expires: int
    id: str
    reason: str = ""
    options: Mapping[str, Json] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    waves: Widening = field(default_factory=Widening)
    members: int = 0
    uses: Uses = field(default_factory=Uses)

    def to_bytes(self) -> bytes:
        """The canonical bytes to sign.

        Raises:
            MalformedError: `read_standing` would not read it back.
        """
        data = canonical({"v": VERSION, **asdict(self)})
        read_standing(data)
        return data


def read_standing(data: bytes) -> Standing:
    """Parse a standing approval's canonical bytes. Verify the signature over them first.

    Raises:
        MalformedError: not canonical, an unknown or missing field, a value out of bounds.
    """
    what = Fields(data, VERSION, "the standing approval", limit=MAX_LINE)
    start, end = what.span()
    standing = Standing(
        what.text("site"), what.text("runbook"), what.text("selection"), what.text("approver"), start, end,
        what.id("id"), what.text("reason", most=MAX_REASON, empty=True), what.mapping("options"),
        _limits(what.mapping("limits")), _widening(what.mapping("waves")), what.number("members"),
        Uses(**_numbers(what.mapping("uses"), Uses, "uses")),
    )
    what.end()
    if end - start > MAX_SECONDS:
        raise MalformedError(f"a standing approval lasts at most {MAX_SECONDS // 86400} days")
    return standing


def covers(standing: Standing, plan: Plan, hosts: frozenset[str] | None) -> bool:
    """Tell whether a plan is within what was pre-authorised.

    Args:
        standing: the statement.
        plan: the plan.
        hosts: names of the hosts that the standing approval's selection matches now; None when the caller
            did not resolve it, and then nothing is covered.
    """
    return (
        plan.change_type == "standard"
        and (plan.site, plan.runbook) == (standing.site, standing.runbook)
        and canonical(plan.options) == canonical(standing.options)
        and (_is_ordinary(plan) if standing.selection == ACCOUNTS else _selected(plan, standing, hosts))
        and _within(plan.limits, standing.limits)
        and standing.waves.admits(plan)
    )


def _selected(plan: Plan, standing: Standing, hosts: frozenset[str] | None) -> bool:
    return hosts is not None and len(hosts) <= standing.members and hosts.issuperset(plan.targets)


def spent(standing: Standing, plan: Plan, uses: Sequence[Use], now: int) -> bool:
    """Tell whether this plan would be one change too many of what was pre-authorised.

    Args:
        standing: the statement.
        plan: a plan that it covers.
        uses: of the last day at least, in any order. A plan whose own run is among them has its place, and
            only those before it count: of two that race for the last place one gets it.
        now: seconds since the epoch.
    """
    first = {one.run: one for one in sorted(uses, key=lambda one: -one.time)}  # a killed run may stand twice
    mine = first.pop(plan.run, Use(now, LAST, 0))
    before = [one for one in first.values() if (one.time, one.run) < (mine.time, mine.run)]
    return any(
        sum(one.targets for one in before if one.time > mine.time - seconds) + len(plan.targets) > most
        for seconds, most in ((HOUR, standing.uses.hour), (DAY, standing.uses.day))
    )


def _is_ordinary(plan: Plan) -> bool:
    """Nothing but accounts, and none that the site wants signed for each time."""
    steps = [step for host in plan.hosts for step in host.steps]
    return bool(steps) and all(
        step.action.startswith("account.") and step.args.get("signed_each_time") is False for step in steps
    )


def pre_authorised(
    plan: Plan, standings: Iterable[Standing], hosts: Callable[[str], frozenset[str] | None]
) -> Plan:
    """The plan as a `standard` change when a standing approval speaks of it, else as it is.

    Only the label is decided here. Whether the standing approval counts, the gate judges; when it does not,
    a `standard` plan waits for signatures like any other.

    Args:
        plan: drafted.
        standings: the site's, of any runbook.
        hosts: names of the hosts that a selection matches now; None when it matches none.
    """
    if plan.change_type != "normal":
        return plan
    labelled = plan.replace(change_type="standard")
    named = any(covers(one, labelled, hosts(one.selection)) for one in standings)
    return labelled if named else plan


def _within(limits: Limits, bounds: Limits) -> bool:
    """No field looser: everything at most as large, the soak at least as long."""
    return limits.soak_seconds >= bounds.soak_seconds and all(
        getattr(limits, one.name) <= getattr(bounds, one.name)
        for one in fields(Limits) if one.name != "soak_seconds"
    )


def _limits(value: Mapping[str, Json]) -> Limits:
    return Limits(**_numbers(value, Limits, "limits"))


def _widening(value: Mapping[str, Json]) -> Widening:
    shares = value.get("shares")
    if not isinstance(shares, list) or not all(type(one) is int and 0 < one <= 100 for one in shares):  # noqa: PLR2004
        raise MalformedError("shares of the standing approval are not per cent")
    rest = {name: number for name, number in value.items() if name != "shares"}
    if set(rest) != {"canary"} or type(rest["canary"]) is not int or rest["canary"] < 1:
        raise MalformedError("waves of the standing approval are not a canary of at least 1, and shares")
    return Widening(rest["canary"], tuple(shares))


def _numbers(value: Mapping[str, Json], of: type[Limits | Uses], what: str) -> dict[str, int]:
    names = {one.name for one in fields(of)}
    found = {name: number for name, number in value.items() if type(number) is int and number >= 0}
    if set(value) != names or set(found) != names:
        raise MalformedError(f"{what} of the standing approval are not whole numbers for {sorted(names)}")
    return found
