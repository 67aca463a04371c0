"""The machine underneath: programs, rights, processes known by more than their number."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.lab.errors import LabError

CAP_SYS_ADMIN = 21
PACKAGE_OF = {
    "apt-ftparchive": "apt-utils",
    "debootstrap": "debootstrap",
    "gcc": "gcc",
    "gpg": "gnupg",
    "gpgconf": "gnupg",
    "ip": "iproute2",
    "kinit": "krb5-user",
    "ldapmodify": "ldap-utils",
    "mount": "mount",
    "nsenter": "util-linux",
    "samba": "samba-ad-dc",
    "samba-tool": "samba-ad-dc",
    "setpriv": "util-linux",
    "slapadd": "slapd",
    "slapd": "slapd",
    "ssh-keygen": "openssh-client",
    "sshd": "openssh-server",
    "unshare": "util-linux",
}
SBIN = "/usr/local/sbin:/usr/sbin:/sbin"


@dataclass(frozen=True)
class Process:
    """A process by number and start time, so that a number used again is not mistaken for it."""

    pid: int
    start: int

    @classmethod
    def of(cls, pid: int) -> "Process | None":
        """Look a process up.

        Returns:
            It, or None if there is none (or only a zombie).
        """
        try:
            state, *rest = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:
            return None
        return None if state in "ZX" else cls(pid, int(rest[18]))

    @property
    def alive(self) -> bool:
        """Whether this very process still runs."""
        return Process.of(self.pid) == self

    def kill(self, sig: signal.Signals = signal.SIGKILL) -> None:
        """Send it a signal, if it is still itself."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, sig)

    def wait(self, seconds: float) -> bool:
        """Wait for it to end.

        Args:
            seconds: how long at most.

        Returns:
            Whether it ended.
        """
        return wait_until(lambda: not self.alive, seconds)


def wait_until(condition: Callable[[], object], seconds: float, pause: float = 0.01) -> bool:
    """Wait until condition() is true.

    Args:
        condition: a callable.
        seconds: how long at most.
        pause: between two looks.

    Returns:
        Whether it became true in time.
    """
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(pause)
    return True


def run(
    argv: Sequence[str | Path],
    *,
    stdin: str | None = None,
    timeout: float = 60,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> str:
    """Run a program of this machine to its end.

    Args:
        stdin: text to feed it.
        timeout: in seconds.
        env: added to the environment.

    Returns:
        What it wrote to its standard output.

    Raises:
        LabError: with the last line it said, if it failed, is missing, or took too long.
    """
    command = [str(part) for part in argv]
    try:
        done = subprocess.run(
            command,
            input=stdin or "",
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            cwd=cwd,
            env=environment(env),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LabError(f"{command[0]}: {error}") from error
    if done.returncode != 0:
        raise LabError(f"{' '.join(command[:4])} ended with {done.returncode}: {last_words(done)}")
    return done.stdout


def last_words(done: subprocess.CompletedProcess[str]) -> str:
    """Find the line that says why a program failed: the last one."""
    return (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Build a child's environment.

    Returns:
        Ours, with sbin on the path and messages in English.
    """
    path = f"{os.environ.get('PATH', '/usr/bin:/bin')}:{SBIN}"
    return {**os.environ, "PATH": path, "LC_ALL": "C.UTF-8", **(extra or {})}


def require(programs: Sequence[str]) -> None:
    """Make sure the lab can work here before it starts.

    Raises:
        LabError: saying what is missing and what to do.
    """
    missing = sorted(
        {PACKAGE_OF.get(p, p) for p in programs if shutil.which(p, path=environment()["PATH"]) is None}
    )
    if missing:
        raise LabError(f"programs are missing: apt-get install --no-install-recommends {' '.join(missing)}")
    if os.geteuid() != 0 or not _capabilities() >> CAP_SYS_ADMIN & 1:
        raise LabError(
            "lab hosts need root with CAP_SYS_ADMIN: run as root, in a container with --privileged"
        )


def first_child(pid: int) -> int | None:
    """Find a process's first child.

    Returns:
        The child's pid, or None.
    """
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    except OSError:
        return None
    return int(children[0]) if children else None


def marked_processes(variable: str) -> Iterator[tuple[Process, str]]:
    """Find processes that carry a mark in their environment.

    Args:
        variable: its name.

    Returns:
        Each such process but this one, and the variable's value.
    """
    start = f"{variable}=".encode()
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            for item in (folder / "environ").read_bytes().split(b"\0"):
                process = Process.of(int(folder.name)) if item.startswith(start) else None
                if process is not None:
                    yield process, item[len(start) :].decode()


def _capabilities() -> int:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    line = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    return int(line.split()[1], 16)
