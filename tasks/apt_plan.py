"""From what an apt host says to what is to be done on it. Pure: facts in, steps, refusals and notes out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

from lamplighter.model.canonical import Json
from lamplighter.model.inventory import Host
from lamplighter.model.outcome import Terminal
from lamplighter.model.plan import HostPlan, Step
from tasks import apt_ground
from tasks.apt_facts import AptFacts
from tasks.apt_notes import notes as notes_of
from tasks.apt_words import count, some
from tasks.debian_host import END_OF_LIFE, Change, day
from tasks.linux import Space
from tasks.reboot import reboot_step

MOST_CLOCK_SECONDS = 30.0
REBOOTS = re.compile(r"(linux-image|[a-z]+-kernel)-|raspberrypi-kernel|(libc6|dbus|dbus-daemon|systemd)$")
"""Packages after whose upgrade a host runs old code until it is rebooted."""

LEAST_FREE_VARS = {
    "/": "lamplighter_min_free_mb_root", "/boot": "lamplighter_min_free_mb_boot",
    "/var": "lamplighter_min_free_mb_var", "/tmp": "lamplighter_min_free_mb_tmp",  # noqa: S108 - a path on the host
}


def asked(facts: AptFacts) -> tuple[str, ...]:
    """What `apt-get install` is asked for in the rehearsal; empty when nothing is to be done.

    Fixes are asked for by name and version, and apt adds what they need at the host's own pins. With scope
    `all` it is what apt would do of itself, without what only an archive offers that was not looked at.
    """
    if facts.view.trouble or facts.wanted.error:
        return ()
    if facts.scope == "security":
        words = (f"{name}={version}" for name, version in sorted(facts.waiting.fixes.items())
                 if name not in facts.stuck)
        return ("--no-remove", *words) if len(facts.stuck) < len(facts.waiting.fixes) else ()
    stale = {one.tag for one in facts.view.archives if one.ill}
    fresh = {one.tag for one in facts.view.archives if not one.ill}
    install = [one for one in facts.wanted.install if not (stale - fresh).intersection(one.sources)]
    whole = len(install) == len(facts.wanted.install)
    remove = facts.wanted.remove if whole else ()  # a removal may be for the sake of what is left out
    if not install and not remove:
        return ()
    return install_arguments(upgrade_arguments(install, remove))


def plan(host: Host, facts: AptFacts, *, reboot: str, repair: bool) -> HostPlan:
    """Decide the steps of one host, or the reason for none.

    Args:
        host: with its variables (`lamplighter_min_free_mb_*`).
        facts: of this host.
        reboot: `when-needed` or `never`.
        repair: whether an interrupted dpkg is to be repaired first.
    """
    notes = tuple(notes_of(facts, reboot))
    problems = tuple(_problems(host, facts, repair=repair))
    if problems:
        return HostPlan.of(host.name, facts, reason="; ".join(problems), end=Terminal.REFUSED, notes=notes)
    steps = [step for step in (_repair(facts), _upgrade(facts)) if step]
    if reboot == "when-needed" and (facts.changes or facts.asks is not None):
        steps.append(_reboot(facts))
    if not steps:
        reason, end = _nothing(facts)
        return HostPlan.of(host.name, facts, reason=reason, end=end, notes=notes)
    first = steps[0]
    baseline = {"baseline": facts.services.as_json(), "booted": facts.boot_id, "audit": facts.audit}
    steps[0] = Step(first.id, first.action, first.summary, {**first.args, **baseline}, first.undo)
    return HostPlan.of(host.name, facts, steps, notes=notes)


def install_arguments(args: Mapping[str, Json]) -> tuple[str, ...]:
    """What `apt-get install` is told for an `apt.install` step: exact versions, and nothing it may add.

    Args:
        args: `{"install": {name: version}, "new": [name], "remove": {name: version}}`.
    """
    options = [] if args["remove"] else ["--no-remove"]
    if not args["new"]:
        options.append("--only-upgrade")
    return (
        *options,
        *(f"{name}={version}" for name, version in sorted(args["install"].items())),
        *(f"{name}-" for name in sorted(args["remove"])),
    )


def upgrade_arguments(install: Iterable[Change], remove: Iterable[Change]) -> dict[str, Json]:
    """The arguments of an `apt.install` step."""
    changes = tuple(install)
    return {
        "install": {one.name: one.new for one in changes},
        "from": {one.name: one.old for one in changes if one.old},
        "new": [one.name for one in changes if not one.old],
        "remove": {one.name: one.old for one in remove},
        "security": [one.name for one in changes if one.security],
    }


# --- steps ----------------------------------------------------------------------------------------


def _repair(facts: AptFacts) -> Step | None:
    broken = facts.packages.broken
    if not broken and not facts.packages.interrupted:
        return None
    what = some(f"{name} is {state}" for name, state in broken.items()) or "dpkg's journal is unfinished"
    summary = f"finish what an interrupted dpkg left: {what}"
    return Step("repair", "dpkg.configure", summary, {"broken": broken})


def _upgrade(facts: AptFacts) -> Step | None:
    if not facts.changes and not facts.removals:
        return None
    args = upgrade_arguments(facts.changes, facts.removals)
    counts = [f"upgrade {count(len(args['from']), 'package')}"]
    if args["new"]:
        counts.append(f"install {len(args['new'])} new")
    if args["remove"]:
        counts.append(f"REMOVE {len(args['remove'])}")
    # What goes and what is new first, and then all of it: whoever signs, signs each of them.
    upgrades = sorted(facts.changes, key=lambda one: bool(one.old))
    listed = ", ".join(
        [f"{one.name} removed" for one in facts.removals]
        + [f"{one.name} {one.new}" + ("" if one.old else " (new)") for one in upgrades]
    )
    security = f", {len(args['security'])} for security" if args["security"] else ""
    return Step("upgrade", "apt.install", f"{', '.join(counts)}{security}: {listed}", args, _undo(facts))


def _undo(facts: AptFacts) -> str:
    back = [f"{one.name}={one.old}" for one in (*facts.changes, *facts.removals) if one.old]
    new = [f"{one.name}-" for one in facts.changes if not one.old]
    return (
        f"apt-get install --allow-downgrades {' '.join((*back, *new))}"
        " (only while the archives still offer the old versions; data a package migrated stays migrated)"
    )


def _reboot(facts: AptFacts) -> Step:
    asked = [] if facts.asks is None else [f"asked for by {some(facts.asks) or 'the host'}"]
    expected = sorted(one.name for one in facts.changes if REBOOTS.match(one.name))
    why = asked + ([f"because of {some(expected)}"] if expected else [])
    return reboot_step(facts.boot_id, why, certain=bool(why))


# --- nothing to do ---------------------------------------------------------------------------------


def _nothing(facts: AptFacts) -> tuple[str, Terminal]:
    """Why there is nothing to do, in a sentence that claims no more than is known, and how the host ends."""
    known = _known(facts)
    if facts.support.startswith(END_OF_LIFE):
        return f"{facts.support}: upgrade the release ({known})", Terminal.REFUSED
    if facts.scope == "security" and facts.stuck:
        return f"apt keeps security updates back: {some(facts.stuck)}; decide that by hand", Terminal.REFUSED
    if facts.scope == "all":
        absent = facts.view.absent()
        if absent:
            return f"nothing waits in the archives there are, but {absent}", Terminal.REFUSED
        ill = [one for one in facts.view.ill if facts.view.own(one) or not one.origin]
        if ill:
            said = "nothing waits in the archives that could be looked at; not looked at: "
            return said + "; ".join(f"{one.where}: {one.ill}" for one in ill), Terminal.REFUSED
    return known, Terminal.UNCHANGED


def _known(facts: AptFacts) -> str:
    """What can be said to be waiting, of what, by which archives of which day."""
    total, nobodys = len(facts.packages.installed), len(facts.waiting.nobodys)
    what = "no security updates are waiting" if facts.scope == "security" else "already up to date"
    decided = [f"{name} {version} (on hold)" for name, version in facts.waiting.held.items()]
    decided += [f"{name} {version} (pinned)" for name, version in facts.waiting.pinned.items()]
    if facts.kept_back:
        what = f"nothing apt can install; it keeps back {some(facts.kept_back)}"
    elif decided:
        kind = "security updates" if facts.scope == "security" else "updates"
        what = f"nothing waits but {kind} that this host's owner keeps out: {some(decided)}"
    of = f"; {count(total, 'package')} checked"
    if nobodys:
        names = some(dict.fromkeys(name for names in facts.waiting.uncovered.values() for name in names))
        of = f", as far as {total - nobodys} of {count(total, 'package')} go"
        of += f"; not known of {nobodys} ({names})"
    by = dict.fromkeys(f"{one.name} of {day(one.date)}" for one in facts.view.security if one.date)
    dates = f"; by {', '.join(by)}" if by else ""
    reason = f"{what}{of}{dates}, lists refreshed {facts.age} s ago"
    if facts.scope == "security" and facts.waiting.outside:
        number = len(facts.waiting.outside)
        reason += f"; {count(number, 'other update')} outside security: {some(facts.waiting.outside)}"
    if facts.scope == "security" and facts.waiting.untold:
        untold = some(f"{name} ({archive})" for name, archive in facts.waiting.untold.items())
        reason += f"; from archives that do not tell what is for security: {untold}"
    return reason


# --- refusals -------------------------------------------------------------------------------------


def _problems(host: Host, facts: AptFacts, *, repair: bool) -> Iterable[str]:
    """Everything that speaks against touching the host, as sentences; each says what to do."""
    if facts.lock:  # packages half-way through are then to be expected, and say nothing
        yield f"{facts.lock}: plan again when it is done"
    else:
        yield from _dpkg_problems(facts, repair=repair)
    if abs(facts.clock) > MOST_CLOCK_SECONDS:
        side = "ahead of" if facts.clock > 0 else "behind"
        yield f"its clock is {abs(facts.clock):.0f} s {side} the worker's: mend its time service"
    yield from facts.view.problems()
    if facts.scope == "security" and not facts.view.trouble and facts.view.absent():
        yield facts.view.absent()
    for error in dict.fromkeys((facts.wanted.error, facts.rehearsal.error)):
        if error and not facts.view.trouble:
            yield f"apt cannot work out the updates: {error}"
    yield from apt_ground.problems(facts.ground)
    yield from _unwanted(facts)
    yield from space_problems(
        host, facts.space, facts.changes, facts.download_kb, facts.disk_kb, facts.ground)


def _unwanted(facts: AptFacts) -> Iterable[str]:
    """What apt would do that nobody asked for."""
    if facts.scope == "security" and facts.removals:
        gone = some(one.name for one in facts.removals)
        yield f"the security updates would remove {gone}: decide that by hand"
    held = [one.name for one in (*facts.changes, *facts.removals) if one.name in facts.packages.held]
    if held:
        yield f"apt would change what is on hold: {some(held)}: decide that by hand"
    older = facts.rehearsal.names("DOWNGRADED") or facts.wanted.names("DOWNGRADED")
    if older:
        yield f"apt would install an older {some(older)}, as this host's pins say: decide that by hand"
    stale = {one.tag for one in facts.view.archives if one.ill} - {
        one.tag for one in facts.view.archives if not one.ill}
    need = [one.name for one in facts.changes if stale.intersection(one.sources)]
    if need:
        yield f"{some(need)} would come from an archive that could not be looked at: mend that first"


def _dpkg_problems(facts: AptFacts, *, repair: bool) -> Iterable[str]:
    broken = facts.packages.broken
    lost = [name for name, state in broken.items() if state in {"half-installed", "unknown"}]
    if lost:
        yield f"{some(lost)} is half-installed: install it again by hand (apt-get install --reinstall)"
    elif (broken or facts.packages.interrupted) and not repair:
        what = some(f"{name} is {state}" for name, state in broken.items()) or "its journal is unfinished"
        yield f"dpkg was interrupted: {what}; plan again with repair=true to finish that first"


def space_problems(
    host: Host, space: Iterable[Space], changes: Iterable[Change], download_kb: int, disk_kb: int,
    ground: apt_ground.Ground,
) -> Iterable[str]:
    """Sentences for every path with too little room for the change, or for the site's own minimum."""
    space, changes, told = tuple(space), tuple(changes), set[tuple[str, int]]()
    device = {one.path: (one.device, one.size_kb) for one in space}
    boot_kb = ground.boot_kb([one.name for one in changes], [one.name for one in changes if not one.old])
    needs = (("/var/cache/apt/archives", download_kb), ("/usr", max(0, disk_kb) + download_kb),
             ("/boot", boot_kb))
    for one in space:
        need = sum(kb for path, kb in needs if device.get(path) == (one.device, one.size_kb))
        least = host.vars.get(LEAST_FREE_VARS.get(one.path, ""))
        if least is not None and (isinstance(least, bool) or not isinstance(least, int)):
            yield f"{LEAST_FREE_VARS[one.path]} is {str(least)[:50]!r}: write a whole number of MB"
            continue
        there = replace(one, readonly=one.readonly and not ground.remounts(one.path))
        problem = there.problem(need, None if least is None else least * 1024)
        if problem and device[one.path] not in told:  # once a file system, not once a path
            told.add(device[one.path])
            yield problem
