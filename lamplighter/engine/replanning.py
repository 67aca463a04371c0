"""A run that takes up what an earlier one left undone: its plan, held against the one that was approved."""

from __future__ import annotations

from dataclasses import replace

from lamplighter.engine.drafting import Request
from lamplighter.engine.gatekeeper import dropped_lines, stored_plan
from lamplighter.errors import SelectionError
from lamplighter.ledger import read_ledger
from lamplighter.model.delta import HostDelta, difference
from lamplighter.model.gate import evaluate
from lamplighter.model.history import History, replay
from lamplighter.model.plan import Plan
from lamplighter.site import Site
from lamplighter.store import Store


def earlier(store: Store, site: str, run: str) -> tuple[Plan, History]:
    """An ended run's plan and what became of it.

    Args:
        store, site: where the run is written.
        run: its id.

    Raises:
        SelectionError: there is no such run; it never had a plan, or has not ended.
        LedgerBrokenError: its ledger does not verify, or the stored plan is not the one it names.
        StoreError: the store cannot be read.
    """
    history = replay(read_ledger(store, run, site))
    if not history.plan:
        raise SelectionError(
            f"{run} is no run of {site}, or never had a plan", changed="Nothing was started",
            advice="Start a run that replans nothing; `lamplighter runs` lists those there are",
        )
    if not history.sealed:
        raise SelectionError(
            f"{run} has not ended", changed="Nothing was started",
            advice=f"Wait for it, or end it: lamplighter reject {run}",
        )
    return stored_plan(store, history.plan, run)[0], history


def check_replans(request: Request, store: Store) -> None:
    """Refuse a run that says it takes up one that it cannot take up.

    Raises:
        SelectionError: see `earlier`; or that run followed another runbook.
        LedgerBrokenError, StoreError: see `earlier`.
    """
    if request.replans:
        plan, _ = earlier(store, request.site.name, request.replans)
        if plan.runbook != request.runbook.id:
            raise SelectionError(
                f"{request.replans} was a run of {plan.runbook}", changed="Nothing was started",
                advice=f"Start {plan.runbook} to take it up",
            )


def deltas(store: Store, site: Site, replans: str, plan: Plan) -> tuple[HostDelta, ...]:
    """How a plan differs from the approved one that it takes up; nothing where there is no such plan.

    Any ended run can be named as the one to be taken up, also one that was rejected: only what was approved
    may be said to be as approved before.

    Args:
        store, site: where the runs are written.
        replans: id of the earlier run, or empty.
        plan: the new one.

    Raises:
        SelectionError, LedgerBrokenError, StoreError: see `earlier`.
    """
    if not replans:
        return ()
    old, history = earlier(store, site.name, replans)
    return difference(old, history.hosts, plan) if _was_approved(store, site, replans) else ()


def _was_approved(store: Store, site: Site, run: str) -> bool:
    """Whether a run's gate was opened, by its ledger and by the signatures in it as of that moment."""
    records = list(read_ledger(store, run, site.name))
    history = replay(records)
    opened = next((one for one in records if one.kind == "gate" and one.fields["passed"]), None)
    if opened is None:
        return False
    plan, data = stored_plan(store, history.plan, run)
    lines = tuple(dict.fromkeys([*history.approvals, *dropped_lines(store, history.plan)]))
    policy = site.gate_policy(plan.runbook, store)
    then = replace(policy, standing=(*policy.standing, *opened.fields["approvals"]), uses={})
    return evaluate(data, lines, then, opened.time // 1000).passed
