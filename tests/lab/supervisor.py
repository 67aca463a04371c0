"""Keeps the hosts of one estate: boots them, restarts them when they reboot, ends with its owner.

A program of its own (`unshare --mount ... supervisor.py CONFIG`), so that it survives whoever
started it where that is wanted. It alone holds the hosts' network namespaces and disks, and
every host dies with it, so there is nothing it can leave behind but its interfaces.
Asked over a unix socket: one JSON request a connection, one JSON answer.
"""

import contextlib
import ctypes
import fcntl
import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

CLONE_NEWNET = 0x40000000
_JOIN = 'echo $$ >"$0/cgroup.procs" && exec "$@"'
"""A shell's way into a control group."""
MNT_DETACH = 2
REBOOTED, POWERED_OFF = -signal.SIGHUP, -signal.SIGINT
"""How reboot(2) in a pid namespace looks from outside: its init dies of one of these signals."""

_libc = ctypes.CDLL(None, use_errno=True)


def call(*argv: object, stdin: str | None = None) -> None:
    """Run a program.

    Raises:
        RuntimeError: with what it said.
    """
    done = subprocess.run(
        [str(part) for part in argv], input=stdin, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"{argv[0]}: {(done.stderr or done.stdout).strip()}")


def cgroups(estate: str) -> Path:
    """Where the control groups of an estate's systemd hosts are.

    Raises:
        RuntimeError: there is no cgroup2 file system.
    """
    with Path("/proc/mounts").open(encoding="utf-8") as mounts:
        roots = [line.split()[1] for line in mounts if line.split()[2] == "cgroup2"]
    if not roots:
        raise RuntimeError("a host with systemd needs a cgroup2 file system")
    return Path(roots[0]) / f"lamplighter-{estate}"


def remove_cgroups(estate: str) -> None:
    """Remove them once all hosts are down; the kernel lets go of a group a moment after its last process."""
    with contextlib.suppress(RuntimeError):
        top = cgroups(estate)
        for _ in range(100):
            if not top.is_dir():
                return
            for group in sorted(top.rglob("*/"), reverse=True):
                with contextlib.suppress(OSError):
                    group.rmdir()
            with contextlib.suppress(OSError):
                top.rmdir()
            time.sleep(0.02)


def new_network() -> int:
    """Make a network namespace.

    Returns:
        A file descriptor that keeps it.

    Raises:
        OSError: the kernel refuses.
    """
    home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.unshare(CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "unshare")
        made = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        if _libc.setns(home, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")
    finally:
        os.close(home)
    return made


class Machine:
    """One host: its disk, its cable, its power, and the process tree that is it while it is up."""

    def __init__(self, estate: dict[str, Any], spec: dict[str, Any]) -> None:
        self.estate = estate
        self.spec = spec
        self.folder = Path(estate["folder"]) / "hosts" / spec["name"]
        self.process: subprocess.Popen[bytes] | None = None
        self.pidfd = -1
        self.wake_at: float | None = None
        self.cable = True
        self.boots = 0
        self.net = new_network()

    @property
    def net_path(self) -> str:
        """A path to the network namespace that any process can open."""
        return f"/proc/{os.getpid()}/fd/{self.net}"

    @property
    def state(self) -> str:
        """Where it stands: on, away (rebooting) or off."""
        if self.process is not None:
            return "on"
        return "away" if self.wake_at is not None else "off"

    def configure_network(self) -> None:
        """Set the inside of its network up: address, no route to anywhere else."""
        batch = (
            f"link set lo up\nlink set eth0 addrgenmode none up\naddr add {self.spec['address']} dev eth0\n"
        )
        call("nsenter", f"--net={self.net_path}", "ip", "-batch", "-", stdin=batch)

    def fresh_disk(self) -> None:
        """Give it an empty disk over the image, in memory, of the size its spec says."""
        disk = self.folder / "disk"
        if os.path.ismount(disk):
            call("umount", disk)
        call("mount", "-t", "tmpfs", "-o", f"mode=755,size={self.spec['disk_mb']}m", "lab-disk", disk)
        (disk / "upper").mkdir(mode=0o755)
        (disk / "work").mkdir(mode=0o755)

    def set_link(self) -> None:
        """Bring its end of the cable up if it is plugged in and the host has power."""
        state = "up" if self.cable and self.state != "off" else "down"
        call("ip", "link", "set", self.spec["link"], state)

    def boot(self) -> None:
        """Start it: a new boot id, new namespaces, its init."""
        self.wake_at = None
        self.boots += 1
        boot_id = str(uuid.uuid4())
        (self.folder / "boot_id").write_text(boot_id + "\n", encoding="ascii")
        with Path("/proc/uptime").open(encoding="ascii") as file:
            uptime = int(float(file.read().split()[0]))
        with (self.folder / "console.log").open("ab") as console:
            console.write(f"-- boot {self.boots} {boot_id}\n".encode())
            console.flush()
            self.process = subprocess.Popen(
                self._command(uptime), stdin=subprocess.DEVNULL, stdout=console, stderr=console
            )
        self.pidfd = os.pidfd_open(self.process.pid)

    def _command(self, uptime: int) -> list[str]:
        namespaces = ["--uts", "--ipc", "--mount", "--pid", "--cgroup", "--fork", "--kill-child", "--time"]
        return [
            *("setpriv", "--pdeathsig", "KILL"),
            *(("sh", "-c", _JOIN, str(self.cgroup())) if self.systemd else ()),
            *("nsenter", f"--net={self.net_path}"),
            *("unshare", *namespaces, "--boottime", f"-{uptime}"),
            *("/bin/sh", self.estate["init"], self.spec["name"]),
            *(str(self.folder), self.estate["base"], self.estate["repos"]),
            "systemd" if self.systemd else "lab-rc",
        ]

    @property
    def systemd(self) -> bool:
        """Whether systemd is its first process."""
        return bool(self.spec["systemd"])

    def cgroup(self) -> Path:
        """The control group that its systemd sees as the root of all; made if need be."""
        made = cgroups(self.estate["name"]) / self.spec["name"]
        made.mkdir(parents=True, exist_ok=True)
        return made

    def init_pid(self) -> int | None:
        """Find the host's first process, in this machine's numbers.

        Returns:
            Its pid, or None.
        """
        if self.process is None:
            return None
        pid = self.process.pid
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
        except OSError:
            return None
        return int(children[0]) if children else None

    def kill(self) -> None:
        """Cut its power; it is gone once its process has been waited for."""
        self.wake_at = None
        pid = self.init_pid()
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        elif self.process is not None:
            self.process.kill()

    def ended(self) -> int:
        """Take note that it went down.

        Returns:
            Its exit status, negative for a signal.
        """
        if self.process is None:
            return 0
        code = self.process.wait()
        os.close(self.pidfd)
        self.process, self.pidfd = None, -1
        if code == REBOOTED:
            self.wake_at = time.monotonic() + self.spec["boot_seconds"]
        return code


class Supervisor:
    """The machines of one estate, and the loop that looks after them."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.selector = selectors.DefaultSelector()
        self.machines: dict[str, Machine] = {}
        self.quitting = False
        self.orphaned = False
        self.lock = Path(config["base_lock"]).open("r", encoding="utf-8")  # noqa: SIM115
        fcntl.flock(self.lock, fcntl.LOCK_SH)

    def start(self) -> None:
        """Listen, lay the network, boot every host."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(self.config["socket"])
        listener.listen(64)
        self.selector.register(listener, selectors.EVENT_READ, self.answer)
        self.watch_owner()
        for spec in self.config["hosts"]:
            self.machines[spec["name"]] = Machine(self.config, spec)
        self.lay_network()
        for machine in self.machines.values():
            machine.fresh_disk()
            self.boot(machine)

    def watch_owner(self) -> None:
        """End when the owner does, unless this estate is meant to outlive it."""
        if self.config["owner"] is None:
            return
        try:
            owner = os.pidfd_open(self.config["owner"])
        except OSError:
            self.owner_gone()
        else:
            self.selector.register(owner, selectors.EVENT_READ, lambda _: self.owner_gone())

    def owner_gone(self) -> None:
        """Note that nobody is left who would call down()."""
        self.quitting = self.orphaned = True

    def lay_network(self) -> None:
        """Make the bridge with its address, and a cable to each host."""
        bridge, group = self.config["bridge"], self.config["group"]
        lines = [
            f"link add name {bridge} address {self.config['mac']} group {group} type bridge",
            f"link set {bridge} addrgenmode none up",
            f"addr add {self.config['gateway']} dev {bridge}",
        ]
        for machine in self.machines.values():
            link = machine.spec["link"]
            lines += [
                f"link add name {link} group {group} type veth peer name eth0 netns {machine.net_path}",
                f"link set {link} addrgenmode none master {bridge} up",
            ]
        call("ip", "-batch", "-", stdin="\n".join(lines) + "\n")
        for machine in self.machines.values():
            machine.configure_network()

    def loop(self) -> None:
        """Look after the hosts until told to quit or the owner is gone."""
        while not self.quitting:
            for key, _ in self.selector.select(self.next_wake()):
                key.data(key.fileobj)
            now = time.monotonic()
            for machine in self.machines.values():
                if machine.wake_at is not None and machine.wake_at <= now:
                    self.boot(machine)

    def next_wake(self) -> float | None:
        """Say how long until the next rebooting host comes back.

        Returns:
            Seconds, or None.
        """
        times = [m.wake_at for m in self.machines.values() if m.wake_at is not None]
        return max(0.0, min(times) - time.monotonic()) if times else None

    def boot(self, machine: Machine) -> None:
        """Start a host and watch for its end."""
        machine.boot()
        self.selector.register(machine.pidfd, selectors.EVENT_READ, lambda _: self.reap(machine))

    def reap(self, machine: Machine) -> None:
        """Deal with a host that went down."""
        self.selector.unregister(machine.pidfd)
        code = machine.ended()
        with (machine.folder / "console.log").open("a", encoding="utf-8") as console:
            console.write(f"-- down ({code})\n")
        if machine.state == "off" and not self.quitting:
            machine.set_link()

    def answer(self, listener: socket.socket) -> None:
        """Take one request and answer it."""
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.settimeout(2)
            try:
                request = json.loads(connection.recv(65536))
                reply = {"ok": True, **(self.handle(request) or {})}
            except Exception as error:  # noqa: BLE001 - the asker must hear of it, whatever it is
                reply = {"ok": False, "error": f"{type(error).__name__}: {error}"}
            connection.sendall(json.dumps(reply).encode())

    def handle(self, request: dict[str, Any]) -> dict[str, Any] | None:
        """Carry a request out.

        Returns:
            The answer's fields, if any.
        """
        verb = request["do"]
        if verb == "quit":
            self.quitting = True
            return None
        machine = self.machines[request["host"]]
        if verb == "status":
            return {"state": machine.state, "pid": machine.init_pid(), "boots": machine.boots}
        if verb == "cable":
            machine.cable = request["up"]
        elif verb in ("off", "reset"):
            self.cut_power(machine)
            if verb == "reset":
                machine.cable = True
                machine.fresh_disk()
                self.boot(machine)
        elif verb == "on" and machine.process is None:
            self.boot(machine)
        machine.set_link()
        return None

    def cut_power(self, machine: Machine) -> None:
        """Take one host down and wait until it is."""
        machine.kill()
        if machine.process is not None:
            self.selector.unregister(machine.pidfd)
            machine.ended()
            machine.wake_at = None

    def stop(self) -> None:
        """Take everything down: all hosts at once, then their network."""
        self.quitting = True
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        for machine in self.machines.values():
            machine.kill()
        for machine in self.machines.values():
            if machine.process is not None:
                machine.process.wait()
            _libc.umount2(os.fsencode(machine.folder / "disk"), MNT_DETACH)
        remove_cgroups(self.config["name"])
        with contextlib.suppress(RuntimeError):
            call("ip", "link", "del", "group", self.config["group"])
        Path(self.config["socket"]).unlink(missing_ok=True)
        if self.orphaned:
            for folder in (self.config["gpg_home"], self.config["folder"]):
                shutil.rmtree(folder, ignore_errors=True)
            Path(self.config["entry"]).unlink(missing_ok=True)


def main() -> int:
    """Run the supervisor.

    Returns:
        The exit status.
    """
    config = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    supervisor = Supervisor(config)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    try:
        supervisor.start()
        supervisor.loop()
    except (OSError, RuntimeError, KeyError) as error:
        print(f"supervisor: {error}", file=sys.stderr)
        return 1
    finally:
        supervisor.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
