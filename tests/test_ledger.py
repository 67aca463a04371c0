"""The ledger: durable when it returns, one writer, recovered after a crash, closed after an error."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lamplighter.errors import LedgerBrokenError, LedgerError, MalformedError, StoreError
from lamplighter.ledger import Ledger, read_ledger
from lamplighter.model.chain import Break, make_record, verify_chain
from lamplighter.seals import add_seal, runs_of, seal_lines, site_head
from lamplighter.store import Log, Store, StoreFullError, lines
from lamplighter.store.directory import DirectoryStore
from lamplighter.store.identity import site_of
from tests.lab.seaweedfs import Seaweed
from tests.s3kit import new_store
from tests.storekit import a_store

RUN, SITE, KEY = "patch-linux-0001", "demo", "runs/patch-linux-0001/ledger.jsonl"


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return a_store(tmp_path / "store")


@pytest.fixture(params=["directory", "bucket", "locked bucket"])
def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "directory":
        return a_store(tmp_path / "store")
    server: Seaweed = request.getfixturevalue("seaweed")
    return new_store(server, lock=request.param == "locked bucket")


def opened(store: Store, run: str = RUN) -> Ledger:
    return Ledger.open(store, run, SITE, clock=lambda: 1_700_000_000.5)


def verdict(store: Store, run: str = RUN) -> tuple[int, str]:
    found = verify_chain(lines(store.read_log(f"runs/{run}/ledger.jsonl")), run, SITE)
    return found.count, found.failure.reason if found.failure else ""


def test_what_was_appended_is_there_for_the_next_process(anywhere: Store) -> None:
    with opened(anywhere) as ledger:
        first = ledger.append("opened", runbook="patch-linux")
        ledger.append_many([("intent", {"host": "a", "step": "s"}), ("outcome", {"host": "a", "step": "s"})])
        assert (first.seq, first.time, first.when) == (1, 1_700_000_000_500, 1_700_000_000.5)
    with opened(anywhere) as again:
        assert [record.kind for record in again.records()] == ["opened", "intent", "outcome"]
        assert again.records("opened") == (first,)
        assert [record.seq for record in again.by_host("a")] == [2, 3]
        last = again.last("outcome")
        assert last is not None
        assert last.seq == 3
        assert again.last("host") is None
        assert (again.append("host", host="a")).seq == 4
    assert [record.seq for record in read_ledger(anywhere, RUN, SITE)] == [1, 2, 3, 4]
    assert list(runs_of(anywhere)) == [RUN]


def test_a_second_writer_is_told_who_the_first_is(anywhere: Store) -> None:
    with opened(anywhere), pytest.raises(LedgerError, match="is being written by process"):
        opened(anywhere)
    opened(anywhere).close()


def test_a_store_serves_one_site(anywhere: Store) -> None:
    opened(anywhere).close()
    assert site_of(anywhere) == SITE
    with pytest.raises(LedgerError, match="belongs to site 'demo'"):
        Ledger.open(anywhere, "other", "acme")


@pytest.mark.parametrize("cut", [1, 2, 50, 200])
def test_the_torn_line_of_a_crash_is_cut_off_and_recorded(store: DirectoryStore, cut: int) -> None:
    with opened(store) as ledger:
        for number in range(4):
            ledger.append("intent", host=f"h{number}", step="s", note="x" * 200)
    line = make_record(5, ledger.head, 1, "intent", {"host": "h4", "step": "s", "note": "x" * 200})[1]
    with (store.root / KEY).open("ab") as file:
        file.write(line[:-cut])
    with opened(store) as again:
        assert [record.kind for record in again.records()] == ["intent"] * 4 + ["recovered"]
        assert again.records("recovered")[0]["bytes"] == len(line) - cut
    assert verdict(store) == (5, "")


def test_anything_else_that_does_not_verify_stops_the_run_and_is_left_as_it_is(store: DirectoryStore) -> None:
    with opened(store) as ledger:
        for number in range(5):
            ledger.append("intent", host=f"h{number}")
    path = store.root / KEY
    parts = path.read_bytes().splitlines(keepends=True)
    for damaged, reason in (
        (b"".join(parts[:2] + parts[3:]), Break.GAP),
        (b"".join(parts).replace(b"h3", b"h4"), Break.EDITED),
        (b"".join(parts[:2] + parts[1:]), Break.DUPLICATE),
        (b"".join(parts) + b"garbage\n", Break.EDITED),
        (b"".join(parts[:3]) + b"\n" + parts[3], Break.EDITED),
    ):
        path.write_bytes(damaged)
        (path.parent / ".ledger.jsonl.lock").unlink(missing_ok=True)  # it says how long the ledger was
        with pytest.raises(LedgerBrokenError) as caught:
            opened(store)
        assert caught.value.reason == reason
        assert path.read_bytes() == damaged


def test_a_ledger_that_lost_whole_records_while_it_was_closed_does_not_open(store: DirectoryStore) -> None:
    """Its chain verifies; the lock beside it, and the note outside the store, say that there was more."""
    with opened(store) as ledger:
        for number in range(5):
            ledger.append("intent", host=f"h{number}")
    path = store.root / KEY
    kept = path.read_bytes()
    path.write_bytes(b"".join(kept.splitlines(keepends=True)[:3]))
    with pytest.raises(LedgerError, match=r"were recorded.*bring back the longest copy"):
        opened(store)
    (path.parent / ".ledger.jsonl.lock").unlink()
    with pytest.raises(LedgerBrokenError, match=rf"this machine saw 5 records of run {RUN}.*rolled back"):
        opened(store)
    path.write_bytes(kept)
    with opened(store) as again:
        assert again.count == 5


def test_a_sealed_run_is_closed_and_entered_in_the_sites_chain(store: DirectoryStore) -> None:
    for number in range(3):
        ledger = opened(store, f"run-{number}")
        ledger.append("opened")
        seal = ledger.seal("Completed", counts={"changed": number})
        assert (seal.seq, seal["run"], seal["count"]) == (number + 1, f"run-{number}", 2)
        assert seal["head"] == ledger.head
        with pytest.raises(LedgerError):
            ledger.append("intent")
        with opened(store, f"run-{number}") as again, pytest.raises(LedgerError, match="sealed"):
            again.append("intent")
    assert verify_chain(seal_lines(store), "", SITE).count == 3
    assert not [path for path in store.root.rglob(".*.reserve") if "run-0/" in str(path)]


def test_sealing_again_after_a_crash_completes_what_is_missing(store: DirectoryStore) -> None:
    ledger = opened(store)
    closing = ledger.append("sealed", state="Halted")
    ledger.close()
    with opened(store):
        head = site_head(store)
        assert head is not None
        assert head["head"] == closing.hash
    (store.root / f"runs/{RUN}/seal").unlink()
    (store.root / "live" / "seals-end").unlink()
    with opened(store) as again:
        again.seal("Halted")
    assert verify_chain(seal_lines(store), "", SITE).count == 1


def test_a_sealed_run_that_was_cut_back_does_not_open(store: DirectoryStore) -> None:
    ledger = opened(store)
    ledger.append("opened")
    ledger.seal("Completed")
    path = store.root / KEY
    lock = path.parent / ".ledger.jsonl.lock"
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    with pytest.raises(LedgerError, match="were recorded"):
        opened(store)
    lock.unlink()
    with pytest.raises(LedgerBrokenError, match="was sealed, but its ledger ends after 1"):
        opened(store)
    path.unlink()
    lock.unlink()
    with pytest.raises(LedgerBrokenError, match="ends after 0"):
        opened(store)


def test_a_sealed_run_that_was_replaced_does_not_open(store: DirectoryStore) -> None:
    ledger = opened(store)
    ledger.append("opened")
    ledger.seal("Completed")
    kept = (store.root / "seals/00000001").read_bytes()
    forged = make_record(2, ledger.records()[0].hash, 1, "sealed", {"state": "Halted"})[0]
    with pytest.raises(LedgerBrokenError, match="names another end"):
        add_seal(store, SITE, forged, RUN, lambda: 1.0)
    assert (store.root / "seals/00000001").read_bytes() == kept


def test_many_runs_sealed_at_once_form_one_chain(anywhere: Store) -> None:
    barrier = threading.Barrier(8)

    def run(number: int) -> None:
        with opened(anywhere, f"run-{number}") as ledger:
            barrier.wait()
            ledger.seal("Completed")

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = verify_chain(seal_lines(anywhere), "", SITE)
    assert (found.count, found.failure) == (8, None)


def test_fifty_threads_share_the_ledger(anywhere: Store) -> None:
    with opened(anywhere) as ledger:
        def host(number: int) -> None:
            for step in range(10):
                record = ledger.append("intent", host=f"h{number}", step=f"s{step}")
                assert ledger.records()[record.seq - 1] is record

        threads = [threading.Thread(target=host, args=(number,)) for number in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert ledger.count == 500
        for number in range(50):
            steps = [record["step"] for record in ledger.by_host(f"h{number}")]
            assert steps == [f"s{step}" for step in range(10)]
    assert verdict(anywhere) == (500, "")


def test_records_that_cannot_be_written_hurt_nobody_else(anywhere: Store) -> None:
    with opened(anywhere) as ledger:
        for fields in ({"x": 1.5}, {"x": "y" * 2_000_000}, {"seq": 1}):
            with pytest.raises(MalformedError):
                ledger.append("intent", **fields)
        with pytest.raises(MalformedError):
            ledger.append_many([("sealed", {}), ("intent", {})])
        ledger.append("intent", host="a")
    assert verdict(anywhere) == (1, "")


# --- errors ---------------------------------------------------------------------------------------


class FaultyStore(DirectoryStore):
    """A directory whose disk goes wrong at a chosen append."""

    def __init__(self, root: Path, fails: Iterator[Exception | None]) -> None:
        super().__init__(a_store(root).root)
        self.fails = fails

    def open_log(self, key: str) -> Log:
        return FaultyLog(super().open_log(key), self.fails)


class FaultyLog:
    def __init__(self, log: Log, fails: Iterator[Exception | None]) -> None:
        self.log, self.fails, self.truncate, self.close = log, fails, log.truncate, log.close
        self.cut = log.cut

    def append(self, data: bytes, *, urgent: bool = False) -> None:
        error = None if urgent else next(self.fails, None)
        if error:
            raise error
        self.log.append(data, urgent=urgent)


def test_after_a_failed_write_nothing_is_ever_recorded_again(tmp_path: Path) -> None:
    fails = iter([None, StoreError("Input/output error"), None])
    store = FaultyStore(tmp_path / "store", fails)
    with opened(store) as ledger:
        ledger.append("opened")
        for _ in range(3):
            with pytest.raises(LedgerError, match="takes no more records: Input/output error"):
                ledger.append("intent", host="a")
        with pytest.raises(LedgerError):
            ledger.append("outcome", host="a")
        assert ledger.count == 1
    assert next(fails, "none was asked again") is None
    with opened(a_store(tmp_path / "store")) as again:
        again.append("intent", host="a")


def test_everybody_who_waits_hears_of_the_failed_write(tmp_path: Path) -> None:
    store = FaultyStore(tmp_path / "store", iter([StoreError("gone")]))
    told: list[str] = []

    def host(ledger: Ledger) -> None:
        try:
            ledger.append("intent", host="a")
        except LedgerError as error:
            told.append(error.message)

    with opened(store) as ledger:
        threads = [threading.Thread(target=host, args=(ledger,)) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(told), ledger.count) == (20, 0)


def test_an_unexpected_error_releases_those_who_wait(tmp_path: Path) -> None:
    store = FaultyStore(tmp_path / "store", iter([KeyboardInterrupt()]))  # type: ignore[list-item]
    with opened(store) as ledger:
        with pytest.raises(KeyboardInterrupt):
            ledger.append("intent")
        with pytest.raises(LedgerError, match="KeyboardInterrupt"):
            ledger.append("outcome")


def test_a_full_disk_refuses_intents_and_still_takes_outcomes(tmp_path: Path) -> None:
    full = StoreFullError("no space is left")
    store = FaultyStore(tmp_path / "store", iter([None, full, full, None]))
    with opened(store) as ledger:
        ledger.append("intent", host="a")
        with pytest.raises(LedgerError, match="no space is left"):
            ledger.append("intent", host="b")
        ledger.append("outcome", host="a")
        ledger.append("intent", host="c")
        assert [record.get("host") for record in ledger.records()] == ["a", "a", "c"]
    assert verdict(store) == (3, "")


def test_a_real_write_error_of_the_kernel_is_a_ledger_error(store: DirectoryStore) -> None:
    with opened(store) as ledger:
        ledger.append("opened")
        os.close(ledger._log._descriptor)  # type: ignore[attr-defined]
        with pytest.raises(LedgerError, match=os.strerror(errno.EBADF)):
            ledger.append("intent")


def test_nothing_returns_before_it_was_synced(store: DirectoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGKILL cannot show a missing fsync, so this watches the calls themselves."""
    synced: dict[str, int] = {}

    def watch(real: Callable[[int], None]) -> Callable[[int], None]:
        def sync(descriptor: int) -> None:
            real(descriptor)
            path = str(Path(f"/proc/self/fd/{descriptor}").readlink())
            synced[path] = os.fstat(descriptor).st_size
        return sync

    monkeypatch.setattr(os, "fsync", watch(os.fsync))
    monkeypatch.setattr(os, "fdatasync", watch(os.fdatasync))
    path = store.root / KEY
    with opened(store) as ledger:
        assert str(path.parent) in synced, "the file's name must survive as well"
        for _ in range(5):
            ledger.append("intent", host="a")
            assert synced[str(path)] == path.stat().st_size
    for act, folder in (
        (lambda: store.put_new("plans/a", b"12345"), "plans"),
        (lambda: store.swap("live/leases/a", None, b"12345"), "live/leases"),
    ):
        synced.clear()
        act()
        drafts = [size for name, size in synced.items() if name.startswith(f"{store.root}/{folder}/")]
        assert drafts == [5]
        assert str(store.root / folder) in synced
