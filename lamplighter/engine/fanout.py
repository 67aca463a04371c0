"""The same work on many hosts at once, on threads that never keep a process from ending.

`concurrent.futures` joins its threads when the interpreter ends, so that one hung host would hold a stopped
worker until that host's own deadline, an hour for a patch. These threads are daemons: whoever stops the
work decides how long to wait for what is in flight.
"""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")
TICK_SECONDS = 0.5
_LOG = logging.getLogger(__name__)


class FanOut(Generic[T, R]):
    """One piece of work for each item, a bounded number at once, in order; see the module's docstring.

    Args:
        work: called with each item, on a thread. What it raises ends the whole run: what concerns one host
            only is its answer, not its exception.
        items: each is worked on once, at most.
        parallel: how many at once.
        name: of the threads.
    """

    def __init__(self, work: Callable[[T], R], items: Sequence[T], parallel: int, name: str) -> None:
        self._work, self._items, self._name = work, items, name
        self._size = min(max(1, parallel), len(items))
        self._results: dict[int, R] = {}
        self._next = 0
        self._busy = 0
        self._error: BaseException | None = None
        self._stopped = False
        self._changed = threading.Condition()

    def run(self, tick: Callable[[], None] = lambda: None) -> list[R]:
        """Work until every item is done.

        Args:
            tick: called about twice a second from this thread; what it raises is logged, and no more.

        Returns:
            The results, in the order of the items.

        Raises:
            BaseException: the first that any item raised, or that a signal brought to this thread. Nothing
                more is begun then; what is in flight goes on, see `drain`.
        """
        try:
            self._busy = self._size
            for number in range(self._size):
                threading.Thread(target=self._labour, name=f"{self._name}-{number}", daemon=True).start()
            while not self._is_over():
                contained(tick)
            if self._error:
                raise self._error
        finally:
            self._stopped = True
        return [self._results[number] for number in range(len(self._items))]

    def drain(self, seconds: float) -> bool:
        """Begin nothing more and wait for what is in flight; False when some of it still is."""
        self._stopped = True
        deadline = time.monotonic() + seconds
        with self._changed:
            return self._changed.wait_for(lambda: not self._busy, max(0.0, deadline - time.monotonic()))

    def _is_over(self) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: not self._busy or self._error is not None, TICK_SECONDS)

    def _labour(self) -> None:
        """What each thread does: take the next item, until there is none."""
        try:
            while (number := self._take()) is not None:
                self._results[number] = self._work(self._items[number])
        except BaseException as error:  # noqa: BLE001 - handed to the thread that asked for the work
            self._error = self._error or error
        finally:
            with self._changed:
                self._busy -= 1
                self._changed.notify_all()

    def _take(self) -> int | None:
        with self._changed:
            if self._stopped or self._error or self._next >= len(self._items):
                return None
            self._next += 1
            return self._next - 1


def contained(show: Callable[[], None]) -> None:
    """Call something that only shows progress: when it fails, the work goes on and the log says so."""
    try:
        show()
    except Exception as error:  # noqa: BLE001 - a display that fails must not stop a rollout
        _LOG.warning("progress cannot be shown: %s", type(error).__name__)


def unexpected(error: Exception) -> str:
    """The sentence for an exception nobody foresaw, and its place in the log.

    The exception's own text could hold anything, secrets included, so it is left out of both.
    """
    frames = "".join(traceback.format_tb(error.__traceback__))
    _LOG.error("unexpected %s; its message is left out:\n%s", type(error).__name__, frames)
    return f"unexpected {type(error).__name__}; this is a bug in the runbook, report it with the worker's log"
