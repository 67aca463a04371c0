"""Roots that look like a host: an overlay in namespaces of its own, entered without a network or a server.

Cheaper than an estate's host by far: no sshd, no boot; a command on it is one `nsenter`. What runs there is
the real apt and dpkg of that root. A chroot has no systemd and runs the machine's kernel.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from lamplighter.errors import OutputTooLargeError, TimedOutError, UnitExistsError
from lamplighter.model.session import DEFAULT_CAP, DEFAULT_TIMEOUT, Completed, UnitState
from tests.lab.errors import LabError
from tests.lab.system import run

_ENTER = r"""
set -eu
root=$1 lower=$2 layers=$3 outside=$4
mount --make-rprivate /
mount -t overlay root -o "lowerdir=$lower,upperdir=$layers/upper,workdir=$layers/work" "$root"
mount -t proc proc "$root/proc"
ip link set lo up
cd "$root"
eval "$outside"
echo ready
exec sleep infinity
"""
"""Run in fresh namespaces; `outside` is shell text for what a case mounts or serves, with `$root`."""


@dataclass
class Root:
    """A root to work in, from entering the `with` block to leaving it.

    Args:
        lower: the layers it is made of, the uppermost first; never written to.
        folder: an empty folder of its own, on a disk.
        outside: shell text run in its namespaces before anybody enters it.
    """

    lower: Sequence[Path]
    folder: Path
    outside: str = ""
    _process: subprocess.Popen[str] | None = None
    _inside: int = 0

    @property
    def path(self) -> Path:
        """Where it is mounted, seen from its own namespaces."""
        return self.folder / "root"

    @property
    def files(self) -> Path:
        """Its files, seen from outside; only while it is entered."""
        return Path(f"/proc/{self._inside}/root{self.path}")

    def tool(self, *argv: str) -> str:
        """Run a program of this machine on its files, by their paths below `path`.

        Returns:
            What it printed.
        """
        return run(["nsenter", "-t", str(self._inside), "-m", "--", *argv])

    @property
    def layer(self) -> Path:
        """What was changed in it: a layer for another root, once this one was left."""
        return self.folder / "layers" / "upper"

    def __enter__(self) -> Self:
        for name in ("root", "layers/upper", "layers/work"):
            (self.folder / name).mkdir(parents=True)
        lower = ":".join(map(str, self.lower))
        spaces = ["--mount", "--pid", "--net", "--uts", "--ipc", "--fork", "--kill-child"]
        self._process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "unshare", *spaces, "sh", "-c", _ENTER, "enter",
             str(self.path), lower, str(self.folder / "layers"), self.outside],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self._process.stdout
        if self._process.stdout.readline() != "ready\n":
            said = self._process.communicate()[1]
            raise LabError(f"the root could not be entered: {said.strip()[-300:]}")
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        self._inside = int(children.read_text(encoding="ascii").split()[0])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process:
            self._process.kill()
            self._process.communicate()

    def command(self, *argv: str) -> list[str]:
        """What runs a command in it, for `subprocess`."""
        target = ["nsenter", "-t", str(self._inside), "-m", "-p", "-n", "-u", "-i"]
        return [*target, "chroot", str(self.path), *argv]

    def run(self, script: str, *args: str, timeout: float = 120) -> Completed:
        """Run shell text in it as root, as a session's `run` would.

        Raises:
            TimedOutError: it did not end in time; it was killed.
        """
        environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                       "LC_ALL": "C.UTF-8", "HOME": "/root"}
        began = time.monotonic()
        process = subprocess.Popen(
            self.command("sh", "-c", script, "sh", *args), env=environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise TimedOutError(f"no answer within {timeout:.0f} s: {shlex.quote(script[:80])}") from None
        code = process.returncode if process.returncode >= 0 else 128 - process.returncode
        return Completed(code, out.decode(errors="replace"), err.decode(errors="replace"),
                         time.monotonic() - began)


@dataclass
class RootSession:
    """A `Session` to a root: commands run in it at once; a detached unit is one that has already ended."""

    host: str
    root: Root
    _units: dict[str, Completed] = field(default_factory=dict)

    def run(
        self, script: str, *args: str, sudo: bool = False,  # noqa: ARG002 - the protocol's
        timeout: float = DEFAULT_TIMEOUT, cap: int = DEFAULT_CAP,
    ) -> Completed:
        """See `Session.run`; everything runs as root here."""
        done = self.root.run(script, *args, timeout=timeout)
        if max(len(done.stdout), len(done.stderr)) > cap:
            raise OutputTooLargeError(f"more than {cap} bytes were printed", where=self.host)
        return done

    def launch(self, unit: str, script: str, *args: str, sudo: bool = False) -> None:  # noqa: ARG002 - the protocol\'s
        """See `Session.launch`."""
        if unit in self._units:
            raise UnitExistsError(f"unit {unit} was launched before", where=self.host)
        self._units[unit] = self.root.run(script, *args, timeout=600)

    def unit_state(self, unit: str, *, sudo: bool = False) -> UnitState:  # noqa: ARG002 - the protocol\'s
        """See `Session.unit_state`."""
        return UnitState.FINISHED if unit in self._units else UnitState.ABSENT

    def wait(
        self, unit: str, *, sudo: bool = False, timeout: float, cap: int = DEFAULT_CAP,  # noqa: ARG002 - the protocol's
    ) -> Completed:
        """See `Session.wait`."""
        return self._units[unit]

    def ready(self, *, sudo: bool = False) -> None:
        """See `Session.ready`."""

    def await_boot(self, previous: str, *, timeout: float, unit: str = "") -> str:  # noqa: ARG002 - the protocol's
        """A root cannot be booted."""
        raise TimedOutError(f"it did not come back within {timeout:.0f} s", where=self.host)

    def close(self) -> None:
        """Nothing is held."""
