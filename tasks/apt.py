"""Patching Debian-family hosts with apt: exact versions, planned, approved, installed, and proven.

Reads as facts, plan, commands: `apt_plan` decides, `apt_outcome` judges, `debian_host` and `linux` read what
hosts print, `tasks/shell/` holds what they are told to run. This file is the rim: it alone uses a session.

Advisory ids are not claimed: apt does not carry them, and a changelog is a download per package.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal

from lamplighter.errors import (
    LamplighterError,
    RefusedError,
    RemoteFailedError,
    SessionLostError,
    TimedOutError,
    UnitExistsError,
    UnusableError,
)
from lamplighter.model.canonical import JsonObject
from lamplighter.model.inventory import Host
from lamplighter.model.outcome import Evidence, Health, Outcome, StepResult
from lamplighter.model.plan import HostPlan, Step
from lamplighter.model.session import Completed, Session, UnitState
from tasks import (
    apt_archives,
    apt_ground,
    apt_offers,
    apt_outcome,
    apt_plan,
    apt_view,
    kernels,
    linux,
    reboot,
)
from tasks import debian_host as debian
from tasks.apt_facts import AptFacts

SURVEY_SECONDS = 600.0
PREPARE_SECONDS = 2400.0
STATE_SECONDS = 180.0
DEFAULT_PATCH_SECONDS = 3600
DEFAULT_LOCK_SECONDS = 300
NOTHING = "nothing was changed"
_MOMENT = re.compile(r"[0-9]{1,12}(\.[0-9]{1,12})?")
LONGEST_SECONDS = 24 * 3600
SURVEY_LOCK_SECONDS = 20
DEFAULT_SETTLE_SECONDS = 30
OUTPUT_CAP = 1024 * 1024
MOST_ASKS = 40
"""How often apt is asked which of the fixes can be installed, when not all can."""


@dataclass(frozen=True, slots=True)
class Patching:
    """The operation of runbook patch-linux on Debian-family hosts.

    Host variables it reads, all optional:

    - `lamplighter_lock_seconds`: how long to wait for dpkg's lock, 300;
    - `lamplighter_patch_seconds`, `lamplighter_reboot_seconds`: deadlines of the steps, 3600 and 600;
    - `lamplighter_settle_seconds`: how long services may take to come back before they count as stopped, 30;
    - `lamplighter_probes`: commands that must succeed on a healthy host, see `tasks.linux.Probe`;
    - `lamplighter_min_free_mb_root`, `_boot`, `_var`, `_tmp`: what must stay free besides the change's need;
    - `lamplighter_security_archives`, `lamplighter_archive_days`: what counts as a security archive here
      beside the distribution's own, and how old its index may be, see `tasks.apt_archives`.

    Attributes:
        packages: only what security archives offer, with what that needs; or everything.
        reboot: when it is asked for or to be expected, or never.
        repair: finish what an interrupted dpkg left, before the upgrade.
    """

    packages: Literal["security", "all"] = "security"
    reboot: Literal["when-needed", "never"] = "when-needed"
    repair: bool = False

    def options(self) -> JsonObject:
        """What the operator chose, as it goes into the plan."""
        return {"packages": self.packages, "reboot": self.reboot, "repair": self.repair}

    def survey(self, host: Host, session: Session) -> AptFacts:
        """Read what the plan depends on, in one round trip, or two when there is something to install.

        Refreshes the package lists (`apt-get update`), which is the one thing it changes.

        Raises:
            UnusableError: not a Debian-family host, or its state cannot be read.
            RefusedError: nothing can be started on it that outlives the login.
            TransportError: the connection failed, or sudo was refused.
        """
        wait = min(_seconds(host, "lamplighter_lock_seconds", DEFAULT_LOCK_SECONDS), SURVEY_LOCK_SECONDS)
        linux.own_probes(host)  # a mistake in them is told before anything is changed
        sent = time.time()
        reading = linux.read(session, "apt_survey", self.packages, str(wait), timeout=SURVEY_SECONDS)
        facts = read_facts(host, self.packages, reading, sent, time.time())
        words = apt_plan.asked(facts)
        if words or facts.asks is not None:
            session.ready(sudo=True)  # what could not be begun is not brought before an approver
        if not words:
            return facts
        more = linux.read(session, "apt_rehearse", "rehearse", "0", *words, timeout=SURVEY_SECONDS)
        if self.packages == "security" and not apt_answers(more):
            facts = replace(facts, stuck=_stuck(session, words))
            words = apt_plan.asked(facts)
            if not words:
                return facts
            more = linux.read(session, "apt_rehearse", "rehearse", "0", *words, timeout=SURVEY_SECONDS)
        return with_rehearsal(facts, more)

    def plan(self, host: Host, facts: AptFacts) -> HostPlan:
        """Decide the steps `repair`, `upgrade`, `reboot`, or the reason for none. Pure."""
        return apt_plan.plan(host, facts, reboot=self.reboot, repair=self.repair)

    def apply(self, host: Host, step: Step, session: Session, unit: str) -> Evidence:
        """Carry one step out, packages in a detached unit that outlives the connection.

        Raises:
            RefusedError: nothing was changed: a lock, no room, a version that vanished, a host that moved on.
            RemoteFailedError: it was tried and failed; the message says what is left half-done.
            SessionLostError: it is not known how it ended; probe.
        """
        if step.action == "host.reboot":
            return reboot.reboot(step, session, unit, _boot_seconds(host))
        job = _job(host, step)
        auto = _prepare(host, step, session) if job.script == INSTALL else ()
        with contextlib.suppress(UnitExistsError):  # launched before a crash: attach to it
            session.launch(unit, linux.script(job.script), *job.arguments(auto), sudo=True)
        done = session.wait(unit, sudo=True, timeout=job.seconds, cap=OUTPUT_CAP)
        return _proof(host, job.judge(step, done, _state(session)))

    def probe(self, host: Host, step: Step, session: Session, unit: str) -> Outcome | None:
        """What became of a step; waits for its unit when that is still at work. None: it never began."""
        if step.action == "host.reboot":
            return reboot.probe_reboot(step, session, unit, _boot_seconds(host))
        job = _job(host, step)
        began = session.unit_state(unit, sudo=True)
        if began is UnitState.ABSENT:
            return None
        done: Completed | None = None
        try:
            if began is not UnitState.LOST:
                done = session.wait(unit, sudo=True, timeout=job.seconds, cap=OUTPUT_CAP)
        except TimedOutError:
            said = f"unit {unit} is still at work after {job.seconds:.0f} s"
            return Outcome(StepResult.UNKNOWN, Evidence(f"{said}: look at ps and /var/log/apt/term.log"))
        except SessionLostError:
            pass  # it was killed while we waited: dpkg's database tells what became of it
        return job.judge(step, done, _state(session))

    def verify(self, host: Host, plan: HostPlan, session: Session) -> Health:
        """Whether the planned versions are installed and configured, and nothing that ran has stopped."""
        settle = _seconds(host, "lamplighter_settle_seconds", DEFAULT_SETTLE_SECONDS)
        deadline = time.monotonic() + settle
        while True:
            now = _state(session)
            problems = apt_outcome.unhealthy(plan, now)
            if not problems or time.monotonic() >= deadline:
                break
            time.sleep(min(3.0, settle))
        probes = linux.own_probes(host)
        failing = tuple(filter(None, (linux.failing_probe(session, probe) for probe in probes)))
        data = {
            "boot_id": now.boot_id, "kernel": now.kernels.running, "services": now.services.as_json(),
            "probes": len(probes), "old_code": list(now.old_code)[:50],
            "asks_for_reboot": None if now.asks is None else list(now.asks),
        }
        found = (*problems, *failing)
        summary = f"{len(found)} problems" if found else f"healthy; {len(probes)} own probes passed"
        summary += apt_outcome.still_old(now)
        return Health(found, Evidence(summary, data))


# --- facts ----------------------------------------------------------------------------------------


def read_facts(
    host: Host, scope: str, reading: linux.Reading, sent: float, received: float
) -> AptFacts:
    """Take the reading of `apt_survey.sh` as facts. Pure.

    Args:
        host: with its variables.
        scope: `security` or `all`.
        reading: the parts.
        sent, received: the worker's clock around the reading, in seconds since the epoch.

    Raises:
        UnusableError: not a Debian-family host, its `apt-get` is not apt's, or the reading is not whole.
    """
    release = debian.release(reading["os"].text)
    _whole_answer(host.name, scope, release, reading)
    moments = ("clock", "refreshed", "clock_end")
    first, refreshed, last = (_clock(reading, name, host.name) for name in moments)
    kernel, held = kernels.kernels(reading["kernels"].text), debian.packages(reading["packages"].text)
    refresh = reading["refresh"]
    view = apt_view.view(
        apt_archives.archives(reading["archives"].text, reading["entries"].text), refresh.code, refresh.text,
        release=release, now=received, rules=apt_view.site_rules(host, release))
    waiting = apt_offers.waiting(apt_offers.offers(reading["offers"].text), view, held.held, scope)
    alone = apt_offers.kernels_without_meta(reading["kernel_packages"].text)
    if alone:
        waiting = replace(waiting, uncovered={**waiting.uncovered, apt_offers.NO_META: alone})
    wanted = debian.Simulation()
    if scope == "all" and not view.trouble:
        wanted = view.mark(debian.simulation(reading["simulation"].code, reading["simulation"].everything))
    return AptFacts(
        scope=scope, release=release, support=_support(reading["release"].text, release, view, received),
        boot_id=reading["boot_id"].text.strip(),
        uptime=linux.whole(reading["uptime"].text.partition(".")[0]),
        kernels=kernel, clock=linux.clock_offset(sent, received, first, last),
        lock=debian.lock_holder(reading["lock"].text),
        space=linux.spaces(reading["space"].text),
        packages=held,
        audit=apt_outcome.audit(reading["audit"].text),
        asks=kernels.asks_for_reboot(reading["reboot"], kernel),
        services=linux.services(reading["services"].text),
        age=max(0, int(last - refreshed)), view=view, waiting=waiting, wanted=wanted,
        ground=apt_ground.ground(
            reading["ground"].text, reading["decides"].text, reading["set_back"].text),
    )


def _whole_answer(where: str, scope: str, release: debian.Release, reading: linux.Reading) -> None:
    """Refuse an answer that is not a Debian host's, not apt's, or not whole."""
    if not release.debian_family or "missing" in reading:
        lacks = f" (it has no {reading['missing'].text.strip()})" if "missing" in reading else ""
        raise UnusableError(
            f"not a Debian family host: {release.name}{lacks}", where=where, changed=NOTHING,
            advice="take it out of the selection, or patch it with the runbook for its system",
        )
    needed = ["apt", "boot_id", "packages", "refreshed", "archives", "offers", "clock_end"]
    needed += ["simulation"] if scope == "all" else []
    judged = ("simulation", "archives", "offers")  # apt's words say why these failed
    absent = [name for name in needed if name not in reading or (name not in judged and reading[name].code)]
    if absent:
        raise UnusableError(
            f"its answer breaks off before {absent[0]}", where=where, changed=NOTHING,
            advice="run `apt-get -s dist-upgrade` there by hand and look",
        )
    if not re.match(r"apt \d+\.\d+", reading["apt"].text):
        raise UnusableError(
            f"its /usr/bin/apt-get is not apt's: it says {reading['apt'].text[:80]!r}", where=where,
            changed=NOTHING, advice="ask who put it there (dpkg -S /usr/bin/apt-get; dpkg-divert --list)",
        )


def _support(row: str, release: debian.Release, view: apt_view.View, now: float) -> str:
    """How far the release is supported, judged with the archives that are configured."""
    names = (release.codename, *release.bases)
    known = row.strip() or next(filter(None, map(debian.known_release, names)), "")
    said = debian.end_of_life(known, debian.day(now))
    beyond = ", ".join(dict.fromkeys(one.name for one in view.supported_beyond))
    if beyond and said.startswith(debian.END_OF_LIFE):
        return f"its release's own support has ended; extended support is configured: {beyond}"
    return said


def apt_answers(reading: linux.Reading) -> bool:
    """Whether apt can do what it was asked in a rehearsal."""
    return not debian.simulation(reading["rehearsal"].code, reading["rehearsal"].everything).error


def _stuck(session: Session, words: tuple[str, ...]) -> tuple[str, ...]:
    """Which fixes keep the others from being installed: halves are tried until single ones are left."""
    options = [word for word in words if word.startswith("--")]
    fits: list[str] = []
    stuck: list[str] = []
    waiting = [[word for word in words if not word.startswith("--")]]
    for _ in range(MOST_ASKS):
        if not waiting:
            break
        group = waiting.pop()
        asked = (*options, *fits, *group)
        if apt_answers(linux.read(session, "apt_rehearse", "ask", "0", *asked, timeout=SURVEY_SECONDS)):
            fits += group
        elif len(group) == 1:
            stuck += group
        else:
            waiting += [group[len(group) // 2:], group[: len(group) // 2]]
    stuck += [word for group in waiting for word in group]
    return tuple(sorted(word.partition("=")[0] for word in stuck))


def _clock(reading: linux.Reading, name: str, where: str) -> float:
    """A reading of the host's clock, in seconds since the epoch."""
    text = reading[name].text
    if not _MOMENT.fullmatch(text):
        said = f"its clock reads {text[:50]!r}, which is no time"
        raise UnusableError(said, where=where, changed=NOTHING, advice="run `date +%s.%N` there")
    return float(text)


def with_rehearsal(facts: AptFacts, reading: linux.Reading) -> AptFacts:
    """Add what `apt_rehearse.sh` found. Pure."""
    download_kb, disk_kb = debian.sizes(reading["sizes"].text)
    changed, deleted = debian.conffiles(reading["conffiles"].text)
    rehearsal = debian.simulation(reading["rehearsal"].code, reading["rehearsal"].everything)
    return replace(
        facts, rehearsal=facts.view.mark(rehearsal), download_kb=download_kb, disk_kb=disk_kb,
        conffiles=changed, deleted=deleted)


# --- changes --------------------------------------------------------------------------------------

INSTALL, CONFIGURE = "apt_install", "apt_configure"


@dataclass(frozen=True, slots=True)
class _Job:
    """A detached unit: its script, what it is told, how long it may take, and who judges it."""

    script: str
    lock_seconds: int
    told: tuple[str, ...]
    seconds: float
    judge: Callable[[Step, Completed | None, apt_outcome.State], Outcome]

    def arguments(self, auto: Iterable[str]) -> tuple[str, ...]:
        return (str(self.lock_seconds), " ".join(auto), *self.told)


def _job(host: Host, step: Step) -> _Job:
    lock = _seconds(host, "lamplighter_lock_seconds", DEFAULT_LOCK_SECONDS)
    seconds = float(_seconds(host, "lamplighter_patch_seconds", DEFAULT_PATCH_SECONDS))
    if step.action == "apt.install":
        told = apt_plan.install_arguments(step.args)
        return _Job(INSTALL, lock, told, seconds, apt_outcome.judge_upgrade)
    if step.action == "dpkg.configure":
        return _Job(CONFIGURE, lock, (), seconds, apt_outcome.judge_repair)
    raise RefusedError(f"no action {step.action} is known here", where=host.name, changed=NOTHING)


def _prepare(host: Host, step: Step, session: Session) -> tuple[str, ...]:
    """Rehearse the change, check the room it needs and download it; nothing is installed.

    Returns:
        Names of packages that are to stay marked as dependencies.

    Raises:
        RefusedError: the change is not exactly what was planned any more, or cannot be fetched.
    """
    told = apt_plan.install_arguments(step.args)
    lock = str(_seconds(host, "lamplighter_lock_seconds", DEFAULT_LOCK_SECONDS))
    reading = linux.read(session, "apt_rehearse", "download", lock, *told, timeout=PREPARE_SECONDS)
    rehearsal = debian.simulation(reading["rehearsal"].code, reading["rehearsal"].everything)
    download_kb, disk_kb = debian.sizes(reading["fetch"].text)
    problems = list(apt_outcome.surprises(step, rehearsal))
    if not problems:
        ground = apt_ground.ground(reading["ground"].text, reading["decides"].text, "")
        problems += apt_plan.space_problems(
            host, linux.spaces(reading["space"].text), rehearsal.install, download_kb, disk_kb, ground)
    if not problems and reading["fetch"].code:
        said = debian.complaint(reading["fetch"].everything) or f"exit code {reading['fetch'].code}"
        locked = debian.lock_problem(reading["fetch"].everything)
        problems.append(locked or f"the packages cannot be downloaded: {said}")
    if problems:
        raise RefusedError("; ".join(problems), where=host.name, changed=NOTHING,
                           advice="mend that, or plan the host again")
    auto = set(reading["auto"].text.split())
    return tuple(sorted(name for name in step.args["install"] if name in auto or name in step.args["new"]))


def _state(session: Session) -> apt_outcome.State:
    return apt_outcome.state(linux.read(session, "apt_state", timeout=STATE_SECONDS))


def _proof(host: Host, outcome: Outcome) -> Evidence:
    """The evidence of a step that went well, or the error for how it went."""
    if outcome.result is StepResult.OK:
        return outcome.evidence
    errors: dict[StepResult, type[LamplighterError]] = {
        StepResult.REFUSED: RefusedError, StepResult.FAILED: RemoteFailedError}
    error = errors.get(outcome.result, SessionLostError)(outcome.evidence.summary, where=host.name)
    error.data = outcome.evidence.data
    raise error


def _boot_seconds(host: Host) -> float:
    return _seconds(host, "lamplighter_reboot_seconds", reboot.BOOT_SECONDS)


def _seconds(host: Host, name: str, default: float) -> int:
    value = host.vars.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LONGEST_SECONDS:
        raise UnusableError(f"{name} is {str(value)[:50]!r}", where=host.name, changed=NOTHING,
                            advice=f"write a number of seconds up to {LONGEST_SECONDS}")
    return int(value)
