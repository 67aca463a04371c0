"""The archives a host takes packages from: which are there, whose they are, and what failed of each. Pure.

"Nothing is waiting" is a claim about archives: here is what it rests on. What an archive is follows from the
fields of its Release file (https://wiki.debian.org/DebianRepository/Format), never from words in its address.
"""

from __future__ import annotations

import email.utils
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

from lamplighter.errors import UnusableError
from lamplighter.model.inventory import Host
from tasks import apt_causes
from tasks.debian_host import Release, Simulation, day

SECURITY_VAR, DAYS_VAR = "lamplighter_security_archives", "lamplighter_archive_days"
MOST_DAYS = 7
"""How old a security archive's index may be: Debian itself lets one live for a week (its `Valid-Until`)."""
DAY = 86400.0
UBUNTU_EXTENDED = ("ubuntuesm", "ubuntuesmapps")
"""Origins of Ubuntu Pro's archives, which ubuntu-pro-client configures under the suite's own name."""


@dataclass(frozen=True, slots=True)
class Archive:
    """One configured archive, as its Release file on the host describes it.

    Attributes:
        base: where its Release file lies, with a slash at its end; no account in it.
        uri, suite: as in the source line; `suite` ends with a slash in a flat archive.
        origin, label, archive, codename, version: of its Release file; empty without one.
        date: when its index was made, in seconds since the epoch; 0 when not known.
        signed: a signature came with it.
        lists: component and architecture of every package list that is there and whole.
        lost: lists that are announced and not there, or cut off.
        ill: why it was not looked at, in words; empty when it is as fresh as its server.
        entry: the file and line it is configured in.
    """

    base: str
    uri: str
    suite: str
    origin: str = ""
    label: str = ""
    archive: str = ""
    codename: str = ""
    version: str = ""
    date: float = 0.0
    signed: bool = False
    lists: frozenset[tuple[str, str]] = frozenset()
    lost: tuple[str, ...] = ()
    ill: str = ""
    entry: str = ""

    @property
    def tag(self) -> str:
        """How `apt-get -s` writes where a version comes from: `Debian-Security:12/stable-security`."""
        if not self.date and not self.label:  # without a Release file apt writes the server's name
            return re.sub(r"^[\w+]+:/*([^/:]*).*", r"\1", self.uri) if "://" in self.uri else "localhost"
        of = f"{self.version}/{self.archive}" if self.version and self.archive else self.archive
        return f"{self.label}:{of}" if self.label else of

    @property
    def name(self) -> str:
        """For people: what it calls itself, or its address."""
        return self.label or self.origin or f"{self.uri} {self.suite}"

    @property
    def where(self) -> str:
        """For people: its address, and the file it is configured in."""
        return f"{self.uri} {self.suite}" + (f" ({self.entry})" if self.entry else "")

    @property
    def of_release(self) -> set[str]:
        """The release's names it claims to be made for, marks of security taken off."""
        return {re.sub(r"(-(infra|apps))?-security$|/updates$", "", name)
                for name in (self.codename, self.archive, self.suite)} - {""}

    @property
    def marked(self) -> bool:
        """Whether it says of itself, in the distribution's own spelling, that it is for security."""
        names = (self.codename, self.archive, self.suite)
        return self.label.casefold().endswith("-security") or any(
            re.search(r"-security$|/updates$", name) for name in names)


# --- reading --------------------------------------------------------------------------------------


def without_accounts(text: str) -> str:
    """The text without what stands before an @ in an address: it may be a password."""
    return re.sub(r"(://)[^/@\s']*@", r"\1", text)


def archives(text: str, entries: str) -> tuple[Archive, ...]:
    """Read the `archives` part: per archive its address, fields, signature, and the lists that are there.

    Args:
        text: as `apt_survey.sh` prints it.
        entries: `FILE:LINE:TEXT` of every source line.
    """
    text, entries = without_accounts(text), without_accounts(entries)
    found: dict[str, dict[str, list[str]]] = {}
    block: dict[str, list[str]] = {}
    lists: list[tuple[str, str]] = []
    for line in filter(str.strip, text.splitlines()):
        word, _, rest = line.partition(" ")
        if word == "archive":
            block = found.setdefault(rest.strip("'").removesuffix("InRelease"), {})
        elif word == "list":
            address, _, size = rest.rpartition(" ")
            lists.append((address.strip("'"), size))
        elif not word and len(line.split()) == 3:  # noqa: PLR2004 - digest, size, path
            block.setdefault("announced", []).append(line)
        else:
            block.setdefault(word.rstrip(":"), []).append(rest.strip())
    return tuple(_archive(base, fields, lists, entries) for base, fields in found.items())


def _archive(
    base: str, fields: Mapping[str, list[str]], lists: Iterable[tuple[str, str]], entries: str
) -> Archive:
    uri, suite = _address(base)
    sizes = {_list_of(base, base + path): size for path, size in _announced(fields)}
    whole, lost = set[tuple[str, str]](), list[str]()
    here = {_list_of(base, address): size for address, size in lists if address.startswith(base)}
    for part, size in here.items():
        empty = sizes.get(part) == "0"  # of an empty list apt keeps no file
        if size == "absent" and not empty:
            lost += [" ".join(part)] if part in sizes else []  # what is not announced is not there to be had
        elif size.isdigit() and not empty and size != sizes.get(part, size):
            lost.append(f"{' '.join(part)} is cut off")
        else:
            whole.add(part)

    def one(name: str) -> str:
        return fields.get(name, [""])[0]

    return Archive(
        base, uri, suite, one("Origin"), one("Label"), one("Suite"), one("Codename"), one("Version"),
        _seconds(one("Date")), bool(one("signature")), frozenset(whole), tuple(lost),
        entry=_entry(uri, entries))


def _announced(fields: Mapping[str, list[str]]) -> Iterable[tuple[str, str]]:
    """Path and size of every package list the Release file names."""
    for line in fields.get("announced", ()):
        _, size, path = line.split()
        yield path, size


def _address(base: str) -> tuple[str, str]:
    """URI and suite as in the source line."""
    uri, dists, suite = base.rstrip("/").rpartition("/dists/")
    if dists:
        return uri.rstrip("/"), suite
    uri, _, folder = base.rstrip("/").rpartition("/")
    return uri.rstrip("/"), f"{folder}/"


def _list_of(base: str, address: str) -> tuple[str, str]:
    """Component and architecture of a package list; both empty in a flat archive."""
    found = re.match(r"(.+)/binary-([^/]+)/", address.removeprefix(base))
    return (found[1], found[2]) if found else ("", "")


def _seconds(text: str) -> float:
    try:
        return email.utils.parsedate_to_datetime(text.replace("UTC", "+0000")).timestamp()
    except ValueError:
        return 0.0


def _entry(uri: str, entries: str) -> str:
    for line in entries.splitlines():
        file, number, rest = [*line.split(":", 2), "", ""][:3]
        if uri.rstrip("/") in (word.rstrip("/") for word in rest.split()):
            return f"{file}:{number}"
    return ""


# --- what became of each --------------------------------------------------------------------------

_EVENT = re.compile(r"^(Hit|Get|Ign|Err):\d+ (\S+) (\S+)(.*)((?:\n  .*)*)", re.MULTILINE)


def looked_at(found: Iterable[Archive], code: int, text: str) -> tuple[Archive, ...]:
    """Say of each archive whether `apt-get update` brought it up to date, and why not.

    Judged by what was fetched: an archive is well when its Release file was brought or found unchanged and
    nothing of it was complained of. Warnings that name no failure are none, whatever words are in them.
    """
    text = without_accounts(text)
    complaints = re.findall(r"^[EW]: .*$", text, re.MULTILINE)
    named: set[str] = set()
    judged = []
    for one in found:
        own = [line for line in complaints if _speaks_of(line, one)]
        named |= set(own)
        judged.append((one, own))
    loose = [line for line in complaints if line not in named and line.startswith("E: ")]
    return tuple(_judged(one, own, loose, text, code) for one, own in judged)


def _speaks_of(line: str, one: Archive) -> bool:
    return one.base in line or f"{one.uri} {one.suite} " in line or f"{one.uri}/ {one.suite} " in line


def _judged(one: Archive, own: list[str], loose: list[str], text: str, code: int) -> Archive:
    mirrored = one.uri.startswith("mirror")
    seen, errors = False, list[str]()
    for kind, uri, rest, what, detail in _EVENT.findall(text):
        if uri.rstrip("/") != one.uri and not mirrored:
            continue
        if rest != one.suite and not rest.startswith(f"{one.suite}/"):
            continue
        seen = seen or (kind in ("Hit", "Get") and "Release" in what)
        if kind == "Err":
            errors.append(f"{what.strip()} {' '.join(detail.split())}")
    bad = [line for line in own if line.startswith("E: ") or apt_causes.not_updated(line)]
    flat = one.suite.endswith("/") and not one.date  # an archive without a Release file, trusted as it is
    if not seen and not errors and not bad and not flat:
        return replace(one, ill=apt_causes.cause(loose, code))
    if errors or bad:
        return replace(one, ill=apt_causes.cause([*errors, *bad], code))
    if one.lost:
        return replace(one, ill=f"its package lists are not whole here ({', '.join(one.lost)[:200]}):"
                                " delete them from /var/lib/apt/lists and run apt-get update")
    return one


# --- whose they are -------------------------------------------------------------------------------


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
             if not any(_speaks_of(line, one) for one in judged)]
    all_ill = bool(judged) and all(one.ill for one in judged)
    trouble = apt_causes.cause(loose, code) if loose and (not judged or all_ill) else ""
    if not judged and not trouble:
        trouble = "no archive is configured in /etc/apt/sources.list or /etc/apt/sources.list.d"
    hooks = "" if code == 0 or any(one.ill for one in judged) else apt_causes.cause(loose, code)
    return View(judged, release, *rules, now, trouble, hooks)
