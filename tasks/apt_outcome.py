"""What became of a change to packages: judged by what dpkg says afterwards, not by an exit code. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from lamplighter.model.canonical import Json
from lamplighter.model.outcome import Evidence, Outcome, StepResult
from lamplighter.model.plan import HostPlan, Step
from lamplighter.model.session import Completed
from tasks.apt_words import some
from tasks.debian_host import Packages, Simulation, complaint, lock_holder, lock_problem, packages
from tasks.kernels import Kernels, asks_for_reboot, kernels
from tasks.linux import Reading, Services, services

LAST_LINES = 15
HISTORY_LINES = 12
LINE = 300
DPKG_FAILED = "Sub-process /usr/bin/dpkg"
"""apt says so when dpkg was begun: from then on, scripts of packages may have done anything."""
UNCHANGED = "nothing was changed: every package is at its old version and configured"
AGAIN = "it was waited for in vain; nothing was changed; plan the host again when that is done"
MEND = "read /var/log/apt/term.log, mend what failed, then plan the host again with repair=true"


@dataclass(frozen=True, slots=True)
class State:
    """How a host stands: the reading of `apt_state.sh`; `old_code` names services that run replaced code."""

    boot_id: str
    kernels: Kernels
    lock: str
    packages: Packages
    audit: str
    asks: tuple[str, ...] | None
    services: Services
    history: tuple[str, ...]
    old_code: tuple[str, ...]


def state(reading: Reading) -> State:
    """Take the reading of `apt_state.sh` as values."""
    kernel, history = kernels(reading["kernels"].text), reading["history"]
    return State(
        reading["boot_id"].text.strip(), kernel, lock_holder(reading["lock"].text),
        packages(reading["packages"].text), audit(reading["audit"].text),
        asks_for_reboot(reading["reboot"], kernel), services(reading["services"].text),
        tuple(line[:LINE] for line in history.lines[:HISTORY_LINES]) if not history.code else (),
        tuple(dict.fromkeys(line.split()[0] for line in reading["old_code"].lines)),
    )


def audit(text: str) -> str:
    """What `dpkg --audit` says, its packages and first sentence, in one line; empty when it finds nothing."""
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    return " ".join(lines)[:LINE]


def surprises(step: Step, rehearsal: Simulation) -> tuple[str, ...]:
    """In what a rehearsal differs from an `apt.install` step, as sentences; empty when in nothing."""
    if rehearsal.error:
        return (f"apt cannot do what was planned any more: {rehearsal.error}",)
    planned = {**step.args["install"], **dict.fromkeys(step.args["remove"], "")}
    now = {one.name: one.new for one in (*rehearsal.install, *rehearsal.remove)}
    extra = [f"{name} {version}".strip() for name, version in now.items() if planned.get(name) != version]
    less = [name for name in planned if name not in now]
    return (
        *((f"apt would now also change {some(extra)}",) if extra else ()),
        *((f"apt would now leave out {some(less)}: somebody else changed the host",) if less else ()),
    )


def judge_upgrade(step: Step, done: Completed | None, now: State) -> Outcome:
    """Did the packages of an `apt.install` step become what was planned?

    Args:
        step: as approved.
        done: what the detached unit printed; None when it was killed or the host went down under it.
        now: the host afterwards.

    Returns:
        ok: every package is at its planned version and configured. refused: apt never called dpkg, for a
        lock or because the change is not possible. failed: some or none are. unknown: dpkg is still at work.
    """
    wrong, broken = _wrong(step, now), now.packages.broken
    moved = [name for name, version in step.args["install"].items()
             if now.packages.version(name) != step.args["from"].get(name, "")]
    moved += [name for name in step.args["remove"] if not now.packages.version(name)]
    ending = _ending(done)
    if not wrong and not broken and not now.packages.interrupted:
        count = len(step.args["install"]) + len(step.args["remove"])
        said = "" if ending == ENDED_WELL else f", although {ending}"
        many = "1 package is" if count == 1 else f"{count} packages are"
        return _outcome(StepResult.OK, f"{many} as planned{said}{still_old(now)}", step, done, now)
    if now.lock and done is None:
        said = f"{ending}, and {now.lock}: it may still be at work"
        return _outcome(StepResult.UNKNOWN, said, step, done, now)
    if done and not moved and not broken and DPKG_FAILED not in _said(done):
        locked = lock_problem(_said(done))
        said = f"{locked}; {AGAIN}" if locked else f"{ending}; {UNCHANGED}; plan the host again"
        return _outcome(StepResult.REFUSED, said, step, done, now)
    return _outcome(StepResult.FAILED, _failure(ending, wrong, moved, now), step, done, now)


def judge_repair(step: Step, done: Completed | None, now: State) -> Outcome:
    """Did `dpkg --configure -a` settle what was broken? Results as in `judge_upgrade`."""
    broken, ending = now.packages.broken, _ending(done)
    if not broken and not now.packages.interrupted:
        said = "" if ending == ENDED_WELL else f", although {ending}"
        return _outcome(StepResult.OK, f"dpkg has no unfinished packages any more{said}", step, done, now)
    if now.lock and done is None:
        said = f"{ending}, and {now.lock}: it may still be at work"
        return _outcome(StepResult.UNKNOWN, said, step, done, now)
    locked = lock_problem(_said(done))
    if locked:
        return _outcome(StepResult.REFUSED, f"{locked}; {AGAIN}", step, done, now)
    what = some(f"{name} is still {status}" for name, status in broken.items()) or "its journal is unfinished"
    return _outcome(StepResult.FAILED, f"{ending}: {what}; {MEND}", step, done, now)


def unhealthy(plan: HostPlan, now: State) -> tuple[str, ...]:
    """What is wrong on a host after its steps, as sentences; the site's own probes come on top."""
    problems: list[str] = []
    for step in plan.steps:
        if step.action == "apt.install":
            problems += _wrong(step, now)
    problems += [f"{name} is {status}: {MEND}" for name, status in now.packages.broken.items()]
    first = plan.steps[0].args if plan.steps else {}
    if now.audit not in ("", first.get("audit", "")) and not now.packages.broken:
        problems.append(f"dpkg --audit finds: {now.audit}")
    problems += now.services.worse_than(Services.from_json(first.get("baseline", {})))
    if now.kernels.newer and first.get("booted", now.boot_id) != now.boot_id:
        said = f"it rebooted into kernel {now.kernels.running} although {now.kernels.newer} is installed"
        problems.append(f"{said}: look at the boot loader's default")
    return tuple(problems)


def still_old(now: State) -> str:
    """A half-sentence for what runs code that was replaced under it; empty when nothing does."""
    return f"; still running the code they had before: {some(now.old_code)}" if now.old_code else ""


ENDED_WELL = "apt ended well"


def _said(done: Completed | None) -> str:
    return f"{done.stdout}\n{done.stderr}" if done else ""


def _ending(done: Completed | None) -> str:
    if done is None:
        return "the unit left no exit code (it was killed, or the host went down)"
    if done.exit_code == 0:
        return ENDED_WELL
    said = complaint(_said(done))
    return f"it ended with exit code {done.exit_code}" + (f" ({said[:LINE]})" if said else "")


def _wrong(step: Step, now: State) -> list[str]:
    """Sentences for packages that are not as the step plans them."""
    wrong = [
        f"{name} is at {now.packages.version(name) or 'no version'}, not at the planned {version}"
        for name, version in step.args["install"].items() if now.packages.version(name) != version
    ]
    return wrong + [f"{name} was to be removed" for name in step.args["remove"] if now.packages.version(name)]


def _failure(ending: str, wrong: list[str], moved: list[str], now: State) -> str:
    broken = now.packages.broken
    if not moved and not broken:
        return f"{ending}; {UNCHANGED}; plan the host again when the cause is mended"
    said = [ending]
    if broken:
        said.append(some(f"{name} is left {status}" for name, status in broken.items()))
    if wrong:
        said.append(some(wrong))
    done = [name for name in moved if name not in broken]
    if done:
        said.append(f"{some(done)} changed as planned" if not wrong else f"changed: {some(done)}")
    return "; ".join((*said, MEND if broken else "plan the host again for the rest"))


def _outcome(result: StepResult, summary: str, step: Step, done: Completed | None, now: State) -> Outcome:
    return Outcome(result, Evidence(summary, _data(step, done, now)))


def _data(step: Step, done: Completed | None, now: State) -> Mapping[str, Json]:
    """Proof in a few kilobytes; package maps are as long as the change."""
    text = _said(done).encode()
    concerned = sorted({name for key in ("install", "remove", "broken") for name in step.args.get(key, ())})
    return {
        "exit": done.exit_code if done else None,
        "seconds": round(done.seconds) if done else None,
        "output": {"sha256": hashlib.sha256(text).hexdigest(), "bytes": len(text),
                   "whole": not (done is None or done.truncated)},
        "last": [line[:LINE] for line in _said(done).splitlines() if line.strip()][-LAST_LINES:],
        "before": {**step.args.get("from", {}), **step.args.get("remove", {})},
        "after": {name: now.packages.version(name) for name in concerned},
        "broken": dict(now.packages.broken), "audit": now.audit, "held": list(now.packages.held),
        "history": list(now.history), "old_code": list(now.old_code)[:50],
        "asks_for_reboot": None if now.asks is None else list(now.asks),
    }
