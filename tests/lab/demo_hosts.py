"""Five of the demo's hosts are configured as people configure them: so a newcomer sees what is noticed."""

from tests.lab.estate import Estate
from tests.lab.spec import HostSpec

STILL = "still"
DAYS = 45
_VENDOR = "deb [signed-by=/srv/lab-repos/keyring.gpg] http://127.0.0.1:9/acme stable main\n"
_PIN = """Explanation: the shop breaks with the newer one, ask Kiran first
Package: lab-kernel
Pin: release *
Pin-Priority: -1
"""


_CHATTY = """echo "Welcome to $(hostname). Unauthorised use is prohibited."
"""


def spec(name: str) -> HostSpec:
    """What a host of the demo is: `mon1` takes its packages from a mirror that stopped."""
    return HostSpec(name, repo=STILL) if name == "mon1" else HostSpec(name)


def stop_the_mirror(estate: Estate) -> None:
    """Let the security archive of `mon1` stand still; by the process that brought the estate up."""
    mirror = estate._repos[STILL]
    mirror.days_old = DAYS
    mirror.publish(packages=())


def configure(estate: Estate) -> None:
    """Make them so.

    `app1`'s account prints a greeting at every login; `web1` is behind a line of 10 Mbit/s; `app2` has a
    vendor's archive nobody answers for; `db1` holds one fix and pins the other.
    """
    estate["app1"].write("/home/ops/.bashrc", _CHATTY)
    estate["web1"].slow_line()
    estate["app2"].write("/etc/apt/sources.list.d/acme.list", _VENDOR)
    estate["db1"].write("/etc/apt/preferences.d/lab-kernel", _PIN)
    estate["db1"].exec(["apt-mark", "hold", "lab-web"])
