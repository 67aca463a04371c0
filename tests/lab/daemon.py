"""A server of the lab on a loopback address of its own: started, awaited, and gone without a trace."""

import contextlib
import secrets
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.lab import cleanup, keys, registry
from tests.lab.errors import LabError
from tests.lab.registry import MARK, Entry
from tests.lab.spec import check_name
from tests.lab.system import environment, wait_until

_START_SECONDS = 30.0
_LONGEST = 70
"""Characters of a state folder: servers put sockets below it, and those have short paths (unix(7))."""


class Daemon:
    """A context manager, or up() and down(). A subclass says how to start in `_start`.

    Args:
        name: unique on this machine.
        state_dir: a folder it makes, and in the end removes.
    """

    def __init__(self, name: str, state_dir: Path) -> None:
        self.name = check_name(name)
        self.state_dir = Path(state_dir).absolute()
        self.address = ""
        self._entry: Entry | None = None
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    def up(self) -> None:
        """Start, and return when the server answers.

        Raises:
            LabError: it does not start; then nothing is left.
        """
        if len(str(self.state_dir)) > _LONGEST:
            raise LabError(f"{self.state_dir} is too long a path for a server's sockets")
        keys.require_empty(self.state_dir)
        cleanup.clear_dead(self.name)
        self._entry = registry.claim(self.name, self.state_dir, detached=False, wants_slot=False)
        try:
            self.state_dir.mkdir(parents=True, exist_ok=True)
            self.address = self.address or free_address()
            self._start()
        except BaseException:
            self.down()
            raise

    def down(self) -> None:
        """Stop and remove every trace; harmless if it is down already."""
        processes, self._processes = self._processes, []
        for process in processes:
            process.kill()
            process.wait()
        if self._entry is not None:
            cleanup.take_down(self._entry)
            self._entry = None

    def pause(self) -> None:
        """Stop the processes without taking anything down: as if the machine hung."""
        self._signal(signal.SIGSTOP)
        for process in self._processes:
            stands_still(process.pid)

    def resume(self) -> None:
        """Let paused processes go on."""
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """End the processes; `start` starts them again on the same data."""
        processes, self._processes = self._processes, []
        for process in processes:
            process.terminate()
            process.wait()

    def start(self) -> None:
        """Start again after `stop`."""
        self._run()

    def _start(self) -> None:
        raise NotImplementedError

    def _run(self) -> None:
        raise NotImplementedError

    def _signal(self, which: signal.Signals) -> None:
        for process in self._processes:
            process.send_signal(which)

    def _spawn(
        self, argv: Sequence[str | Path], ports: Sequence[int], env: Mapping[str, str] | None = None
    ) -> None:
        """Start a program that stays in the foreground, and wait until its ports are open."""
        log = self.state_dir / "output.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *map(str, argv)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.state_dir,
                env=environment({**(env or {}), MARK: self.name}),
            )
        self._processes.append(process)

        def ready() -> bool:
            return process.poll() is not None or all(is_open(self.address, port) for port in ports)

        if not wait_until(ready, _START_SECONDS, 0.02) or process.poll() is not None:
            tail = log.read_text(encoding="utf-8", errors="replace")[-600:]
            raise LabError(f"{argv[0]} did not start: {tail}")


def stands_still(pid: int) -> None:
    """Wait until every thread of a stopped process has stopped: the signal takes effect a little later.

    Errors: LabError when one goes on.
    """
    tasks = Path(f"/proc/{pid}/task")
    if not wait_until(lambda: all(_state(task) in "TtZX" for task in tasks.iterdir()), 10):
        raise LabError(f"process {pid} does not stop")


def _state(task: Path) -> str:
    with contextlib.suppress(OSError):
        return (task / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    return "X"


def is_open(address: str, port: int) -> bool:
    """Say whether something listens there."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((address, port)) == 0


def free_address() -> str:
    """Find a loopback address that nothing listens on.

    Returns:
        One of 127.64.0.1 to 127.127.255.254.
    """
    while True:
        one = secrets.randbelow(1 << 22)
        address = f"127.{64 + (one >> 16)}.{one >> 8 & 255}.{1 + one % 254}"
        with contextlib.suppress(OSError), socket.create_server((address, 636)):
            return address
