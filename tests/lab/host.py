"""One host of an estate: what it is, what can be done to it, how to look inside."""

import contextlib
import os
import shlex
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.lab import keys
from tests.lab.control import ask
from tests.lab.debs import BASELINE
from tests.lab.errors import LabError
from tests.lab.spec import SSH_PORT, HostSpec, check_name
from tests.lab.system import environment, last_words, run, wait_until

_ENTER = ("--mount", "--uts", "--ipc", "--net", "--pid", "--time", "--root", "--wd")
_INSIDE = ("env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8")
_FILLER = "/var/lib/lab-filler"
_LOCK_HOLDER = Path(__file__).with_name("files") / "hold_lock.py"
_BOOT_SECONDS = 20.0
_STARTED = f"Server listening on 0.0.0.0 port {SSH_PORT}."


class Host:
    """A running Debian host.

    Made by an Estate, not by hand. Everything that needs the host up raises LabError if it is not.
    """

    def __init__(self, spec: HostSpec, address: str, folder: Path, socket: Path) -> None:
        self.spec = spec
        self.name = spec.name
        self.address = address
        self.port = SSH_PORT
        self._folder = folder
        self._socket = socket

    def __repr__(self) -> str:
        return f"Host({self.name!r}, {self.address!r})"

    # What it is

    @property
    def host_key_line(self) -> str:
        """Its host key as a known_hosts line; the new one after rekey()."""
        public = (self._folder / "host_key.pub").read_text(encoding="ascii")
        return keys.known_hosts_line(self.address, self.port, public)

    @property
    def console(self) -> str:
        """What it wrote to its console since it was made: boots, sshd's messages."""
        return (self._folder / "console.log").read_text(encoding="utf-8", errors="replace")

    @property
    def state(self) -> str:
        """Where it stands: on, away (rebooting) or off."""
        return str(ask(self._socket, "status", host=self.name)["state"])

    def boot_id(self) -> str:
        """Read the id of its last boot, also while it is off.

        Returns:
            A UUID.
        """
        return (self._folder / "boot_id").read_text(encoding="ascii").strip()

    def is_listening(self) -> bool:
        """Say whether its sshd listens, without connecting to it."""
        pid = ask(self._socket, "status", host=self.name)["pid"]
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{pid}/net/tcp").read_text(encoding="ascii").splitlines()[1:]
            return any(f[1].endswith(f":{SSH_PORT:04X}") and f[3] == "0A" for f in map(str.split, lines))
        return False

    # Looking and arranging inside

    def exec(
        self,
        command: str | Sequence[str],
        *,
        stdin: str | None = None,
        timeout: float = 60,
        check: bool = True,
        user: str = "root",
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside, past sshd: for arranging and checking, not for what is tested.

        Args:
            command: for the shell if it is a string.
            stdin: text to feed it.
            timeout: seconds after which it is killed, inside as well.
            user: who runs it.
            check: whether failing is an error.

        Raises:
            LabError: if the host is not up, or check and the command failed.
        """
        argv = ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)
        become = [] if user == "root" else ["runuser", "-u", user, "--"]
        limit = ["timeout", "--signal=KILL", str(timeout)]
        done = subprocess.run(
            [*self._enter(), *_INSIDE, *limit, *become, *argv],
            input=stdin or "",
            capture_output=True,
            text=True,
            check=False,
            env=environment(),
        )
        if check and done.returncode != 0:
            command = shlex.join(argv)[:120]
            raise LabError(f"{self.name}: {command} ended with {done.returncode}: {last_words(done)}")
        return done

    def read(self, path: str) -> str:
        """Read a file inside.

        Returns:
            Its text.

        Raises:
            LabError: if it cannot be read.
        """
        return self.exec(["cat", path]).stdout

    def write(self, path: str, text: str, mode: str = "644") -> None:
        """Write a file inside, folders and all.

        Args:
            mode: in octal.
        """
        quoted = shlex.quote(path)
        self.exec(f"mkdir -p $(dirname {quoted}) && cat >{quoted} && chmod {mode} {quoted}", stdin=text)

    # Power

    def power_off(self) -> None:
        """Cut its power: everything stops at once, and nothing answers at its address."""
        ask(self._socket, "off", host=self.name)

    def power_on(self, *, wait: bool = True) -> None:
        """Start it again, disk as it was.

        Args:
            wait: whether to wait until it can be logged in to.
        """
        ask(self._socket, "on", host=self.name)
        if wait:
            self.wait_up()

    def reset(self) -> None:
        """Make it as good as new: empty disk, its first host key, cable plugged in, freshly booted."""
        ask(self._socket, "reset", host=self.name)
        self._restore_host_key()
        self.wait_up()
        self.install_extras()

    def wait_up(self, seconds: float = _BOOT_SECONDS) -> None:
        """Wait until its sshd listens.

        Raises:
            LabError: if it does not in time.
        """
        wait_until(lambda: self.is_listening() or self.state == "off", seconds)
        if not self.is_listening():
            last = (self.console.strip() or "nothing on its console").splitlines()[-1]
            raise LabError(f"{self.name} did not come up in {seconds:g} s: {last}")

    def wait_reboot(self, before: str, seconds: float = _BOOT_SECONDS) -> None:
        """Wait until it has rebooted and is up.

        Args:
            before: the boot id it had.

        Raises:
            LabError: if it does not in time.
        """
        if not wait_until(lambda: self.boot_id() != before, seconds):
            raise LabError(f"{self.name} did not reboot in {seconds:g} s")
        self.wait_up(seconds)

    # Trouble

    def link_down(self) -> None:
        """Pull its network cable: what is sent to it is never answered."""
        ask(self._socket, "cable", host=self.name, up=False)

    def link_up(self) -> None:
        """Plug its network cable in again."""
        ask(self._socket, "cable", host=self.name, up=True)

    def slow_line(self, rate: str = "10mbit") -> None:
        """Put what it sends on a slow line (tc-tbf(8)); it stays so through reboots."""
        net = f"--net=/proc/{self.pids()[0]}/ns/net"
        shape = ["root", "tbf", "rate", rate, "burst", "32kbit", "latency", "400ms"]
        run(["nsenter", net, "tc", "qdisc", "replace", "dev", "eth0", *shape])

    def freeze(self) -> None:
        """Stop every process in it where it stands: it still accepts connections, and says nothing."""
        if not wait_until(self._stop_all, 5):
            raise LabError(f"{self.name} does not stand still")

    def thaw(self) -> None:
        """Let its processes go on after freeze()."""
        for pid in self.pids():
            _signal(pid, signal.SIGCONT)

    def rekey(self) -> None:
        """Give it a new host key, as a reinstalled host has; the estate's known_hosts keeps the old one."""
        fresh = self._folder / "fresh_key"
        keys.make_key(fresh, self.name)
        self.write("/etc/ssh/ssh_host_ed25519_key", fresh.read_text(encoding="ascii"), "600")
        self.write("/etc/ssh/ssh_host_ed25519_key.pub", keys.public_line(fresh) + "\n")
        fresh.unlink()
        fresh.with_name("fresh_key.pub").replace(self._folder / "host_key.pub")
        starts = self.console.count(_STARTED)
        _signal(self._sshd(), signal.SIGHUP)
        if not wait_until(lambda: self.console.count(_STARTED) > starts, 10):
            raise LabError(f"{self.name}: sshd did not start over with its new key")

    def kill_sessions(self) -> None:
        """Drop every ssh connection: kill the sshds behind them, not the one that listens."""
        listener = self._sshd()
        for pid in self.pids():
            if pid != listener and _command_name(pid) == "sshd":
                _signal(pid, signal.SIGKILL)

    def fill_disk(self, leave_kb: int = 0) -> None:
        """Fill its root file system, so that apt and dpkg meet ENOSPC.

        Args:
            leave_kb: how much to leave, in KiB.
        """
        self.exec(f"cat /dev/zero >{_FILLER} 2>/dev/null; truncate -c -s -{leave_kb}K {_FILLER}")

    def free_disk(self) -> None:
        """Give the space back after fill_disk()."""
        self.exec(["rm", "-f", _FILLER])

    def hold_dpkg_lock(self, seconds: float) -> None:
        """Take dpkg's locks the way apt does, and return at once.

        Args:
            seconds: how long to hold them.

        Raises:
            LabError: if somebody else has them.
        """
        self.exec(["python3", "-", str(seconds)], stdin=_LOCK_HOLDER.read_text(encoding="utf-8"))

    def release_dpkg_lock(self) -> None:
        """End hold_dpkg_lock() early."""
        self.exec('kill -9 "$(cat /run/lab-lock.pid)"', check=False)

    def use_repo(self, name: str) -> None:
        """Show it another of the estate's repositories from now on.

        Args:
            name: of the repository.
        """
        self.exec(["ln", "-sfn", f"lab-repos/{check_name(name)}", "/srv/lab-repo"])

    # For the estate

    def pids(self) -> list[int]:
        """List its processes by this machine's numbers, its init among them.

        Raises:
            LabError: if it is off.
        """
        space = Path(f"/proc/{self._init()}/ns/pid").readlink()
        found = []
        for folder in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if folder.name.isdigit() and (folder / "ns" / "pid").readlink() == space:
                    found.append(int(folder.name))
        return found

    def install_extras(self) -> None:
        """Install the lab packages its spec asks for, at the version every host starts with."""
        for package in self.spec.packages:
            pool = "/srv/lab-repo/*/pool"
            self.exec(f"dpkg --install {pool}/{package}_{BASELINE}_all.deb", timeout=30)

    def _restore_host_key(self) -> None:
        first = self._folder / "identity/etc/ssh/ssh_host_ed25519_key.pub"
        (self._folder / "host_key.pub").write_bytes(first.read_bytes())

    def _init(self) -> int:
        pid = ask(self._socket, "status", host=self.name)["pid"]
        if pid is None:
            raise LabError(f"{self.name} is not up")
        return int(pid)

    def _enter(self) -> list[str]:
        return ["nsenter", "--target", str(self._init()), *_ENTER]

    def _sshd(self) -> int:
        """Find the sshd that listens: a child of the host's init."""
        init = self._init()
        children = Path(f"/proc/{init}/task/{init}/children").read_text(encoding="ascii").split()
        found = [int(pid) for pid in children if _command_name(int(pid)) == "sshd"]
        if not found:
            raise LabError(f"{self.name} runs no sshd")
        return min(found, key=lambda pid: int(_stat(pid)[19]))

    def _stop_all(self) -> bool:
        """Stop every process.

        Returns:
            Whether all of them are known to stand still.
        """
        pids = self.pids()
        for pid in pids:
            _signal(pid, signal.SIGSTOP)
        return all(_stat(pid)[0] in "TZ" for pid in pids)


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _stat(pid: int) -> list[str]:
    """Read a process's state, parent, ... start time (19); a zombie if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return ["Z"] + ["0"] * 20


def _command_name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
    except OSError:
        return ""
