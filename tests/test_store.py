"""What every store must do, on a real directory and in a real bucket; and what only a directory does."""

from __future__ import annotations

import os
import stat
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamplighter.errors import ExistsError, LedgerError, StoreError
from lamplighter.store import Store, StoreAddress, as_part, check_key, from_part, lines, open_store
from lamplighter.store.birth import make_store
from tests.lab.seaweedfs import Seaweed
from tests.s3kit import new_store
from tests.storekit import a_store


@pytest.fixture(params=["directory", "bucket", "locked bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "directory":
        return a_store(tmp_path / "store")
    server: Seaweed = request.getfixturevalue("seaweed")
    return new_store(server, lock=request.param == "locked bucket")


def test_an_object_is_written_once_and_never_replaced(store: Store) -> None:
    store.put_new("plans/a.json", b"one")
    store.put_new("plans/a.json", b"one")
    for other in (b"two", b"o", b"", b"one and more"):
        with pytest.raises(ExistsError):
            store.put_new("plans/a.json", other)
    assert store.get("plans/a.json") == b"one"
    assert store.get("plans/b.json") is None


def test_reading_more_than_the_limit_is_refused(store: Store) -> None:
    store.put_new("big", b"x" * 100)
    assert store.get("big", limit=100) == b"x" * 100
    with pytest.raises(StoreError, match="larger than the 99"):
        store.get("big", limit=99)


def test_list_names_what_lies_directly_below(store: Store) -> None:
    for key in ("runs/b/plan", "runs/a/plan", "runs/a/x/y", "top"):
        store.put_new(key, b"")
    log = store.open_log("runs/c/ledger.jsonl")
    log.append(b"x\n")
    log.close()
    assert list(store.list("runs")) == ["runs/a", "runs/b", "runs/c"]
    assert list(store.list("runs/a/")) == ["runs/a/plan", "runs/a/x"]
    assert list(store.list("runs/c")) == ["runs/c/ledger.jsonl"]
    assert list(store.list("nothing")) == []


def test_swap_replaces_exactly_what_was_seen(store: Store) -> None:
    assert not store.swap("live/leases/a", b"old", b"new")
    assert store.swap("live/leases/a", None, b"one")
    assert not store.swap("live/leases/a", None, b"two")
    assert not store.swap("live/leases/a", b"on", b"two")
    assert store.swap("live/leases/a", b"one", b"two")
    assert store.get("live/leases/a") == b"two"


def test_of_racing_writers_one_wins(store: Store) -> None:
    won: list[int] = []
    swapped: list[int] = []
    barrier = threading.Barrier(8)

    def race(number: int) -> None:
        barrier.wait()
        try:
            store.put_new("seals/1", b"%d" % number)
            won.append(number)
        except ExistsError:
            pass
        if store.swap("live/lease", None, b"%d" % number):
            swapped.append(number)

    threads = [threading.Thread(target=race, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [store.get("seals/1")] == [b"%d" % number for number in won]
    assert [store.get("live/lease")] == [b"%d" % number for number in swapped]


def test_no_increment_is_lost_between_racing_swaps(store: Store) -> None:
    store.put_new("other", b"")

    def count() -> None:
        for _ in range(5):
            while True:
                old = store.get("live/counter")
                if store.swap("live/counter", old, b"%d" % (int(old or b"0") + 1)):
                    break

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.get("live/counter") == b"20"


def test_a_log_keeps_its_order_and_has_one_writer(store: Store) -> None:
    log = store.open_log("runs/a/ledger.jsonl")
    for number in range(30):
        log.append(b"line %d\n" % number)
    with pytest.raises(LedgerError, match=rf"process {os.getpid()} on "):
        store.open_log("runs/a/ledger.jsonl")
    log.close()
    log.close()
    again = store.open_log("runs/a/ledger.jsonl")
    again.append(b"line 30\n")
    again.close()
    found = list(lines(store.read_log("runs/a/ledger.jsonl")))
    assert found == [b"line %d\n" % number for number in range(31)]
    assert list(store.read_log("runs/b/ledger.jsonl")) == []


STRANGE_KEYS = (
    "", "/", "/etc/passwd", "../x", "a/../b", "a/./b", "a//b", ".hidden", "a/.lock", "a\\b", "a\0b", "a\nb",
    "\u00e9", "a" * 201, "/".join(["abcdefgh"] * 120), "a/", "~/x", "a b",
)


def test_keys_that_could_lead_out_of_the_store_are_refused(store: Store) -> None:
    for key in STRANGE_KEYS:
        for use in (
            lambda key: store.put_new(key, b""), store.get, store.open_log,
            lambda key: store.swap(key, None, b""), lambda key: list(store.read_log(key)),
        ):
            with pytest.raises(StoreError):
                use(key)


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_name_becomes_a_part_of_a_key_of_its_own(one: str, other: str) -> None:
    try:
        parts = as_part(one), as_part(other)
    except UnicodeEncodeError:
        return
    assert (parts[0] == parts[1]) == (one == other)
    assert from_part(parts[0]) == one
    if one and len(parts[0]) <= 200:
        check_key(f"leases/{parts[0]}")


@given(st.lists(st.binary(max_size=12), max_size=12))
def test_lines_are_the_same_however_they_are_cut(pieces: list[bytes]) -> None:
    whole = b"".join(pieces).replace(b"\r", b"")
    assert list(lines(piece.replace(b"\r", b"") for piece in pieces)) == whole.splitlines(keepends=True)


def test_an_endless_line_does_not_fill_the_memory() -> None:
    parts = list(lines(iter([b"x" * 100] * 1000), longest=500))
    assert max(map(len, parts)) <= 700
    assert b"".join(parts) == b"x" * 100_000


# --- a directory alone ----------------------------------------------------------------------------


def test_a_directory_is_its_owners_alone(tmp_path: Path) -> None:
    store = a_store(tmp_path / "store")
    store.put_new("runs/a/plan", b"x")
    store.swap("live/leases/a", None, b"x")
    store.open_log("runs/a/ledger.jsonl").close()
    for folder, _, files in os.walk(store.root):
        assert stat.S_IMODE(Path(folder).stat().st_mode) == 0o700
        assert all(stat.S_IMODE((Path(folder) / name).stat().st_mode) == 0o600 for name in files)


def test_a_directory_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store").chmod(0o777)
    with pytest.raises(StoreError, match="chmod 700"):
        a_store(tmp_path / "store")


def test_links_do_not_lead_out_of_the_store(tmp_path: Path) -> None:
    store = a_store(tmp_path / "store")
    (tmp_path / "secret").write_bytes(b"secret")
    (store.root / "runs").symlink_to(tmp_path)
    (store.root / "plan").symlink_to(tmp_path / "secret")
    for use in (
        lambda: store.get("runs/secret"), lambda: store.put_new("runs/new", b""), lambda: store.get("plan"),
        lambda: store.open_log("plan"), lambda: list(store.read_log("plan")),
        lambda: list(store.read_log("runs/secret")),
    ):
        with pytest.raises(StoreError):
            use()
    assert not (tmp_path / "new").exists()


def test_nothing_is_left_beside_the_objects(tmp_path: Path) -> None:
    store = a_store(tmp_path / "store")
    store.put_new("a", b"1")
    with pytest.raises(ExistsError):
        store.put_new("a", b"2")
    store.swap("live/b", None, b"1")
    store.swap("live/b", b"x", b"2")
    assert sorted(path.name for path in store.root.iterdir()) == [".tried", "a", "live", "store"]
    assert [path.name for path in (store.root / "live").iterdir()] == ["b"]


@pytest.mark.parametrize("url", ["", "relative", "ftp://x/y", "file://host/x", "http://x"])
def test_a_url_that_names_no_store_is_refused(url: str) -> None:
    with pytest.raises(StoreError, match="file:/path"):
        open_store(StoreAddress(url))


# --- which store it is ----------------------------------------------------------------------------


def test_a_store_is_made_once_and_opened_by_its_id(tmp_path: Path) -> None:
    address = StoreAddress(f"file:{tmp_path}/s", site="demo")
    with pytest.raises(StoreError, match=r"no store here.*lamplighter store new demo"):
        open_store(address)
    made = make_store(address, 1)
    assert open_store(replace(address, id=made.id)).url == address.url
    with pytest.raises(StoreError, match=f"does not say which store this is; it is {made.id}"):
        open_store(address)
    for again in (address, replace(address, id=made.id)):
        with pytest.raises(StoreError, match="already"):
            make_store(again, 2)


def test_what_is_not_the_store_that_is_meant_is_refused_and_left_alone(tmp_path: Path) -> None:
    """An unmounted disk, a wrong path, another site's store, another store of this site."""
    mine = make_store(StoreAddress(f"file:{tmp_path}/mine", site="demo"), 1)
    make_store(StoreAddress(f"file:{tmp_path}/theirs", site="acme"), 1)
    make_store(StoreAddress(f"file:{tmp_path}/new", site="demo"), 1)
    (tmp_path / "empty").mkdir(mode=0o700)
    (tmp_path / "damaged").mkdir(mode=0o700)
    (tmp_path / "damaged" / "store").write_bytes(b"{}")
    for place, message in (
        ("nothing", f"no such folder.*site.yaml names the store {mine.id}.*mounted"),
        ("empty", f"no store here.*{mine.id}.*mounted"), ("theirs", "belongs to site 'acme'"),
        ("new", f"site.yaml names {mine.id}"), ("damaged", "does not say which store this is"),
    ):
        with pytest.raises(StoreError, match=message):
            open_store(StoreAddress(f"file:{tmp_path}/{place}", id=mine.id, site="demo"))
    assert not (tmp_path / "nothing").exists()
    assert list((tmp_path / "empty").iterdir()) == []


def test_a_store_is_not_made_among_other_things(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    (tmp_path / "report.txt").write_text("x")
    tmp_path.chmod(0o700)
    address = StoreAddress(f"file:{tmp_path}", site="demo")
    with pytest.raises(StoreError, match=r"something else lies here: report\.txt"):
        make_store(address, 1)
    (tmp_path / "report.txt").unlink()
    make_store(address, 1)


def test_what_changes_and_what_never_changes_lie_apart(store: Store) -> None:
    with pytest.raises(StoreError, match="is no record"):
        store.put_new("live/a", b"x")
    with pytest.raises(StoreError, match="is no record"):
        store.open_log("live/a")
    with pytest.raises(StoreError, match="never changes"):
        store.swap("a", None, b"x")
