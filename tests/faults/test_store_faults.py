"""Campaigns against stores: clocks hours apart, lists that lag, ledgers replaced, stores rolled back at work.

`LAMPLIGHTER_TORTURE=1` runs the numbers of the assurance report and writes docs/assurance/stores.json;
without it a small part is run. Time is moved by hand for the leases, so that hours pass in no time; buckets
are played by a server that lags; directories are real.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from lamplighter.errors import LamplighterError, LeaseHeldError
from lamplighter.inspection import inspect
from lamplighter.leases import Lease, Leases
from lamplighter.ledger import Ledger
from lamplighter.store.directory import DirectoryStore
from tests.bench.rows import Row
from tests.lab.odd_s3 import odd_s3
from tests.storecases import write_run
from tests.storekit import SITE, a_store
from tests.test_leases import Time, die, good
from tests.test_odd_buckets import place_at

pytestmark = pytest.mark.faults

FULL = os.environ.get("LAMPLIGHTER_TORTURE") == "1"
CLOCKS, LAGS, REPLACED, ROLLED = (600, 8, 200, 50) if FULL else (60, 2, 15, 10)
REPORT = Path(__file__).parents[2] / "docs" / "assurance" / "stores.json"
TALLY: Counter[str] = Counter()


@pytest.fixture(scope="module", autouse=True)
def _report() -> Iterator[None]:
    """Every check below raises at the first violation, so what is counted when all passed is the claim."""
    yield
    if FULL and all(TALLY[name] for name in ("takeovers", "lagging", "replaced", "rollbacks")):
        rows = [
            Row("lease_attempts_with_clocks_hours_apart", TALLY["attempts"], "attempts"),
            Row("lease_takeovers_from_dead_runs", TALLY["takeovers"], "takeovers"),
            Row("lease_second_winners", TALLY["winners"], "winners", 0),
            Row("resumes_on_lagging_lists", TALLY["lagging"], "resumes"),
            Row("resumes_on_half_a_past", TALLY["half"], "resumes", 0),
            Row("ledgers_replaced_under_work", TALLY["replaced"], "ledgers"),
            Row("records_acknowledged_and_lost_in_them", TALLY["lost"], "records", 0),
            Row("stores_rolled_back_under_work", TALLY["rollbacks"], "stores"),
            Row("rolled_back_stores_called_sound", TALLY["sound"], "stores", 0),
        ]
        report = {"rows": [row.to_json() for row in rows]}
        REPORT.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


class Workers:
    """Runs on machines whose wall clocks jump by hours; those that live renew, those that died do not."""

    def __init__(self, store: DirectoryStore, dice: random.Random) -> None:
        self.store, self.dice, self.time = store, dice, Time()
        self.time.events.append(self.renew)
        self.held: list[tuple[str, Leases, Lease]] = []
        self.dead: set[str] = set()

    def renew(self) -> None:
        for run, leases, lease in self.held:
            if run not in self.dead:
                leases._renew(lease)

    def attempt(self, run: str) -> None:
        """One run wants the host; its clock is anything."""
        ahead = self.dice.choice([-36000, -300, 0, 150, 300, 7200, 360000])
        leases = Leases(self.store, ttl=60, clock=lambda: time.time() + ahead, ticker=self.time)
        die(leases)
        living = [name for name, _, lease in self.held if name not in self.dead and good(lease)]
        TALLY["attempts"] += 1
        try:
            lease = leases.acquire("web", run)
        except LeaseHeldError:
            assert living
            return
        TALLY["winners"] += bool(living) + sum(good(other) for _, _, other in self.held)
        TALLY["takeovers"] += bool(self.held)
        self.held = [(run, leases, lease)]

    def step(self, number: int) -> None:
        what = self.dice.random()
        if what < 0.3 and self.held:
            self.dead.add(self.held[0][0])
        elif what < 0.45 and self.held:
            _, leases, lease = self.held.pop()
            leases.release(lease)
        else:
            self.attempt(f"run-{number}")


def test_no_second_winner_with_clocks_hours_apart(tmp_path: Path) -> None:
    workers = Workers(a_store(tmp_path / "store"), random.Random(22))  # noqa: S311 - a repeatable campaign
    for number in range(CLOCKS):
        workers.step(number)
        assert TALLY["winners"] == 0
    assert TALLY["takeovers"] > 0


def test_no_run_is_resumed_on_half_of_its_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.0)
    dice = random.Random(5)  # noqa: S311 - as above
    with odd_s3() as server:
        place = place_at(server)
        store = place.new()
        for number in range(LAGS):
            run, before = f"run-{number}", 0
            for _ in range(3):
                server.odd["lag"] = ("ledger.jsonl/", dice.randint(0, 6))
                TALLY["lagging"] += 1
                after = write_run(store if dice.random() < 0.5 else place.open(), run, seal=False, records=2)
                TALLY["half"] += after != before + 2 + (before == 0)
                before = after
            assert TALLY["half"] == 0
        server.odd["lag"] = None
        assert inspect(store, SITE).sound


def test_no_record_is_lost_in_a_ledger_that_was_replaced(tmp_path: Path) -> None:
    """A sync program puts an older copy in its place at any moment; what was acknowledged is never missed."""
    dice = random.Random(7)  # noqa: S311 - as above
    store = a_store(tmp_path / "store")
    for number in range(REPLACED):
        run = f"run-{number}"
        path, told = store.root / "runs" / run / "ledger.jsonl", 0
        with Ledger.open(store, run, SITE) as ledger:
            at, copy = dice.randint(1, 6), b""
            for step in range(8):
                if step == at:
                    copy = path.read_bytes()
                if copy and dice.random() < 0.5:
                    (store.root / "copy").write_bytes(copy)
                    (store.root / "copy").replace(path)
                try:
                    told = ledger.append("note", step=step).seq
                except LamplighterError:
                    break
        TALLY["replaced"] += 1
        try:
            with Ledger.open(DirectoryStore(store.root), run, SITE) as again:
                TALLY["lost"] += max(0, told - again.count)
        except LamplighterError:
            pass  # refused: nothing goes on without its records
        assert TALLY["lost"] == 0


def test_no_store_is_sound_after_it_was_rolled_back(tmp_path: Path) -> None:
    """Restored from a copy of any moment, with sealed and open runs after it."""
    import shutil  # noqa: PLC0415 - only here

    dice = random.Random(9)  # noqa: S311 - as above
    for number in range(ROLLED):
        root, copy = tmp_path / f"store-{number}", tmp_path / f"copy-{number}"
        store = a_store(root)
        for run in range(dice.randint(1, 2)):
            write_run(store, f"run-{run}", seal=dice.random() < 0.7)
        shutil.copytree(root, copy)
        for run in range(dice.randint(1, 2)):
            write_run(store, f"later-{run}", seal=dice.random() < 0.7)
        shutil.rmtree(root)
        copy.replace(root)
        TALLY["rollbacks"] += 1
        TALLY["sound"] += inspect(DirectoryStore(root), SITE).sound
        assert TALLY["sound"] == 0
        shutil.rmtree(root)
