"""Places where a process may die, so that the fault campaign can make it die there.

`crashpoint("name")` does nothing unless the environment says `LAMPLIGHTER_CRASH=name:3`: then the third
time this process comes past, it kills itself with SIGKILL, as a power cut or the out-of-memory killer
would. `*:17` means the 17th crash point of any name. A name that ends in `.half` writes half of its data
first. The variable is read once; without it a crash point costs one comparison.

`NAMES` is the only list: the campaign enumerates it, and a test holds it against the source.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from typing import NoReturn

VARIABLE = "LAMPLIGHTER_CRASH"

NAMES = (
    "log.append.before",
    "log.append.half",
    "log.append.written",
    "log.append.durable",
    "log.truncate.before",
    "log.truncate.done",
    "put.before",
    "put.half",
    "put.written",
    "put.named",
    "put.durable",
    "swap.before",
    "swap.half",
    "swap.written",
    "swap.named",
    "swap.durable",
    "ledger.opened",
    "ledger.recovered",
    "ledger.seal.recorded",
    "ledger.seal.chained",
    "ledger.seal.marked",
    "rollout.after-intent",
    "rollout.before-outcome",
    "rollout.after-outcome",
    "outbox.recorded",
    "outbox.sent",
    "delivery.kept",
    "delivery.claimed",
    "delivery.handed-over",
)


def _read(text: str) -> tuple[str, int]:
    name, _, count = text.partition(":")
    if name and name != "*" and name not in NAMES:
        raise ValueError(f"{VARIABLE}: no crash point is called {name!r}")
    return name, int(count or 1)


_NAME, _COUNT = _read(os.environ.get(VARIABLE, ""))
_PASSED: Counter[str] = Counter()
_LOCK = threading.Lock()


def crashpoint(name: str) -> None:
    """Die here when the environment says so."""
    if _NAME and due(name):
        die()


def due(name: str) -> bool:
    """Count a pass of `name`; True when this is the one to die at. For points that do something first."""
    if not _NAME:
        return False
    with _LOCK:
        _PASSED[name] += 1
        _PASSED["*"] += 1
        return _NAME in {name, "*"} and _PASSED[_NAME] == _COUNT


def die() -> NoReturn:
    """SIGKILL to oneself: no handler, no buffer, no `finally`."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable: SIGKILL cannot be caught")
