"""A locked bucket after days of use: what changes by design does not make it unsound, and it is witnessed."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest
import yaml

from lamplighter.cli import main
from lamplighter.delivery import Parcel
from lamplighter.inspection import inspect
from lamplighter.leases import Leases
from lamplighter.model.notice import Notice, Occasion, Result
from lamplighter.notify.heartbeat import beat
from lamplighter.notify.outbox import Outbox
from lamplighter.rates import Rates
from lamplighter.store import LIVE
from lamplighter.store.identity import identity_of
from tests.enginekit import ASHA, Pair
from tests.lab.seaweedfs import Seaweed
from tests.s3kit import new_store
from tests.storecases import write_run

ROOT = Path(__file__).resolve().parents[1]


def test_what_changes_by_design_leaves_a_locked_bucket_sound(
    seaweed: Seaweed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two rounds of everything that writes: watch, mails, rates, deliveries, leases, runs resumed."""
    store, now = new_store(seaweed, lock=True), int(time.time())
    for turn in range(2):
        beat(store, now + turn)
        outbox = Outbox(store, lambda turn=turn: now + 300 * turn)
        notice = Notice(Occasion(f"run-{turn}", "gate", "d", now), ASHA, "mail", "s", "t", "l", now)
        outbox.record(notice)
        for result in (Result.LATER, Result.SENT):
            claim = Outbox(store, lambda: now + 9000).claim(notice)
            assert claim is not None
            outbox.settle(notice, claim, result, after=1)
        outbox.may_send(("mail", ASHA), 9)
        Rates(store, 9, 9, lambda: now).take(f"run-{turn}", "pin")
        key, parcel = f"{LIVE}deliveries/run-{turn}", Parcel("kept", "file", "to", "sealed").to_bytes()
        assert store.swap(key, None, parcel)
        assert store.swap(key, parcel, b"{}")
        with Leases(store, ttl=1) as leases, leases.hold("web1", f"run-{turn}"):
            write_run(store, f"run-{turn}", seal=False)
            time.sleep(0.5)
        write_run(store, f"run-{turn}")
    found = inspect(store, "demo")
    assert found.sound, [*found.problems, *(run.problems for run in found.runs)]
    assert found.versions

    folder = Path(shutil.copytree(ROOT / "inventories" / "demo", tmp_path / "demo"))
    identity, key_of_asha = identity_of(store), Pair()
    assert identity is not None
    text = yaml.safe_load((folder / "site.yaml").read_text())
    monkeypatch.setenv("S3_KEY", seaweed.access_key)
    monkeypatch.setenv("S3_SECRET", seaweed.secret_key)
    text["store"] = {"url": store.url, "id": identity.id, "options": {
        "endpoint": seaweed.endpoint, "ca": str(seaweed.ca), "access-key": "env:S3_KEY",
        "secret-key": "env:S3_SECRET",
    }}
    (folder / "site.yaml").write_text(yaml.safe_dump(text))
    (folder / "approvers").write_text(f'{ASHA} namespaces="lamplighter-*" {key_of_asha.public_line}\n')
    monkeypatch.setenv("LAMPLIGHTER_INVENTORIES", str(tmp_path))
    monkeypatch.chdir(ROOT)
    for words in (
        ("verify", "--site", "demo"),
        ("witness", "--site", "demo", "--key", str(key_of_asha.write(tmp_path / "asha"))),
    ):
        with pytest.raises(SystemExit) as ended:
            main([*words])
        assert (ended.value.code or 0) == 0, words
