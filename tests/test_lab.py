"""The lab's own promises: its hosts are real enough to be believed, and leave nothing behind."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import (
    OPSPW_PASSWORD,
    PASSPHRASE,
    Estate,
    Fleet,
    Host,
    HostSpec,
    LabError,
    registry,
)
from tests.lab.cleanup import leftovers
from tests.lab.system import wait_until

ROOT = Path(__file__).resolve().parent.parent
ME = os.getpid()
SPECS = (
    HostSpec("web1", boot_seconds=0.5),
    HostSpec("web2"),
    HostSpec("web3"),
    HostSpec("db1", packages=("lab-broken",)),
    HostSpec("db2", packages=("lab-slow",)),
    HostSpec("db3"),
)
UPGRADE = "sudo apt-get update -qq && sudo DEBIAN_FRONTEND=noninteractive apt-get -y -q"
KEEP_CONFFILES = "-o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold"

Done = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def _estate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    Estate.sweep()
    with Estate(f"test-{ME}", SPECS, tmp_path_factory.mktemp("lab") / "estate") as up:
        yield up
    assert leftovers(f"test-{ME}") == []


@pytest.fixture
def estate(_estate: Estate) -> Iterator[Estate]:
    yield _estate
    for host in _estate:
        if host.name in _dirty:
            host.reset()
    _dirty.clear()


_dirty: set[str] = set()


def host_of(estate: Estate, name: str) -> Host:
    """Borrow a host; it is made new again after the test."""
    _dirty.add(name)
    return estate[name]


def ssh_command(estate: Estate, host: Host, command: str, user: str = "ops") -> list[str]:
    options = ["BatchMode=yes", "ConnectTimeout=1", f"UserKnownHostsFile={estate.known_hosts}"]
    flags = [part for option in options for part in ("-o", option)]
    return ["ssh", "-F", "none", *flags, "-i", str(estate.client_key), f"{user}@{host.address}", command]


def ssh(estate: Estate, host: Host, command: str, user: str = "ops") -> Done:
    argv = ssh_command(estate, host, command, user)
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)


def installed(host: Host, package: str) -> str:
    return host.exec(["dpkg-query", "-W", "-f", "${db:Status-Abbrev}${Version}", package]).stdout


# Logging in


@pytest.mark.lab
def test_every_host_is_a_machine_of_its_own(estate: Estate) -> None:
    said = {host.name: ssh(estate, host, "uname -n; cat /proc/sys/kernel/random/boot_id") for host in estate}
    assert {name: done.stdout.split()[0] for name, done in said.items()} == {s.name: s.name for s in SPECS}
    assert {done.stdout.split()[1] for done in said.values()} == {host.boot_id() for host in estate}
    assert len({host.host_key_line.split()[2] for host in estate}) == len(SPECS)


@pytest.mark.lab
def test_who_may_sudo(estate: Estate) -> None:
    host = estate["web1"]
    assert ssh(estate, host, "sudo -n id -un").stdout == "root\n"
    assert "a password is required" in ssh(estate, host, "sudo -n id", "opspw").stderr
    with_password = f"echo {OPSPW_PASSWORD} | sudo -S id -un"
    assert ssh(estate, host, with_password, "opspw").stdout == "root\n"
    assert "not allowed to run sudo" in host.exec("sudo -l -U nosudo").stdout
    assert ssh(estate, host, "id -un", "root").stdout == "root\n"


@pytest.mark.lab
def test_the_second_key_needs_its_passphrase(estate: Estate) -> None:
    def read(passphrase: str) -> Done:
        argv = ["ssh-keygen", "-y", "-P", passphrase, "-f", str(estate.client_key_encrypted)]
        return subprocess.run(argv, capture_output=True, text=True, check=False)

    assert read("wrong").returncode != 0
    assert read(PASSPHRASE).stdout.startswith("ssh-ed25519 ")
    assert estate.client_key.stat().st_mode & 0o777 == 0o600


@pytest.mark.lab
def test_hosts_cannot_reach_out_or_touch_the_machine(estate: Estate) -> None:
    host = host_of(estate, "web2")
    assert "default" not in host.exec("ip route").stdout
    refused = ssh(estate, host, "date -s 2020-01-01; mknod /tmp/disk b 8 0; sysctl -w kernel.panic=1", "root")
    assert refused.stderr.count("Operation not permitted") == 2
    assert "Read-only file system" in refused.stderr or "permission denied" in refused.stderr
    assert "vda" not in host.exec("ls /dev").stdout


# Packages


@pytest.mark.lab
def test_updates_say_which_archive_they_come_from(estate: Estate) -> None:
    plan = ssh(estate, estate["web2"], "sudo apt-get update -qq && apt-get -s upgrade").stdout
    assert "Inst lab-web [1.0] (1.1 Debian-Security:12/stable-security [all])" in plan
    assert "Inst lab-lib [1.0] (1.1 Debian:12/stable [all])" in plan
    assert re.search(r"kept back:\n +lab-held\n", plan)
    assert "lab-broken" not in plan
    assert "lab-slow" not in plan


@pytest.mark.lab
def test_an_upgrade_and_the_reboot_it_asks_for(estate: Estate) -> None:
    host = host_of(estate, "web1")
    host.write("/etc/lab-conf/lab-conf.conf", "setting = ours\n")
    done = ssh(estate, host, f"{UPGRADE} {KEEP_CONFFILES} upgrade")
    assert done.returncode == 0, done.stdout + done.stderr
    assert {p: installed(host, p) for p in ("lab-web", "lab-lib", "lab-held")} == {
        "lab-web": "ii 1.1",
        "lab-lib": "ii 1.1",
        "lab-held": "hi 1.0",
    }
    assert host.read("/etc/lab-conf/lab-conf.conf") == "setting = ours\n"
    assert host.read("/etc/lab-conf/lab-conf.conf.dpkg-dist") == "setting = from-1.1\n"
    assert host.read("/run/reboot-required.pkgs") == "lab-kernel\n"

    before = host.boot_id()
    assert ssh(estate, host, "sudo reboot").returncode in {0, 255}  # its end may just get through
    host.wait_reboot(before)
    after = ssh(estate, host, "cat /proc/sys/kernel/random/boot_id /proc/uptime; ls /run").stdout
    assert after.split()[0] == host.boot_id() != before
    assert float(after.split()[1]) < 10
    assert "reboot-required" not in after
    assert installed(host, "lab-web") == "ii 1.1"


@pytest.mark.lab
def test_a_broken_package_stays_half_configured(estate: Estate) -> None:
    host = host_of(estate, "db1")
    done = ssh(estate, host, f"{UPGRADE} upgrade")
    assert done.returncode == 100
    assert "cannot migrate the database" in done.stdout + done.stderr
    assert installed(host, "lab-broken") == "iF 1.1"
    host.exec("touch /etc/lab-broken-mended && dpkg --configure -a")
    assert installed(host, "lab-broken") == "ii 1.1"


@pytest.mark.lab
def test_a_slow_package_holds_the_lock(estate: Estate) -> None:
    host = host_of(estate, "db2")
    host.write("/etc/lab-slow-seconds", "30\n")
    ssh(estate, host, "sudo apt-get update -qq")
    argv = ssh_command(estate, host, "sudo DEBIAN_FRONTEND=noninteractive apt-get -y install lab-slow")
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as slow:
        assert wait_until(lambda: "sleep 30" in host.exec("ps ax").stdout, 10)
        second = ssh(estate, host, "sudo apt-get -y install lab-web")
        assert second.returncode == 100
        assert re.search(
            r"Could not get lock .*lock-frontend. It is held by process \d+ \(apt-get\)", second.stderr
        )
        host.kill_sessions()
        assert slow.wait(5) == 255


@pytest.mark.lab
def test_a_held_lock_is_refused_and_can_be_released(estate: Estate) -> None:
    host = host_of(estate, "web2")
    host.hold_dpkg_lock(60)
    assert "Could not get lock" in ssh(estate, host, "sudo apt-get -y install lab-web").stderr
    host.release_dpkg_lock()
    assert ssh(estate, host, f"{UPGRADE} install lab-web").returncode == 0


@pytest.mark.lab
def test_a_package_can_vanish_between_plan_and_apply(estate: Estate) -> None:
    host = host_of(estate, "web3")
    repo = estate.new_repo("shifting")
    host.use_repo("shifting")
    repo.publish("1.1", ["lab-web"])
    assert "lab-web [1.0] (1.1" in ssh(estate, host, "sudo apt-get update -qq; apt-get -s upgrade").stdout
    repo.withdraw("lab-web", "1.1")
    repo.publish("1.2", ["lab-web"])
    gone = ssh(estate, host, "sudo apt-get -y install lab-web=1.1")
    assert gone.returncode == 100
    assert "Failed to fetch" in gone.stderr
    assert ssh(estate, host, f"{UPGRADE} install lab-web").returncode == 0
    assert installed(host, "lab-web") == "ii 1.2"
    assert estate.repo.versions("lab-web") == ("1.0", "1.1")


@pytest.mark.lab
def test_a_service_is_restarted_by_its_upgrade_and_by_a_reboot(estate: Estate) -> None:
    host = host_of(estate, "web1")
    ask = "exec 3<>/dev/tcp/localhost/8099 && cat <&3"
    assert ssh(estate, host, ask).stdout == "lab-service 1.0 ok\n"
    assert ssh(estate, host, f"{UPGRADE} install lab-service").returncode == 0
    host.write("/etc/lab-service-sick", "")
    assert wait_until(lambda: ssh(estate, host, ask).stdout == "lab-service 1.1 sick\n", 5)
    before = host.boot_id()
    ssh(estate, host, "sudo reboot")
    host.wait_reboot(before)
    assert wait_until(lambda: "is running" in host.exec("service lab-service status", check=False).stdout, 5)


@pytest.mark.lab
def test_a_full_disk_is_full_for_apt(estate: Estate) -> None:
    host = host_of(estate, "web3")
    ssh(estate, host, "sudo apt-get update -qq")
    host.fill_disk()
    assert "You don't have enough free space" in ssh(estate, host, "sudo apt-get -y upgrade").stderr
    host.free_disk()
    host.fill_disk(leave_kb=200)
    done = ssh(estate, host, f"{UPGRADE} upgrade")
    assert done.returncode == 100
    assert "No space left on device" in done.stdout + done.stderr
    host.free_disk()
    assert "dpkg was interrupted" in ssh(estate, host, f"{UPGRADE} upgrade").stderr
    host.exec("dpkg --configure -a", check=False)  # what was half unpacked, apt has to bring again
    assert ssh(estate, host, f"{UPGRADE} upgrade").returncode == 0


# Trouble


@pytest.mark.lab
def test_a_pulled_cable_is_a_timeout(estate: Estate) -> None:
    host = host_of(estate, "web2")
    host.link_down()
    started = time.monotonic()
    done = ssh(estate, host, "true")
    assert (done.returncode, "timed out" in done.stderr) == (255, True)
    assert time.monotonic() - started > 0.9
    host.link_up()
    assert ssh(estate, host, "true").returncode == 0


@pytest.mark.lab
def test_a_frozen_host_accepts_and_says_nothing(estate: Estate) -> None:
    host = host_of(estate, "web2")
    host.freeze()
    assert "timed out during banner exchange" in ssh(estate, host, "true").stderr
    host.thaw()
    assert ssh(estate, host, "true").returncode == 0


@pytest.mark.lab
def test_power_off_is_off_until_power_on(estate: Estate) -> None:
    host = host_of(estate, "web2")
    host.write("/var/lib/kept", "yes\n")
    assert ssh(estate, host, "sudo poweroff").returncode in {0, 255}
    assert wait_until(lambda: host.state == "off", 5)
    assert ssh(estate, host, "true").returncode == 255
    with pytest.raises(LabError, match="is not up"):
        host.exec("true")
    host.power_on()
    assert ssh(estate, host, "cat /var/lib/kept").stdout == "yes\n"


@pytest.mark.lab
def test_a_new_host_key_is_noticed(estate: Estate) -> None:
    host = host_of(estate, "web3")
    before = host.host_key_line
    host.rekey()
    assert host.host_key_line != before
    assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in ssh(estate, host, "true").stderr
    host.reset()
    assert host.host_key_line == before
    assert ssh(estate, host, "true").returncode == 0


# Coming and going


def owner_script(name: str, folder: Path, body: str) -> list[str]:
    """Write a program that brings an estate up, says so, and goes on with body."""
    script = f"""
        import time
        from pathlib import Path
        from tests.lab import Estate, HostSpec
        estate = Estate({name!r}, [HostSpec("a"), HostSpec("b")], Path({str(folder)!r}), updates=False)
        estate.up()
        print("up", flush=True)
        {body}
    """
    return [sys.executable, "-c", textwrap.dedent(script)]


@pytest.mark.lab
@pytest.mark.parametrize("also", ["owner", "owner and supervisor"])
def test_nothing_is_left_of_an_estate_whose_owner_was_killed(tmp_path: Path, also: str) -> None:
    name = f"orphan-{ME}"
    folder = tmp_path / "estate"
    argv = owner_script(name, folder, 'estate["a"].freeze(); estate["b"].link_down(); time.sleep(60)')
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "up\n"
        entry = registry.load(name)
        assert entry is not None
        assert entry.supervisor is not None
        assert len(leftovers(name)) > 2
        with contextlib.suppress(ProcessLookupError):
            os.kill(owner.pid, signal.SIGKILL)
            if also != "owner":
                entry.supervisor.kill()
        owner.wait()
    Estate.sweep()
    assert leftovers(name) == []
    assert entry.slot is not None
    assert not Path(f"/sys/class/net/{registry.bridge(entry.slot)}").exists()
    assert not folder.exists()


@pytest.mark.lab
def test_two_estates_live_side_by_side_and_one_name_only_once(estate: Estate, tmp_path: Path) -> None:
    with Estate(f"second-{ME}", [HostSpec("web1")], tmp_path / "second", updates=False) as second:
        assert second["web1"].address != estate["web1"].address
        assert ssh(second, second["web1"], "uname -n").stdout == "web1\n"
        assert ssh(estate, estate["web1"], "uname -n").stdout == "web1\n"
        astray = second["web1"].exec(["ip", "route", "get", estate["web1"].address], check=False)
        assert "unreachable" in astray.stderr
        with pytest.raises(LabError, match="is up already"):
            Estate(f"second-{ME}", [HostSpec("x")], tmp_path / "third").up()
    assert leftovers(f"second-{ME}") == []
    assert not (tmp_path / "second").exists()


@pytest.mark.lab
def test_a_detached_estate_is_taken_down_by_another_process(tmp_path: Path) -> None:
    def lab(*arguments: str) -> Done:
        argv = [sys.executable, "-m", "tests.lab", *arguments]
        return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)

    name = f"detached-{ME}"
    up = lab("up", name, "--hosts", "2", "--json", "--state-dir", str(tmp_path / "state"))
    assert up.returncode == 0, up.stderr
    Estate.sweep()
    assert name in lab("status").stdout
    attached = Estate.attach(name)
    assert ssh(attached, attached["web2"], "uname -n").stdout == "web2\n"
    assert lab("down", name).returncode == 0
    assert leftovers(name) == []
    again = lab("down", name)
    assert (again.returncode, again.stderr.count("\n")) == (1, 1)


@pytest.mark.lab
def test_a_fleet_comes_up_and_goes(tmp_path: Path) -> None:
    with Fleet(f"fleet-{ME}", 5, tmp_path / "one") as one, Fleet(f"other-{ME}", 2, tmp_path / "two") as two:
        assert one.port != two.port
        assert len({host.host_key_line.split()[2] for host in one}) == 5
        host = one.hosts[4]
        options = ["-F", "none", "-o", "BatchMode=yes", "-o", f"UserKnownHostsFile={one.known_hosts}"]
        argv = [
            "ssh",
            *options,
            "-i",
            str(one.client_key),
            "-p",
            str(host.port),
            host.address,
            "echo $LAB_HOST",
        ]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert (done.stdout, done.returncode) == ("host5\n", 0), done.stderr
    assert leftovers(f"fleet-{ME}") + leftovers(f"other-{ME}") == []
    assert not (tmp_path / "one").exists()
