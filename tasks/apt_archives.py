"""The archives a host takes packages from: which are there, whose they are, and what failed of each. Pure.

"Nothing is waiting" is a claim about archives: here is what it rests on. What an archive is follows from the
fields of its Release file (https://wiki.debian.org/DebianRepository/Format), never from words in its address.
"""

from __future__ import annotations

import email.utils
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from tasks import apt_causes


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
        own = [line for line in complaints if speaks_of(line, one)]
        named |= set(own)
        judged.append((one, own))
    loose = [line for line in complaints if line not in named and line.startswith("E: ")]
    return tuple(_judged(one, own, loose, text, code) for one, own in judged)


def speaks_of(line: str, one: Archive) -> bool:
    """Whether a line of apt's output names this archive."""
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
