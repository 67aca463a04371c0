"""A sealed password on its way: mail servers that are not ready, and what is removed afterwards."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyrage
import pytest

from lamplighter.delivery import MOST_TRIES, Deliveries, sweep
from lamplighter.errors import RefusedError
from lamplighter.secrets import Secret
from lamplighter.site.directory import DeliveryEntry
from tests.lab.smtp import MailServer
from tests.storekit import a_store

NOW, HOURS = 1_795_400_000, 24
MANAGER = "o'neil@mail.example"


class Clock:
    def __init__(self) -> None:
        self.now = float(NOW)

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def way(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Deliveries:
    own, desk = pyrage.x25519.Identity.generate(), pyrage.x25519.Identity.generate()
    monkeypatch.setenv("OWN", str(own))
    rules = DeliveryEntry(
        ways=["manager", "file", "sealed"], identity="env:OWN", mail_through="mail", hours=HOURS,
        folder=str(tmp_path / "passwords"), recipients={"desk": str(desk.to_public())},
    )
    return Deliveries(a_store(tmp_path / "store"), rules, "env:LAMPLIGHTER_MAIL", clock)


@pytest.fixture
def post(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MailServer]:
    with MailServer(tmp_path) as server:
        monkeypatch.setenv("SSL_CERT_FILE", str(server.ca.path))
        monkeypatch.setenv("LAMPLIGHTER_MAIL", server.url())
        yield server


def keep(way: Deliveries, run: str, how: str = "manager", to: str = MANAGER) -> None:
    way.keep(run, how, to, "jane", Secret("correct horse"))


def test_a_greylisting_server_gets_the_mail_again_and_once(
    post: MailServer, way: Deliveries, clock: Clock
) -> None:
    post.answers.recipients[MANAGER] = ["451 greylisted", "451 greylisted", "250 OK"]
    keep(way, "reset-1")
    for minutes in (1, 2):
        parcel = way.release("reset-1")
        assert (parcel.state, parcel.until) == ("waiting", clock.now + 60 * minutes)
        assert "451" in parcel.why
        assert way.release("reset-1") == parcel, "not before its time"
        clock.now = parcel.until
    parcel = way.release("reset-1")
    assert (parcel.state, parcel.sealed, parcel.why) == ("delivered", "", "")
    assert way.release("reset-1") == parcel
    assert post.answers.recipients_seen == [(MANAGER,)]
    assert "correct horse" in post.mails[0].get_content()


def test_a_server_that_stays_down_is_given_up_after_an_hour(
    post: MailServer, way: Deliveries, clock: Clock
) -> None:
    post.stop()
    keep(way, "reset-1")
    tries = 0
    while (parcel := way.release("reset-1")).state == "waiting":
        clock.now = parcel.until
        tries += 1
    assert (parcel.state, parcel.sealed, tries) == ("failed", "", MOST_TRIES - 1)
    assert 3600 <= clock.now - NOW <= 2 * 3600
    assert "the server is down" in parcel.why


def test_a_waiting_one_can_still_be_dropped(post: MailServer, way: Deliveries) -> None:
    post.stop()
    keep(way, "reset-1")
    assert way.release("reset-1").state == "waiting"
    assert way.drop("reset-1", "not to be used").state == "dropped"
    assert way.parcel("reset-1").sealed == ""


def test_only_what_a_run_left_is_removed(way: Deliveries, clock: Clock) -> None:
    folder = Path(way.rules.folder)
    for run, how, to in (("reset-1", "file", ""), ("reset-2", "sealed", "desk"), ("reset-3", "file", "")):
        keep(way, run, how, to)
    assert {way.release(run).state for run in ("reset-1", "reset-2")} == {"delivered"}
    foreign = [folder / name for name in (
        "notes.txt", "backup.age", "reset-1.age", "reset-2.txt", "reset-3.txt", "reset-9.txt", "reset 1.txt",
        ".txt", "..txt", "reset-1.txt.bak",
    )]
    for path in foreign:
        path.write_text("somebody's own")
        os.utime(path, (NOW, NOW))
    assert sweep(way.store, way.rules, clock.now + HOURS * 3600 - 1) == 0
    clock.now += HOURS * 3600
    assert sweep(way.store, way.rules, clock.now) == 2
    assert sorted(folder.iterdir()) == sorted(foreign)


def test_what_a_worker_wrote_as_it_died_is_removed_as_well(way: Deliveries, clock: Clock) -> None:
    keep(way, "reset-1", "file", "")
    sending = replace(way.parcel("reset-1"), state="sending")
    assert way.store.swap("live/deliveries/reset-1", way.parcel("reset-1").to_bytes(), sending.to_bytes())
    path = Path(way.rules.folder) / "reset-1.txt"
    path.parent.mkdir()
    path.write_text("the password")
    os.utime(path, (NOW, NOW))
    assert way.release("reset-1").state == "failed"
    assert sweep(way.store, way.rules, clock.now) == 0
    assert sweep(way.store, way.rules, clock.now + HOURS * 3600) == 1
    assert not path.exists()


@pytest.mark.parametrize("written", [
    "# created: 2026-11-25T09:00:00Z\n# public key: age1x\nKEY\n", "KEY", "\ufeff# mine\r\n\r\n  KEY \r\n",
])
def test_an_identity_is_read_as_age_keygen_writes_it(
    written: str, way: Deliveries, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = str(pyrage.x25519.Identity.generate())
    monkeypatch.setenv("OWN", written.replace("KEY", key))
    keep(way, "run-1")
    for wrong in ("# nothing\n", f"{key}\n{key}\n", "AGE-SECRET-KEY-1"):
        monkeypatch.setenv("OWN", wrong)
        with pytest.raises(RefusedError, match="identity cannot be read"):
            keep(way, "run-2")
