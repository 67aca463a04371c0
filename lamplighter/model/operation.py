"""The two kinds of routine work, as protocols: an operation changes hosts, a check reports on subjects.

Systems in `tasks/` fulfil them. They get their session handed in, know nothing of Prefect, gates or
waves, and are tested with data: `survey` issues commands and hands the text to pure parsers, `plan` and
`judge` are pure, `apply` is the only function that changes anything.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Protocol

from typing_extensions import TypeVar

from lamplighter.model.canonical import JsonObject
from lamplighter.model.finding import Finding
from lamplighter.model.inventory import Host
from lamplighter.model.outcome import Evidence, Health, Outcome
from lamplighter.model.plan import Facts, HostPlan, Step

F = TypeVar("F", bound=Facts)
S_contra = TypeVar("S_contra", contravariant=True, default=Any)
"""What it is done over: `session.Session` on a host, `directory.Directory` for an account."""


class Operation(Protocol[F, S_contra]):
    """A change. It is a dataclass, and what `options` names are fields of it."""

    def options(self) -> JsonObject:
        """What the operator chose, as it goes into the plan."""

    def survey(self, host: Host, session: S_contra) -> F:
        """Read what the plan depends on; changes nothing.

        Raises:
            UnusableError: the host answers but cannot be read well enough.
            TransportError: the connection failed.
        """

    def plan(self, host: Host, facts: F) -> HostPlan:
        """Decide the steps, or the reason for none. Pure."""

    def apply(self, host: Host, step: Step, session: S_contra, unit: str) -> Evidence:
        """Carry one step out; the only function that changes anything.

        Args:
            host: with its variables.
            step: as approved.
            session: connected to the host.
            unit: the name for a detached unit of this step, unique to the approved plan and step.

        Raises:
            RefusedError: nothing was changed.
            RemoteFailedError: it was tried and failed.
            SessionLostError: it is not known how it ended; the engine probes.
        """

    def probe(self, host: Host, step: Step, session: S_contra, unit: str) -> Outcome | None:
        """After a crash or a lost connection: what became of the step?

        Returns:
            Its outcome, or None when it provably never began (it is then applied once).
            `StepResult.UNKNOWN` when the host cannot tell.
        """

    def verify(self, host: Host, plan: HostPlan, session: S_contra) -> Health:
        """Read whether the host is well after its steps; changes nothing."""


class Check(Protocol[F, S_contra]):
    """A check: reads, judges, reports."""

    def survey(self, host: Host, session: S_contra) -> F:
        """Read what is judged; changes nothing."""

    def judge(self, host: Host, facts: F, now: datetime) -> tuple[Finding, ...]:
        """Decide what is worth saying. Pure."""
