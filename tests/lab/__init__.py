"""The sandbox estate: real Debian hosts, and cheap fleets of sshd, on one machine.

Everything the demo, the tests and the benches connect to is made here and is real: hosts
boot, reboot, run apt and dpkg, hold locks, fill up and fall silent. Nothing leaves the machine.

>>> from tests.lab import Estate, HostSpec
>>> with Estate("docs", [HostSpec("web1")], state_dir) as estate:      # doctest: +SKIP
...     estate["web1"].exec("uname -n").stdout
"""

from tests.lab.cleanup import leftovers, sweep
from tests.lab.errors import LabError
from tests.lab.estate import Estate
from tests.lab.fleet import Fleet, FleetHost
from tests.lab.host import Host
from tests.lab.repo import Repo
from tests.lab.spec import OPSPW_PASSWORD, PASSPHRASE, HostSpec

SYSTEM_PACKAGES = (
    "apt-utils",
    "chromium",
    "debootstrap",
    "fonts-dejavu-core",
    "fonts-noto-color-emoji",
    "gcc",
    "gnupg",
    "iproute2",
    "krb5-user",
    "ldap-utils",
    "libc6-dev",
    "mount",
    "openssh-client",
    "openssh-server",
    "samba-ad-dc",
    "samba-ad-provision",
    "slapd",
    "util-linux",
)
"""Debian packages the machine needs: the one list, read by the Makefile and the command line."""

ONLY_TESTS = ("chromium", "fonts-", "krb5-", "samba-")
"""How the names of those begin that the demo does without."""

__all__ = [
    "ONLY_TESTS",
    "OPSPW_PASSWORD",
    "PASSPHRASE",
    "SYSTEM_PACKAGES",
    "Estate",
    "Fleet",
    "FleetHost",
    "Host",
    "HostSpec",
    "LabError",
    "Repo",
    "leftovers",
    "sweep",
]
