"""Logins as people configure them: one real account each, and the five rules on every one of them.

What a login prints is never an answer, nor its exit code a script's; nothing runs in part; "nothing was run"
is said only when it is so; a password goes to sudo's own prompt and nowhere else. The fifth is about reboots:
`test_ssh_reboots`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from lamplighter.errors import SudoRefusedError, TransportError, UnreachableError
from lamplighter.model.inventory import Host as Inventoried
from lamplighter.secrets import Secret
from lamplighter.transports.ssh import SshTransport
from tests.lab.estate import Estate
from tests.lab.host import Host
from tests.lab.spec import HostSpec
from tests.transports.conftest import lab_host

pytestmark = pytest.mark.lab
CASES: list[dict[str, Any]] = yaml.safe_load(
    (Path(__file__).parents[1] / "cases" / "logins" / "accounts.yaml").read_text("utf-8")
)
SAYS = 'printf "%s|%s|%s\\n" "$1" "$2" "$LC_ALL"; echo err >&2; umask; echo >>"$3"; exit 3'
ACCOUNT = """set -e; user=$1 home=/home/$1
useradd --create-home --shell /bin/bash $user; usermod -p '*' $user
echo "$user ALL=(ALL) NOPASSWD: ALL" >/etc/sudoers.d/$user
if [ -n "$2" ]; then echo "$user:$2" | chpasswd; echo "$user ALL=(ALL) ALL" >/etc/sudoers.d/$user; fi
"""


@dataclass
class Trial:
    """What one case did, and what was read of it."""

    case: dict[str, Any]
    user: str
    lab: Host
    host: Inventoried
    transport: SshTransport
    words: list[str] = field(default_factory=list)

    def right(self, who: str) -> str:
        right = self.case["right"]
        return str(right if isinstance(right, str) else right[who])

    def run(self) -> None:
        for who, sudo in (("account", False), ("root", True)):
            mark = f"/tmp/{self.user}-{who}"
            try:
                session = self.transport.connect(self.host)
                done = session.run(SAYS, "a b", "c'd", mark, sudo=sudo, timeout=12)
                assert (done.exit_code, done.stdout, done.stderr) == (3, "a b|c'd|C.UTF-8\n0022\n", "err\n")
                assert session.run("false", sudo=sudo).exit_code == 1
                assert self.right(who) == "works"
            except TransportError as error:
                self.refused(who, mark, error)
        if self.right("root") == "works" and self.case.get("unit", True):
            session.put(f"/root/{self.user}", b"\0\n\xff", sudo=True)
            assert session.get(f"/root/{self.user}", sudo=True) == b"\0\n\xff"
            session.launch(f"u-{self.user}", SAYS, "a", "b", f"/tmp/{self.user}-unit", sudo=True)
            done = session.wait(f"u-{self.user}", sudo=True, timeout=30)
            assert (done.exit_code, done.stdout, done.stderr) == (3, "a|b|C.UTF-8\n0022\n", "err\n")

    def refused(self, who: str, mark: str, error: TransportError) -> None:
        """It is one of the errors that say why, nothing ran, and no password is in it."""
        text = str(error)
        assert self.right(who) == "refused", text
        assert isinstance(error, SudoRefusedError | UnreachableError), repr(error)
        assert "Nothing was run" in text
        ran = self.lab.exec(f"test -e {mark}", check=False).returncode == 0
        assert not ran, "it ran, and it was said that it did not"
        assert "Tr0mb-one" not in text, "no password of any case"
        self.words.append(text)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    folder = tmp_path_factory.mktemp("logins") / "state"
    with Estate(f"logins-{os.getpid()}", [HostSpec("logins", boot_seconds=1.0)], folder) as estate:
        host = estate["logins"]
        for number, case in enumerate(CASES):
            command = ACCOUNT + case.get("arrange", "")
            host.exec(["sh", "-c", command, "arrange", f"l{number:02}", case.get("password", "")])
        host.exec("chmod 755 /usr/local/bin/*; chmod 440 /etc/sudoers.d/*; kill -HUP $(pgrep -o -x sshd)")
        host.wait_up()
        yield estate


@pytest.fixture(scope="module")
def trials(lab: Estate) -> Iterator[dict[str, Future[Trial]]]:
    """All cases at once, a few at a time: most of each is waiting."""
    with SshTransport(lab.known_hosts, _told) as transport, ThreadPoolExecutor(5) as pool:
        users = [(f"l{number:02}", case) for number, case in enumerate(CASES)]
        made = [Trial(case, user, lab["logins"], host_of(lab, user, case), transport) for user, case in users]
        yield {trial.case["name"]: pool.submit(_tried, trial) for trial in made}


def host_of(lab: Estate, user: str, case: dict[str, Any]) -> Inventoried:
    secret = case.get("sent", case.get("password", ""))
    return lab_host(lab, "logins", user, **({"lamplighter_sudo_password": f"env:{secret}"} if secret else {}))


def _told(reference: str) -> Secret:
    return Secret(reference.removeprefix("env:"), reference)


def _tried(trial: Trial) -> Trial:
    trial.run()
    return trial


@pytest.mark.parametrize("name", [case["name"] for case in CASES])
def test_a_login(name: str, trials: dict[str, Future[Trial]]) -> None:
    trial = trials[name].result(120)
    for wanted in trial.case.get("says", ()):
        assert re.search(wanted, "\n".join(trial.words)), trial.words
