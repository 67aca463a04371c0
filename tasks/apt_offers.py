"""What archives offer of each installed package: fixes, what is kept out, and what nobody looks after. Pure.

Versions are never compared here: `apt-cache policy` prints them newest first (apt-cache(8)).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tasks.apt_archives import Archive, without_accounts
from tasks.apt_view import View
from tasks.linux import whole

STATUS = "/var/lib/dpkg/status"
USUAL = 500
"""The priority of an archive that nobody pinned (apt_preferences(5)); NotAutomatic ones have 1 or 100."""
LEAST = 100
"""A version of lower priority is never chosen over an installed one."""


@dataclass(frozen=True, slots=True)
class Source:
    """One package list a version is in: the archive's base, component and architecture, its priority."""

    base: str
    component: str
    architecture: str
    priority: int


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a package.

    Attributes:
        priority: of this version, pins included.
        phased: per cent of hosts it is given to; None when it is for all.
        sources: the lists it is in; none when it is only installed.
    """

    version: str
    priority: int
    phased: int | None = None
    sources: tuple[Source, ...] = ()

    @property
    def usual(self) -> int:
        """The priority its archives would give it without pins on the package."""
        return max((one.priority for one in self.sources), default=LEAST)


@dataclass(frozen=True, slots=True)
class Offer:
    """An installed package: what apt would take, and all versions, newest first."""

    name: str
    candidate: str
    installed: str
    versions: tuple[Version, ...]

    @property
    def newer(self) -> tuple[Version, ...]:
        """Versions newer than the installed one, newest first."""
        names = [one.version for one in self.versions]
        return self.versions[: names.index(self.installed)] if self.installed in names else ()

    @property
    def upgrades(self) -> bool:
        """Whether apt, at the host's own pins, would take a newer version."""
        return self.candidate in {one.version for one in self.newer}


def offers(text: str) -> tuple[Offer, ...]:
    """Read the `offers` part of `apt_survey.sh`; see there for its lines."""
    sources: dict[str, Source | None] = {}
    found: list[tuple[str, str, list[Version], list[str]]] = []
    for line in without_accounts(text).splitlines():
        words = line.split()
        if words[:1] == ["S"] and len(words) > 3:  # noqa: PLR2004 - number, priority, address
            sources[words[1]] = _source(words[2], words[3:])
        elif words[:1] == ["P"] and len(words) == 3:  # noqa: PLR2004 - name, candidate
            found.append((words[1], words[2], [], []))
        elif words[:1] == ["V"] and len(words) >= 4 and found:  # noqa: PLR2004 - version, priority, phased
            known = (sources.get(number) for number in "".join(words[4:]).split(","))
            version = words[1].removeprefix("*")
            found[-1][2].append(Version(
                version, whole(words[2]), whole(words[3]) if words[3].isdigit() else None,
                tuple(one for one in known if one)))
            if words[1].startswith("*"):
                found[-1][3].append(version)
    return tuple(Offer(name, candidate, installed[0], tuple(versions))
                 for name, candidate, versions, installed in found if installed)


def _source(priority: str, words: list[str]) -> Source | None:
    """`500 file:/srv/apt/main bookworm/main amd64 Packages`, or a flat `500 copy:/srv/site ./ Packages`."""
    if words[0] == STATUS or len(words) < 2:  # noqa: PLR2004 - address and suite
        return None
    uri, where = words[0].rstrip("/"), words[1]
    if where.endswith("/"):
        return Source(f"{uri}/{where}", "", "", whole(priority))
    suite, _, component = where.rpartition("/")
    architecture = words[2] if len(words) > 3 else ""  # noqa: PLR2004 - and the word Packages
    return Source(f"{uri}/dists/{suite}/", component, architecture, whole(priority))


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits for a host, sorted out.

    Attributes:
        fixes: name to version that a security archive offers and nothing keeps out.
        held: name to fix that a hold keeps out.
        pinned: name to version that the host's own pins keep out: a fix, or with scope `all` any update.
        phased: name to per cent of hosts it is given to by now.
        outside: names the distribution has a newer version of outside its security archives.
        untold: name to the archive that has a newer version and marks nothing as security.
        uncovered: by reason, names that no security archive looks after.
    """

    fixes: Mapping[str, str] = field(default_factory=dict)
    held: Mapping[str, str] = field(default_factory=dict)
    pinned: Mapping[str, str] = field(default_factory=dict)
    phased: Mapping[str, int] = field(default_factory=dict)
    outside: tuple[str, ...] = ()
    untold: Mapping[str, str] = field(default_factory=dict)
    uncovered: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def nobodys(self) -> tuple[str, ...]:
        """All names that nothing can be said of."""
        return tuple(sorted({name for names in self.uncovered.values() for name in names}))


def waiting(found: Iterable[Offer], view: View, held: Iterable[str], scope: str) -> Waiting:
    """Sort out what archives offer.

    Args:
        found: of every installed package.
        view: the archives.
        held: names on hold.
        scope: `security` or `all`.
    """
    found, on_hold = tuple(found), set(held)
    security = {one.base for one in view.security if not one.ill}
    fixes, kept, pinned = dict[str, str](), dict[str, str](), dict[str, str]()
    for offer in found:
        fix = next((one for one in offer.newer if security & {two.base for two in one.sources}), None)
        if fix and offer.name in on_hold:
            kept[offer.name] = fix.version
        elif fix and _wanted(offer, fix):
            fixes[offer.name] = fix.version
        elif fix:
            pinned[offer.name] = fix.version
        elif scope == "all" and offer.name not in on_hold:
            out = _kept_out(offer, view)
            pinned.update({offer.name: out} if out else {})
    rest = [one for one in found if one.upgrades and one.name not in {*fixes, *kept, *on_hold, *pinned}]
    outside, untold = _others(rest, view)
    phased = {one.name: two.phased for one in rest for two in one.newer
              if two.phased is not None and two.version == one.candidate}
    return Waiting(fixes, kept, pinned, phased, outside, untold, uncovered(found, view))


def _wanted(offer: Offer, fix: Version) -> bool:
    """Whether the host's own pins let a fix in: it is apt's choice, or allowed beside a newer one."""
    return offer.candidate == fix.version or (offer.upgrades and fix.priority >= LEAST and (
        [one.version for one in offer.newer].index(offer.candidate)
        < [one.version for one in offer.newer].index(fix.version)))


def _kept_out(offer: Offer, view: View) -> str:
    """The newest version that only a pin keeps out; empty when none does."""
    for one in offer.newer:
        pinned = one.priority < one.usual or min((two.priority for two in one.sources), default=0) < 0
        if any(two.base in view.healthy for two in one.sources) and not offer.upgrades and (
                pinned or one.usual >= USUAL) and one.phased is None:
            return one.version
    return ""


def _others(rest: Iterable[Offer], view: View) -> tuple[tuple[str, ...], dict[str, str]]:
    """Updates that are not known to be for security: the distribution's, and those of others by archive."""
    by_base = {one.base: one for one in view.archives}
    outside, untold = list[str](), dict[str, str]()
    for offer in rest:
        best = next(one for one in offer.newer if one.version == offer.candidate)
        known = [by_base[two.base] for two in best.sources if two.base in by_base]
        if any(view.own(one) and not view.absent() for one in known):
            outside.append(offer.name)
        else:
            untold[offer.name] = known[0].name if known else "an archive that is not configured any more"
    return tuple(outside), untold


NOT_OFFERED = "offered by no configured archive any more"
NEWER_HERE = "newer here than in any archive (rebuilt here, or from an archive that is gone)"
UNTOLD = "from archives that do not tell what is for security"
NO_COUNTERPART = "without a security archive for their component or architecture"
BACKPORTED = "from backports, which have no security archive"
NO_META = "a kernel without the package that brings newer ones"


def uncovered(found: Iterable[Offer], view: View) -> dict[str, tuple[str, ...]]:
    """By reason, the installed packages that "nothing is waiting" cannot be said of."""
    by_base = {one.base: one for one in view.archives}
    covered = {(part, arch) for one in view.security if not one.ill for part, arch in one.lists}
    sorted_out: dict[str, list[str]] = {}
    for offer in found:
        reason = _why_uncovered(offer, view, by_base, covered)
        if reason:
            sorted_out.setdefault(reason, []).append(offer.name)
    return {reason: tuple(names) for reason, names in sorted_out.items()}


def _why_uncovered(
    offer: Offer, view: View, by_base: Mapping[str, Archive], covered: set[tuple[str, str]]
) -> str:
    older = offer.versions[len(offer.newer):]
    sources = [two for one in offer.versions for two in one.sources if two.base in by_base]
    if not sources:
        return NOT_OFFERED
    current = [two for one in (*offer.newer, *older[:1]) for two in one.sources if two.base in by_base]
    if not current:
        return NEWER_HERE
    own = [two for two in current if view.own(by_base[two.base]) or by_base[two.base] in view.security]
    if not own:
        return f"{UNTOLD} ({by_base[current[0].base].name})"
    if all(_backports(by_base[two.base]) for two in own):
        return BACKPORTED
    if covered and not any((two.component, two.architecture) in covered for two in own):
        return NO_COUNTERPART
    return ""


def _backports(one: Archive) -> bool:
    return any(name.endswith("-backports") for name in (one.codename, one.archive, one.suite))


_KERNEL = re.compile(r"(linux-image(-unsigned)?|[a-z]+-kernel)-\d+\.\d+\.\d+")


def kernels_without_meta(text: str) -> tuple[str, ...]:
    """Installed kernel packages that no installed package depends on: newer ones are never offered.

    Args:
        text: `NAME DEPENDS` of every installed package that is a kernel or depends on one.

    Returns:
        Empty when one of the kernels is depended on; then the others are old ones that were left.
    """
    rows = [line.partition(" ")[::2] for line in text.splitlines() if line.strip()]
    kernels = {name for name, _ in rows if _KERNEL.match(name)}
    brought = {word for name, depends in rows if name not in kernels
               for word in re.findall(r"[a-z0-9][a-z0-9+.-]+", depends)}
    return () if kernels & brought else tuple(sorted(kernels))
