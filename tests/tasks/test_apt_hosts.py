"""Patching on real hosts: each scenario has a host of its own, and they run side by side.

A scenario is an ordinary function; the test of its name waits for it and shows what it raised.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lamplighter.errors import (
    LamplighterError,
    RefusedError,
    RemoteFailedError,
    SudoRefusedError,
    UnusableError,
)
from lamplighter.model.canonical import canonical
from lamplighter.model.inventory import Host
from lamplighter.model.outcome import Evidence, Outcome, StepResult, Terminal
from lamplighter.model.plan import HostPlan, facts_digest
from lamplighter.model.session import Session
from lamplighter.transports.ssh import SshTransport
from tasks.apt import Patching
from tests.lab import Estate, HostSpec
from tests.lab import Host as LabHost

AT_ONCE = 4
ALL = Patching("all")
QUICK = {"lamplighter_settle_seconds": 1, "lamplighter_lock_seconds": 2, "lamplighter_min_free_mb_root": 1}


@dataclass
class Patient:
    """A host, and what an engine would do to it."""

    lab: LabHost
    estate: Estate
    transport: SshTransport
    operation: Patching = ALL
    held: Session | None = None

    def host(self, user: str = "ops", **variables: object) -> Host:
        return Host(self.lab.name, (), {
            "ansible_host": self.lab.address, "ansible_user": user,
            "ansible_ssh_private_key_file": str(self.estate.client_key), **QUICK, **variables})

    def session(self) -> Session:
        """The session an engine would hold for the whole of the host's plan."""
        self.held = self.held or self.transport.connect(self.host())
        return self.held

    def reconnect(self) -> None:
        self.held = None

    def plan(self, operation: Patching | None = None, **variables: object) -> HostPlan:
        self.operation = operation or self.operation
        host = self.host(**variables)
        return self.operation.plan(host, self.operation.survey(host, self.session()))

    def apply(self, plan: HostPlan, step: str, **variables: object) -> Evidence:
        return self.operation.apply(
            self.host(**variables), plan.step(step), self.session(), self.unit(plan, step))

    def probe(self, plan: HostPlan, step: str) -> Outcome | None:
        return self.operation.probe(self.host(), plan.step(step), self.session(), self.unit(plan, step))

    def begin(self, plan: HostPlan, step: str) -> "Future[Evidence]":
        """Apply in another thread, and return when dpkg is at the slow package's script."""
        running: Future[Evidence] = Future()

        def work() -> None:
            try:
                session = self.transport.connect(self.host())
                unit = self.unit(plan, step)
                running.set_result(self.operation.apply(self.host(), plan.step(step), session, unit))
            except LamplighterError as error:
                running.set_exception(error)

        threading.Thread(target=work, daemon=True).start()
        self.until("pgrep -f '[l]ab-slow.postinst configure'")  # a reading names the file, too
        return running

    def until(self, command: str, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while self.lab.exec(command, check=False).returncode:
            assert time.monotonic() < deadline, f"{command} never came true"
            time.sleep(0.1)

    def healthy(self, plan: HostPlan, **variables: object) -> tuple[str, ...]:
        return self.operation.verify(self.host(**variables), plan, self.session()).problems

    def version(self, package: str) -> str:
        return self.lab.exec(["dpkg-query", "-W", "-f=${Version}", package]).stdout

    def slow_down(self, seconds: int) -> None:
        self.lab.write("/etc/lab-slow-seconds", f"{seconds}\n")

    def hook(self, event: str, script: str) -> None:
        """Have apt run something of ours on an event."""
        place = f"/usr/local/sbin/hook-{event.replace(':', '-').lower()}"
        self.lab.write(place, f"#!/bin/sh\n{script}\n", "755")
        self.lab.write(f"/etc/apt/apt.conf.d/99{event.replace(':', '-')}", f'{event} {{ "{place}"; }};\n')

    def unhook(self) -> None:
        self.lab.exec("rm -f /etc/apt/apt.conf.d/99*")

    def unit(self, plan: HostPlan, step: str) -> str:
        return f"test-{plan.facts[-12:]}-{step}"


Scenario = Callable[[Patient], None]
SCENARIOS: dict[str, tuple[HostSpec, Scenario]] = {}


def scenario(**spec: Any) -> Callable[[Scenario], Scenario]:
    """Register a function as a scenario, on a host of its own."""

    def register(function: Scenario) -> Scenario:
        name = function.__name__.replace("_", "-")
        SCENARIOS[name] = (HostSpec(f"h{len(SCENARIOS)}", boot_seconds=0.5, **spec), function)
        return function

    return register


@scenario()
def everything_is_upgraded_and_proven(at: Patient) -> None:
    at.lab.exec("apt-mark auto lab-web")
    at.lab.write("/etc/lab-conf/lab-conf.conf", "setting = ours\n")
    plan = at.plan()
    assert [step.id for step in plan.steps] == ["upgrade", "reboot"]
    assert plan.step("upgrade").args["security"] == ["lab-kernel", "lab-web"]
    assert "on hold although an update waits, left alone: lab-held" in plan.notes
    assert "changed here, so kept as they are: /etc/lab-conf/lab-conf.conf" in plan.notes
    assert facts_digest(at.operation.survey(at.host(), at.session())) == plan.facts
    evidence = at.apply(plan, "upgrade")
    assert set(evidence.data["after"].values()) == {"1.1"}
    assert evidence.data["exit"] == 0
    assert evidence.data["history"]
    assert evidence.data["asks_for_reboot"] == ["lab-kernel"]
    assert len(canonical(evidence.data)) < 6000
    before = at.lab.boot_id()
    assert at.apply(plan, "reboot").data["boot_id_before"] == before
    assert at.lab.boot_id() != before
    assert at.healthy(plan, lamplighter_probes=["test -e /usr/share/lab-web/version"]) == ()
    assert at.version("lab-held") == "1.0"
    assert at.lab.read("/etc/lab-conf/lab-conf.conf") == "setting = ours\n"
    assert at.lab.exec("apt-mark showauto lab-web lab-lib").stdout.split() == ["lab-web"]
    again = at.plan()
    assert again.end is Terminal.UNCHANGED
    assert again.reason.startswith("already up to date; 1")
    told = at.probe(plan, "upgrade")
    assert (told.result, told.evidence.data["output"]) == (StepResult.OK, evidence.data["output"])
    assert at.probe(plan, "reboot").result is StepResult.OK


@scenario(systemd=True)
def where_systemd_is_it_runs_apt_and_reboots_and_knows_the_services(at: Patient) -> None:
    at.hook("DPkg::Post-Invoke", "cat /proc/self/cgroup >/run/apt-ran-in")
    plan = at.plan()
    at.apply(plan, "upgrade")
    assert "/system.slice/lamplighter-test-" in at.lab.read("/run/apt-ran-in")
    at.unhook()
    before = at.lab.boot_id()
    assert at.apply(plan, "reboot").data["boot_id_before"] == before
    assert at.lab.boot_id() != before
    at.until("systemctl is-active --quiet multi-user.target")
    assert at.healthy(plan) == ()
    at.lab.exec("systemctl stop cron")
    assert at.healthy(plan) == ("cron.service ran before and does not run now",)


@scenario()
def security_alone_and_no_python(at: Patient) -> None:
    at.lab.exec("rm -f /usr/bin/python3*")
    plan = at.plan(Patching("security"))
    assert plan.step("upgrade").args["install"] == {"lab-kernel": "1.1", "lab-web": "1.1"}
    assert at.probe(plan, "upgrade") is None
    at.apply(plan, "upgrade")
    assert (at.version("lab-web"), at.version("lab-lib")) == ("1.1", "1.0")
    at.lab.exec("rm /run/reboot-required /run/reboot-required.pkgs")
    assert at.apply(plan, "reboot").summary == "no reboot: the host does not ask for one"
    at.lab.exec("/etc/init.d/lab-service stop")
    problems = at.healthy(plan, lamplighter_probes=[{"run": "echo no >&2; exit 3", "within": 0}])
    assert problems == (
        "lab-service ran before and does not run now",
        "the probe `echo no >&2; exit 3` ended with exit code 3: no")
    reason = at.plan(Patching("security")).reason
    assert reason.startswith("no security updates are waiting")
    assert "3 other updates outside security" in reason


@scenario(packages=("lab-broken",))
def a_failing_postinst_is_named_and_repaired(at: Patient) -> None:
    plan = at.plan()
    with pytest.raises(RemoteFailedError, match="lab-broken is left half-configured") as caught:
        at.apply(plan, "upgrade")
    assert caught.value.data["after"]["lab-web"] == "1.1"
    assert caught.value.data["broken"] == {"lab-broken": "half-configured"}
    assert any("cannot migrate the database" in line for line in caught.value.data["last"])
    assert any("lab-broken is half-configured" in problem for problem in at.healthy(plan))
    assert at.probe(plan, "upgrade").result is StepResult.FAILED
    refused = at.plan()
    assert refused.end is Terminal.REFUSED
    assert "plan again with repair=true" in refused.reason
    repair = at.plan(Patching("all", "never", repair=True))
    assert [step.id for step in repair.steps] == ["repair"]
    with pytest.raises(RemoteFailedError, match="lab-broken is still half-configured"):
        at.apply(repair, "repair")
    at.lab.write("/etc/lab-broken-mended", "")
    repair = at.plan(Patching("all", "never", repair=True), lamplighter_lock_seconds=1)
    evidence = at.operation.apply(at.host(), repair.step("repair"), at.session(), "test-second-repair")
    assert evidence.summary == "dpkg has no unfinished packages any more"
    assert at.healthy(repair) == ()


@scenario()
def a_held_lock_is_waited_for_and_refused(at: Patient) -> None:
    plan = at.plan()
    at.lab.hold_dpkg_lock(60)
    locked = at.plan()
    assert locked.end is Terminal.REFUSED
    assert locked.reason.startswith("dpkg's lock is held by python3 (process ")
    with pytest.raises(RefusedError, match=r"lock is held by python3 \(process \d+\).*nothing was changed"):
        at.apply(plan, "upgrade")
    at.lab.release_dpkg_lock()
    assert at.version("lab-web") == "1.0"


@scenario(repo="moving")
def a_version_that_vanished_is_refused(at: Patient) -> None:
    at.estate._repos["moving"].publish("1.1")
    plan = at.plan()
    at.estate._repos["moving"].withdraw("lab-lib", "1.1")
    with pytest.raises(RefusedError, match=r"cannot be downloaded: .*[Nn]othing was changed"):
        at.apply(plan, "upgrade")
    assert facts_digest(at.operation.survey(at.host(), at.session())) != plan.facts
    with pytest.raises(RefusedError, match=r"Version '1\.1' for 'lab-lib' was not found"):
        at.apply(plan, "upgrade")
    assert at.version("lab-web") == "1.0"


@scenario()
def somebody_else_was_there_in_between(at: Patient) -> None:
    plan = at.plan()
    at.lab.exec("apt-get -y install lab-web")
    assert facts_digest(at.operation.survey(at.host(), at.session())) != plan.facts
    with pytest.raises(RefusedError, match="would now leave out lab-web: somebody else changed the host"):
        at.apply(plan, "upgrade")
    plan = at.plan()
    at.apply(plan, "upgrade")
    before = at.lab.boot_id()
    at.lab.exec("reboot", check=False)
    at.lab.wait_reboot(before)
    rebooted = at.lab.boot_id()
    assert at.apply(plan, "reboot").summary.startswith("rebooted by somebody else")
    at.lab.write("/run/reboot-required", "")
    with pytest.raises(RefusedError, match="was rebooted by somebody else"):
        at.apply(plan, "reboot")
    assert at.lab.boot_id() == rebooted


@scenario()
def a_full_disk_is_refused_before_and_told_after(at: Patient) -> None:
    plan = at.plan()
    at.lab.fill_disk(leave_kb=300)
    with pytest.raises(RefusedError, match=r"/ has 300 kB free and needs .*nothing was changed"):
        at.apply(plan, "upgrade")
    at.lab.free_disk()
    at.hook("DPkg::Pre-Invoke", "cat /dev/zero >/var/lib/lab-filler 2>/dev/null || true")
    with pytest.raises(LamplighterError) as caught:
        at.apply(plan, "upgrade")
    told = at.probe(plan, "upgrade")
    at.lab.free_disk()
    at.unhook()
    assert told.result is StepResult.FAILED, (caught.value, told)
    assert at.version("lab-web") == "1.0"


@scenario(packages=("lab-slow",))
def a_dropped_connection_changes_nothing(at: Patient) -> None:
    at.slow_down(2)
    plan = at.plan()
    running = at.begin(plan, "upgrade")
    at.lab.kill_sessions()
    try:
        summary = running.result(60).summary
    except LamplighterError:  # the engine then probes
        summary = at.probe(plan, "upgrade").evidence.summary
    assert summary == "6 packages are as planned"
    assert at.lab.exec("grep -c 'install --no-remove' /var/log/apt/history.log").stdout == "1\n"


@scenario(packages=("lab-slow",))
def another_worker_takes_up_a_running_unit(at: Patient) -> None:
    at.slow_down(2)
    plan = at.plan()
    at.begin(plan, "upgrade")
    with SshTransport(at.estate.known_hosts) as other:
        outcome = at.operation.probe(
            at.host(), plan.step("upgrade"), other.connect(at.host()), at.unit(plan, "upgrade"))
    assert outcome.result is StepResult.OK
    assert at.version("lab-slow") == "1.1"


@scenario(packages=("lab-slow",))
def a_killed_dpkg_is_named_and_repaired(at: Patient) -> None:
    at.slow_down(30)
    plan = at.plan()
    running = at.begin(plan, "upgrade")
    at.lab.exec("pkill -9 -x dpkg; pkill -9 -f [l]ab-slow.postinst; pkill -9 -x sleep", check=False)
    with pytest.raises(RemoteFailedError, match="lab-slow is left half-configured"):
        running.result(60)
    at.slow_down(0)
    assert "dpkg was interrupted: lab-slow is half-configured" in at.plan().reason
    repair = at.plan(Patching("all", "never", repair=True))
    assert repair.steps[0].id == "repair"
    at.apply(repair, "repair")
    assert at.healthy(repair) == ()


@scenario(packages=("lab-slow",))
def a_power_cut_is_told_from_what_dpkg_kept(at: Patient) -> None:
    at.slow_down(30)
    plan = at.plan()
    running = at.begin(plan, "upgrade")
    at.lab.power_off()
    at.lab.power_on()
    with pytest.raises(LamplighterError):
        running.result(90)
    outcome = at.probe(plan, "upgrade")
    assert outcome.result is StepResult.FAILED
    assert "lab-slow is left half-configured" in outcome.evidence.summary
    assert outcome.evidence.data["exit"] is None


@scenario()
def hosts_that_cannot_be_patched(at: Patient) -> None:
    with pytest.raises(SudoRefusedError):
        at.operation.survey(at.host("nosudo"), at.transport.connect(at.host("nosudo")))
    sources = at.lab.read("/etc/apt/sources.list.d/lab.sources")
    at.lab.write("/etc/apt/sources.list.d/lab.sources", sources.replace("lab-repo/main", "lab-repo/gone"))
    plan = at.plan()  # an ill archive does not stop what healthy ones have
    assert plan.step("upgrade").args["install"] == {"lab-kernel": "1.1", "lab-web": "1.1"}
    assert any("lab-repo/gone" in note and "does not offer this release" in note for note in plan.notes)
    at.lab.write("/etc/apt/sources.list.d/lab.sources", sources.replace("lab-repo/security", "lab-repo/gone"))
    refused = at.plan()
    assert refused.end is Terminal.REFUSED
    assert "the security archive copy:/srv/lab-repo/gone" in refused.reason
    at.lab.write("/etc/apt/sources.list.d/lab.sources", sources)
    at.hook("APT::Update::Pre-Invoke", "head -c 100000000 /dev/zero | tr '\\0' x")
    with pytest.raises(UnusableError, match="printed more than"):
        at.plan()
    at.unhook()
    at.lab.exec("rm -f /etc/os-release; echo 'ID=rocky\nPRETTY_NAME=\"Rocky Linux 9\"' >/etc/os-release")
    with pytest.raises(UnusableError, match="not a Debian family host: Rocky Linux 9"):
        at.plan()


@scenario()
def hostile_output_is_cut_and_cleaned(at: Patient) -> None:
    at.hook("DPkg::Pre-Invoke", "head -c 30000000 /dev/zero | tr '\\0' x")
    at.hook("DPkg::Post-Invoke", r"printf '\033]0;owned\007\033[2Jbad \377 bytes\n'; false")
    plan = at.plan()
    evidence = at.apply(plan, "upgrade")
    assert "although it ended with exit code 100" in evidence.summary
    assert evidence.data["output"]["whole"] is False
    assert any(line == "bad � bytes" for line in evidence.data["last"])
    assert len(canonical(evidence.data)) < 8192


@scenario()
def a_host_that_does_not_reboot(at: Patient) -> None:
    at.lab.write("/run/reboot-required", "")
    at.lab.write("/usr/local/sbin/shutdown", "#!/bin/sh\nexit 0\n", "755")
    plan = at.plan(Patching("security"))
    assert plan.step("reboot").summary == "reboot (asked for by the host)"
    with pytest.raises(RemoteFailedError, match="never went down within 1 s, and still runs the same boot"):
        at.apply(plan, "reboot", lamplighter_reboot_seconds=1)
    assert at.operation.probe(
        at.host(lamplighter_reboot_seconds=1), plan.step("reboot"), at.session(), at.unit(plan, "reboot")
    ).result is StepResult.FAILED


SITE_REPO = r"""
set -e
deb() { # NAME VERSION [FIELD]
    mkdir -p "/srv/site/$1-$2/DEBIAN"
    printf 'Package: %s\nVersion: %s\nArchitecture: all\nMaintainer: x <x@example.test>\nDescription: x\n' \
        "$1" "$2" >"/srv/site/$1-$2/DEBIAN/control"
    shift 2
    for field in "$@"; do echo "$field" >>"/srv/site/$name-$version/DEBIAN/control"; done
}
make() {
    name=$1 version=$2
    deb "$@"
    dpkg-deb -b "/srv/site/$name-$version" "/srv/site/${name}_${version}_all.deb" >/dev/null
}
make site-app 1.0
make site-old 1.0
dpkg -i /srv/site/*.deb >/dev/null
make site-app 1.1 'Depends: site-new' 'Conflicts: site-old'
make site-new 2.0
cd /srv/site && apt-ftparchive packages . >Packages
echo 'deb [trusted=yes] copy:/srv/site ./' >/etc/apt/sources.list.d/site.list
"""


@scenario()
def removals_and_new_packages_are_carried_out_as_shown(at: Patient) -> None:
    at.lab.exec(SITE_REPO)
    plan = at.plan(Patching("all", "never"))
    args = plan.step("upgrade").args
    assert (args["new"], args["remove"]) == (["site-new"], {"site-old": "1.0"})
    assert plan.notes[0] == "REMOVES: site-old 1.0"
    assert "1 new, REMOVE 1" in plan.step("upgrade").summary
    at.apply(plan, "upgrade")
    assert at.healthy(plan) == ()
    assert (at.version("site-app"), at.version("site-new")) == ("1.1", "2.0")
    assert at.lab.exec(["apt-mark", "showauto"]).stdout == "site-new\n"
    assert at.version("site-old") == ""


@pytest.fixture(scope="module")
def results(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[dict[str, "Future[None]"]]:
    """All scenarios that were selected, running side by side."""
    items = request.session.items
    chosen = [item.callspec.params["name"] for item in items if item.name.startswith("test_on_a_real_host[")]
    folder: Path = tmp_path_factory.mktemp("apt") / "estate"
    with (
        Estate(f"apt-{os.getpid()}", [SCENARIOS[name][0] for name in chosen], folder) as estate,
        SshTransport(estate.known_hosts) as transport,
        ThreadPoolExecutor(AT_ONCE) as pool,
    ):
        running = {}
        for name in chosen:
            spec, work = SCENARIOS[name]
            running[name] = pool.submit(work, Patient(estate[spec.name], estate, transport))
        yield running


@pytest.mark.lab
@pytest.mark.parametrize("name", SCENARIOS)
def test_on_a_real_host(name: str, results: dict[str, "Future[None]"]) -> None:
    results[name].result(240)
