"""The fleet: hundreds of ssh servers on loopback addresses, each with a host key of its own.

Cheap, for counting and for load: commands run on this machine, as the user who started the fleet. Hosts
that are machines of their own are an Estate's.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.lab import cleanup, keys, registry
from tests.lab.errors import LabError
from tests.lab.registry import MARK, Entry
from tests.lab.spec import check_name
from tests.lab.system import Process, environment, first_child, require, wait_until

WHO = """p=$PPID
while [ "$p" -gt 1 ]; do
    name=$(tr '\\0' ' ' </proc/$p/cmdline | grep -o 'hosts/host[0-9]*') && echo "${name#hosts/}" && break
    read -r stat </proc/$p/stat
    set -- ${stat##*) }
    p=$2
done"""
"""Shell text that prints the name of the host it runs on, told from the sshd above it."""
_PER_NET = 254
_MOST = _PER_NET * 100
_KEEPER = Path(__file__).with_name("fleet_keeper.py")
_START_SECONDS = 60.0


@dataclass(frozen=True)
class FleetHost:
    """One ssh server of a fleet.

    Attributes:
        name: also found in the environment of its sessions, as LAB_HOST.
        address: a loopback address of its own.
        port: the fleet's port.
        host_key_line: its host key as a known_hosts line.
    """

    name: str
    address: str
    port: int
    host_key_line: str


class Fleet:
    """Ssh servers on 127.0.1.1, 127.0.1.2 and so on; a context manager, or up() and down().

    Args:
        name: unique on this machine.
        count: how many servers; past 254 they go on at 127.0.2.1.
        state_dir: a folder it makes, and in the end removes.
        port: the port all of them listen on; one that is free if none is given.

    Raises:
        LabError: on a name or count that cannot be.
    """

    def __init__(self, name: str, count: int, state_dir: Path, *, port: int | None = None) -> None:
        if not 0 < count <= _MOST:
            raise LabError(f"a fleet has 1 to {_MOST} hosts, not {count}")
        self.name = check_name(name)
        self.count = count
        self.state_dir = Path(state_dir).absolute()
        self.hosts: tuple[FleetHost, ...] = ()
        self.port = port
        self._entry: Entry | None = None

    @property
    def client_key(self) -> Path:
        """A private key that opens the current user on every host."""
        return self.state_dir / "keys" / keys.CLIENT

    @property
    def client_key_encrypted(self) -> Path:
        """Another one, which PASSPHRASE opens."""
        return self.state_dir / "keys" / keys.ENCRYPTED

    @property
    def known_hosts(self) -> Path:
        """A known_hosts file with every host's key."""
        return self.state_dir / "known_hosts"

    def __iter__(self) -> Iterator[FleetHost]:
        return iter(self.hosts)

    def __len__(self) -> int:
        return len(self.hosts)

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    def up(self) -> None:
        """Start every server, and return when all of them listen.

        Raises:
            LabError: rights or programs are missing, the name is taken, or the port is; then nothing is left.
        """
        require(["ssh-keygen", "sshd", "unshare"])
        keys.require_empty(self.state_dir)
        cleanup.clear_dead(self.name)
        self._entry = registry.claim(self.name, self.state_dir, detached=False, wants_slot=False)
        try:
            self._raise(self._entry)
        except BaseException:
            self.down()
            raise

    def down(self) -> None:
        """Stop every server and session and remove every trace; harmless if it is down already."""
        if self._entry is not None:
            cleanup.take_down(self._entry)
        self._entry, self.hosts = None, ()

    def _raise(self, entry: Entry) -> None:
        port = _free_port() if self.port is None else self.port
        (self.state_dir / "hosts").mkdir(parents=True)
        authorized = self.state_dir / "authorized_keys"
        authorized.write_text(keys.make_client_keys(self.state_dir / "keys"), encoding="ascii")
        places = [
            (f"host{number + 1}", f"127.0.{1 + number // _PER_NET}.{1 + number % _PER_NET}")
            for number in range(self.count)
        ]
        private = {name: self.state_dir / "hosts" / name for name, _ in places}
        keys.make_keys((path, name) for name, path in private.items())
        self.port = port
        self.hosts = tuple(
            FleetHost(
                name, address, port, keys.known_hosts_line(address, port, keys.public_line(private[name]))
            )
            for name, address in places
        )
        lines = "".join(f"{host.host_key_line}\n" for host in self.hosts)
        self.known_hosts.write_text(lines, encoding="ascii")
        config = {
            "authorized_keys": str(authorized),
            "entry": str(registry.RUN / f"{self.name}.json"),
            "folder": str(self.state_dir),
            "hosts": [
                {"name": host.name, "address": host.address, "key": str(private[host.name])} for host in self
            ],
            "port": port,
            "sshd": shutil.which("sshd", path=environment()["PATH"]),
        }
        self._start_keeper(entry, config, port)

    def _start_keeper(self, entry: Entry, config: dict[str, object], port: int) -> None:
        path = self.state_dir / "config.json"
        path.write_text(json.dumps(config), encoding="utf-8")
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        namespaces = ["--mount", "--pid", "--mount-proc", "--fork", "--kill-child"]
        owner = os.pidfd_open(os.getpid())
        try:
            with (self.state_dir / "fleet.log").open("wb") as log:
                process = subprocess.Popen(
                    ["unshare", *namespaces, sys.executable, "-I", "-S", str(_KEEPER), str(path), str(owner)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    env=environment({MARK: self.name}),
                    pass_fds=[owner],
                )
        finally:
            os.close(owner)
        keeper = _first_process(process)
        self._entry = replace(entry, supervisor=keeper)
        cleanup.CHILDREN[keeper.pid] = process
        registry.save(self._entry)
        wait_until(lambda: process.poll() is not None or self._listening(port), _START_SECONDS, 0.02)
        if not self._listening(port):
            said = (self.state_dir / "fleet.log").read_text(encoding="utf-8").strip()
            raise LabError(f"fleet {self.name} cannot start: {(said or 'no message').splitlines()[-1]}")

    def _listening(self, port: int) -> bool:
        """Say whether every host's sshd listens."""
        wanted = {f"{_as_kernel(host.address)}:{port:04X}" for host in self.hosts}
        lines = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]
        return wanted <= {fields[1] for fields in map(str.split, lines) if fields[3] == "0A"}


def _first_process(unshare: "subprocess.Popen[bytes]") -> Process:
    """Find the first process of the namespace that unshare made."""
    wait_until(lambda: unshare.poll() is not None or first_child(unshare.pid), 10)
    pid = first_child(unshare.pid)
    process = Process.of(pid) if pid is not None else None
    if process is None:
        raise LabError("the fleet's keeper did not start: are pid namespaces allowed here?")
    return process


def _as_kernel(address: str) -> str:
    """Write an address as /proc/net/tcp does."""
    return f"{int.from_bytes(socket.inet_aton(address), sys.byteorder):08X}"


def _free_port() -> int:
    """Find a port nothing listens on at the fleet's first address."""
    with socket.socket() as probe:
        probe.bind(("127.0.1.1", 0))
        return int(probe.getsockname()[1])
