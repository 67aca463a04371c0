"""Reboots as hosts go through them: what proves one, and what is said when nothing does."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator

import pytest

from lamplighter.errors import HostKeyError, RemoteFailedError, TimedOutError
from lamplighter.transports.ssh import SshTransport
from lamplighter.transports.ssh_boot import Boot
from lamplighter.transports.ssh_session import SshSession
from tasks.linux import script
from tests.lab.estate import Estate
from tests.lab.host import Host
from tests.lab.spec import HostSpec
from tests.transports.conftest import lab_host

AT_BOOT = "/etc/init.d/lab-00-case"
BOOT_ID = "/proc/sys/kernel/random/boot_id"


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    folder = tmp_path_factory.mktemp("reboots") / "state"
    with Estate(f"reboots-{os.getpid()}", [HostSpec("delta", boot_seconds=0.5)], folder) as estate:
        yield estate


@pytest.fixture
def lab(there: Estate) -> Iterator[Host]:
    yield there["delta"]
    there["delta"].reset()


@pytest.fixture
def session(there: Estate, lab: Host) -> Iterator[SshSession]:
    with SshTransport(there.known_hosts) as transport:
        yield transport.connect(lab_host(there, lab.name))


def at_boot(lab: Host, text: str) -> None:
    lab.write(AT_BOOT, f"#!/bin/sh\n{text}\n", "755")


def reboot(session: SshSession, timeout: float) -> str:
    """As the step does it."""
    before = session.run(f"cat {BOOT_ID}").stdout.strip()
    unit = f"r-{uuid.uuid4().hex[:8]}"
    session.launch(unit, script("reboot"), sudo=True)
    return session.await_boot(before, timeout=timeout, unit=unit)


@pytest.mark.lab
def test_whose_boot_id_stays_is_known_by_its_first_process(lab: Host, session: SshSession) -> None:
    at_boot(lab, f"cat {BOOT_ID} >/run/real; mount --bind /etc/machine-boot {BOOT_ID}")
    lab.exec(f"cat {BOOT_ID} >/etc/machine-boot; sh {AT_BOOT}")
    before, id_ = lab.boot_id(), session.run(f"cat {BOOT_ID}").stdout.strip()
    assert reboot(session, 30) == id_, "a container's boot id is the machine's"
    assert lab.boot_id() != before


@pytest.mark.lab
def test_who_never_went_down_is_not_said_to_be_away(lab: Host, session: SshSession) -> None:
    lab.write("/usr/local/sbin/shutdown", "#!/bin/sh\nexit 0\n", "755")
    with pytest.raises(TimedOutError, match="never went down within 2 s") as caught:
        reboot(session, 2)
    assert "come back" not in str(caught.value)


@pytest.mark.lab
def test_who_lost_the_connection_alone_did_not_reboot(lab: Host, session: SshSession) -> None:
    id_ = session.run(f"cat {BOOT_ID}").stdout.strip()
    lab.kill_sessions()
    with pytest.raises(TimedOutError, match="runs the same boot as before") as caught:
        session.await_boot(id_, timeout=2)
    assert "come back" not in str(caught.value)


@pytest.mark.lab
def test_a_reboot_command_that_fails_is_told_at_once(lab: Host, session: SshSession) -> None:
    lab.write("/usr/local/sbin/shutdown", "#!/bin/sh\necho 'inhibited by a backup' >&2\nexit 1\n", "755")
    began = time.monotonic()
    with pytest.raises(RemoteFailedError, match="exit code 1: inhibited by a backup") as caught:
        reboot(session, 60)
    assert time.monotonic() - began < 15
    assert "was not rebooted" in str(caught.value)


@pytest.mark.lab
def test_who_refuses_everybody_for_a_while_is_waited_for(lab: Host, session: SshSession) -> None:
    """First no key is known, then nobody may log in; a ban list of five in ten minutes is not met."""
    keys = "/etc/ssh/lab_authorized_keys"
    at_boot(lab, (
        f"mv {keys} {keys}.late; (sleep 4; mv {keys}.late {keys}) &\n"
        "echo 'System is booting up' >/run/nologin; (sleep 6; rm /run/nologin) &"
    ))
    old = lab.console
    assert reboot(session, 60) == lab.boot_id()
    new = lab.console.removeprefix(old)
    assert new.count("preauth") <= 4, new


@pytest.mark.lab
def test_who_is_up_and_refuses_us_is_not_said_to_be_away(lab: Host, session: SshSession) -> None:
    at_boot(lab, "echo 'down for maintenance' >/run/nologin")
    with pytest.raises(TimedOutError, match=r"is up and refuses us.*maintenance") as caught:
        reboot(session, 7)
    assert "come back" not in str(caught.value)


@pytest.mark.lab
def test_a_new_host_key_after_a_reboot_of_ours_says_so(lab: Host, session: SshSession) -> None:
    at_boot(lab, "rm /etc/ssh/ssh_host_*; ssh-keygen -q -A")
    with pytest.raises(HostKeyError, match="this run itself told the host to reboot"):
        reboot(session, 30)


@pytest.mark.lab
def test_a_boot_id_that_cannot_be_read_is_no_boot(lab: Host, session: SshSession) -> None:
    id_ = session.run(f"cat {BOOT_ID}").stdout.strip()
    lab.exec("mount -t tmpfs -o ro none /proc/sys")
    with pytest.raises(TimedOutError, match="which boot it runs cannot be read"):
        session.await_boot(id_, timeout=1)


@pytest.mark.parametrize(("said", "age"), [
    ("100.50 2500", 75.5), ("4.00 990000", 4.0), ("7.10 0", 7.1), ("? 5", None), ("5.0 ?", None),
])
def test_how_old_a_first_process_is(said: str, age: float | None) -> None:
    id_ = "584026b9-c497-4a6e-9cf9-1ecc63e2bd95"
    assert Boot.read(f"{id_} {said}\n") == Boot(id_, age)


@pytest.mark.parametrize("said", [
    "", "\n", "cat: No such file\n", "584026b9-c497-4a6e-9cf9-1ecc63e2bd95\n", "584026b9 1.0 1\n",
])
def test_what_is_no_answer_is_no_boot(said: str) -> None:
    assert Boot.read(said) is None
