"""What only several parts of a site show together: names that must exist elsewhere, gates nobody can pass."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from lamplighter.errors import MalformedError, Mistake, SelectionError, UnreachableError
from lamplighter.model.approval import NAMESPACE as APPROVAL
from lamplighter.model.canonical import canonical
from lamplighter.model.gate import Gate, Requirement, satisfiable, stricter
from lamplighter.model.inventory import SSH_PORT, Host, Shell
from lamplighter.model.options import options_of, parameters_of
from lamplighter.model.runbook import Runbook
from lamplighter.model.selection import closest, select
from lamplighter.model.signers import Signer
from lamplighter.model.standing import Standing
from lamplighter.site.ansible_vars import another_way, unknown
from lamplighter.site.files import APPROVERS, HOST_KEYS, HOSTS, PEOPLE, SITE, Files
from lamplighter.site.schedule import cron_problem, rrule_problem, zone_problem
from lamplighter.site.schema import DeploymentEntry, ScheduleEntry, SiteEntry
from lamplighter.site.ssh_args import ARGS
from lamplighter.site.standing import FOLDER
from lamplighter.site.vars import holds_secret
from lamplighter.transports.ssh_hostkeys import KnownHosts
from lamplighter.transports.ssh_settings import Login, SshSettings
from lamplighter.transports.winrm_http import tls_context
from lamplighter.transports.winrm_settings import WinRmSettings, unprotected

DEFAULT = "default"
"""The key in `rollout` and `gates` that holds for every runbook."""

ALL_HOSTS = 100  # per cent
DEPLOYED = ("site", "hosts")
"""Parameters that a deployment fills in by itself."""
BY_SCHEDULE = {"requester"}
"""Those that a schedule does."""

_S3 = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9_.=/-]*)?", re.ASCII)

Path_ = tuple[int | str, ...]


def check_files(
    files: Files, runbooks: Mapping[str, Runbook] | None, *, here: bool = False, now: int | None = None
) -> None:
    """Note every mistake that shows only across files.

    Args:
        files: as read; its `report` grows.
        runbooks: the known ones by id; None leaves out what needs them.
        here: look for private keys, too: this is the worker they are for.
        now: seconds since the epoch, to tell keys that are no longer valid; None leaves that out.
    """
    if files.entry is not None and files.root is not None:
        _SiteChecks(files, files.entry, runbooks, now).all()
    _check_approvers(files, now)
    _check_standing(files, runbooks or {})
    readable = files.clean(HOSTS)
    _check_ways(files, readable=readable)
    if readable:
        _check_hosts(files, here=here)


class _SiteChecks:
    """The checks that begin in `site.yaml`."""

    def __init__(
        self, files: Files, entry: SiteEntry, runbooks: Mapping[str, Runbook] | None, now: int | None
    ) -> None:
        self.files = files
        self.now = now
        self.entry = entry
        self.runbooks = runbooks

    def all(self) -> None:
        entry = self.entry
        if entry.name != self.files.folder.resolve().name:
            self.note(("name",), f"the site is called `{entry.name}` and its folder "
                      f"`{self.files.folder.resolve().name}`", "give both the same name")
        self.zone(("time_zone",), entry.time_zone)
        self.store()
        seen: dict[tuple[str, str | None], int] = {}
        for place, deployment in enumerate(entry.deployments):
            path: Path_ = ("deployments", place)
            first = seen.setdefault((deployment.runbook, deployment.name), place)
            if first != place:
                self.note(path, f"`{deployment.runbook}` is deployed twice under one name",
                          "give each a `name`")
            self.deployment(path, deployment)
        for key, rollout in entry.rollout.items():
            self.known_runbook(("rollout", key), key)
            shares = rollout.waves.shares
            if shares is not None and (shares != sorted(set(shares)) or shares[-1] != ALL_HOSTS):
                self.note(("rollout", key, "waves", "shares"), f"`shares` is {shares}",
                          "write growing per cents that end with 100, such as [10, 50, 100]")
        for key in entry.gates:
            self.known_runbook(("gates", key), key)
        self.gates()

    def note(self, path: Path_, message: str, advice: str = "") -> None:
        line = self.files.root.line_of(path) if self.files.root else 0
        self.files.source(SITE).mistake(line, message, advice)

    def zone(self, path: Path_, name: str) -> None:
        message, advice = zone_problem(name)
        if message:
            self.note(path, message, advice)

    def store(self) -> None:
        url = self.entry.store.url
        problem = store_problem(url, self.files.folder)
        if problem:
            self.note(("store", "url"), f"the store `{url}` {problem[0]}", problem[1])
        for key, value in self.entry.store.options.items():
            self.secret(("store", "options", key), key, value)

    def secret(self, path: Path_, key: str, value: object) -> None:
        if holds_secret(key, value):
            self.note(path, f"the option `{key}` holds a secret in the clear",
                      "name where it is kept: env:NAME, file:PATH or cmd:NAME")

    def deployment(self, path: Path_, deployment: DeploymentEntry) -> None:
        self.known_runbook((*path, "runbook"), deployment.runbook, or_default=False)
        self.options((*path, "options"), deployment)
        if self.files.clean(HOSTS):
            try:
                select(self.files.inventory, deployment.hosts)
            except SelectionError as error:
                self.note((*path, "hosts"), error.message, error.advice)
        for place, schedule in enumerate(deployment.schedules):
            self.schedule((*path, "schedules", place), schedule)

    def options(self, path: Path_, deployment: DeploymentEntry) -> None:
        given = dict(deployment.options)
        for key, value in deployment.options.items():
            self.secret((*path, key), key, value)
            try:
                canonical(value)
            except MalformedError as error:
                self.note((*path, key), f"the option `{key}`: {error.message}",
                          "use text, whole numbers, true and false")
                del given[key]
        runbook = (self.runbooks or {}).get(deployment.runbook)
        if runbook is None or runbook.start is None:
            return
        choices = parameters_of(runbook.start).without(*DEPLOYED)
        for wrong in choices.wrong(given):
            self.note((*path, wrong.name), f"`{deployment.runbook}`: {wrong.message}", wrong.advice)
        missing = sorted(choices.required - deployment.options.keys() - BY_SCHEDULE)
        if missing and any(schedule.active for schedule in deployment.schedules):
            names = ", ".join(f"`{name}`" for name in missing)
            self.note(path[:-1], f"`{deployment.runbook}` cannot start by a schedule without {names}",
                      "write them under `options`, or take the schedule away")

    def schedule(self, path: Path_, schedule: ScheduleEntry) -> None:
        if bool(schedule.cron) == bool(schedule.rrule):
            self.note(path, "a schedule needs either `cron` or `rrule`", "keep exactly one of the two")
        if schedule.cron and (wrong := cron_problem(schedule.cron)):
            self.note((*path, "cron"), f"the cron rule `{schedule.cron}` {wrong}", "for example `30 2 * * 6`")
        if schedule.rrule and (wrong := rrule_problem(schedule.rrule)):
            self.note((*path, "rrule"), f"the recurrence rule `{schedule.rrule[:60]}` {wrong}",
                      "for example `FREQ=MONTHLY;BYDAY=2TU;BYHOUR=2;BYMINUTE=30;BYSECOND=0`")
        if schedule.time_zone is not None:
            self.zone((*path, "time_zone"), schedule.time_zone)

    def known_runbook(self, path: Path_, name: str, *, or_default: bool = True) -> None:
        if self.runbooks is None or name in self.runbooks or (or_default and name == DEFAULT):
            return
        known = sorted(self.runbooks)
        close = closest(name, known)
        self.note(path, f"there is no runbook `{name}`",
                  f"did you mean `{close}`?" if close else f"there are: {', '.join(known)}")

    def gates(self) -> None:
        """A gate that the people with a key cannot fill would hold every run until it expires."""
        if not self.files.clean(APPROVERS) or not self.files.clean(PEOPLE) or not self.files.people:
            return
        able = {
            signer.principal for signer in _signers(self.files)
            if signer.signs_in(APPROVAL) and signer.key not in self.files.revoked
            and (self.now is None or not _expired(signer, self.now))
        }
        keyed = {person.id: person for person in self.files.people if person.id in able}
        advice = f"give somebody the role, and a line in {APPROVERS} for {APPROVAL}"
        wanted = site_gates(self.entry)
        told: set[str] = set()
        for key, gate in wanted.items():
            for reason in satisfiable(gate, keyed):
                self.note(("gates", key), reason, advice)
                told.add(key)
        for place, deployment in enumerate(self.entry.deployments):
            runbook = (self.runbooks or {}).get(deployment.runbook)
            if runbook is None or not runbook.gate.requirements or told & {DEFAULT, runbook.id}:
                continue
            told.add(runbook.id)
            minimum = minimum_gate(wanted, runbook.id)
            gate = stricter(runbook.gate, minimum) if minimum else runbook.gate
            for reason in satisfiable(gate, keyed):
                self.note(("deployments", place, "runbook"),
                          f"`{runbook.id}` could never pass its gate: {reason}", advice)


def site_gates(entry: SiteEntry) -> dict[str, Gate]:
    """What the site asks for beyond a runbook's own gate, by runbook id or `default`."""
    return {
        key: Gate(tuple(Requirement(one.party, tuple(one.roles), one.quorum) for one in wanted))
        for key, wanted in entry.gates.items()
    }


def minimum_gate(gates: Mapping[str, Gate], runbook: str) -> Gate | None:
    """The gate the site asks for whatever the runbook says; None when it asks for nothing."""
    found = [gates[key] for key in (DEFAULT, runbook) if key in gates]
    return stricter(*found) if len(found) > 1 else next(iter(found), None)


def store_url(url: str) -> str:
    """The URL with `~` and `$NAME` filled in."""
    if not url.startswith("file:"):
        return url
    path = os.path.expandvars(url.removeprefix("file:"))
    return f"file:{os.path.expanduser(path)}"  # noqa: PTH111 - text: a Path would swallow mistakes in it


def store_problem(url: str, folder: Path) -> tuple[str, str] | None:
    """What is wrong with a store's URL, and what to write; None when nothing is."""
    if url.startswith("s3://"):
        return None if _S3.fullmatch(url) else ("is not a bucket", "write s3://bucket/prefix")
    if not url.startswith("file:"):
        return "is of no known kind", "write file:/path or s3://bucket/prefix"
    path = store_url(url).removeprefix("file:")
    left = re.search(r"\$\{?\w+\}?", path)
    if left:
        return f"holds `{left[0]}`, which is not set here", "set it for worker and operators"
    if not path.startswith("/") or path.startswith("//"):
        return "is not an absolute path", "write file:/var/lib/lamplighter/NAME or file:~/lamplighter/NAME"
    if Path(path).resolve().is_relative_to(folder.resolve()):
        return "lies inside the site's own folder", "keep what runs leave behind out of the checkout"
    return None


def _check_standing(files: Files, runbooks: Mapping[str, Runbook]) -> None:
    """A standing approval whose options no run can have opens nothing, and nobody would learn why."""
    for one in files.standing:
        runbook = runbooks.get(one.said.runbook) if isinstance(one.said, Standing) else None
        if runbook is None or runbook.operation is None or not isinstance(one.said, Standing):
            continue
        for wrong in options_of(runbook).wrong(one.said.options):
            files.report.append(Mistake(
                str(files.folder / FOLDER / one.file), 1, f"`{runbook.id}`: {wrong.message}",
                f"{wrong.advice}; sign it anew with `lamplighter standing`, and delete this file",
            ))


def _check_approvers(files: Files, now: int | None) -> None:
    """Everybody with a key is a person of the site who has not left, and has a key that is still valid."""
    people = {person.id: person for person in files.people}
    if not people:
        return
    source = files.source(APPROVERS)
    for signer in sorted(_signers(files), key=lambda one: one.line):
        person = people.get(signer.principal)
        if person is None:
            close = closest(signer.principal, people)
            source.mistake(signer.line, f"`{signer.principal}` is not in people.yaml",
                           f"did you mean `{close}`?" if close else "add the person, or delete the line")
        elif person.left:
            source.mistake(signer.line, f"`{signer.principal}` has left", "delete the line")
        elif signer.key in files.revoked:
            source.mistake(signer.line, f"this key of `{signer.principal}` is revoked", "delete the line")
        elif now is not None and _expired(signer, now):
            end = datetime.fromtimestamp(signer.valid_before, UTC)
            source.mistake(signer.line, f"this key of `{signer.principal}` expired on {end:%Y-%m-%d}",
                           "what it signs counts for nothing: write a later valid-before, or delete it")


def _expired(signer: Signer, now: int) -> bool:
    return bool(signer.valid_before) and signer.valid_before < now


def _signers(files: Files) -> Iterable[Signer]:
    return (signer for signers in files.signers.by_key.values() for signer in signers)


def _check_ways(files: Files, *, readable: bool) -> None:
    """What Ansible would do otherwise, once for each variable; hosts nobody here can speak to, once a kind.

    Args:
        files: as read; the report grows.
        readable: whether `_check_hosts` has its say as well.
    """
    told: set[tuple[str, str]] = set()
    remarks: dict[str, str] = {}
    unspoken: dict[str, list[Host]] = {}
    for host in files.inventory.hosts.values():
        line = files.host_lines[host.name]
        for name, message, advice in another_way(host):
            key = (name, message if name in ARGS else "")
            if key not in told:
                told.add(key)
                files.source(HOSTS).mistake(line, f"`{name}` of `{host.name}` {message}", advice)
        for message in unprotected(host) if host.shell is Shell.POWERSHELL and not readable else ():
            if (message, "") not in told:
                told.add((message, ""))
                files.source(HOSTS).mistake(line, f"the host `{host.name}`: {message}")
        for name in unknown(host):
            if remarks.setdefault(name, host.name) == host.name:
                files.remark(HOSTS, line, f"`{name}` of `{host.name}` is not known and changes nothing here; "
                             "if it says how to log in, say so in variables that are read")
        if host.shell is Shell.OTHER:
            shell = host.vars.get("ansible_shell_type")
            kind = f"ansible_connection: {host.connection}"
            kind += f", ansible_shell_type: {shell}" if shell else ""
            unspoken.setdefault(kind, []).append(host)
    for kind, hosts in unspoken.items():
        more = f" and {len(hosts) - 1} more" if len(hosts) > 1 else ""
        files.remark(HOSTS, files.host_lines[hosts[0].name],
                     f"`{hosts[0].name}`{more}: {kind} is not spoken here; every run refuses such a host")


def _check_hosts(files: Files, *, here: bool) -> None:
    """Every host can be logged in to, as far as its variables and the pinned keys tell."""
    check = _HostChecks(files)
    for host in files.inventory.hosts.values():
        try:
            if host.shell is Shell.POSIX:
                check.ssh(host, SshSettings.of(host))
            elif host.shell is Shell.POWERSHELL:
                check.winrm(host, WinRmSettings.of(host))
        except UnreachableError as error:
            check.note(host, f"the host `{host.name}`: {error.message}", error.advice)
    if here:
        check.look_for_files()


class _HostChecks:
    """The checks of hosts whose variables can be read."""

    def __init__(self, files: Files) -> None:
        self._source, self._lines = files.source(HOSTS), files.host_lines
        self._pinned = files.known_hosts if files.clean(HOST_KEYS) else None
        self._keys: dict[Path, int] = {}
        self._authorities: dict[Path, tuple[int, WinRmSettings]] = {}

    def note(self, host: Host, message: str, advice: str) -> None:
        self._source.mistake(self._lines[host.name], message, advice)

    def ssh(self, host: Host, settings: SshSettings) -> None:
        if settings.key is not None:
            self._keys.setdefault(settings.key, self._lines[host.name])
        name = "" if self._pinned is None else _unpinned(host, settings.target, self._pinned)
        if name:
            self.note(host, f"no host key is pinned for `{host.name}`",
                      f"add a line for {name} to {HOST_KEYS} once internal IT confirmed the fingerprint")

    def winrm(self, host: Host, settings: WinRmSettings) -> None:
        if settings.ca is not None:
            self._authorities.setdefault(settings.ca, (self._lines[host.name], settings))

    def look_for_files(self) -> None:
        """What only the worker has."""
        for key, line in self._keys.items():
            if not _readable(key):
                self._source.mistake(line, f"the private key {key} cannot be read here",
                                     "put it there, readable for the worker's account only")
        for line, settings in self._authorities.values():
            try:
                tls_context(settings)
            except UnreachableError as error:
                self._source.mistake(line, error.message, error.advice)


def _unpinned(host: Host, target: Login, pinned: KnownHosts) -> str:
    """The name under which the host's key should be pinned; empty when one is."""
    pins = pinned.pins(host.name, (target.address, host.name), target.port)
    if set(pins.keys) - set(pins.revoked):
        return ""
    return target.address if target.port == SSH_PORT else f"[{target.address}]:{target.port}"


def _readable(file: Path) -> bool:
    return os.access(file, os.R_OK) and file.is_file()
