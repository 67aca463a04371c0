"""A fork server: one process that has the libraries loaded, and forks each run's own process from itself.

Loading Prefect takes seconds of CPU, and a caller on the phone waited for them at each start and after each
gate. Only libraries are loaded before a fork; the checkout's own code is loaded after it, so that no run
sees yesterday's. A run's process outlives both the server and the worker.

The worker and the server share a socket pair. A request is one message, a JSON object of environment
variables, and carries one end of another pair: on that one the server answers with the process id, and with
the exit status once the process has ended. `python -m lamplighter.forkserver FD TARGET [LIBRARY ...]` is the
server; its libraries must not start threads, which a fork would lose.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import anyio

from lamplighter.secrets import keep_memory_private

UNKNOWN = 1
_REQUEST = 65_536
_NUMBER = 32


class Forked:
    """A process that the server forked.

    Attributes:
        pid: its id.
        returncode: None while it runs; then its exit status, negative for a signal, and `UNKNOWN` when the
            server was gone before it.
    """

    def __init__(self, pid: int, answers: socket.socket) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._answers = answers
        try:
            self._pidfd = os.pidfd_open(pid)
        except ProcessLookupError:  # that was quick
            self._pidfd = os.dup(answers.fileno())

    async def wait(self) -> None:
        """Until it has ended."""
        await anyio.wait_readable(self._pidfd)
        await anyio.wait_readable(self._answers)
        self.returncode = int(self._answers.recv(_NUMBER) or UNKNOWN)

    def close(self) -> None:
        """Watch it no more; it goes on."""
        self._answers.close()
        os.close(self._pidfd)


class ForkServer:
    """The worker's end; starts the server at once, and again when it has ended.

    Args:
        home: the checkout: the working directory of all processes.
        environment: of all processes.
        target: what a forked process calls, as `module:function`; loaded in that process only.
        libraries: modules to load before any fork.
    """

    def __init__(
        self, home: Path, environment: Mapping[str, str], target: str, libraries: Sequence[str] = ()
    ) -> None:
        self._home = home
        self._environment = environment
        self._calls = [target, *libraries]
        self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End the server; the processes it forked go on."""
        self._link.close()
        self._process.wait()

    async def fork(self, variables: Mapping[str, str]) -> Forked:
        """Start a run's process.

        Args:
            variables: what its environment holds beyond the server's.

        Raises:
            OSError: no process came of it, such as when the server ends meanwhile.
        """
        if self._process.poll() is not None:
            self._link.close()
            self._start()
        answers, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                socket.send_fds(self._link, [json.dumps(variables).encode()], [theirs.fileno()])
            await anyio.wait_readable(answers)
            return Forked(_number(answers.recv(_NUMBER)), answers)
        except BaseException:
            answers.close()
            raise

    def _start(self) -> None:
        self._link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno()), *self._calls],
                stdin=subprocess.DEVNULL, cwd=self._home, env=self._environment, pass_fds=[theirs.fileno()],
            )  # fmt: skip


def _number(pid: bytes) -> int:
    if not pid:
        raise ChildProcessError("the fork server ended; its own output says why")
    return int(pid)


def serve(link: socket.socket) -> dict[str, str] | None:
    """Fork until the worker is gone.

    Args:
        link: to the worker.

    Returns:
        In the server None; in a forked process, which goes its own way, what its environment is to hold.
    """
    with selectors.DefaultSelector() as waiting, link:
        waiting.register(link, selectors.EVENT_READ)
        while True:
            for key, _ in waiting.select():
                if key.data is not None:
                    waiting.unregister(key.fd)
                    _tell_end(key.fd, *key.data)
                    continue
                request, handed, _, _ = socket.recv_fds(link, _REQUEST, 1)
                if not request:
                    return None
                pid = os.fork()
                if pid == 0:
                    _forget(handed[0], waiting)
                    variables: dict[str, str] = json.loads(request)
                    return variables
                answers = socket.socket(fileno=handed[0])
                _tell(answers, pid)
                waiting.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, answers))


def _forget(handed: int, waiting: selectors.BaseSelector) -> None:
    """In a forked process: leave its own and its siblings' wires to the server."""
    os.close(handed)
    for key in waiting.get_map().values():
        if key.data is not None:
            os.close(key.fd)
            key.data[1].close()


def _tell_end(pidfd: int, pid: int, answers: socket.socket) -> None:
    os.close(pidfd)
    with answers:
        _tell(answers, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def _tell(answers: socket.socket, number: int) -> None:
    try:
        answers.send(b"%d" % number)
    except OSError:  # nobody waits for it any more
        return


def main(link: str, target: str, *libraries: str) -> None:
    """The server, and what becomes of each process forked from it."""
    keep_memory_private()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-C is for the runs; the server ends with its worker
    for library in libraries:
        importlib.import_module(library)
    gc.collect()
    gc.freeze()
    variables = serve(socket.socket(fileno=int(link)))
    if variables is not None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.environ |= variables
        pkgutil.resolve_name(target)()


if __name__ == "__main__":
    main(*sys.argv[1:])
