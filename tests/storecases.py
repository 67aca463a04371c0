"""What a case does with a store, and how that ends: the same for every store there is or is played.

Each function takes a `Place` and gives back how it ended, in a word of the cases, and what people read.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from lamplighter.errors import ExistsError, LamplighterError
from lamplighter.inspection import inspect
from lamplighter.leases import Leases
from lamplighter.ledger import Ledger
from lamplighter.store import Store
from tests.storekit import SITE, named

RUNS = ("run-1", "run-2")
End = tuple[str, str]


@dataclass
class Place:
    """Where a store is.

    Params: open, gives an instance of its own as another process would have; do, what an administrator or
    another program does to it, by name; restore, keeps a copy and gives back what brings it back.
    """

    open: Callable[[], Store]
    do: Callable[[str, str], None]
    keep: Callable[[], Callable[[], None]]
    made: bool = field(default=False)

    def new(self) -> Store:
        """The store, made."""
        store = named(self.open())
        self.made = True
        return store


def told(act: Callable[[], str]) -> End:
    """How an action ends. Errors end it as `refused`, with what they say."""
    try:
        return act(), ""
    except LamplighterError as error:
        return "refused", str(error)


def write_run(store: Store, run: str, *, seal: bool = True, records: int = 3) -> int:
    """A run, or more of one. Returns: how many records it has."""
    with Ledger.open(store, run, SITE) as ledger:
        if not ledger.count:
            ledger.append("opened", site=SITE)
        for number in range(records):
            ledger.append("note", number=number)
        if seal:
            ledger.seal("Planned")
        return ledger.count


def verdict(store: Store) -> End:
    """What verify finds."""
    found = inspect(store, SITE)
    texts = [one.message for one in found.problems]
    texts += [f"{run.run}: {one.message}" for run in found.runs for one in run.problems]
    texts += [f"foreign: {name}" for name in found.foreign]
    texts += [] if found.versions else ["no versions are kept, so deletions cannot be seen"]
    texts += [f"confirmed outside up to seal {found.confirmed}"]
    return ("sound" if found.sound else "not sound"), "; ".join([*texts, *store.cautions()])


def life(place: Place, _: Mapping[str, Any]) -> End:
    """A run, a lease twice, a seal, a second run, verify."""
    def act() -> str:
        store = place.new()
        for run in RUNS:
            with Leases(store) as leases, leases.hold("web", run) as lease:
                lease.check()
                write_run(place.open(), run)
        with Ledger.open(place.open(), RUNS[0], SITE) as again:
            return "works" if again.count == 5 and again.sealed else "lost"
    end, said = told(act)
    return (end, said) if end != "works" else _with_verdict(place)


def _with_verdict(place: Place) -> End:
    end, said = verdict(place.open())
    return ("works", said) if end == "sound" else (end, said)


def race(place: Place, case: Mapping[str, Any]) -> End:
    """Four writers at once, many times: on new keys, or on one counter."""
    rounds = case.get("rounds", 10)

    def act() -> str:
        place.new()
        stores = [place.open() for _ in range(4)]
        for turn in range(rounds):
            barrier = threading.Barrier(4)

            def one(number: int, turn: int = turn, barrier: threading.Barrier = barrier) -> bool:
                barrier.wait()
                return _wins(stores[number], f"k{turn}", b"%d" % number)

            with ThreadPoolExecutor(4) as pool:
                if sum(pool.map(one, range(4))) > 1:
                    return "two winners"
        return "works"
    return told(act)


def _wins(store: Store, name: str, data: bytes) -> bool:
    try:
        store.put_new(f"race/{name}", data)
        won = True
    except ExistsError:
        won = False
    return store.swap(f"live/race/{name}", None, b"the same") or won


def swaps(place: Place, _: Mapping[str, Any]) -> End:
    """A host is held past two renewals, given back, and taken by the next run."""
    def act() -> str:
        store = place.new()
        with Leases(store, ttl=3) as leases, leases.hold("web", RUNS[0]) as lease:
            for _ in range(3):
                threading.Event().wait(0.4)
                lease.check()
        with Leases(store, ttl=3, wait=5) as leases, leases.hold("web", RUNS[1]) as lease:
            lease.check()
        return "works"
    return told(act)


def resume(place: Place, case: Mapping[str, Any]) -> End:
    """A run is closed, `then` something happens, and it is resumed and written on: on all of its records."""
    def act() -> str:
        store = place.new()
        before = write_run(store, RUNS[0], seal=False, records=6)
        for what, key in case.get("then", ()):
            place.do(what, key)
        after = write_run(place.open(), RUNS[0], records=2)
        return "works" if after == before + 3 else "half a past"
    return told(act)


def put_says(place: Place, case: Mapping[str, Any]) -> End:
    """What is said about a write whose answer does not come; and then the same write again."""
    store = place.new()
    for what, key in case["then"]:
        place.do(what, key)
    end, said = told(lambda: (store.put_new("plans/p1", b"plan"), "works")[1])
    store.put_new("plans/p1", b"plan")
    return ("error" if end == "refused" else end), said


def after(place: Place, case: Mapping[str, Any]) -> End:
    """Sealed and open runs; `then` something happens; verify, and where the case says so another run."""
    store = place.new()
    for run in case.get("sealed", ["run-1", "run-2"]):
        write_run(store, run)
    for run in case.get("open", []):
        write_run(store, run, seal=False)
    back = place.keep()
    for run in case.get("later", []):
        write_run(store, run)
    for what, key in case.get("then", ()):
        back() if what == "restore" else place.do(what, key)
    end, said = verdict(place.open())
    if case.get("run"):
        next_end, why = told(lambda: write_run(place.open(), case["run"]) and "works")
        return (end if next_end == "works" else next_end), f"{said}; {why}"
    return end, said


def two_open(place: Place, _: Mapping[str, Any]) -> End:
    """One process has a run open, and a second one opens it."""
    store = place.new()
    with Ledger.open(store, RUNS[0], SITE) as first:
        first.append("opened", site=SITE)
        end, said = told(lambda: write_run(place.open(), RUNS[0]) and "works")
        return end, said


DO: dict[str, Callable[[Place, Mapping[str, Any]], End]] = {
    "life": life, "race": race, "swaps": swaps, "resume": resume, "put says": put_says, "after": after,
    "two open": two_open,
}


