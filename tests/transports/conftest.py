"""Hosts for the transports' tests: a real estate, and sshds with chosen settings on loopback."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lamplighter.model.inventory import Host
from lamplighter.transports.ssh import SshTransport
from lamplighter.transports.ssh_session import SshSession
from tests.lab.estate import Estate
from tests.lab.fleet import Fleet
from tests.lab.spec import HostSpec


@pytest.fixture(scope="package")
def estate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    """Two real hosts; a test that leaves one changed resets it."""
    folder = tmp_path_factory.mktemp("estate") / "state"
    specs = [HostSpec("alpha", boot_seconds=1.0), HostSpec("bravo", boot_seconds=1.0)]
    with Estate(f"transports-{os.getpid()}", specs, folder) as estate:
        yield estate


@pytest.fixture(scope="package")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Twelve sshds on loopback, whose sessions run on this machine."""
    with Fleet(f"transports-fleet-{os.getpid()}", 12, tmp_path_factory.mktemp("fleet") / "state") as fleet:
        yield fleet


@pytest.fixture
def transport(estate: Estate) -> Iterator[SshTransport]:
    with SshTransport(estate.known_hosts) as transport:
        yield transport


Open = Callable[..., SshSession]


@pytest.fixture
def enter(estate: Estate, transport: SshTransport) -> Open:
    """Opens a session on a host of the estate; keyword arguments are further variables."""

    def enter(name: str = "alpha", user: str = "ops", **variables: object) -> SshSession:
        return transport.connect(lab_host(estate, name, user, **variables))

    return enter


def lab_host(estate: Estate, name: str = "alpha", user: str = "ops", **variables: object) -> Host:
    common = {
        "ansible_host": estate[name].address,
        "ansible_user": user,
        "ansible_ssh_private_key_file": str(estate.client_key),
    }
    return Host(name, (), common | variables)


def fleet_host(fleet: Fleet, number: int = 0, **variables: object) -> Host:
    host = fleet.hosts[number]
    common = {
        "ansible_host": host.address,
        "ansible_port": host.port,
        "ansible_user": "root",
        "ansible_ssh_private_key_file": str(fleet.client_key),
    }
    return Host(host.name, (), common | variables)


@dataclass(frozen=True)
class Sshd:
    """One sshd of OpenSSH on loopback, with settings of a test's choice."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def key(self) -> Path:
        return self.folder / "client"

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    def host(self, **variables: object) -> Host:
        common = {
            "ansible_host": "127.0.0.1",
            "ansible_port": self.port,
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(self.key),
        }
        return Host("weak", (), common | variables)


def keygen(path: Path, *options: str) -> Path:
    argv = ["ssh-keygen", "-q", "-N", "", "-f", path, *(options or ("-t", "ed25519"))]
    subprocess.run(argv, check=True, timeout=60, stdin=subprocess.DEVNULL)
    return path


@pytest.fixture
def start_sshd(tmp_path: Path) -> Iterator[Callable[..., Sshd]]:
    """Starts an sshd: `start_sshd(Ciphers="aes128-cbc", HostKeyType="rsa")`."""
    running: list[subprocess.Popen[bytes]] = []

    def start(host_key: tuple[str, ...] = ("-t", "ed25519"), **options: str) -> Sshd:
        folder = tmp_path / f"sshd{len(running)}"
        folder.mkdir()
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        keygen(folder / "host", *host_key)
        keygen(folder / "client")
        (folder / "authorized").write_bytes((folder / "client.pub").read_bytes())
        port = free_port()
        public = " ".join((folder / "host.pub").read_text().split()[:2])
        (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {public}\n")
        settings = {
            "AuthorizedKeysFile": str(folder / "authorized"),
            "ListenAddress": f"127.0.0.1:{port}",
            "PidFile": "none",
            "StrictModes": "no",
            "UsePAM": "no",
            "PermitRootLogin": "prohibit-password",
            "PasswordAuthentication": "no",
            **options,
        }
        arguments = [part for name, value in settings.items() for part in ("-o", f"{name}={value}")]
        argv = ["/usr/sbin/sshd", "-D", "-e", "-f", "/dev/null", "-h", folder / "host", *arguments]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        running.append(process)
        wait_port(port)
        return Sshd(folder, port, process)

    yield start
    for process in running:
        process.kill()
        process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_port(port: int) -> None:
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    pytest.fail(f"nothing listens on {port}")
