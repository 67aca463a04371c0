"""Opens the kind of connection each host's inventory variables name: the one place where that is decided."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Self

from lamplighter.errors import RefusedError
from lamplighter.model.inventory import Host, Shell
from lamplighter.model.powershell import PowerShellSession
from lamplighter.model.session import Session
from lamplighter.secrets import Resolve, resolve
from lamplighter.transports.ssh import SshTransport
from lamplighter.transports.winrm import WinRmTransport

_WAYS = {Shell.POSIX: "a POSIX shell over SSH", Shell.POWERSHELL: "PowerShell over WinRM"}


class HostTransport:
    """Connections to a site's hosts, over SSH or WinRM; safe to use from many threads at once.

    Args:
        known_hosts: the site's pinned SSH host keys.
        shells: the kinds of hosts the runbook works on; all others are refused.
        resolve_secret: reads passphrases and passwords; each is read once for each transport.

    Raises:
        SiteError: the pins cannot be read.
    """

    def __init__(
        self, known_hosts: Path, shells: Collection[Shell] = tuple(_WAYS), resolve_secret: Resolve = resolve
    ) -> None:
        self._shells = shells
        self._ssh = SshTransport(known_hosts, resolve_secret)
        self._winrm = WinRmTransport(resolve_secret)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def connect(self, host: Host) -> Session | PowerShellSession:
        """Open a session of the host's kind.

        Raises:
            RefusedError: nothing here speaks to such a host, or the runbook does not work on its kind.
            UnreachableError: as `SshTransport.connect` and `WinRmTransport.connect`.
        """
        if host.shell not in _WAYS:
            raise _unspoken(host)
        if host.shell not in self._shells:
            needed = " or ".join(_WAYS[shell] for shell in self._shells)
            raise RefusedError(
                f"the runbook works through {needed}, and the inventory names {_WAYS[host.shell]}",
                where=host.name, changed="Nothing was sent to the host",
                advice=f"Leave it out of the selection (:!{host.name}), or correct ansible_connection",
            )
        return self._winrm.connect(host) if host.shell is Shell.POWERSHELL else self._ssh.connect(host)

    def close(self) -> None:
        """End every connection; never raises."""
        self._ssh.close()
        self._winrm.close()


def _unspoken(host: Host) -> RefusedError:
    shell = host.vars.get("ansible_shell_type")
    also = f" with ansible_shell_type: {shell}" if shell else ""
    return RefusedError(
        f"the inventory says ansible_connection: {host.connection}{also}, which is not spoken here",
        where=host.name, changed="Nothing was sent to the host",
        advice="Write ssh for a host with a POSIX shell, winrm for a Windows host, or leave it out of the "
        f"selection (:!{host.name})",
    )
