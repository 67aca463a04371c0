"""Reads the facts of many hosts at once. Nothing here changes anything."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from lamplighter.engine.fanout import FanOut, contained, unexpected
from lamplighter.errors import (
    LamplighterError,
    RefusedError,
    SessionLostError,
    SudoRefusedError,
    UnreachableError,
    UnusableError,
)
from lamplighter.model.inventory import Host
from lamplighter.model.operation import Operation
from lamplighter.model.outcome import Terminal
from lamplighter.model.plan import Facts
from lamplighter.model.session import Connect


@dataclass(frozen=True, slots=True)
class Surveyed:
    """What a survey brought back for one host: facts, or the terminal state it ends in and why."""

    host: Host
    facts: Facts | None = None
    end: Terminal = Terminal.UNREACHABLE
    message: str = ""


def survey(
    hosts: Iterable[Host], operation: Operation[Any], connect: Connect, parallel: int,
    progress: Callable[[Surveyed], None] = lambda _: None,
) -> tuple[Surveyed, ...]:
    """Read the facts of many hosts at once; changes nothing.

    Args:
        hosts: whom to ask.
        operation: whose survey is run.
        connect: opens sessions.
        parallel: hosts asked at once.
        progress: called in the asking thread as each host answers.

    Returns:
        One entry a host, in the order given: whatever goes wrong on one host is its own entry.
    """

    def ask(host: Host) -> Surveyed:
        seen = _ask(host, operation, connect)
        contained(lambda: progress(seen))
        return seen

    return tuple(FanOut(ask, tuple(hosts), parallel, "survey").run())


def _ask(host: Host, operation: Operation[Any], connect: Connect) -> Surveyed:
    try:
        session = connect(host)
        try:
            return Surveyed(host, operation.survey(host, session))
        finally:
            session.close()
    except (UnusableError, RefusedError, SudoRefusedError) as error:
        return Surveyed(host, end=Terminal.REFUSED, message=str(error))
    except (UnreachableError, SessionLostError) as error:
        return Surveyed(host, message=str(error))
    except LamplighterError as error:
        return Surveyed(host, end=Terminal.FAILED, message=str(error))
    except Exception as error:  # noqa: BLE001 - logged; a parser's bug on one host must not cost the others
        return Surveyed(host, end=Terminal.FAILED, message=unexpected(error))
