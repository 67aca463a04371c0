"""What a survey saw of one apt host: the facts a plan is made from."""

from __future__ import annotations

from dataclasses import dataclass, field

from lamplighter.model.canonical import JsonObject
from tasks.apt_ground import Ground
from tasks.apt_offers import Waiting
from tasks.apt_view import View
from tasks.debian_host import Change, Packages, Release, Simulation
from tasks.kernels import Kernels
from tasks.linux import Services, Space


@dataclass(frozen=True, slots=True)
class AptFacts:
    """What a survey saw of one host.

    Attributes:
        scope: `security` or `all`.
        release, support: the distribution, and a sentence when its support is ending, over, or not known.
        boot_id, uptime, kernels: the running system; uptime in seconds.
        clock: seconds the host is ahead of the worker (negative: behind).
        lock: who held a lock of apt or dpkg for as long as the survey waited, a sentence; empty when free.
        space: per path.
        packages, audit: dpkg's database, and what `dpkg --audit` has to say about it.
        asks: who asks for a reboot; None when nobody does.
        services: what runs and what has failed before the change.
        age: seconds since the package lists were refreshed.
        view: the archives it takes packages from.
        waiting: what they offer, sorted out.
        ground: what apt stands on.
        wanted: with scope `all`, what apt would do if asked for everything.
        stuck: names with a security fix that apt cannot install.
        rehearsal: what apt would do if told exactly what is planned, dependencies included.
        download_kb, disk_kb: what it fetches and takes.
        conffiles, deleted: configuration files of the planned packages that were changed here, or deleted.
    """

    scope: str
    release: Release
    boot_id: str
    packages: Packages
    support: str = ""
    uptime: int = 0
    kernels: Kernels = field(default_factory=lambda: Kernels(""))
    clock: float = 0.0
    lock: str = ""
    space: tuple[Space, ...] = ()
    audit: str = ""
    asks: tuple[str, ...] | None = None
    services: Services = field(default_factory=Services)
    age: int = 0
    view: View = field(default_factory=View)
    waiting: Waiting = field(default_factory=Waiting)
    ground: Ground = field(default_factory=Ground)
    wanted: Simulation = field(default_factory=Simulation)
    stuck: tuple[str, ...] = ()
    rehearsal: Simulation = field(default_factory=Simulation)
    download_kb: int = 0
    disk_kb: int = 0
    conffiles: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()

    @property
    def changes(self) -> tuple[Change, ...]:
        """What would be installed, in name order."""
        return self.rehearsal.install

    @property
    def removals(self) -> tuple[Change, ...]:
        """What would be removed, in name order."""
        return self.rehearsal.remove

    @property
    def kept_back(self) -> tuple[str, ...]:
        """What the scope offers and apt cannot install; holds, pins and phased updates left out."""
        decided = {*self.packages.held, *self.waiting.pinned, *self.waiting.phased}
        return tuple(name for name in (*self.stuck, *self.wanted.names("kept back")) if name not in decided)

    @property
    def phased(self) -> tuple[str, ...]:
        """Updates that wait for this host's turn."""
        named = {*self.wanted.names("deferred due to phasing"),
                 *(name for name in self.wanted.names("kept back") if name in self.waiting.phased)}
        return tuple(sorted(named))

    def relevant(self) -> JsonObject:
        """What the plan depends on: not free bytes, uptime or the clock, which change by themselves."""
        return {
            "scope": self.scope, "release": f"{self.release.id} {self.release.version}",
            "boot_id": self.boot_id,
            "install": {one.name: [one.old, one.new] for one in self.changes},
            "remove": {one.name: one.old for one in self.removals},
            "held": list(self.packages.held), "broken": dict(self.packages.broken),
            "interrupted": self.packages.interrupted, "asks": None if self.asks is None else list(self.asks),
        }
