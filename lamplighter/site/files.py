"""Reads the files of a site's folder, each on its own, and notes the mistakes of each."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from lamplighter.errors import Mistake, SiteError
from lamplighter.model.calendar import Calendar
from lamplighter.model.inventory import Inventory
from lamplighter.model.party import Person
from lamplighter.model.responsibility import Matrix
from lamplighter.model.selection import visible
from lamplighter.model.signers import Revoked, Signers, parse_revoked, parse_signers
from lamplighter.site.hosts import read_inventory
from lamplighter.site.schema import PeopleEntry, SiteEntry, checked
from lamplighter.site.standing import FOLDER, StandingLine, read_standing_lines
from lamplighter.site.varfiles import FOLDERS, GROUPS, VarFiles
from lamplighter.site.varfiles import HOSTS as VARS_OF_HOSTS
from lamplighter.site.yaml import Node, Remark, Source, read_text, read_yaml
from lamplighter.transports.ssh_hostkeys import KnownHosts

SITE, HOSTS, PEOPLE = "site.yaml", "hosts.yaml", "people.yaml"
HOST_KEYS, APPROVERS, REVOKED = "host_keys", "approvers", "revoked_keys"
CALENDAR, RESPONSIBILITIES = "calendar.yaml", "responsibilities.yaml"
FILES = (SITE, HOSTS, PEOPLE, HOST_KEYS, APPROVERS, REVOKED, CALENDAR, RESPONSIBILITIES)


@dataclass(slots=True)
class Files:
    """What could be read of a site.

    Attributes:
        folder: the site's.
        report: all mistakes so far.
        remarks: sentences that are no mistakes.
        entry, root: `site.yaml` as checked and as parsed; None when it could not be.
        inventory, host_lines: `hosts.yaml`, and the line of each host in it.
        people, people_root: `people.yaml` as checked and as parsed.
        approvers: the text of that file.
        signers, revoked, known_hosts: what `approvers`, `revoked_keys` and `host_keys` hold.
        standing: what lies in `standing/`.
        calendar, calendar_lines: `calendar.yaml` and the files it names, and the line of each window in it.
        matrix, matrix_root: `responsibilities.yaml` as checked and as parsed.
    """

    folder: Path
    report: list[Mistake] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)
    entry: SiteEntry | None = None
    root: Node | None = None
    inventory: Inventory = field(default_factory=lambda: Inventory({}, {}))
    host_lines: dict[str, int] = field(default_factory=dict)
    people: tuple[Person, ...] = ()
    people_root: Node | None = None
    approvers: str = ""
    signers: Signers = field(default_factory=Signers)
    revoked: Revoked = field(default_factory=Revoked)
    known_hosts: KnownHosts | None = None
    standing: tuple[StandingLine, ...] = ()
    calendar: Calendar = field(default_factory=Calendar)
    calendar_lines: dict[str, int] = field(default_factory=dict)
    matrix: Matrix = field(default_factory=Matrix)
    matrix_root: Node | None = None

    def source(self, name: str) -> Source:
        """One of the files, as a place for mistakes."""
        return Source(str(self.folder / name), self.report)

    def remark(self, name: str, line: int, text: str) -> None:
        """Note what is no mistake, and may not be as its writer believes."""
        self.remarks.append(Remark(f"{name}{f':{line}' if line else ''}: {visible(text)}", warning=True))

    def clean(self, name: str) -> bool:
        """No mistake was noted in that file; for the inventory, nor in the folders beside it."""
        file = str(self.folder / name)
        beside = tuple(f"{self.folder / one}{os.sep}" for one in FOLDERS) if name == HOSTS else ()
        return not any(one.file == file or one.file.startswith(beside) for one in self.report)

    def line_of_person(self, person: str) -> int:
        """Where somebody's roles stand."""
        return self.people_root.line_of(("people", person, "roles")) if self.people_root else 0

    @property
    def host_keys(self) -> Path:
        """The file of pinned keys."""
        return self.folder / HOST_KEYS


def read_files(folder: Path) -> Files:
    """Read everything in a site's folder; mistakes are in the result's `report`."""
    files = Files(folder)
    if not folder.is_dir():
        files.report.append(Mistake(str(folder), 0, "there is no such folder", "copy inventories/template"))
        return files
    files.root = read_yaml(folder / SITE, files.source(SITE))
    if files.root is not None:
        files.entry = checked(SiteEntry, files.root, files.source(SITE))
    hosts = read_yaml(folder / HOSTS, files.source(HOSTS))
    if hosts is not None:
        beside = VarFiles(folder, files.report)
        files.inventory, files.host_lines = read_inventory(hosts, files.source(HOSTS), beside)
        known = {GROUPS: files.inventory.groups, VARS_OF_HOSTS: files.inventory.hosts}
        for below, name, close in beside.strays(known) if files.inventory.hosts else ():
            files.remark(f"{below}/{name}", 0, f"belongs to nothing and is not read; did you mean `{close}`?")
    _read_people(files)
    _read_keys(files)
    name = files.entry.name if files.entry else ""
    files.standing = tuple(read_standing_lines(folder, files.source(FOLDER), name))
    return files


def _read_people(files: Files) -> None:
    source = files.source(PEOPLE)
    root = read_yaml(files.folder / PEOPLE, source)
    entry = checked(PeopleEntry, root, source) if root is not None else None
    files.people_root = root
    if entry is not None:
        files.people = tuple(
            Person(name, one.name, one.party, frozenset(one.roles), one.left)
            for name, one in entry.people.items()
        )


def _read_keys(files: Files) -> None:
    approvers = read_text(files.folder / APPROVERS, files.source(APPROVERS))
    if approvers is not None:
        files.approvers = approvers
        files.signers, mistakes = parse_signers(approvers, files.source(APPROVERS).file)
        files.report.extend(mistakes)
    if (files.folder / REVOKED).exists():
        text = read_text(files.folder / REVOKED, files.source(REVOKED)) or ""
        files.revoked, mistakes = parse_revoked(text, files.source(REVOKED).file)
        files.report.extend(mistakes)
    if read_text(files.host_keys, files.source(HOST_KEYS)) is None:
        return
    try:
        files.known_hosts = KnownHosts.read(files.host_keys)
    except SiteError as error:
        files.report.extend(error.mistakes)
