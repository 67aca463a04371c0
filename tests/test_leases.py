"""At most one run holds a host: threads, processes, dead runs, lost clocks."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from lamplighter.errors import LeaseHeldError, StoreError
from lamplighter.leases import Claim, Lease, Leases, _key
from lamplighter.model.canonical import Json
from lamplighter.store import Store, as_part
from lamplighter.store.alive import Ticker, _started, this_process
from lamplighter.store.directory import DirectoryStore
from tests.s3kit import new_store
from tests.storekit import a_store


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return a_store(tmp_path / "store")


@pytest.fixture(params=["directory", "bucket"])
def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "directory":
        return a_store(tmp_path / "store")
    return new_store(request.getfixturevalue("seaweed"))


class Time(Ticker):
    """A clock that is moved by hand, and by whoever waits; what happens meanwhile is in `events`."""

    def __init__(self) -> None:
        self.at = 1000.0
        self.events: list[Callable[[], None]] = []

    def now(self) -> float:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.at += seconds
        for event in self.events:
            event()


def die(leases: Leases) -> None:
    """It renews nothing more, and no kernel tells that its process is gone."""
    leases._end.set()


def test_a_host_is_held_by_one_run_at_a_time(anywhere: Store) -> None:
    with Leases(anywhere, ttl=1) as mine, Leases(anywhere, ttl=1) as other:
        with mine.hold("web1", "run-1") as lease:
            lease.check()
            held = r"run run-1 \(process \d+ on .*\) has held web1 since"
            with pytest.raises(LeaseHeldError, match=held) as told:
                other.acquire("web1", "run-2")
            assert told.value.changed == "This run did not touch it"
            assert "stop it" in told.value.advice
            other.release(other.acquire("web2", "run-2"))
        other.release(other.acquire("web1", "run-2"))
        assert mine.holder("web1") is None


def test_one_process_does_not_hold_a_host_twice(store: DirectoryStore) -> None:
    with Leases(store) as leases, leases.hold("web1", "run-1"), pytest.raises(LeaseHeldError):
        leases.acquire("web1", "run-1")


def test_waiting_is_the_other_policy(store: DirectoryStore) -> None:
    with Leases(store) as mine, Leases(store, wait=10) as patient:
        lease = mine.acquire("web1", "run-1")
        timer = threading.Timer(0.3, mine.release, [lease])
        timer.start()
        patient.release(patient.acquire("web1", "run-2"))
        timer.join()
    with Leases(store, ttl=1) as mine, Leases(store, ttl=1, wait=0.3) as hasty:
        mine.acquire("web1", "run-1")
        began = time.monotonic()
        with pytest.raises(LeaseHeldError):
            hasty.acquire("web1", "run-2")
        assert 0.2 < time.monotonic() - began < 9


def test_a_claim_is_taken_over_after_it_was_watched_unchanged_for_its_time_and_a_margin(
    anywhere: Store,
) -> None:
    time_ = Time()
    dead = Leases(anywhere, ttl=60, ticker=time_)
    dead.acquire("web1", "run-1")
    die(dead)
    time_.at += 10_000  # nobody watched
    began = time_.at
    with Leases(anywhere, ttl=2, margin=30, ticker=time_) as other:
        other.release(other.acquire("web1", "run-2"))
    assert 90 < time_.at - began < 91, "its holder's time, not one's own"


@pytest.mark.parametrize("hours", [-5, -0.04, 0.04, 5, 100_000])
def test_no_wall_clock_gives_a_living_runs_host_away(store: DirectoryStore, hours: float) -> None:
    time_ = Time()
    mine, wrong = Leases(store, ticker=time_), lambda: time.time() + hours * 3600
    lease = mine.acquire("web1", "run-1")
    die(mine)
    time_.events.append(lambda: mine._renew(lease))
    with (
        Leases(store, clock=wrong, ticker=time_) as other,
        pytest.raises(LeaseHeldError, match=r"run-1 .* and lives"),
    ):
        other.acquire("web1", "run-2")
    lease.check()


def test_a_process_that_is_gone_for_certain_holds_nothing(store: DirectoryStore) -> None:
    """The kernel knows; and only of its own boot and PID namespace."""
    child = subprocess.Popen(["sleep", "60"])
    there = this_process() | {"pid": child.pid, "started": _started(child.pid)}

    def claimed(process: dict[str, Json]) -> Time:
        claim = Claim("run-1", "it", process, 0, 60, "n")
        assert store.swap(_key("web1"), store.get(_key("web1")), claim.to_bytes())
        time_ = Time()
        with Leases(store, ticker=time_) as other:
            other.release(other.acquire("web1", "run-2"))
        return time_

    elsewhere = (
        {"namespace": "pid:[1]"}, {"boot": "another"}, {"host": "another"}, {"boot": ""}, {"pid": "x"},
    )
    try:
        assert claimed(there).at > 1090, "it lives"
    finally:
        child.kill()
        child.wait()
    assert claimed(there).at == 1000, "it does not: at once"
    assert claimed(there | {"pid": os.getpid(), "started": "1"}).at == 1000, "its number is another's now"
    for change in elsewhere:
        assert claimed(there | change).at > 1090, change


def test_the_same_run_resumes_its_own_lease_at_once(anywhere: Store) -> None:
    dead = Leases(anywhere)
    lease = dead.acquire("web1", "run-1")
    dead.close()
    with Leases(anywhere) as again:
        resumed = again.acquire("web1", "run-1")
        dead.release(lease)
        claim = again.holder("web1")
        assert claim is not None
        assert claim.nonce == resumed.claim.nonce, "what the dead process gives back is not its own any more"


def test_leases_are_renewed_until_they_are_given_back(store: DirectoryStore) -> None:
    with Leases(store, ttl=0.4, margin=0) as mine, Leases(store, ttl=0.4, margin=0) as other:
        with mine.hold("web1", "run-1") as lease:
            for _ in range(6):
                time.sleep(0.2)
                lease.check()
                with pytest.raises(LeaseHeldError):
                    other.acquire("web1", "run-2")
        other.release(other.acquire("web1", "run-2"))


def test_who_could_not_renew_is_told_before_the_next_step(store: DirectoryStore) -> None:
    leases = Leases(store, ttl=0.3)
    lease = leases.acquire("web1", "run-1")
    leases.close()
    time.sleep(0.35)
    with pytest.raises(LeaseHeldError, match="was lost"):
        lease.check()
    leases.release(lease)
    assert b"run-1" in (store.get(_key("web1")) or b""), "a lost lease is not given back"


def test_a_lease_taken_over_is_noticed_by_its_old_holder(store: DirectoryStore) -> None:
    with Leases(store, ttl=0.4) as mine:
        lease = mine.acquire("web1", "run-1")
        (store.root / _key("web1")).write_bytes(b"{}")
        time.sleep(0.3)
        with pytest.raises(LeaseHeldError):
            lease.check()


@pytest.mark.parametrize("data", [b"garbage", b'{"run":"x"}', b"[]", b'{"by":1}', b"null", (
    b'{"beat":0,"by":"b","nonce":"n","process":{},"run":"r","seconds":"60","since":0}'
)])
def test_a_lease_that_cannot_be_read_is_held(store: DirectoryStore, data: bytes) -> None:
    store.swap(_key("web1"), None, data)
    with Leases(store) as leases, pytest.raises(LeaseHeldError, match="cannot be read"):
        leases.acquire("web1", "run-1")


def test_a_store_that_does_not_answer_is_an_error_and_no_lease(store: DirectoryStore) -> None:
    (store.root / "live").write_bytes(b"in the way")
    with Leases(store) as leases, pytest.raises(StoreError):
        leases.acquire("web1", "run-1")


def test_hosts_of_any_name_have_leases_of_their_own(store: DirectoryStore) -> None:
    names = ["web1", "../etc", "a/b", ".lock", "web1 ", "\u00e9", "*"]
    with Leases(store) as leases:
        for name in names:
            leases.acquire(name, "run-1")
        assert len({as_part(name) for name in names}) == len(names)
        assert all(leases.holder(name) for name in names)


RACER = """
import sys, time
from pathlib import Path
from lamplighter.errors import LeaseHeldError
from lamplighter.leases import Leases
from lamplighter.store.directory import DirectoryStore

root, run = Path(sys.argv[1]), sys.argv[2]
store, inside = DirectoryStore(root / "store"), root / "inside"
print("ready", flush=True)
sys.stdin.readline()
won = 0
with Leases(store, wait=0) as leases:
    end = time.monotonic() + 3
    while time.monotonic() < end:
        try:
            with leases.hold("web1", run):
                (inside / run).touch()
                others = [path.name for path in inside.iterdir()]
                time.sleep(0.001)
                (inside / run).unlink()
                assert others == [run], others
                won += 1
        except LeaseHeldError:
            time.sleep(0.02)
print(won)
"""


def test_racing_threads_never_hold_it_together(anywhere: Store) -> None:
    holders: set[str] = set()
    most, won = [0], [0]

    def race(run: str) -> None:
        with Leases(anywhere) as leases:
            for _ in range(5):
                try:
                    with leases.hold("web1", run):
                        holders.add(run)
                        most[0] = max(most[0], len(holders))
                        won[0] += 1
                        time.sleep(0.0005)
                        holders.discard(run)
                except LeaseHeldError:
                    pass

    threads = [threading.Thread(target=race, args=(f"run-{number}",)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
    assert won[0] > 0


@pytest.mark.faults
def test_fifty_racing_processes_never_hold_it_together(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    a_store(tmp_path / "store")
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(tmp_path), f"run-{number}"], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True,
        )
        for number in range(50)
    ]
    for racer in racers:
        assert racer.stdout
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin
        racer.stdin.write("go\n")
        racer.stdin.flush()
    answers = [racer.communicate(timeout=120)[0] for racer in racers]
    assert [racer.returncode for racer in racers] == [0] * 50
    assert sum(int(answer) for answer in answers) > 0


class OneHolder(RuleBasedStateMachine):
    """Runs that acquire, renew, give back, die and wait, with wall clocks hours apart: never two at once."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.store = a_store(Path(self.folder.name) / "store")
        self.time = Time()
        self.time.events.append(self.renew)
        self.held: dict[str, tuple[Leases, Lease]] = {}
        self.alive: set[str] = set()

    def renew(self) -> None:
        for run in self.alive & self.held.keys():
            leases, lease = self.held[run]
            leases._renew(lease)

    @rule(run=st.sampled_from("abc"), ahead=st.sampled_from([0, -7200, 300, 86400]))
    def acquire(self, run: str, ahead: int) -> None:
        leases = Leases(
            self.store, ttl=60, margin=5, clock=lambda: time.time() + ahead, ticker=self.time
        )
        die(leases)  # it is renewed by hand
        before = set(self.living())
        try:
            lease = leases.acquire("web1", run)
        except LeaseHeldError:
            assert before, "refused, though nobody alive holds it"
            return
        assert not before - {run}, "taken from a living run"
        self.held, self.alive = {run: (leases, lease)}, {run}

    @precondition(lambda self: self.held)
    @rule()
    def release(self) -> None:
        run, (leases, lease) = self.held.popitem()
        self.alive.discard(run)
        leases.release(lease)

    @rule(run=st.sampled_from("abc"))
    def dies(self, run: str) -> None:
        self.alive.discard(run)

    @rule(seconds=st.sampled_from([1, 30, 50]))
    def wait(self, seconds: int) -> None:
        self.time.sleep(seconds)

    def living(self) -> list[str]:
        return [run for run, (_, lease) in self.held.items() if run in self.alive and good(lease)]

    @invariant()
    def at_most_one_believes(self) -> None:
        assert len([1 for _, lease in self.held.values() if good(lease)]) <= 1

    def teardown(self) -> None:
        self.folder.cleanup()


def good(lease: Lease) -> bool:
    try:
        lease.check()
    except LeaseHeldError:
        return False
    return True


OneHolder.TestCase.settings = settings(max_examples=40, stateful_step_count=15, deadline=None)
test_of_runs_that_come_and_go_at_most_one_holds_it = OneHolder.TestCase
