"""Rules that hold for any text a host may print, and any plan made of it."""

import dataclasses
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamplighter.errors import UnusableError
from lamplighter.model.canonical import canonical
from lamplighter.model.inventory import Host
from lamplighter.model.outcome import Terminal
from lamplighter.model.plan import facts_digest
from lamplighter.model.session import Completed
from tasks import apt_archives, apt_ground, apt_offers, apt_outcome, apt_plan, apt_view, kernels, linux
from tasks import debian_host as debian
from tasks.apt import Patching, read_facts
from tasks.apt_archives import Archive
from tasks.apt_facts import AptFacts
from tasks.apt_view import View
from tasks.debian_host import Change, Package, Packages, Release, Simulation

NAMES = st.from_regex(r"[a-z0-9][a-z0-9+.-]{1,12}(:i386)?", fullmatch=True)
VERSIONS = st.from_regex(r"([0-9]:)?[0-9][A-Za-z0-9.+~-]{0,12}", fullmatch=True)
CHANGES = st.builds(
    Change, NAMES, st.one_of(st.just(""), VERSIONS), VERSIONS,
    st.sampled_from([(), ("Debian:12/stable",), ("Debian-Security:12/stable-security",)]))
SIMULATIONS = st.lists(CHANGES, max_size=8, unique_by=lambda one: one.name).map(
    lambda changes: Simulation(install=tuple(sorted(changes))))
PRINTED = st.one_of(st.text(), st.lists(st.sampled_from([
    "Inst a [1] (2 X:1/y-security [all])", "Inst a (2)", "Remv a", "Remv a [1]",
    "E: bad", "W: Failed to fetch x",
    "The following packages have been kept back:", "  a b", "Need to get 1 MB of archives.", "native amd64",
    "ii \ta\tall\t1.0", "interrupted", "kb / d 1 2 3 4% /", "inodes / d x - 3 4% /", "readonly /",
    "systemd", "sysv",
    "archive 'http://a/dists/b/InRelease'", " 0 x main/binary-amd64/Packages",
    "list 'http://a/dists/b/main/binary-amd64/Packages' absent", "Date: x",
    "Err:1 http://a b InRelease", "  403", "P a 2", "S 1 500 http://a b/main amd64 Packages", "V 2 500 - 1,",
    "V *1 500 x", "mount a / overlay upperdir=/x", "override group x /y", "boot 1 /boot/initrd",
    'ours A::B "1";', 'host A::B "0";', "pinned /f 7.1-2-amd64",
    "Id=a.service", "ActiveState=failed", "", "12 apt", "wanted 1 /a", "actual 2 /a", "7.1-2-amd64",
]), max_size=12).map("\n".join))


@given(PRINTED, st.integers(0, 255))
def test_no_output_breaks_a_reader(text: str, code: int) -> None:
    debian.simulation(code, text)
    view = apt_view.view(
        apt_archives.archives(text, text), code, text, release=debian.release(text), now=0.0)
    list(view.problems())
    apt_offers.waiting(apt_offers.offers(text), view, (), "all")
    apt_offers.kernels_without_meta(text)
    ground = apt_ground.ground(text, text, text)
    list(apt_ground.problems(ground))
    list(apt_ground.notes(ground, ["a"]))
    debian.sizes(text)
    debian.lock_problem(text)
    debian.release(text)
    debian.end_of_life(text, date(2026, 1, 1))
    debian.packages(text)
    debian.conffiles(text)
    _ = kernels.kernels(text).newer
    linux.spaces(text)
    linux.services(text)
    reading = linux.Reading({name: linux.Part(code, text) for name in (
        "boot_id", "kernels", "packages", "audit", "services", "history", "old_code", "reboot", "lock")})
    apt_outcome.state(reading)


@given(st.dictionaries(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), st.text(alphabet="ab\n-", max_size=30)))
def test_parts_come_back_as_they_were_printed(printed: dict[str, str]) -> None:
    text = "".join(
        f"\n--m4rk begin {name}\n{body}\n--m4rk said {name}\nE: x\n--m4rk end {name} 3\n"
        for name, body in printed.items())
    assert linux.parts(text, "m4rk") == {
        name: linux.Part(3, body.strip("\n"), "E: x") for name, body in printed.items()}


def test_a_host_cannot_forge_a_part_without_the_mark() -> None:
    text = "--m4rk begin os\n--other begin lock\nx\n--other end lock 0\n--m4rk said os\n\n--m4rk end os 0\n"
    assert set(linux.parts(text, "m4rk")) == {"os"}


def test_a_part_that_broke_off_is_left_out() -> None:
    whole = "--m begin a\nx\n--m said a\n\n--m end a 0\n"
    assert linux.parts(whole, "m") == {"a": linux.Part(0, "x")}
    assert linux.parts(f"{whole}--m begin b\nx", "m") == {}, "half a reading is none"


@given(st.floats(-1e5, 1e5), st.floats(0, 100), st.floats(0, 1), st.floats(0, 1))
def test_clock_offset_never_claims_more_than_is_known(ahead: float, took: float, a: float, b: float) -> None:
    first, last = sorted((a * took, b * took))
    found = linux.clock_offset(0.0, took, first + ahead, last + ahead)
    assert abs(found) <= abs(ahead) + 1e-6
    assert abs(found - ahead) <= took + 1e-6
    assert found == 0 or (found > 0) == (ahead > 0)


@given(SIMULATIONS)
def test_what_is_planned_is_what_is_installed(rehearsal: Simulation) -> None:
    args = apt_plan.upgrade_arguments(rehearsal.install, ())
    words = apt_plan.install_arguments(args)
    options = {word for word in words if word.startswith("--")}
    assert options == {"--no-remove"} | (set() if args["new"] else {"--only-upgrade"})
    assert sorted(set(words) - options) == sorted(f"{one.name}={one.new}" for one in rehearsal.install)
    step = dataclasses.replace(apt_plan.Step("upgrade", "apt.install", "x", args))
    assert apt_outcome.surprises(step, rehearsal) == ()
    if rehearsal.install:
        assert apt_outcome.surprises(step, dataclasses.replace(rehearsal, install=rehearsal.install[1:]))


@given(SIMULATIONS, st.integers(), st.integers())
def test_facts_drift_by_what_matters_only(rehearsal: Simulation, uptime: int, size: int) -> None:
    facts = facts_of(rehearsal)
    later = dataclasses.replace(
        facts, uptime=uptime, age=size, download_kb=size, clock=3.0, lock="apt (process 3)")
    assert facts_digest(later) == facts_digest(facts)
    assert facts_digest(dataclasses.replace(facts, boot_id="another")) != facts_digest(facts)
    assert facts_digest(dataclasses.replace(facts, asks=())) != facts_digest(facts)


@given(SIMULATIONS, st.booleans(), st.sampled_from(["when-needed", "never"]))
def test_a_plan_has_steps_or_a_reason(rehearsal: Simulation, asks: bool, reboot: str) -> None:
    facts = dataclasses.replace(facts_of(rehearsal), asks=() if asks else None)
    plan = apt_plan.plan(Host("h1"), facts, reboot=reboot, repair=False)
    canonical([dict(step.args) for step in plan.steps])
    if rehearsal.install:
        assert plan.steps[0].id == "upgrade"
    assert not plan.steps or (plan.steps[-1].id == "reboot") == (reboot != "never")
    assert all("\n" not in step.summary for step in plan.steps)


def test_what_an_ill_archive_offers_is_left_out_and_so_is_what_would_be_removed_for_it() -> None:
    ill = Archive("http://v/dists/x/", "http://v", "x", "V", "Vendor", "x", "x", date=1.0, ill="401")
    facts = facts_of(Simulation())
    change = Change("a", "1", "2", ("Debian-Security:12/stable-security",))
    wanted = Simulation((change, Change("v", "1", "2", ("Vendor:x",))), (Change("b", "1", ""),))
    facts = dataclasses.replace(
        facts, wanted=wanted, view=dataclasses.replace(facts.view, archives=(*facts.view.archives, ill)))
    assert apt_plan.asked(facts) == ("--no-remove", "--only-upgrade", "a=2")
    well = dataclasses.replace(facts, view=dataclasses.replace(facts.view, archives=facts.view.archives[:1]))
    assert apt_plan.asked(well) == ("--only-upgrade", "a=2", "v=2", "b-")


def facts_of(rehearsal: Simulation) -> AptFacts:
    packages = Packages({"bash": Package("5.2", "installed")}, native="amd64")
    release = Release("debian", "12", "Debian 12", "bookworm", debian_family=True)
    security = Archive(
        "http://a/dists/bookworm-security/", "http://a", "bookworm-security", "Debian", "Debian-Security",
        "stable-security", "bookworm-security", "12", 1.0, signed=True)
    view = View((security,), release, now=2.0)
    return AptFacts("all", release, "boot", packages, view=view, wanted=rehearsal, rehearsal=rehearsal)


@pytest.mark.parametrize("system", ["ID=rocky\nPRETTY_NAME='Rocky Linux 9'", "", "ID=alpine"])
def test_other_systems_are_named_and_left_alone(system: str) -> None:
    with pytest.raises(UnusableError, match="not a Debian family host"):
        read_facts(Host("h1"), "all", linux.Reading({"os": linux.Part(0, system)}), 0, 1)


def test_a_debian_without_apt_is_left_alone() -> None:
    reading = linux.Reading({"os": linux.Part(0, "ID=debian"), "missing": linux.Part(0, "apt-get")})
    with pytest.raises(UnusableError, match="it has no apt-get"):
        read_facts(Host("h1"), "all", reading, 0, 1)


def test_an_answer_that_breaks_off_is_no_answer() -> None:
    reading = linux.Reading({
        "os": linux.Part(0, "ID=debian"), "boot_id": linux.Part(0, "x"), "apt": linux.Part(0, "apt 2.6.1")})
    with pytest.raises(UnusableError, match="breaks off before packages"):
        read_facts(Host("h1"), "all", reading, 0, 1)


def test_a_clock_that_is_no_number_is_no_answer() -> None:
    names = ("boot_id", "packages", "simulation", "archives", "offers", "refreshed", "clock_end", "clock")
    words = {"os": "ID=debian", "apt": "apt 2.6.1 (amd64)", **dict.fromkeys(names, "soon")}
    reading = linux.Reading({name: linux.Part(0, text) for name, text in words.items()})
    with pytest.raises(UnusableError, match="no time"):
        read_facts(Host("h1"), "all", reading, 0, 1)


def test_own_probes_in_every_spelling() -> None:
    host = Host("h1", (), {"lamplighter_probes": [
        "curl -fsS http://localhost/", ["test", "-e", "/a b"], {"run": "true", "timeout": 3, "within": 0}]})
    assert [probe.run for probe in linux.own_probes(host)] == [
        "curl -fsS http://localhost/", "test -e '/a b'", "true"]
    assert linux.own_probes(host)[2] == linux.Probe("true", 3.0, 0.0)


@pytest.mark.parametrize("entry", [7, "", {"run": ""}, {"command": "x"}, {"run": "x", "timeout": "soon"}, []])
def test_a_probe_that_is_none_is_a_mistake(entry: object) -> None:
    with pytest.raises(UnusableError, match="no probe"):
        linux.own_probes(Host("h1", (), {"lamplighter_probes": [entry]}))


def test_options_are_what_the_operator_chose() -> None:
    assert Patching().options() == {"packages": "security", "reboot": "when-needed", "repair": False}


def test_services_that_stopped_or_failed_are_named() -> None:
    before = linux.Services(("a.service", "b.service", "c.service"), ("old.service",))
    now = linux.Services(("a.service",), ("b.service", "old.service"))
    assert now.worse_than(before) == (
        "b.service failed: journalctl -u b.service", "c.service ran before and does not run now")


def test_a_wrong_kernel_after_the_reboot_is_found() -> None:
    facts = dataclasses.replace(facts_of(Simulation()), asks=())
    plan = apt_plan.plan(Host("h1"), facts, reboot="when-needed", repair=False)
    reading = linux.Reading({
        "boot_id": linux.Part(0, "another"), "packages": linux.Part(0, "native amd64\nii \tbash\tamd64\t5.2"),
        "kernels": linux.Part(0, "6.1.0-9-amd64\n6.1.0-9-amd64\n6.1.0-18-amd64")})
    problems = apt_outcome.unhealthy(plan, apt_outcome.state(reading))
    said = "it rebooted into kernel 6.1.0-9-amd64 although 6.1.0-18-amd64 is installed"
    assert problems == (f"{said}: look at the boot loader's default",)


def test_a_dead_release_is_never_green() -> None:
    facts = dataclasses.replace(facts_of(Simulation()), support=f"{debian.END_OF_LIFE} buster (10)")
    assert apt_plan.plan(Host("h1"), facts, reboot="never", repair=False).end is Terminal.REFUSED


@pytest.mark.parametrize(("codename", "said"), [
    ("buster", "END OF LIFE"), ("bookworm", "long-term support"), ("focal", "Ubuntu Pro"), ("trixie", ""),
    ("nova", "not known"), ("", "not known"),
])
def test_a_host_without_distro_info_is_judged_all_the_same(codename: str, said: str) -> None:
    found = debian.end_of_life(debian.known_release(codename), date(2026, 11, 23))
    assert said in found
    assert bool(said) == bool(found)


def test_evidence_of_a_flood_stays_small() -> None:
    args = apt_plan.upgrade_arguments([Change("bash", "5.1", "5.2")], ())
    step = apt_plan.Step("upgrade", "apt.install", "x", args)
    reading = linux.Reading({
        "packages": linux.Part(0, "native amd64\nii \tbash\tamd64\t5.2"),
        "history": linux.Part(0, "h" * 10_000), "audit": linux.Part(0, "")})
    done = Completed(0, "z" * 1_000_000 + "\n" + "w" * 5000, "")
    outcome = apt_outcome.judge_upgrade(step, done, apt_outcome.state(reading))
    assert len(canonical(outcome.evidence.data)) < 8192
