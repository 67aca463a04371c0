"""What only a bucket does: fences, claims, locks and versions."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from lamplighter.errors import LedgerError, StoreError
from lamplighter.inspection import inspect
from lamplighter.ledger import Ledger
from lamplighter.model.canonical import Json
from lamplighter.store import StoreAddress, open_store
from lamplighter.store.alive import MARGIN, Ticker, this_process
from lamplighter.store.birth import make_store
from lamplighter.store.s3 import S3Store
from lamplighter.store.s3_log import CLAIM_SECONDS, S3Log
from tests.lab.seaweedfs import Seaweed
from tests.s3kit import client, new_store, open_bucket, shared_bucket

KEY = "runs/run-1/ledger.jsonl"
WRITER = f"live/writers/{KEY}"


@pytest.fixture
def store(seaweed: Seaweed) -> S3Store:
    return new_store(seaweed, lock=True)


def test_a_writer_that_was_taken_over_can_write_nothing_more(store: S3Store) -> None:
    """Its claim is gone, as when it was stopped for longer than its claim holds."""
    old = Ledger.open(store, "run-1", "demo")
    old.append("opened")
    assert store.swap(WRITER, store.get(WRITER), b"{}")
    with Ledger.open(store, "run-1", "demo") as new:
        assert new.count == 1
        with pytest.raises(LedgerError, match=r"has taken runs/run-1/ledger\.jsonl over"):
            old.append("intent", host="a")
        with pytest.raises(LedgerError):
            old.append("outcome", host="a")
        new.append("intent", host="b")
        assert new.count == 2
    old.close()
    with Ledger.open(store, "run-1", "demo") as again:
        assert [record.get("host") for record in again.records("intent")] == ["b"]


class Hand(Ticker):
    """A clock that goes on by itself only while somebody waits."""

    at = 0.0

    def now(self) -> float:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.at += seconds


def test_a_claim_is_watched_and_not_timed(store: S3Store) -> None:
    """Only a process of this boot and PID namespace is known to be gone; all others are watched."""
    here = this_process()

    def opened(process: dict[str, Json]) -> float:
        claim = json.dumps({"holder": "it", "process": process, "nonce": "n"}).encode()
        assert store.swap(WRITER, store.get(WRITER), claim)
        ticker = Hand()
        S3Log(store, KEY, ticker).close()
        return ticker.at

    assert opened(here | {"pid": 2**22 + 1}) == 0
    assert opened(here | {"started": "1"}) == 0, "another process has its number now"
    for elsewhere in ({"pid": 2**22 + 1, "namespace": "pid:[1]"}, {"pid": 2**22 + 1, "boot": "x"}, {}):
        found = opened(here | elsewhere if elsewhere else {})
        assert CLAIM_SECONDS + MARGIN < found < CLAIM_SECONDS + MARGIN + 1


def test_a_claim_that_is_renewed_keeps_others_away(store: S3Store) -> None:
    first = S3Log(store, KEY)

    class Renewing(Hand):
        def sleep(self, seconds: float) -> None:
            super().sleep(seconds)
            claim = first._new_claim()
            assert store.swap(WRITER, first._claim, claim)
            first._claim = claim

    with pytest.raises(LedgerError, match=rf"is being written by process {os.getpid()} on "):
        S3Log(store, KEY, Renewing())
    first.close()


def test_records_are_locked_for_a_year_and_leases_are_not(store: S3Store, seaweed: Seaweed) -> None:
    with Ledger.open(store, "run-1", "demo") as ledger:
        ledger.append("opened")
    store.swap("live/leases/a", None, b"{}")
    bucket = open_bucket(seaweed, shared_bucket(seaweed, lock=True))
    prefix = store.url.split("/", 3)[3]
    for key in ("store", f"{KEY}/00000002"):
        retention = bucket.retention(f"{prefix}/{key}")
        assert retention is not None
        assert retention.mode == "COMPLIANCE"
        left = retention.until - datetime.now(UTC)
        assert timedelta(days=364) < left < timedelta(days=366)
    assert bucket.retention(f"{prefix}/live/leases/a") is None


def test_what_is_hidden_or_written_again_is_found(store: S3Store, seaweed: Seaweed) -> None:
    """Object lock keeps the old version, versions show the new one."""
    with Ledger.open(store, "run-1", "demo") as ledger:
        ledger.append("opened")
        ledger.seal("Completed")
    assert inspect(store, "demo").sound
    name, prefix = store.url.split("/", 3)[2:]
    admin = client(seaweed)
    admin.put_object(Bucket=name, Key=f"{prefix}/seals/00000001", Body=b"forged\n")
    admin.delete_object(Bucket=name, Key=f"{prefix}/{KEY}/00000002")
    found = inspect(store, "demo")
    assert {problem.code for problem in found.problems} >= {"rewritten-object", "edited"}
    hidden = [problem.message.split()[0] for problem in found.problems if problem.code == "rewritten-object"]
    assert sorted(hidden) == [f"{KEY}/00000002", "seals/00000001"]


def test_a_store_that_was_left_alone_shows_nothing_rewritten(store: S3Store) -> None:
    for _ in range(2):
        with Ledger.open(store, "run-1", "demo") as ledger:
            ledger.append("note")
    for value in (b"1", b"2", b"3"):
        store.swap("live/leases/a", store.get("live/leases/a"), value)
    assert store.rewritten() == ()


def test_who_may_only_read_can_verify_and_not_write(seaweed: Seaweed) -> None:
    store = new_store(seaweed)
    with Ledger.open(store, "run-1", "demo") as ledger:
        ledger.append("opened")
        ledger.seal("Completed")
    reader = S3Store(open_bucket(seaweed, shared_bucket(seaweed), reader=True), store.url)
    assert inspect(reader, "demo").sound
    assert [run.run for run in inspect(reader, "demo").runs] == ["run-1"]
    with pytest.raises(LedgerError, match="AccessDenied"):
        Ledger.open(reader, "run-2", "demo")


def test_a_torn_segment_cannot_be_cut(store: S3Store) -> None:
    log = store.open_log(KEY)
    with pytest.raises(StoreError, match="lamplighter verify"):
        log.truncate(5)
    log.close()


@pytest.mark.parametrize(("options", "message"), [
    ({"retention": 1}, "unknown store option 'retention'"),
    ({"retention-days": 179}, "at least 180"),
    ({"retention-days": "365"}, "at least 180"),
    ({"retention-days": True}, "at least 180"),
    ({"lock-mode": "NONE"}, "COMPLIANCE or GOVERNANCE"),
    ({}, "no credentials are named"),
    ({"access-key": "env:A"}, "no credentials are named"),
])
def test_options_that_are_wrong_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(StoreError, match=message):
        open_store(StoreAddress("s3://bucket/site", options))


def test_a_site_opens_its_bucket_by_url_and_references(
    seaweed: Seaweed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("S3_KEY", seaweed.access_key)
    monkeypatch.setenv("S3_SECRET", seaweed.secret_key)
    address = StoreAddress(f"s3://{shared_bucket(seaweed)}/by-url", {
        "endpoint": seaweed.endpoint, "ca": str(seaweed.ca), "access-key": "env:S3_KEY",
        "secret-key": "env:S3_SECRET",
    }, site="demo")
    with pytest.raises(StoreError, match=r"no store here.*lamplighter store new demo"):
        open_store(address)
    made = make_store(address, 1)
    store = open_store(replace(address, id=made.id))
    with pytest.raises(StoreError, match=f"there is a store already: {made.id}"):
        make_store(address, 1)
    store.put_new("a", b"1")
    assert store.get("a") == b"1"
    assert list(store.list("nothing")) == []
