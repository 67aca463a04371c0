"""How to log in to one host: Ansible's variables, and ours where Ansible has none."""

from __future__ import annotations

import getpass
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lamplighter.model.inventory import SSH_CONNECTIONS, Host
from lamplighter.transports.hostvars import Reader

DEFAULT_PORT = 22
DEFAULT_CONNECT_TIMEOUT = 10.0
_ADDRESS = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:%-]{0,252}|::[0-9A-Fa-f:.]*")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@\\-]{0,63}")
_HOP = re.compile(
    r"(?:(?P<user>[^@\s]+)@)?(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[^:@\s]+))(?::(?P<port>\d+))?"
)


@dataclass(frozen=True, slots=True)
class Login:
    """One SSH server and the account there."""

    address: str
    port: int
    user: str

    def __str__(self) -> str:
        return f"{self.user}@{self.address}:{self.port}"


@dataclass(frozen=True, slots=True)
class SshSettings:
    """Everything needed to reach one host.

    Attributes:
        target: where to log in, and as whom.
        jumps: hosts to go through, in order, as ProxyJump of ssh_config(5).
        key: private key file; None when the agent holds the key.
        certificate: OpenSSH certificate that goes with the key.
        passphrase: secret reference for an encrypted key; empty for none.
        agent: take the private key from the SSH agent.
        sudo_password: secret reference; empty when sudo asks for none.
        connect_timeout: seconds for name lookup, connecting, key exchange and login together.
    """

    target: Login
    jumps: tuple[Login, ...] = ()
    key: Path | None = None
    certificate: Path | None = None
    passphrase: str = ""
    agent: bool = False
    sudo_password: str = ""
    connect_timeout: float = DEFAULT_CONNECT_TIMEOUT

    @classmethod
    def of(cls, host: Host) -> SshSettings:
        """Read a host's variables.

        Raises:
            UnreachableError: some variable cannot be used; all of them are named.
        """
        reader = _Reader(host.vars)
        settings = reader.settings(host)
        reader.finish(host)
        return settings


class _Reader(Reader):
    """The SSH ones."""

    def settings(self, host: Host) -> SshSettings:
        if host.connection not in SSH_CONNECTIONS:
            self.mistakes.append(f"ansible_connection is {host.connection!r}, so this is no SSH host")
        user = self.text("ansible_user") or getpass.getuser()
        target = self._login(host.address, str(self.vars.get("ansible_port", DEFAULT_PORT)), user)
        key = self._path("ansible_ssh_private_key_file")
        agent = self.vars.get("lamplighter_ssh_agent", False)
        if not isinstance(agent, bool):
            self.mistakes.append("lamplighter_ssh_agent is neither true nor false")
        elif key is None and not agent:
            self.mistakes.append("neither ansible_ssh_private_key_file nor lamplighter_ssh_agent is set")
        return SshSettings(
            target=target,
            jumps=tuple(self._jumps(user)),
            key=key,
            certificate=self._path("lamplighter_ssh_certificate"),
            passphrase=self.text("lamplighter_ssh_passphrase"),
            agent=agent is True,
            sudo_password=self.text("lamplighter_sudo_password"),
            connect_timeout=self.seconds("lamplighter_connect_timeout", DEFAULT_CONNECT_TIMEOUT),
        )

    def _path(self, name: str) -> Path | None:
        text = self.text(name)
        return Path(text).expanduser() if text else None

    def _jumps(self, user: str) -> Iterator[Login]:
        text = self.text("lamplighter_ssh_jump")
        for hop in filter(None, (part.strip() for part in text.split(","))):
            match = _HOP.fullmatch(hop)
            if match is None:
                self.mistakes.append(f"lamplighter_ssh_jump: {hop!r} is not user@host:port")
                continue
            address = match["v6"] or match["name"]
            yield self._login(address, match["port"] or str(DEFAULT_PORT), match["user"] or user)

    def _login(self, address: str, port: str, user: str) -> Login:
        if not _ADDRESS.fullmatch(address):
            self.mistakes.append(f"{address!r} is not a host name or address")
        if not _USER.fullmatch(user):
            self.mistakes.append(f"{user!r} is not a user name")
        return Login(address, self.port(port), user)
