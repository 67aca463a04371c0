"""A site: one customer's estate, loaded from its folder in `inventories/`.

A folder holds `site.yaml`, `hosts.yaml`, `people.yaml`, `host_keys` (OpenSSH `known_hosts`), `approvers`
(OpenSSH `allowed_signers`), if keys were lost `revoked_keys`, and if some changes are approved beforehand
`standing/*.line`. Everything is read and checked at once,
and every mistake in any of them comes in one report, with file and line and what to write instead.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from zoneinfo import ZoneInfo

from lamplighter.errors import Mistake, SelectionError, SiteError
from lamplighter.model.attest import Trust
from lamplighter.model.calendar import Calendar
from lamplighter.model.canonical import Json
from lamplighter.model.gate import Gate, GatePolicy, stricter
from lamplighter.model.inventory import Host, Inventory
from lamplighter.model.party import Party, Person
from lamplighter.model.plan import Limits, Plan
from lamplighter.model.quorum import Emergency
from lamplighter.model.responsibility import Matrix
from lamplighter.model.runbook import Runbook, Waves
from lamplighter.model.selection import closest, select
from lamplighter.model.signers import Revoked, Signers
from lamplighter.model.standing import Standing, pre_authorised
from lamplighter.site.beside import check_beside
from lamplighter.site.calendar import check_calendar, read_calendar, remarks
from lamplighter.site.checks import DEFAULT, check_files, minimum_gate, site_gates, store_url
from lamplighter.site.directory import DIRECTORY, read_directory
from lamplighter.site.files import FILES, PEOPLE, Files, read_files
from lamplighter.site.matrix import check_matrix, read_matrix
from lamplighter.site.notify import NOTIFY, read_notify
from lamplighter.site.roles import check_roles
from lamplighter.site.schedule import zone_problem
from lamplighter.site.schema import RolloutEntry, SiteEntry
from lamplighter.site.standing import StandingLine, of_runbook, standing_files
from lamplighter.site.uses import RecentUses
from lamplighter.site.varfiles import var_files
from lamplighter.site.yaml import Findings
from lamplighter.store import Store, StoreAddress

SETTLED = 2.0
"""Seconds after which a file's times can be trusted to show the next change."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a deployment starts on its own.

    Attributes:
        cron: five fields; empty when `rrule` is given.
        rrule: RFC 5545; empty when `cron` is given.
        time_zone: IANA name.
        active: False keeps the schedule written down and switched off.
    """

    cron: str
    rrule: str
    time_zone: str
    active: bool


@dataclass(frozen=True, slots=True)
class Deployment:
    """A runbook offered at this site for one selection.

    Attributes:
        runbook: its id.
        name: says what it does, as Prefect shows it behind the runbook: `web-prod-monthly`.
        hosts: an Ansible host pattern.
        options: parameters of the flow; no secrets, they stand in Prefect in the clear.
        schedules: when it starts; empty for on demand only.
    """

    runbook: str
    name: str
    hosts: str
    options: Mapping[str, Json]
    schedules: tuple[Schedule, ...]


@dataclass(frozen=True, slots=True)
class Site:
    """One customer's estate, checked.

    Attributes:
        path: its folder.
        name: as the folder is called.
        title: for people.
        time_zone: IANA name; schedules and windows without their own are in it.
        parties: how the two parties are called.
        store: where runs are written, and which store that must be; secrets in its options are references.
        inventory: hosts and groups.
        host_keys: the file of pinned host keys; every SSH host has one in it.
        people: everybody named, in file order, also those who have left.
        approvers: the text of the `approvers` file.
        signers, revoked: what `approvers` and `revoked_keys` say.
        deployments: in file order.
        rollouts: overrides of waves and limits, by runbook id or `default`.
        gates: what the site asks for beyond a runbook's own gate, by runbook id or `default`.
        standing: standing approvals and revokes of them, as they lie in `standing/`.
        emergency: whose second person opens an emergency's gate here.
        overdue_reviews: emergencies are refused while more reviews of earlier ones are overdue.
        calendar: when hosts may be changed.
        matrix: who answers for what.
    """

    path: Path
    name: str
    title: str
    time_zone: str
    parties: Mapping[Party, str]
    store: StoreAddress
    inventory: Inventory
    host_keys: Path
    people: tuple[Person, ...]
    approvers: str
    signers: Signers
    revoked: Revoked
    deployments: tuple[Deployment, ...] = ()
    rollouts: Mapping[str, RolloutEntry] = field(default_factory=dict)
    gates: Mapping[str, Gate] = field(default_factory=dict)
    standing: tuple[StandingLine, ...] = ()
    emergency: Emergency = Emergency.EITHER
    overdue_reviews: int = 2
    calendar: Calendar = field(default_factory=Calendar)
    matrix: Matrix = field(default_factory=Matrix)

    @property
    def trust(self) -> Trust:
        """Whose signatures count here."""
        return Trust({person.id: person for person in self.people}, self.signers, self.revoked)

    @property
    def zone(self) -> ZoneInfo:
        """The time zone itself."""
        return ZoneInfo(self.time_zone)

    def select(self, pattern: str) -> tuple[Host, ...]:
        """The hosts an Ansible pattern names, in inventory order.

        Raises:
            SelectionError: it names nothing, or a word of it does.
        """
        return select(self.inventory, pattern)

    def rollout(self, runbook: Runbook) -> tuple[Limits, Waves]:
        """The runbook's limits and waves as this site overrides them: `default` first, then its own."""
        limits, waves = runbook.limits, runbook.waves
        for key in (DEFAULT, runbook.id):
            if key in self.rollouts:
                entry = self.rollouts[key]
                limits = replace(limits, **entry.limits.model_dump(exclude_none=True))
                changes = entry.waves.model_dump(exclude_none=True)
                changes["shares"] = tuple(changes.get("shares", waves.shares))
                waves = replace(waves, **changes)
        return limits, waves

    def approval_seconds(self, runbook: Runbook) -> int:
        """How long a plan of the runbook can be signed and carried out at this site."""
        said = [self.rollouts[key].approval_seconds for key in (runbook.id, DEFAULT) if key in self.rollouts]
        return next((seconds for seconds in said if seconds is not None), runbook.approval_seconds)

    def minimum(self, runbook: str) -> Gate | None:
        """The gate this site asks for, whatever the runbook says; None when for nothing."""
        return minimum_gate(self.gates, runbook)

    def gate(self, runbook: Runbook) -> Gate:
        """The runbook's gate, tightened by the site's; never loosened."""
        minimum = self.minimum(runbook.id)
        gate = runbook.gate if minimum is None else stricter(runbook.gate, minimum)
        return replace(gate, emergency=gate.emergency.tightened(self.emergency))

    def gate_policy(self, runbook: str, store: Store | None) -> GatePolicy:
        """What the gate judges this site's plans by.

        Args:
            runbook: id of the runbook whose plans are judged.
            store: where used approvals are burned, below `approvals/used/`; read as they are asked for.
                None when it is out of reach: then none counts as used.
        """
        trust = self.trust
        return GatePolicy(
            trust.people, trust.signers, trust.revoked,
            minimum=self.minimum(runbook), emergency=self.emergency, used=_Used(store) if store else {},
            selections=_Selections(self.inventory),
            standing=tuple(one.line for one in of_runbook(self.standing, runbook)),
            uses=RecentUses(store) if store else {},
        )

    def pre_authorised(self, plan: Plan) -> Plan:
        """The plan, as a `standard` change when a standing approval of the site speaks of it."""
        standings = (one.said for one in self.standing if isinstance(one.said, Standing))
        return pre_authorised(plan, standings, _Selections(self.inventory).get)


class _Used(Mapping[str, str]):
    """Approval id to the plan it was used for, looked up in the store when asked."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getitem__(self, approval: str) -> str:
        data = self._store.get(f"approvals/used/{approval}")
        if data is None:
            raise KeyError(approval)
        return data.decode("ascii", "replace")

    def __iter__(self) -> Iterator[str]:
        return (key.rpartition("/")[2] for key in self._store.list("approvals/used/"))

    def __len__(self) -> int:
        return sum(1 for _ in self)


class _Selections(Mapping[str, frozenset[str]]):
    """Host pattern to host names, resolved when asked; a pattern that is wrong names nothing."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory

    def __getitem__(self, pattern: str) -> frozenset[str]:
        try:
            return frozenset(host.name for host in select(self._inventory, pattern))
        except SelectionError as error:
            raise KeyError(pattern) from error

    def __iter__(self) -> Iterator[str]:
        return iter(self._inventory.groups)

    def __len__(self) -> int:
        return len(self._inventory.groups)


def sites_dir() -> Path:
    """Where the sites are: LAMPLIGHTER_INVENTORIES, else `inventories/` below the current directory."""
    return Path(os.environ.get("LAMPLIGHTER_INVENTORIES") or "inventories")


def site_path(name: str) -> Path:
    """The folder of a site.

    Raises:
        SelectionError: there is none of that name; names the closest, and all there are.
    """
    folder = sites_dir()
    known = sorted(path.parent.name for path in folder.glob("*/site.yaml"))
    if name in known:
        return folder / name
    close = closest(name, known)
    hint = f"Did you mean `{close}`? " if close else ""
    none = "Copy inventories/template, or set LAMPLIGHTER_INVENTORIES to where your sites are"
    there = f"There are: {', '.join(known)}" if known else none
    raise SelectionError(f"there is no site `{name}` in {folder}", advice=hint + there)


def load_site_named(name: str, runbooks: Mapping[str, Runbook] | None = None) -> Site:
    """Load a site by its name; see `site_path` and `load_site`."""
    return load_site(site_path(name), runbooks)


def load_site(path: Path, runbooks: Mapping[str, Runbook] | None = None) -> Site:
    """Load and check a site.

    Args:
        path: its folder.
        runbooks: the known runbooks by id; without them, what names a runbook is not checked.

    Raises:
        SiteError: with every mistake of every file.
    """
    stamp = None if runbooks else _stamp(path)
    return _load(path, runbooks) if stamp is None else _load_unchanged(path, stamp)


def _load(path: Path, runbooks: Mapping[str, Runbook] | None) -> Site:
    files = _read(path, runbooks)
    if files.report or files.entry is None:
        raise SiteError(tuple(files.report))
    return _site(files, files.entry)


def _read(
    path: Path, runbooks: Mapping[str, Runbook] | None, *, here: bool = False, now: int | None = None
) -> Files:
    """Read every file, and look at each and at all together."""
    files = read_files(path)
    if files.folder.is_dir():
        files.matrix, files.matrix_root = read_matrix(files)
        check_roles(files, runbooks)
        files.calendar = read_calendar(files)
        people = files.people if files.clean(PEOPLE) else ()
        servers = read_notify(files.folder, people, files.report).servers
        read_directory(files.folder, files.report, people, servers if files.clean(NOTIFY) else None)
    check_beside(files, (*FILES, NOTIFY, DIRECTORY))
    check_files(files, runbooks, here=here, now=now)
    zone = files.entry.time_zone if files.entry and not zone_problem(files.entry.time_zone)[0] else "UTC"
    today = None if now is None else datetime.fromtimestamp(now, ZoneInfo(zone)).date()
    check_matrix(files, runbooks, today)
    if now is not None:
        check_calendar(files, now)
    return files


@lru_cache(maxsize=4)
def _load_unchanged(path: Path, stamp: tuple[object, ...]) -> Site:
    """A run looks every few seconds who may still sign; 10,000 hosts are not parsed each time for that."""
    del stamp  # only tells the cache whether anything changed
    return _load(path, None)


def _stamp(path: Path) -> tuple[object, ...] | None:
    """What changes when a site's file does; None while one is so young that a change might not show.

    File systems tick in milliseconds: a second write within the tick of the first leaves no trace in the
    times. Two seconds later that cannot happen any more.
    """
    stamps: list[object] = [os.environ.get("HOME")]  # the store's URL may be made of it
    for file in [
        *(path / name for name in (*FILES, NOTIFY, DIRECTORY)), *standing_files(path),
        *sorted(path.glob("*.ics")), *var_files(path),
    ]:
        try:
            found = file.stat()
        except OSError:
            stamps.append(None)
            continue
        if time.time() - max(found.st_mtime, found.st_ctime) < SETTLED:
            return None
        stamps += (str(file), found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    return tuple(stamps)


def check_site(
    path: Path, runbooks: Mapping[str, Runbook] | None = None, *, here: bool = False, now: int | None = None,
) -> tuple[Mistake, ...]:
    """Every mistake of a site, sorted.

    Args:
        path, runbooks: as for `load_site`.
        here: this is the worker: look for the private keys as well, which are nowhere else.
        now: seconds since the epoch, to tell what is stale, overlaps or never comes; a run passes over that.
    """
    return _findings(_read(path, runbooks, here=here, now=now), None).mistakes


def look_at_site(
    path: Path, runbooks: Mapping[str, Runbook] | None, now: int, *, here: bool = False
) -> Findings:
    """The mistakes, as `check_site`, and what else is worth a word."""
    return _findings(_read(path, runbooks, here=here, now=now), now)


def _findings(files: Files, now: int | None) -> Findings:
    said = tuple(files.remarks)
    if now is not None and files.entry and not zone_problem(files.entry.time_zone)[0]:
        said += tuple(remarks(files.calendar, files.entry.time_zone, now))
    return Findings(tuple(sorted(set(files.report))), said)


def _site(files: Files, entry: SiteEntry) -> Site:
    return Site(
        path=files.folder, name=entry.name, title=entry.title, time_zone=entry.time_zone,
        parties={Party.INTERNAL: entry.parties.internal, Party.MSP: entry.parties.msp},
        store=_store(entry), inventory=files.inventory,
        host_keys=files.host_keys, people=files.people, approvers=files.approvers, signers=files.signers,
        revoked=files.revoked, deployments=tuple(_deployments(entry)), rollouts=entry.rollout,
        gates=site_gates(entry), standing=files.standing, emergency=entry.emergency,
        overdue_reviews=entry.overdue_reviews, calendar=files.calendar, matrix=files.matrix,
    )


def _store(entry: SiteEntry) -> StoreAddress:
    return StoreAddress(store_url(entry.store.url), entry.store.options, entry.store.id, entry.name)


def _deployments(entry: SiteEntry) -> Iterator[Deployment]:
    for one in entry.deployments:
        schedules = tuple(
            Schedule(rule.cron or "", rule.rrule or "", rule.time_zone or entry.time_zone, rule.active)
            for rule in one.schedules
        )
        name = one.name or f"{one.runbook}-{entry.name}"
        yield Deployment(one.runbook, name, one.hosts, one.options, schedules)
