"""A runbook's declaration: the only place that knows its owner, gate, risk, SLA and rollout.

Tags, `prefect.yaml`, the runbook book and the responsibility matrix are derived from it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from lamplighter.model.gate import Gate
from lamplighter.model.inventory import Shell
from lamplighter.model.operation import Operation
from lamplighter.model.party import Party
from lamplighter.model.plan import Limits


class ChangeType(StrEnum):
    """ITIL's words."""

    STANDARD = "standard"  # pre-authorised
    NORMAL = "normal"  # needs approval
    EMERGENCY = "emergency"  # expedited, still signed, reviewed afterwards


class Risk(StrEnum):
    """What can go wrong at worst, in the declaring engineer's judgement."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class On(StrEnum):
    """What a runbook is about."""

    HOSTS = "hosts"  # of the inventory
    ACCOUNTS = "accounts"  # of the site's directory


@dataclass(frozen=True, slots=True)
class Sla:
    """Promised times, in seconds.

    Attributes:
        answer: a gate is answered within.
        complete: a run is done within, not counting time others hold it.
    """

    answer: int = 24 * 3600
    complete: int = 8 * 3600


@dataclass(frozen=True, slots=True)
class Waves:
    """How a rollout widens: canary hosts first, then shares of all targets.

    Attributes:
        canary: hosts in the first wave.
        shares: cumulative per cent of all targets after each further wave; the last is 100.
        minutes: how long a wave takes at most; one that would not be over before its window closes is not
            started.
    """

    canary: int = 1
    shares: tuple[int, ...] = (10, 50, 100)
    minutes: int = 30


@dataclass(frozen=True, slots=True)
class Runbook:
    """See the module's docstring.

    Attributes:
        id: verb and object, `patch-linux`; the flow function is the same with underscores.
        title: one line for lists.
        function: the line of the responsibility matrix it belongs to: `patch-management`.
        owner: the party whose workers run it.
        risk: what can go wrong at worst.
        change: ITIL change type; None for a runbook that changes nothing.
        gate: who must sign; an empty gate never passes.
        operation: builds the operation from the run's options; None for a runbook that changes nothing: no
            plan can be made for it, so nothing can be carried out under its name.
        on: what it is about.
        shells: what kinds of hosts its operation works on; others are refused before anything is sent.
        start: the flow's function, whose parameters a start may name; None where the flow is not known.
    """

    id: str
    title: str
    function: str
    owner: Party
    risk: Risk
    change: ChangeType | None = None
    gate: Gate = field(default_factory=Gate)
    operation: Callable[..., Operation[Any]] | None = None
    limits: Limits = field(default_factory=Limits)
    waves: Waves = field(default_factory=Waves)
    sla: Sla = field(default_factory=Sla)
    approval_seconds: int = 72 * 3600
    on: On = On.HOSTS
    shells: tuple[Shell, ...] = (Shell.POSIX,)
    start: Callable[..., Any] | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", self.id):
            raise ValueError(f"runbook id {self.id!r} is not of the form verb or verb-object")
        if len({self.change is None, self.operation is None, not self.gate.requirements}) > 1:
            raise ValueError(
                f"runbook {self.id} needs a change type, a gate and an operation, or none of them"
            )

    @property
    def changes(self) -> bool:
        """Whether it can change a host at all."""
        return self.operation is not None

    @property
    def flow_name(self) -> str:
        """The name of the flow function and of its file."""
        return self.id.replace("-", "_")

    def tags(self, site: str) -> tuple[str, ...]:
        """The tags of its deployments and of every run, sorted."""
        gate = "+".join(sorted(self.gate.parties)) or "none"
        return tuple(sorted((
            f"change:{self.change or 'none'}", f"function:{self.function}", f"gate:{gate}",
            f"owner:{self.owner}", f"risk:{self.risk}", f"site:{site}",
        )))

    def flow_options(self) -> dict[str, Any]:
        """Keyword arguments for Prefect's `@flow`.

        Results are persisted because a suspended run is replayed from its top; they are JSON, never
        pickles, because anyone who can write the result store could otherwise run code on the worker.
        No retries: a retried flow would be a second rollout that nobody asked for.
        """
        return {
            "name": self.id, "retries": 0, "persist_result": True,
            "result_serializer": "json", "validate_parameters": True,
        }
