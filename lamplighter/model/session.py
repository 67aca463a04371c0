"""What an operation may do on a host: the protocol every shell transport and simulator fulfils.

A session belongs to one host and one thread at a time. Everything has a deadline and a cap. A command
is POSIX shell text; data goes in as `args` (`$1`, `$2` ...), never formatted into the text, so nothing a
host or a file said can become code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable

from lamplighter.errors import RemoteFailedError
from lamplighter.model.inventory import Host

DEFAULT_TIMEOUT = 60.0
DEFAULT_CAP = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Completed:
    """A command that ran to its end.

    Attributes:
        exit_code: 0 to 255; 128 + n when a signal ended it.
        stdout, stderr: decoded as UTF-8 with U+FFFD for what is not, and cleaned of control
            characters, terminal escapes and bidirectional overrides; tab and newline stay.
        seconds: wall time on the worker's monotonic clock.
        truncated: True when a detached unit's output was longer than the cap (head and tail kept).
    """

    exit_code: int
    stdout: str
    stderr: str
    seconds: float = 0.0
    truncated: bool = False


class UnitState(StrEnum):
    """What the host says of a detached unit."""

    ABSENT = "absent"  # never launched here
    RUNNING = "running"
    FINISHED = "finished"  # its exit code is on the host's disk
    LOST = "lost"  # launched, not running, and left no exit code: killed, or the host went down


@runtime_checkable
class Session(Protocol):
    """One host, connected."""

    @property
    def host(self) -> str:
        """The inventory name of the host."""

    def run(
        self,
        script: str,
        *args: str,
        sudo: bool = False,
        timeout: float = DEFAULT_TIMEOUT,
        cap: int = DEFAULT_CAP,
    ) -> Completed:
        """Run shell text to its end and return what it printed; a non-zero exit is not an error here.

        Args:
            script: POSIX shell text, run by `sh` in the account's home with an environment of ours alone
                (`LC_ALL=C.UTF-8`, umask 022, a usual PATH) and no standard input.
            args: become `$1`, `$2` ...
            sudo: as root.
            timeout: seconds until `TimedOutError`.
            cap: bytes of output read from each stream before `OutputTooLargeError`.

        Raises:
            ChannelError, SudoRefusedError: nothing was run.
            SessionLostError, TimedOutError, OutputTooLargeError: there is no whole answer.
        """

    def launch(self, unit: str, script: str, *args: str, sudo: bool = False) -> None:
        """Start shell text detached from this session, at most once for ever per `unit`.

        The command survives a lost connection. `unit` is a name of `[a-z0-9-]`, unique per approved step.

        Raises:
            UnitExistsError: a unit of that name was launched before (by anyone); nothing was started.
            SessionLostError: the connection broke; whether it started is told by `unit_state`.
            RemoteFailedError: it could not be started, and was not.
        """

    def unit_state(self, unit: str, *, sudo: bool = False) -> UnitState:
        """Ask the host what became of a unit, over a fresh connection if the old one is gone.

        A unit that was claimed but did not begin is fenced off, so that it can never begin later, and
        reported `ABSENT`.
        """

    def wait(
        self, unit: str, *, sudo: bool = False, timeout: float, cap: int = DEFAULT_CAP
    ) -> Completed:
        """Wait for a unit to finish, reconnecting as often as needed, and return its exit and output.

        Raises:
            TimedOutError: the deadline passed; the unit may still be running.
            SessionLostError: the unit is lost (killed, or the host went down under it).
            RemoteFailedError: the record of its end, or its output, is not whole.
        """

    def ready(self, *, sudo: bool = False) -> None:
        """Make sure that `launch` could start something here that outlives the login; changes nothing.

        Raises:
            RefusedError: it could not, and why.
        """

    def await_boot(self, previous: str, *, timeout: float, unit: str = "") -> str:
        """Reconnect until the host is proved to have rebooted; return its boot id.

        Proof is another id in `/proc/sys/kernel/random/boot_id` than `previous`, or where that cannot change
        (containers) a first process that began since this was called; then the id is the same.

        Args:
            previous: the boot id it had.
            timeout: seconds. A host that refuses its login meanwhile is not there yet.
            unit: the unit, launched as root, that was told to reboot it.

        Raises:
            TimedOutError: nothing proved a reboot; the message says whether it is there.
            RemoteFailedError: the unit failed, and the host runs the same boot.
            HostKeyError: it came back with another host key.
        """

    def close(self) -> None:
        """Give the connection back; never raises."""


class Connection(Protocol):
    """What is opened to a target: a `Session`, a `lamplighter.model.directory.Directory`."""

    def close(self) -> None:
        """Give it back; never raises."""


Connect = Callable[[Host], Connection]
"""Opens the kind of `Connection` the operation works with; raises `UnreachableError` and its kin."""


def require(completed: Completed, what: str, *, ok: Sequence[int] = (0,)) -> Completed:
    """Return `completed`, or raise `RemoteFailedError` naming `what` and the last line it printed."""
    if completed.exit_code in ok:
        return completed
    said = (completed.stderr.strip() or completed.stdout.strip()).splitlines()
    tail = f": {said[-1][:300]}" if said else ""
    raise RemoteFailedError(f"{what} ended with exit code {completed.exit_code}{tail}")
