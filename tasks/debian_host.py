"""What a Debian-family host says about its packages, as values. Pure: text in, data out.

Every function's docstring shows the shape it returns; recorded outputs are in `tests/cases/apt/`. The
formats are apt's and dpkg's own, in the C locale: apt-get(8) for `-s`, dpkg-query(1) for the states.
"""

from __future__ import annotations

import csv
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

FAMILY = {"debian", "ubuntu"}
NAME = re.compile(r"[a-z0-9][a-z0-9+.-]*(:[a-z0-9-]+)?")
VERSION = re.compile(r"[A-Za-z0-9.+:~-]+")

# --- the release ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Release:
    """The distribution: `Release("debian", "12", "Debian GNU/Linux 12 (bookworm)", "bookworm", True)`.

    Attributes:
        like: what it is built on, `("ubuntu", "debian")` for a derivative.
        bases: codenames of those, `("noble",)`.
    """

    id: str = ""
    version: str = ""
    name: str = ""
    codename: str = ""
    debian_family: bool = False
    like: tuple[str, ...] = ()
    bases: tuple[str, ...] = ()


def release(text: str) -> Release:
    """Read `/etc/os-release` (os-release(5))."""
    fields = {}
    for line in text.splitlines():
        key, equals, value = line.strip().partition("=")
        if equals and not key.startswith("#"):
            try:
                fields[key] = " ".join(shlex.split(value))
            except ValueError:  # a quote that is not closed
                fields[key] = value.strip("\"'")
    ids = {fields.get("ID", ""), *fields.get("ID_LIKE", "").split()}
    return Release(
        fields.get("ID", ""), fields.get("VERSION_ID", ""),
        fields.get("PRETTY_NAME") or fields.get("ID", "an unnamed system"),
        fields.get("VERSION_CODENAME", ""), bool(ids & FAMILY), tuple(fields.get("ID_LIKE", "").split()),
        tuple(fields[name] for name in ("UBUNTU_CODENAME", "DEBIAN_CODENAME") if fields.get(name)),
    )


def known_release(codename: str) -> str:
    """The row of `releases.csv` for hosts without distro-info-data, as `end_of_life` takes it."""
    head, *rows = (Path(__file__).parent / "releases.csv").read_text(encoding="ascii").splitlines()
    return next((f"{head}\n{row}" for row in rows if codename and row.startswith(f"{codename},")), "")


def end_of_life(text: str, today: date) -> str:
    """Judge a release by its row in distro-info's table.

    Args:
        text: the table's head line and the release's row; empty when nobody knows the release.
        today: the day it is judged on.

    Returns:
        Empty while it is fully supported, else a sentence for the approver.
    """
    rows = list(csv.DictReader(text.splitlines()))
    if not rows:
        return "whether its release is still supported is not known: install distro-info-data there"
    row = rows[0]
    name = f"{row.get('series', '')} ({row.get('version', '')})"
    full = _day(row.get("eol-server")) or _day(row.get("eol"))
    longest = _day(row.get("eol-lts")) or full
    if full is None or today <= full:
        return ""
    if longest is not None and today <= longest:
        return f"{name} has had only long-term support since {full}, until {longest}"
    extended = _day(row.get("eol-esm"))
    paid = f"; only Ubuntu Pro still has fixes, until {extended}" if extended and today <= extended else ""
    return f"{END_OF_LIFE} {name} on {longest or full}, and fixes are not published any more{paid}"


END_OF_LIFE = "END OF LIFE: support ended for"


def _day(text: str | None) -> date | None:
    try:
        return date.fromisoformat(text or "")
    except ValueError:
        return None


def day(seconds: float) -> date:
    """The UTC day of a moment."""
    return datetime.fromtimestamp(seconds, tz=UTC).date()


# --- dpkg -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Package:
    """One package as dpkg knows it.

    Attributes:
        version: empty when none is unpacked.
        state: dpkg's word: `installed`, `unpacked`, `half-configured`, `triggers-pending` ...
        held: somebody put it on hold.
    """

    version: str
    state: str
    held: bool = False


STATES = {
    "n": "not-installed", "c": "config-files", "H": "half-installed", "U": "unpacked",
    "F": "half-configured", "W": "triggers-awaited", "t": "triggers-pending", "i": "installed",
}
SETTLED = {"not-installed", "config-files", "installed"}


@dataclass(frozen=True, slots=True)
class Packages:
    """All packages by apt's name for them: plain, or `name:arch` when foreign.

    Attributes:
        by_name: sorted by name.
        interrupted: dpkg was killed while it wrote its database.
        native: the host's architecture.
    """

    by_name: Mapping[str, Package]
    interrupted: bool = False
    native: str = ""

    @property
    def installed(self) -> dict[str, str]:
        """Name to version of all that are fully installed."""
        return {name: one.version for name, one in self.by_name.items() if one.state == "installed"}

    @property
    def held(self) -> tuple[str, ...]:
        """Names on hold."""
        return tuple(name for name, one in self.by_name.items() if one.held)

    @property
    def broken(self) -> dict[str, str]:
        """Name to state of all that are neither installed nor gone."""
        return {name: one.state for name, one in self.by_name.items() if one.state not in SETTLED}

    def version(self, name: str) -> str:
        """The unpacked version, or empty."""
        one = self.by_name.get(name)
        return one.version if one and one.state not in {"not-installed", "config-files"} else ""


def packages(text: str) -> Packages:
    """Read the `packages` part: native architecture, tab-separated `dpkg-query` rows, perhaps `interrupted`.

    Returns:
        `Packages({"lab-web": Package("1.0", "installed"), "libc6:i386": Package(...)}, False, "amd64")`
    """
    native, interrupted = "", False
    found: dict[str, Package] = {}
    for line in text.splitlines():
        fields = line.split("\t")
        if len(fields) != 4:  # noqa: PLR2004 - the format asked for
            interrupted = interrupted or line == "interrupted"
            native = line.removeprefix("native ").strip() if line.startswith("native ") else native
            continue
        status, name, architecture, version = fields
        state = "half-installed" if "R" in status[2:] else STATES.get(status[1:2], "unknown")
        full = name if architecture in (native, "all", "") else f"{name}:{architecture}"
        found[full] = Package(version, state, status.startswith("h"))
    return Packages(dict(sorted(found.items())), interrupted, native)


# --- apt's simulation -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, order=True)
class Change:
    """One package a simulation would install (`old` empty), upgrade, or remove (`new` empty).

    Attributes:
        sources: where the new version comes from, `label:version/suite`.
        security: whether a security archive offers the new version; marked by who knows the archives.
    """

    name: str
    old: str
    new: str
    sources: tuple[str, ...] = ()
    security: bool = False


@dataclass(frozen=True, slots=True)
class Simulation:
    """What `apt-get -s` says it would do, in name order.

    Attributes:
        install: upgraded and newly installed.
        remove: removed.
        blocks: names under each `The following ...:` line, by what the line says.
        error: apt's `E:` lines; not empty means that nothing else here counts.
    """

    install: tuple[Change, ...] = ()
    remove: tuple[Change, ...] = ()
    blocks: Mapping[str, tuple[str, ...]] | None = None
    error: str = ""

    def names(self, said: str) -> tuple[str, ...]:
        """The names under the line that holds these words, for example `kept back`."""
        return next((names for line, names in (self.blocks or {}).items() if said in line), ())


_INST = re.compile(
    r"^Inst (\S+)(?: \[([^\]]*)\])? \((\S+)(?: (.*?))?(?: \[[^\]]+\])?\)(?: \[.*)?$", re.MULTILINE)
_REMV = re.compile(r"^(?:Remv|Purg) (\S+)(?: \[([^\]]*)\])?", re.MULTILINE)
_SUMMARY = re.compile(r"^\d+ upgraded, \d+ newly installed, ", re.MULTILINE)
_BLOCK = re.compile(r"^(The following .*):\n((?:  .*(?:\n|$))+)", re.MULTILINE)


def simulation(code: int, text: str) -> Simulation:
    """Read `apt-get -s`.

    Returns:
        `Simulation(install=(Change("lab-web", "1.0", "1.1", ("Debian-Security:12/stable-security",)),))`
    """
    install = tuple(sorted(
        Change(name, old, new, tuple(sources.split(", ")) if sources else ())
        for name, old, new, sources in _INST.findall(text)))
    remove = tuple(sorted(Change(name, old, "") for name, old in _REMV.findall(text)))
    blocks = {line: tuple(names.split()) for line, names in _BLOCK.findall(text)}
    strange = [one.name for one in (*install, *remove)
               if not NAME.fullmatch(one.name) or not VERSION.fullmatch(one.new or "0")]
    error = complaint(text) or (f"apt-get ended with exit code {code}" if code else "")
    if not error and not _SUMMARY.search(text):
        error = "the answer is not apt's: it has no line that sums up what would be changed"
    if strange:
        error = f"apt names packages no package can be named: {', '.join(strange)[:200]}"
    return Simulation(install, remove, blocks, error)


def complaint(text: str) -> str:
    """Apt's `E:` lines (and dpkg's `dpkg: error`), joined, at most 500 characters; empty without any."""
    text = re.sub(r":\n +", ": ", text)  # dpkg's reason stands on the next line
    lines = re.findall(r"^(?:E: |dpkg: (?=unrecoverable|error (?!:))|dpkg: error: )(.*)$", text, re.MULTILINE)
    return "; ".join(dict.fromkeys(line.strip() for line in lines))[:500]


_UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9}


def sizes(text: str) -> tuple[int, int]:
    """What a change downloads and what it takes on disk, in kB (negative when it frees).

    Args:
        text: `Need to get 0 B/397 kB of archives.` (to fetch, of all) and
            `After this operation, 1,024 kB of additional disk space will be used.` (or `will be freed.`).
    """
    get = re.search(r"^Need to get (?:[\d.,]+ k?[MG]?B/)?([\d.,]+) ([kMG]?B)", text, re.MULTILINE)
    after = re.search(r"^After this operation, ([\d.,]+) ([kMG]?B) (of additional)?", text, re.MULTILINE)
    download = _kb(get[1], get[2]) if get else 0
    disk = (_kb(after[1], after[2]) * (1 if after[3] else -1)) if after else 0
    return download, disk


def _kb(number: str, unit: str) -> int:
    return -int(-float(number.replace(",", "")) * _UNITS[unit] // 1000)


# --- locks ---------------------------------------------------------------------------------------


def lock_problem(text: str) -> str:
    """Who held apt's or dpkg's lock for longer than was waited, from what was printed; empty when nobody did.

    apt also says `Waiting for cache lock: Could not get lock` when it gets it in the end.
    """
    gave_up = r"^E: (?:Unable to acquire the dpkg|Could not get lock)|^dpkg: error: .* lock"
    if not re.search(gave_up, text, re.MULTILINE):
        return ""
    held = re.search(r"held by process (\d+) \(([^)]*)\)", text)
    other = re.search(r"locked by another process(?: with pid (\d+))?", text)
    whose = lock_name(text)
    if held:
        return f"{whose} is held by {held[2]} (process {held[1]})"
    return f"{whose} is held by " + (f"process {other[1]}" if other and other[1] else "another process")


def lock_name(text: str) -> str:
    """What a lock file that stands in the text is for, in words."""
    if "archives/lock" in text:
        return "the lock of apt's downloads"
    return "the lock of apt's package lists" if "lists/lock" in text else "dpkg's lock"


def lock_holder(text: str) -> str:
    """Read the `lock` part: `dpkg's lock is held by unattended-upgr (process 312)`; empty when free."""
    rows = [line.split(maxsplit=2) for line in text.splitlines() if re.match(r"\d+ \S", line)]
    by_lock: dict[str, list[str]] = {}
    for pid, name, *file in rows:
        holders = by_lock.setdefault(lock_name(" ".join(file)), [])
        holders += [one for one in (f"{name} (process {pid})",) if one not in holders]
    return "; ".join(f"{lock} is held by {', '.join(holders)}" for lock, holders in by_lock.items())


# --- configuration files --------------------------------------------------------------------------


def conffiles(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Configuration files that are not as their package shipped them, and those that were deleted.

    Args:
        text: `wanted MD5 PATH` and `actual MD5 PATH` lines, as `apt_rehearse.sh` prints them.

    Returns:
        `(("/etc/lab-conf/lab-conf.conf",), ("/etc/cron.d/lab-conf",))`
    """
    sums: dict[str, dict[str, str]] = {"wanted": {}, "actual": {}}
    for line in text.splitlines():
        words = line.split(maxsplit=2)
        if len(words) == 3 and words[0] in sums and words[1] != "newconffile":  # noqa: PLR2004 - word, sum, path
            sums[words[0]][words[2]] = words[1]
    wanted, actual = sums["wanted"], sums["actual"]
    changed = (path for path, digest in actual.items() if wanted.get(path, digest) != digest)
    return tuple(sorted(changed)), tuple(sorted(set(wanted) - set(actual)))
