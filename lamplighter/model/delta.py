"""What a new plan does differently from one that was approved before. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lamplighter.model.canonical import Json
from lamplighter.model.history import drifted
from lamplighter.model.outcome import HostOutcome, Terminal
from lamplighter.model.plan import HostPlan, Plan

_DONE = {Terminal.CHANGED, Terminal.UNCHANGED}


@dataclass(frozen=True, slots=True)
class HostDelta:
    """One host of the new plan, beside its place in the old one.

    Attributes:
        host: inventory name.
        ended: how the old run left it, in words; empty when it did not know the host.
        lines: what is different, `upgrade.install.openssl: 3.0.14 → 3.0.15`; empty when exactly what was
            approved before is asked for again.
    """

    host: str
    ended: str
    lines: tuple[str, ...]

    @property
    def before(self) -> str:
        """How the old run left it, as it is shown."""
        return self.ended or "not in that plan"

    @property
    def now(self) -> tuple[str, ...]:
        """What is different, as it is shown."""
        return self.lines or ("as approved before",)


def left_over(plan: Plan, ends: Mapping[str, HostOutcome]) -> tuple[str, ...]:
    """Hosts of a plan that are not as it wanted them: drifted, skipped, failed and so on, in its order."""
    return tuple(
        host.host for host in plan.hosts
        if host.host not in ends or ends[host.host].terminal not in _DONE
    )


def difference(old: Plan, ends: Mapping[str, HostOutcome], new: Plan) -> tuple[HostDelta, ...]:
    """Hold a new plan against an old one, host by host in the new one's order.

    Args:
        old: as it was approved.
        ends: how the old run left its hosts.
        new: made from facts as they are now.
    """
    before = {host.host: host for host in old.hosts}
    return tuple(
        HostDelta(
            host.host,
            f"{ends[host.host].terminal}: {ends[host.host].message}" if host.host in ends else "",
            drifted(_as_facts(before.get(host.host)), _as_facts(host)),
        )
        for host in new.hosts
    )


def _as_facts(plan: HostPlan | None) -> dict[str, Json]:
    """A host's steps by id, and the reason for none: what an approver approves."""
    if plan is None:
        return {}
    steps: dict[str, Json] = {
        step.id: {"does": step.action, **step.args, "undo": step.undo or "cannot be undone"}
        for step in plan.steps
    }
    return steps | ({"left alone": plan.reason} if plan.reason else {})
