"""What a run is subject to besides its gate, as it stands on disk now: its function's stage, the calendar."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lamplighter.engine.gatekeeper import POLICY_SECONDS
from lamplighter.engine.journal import Journal
from lamplighter.engine.provenance import code_of
from lamplighter.engine.stages import stage_for
from lamplighter.errors import NotApprovedError, SiteError, StoreError, WindowClosedError
from lamplighter.model.calendar import told
from lamplighter.model.inventory import Host
from lamplighter.model.outcome import RunState
from lamplighter.model.plan import Plan, Window
from lamplighter.model.runbook import ChangeType, Runbook
from lamplighter.model.stage import InForce, Stage
from lamplighter.site import Site, load_site
from lamplighter.store import Store


@dataclass(frozen=True, slots=True)
class InForceNow:
    """The site as its files are now, and the stage in force for a function."""

    site: Site
    function: str
    stage: InForce

    @property
    def limits(self) -> str:
        """What a stage below `supervised` leaves, as a sentence."""
        may = "planned only, nothing is changed" if self.stage.stage.may_look else "the MSP's runs refuse"
        return f"{self.function} is in stage {self.stage.stage} ({self.stage.why}): {may}"


class Terms:
    """Read again when older than `POLICY_SECONDS`. Safe for any number of threads.

    Args:
        path: the site's folder.
        runbook: whose stage.
        store: where decisions and demotions are.
        clock: seconds since the epoch.
    """

    def __init__(self, path: Path, runbook: Runbook, store: Store, clock: Callable[[], float]) -> None:
        self._path, self._runbook, self._store, self._clock = path, runbook, store, clock
        self._last: tuple[float, InForceNow] | None = None
        self._lock = threading.Lock()

    def now(self) -> InForceNow:
        """The site and the stage.

        Raises:
            NotApprovedError: they cannot be read, so nothing may be changed.
        """
        with self._lock:
            at = time.monotonic()
            if self._last is None or at - self._last[0] > POLICY_SECONDS:
                try:
                    site = load_site(self._path)
                    stage = stage_for(self._runbook, site, self._store, int(self._clock()))
                except (SiteError, StoreError) as error:
                    raise NotApprovedError(f"stage and calendar cannot be read: {error}") from error
                self._last = (at, InForceNow(site, self._runbook.function, stage))
            return self._last[1]

    def ends(self, plan: Plan) -> tuple[RunState, str] | None:
        """How a run ends at its gate, and why, when no signature would help; None when one might.

        Raises:
            NotApprovedError: the site or the stage cannot be read.
        """
        terms = self.now()
        if not terms.stage.stage.may_change:
            return RunState.PLANNED, terms.limits
        why = other_code(plan, self._runbook)
        return (RunState.EXPIRED, why) if why else None

    def allow(self, plan: Plan, hosts: Sequence[str], now: int, *, wave: bool) -> None:
        """Raise unless stage and calendar let these hosts be changed now.

        Args:
            plan: as stored.
            hosts: inventory names; the plan's own window is asked in any case.
            now: seconds since the epoch.
            wave: they must stay open for as long as a wave takes.

        Raises:
            WindowClosedError, NotApprovedError: they do not, or it cannot be read.
        """
        terms = self.now()
        if not terms.stage.stage.may_change:
            raise NotApprovedError(terms.limits, where=plan.run)
        if why := other_code(plan, self._runbook):
            raise NotApprovedError(why, where=plan.run)
        if plan.change_type == ChangeType.STANDARD and terms.stage.stage is not Stage.DELEGATED:
            raise NotApprovedError(
                f"{terms.function} is {terms.stage.stage} by now ({terms.stage.why}): every run is signed "
                "for, so plan it anew", where=plan.run,
            )
        minutes = terms.site.rollout(self._runbook)[1].minutes if wave else 0
        why = closed(terms.site, plan, hosts, now, minutes)
        if why:
            raise WindowClosedError(why, where=plan.run)


def other_code(plan: Plan, runbook: Runbook) -> str:
    """Why this process may not carry a plan out: its code is not what was signed; empty when it is."""
    if plan.code == code_of(runbook):
        return ""
    return "the code of this runbook is not the code that the plan was made and signed with; plan it anew"


def await_window(journal: Journal, window: Window, now: float) -> int:
    """When a plan's window opens, if that is still to come; the wait is recorded, for it is nobody's fault.

    Args:
        journal: of the run.
        window: the plan's.
        now: seconds since the epoch.

    Returns:
        Seconds since the epoch; 0 when it has opened.
    """
    waits = len(journal.ledger.records("window-awaited")) > len(journal.ledger.records("window-opened"))
    if now < window.opens:
        if not waits:
            journal.record("window-awaited", opens=window.opens)
        return window.opens
    if waits:
        journal.record("window-opened", opens=window.opens)
    return 0


def missed(site: Site, hosts: Sequence[Host], window: Window, now: float) -> str:
    """That a window has closed, and when the next one opens."""
    later = site.calendar.common(hosts, now)
    again = f"; the next one opens {told(later.begins, site.time_zone)}" if later and later.begins else ""
    return f"its window closed {told(window.closes, site.time_zone)}{again}"


def closed(site: Site, plan: Plan, hosts: Sequence[str], now: int, minutes: int) -> str:
    """Why the plan's window or that of a host is closed, or closes too soon; empty when it does not.

    Args:
        site: with today's calendar.
        plan: with its own window, as signed.
        hosts: inventory names; one that is gone is somebody else's to tell.
        now: seconds since the epoch.
        minutes: how long they must stay open.
    """
    zone, window, until = site.time_zone, plan.window, now + minutes * 60
    if now < window.opens:
        return f"the plan's window is not open yet: it opens {told(window.opens, zone)}"
    if window.closes and now >= window.closes:
        return f"the plan's window has closed: {told(window.closes, zone)}"
    if window.closes and until > window.closes:
        return f"the plan's window closes {told(window.closes, zone)}, and a wave takes up to {minutes} min"
    override = bool(window.override)
    for host in (site.inventory.hosts[name] for name in hosts if name in site.inventory.hosts):
        closes = site.calendar.closes_at(host, now, override=override)
        if closes == now:
            frozen = "; ".join(site.calendar.frozen(host, now)) if not override else ""
            return f"{host.name} is frozen: {frozen}" if frozen else f"{host.name} has no window open"
        if closes and until > closes:
            when = told(closes, zone)
            return f"the window of {host.name} closes {when}, and a wave takes up to {minutes} min"
    return ""
