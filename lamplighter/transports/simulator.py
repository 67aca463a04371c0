"""A simulated fleet: hosts that are rows of a table, for questions about the engine and never about a server.

It keeps the promises of `lamplighter.model.session` and breaks connections as real ones break, at moments
drawn from a seed. It runs no shell: a handler plays the host. What it does not play: a unit that was claimed
and did not begin, partial output, sudo, time that differs between hosts.

Windows hosts of the same fleet are in `simulator_powershell`. Directories and buckets have no simulator, for
nothing asks for one: a run about an account has one target, and its tests talk to slapd, Samba and a hostile
server of their own (`tests/lab`); what is kept in a bucket goes through `lamplighter.store.Store`, whose
directory is the fast stand-in.
"""

from __future__ import annotations

import json
import random
import sqlite3
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from lamplighter.errors import (
    OutputTooLargeError,
    SessionLostError,
    TimedOutError,
    UnitExistsError,
    UnreachableError,
)
from lamplighter.model.inventory import Host
from lamplighter.model.session import DEFAULT_CAP, DEFAULT_TIMEOUT, Completed, UnitState

_SCHEMA = """
CREATE TABLE IF NOT EXISTS hosts (name TEXT PRIMARY KEY, facts TEXT, boot TEXT, back REAL, acts INTEGER);
CREATE TABLE IF NOT EXISTS units (host TEXT, unit TEXT, ends REAL, code INTEGER, out TEXT, err TEXT,
    PRIMARY KEY (host, unit));
CREATE TABLE IF NOT EXISTS starts (host TEXT, unit TEXT, at REAL);
"""


class Clock(Protocol):
    """Where simulated time comes from."""

    def time(self) -> float:
        """Seconds since some epoch, the same for every process of a test."""

    def sleep(self, seconds: float, /) -> None:
        """Let some pass."""


@dataclass(frozen=True, slots=True)
class FastClock:
    """Real time, `factor` times as fast."""

    factor: float = 1000.0

    def time(self) -> float:
        """Seconds since the epoch, stretched."""
        return time.time() * self.factor

    def sleep(self, seconds: float, /) -> None:
        """Wait a `factor`th of it."""
        time.sleep(max(0.0, seconds) / self.factor)


@dataclass(frozen=True, slots=True)
class Faults:
    """How often things go wrong, 0 to 1, and how long they take, in seconds from and to.

    Attributes:
        down: share of hosts that never answer.
        hang: share of commands that do nothing until their deadline.
        drop: share of commands and launches whose connection breaks, half of them after the effect.
        reboot: share of commands and launches under which the host goes down and comes back.
        latency: of each command. unit: running time of a unit. boot: how long a reboot takes.
    """

    down: float = 0.0
    hang: float = 0.0
    drop: float = 0.0
    reboot: float = 0.0
    latency: tuple[float, float] = (0.0, 0.0)
    unit: tuple[float, float] = (0.0, 0.0)
    boot: tuple[float, float] = (10.0, 30.0)


@dataclass(slots=True)
class SimulatedHost:
    """What a handler sees of the host it plays. Changes to `facts` are kept when it returns.

    Attributes:
        name: inventory name.
        facts: JSON; packages, files, whatever the handler keeps.
        boot_id: changes with every reboot.
        rebooting: set it to have the host reboot after the command.
    """

    name: str
    facts: dict[str, Any] = field(default_factory=dict)
    boot_id: str = ""
    rebooting: bool = False


Handler = Callable[[SimulatedHost, str, tuple[str, ...]], Completed]
"""Plays a host: gets it, the script and its arguments; answers, and may change its facts. Must not block."""


class SimulatedFleet:
    """Many simulated hosts. `connect` is a `lamplighter.model.session.Connect`.

    Args:
        seed: all chance comes from it, per host, whatever the order of threads.
        names: the hosts; their facts start empty.
        handler: plays them.
        faults: what goes wrong.
        clock: how time passes.
        path: a file to keep the hosts in, for other processes and after a crash; in memory without.
    """

    def __init__(
        self,
        seed: int,
        names: Iterable[str],
        handler: Handler,
        *,
        faults: Faults = Faults(),
        clock: Clock = time,
        path: Path | None = None,
    ) -> None:
        self.seed = seed
        self.faults = faults
        self.clock = clock
        self.handler = handler
        self._lock = threading.RLock()
        self._db = sqlite3.connect(
            path or ":memory:", isolation_level=None, check_same_thread=False, timeout=60
        )
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=OFF")  # outlives a killed process, which is what is tested
        self._db.executescript(_SCHEMA)
        with self.transaction() as db:
            fresh = ((name, self._uuid(name, 0)) for name in names)
            db.executemany("INSERT OR IGNORE INTO hosts VALUES (?, '{}', ?, 0, 0)", fresh)

    def __repr__(self) -> str:
        return f"<SimulatedFleet, simulated, seed {self.seed}>"

    def connect(self, host: Host) -> SimulatedSession:
        """Open a simulated session.

        Raises:
            UnreachableError: the host is down, booting, or not in this fleet.
        """
        self.check_up(host.name)
        return SimulatedSession(self, host.name)

    def close(self) -> None:
        """Let go of the table."""
        with self._lock:
            self._db.close()

    def look(self, name: str) -> SimulatedHost:
        """A copy of a host's state, for a test to look at."""
        with self.transaction() as db:
            row = db.execute("SELECT facts, boot FROM hosts WHERE name = ?", (name,)).fetchone()
        if row is None:
            raise UnreachableError("no such simulated host", where=name)
        return SimulatedHost(name, json.loads(row[0]), row[1])

    def set_facts(self, name: str, facts: dict[str, Any]) -> None:
        """Give a host its facts, past the engine: the start of a test, or drift."""
        with self.transaction() as db:
            db.execute("UPDATE hosts SET facts = ? WHERE name = ?", (json.dumps(facts), name))

    def starts(self) -> Counter[tuple[str, str]]:
        """How often each unit of each host was started, by any process: 1, or the engine broke a promise."""
        with self.transaction() as db:
            return Counter((host, unit) for host, unit in db.execute("SELECT host, unit FROM starts"))

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, one at a time, over all processes."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def chance(self, name: str) -> random.Random:
        """The dice for a host's next act: the same for the same seed, host and count of acts."""
        with self.transaction() as db:
            (acts,) = db.execute(
                "UPDATE hosts SET acts = acts + 1 WHERE name = ? RETURNING acts", (name,)
            ).fetchone()
        return random.Random(f"{self.seed}:{name}:{acts}")  # noqa: S311 - a simulation's dice

    def check_up(self, name: str) -> None:
        """Raise `UnreachableError` unless the host answers."""
        with self.transaction() as db:
            row = db.execute("SELECT back FROM hosts WHERE name = ?", (name,)).fetchone()
        down = random.Random(f"{self.seed}:{name}:down").random() < self.faults.down  # noqa: S311 - as above
        if row is None or down or row[0] > self.clock.time():
            raise UnreachableError("the simulated host does not answer", where=name)

    def play(
        self, name: str, script: str, args: tuple[str, ...], unit: str = "", seconds: float = 0.0
    ) -> Completed:
        """Have the handler play a command, or a unit at its start, and keep what it changed."""
        with self.transaction() as db:
            facts, boot = db.execute("SELECT facts, boot FROM hosts WHERE name = ?", (name,)).fetchone()
            now = self.clock.time()
            if unit:
                taken = db.execute("SELECT 1 FROM units WHERE host = ? AND unit = ?", (name, unit)).fetchone()
                if taken:
                    raise UnitExistsError(f"the unit {unit} was launched before", where=name)
                db.execute("INSERT INTO starts VALUES (?, ?, ?)", (name, unit, now))
            host = SimulatedHost(name, json.loads(facts), boot)
            done = self.handler(host, script, args)
            db.execute("UPDATE hosts SET facts = ? WHERE name = ?", (json.dumps(host.facts), name))
            if unit:
                row = (name, unit, now + seconds, done.exit_code, done.stdout, done.stderr)
                db.execute("INSERT INTO units VALUES (?, ?, ?, ?, ?, ?)", row)
        if host.rebooting:
            self.reboot(name)
        return done

    def reboot(self, name: str) -> None:
        """Take a host down, and have it come back with another boot id; its running units are lost."""
        with self.transaction() as db:
            (acts,) = db.execute("SELECT acts FROM hosts WHERE name = ?", (name,)).fetchone()
            dice = random.Random(f"{self.seed}:{name}:{acts}:boot")  # noqa: S311 - as above
            now = self.clock.time()
            back = now + dice.uniform(*self.faults.boot)
            boot = self._uuid(name, acts + 1)
            db.execute("UPDATE hosts SET boot = ?, back = ? WHERE name = ?", (boot, back, name))
            db.execute("UPDATE units SET code = NULL WHERE host = ? AND ends > ?", (name, now))

    def unit(self, name: str, unit: str) -> tuple[UnitState, float, Completed]:
        """A unit's state, when it ends, and how."""
        with self.transaction() as db:
            row = db.execute(
                "SELECT ends, code, out, err FROM units WHERE host = ? AND unit = ?", (name, unit)
            ).fetchone()
        if row is None:
            return UnitState.ABSENT, 0.0, Completed(0, "", "")
        ends, code, out, err = row
        if code is None:
            return UnitState.LOST, ends, Completed(0, "", "")
        state = UnitState.FINISHED if ends <= self.clock.time() else UnitState.RUNNING
        return state, ends, Completed(code, out, err)

    def _uuid(self, name: str, number: int) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{self.seed}:{name}:{number}"))


class SimulatedConnection:
    """What connections to simulated hosts have in common: the troubles."""

    def __init__(self, fleet: SimulatedFleet, host: str) -> None:
        self._fleet = fleet
        self._host = host
        self._lost = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._host}, simulated>"

    @property
    def host(self) -> str:
        """The inventory name of the host."""
        return self._host

    def close(self) -> None:
        """Nothing is held."""

    def attach(self) -> None:
        """Connect once more if need be; raises `UnreachableError`."""
        self._fleet.check_up(self._host)
        self._lost = False

    @contextmanager
    def troubled(self, timeout: float) -> Iterator[random.Random]:
        """Around a command: latency, then perhaps a hang, a reboot, a break before it or after it."""
        fleet, faults = self._fleet, self._fleet.faults
        if self._lost:
            raise SessionLostError("the simulated session was lost before", where=self._host)
        dice = fleet.chance(self._host)
        fate, late = dice.random(), dice.random() < 0.5  # noqa: PLR2004 - a coin
        seconds = dice.uniform(*faults.latency)
        if fate < faults.hang or seconds > timeout:
            fleet.clock.sleep(timeout)
            raise TimedOutError("the simulated command hangs", where=self._host)
        fleet.clock.sleep(seconds)
        reboots = fate < faults.hang + faults.reboot
        breaks = reboots or fate < faults.hang + faults.reboot + faults.drop
        if late or not breaks:
            yield dice
        if reboots:
            fleet.reboot(self._host)
        if breaks or not self._is_up():
            self._lost = True
            raise SessionLostError("the simulated connection broke", where=self._host)

    def _is_up(self) -> bool:
        try:
            self._fleet.check_up(self._host)
        except UnreachableError:
            return False
        return True


class SimulatedSession(SimulatedConnection):
    """One simulated host, connected. See `lamplighter.model.session.Session`."""

    def run(
        self,
        script: str,
        *args: str,
        sudo: bool = False,  # noqa: ARG002 - there is no sudo to refuse
        timeout: float = DEFAULT_TIMEOUT,
        cap: int = DEFAULT_CAP,
    ) -> Completed:
        """Have the host played; see `Session.run`."""
        began = self._fleet.clock.time()
        with self.troubled(timeout):
            done = self._fleet.play(self._host, script, args)
        if max(len(done.stdout), len(done.stderr)) > cap:
            raise OutputTooLargeError(f"more than {cap} bytes of simulated output", where=self._host)
        seconds = self._fleet.clock.time() - began
        return Completed(done.exit_code, done.stdout, done.stderr, seconds)

    def launch(self, unit: str, script: str, *args: str, sudo: bool = False) -> None:  # noqa: ARG002 - as above
        """Start a unit, once for ever; see `Session.launch`. Its effect is there at once, its end later."""
        with self.troubled(DEFAULT_TIMEOUT) as dice:
            self._fleet.play(self._host, script, args, unit, dice.uniform(*self._fleet.faults.unit))

    def unit_state(self, unit: str, *, sudo: bool = False) -> UnitState:  # noqa: ARG002 - as above
        """What became of a unit; see `Session.unit_state`."""
        self.attach()
        return self._fleet.unit(self._host, unit)[0]

    def wait(
        self,
        unit: str,
        *,
        sudo: bool = False,  # noqa: ARG002 - as above
        timeout: float,
        cap: int = DEFAULT_CAP,
    ) -> Completed:
        """Wait for a unit; see `Session.wait`."""
        clock = self._fleet.clock
        deadline = clock.time() + timeout
        while True:
            state, ends, done = self._fleet.unit(self._host, unit)
            if state in {UnitState.LOST, UnitState.ABSENT}:
                raise SessionLostError(f"the simulated unit {unit} is {state}", where=self._host)
            if state is UnitState.FINISHED:
                self._lost = False
                out, err = _excerpt(done.stdout, cap), _excerpt(done.stderr, cap)
                truncated = (out, err) != (done.stdout, done.stderr)
                return Completed(done.exit_code, out, err, clock.time() - (deadline - timeout), truncated)
            if clock.time() >= deadline:
                raise TimedOutError(f"the simulated unit {unit} still runs", where=self._host)
            clock.sleep(min(ends, deadline) - clock.time())

    def ready(self, *, sudo: bool = False) -> None:
        """Every simulated host can start units; see `Session.ready`."""
        del sudo
        self.attach()

    def await_boot(self, previous: str, *, timeout: float, unit: str = "") -> str:
        """Wait for another boot; see `Session.await_boot`. No simulated reboot command fails."""
        del unit
        clock = self._fleet.clock
        deadline = clock.time() + timeout
        while clock.time() < deadline:
            try:
                self.attach()
            except UnreachableError:
                clock.sleep(1.0)
                continue
            boot = self._fleet.look(self._host).boot_id
            if boot != previous:
                return boot
            clock.sleep(1.0)
        raise TimedOutError("the simulated host did not come back with another boot", where=self._host)


def _excerpt(text: str, cap: int) -> str:
    """Head and tail of a text that is longer than `cap`."""
    return text if len(text) <= cap else f"{text[: cap // 2]}\n[...]\n{text[len(text) - cap // 2 :]}"
