"""Who is alive: told by the kernel on one machine, by watching a claim everywhere else; never by a clock.

Wall clocks jump and differ, so no "until" decides who may act. A claim is renewed while its holder lives,
and its bytes change each time. Whoever wants it watches them on its own monotonic clock: changed, the
holder lives; unchanged for the holder's whole time and a margin, it is dead, or has noticed by then that it
lost the claim. On the holder's own machine the kernel knows better and at once: its process is gone.

Limits. Clocks that count seconds of different lengths, by more than the margin. A machine that is stopped
from outside and goes on later, a paused virtual machine, has a clock that was stopped with it: it may carry
out the one step that it had begun to start. Suspended machines notice (`CLOCK_BOOTTIME`, time(7)).
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lamplighter.model.canonical import Json

MARGIN = 30.0
"""Seconds a claim is watched beyond its holder's time: for answers that are late."""
FULL_SPEED = 0.5
"""Seconds between looks at a claim that is watched."""


class Ticker:
    """A clock that nobody sets, and waiting by it; tests move their own."""

    def now(self) -> float:
        """Seconds since some moment; goes on while the machine is suspended."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


TICKER = Ticker()


def this_process() -> dict[str, Json]:
    """This process, so that another one on this machine can find out whether it still runs.

    A process's number counts only in its own PID namespace and boot, and only for who started then: two
    containers may have the same host name and the same numbers (pid_namespaces(7), proc_pid_stat(5)).
    """
    pid = os.getpid()
    return {
        "boot": _boot(), "host": socket.gethostname(), "namespace": _namespace(), "pid": pid,
        "started": _started(pid),
    }


def is_gone(process: Mapping[str, Json] | None) -> bool:
    """Whether it is certain that a process has ended; False when that cannot be known from here."""
    if not process:
        return False
    here = this_process()
    if any(not here[name] or process.get(name) != here[name] for name in ("boot", "host", "namespace")):
        return False
    pid, started = process.get("pid"), process.get("started")
    return type(pid) is int and pid > 0 and bool(started) and _started(pid) != started


@dataclass
class Watch:
    """One claim, watched.

    Attributes:
        since: when the bytes that are there now were seen first; by the ticker.
        alive: they changed while they were watched.
    """

    ticker: Ticker = TICKER
    since: float = 0.0
    alive: bool = False
    _bytes: bytes | None = field(default=None, repr=False)

    def see(self, data: bytes) -> float:
        """Note what is there; for how many seconds it has been."""
        now = self.ticker.now()
        if data != self._bytes:
            self.alive = self._bytes is not None
            self._bytes, self.since = data, now
        return now - self.since


def _boot() -> str:
    return _read("/proc/sys/kernel/random/boot_id").strip()


def _namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _started(pid: int) -> str:
    """When it started, in the kernel's ticks since boot; empty when there is no such process."""
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return fields[19] if len(fields) > 19 and fields[0] not in {"Z", "X"} else ""  # noqa: PLR2004 - field 22 of proc_pid_stat(5)


def _read(path: str) -> str:
    try:
        return Path(path).read_text("ascii", "replace")
    except OSError:
        return ""
