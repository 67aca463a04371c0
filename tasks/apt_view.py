"""Whose a host's archives are, by its distribution and its site, and what is known of them together. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

from lamplighter.errors import UnusableError
from lamplighter.model.inventory import Host
from tasks import apt_causes
from tasks.apt_archives import Archive, looked_at, speaks_of, without_accounts
from tasks.debian_host import Release, Simulation, day

SECURITY_VAR, DAYS_VAR = "lamplighter_security_archives", "lamplighter_archive_days"
MOST_DAYS = 7
"""How old a security archive's index may be: Debian itself lets one live for a week (its `Valid-Until`)."""
DAY = 86400.0
UBUNTU_EXTENDED = ("ubuntuesm", "ubuntuesmapps")
"""Origins of Ubuntu Pro's archives, which ubuntu-pro-client configures under the suite's own name."""


@dataclass(frozen=True, slots=True)
class View:
    """All configured archives of a host, sorted out by what its distribution and its site say of them.

    Attributes:
        archives: all of them.
        release: of the host.
        patterns: what the site counts as security, as in unattended-upgrades' `Origins-Pattern`.
        days: how old a security archive's index may be.
        now: seconds since the epoch.
        trouble: why nothing could be looked at at all; empty otherwise.
        hooks: complaints that concern no archive, while every archive is well.
    """

    archives: tuple[Archive, ...] = ()
    release: Release = field(default_factory=Release)
    patterns: tuple[Mapping[str, str], ...] = ()
    days: int = MOST_DAYS
    now: float = 0.0
    trouble: str = ""
    hooks: str = ""

    @property
    def codenames(self) -> set[str]:
        """The release's names, those of what it is built on included."""
        return {self.release.codename, *self.release.bases} - {""}

    def own(self, one: Archive) -> bool:
        """Whether it is the distribution's own, or that of the one it is built on."""
        ids = {self.release.id, *self.release.like}
        ids |= set(UBUNTU_EXTENDED) if "ubuntu" in ids else set()
        origin = one.origin.casefold()
        return origin in ids or any(origin.startswith(f"{name} ") for name in ids)

    def extended(self, one: Archive) -> bool:
        """Whether it is support beyond the release's own: Ubuntu Pro, or what the site named."""
        return one.origin.casefold() in UBUNTU_EXTENDED or self._named(one)

    def _named(self, one: Archive) -> bool:
        return any(all(fnmatchcase(_field(one, key), value) for key, value in pattern.items())
                   for pattern in self.patterns)

    def _claims(self, one: Archive) -> bool:
        """For security by distribution or site, of whatever release."""
        if self._named(one):
            return True
        if not one.origin:  # nothing of it is known: its suite's name is all there is
            return bool(one.of_release & self.codenames) and one.marked
        return self.own(one) and one.marked

    @property
    def security(self) -> tuple[Archive, ...]:
        """The security archives of this release, well or ill."""
        return tuple(one for one in self.archives if self._claims(one) and (
            self._named(one) or one.of_release & self.codenames))

    @property
    def foreign(self) -> tuple[Archive, ...]:
        """Security archives of another release."""
        return tuple(one for one in self.archives if self._claims(one) and one not in self.security)

    @property
    def ill(self) -> tuple[Archive, ...]:
        """Archives that were not looked at and do not stop security."""
        stopping = set(self._stopping())
        return tuple(one for one in self.archives if one.ill and one not in stopping)

    @property
    def healthy(self) -> frozenset[str]:
        """Bases of all archives that are as fresh as their servers."""
        return frozenset(one.base for one in self.archives if not one.ill)

    def _stopping(self) -> list[Archive]:
        """Ill security archives; one that a healthy twin at another address stands in for is none."""
        well = {one.suite for one in self.security if not one.ill}
        return [one for one in self.security if one.ill and one.suite not in well]

    @property
    def supported_beyond(self) -> tuple[Archive, ...]:
        """Healthy archives of support that goes on after the release's own ended."""
        return tuple(one for one in self.security if not one.ill and self.extended(one))

    def problems(self) -> Iterable[str]:
        """Why its security archives cannot be believed, as sentences."""
        if self.trouble:
            yield f"the package lists could not be refreshed: {self.trouble}"
            return
        for one in self._stopping():
            yield f"the security archive {one.where} could not be looked at: {one.ill}"
        well = [one for one in self.security if not one.ill]
        for one in well:
            if not one.signed:
                yield f"the security archive {one.where} is not signed, so nothing in it is verified"
        beyond = self.supported_beyond
        for one in beyond or well:
            yield from self._dated(one)

    def _dated(self, one: Archive) -> Iterable[str]:
        if one.date > self.now + DAY:
            yield (f"the security archive {one.where} says it was made on {day(one.date)}, which is in the"
                   " future: check the clock of the host and of the mirror")
        elif not one.date:
            yield f"the security archive {one.where} does not say when it was made"
        elif self.now - one.date > self.days * DAY:
            age = int((self.now - one.date) // DAY)
            yield (f"the security archive {one.where} stands still: its index is of {day(one.date)}, {age}"
                   f" days old (at most {self.days}: {DAYS_VAR}), as of a frozen snapshot or a mirror that"
                   " stopped: take one that goes on")

    def absent(self) -> str:
        """Why security cannot be told apart on this host at all; empty when it can."""
        if self.security:
            return ""
        there = ", ".join(sorted({f"{one.origin} {one.label} {one.codename or one.suite}".strip()
                                  for one in self.archives if not one.ill})) or "none"
        release = self.release.codename or self.release.name
        if self.foreign:
            foreign = self.foreign
            other = ", ".join(f"{one.codename or one.suite} in {one.entry or one.uri}" for one in foreign)
            return (f"the security archive is that of another release than {release}: {other}:"
                    " mend the source, then plan again")
        rolling = "" if self.codenames and self.release.version else "; a rolling release has none"
        return (f"no archive of security updates for {release} is configured{rolling} (there are: {there}):"
                f" add it, or name the site's own in {SECURITY_VAR}, or plan with packages=all")

    def mark(self, simulation: Simulation) -> Simulation:
        """The simulation with every change marked that a security archive offers."""
        tags = {one.tag for one in self.security}
        return replace(simulation, install=tuple(
            replace(one, security=bool(tags.intersection(one.sources))) for one in simulation.install))

    def unsigned(self, tags: Iterable[str]) -> str:
        """The first archive behind these tags that no signature vouches for; empty when all are signed."""
        named = set(tags)
        return next((one.where for one in self.archives if not one.signed and one.tag in named), "")


def _field(one: Archive, key: str) -> str:
    names = {"origin": one.origin, "label": one.label, "suite": one.archive, "codename": one.codename,
             "site": re.sub(r"^\w+://([^/:]*).*", r"\1", one.uri)}
    return names[key]


_KEYS = {"o": "origin", "l": "label", "a": "suite", "n": "codename", "archive": "suite",
         "origin": "origin", "label": "label", "suite": "suite", "codename": "codename", "site": "site"}


def site_rules(host: Host, release: Release) -> tuple[tuple[Mapping[str, str], ...], int]:
    """What the inventory says of the host's archives: what counts as security, and how old it may be.

    Raises:
        UnusableError: a variable cannot be understood; all mistakes are named.
    """
    wrong, patterns = [], []
    named = host.vars.get(SECURITY_VAR, ())
    for entry in named if isinstance(named, list | tuple) else (named,):
        pattern = {}
        for pair in str(entry).split(","):
            key, equals, value = (part.strip() for part in pair.partition("="))
            if not equals or key not in _KEYS or not value:
                wrong.append(f"{SECURITY_VAR} has {str(entry)[:80]!r}")
                break
            value = value.replace("${distro_codename}", release.codename).replace("${distro_id}", release.id)
            pattern[_KEYS[key]] = value
        patterns.append(pattern)
    days = host.vars.get(DAYS_VAR, MOST_DAYS)
    if isinstance(days, bool) or not isinstance(days, int) or days < 1:
        wrong.append(f"{DAYS_VAR} is {str(days)[:50]!r}")
    if wrong:
        raise UnusableError(
            "; ".join(dict.fromkeys(wrong)), where=host.name, changed="nothing was changed",
            advice="write a list such as ['origin=Freexian,codename=${distro_codename}-lts'], and whole days")
    return tuple(patterns), int(days)


def view(
    found: tuple[Archive, ...], code: int, text: str, *, release: Release, now: float,
    rules: tuple[tuple[Mapping[str, str], ...], int] = ((), MOST_DAYS),
) -> View:
    """Put together what a survey read of the archives.

    Args:
        found: as `archives` returns them.
        code, text: how `apt-get update` ended and what it said.
        release: of the host.
        now: seconds since the epoch.
        rules: as `site_rules` returns them.
    """
    judged = looked_at(found, code, text)
    loose = [line for line in re.findall(r"^E: .*$", without_accounts(text), re.MULTILINE)
             if not any(speaks_of(line, one) for one in judged)]
    all_ill = bool(judged) and all(one.ill for one in judged)
    trouble = apt_causes.cause(loose, code) if loose and (not judged or all_ill) else ""
    if not judged and not trouble:
        trouble = "no archive is configured in /etc/apt/sources.list or /etc/apt/sources.list.d"
    hooks = "" if code == 0 or any(one.ill for one in judged) else apt_causes.cause(loose, code)
    return View(judged, release, *rules, now, trouble, hooks)
