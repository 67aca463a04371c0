"""How to reach one Windows host: Ansible's WinRM variables, and ours where Ansible has none."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from lamplighter.model.inventory import WINRM_CONNECTIONS, Host
from lamplighter.secrets import is_reference
from lamplighter.transports.hostvars import Reader

HTTPS_PORT = 5986
HTTP_PORT = 5985
DEFAULT_CONNECT_TIMEOUT = 20.0
DEFAULT_OPERATION_TIMEOUT = 20.0
_ADDRESS = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,252}|::[0-9A-Fa-f:.]*")
_PATH = re.compile(r"/?([A-Za-z0-9_.~-]+(?:/[A-Za-z0-9_.~-]+)*)")
_USER = re.compile(r"[^\s:\"/\[\];|=,+*?<>\x00-\x1f\x7f]{1,104}")
_PASSWORDS = ("lamplighter_winrm_password", "ansible_password")
_ALIASES = {
    "ansible_winrm_host": "ansible_host", "ansible_winrm_port": "ansible_port",
    "ansible_winrm_user": "ansible_user", "ansible_winrm_password": "ansible_password",
    "ansible_winrm_pass": "ansible_password",
}
"""Other names that Ansible takes, and what has to stand in their place."""

VARIABLES = (
    *_PASSWORDS, "ansible_winrm_transport", "ansible_winrm_scheme", "ansible_winrm_path",
    "ansible_winrm_ca_trust_path", "ansible_winrm_server_cert_validation", "ansible_winrm_message_encryption",
    "ansible_winrm_proxy", "ansible_winrm_kerberos_hostname_override", "ansible_winrm_kerberos_delegation",
    "ansible_winrm_operation_timeout_sec",
)
"""The variables that only this transport reads."""


class Auth(StrEnum):
    """How the account proves itself."""

    NTLM = "ntlm"
    KERBEROS = "kerberos"
    BASIC = "basic"


@dataclass(frozen=True, slots=True)
class WinRmSettings:
    r"""Everything needed to reach one host.

    Attributes:
        address: IPv4 or IPv6 address, or a name.
        port: 1 to 65535.
        tls: HTTPS.
        path: of the service, without its leading slash.
        auth: `ntlm`, `kerberos`, or `basic`, which goes over HTTPS only.
        user: account, as `user`, `DOMAIN\user` or `user@REALM`.
        password: secret reference; empty with Kerberos tickets that are there already.
        ca: file of the certificate authorities trusted for this host, and no other; None without TLS.
        service_name: the host's name in its Kerberos principal.
        connect_timeout: seconds for name lookup, connecting, TLS and login together.
        operation_timeout: seconds the host may hold back an answer before it says "not yet".
    """

    address: str
    port: int
    tls: bool
    path: str
    auth: Auth
    user: str
    password: str
    ca: Path | None
    service_name: str
    connect_timeout: float = DEFAULT_CONNECT_TIMEOUT
    operation_timeout: float = DEFAULT_OPERATION_TIMEOUT

    @property
    def authority(self) -> str:
        """Host and port, as they stand in a URL (RFC 3986 3.2) and a Host header (RFC 9110 7.2)."""
        address = f"[{self.address}]" if ":" in self.address else self.address
        return f"{address}:{self.port}"

    @property
    def sealed(self) -> bool:
        """Whether messages are encrypted by NTLM or Kerberos: always, where TLS does not do it."""
        return not self.tls

    def __str__(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.authority}/{self.path}"

    @classmethod
    def of(cls, host: Host) -> WinRmSettings:
        """Read a host's variables.

        Raises:
            UnreachableError: some variable cannot be used; all of them are named.
        """
        reader = _Reader(host.vars)
        settings = reader.settings(host)
        reader.finish(host)
        return settings


def unprotected(host: Host) -> tuple[str, ...]:
    """Variables with which Ansible would do without protection, a sentence each."""
    reader = _Reader(host.vars)
    reader.refuse_unsafe()
    return tuple(reader.mistakes)


class _Reader(Reader):
    """The WinRM ones."""

    def settings(self, host: Host) -> WinRmSettings:
        if host.connection not in WINRM_CONNECTIONS:
            self.mistakes.append(f"ansible_connection is {host.connection!r}, so this is no WinRM host")
        self.refuse_unsafe()
        port = self.port(str(self.vars.get("ansible_port", HTTPS_PORT)))
        tls = self._tls(port)
        address = self._match("ansible_host", host.address, _ADDRESS, "a host name or address")
        settings = WinRmSettings(
            address=address,
            port=port,
            tls=tls,
            path=self._match(
                "ansible_winrm_path", self.text("ansible_winrm_path") or "wsman", _PATH, "a plain path"
            ).removeprefix("/"),
            auth=self._auth(),
            user=self._match("ansible_user", self.text("ansible_user"), _USER, "a user name"),
            password=self._password(),
            ca=self._ca(tls),
            service_name=self.text("ansible_winrm_kerberos_hostname_override") or address,
            connect_timeout=self.seconds("lamplighter_connect_timeout", DEFAULT_CONNECT_TIMEOUT),
            operation_timeout=self.seconds(
                "ansible_winrm_operation_timeout_sec", DEFAULT_OPERATION_TIMEOUT
            ),
        )
        self._agree(settings)
        return settings

    def refuse_unsafe(self) -> None:
        """Ansible's ways to do without protection are refused, not ignored."""
        if self.text("ansible_winrm_server_cert_validation") not in {"", "validate"}:
            self.mistakes.append("ansible_winrm_server_cert_validation: certificates are always validated")
        if self.text("ansible_winrm_message_encryption") == "never":
            self.mistakes.append("ansible_winrm_message_encryption: messages are always encrypted")
        if self.vars.get("ansible_winrm_proxy"):
            self.mistakes.append("ansible_winrm_proxy: no proxy is ever used")
        if self.vars.get("ansible_winrm_kerberos_delegation"):
            self.mistakes.append("ansible_winrm_kerberos_delegation: credentials are never passed on")
        found = ((name, instead) for name, instead in _ALIASES.items() if self.vars.get(name))
        self.mistakes += [f"{name} is not read here: write {instead}" for name, instead in found]

    def _password(self) -> str:
        """The secret reference; ours wins where Ansible's stands beside it for Ansible's own use."""
        ours, ansibles = (self.text(name) for name in _PASSWORDS)
        if ansibles and not is_reference(ansibles):
            self.mistakes.append("ansible_password holds a password in clear: write env:, file: or cmd:")
            return ours
        return ours or ansibles

    def _agree(self, settings: WinRmSettings) -> None:
        """Settings that must not come together."""
        if settings.auth is Auth.BASIC and not settings.tls:
            self.mistakes.append("basic sends the password itself, so it goes over https only")
        if not settings.password and settings.auth is not Auth.KERBEROS:
            self.mistakes.append("neither ansible_password nor lamplighter_winrm_password is set")
        if settings.auth is Auth.KERBEROS and _is_ip(settings.service_name):
            self.mistakes.append("Kerberos needs the host's name: ansible_host is an address")

    def _auth(self) -> Auth:
        value = self.vars.get("ansible_winrm_transport", Auth.NTLM)
        names = [value] if isinstance(value, str) else value
        if isinstance(names, list) and len(names) == 1 and names[0] in list(Auth):
            return Auth(names[0])
        self.mistakes.append("ansible_winrm_transport is not one of ntlm, kerberos, basic")
        return Auth.NTLM

    def _tls(self, port: int) -> bool:
        default = "http" if port == HTTP_PORT else "https"  # as Ansible's winrm plugin
        scheme = self.text("ansible_winrm_scheme") or default
        if scheme not in {"http", "https"}:
            self.mistakes.append("ansible_winrm_scheme is neither http nor https")
        return scheme != "http"

    def _ca(self, tls: bool) -> Path | None:
        text = self.text("ansible_winrm_ca_trust_path")
        if tls and not text:
            self.mistakes.append(
                "ansible_winrm_ca_trust_path is not set: https needs the file of the CA that signed the host"
            )
        return Path(text).expanduser() if tls and text else None

    def _match(self, name: str, text: str, pattern: re.Pattern[str], what: str) -> str:
        if not pattern.fullmatch(text):
            self.mistakes.append(f"{name}: {text!r} is not {what}" if text else f"{name} is not set")
        return text


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
