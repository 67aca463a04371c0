"""What a caller says about the hosts it wants, and the few things hosts have in common."""

import re
from dataclasses import dataclass

from tests.lab.errors import LabError

PASSPHRASE = "lab-passphrase"
"""Opens `Estate.client_key_encrypted`. Made up, like the key, which exists only while the estate does."""

OPSPW_PASSWORD = "lab-password"
"""What sudo asks user `opspw` for, on hosts no other machine can reach."""

SSH_PORT = 22
USERS = ("ops", "opspw", "nosudo", "root")

_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")


@dataclass(frozen=True)
class HostSpec:
    """One host of an estate.

    Args:
        name: its host name.
        packages: lab packages it has beyond the usual ones (`lab-broken`, `lab-slow`).
        repo: the estate's repository it updates from.
        boot_seconds: how long it stays away when it reboots.
        disk_mb: the size of its root file system.
        systemd: whether systemd is its first process, with logind that ends what a login leaves behind;
            otherwise a few lines of shell, which start in no time.

    Raises:
        LabError: if the name could not be a host name.
    """

    name: str
    packages: tuple[str, ...] = ()
    repo: str = "default"
    boot_seconds: float = 2.0
    disk_mb: int = 256
    systemd: bool = False

    def __post_init__(self) -> None:
        """Refuse at once what would only fail, obscurely, when the host boots."""
        check_name(self.name)


def check_name(name: str) -> str:
    """Check the name of a host, a repository or an estate.

    Returns:
        The same name.

    Raises:
        LabError: unless it is lower-case letters, digits and hyphens, at most 31 of them.
    """
    if not _NAME.fullmatch(name):
        raise LabError(f"{name!r} is no name for a lab host or estate: use a-z, 0-9 and '-', at most 31")
    return name
