"""A run that takes up what an earlier one left undone: its plan, held against the one that was approved."""

from __future__ import annotations

from lamplighter.engine.drafting import Request
from lamplighter.engine.gatekeeper import stored_plan
from lamplighter.errors import SelectionError
from lamplighter.ledger import read_ledger
from lamplighter.model.delta import HostDelta, difference
from lamplighter.model.history import History, replay
from lamplighter.model.plan import Plan
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


def deltas(store: Store, site: str, replans: str, plan: Plan) -> tuple[HostDelta, ...]:
    """What an approver has to see of a plan that takes up an earlier run; nothing for one that does not.

    Args:
        store, site: where the runs are written.
        replans: id of the earlier run, or empty.
        plan: the new one.

    Raises:
        SelectionError, LedgerBrokenError, StoreError: see `earlier`.
    """
    if not replans:
        return ()
    old, history = earlier(store, site, replans)
    return difference(old, history.hosts, plan)
