"""A standing approval: the signature that pre-authorises `standard` changes.

It names the runbook, site, selection, options, limits and expiry of what may run without asking again, is
signed in the namespace `lamplighter-standing@v1`, and is judged by the gate like any other approval.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields

from lamplighter.errors import MalformedError
from lamplighter.model.canonical import Json, canonical
from lamplighter.model.envelope import MAX_LINE, MAX_REASON, Fields
from lamplighter.model.plan import Limits, Plan

NAMESPACE = "lamplighter-standing@v1"
ACCOUNTS = "accounts"
"""The selection of a standing approval that is about accounts of the directory."""
VERSION = 1
MAX_SECONDS = 366 * 24 * 3600
"""Longest life of a standing approval: it is thought over at least once a year."""


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
        _limits(what.mapping("limits")),
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
        and (_is_ordinary(plan) if standing.selection == ACCOUNTS else _selected(plan, hosts))
        and _within(plan.limits, standing.limits)
    )


def _selected(plan: Plan, hosts: frozenset[str] | None) -> bool:
    return hosts is not None and hosts.issuperset(plan.targets)


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
    names = {one.name for one in fields(Limits)}
    if set(value) != names or any(type(number) is not int or number < 0 for number in value.values()):
        raise MalformedError(f"limits of the standing approval are not whole numbers for {sorted(names)}")
    return Limits(**value)
