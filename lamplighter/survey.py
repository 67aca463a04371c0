"""Reads the facts of many hosts at once. Nothing here changes anything."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

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
        One entry a host, in the order given.
    """

    def ask(host: Host) -> Surveyed:
        seen = _ask(host, operation, connect)
        progress(seen)
        return seen

    hosts = tuple(hosts)
    with ThreadPoolExecutor(max(1, min(parallel, len(hosts))), "survey") as pool:
        return tuple(pool.map(ask, hosts))


def _ask(host: Host, operation: Operation[Any], connect: Connect) -> Surveyed:
    try:
        session = connect(host)
    except UnreachableError as error:
        return Surveyed(host, message=str(error))
    try:
        return Surveyed(host, operation.survey(host, session))
    except (UnusableError, RefusedError, SudoRefusedError) as error:
        return Surveyed(host, end=Terminal.REFUSED, message=str(error))
    except SessionLostError as error:
        return Surveyed(host, message=str(error))
    except LamplighterError as error:
        return Surveyed(host, end=Terminal.FAILED, message=str(error))
    except Exception as error:  # noqa: BLE001 - a parser's bug on one host must not cost the others' work
        return Surveyed(host, end=Terminal.FAILED, message=unexpected(error))
    finally:
        session.close()


def unexpected(error: Exception) -> str:
    """The sentence for an exception nobody foresaw; its own text could hold anything, so it is left out."""
    return f"unexpected {type(error).__name__}; this is a bug in the runbook, report it with the worker's log"
