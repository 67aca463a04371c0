"""What every Linux runbook reads and does, whatever the packages: readings, space, services, kernels, probes.

Scripts are files in `tasks/shell/`; each prints its readings as parts between marks, and pure functions
here turn a part's text into values.
"""

from __future__ import annotations

import re
import secrets
import shlex
import time
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lamplighter.errors import OutputTooLargeError, TimedOutError, UnusableError
from lamplighter.model.canonical import Json
from lamplighter.model.inventory import Host
from lamplighter.model.session import Session

SHELL = Path(__file__).parent / "shell"
READING_CAP = 8 * 1024 * 1024
"""Bytes one reading may print; a host with 5,000 packages prints about 600 kB."""

_WHOLE = re.compile(r"-?[0-9]{1,18}")


def whole(text: str, otherwise: int = 0) -> int:
    """A whole number as a host prints one; `otherwise` for what is none, or longer than any that is meant."""
    return int(text) if _WHOLE.fullmatch(text) else otherwise


# --- readings -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Part:
    """One reading: a command's exit code, its standard output, and what it said on standard error."""

    code: int
    text: str
    said: str = ""

    @property
    def lines(self) -> list[str]:
        """The lines of its output that are not blank."""
        return [line for line in self.text.splitlines() if line.strip()]

    @property
    def everything(self) -> str:
        """Output and errors, for what looks for complaints in either."""
        return "\n".join(filter(None, (self.text, self.said)))


class Reading(dict[str, Part]):
    """The parts of one script by name. A part the script left out reads as empty with code 127."""

    def __missing__(self, name: str) -> Part:
        return Part(127, "")


def script(name: str) -> str:
    """The text of `tasks/shell/<name>.sh` with what it shares in front: `common.sh`, and its family's.

    The family of `apt_survey` is `apt`: whatever calls apt reads `apt.sh`.
    """
    family = name.partition("_")[0]
    files = [SHELL / f"{file}.sh" for file in dict.fromkeys(("common", family, name))]
    return "\n".join(file.read_text(encoding="utf-8") for file in files if file.exists())


def read(session: Session, name: str, *args: str, timeout: float, sudo: bool = True) -> Reading:
    """Run a script that prints parts, and take it apart.

    Raises:
        UnusableError: it ended early or printed more than 8 MiB.
        TransportError: the connection failed, or sudo was refused.
    """
    mark = secrets.token_hex(8)
    try:
        done = session.run(script(name), mark, *args, sudo=sudo, timeout=timeout, cap=READING_CAP)
    except OutputTooLargeError as error:
        raise UnusableError(
            f"the host printed more than {READING_CAP} bytes when it was asked for its state",
            where=session.host, changed="nothing was changed",
            advice="look what floods the output: a login script, or apt itself",
        ) from error
    reading = parts(done.stdout, mark)
    if done.exit_code != 0 or not reading:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise UnusableError(
            f"reading its state ended with exit code {done.exit_code}"
            + "".join(f": {line[:300]}" for line in last),
            where=session.host, changed="nothing was changed", advice="run the command by hand and look",
        )
    return reading


def parts(text: str, mark: str) -> Reading:
    r"""Take a script's output apart.

    Returns:
        `{"boot_id": Part(0, "3c1f...")}`; nothing when a part did not end: half a reading is none.
    """
    begin, said, end = (f"--{re.escape(mark)} {word}" for word in ("begin", "said", "end"))
    pattern = re.compile(
        rf"^{begin} (\S+)\n(.*?)^{said} \1\n(.*?)^{end} \1 (\d+)$", re.MULTILINE | re.DOTALL
    )
    text = unicodedata.normalize("NFC", text)
    found = pattern.findall(text)
    if len(found) != text.count(f"--{mark} begin "):
        return Reading()
    return Reading(
        {name: Part(int(code), body.strip("\n"), err.strip("\n")) for name, body, err, code in found}
    )


_BOOT_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def boot_id(reading: Reading, where: str) -> str:
    """The part `boot_id`, if it is one: a UUID of random(4), read without an error.

    Raises:
        UnusableError: it is none, and so nothing could tell a reboot.
    """
    part = reading["boot_id"]
    value = part.text.strip()
    if part.code == 0 and _BOOT_ID.fullmatch(value):
        return value
    said = (part.said or part.text).strip()[:200] or f"exit code {part.code}"
    raise UnusableError(
        f"its boot id cannot be read: {said}", where=where, changed="nothing was changed",
        advice="/proc/sys/kernel/random/boot_id must be readable: containers and sandboxes may hide it",
    )


def clock_offset(sent: float, received: float, first: float, last: float) -> float:
    """How many seconds a host's clock is ahead, at least; negative when it is behind.

    Args:
        sent, received: the worker's clock around the reading.
        first, last: the host's clock at the reading's start and end, both between those moments.

    Returns:
        0 when the reading is explained by the time it took, else the smallest offset that explains it.
    """
    if first < sent:
        return first - sent
    return max(0.0, last - received)


# --- space ----------------------------------------------------------------------------------------

GIB = 1024 * 1024
LEAST_FREE_KB: Mapping[str, int] = {
    "/": GIB, "/boot": 200 * 1024, "/var": 2 * GIB, "/var/cache/apt/archives": 0, "/tmp": 50 * 1024,  # noqa: S108 - a path on the host, not one of ours
}
SMALL_HOST_PERCENT = 5
LEAST_FREE_INODES_PERCENT = 1


@dataclass(frozen=True, slots=True)
class Space:
    """What is free under one path. A file system without inodes of its own has `inodes` 0."""

    path: str
    device: str
    size_kb: int = 0
    free_kb: int = 0
    inodes: int = 0
    free_inodes: int = 0
    readonly: bool = False

    def problem(self, need_kb: int, least_kb: int | None = None) -> str:
        """A sentence when too little is free, else empty.

        Args:
            need_kb: what the change itself takes here.
            least_kb: what must stay free; by default the path's usual value, or 5 % on a small file system.
        """
        usual = min(LEAST_FREE_KB.get(self.path, 0), self.size_kb * SMALL_HOST_PERCENT // 100)
        least = need_kb + (usual if least_kb is None else least_kb)
        if self.readonly:
            return f"{self.path} cannot be written to (mounted read-only after a disk error?)"
        if self.free_kb < least:
            return f"{self.path} has {_mb(self.free_kb)} free and needs {_mb(least)}"
        if self.inodes and self.free_inodes * 100 < self.inodes * LEAST_FREE_INODES_PERCENT:
            return f"{self.path} has {self.free_inodes} of {self.inodes} inodes free"
        return ""


def _mb(kilobytes: int) -> str:
    return f"{kilobytes / 1024:.0f} MB" if kilobytes >= 10 * 1024 else f"{kilobytes} kB"


def spaces(text: str) -> tuple[Space, ...]:
    """Read `kb PATH` and `inodes PATH` lines in front of `df -P` columns.

    Returns:
        `(Space("/", "/dev/vda", 264000000, 82000000, 16777216, 16000000), ...)` in the order printed.
    """
    found: dict[str, dict[str, Json]] = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) == 2 and words[0] == "readonly":  # noqa: PLR2004 - word and path
            found.setdefault(words[1], {})["readonly"] = True
        if len(words) < 8 or words[0] not in ("kb", "inodes"):  # noqa: PLR2004 - two of ours, six of df's
            continue
        size, _, free = (whole(word) for word in words[3:6])
        values = (
            {"device": words[2], "size_kb": size, "free_kb": free} if words[0] == "kb"
            else {"inodes": size, "free_inodes": free}
        )
        found.setdefault(words[1], {}).update(values)
    return tuple(Space(path, **{"device": "", **values}) for path, values in found.items())


# --- services -------------------------------------------------------------------------------------

PASSING = re.compile(r"^(run-|apt-daily|systemd-)")
"""Units that come and go by themselves: that one does not run says nothing; that it failed does."""
SESSIONS = re.compile(r"^(user@|user-runtime-dir@|session-|lamplighter-)")
"""Units of people who are logged in, and our own: neither says anything of the host."""


@dataclass(frozen=True, slots=True)
class Services:
    """Units that run and are meant to (enabled), and units that failed; names sorted."""

    running: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Json]:
        """As it goes into a step's arguments."""
        return {"running": list(self.running), "failed": list(self.failed)}

    @classmethod
    def from_json(cls, value: Mapping[str, Json]) -> Services:
        """Back from a step's arguments."""
        return cls(tuple(value.get("running", ())), tuple(value.get("failed", ())))

    def worse_than(self, before: Services) -> tuple[str, ...]:
        """Sentences for what failed or stopped since `before`."""
        failed = sorted(set(self.failed) - set(before.failed))
        stopped = sorted(set(before.running) - set(self.running) - set(failed))
        return (
            *(f"{name} failed: journalctl -u {name}" for name in failed),
            *(f"{name} ran before and does not run now" for name in stopped),
        )


def services(text: str) -> Services:
    """Read `systemctl show` records, or the list of `service --status-all`, after a line saying which.

    Returns:
        `Services(running=("cron.service", "ssh.service"), failed=("backup.service",))`
    """
    kind, _, rest = text.partition("\n")
    if kind.strip() == "sysv":
        return Services(tuple(sorted(re.findall(r"^\s*\[ \+ \]\s+(\S+)\s*$", rest, re.MULTILINE))))
    running, failed = set[str](), set[str]()
    for block in rest.split("\n\n"):
        unit = dict(line.partition("=")[::2] for line in block.splitlines() if "=" in line)
        name = unit.get("Id", "")
        if not name or SESSIONS.match(name):
            continue
        if unit.get("ActiveState") == "failed":
            failed.add(name)
        enabled = unit.get("UnitFileState") in {"enabled", "enabled-runtime", "generated", "linked"}
        enabled = enabled and not PASSING.match(name)
        if name.endswith(".service") and unit.get("SubState") == "running" and enabled:
            running.add(name)
    return Services(tuple(sorted(running)), tuple(sorted(failed)))


# --- the site's own probes ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Probe:
    """A command of the site's that must succeed on a healthy host.

    Attributes:
        run: shell text, run as the connecting account.
        timeout: seconds for one try.
        within: seconds in which it must have succeeded once; services take a moment after a boot.
    """

    run: str
    timeout: float = 15.0
    within: float = 30.0


def own_probes(host: Host) -> tuple[Probe, ...]:
    """The host variable `lamplighter_probes`: shell lines, argument lists, or `{run, timeout, within}`.

    Raises:
        UnusableError: an entry is none of these.
    """
    probes = []
    for entry in host.vars.get("lamplighter_probes") or ():
        fields = entry if isinstance(entry, Mapping) else {"run": entry}
        run = fields.get("run")
        line = shlex.join(map(str, run)) if isinstance(run, list) else run
        try:
            seconds = {key: float(fields[key]) for key in ("timeout", "within") if key in fields}
        except (TypeError, ValueError):
            line = None
        if not isinstance(line, str) or not line.strip() or set(fields) - {"run", "timeout", "within"}:
            raise UnusableError(
                f"lamplighter_probes has an entry that is no probe: {str(entry)[:200]}", where=host.name,
                advice="write a shell line, a list of arguments, or {run: ..., timeout: 15, within: 30}",
            )
        probes.append(Probe(line, **seconds))
    return tuple(probes)


def failing_probe(session: Session, probe: Probe) -> str:
    """Run one probe until it succeeds or its time is over; a sentence when it never did, else empty."""
    deadline = time.monotonic() + probe.within
    while True:
        try:
            done = session.run(probe.run, timeout=probe.timeout)
        except OutputTooLargeError:
            return f"the probe `{probe.run}` printed more than can be read"
        except TimedOutError:
            said = f"did not end within {probe.timeout:.0f} s"
        else:
            if done.exit_code == 0:
                return ""
            last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
            said = f"ended with exit code {done.exit_code}" + "".join(f": {line[:200]}" for line in last)
        if time.monotonic() >= deadline:
            return f"the probe `{probe.run}` {said}"
        time.sleep(min(1.0, max(0.0, deadline - time.monotonic())))
