"""Notices through real servers: mail over STARTTLS with a login, a chat's webhook, and what they refuse."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lamplighter.model.notice import NO_CHANNEL, Notice, Occasion, Result, retry_after
from lamplighter.notify import send as module
from lamplighter.notify.outbox import CLAIM_SECONDS, Outbox
from lamplighter.notify.send import deliver, explain, send_by_apprise
from lamplighter.notify.wording import Trusted, plain, word
from lamplighter.secrets import Secret
from lamplighter.site.notify import Channel, Notify
from lamplighter.store.directory import DirectoryStore
from tests.lab.smtp import PASSWORD, MailServer, Webhook
from tests.storekit import a_store

ASHA, KIRAN = "asha.patel@internal.example", "kiran.shah@internal.example"
NOW = 1_795_400_000
GIVE_UP = 72 * 3600


class Clock:
    def __init__(self) -> None:
        self.now = float(NOW)

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return a_store(tmp_path / "store")


@pytest.fixture
def outbox(store: DirectoryStore, clock: Clock) -> Outbox:
    return Outbox(store, clock, GIVE_UP)


@pytest.fixture(scope="module")
def mail_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MailServer]:
    with MailServer(tmp_path_factory.mktemp("mail")) as server:
        yield server


@pytest.fixture
def mail(mail_server: MailServer, monkeypatch: pytest.MonkeyPatch) -> MailServer:
    """The server, with everything forgotten; its CA is trusted as a site's own would be."""
    mail_server.answers.__init__()  # type: ignore[misc]
    monkeypatch.setenv("SSL_CERT_FILE", str(mail_server.ca.path))
    monkeypatch.setenv("MAIL", mail_server.url())
    monkeypatch.setenv("ASHA", "asha@mail.example")
    monkeypatch.setenv("KIRAN", "kiran@mail.example")
    return mail_server


@pytest.fixture
def notify() -> Notify:
    return Notify({
        ASHA: (Channel("mail", "env:MAIL", "env:ASHA"),), KIRAN: (Channel("mail", "env:MAIL", "env:KIRAN"),),
    })


def notice(
    number: int = 0, to: str = ASHA, channel: str = "mail", subject: str = "Approval needed"
) -> Notice:
    return Notice(
        Occasion(f"patch-linux-{number:08x}", "gate", "sha256:ab", NOW), to, channel, subject,
        f"Please decide on run {number}.\n", "http://127.0.0.1:4200/v2/runs/flow-run/1", NOW,
    )


def states(outbox: Outbox) -> list[tuple[str, int, str]]:
    return [(one.state, one.count, one.why) for one in outbox.entries()]


# --- mail -----------------------------------------------------------------------------------------


def test_mail_goes_out_over_starttls_after_a_login(mail: MailServer, outbox: Outbox, notify: Notify) -> None:
    assert outbox.record(notice())
    assert not outbox.record(replace(notice(), text="the same occasion in other words"))
    assert str(deliver(outbox, notify, "demo", send_by_apprise)) == "1 sent, 0 to be tried again, 0 failed"
    (taken,) = mail.mails
    assert taken["X-Rcpt"] == "asha@mail.example"
    assert taken["Subject"] == "Approval needed"
    assert taken.get_content_type() == "text/plain"
    assert "Please decide on run 0." in taken.get_content()
    assert states(outbox) == [("sent", 1, "")]
    assert deliver(outbox, notify, "demo", send_by_apprise).sent == 0
    assert len(mail.mails) == 1


def test_a_recipient_that_is_unknown_for_good_fails_at_once(
    mail: MailServer, outbox: Outbox, notify: Notify
) -> None:
    mail.answers.recipients["asha@mail.example"] = ["550 no such user asha@mail.example"]
    outbox.record(notice())
    assert deliver(outbox, notify, "demo", send_by_apprise).failed == 1
    assert states(outbox) == [("failed", 1, "the mail server refused it for good (550)")]
    assert not list(outbox.due())


def test_a_server_that_says_later_is_asked_later(
    mail: MailServer, outbox: Outbox, notify: Notify, clock: Clock
) -> None:
    mail.answers.recipients["asha@mail.example"] = ["451 try again", "451 try again", "250 OK"]
    outbox.record(notice())
    for count in (1, 2):
        assert deliver(outbox, notify, "demo", send_by_apprise).later == 1
        assert states(outbox) == [("waiting", count, "the mail server asks to try later (451)")]
        assert not list(outbox.due()), "backoff"
        clock.now += retry_after(count)
    assert deliver(outbox, notify, "demo", send_by_apprise).sent == 1
    assert len(mail.mails) == 1


def test_a_server_that_is_down_costs_no_notice(
    mail: MailServer, outbox: Outbox, notify: Notify, clock: Clock
) -> None:
    outbox.record(notice())
    mail.stop()
    try:
        assert deliver(outbox, notify, "demo", send_by_apprise).later == 1
        assert states(outbox) == [("waiting", 1, "the server is down: connection refused")]
    finally:
        mail.start()
    clock.now += retry_after(1)
    assert deliver(outbox, notify, "demo", send_by_apprise).sent == 1


def test_what_is_tried_for_too_long_is_shown_as_failed(
    mail: MailServer, outbox: Outbox, notify: Notify, clock: Clock
) -> None:
    mail.answers.data = ["452 disk full"]
    outbox.record(notice())
    tries = 0
    while any(True for _ in outbox.open()):
        deliver(outbox, notify, "demo", send_by_apprise) if tries < 2 else _refused(outbox, notify)
        tries += 1
        clock.now += retry_after(tries)
    ((state, count, why),) = states(outbox)
    assert (state, count, why) == ("failed", tries, "the mail server asks to try later (452)")
    assert clock.now > NOW + GIVE_UP - 3600
    assert tries < 90, "backoff grows to an hour"


def _refused(outbox: Outbox, notify: Notify) -> None:
    """The same answer, without the wire: eighty attempts of a real one add nothing."""
    answer = module.Answer(Result.LATER, "the mail server asks to try later (452)")
    deliver(outbox, notify, "demo", lambda *_: answer)


@pytest.mark.parametrize(("url", "why"), [
    ("mailto://ops:{password}@127.0.0.2.nip.example:25?from=a@b.example", "the service is not encrypted"),
    ("mailtos://ops:{password}@mail.example:587?from=a@b.example&verify=no", "verify=no"),
    ("mailtos://ops:{password}@mail.example?mode=insecure&from=a@b.example", "the service is not encrypted"),
    ("json://chat.example/hook", "the service is not encrypted"),
    ("http://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ", "is not encrypted"),
    ("mailtos://a:{password}@127.0.0.1?smtp=mail.example&mode=insecure&from=a@b.example", "is not encrypted"),
    ("syslog://", "the service is not encrypted"),
    ("not a url with {password}", "no URL that apprise knows"),
    ("quux://{password}@host", "no URL that apprise knows"),
])
def test_unencrypted_and_unknown_services_get_nothing(
    url: str, why: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CHAT", url.format(password="hunter2"))
    answer = send_by_apprise(Channel("chat", "env:CHAT"), "subject", "text")
    assert answer.result is Result.LATER
    assert why in answer.why
    assert "hunter2" not in answer.why + caplog.text


def test_a_wrong_password_is_the_sites_to_mend(mail: MailServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAIL", mail.url(password="wrong"))
    answer = send_by_apprise(Channel("mail", "env:MAIL", "env:ASHA"), "subject", "text")
    assert answer == module.Answer(Result.LATER, "the mail server did not take the login (535)")


def test_a_server_whose_certificate_is_not_trusted_gets_no_password(
    mail: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    answer = send_by_apprise(Channel("mail", "env:MAIL", "env:ASHA"), "subject", "text")
    assert answer == module.Answer(Result.LATER, "the server's certificate is not trusted here")
    assert not mail.mails


def test_a_server_that_hangs_is_given_up_and_asked_again(
    mail: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAIL_SECONDS", 0.5)
    mail.answers.delay = 1.5
    answer = send_by_apprise(Channel("mail", "env:MAIL", "env:ASHA"), "subject", "text")
    assert answer.result is Result.LATER
    assert "time" in answer.why


def test_a_reference_without_a_secret_is_retried_and_named() -> None:
    answer = send_by_apprise(Channel("mail", "env:NOWHERE_TO_BE_FOUND"), "subject", "text")
    assert answer.result is Result.LATER
    assert "NOWHERE_TO_BE_FOUND" in answer.why


def test_no_address_and_no_password_reaches_a_log_or_the_store(
    mail: MailServer, outbox: Outbox, notify: Notify, store: DirectoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    mail.answers.recipients["asha@mail.example"] = ["550 no such user"]
    outbox.record(notice())
    outbox.record(notice(1, KIRAN))
    deliver(outbox, notify, "demo", send_by_apprise)
    kept = b"".join(path.read_bytes() for path in store.root.rglob("*") if path.is_file()).decode()
    for secret in ("asha@mail.example", "kiran@mail.example", PASSWORD):
        assert secret not in caplog.text + kept
    assert logging.getLogger("apprise").propagate, "apprise's logger is given back as it was"


@pytest.mark.parametrize("url", [
    "https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ",
    "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ",
    ("https://prod-00.westus.logic.azure.com:443/workflows/643e69f83c8944438d68119179a10a64/triggers/manual"
     "/paths/invoke?api-version=2016-06-01&sp=%2Ftriggers%2Fmanual%2Frun&sv=1.0&sig=KODuebbbDGYFr0z0eu"),
    "ntfys://ntfy.example/topic", "mailtos://ops:pw@mail.example?mode=ssl&from=a@b.example&to=c@d.example",
])
def test_the_addresses_that_slack_and_teams_give_out_are_taken_as_they_are(url: str) -> None:
    assert not isinstance(module._service(url), str)


# --- chat -----------------------------------------------------------------------------------------


def test_a_chat_gets_its_notice_and_a_lost_one_says_so(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    notify = Notify({"msp/duty-lead": (Channel("chat", "env:CHAT"),)})
    with Webhook() as hook:
        monkeypatch.setenv("CHAT", f"json://127.0.0.1:{hook.port}/token-of-the-hook")
        hook.codes = [503, 429, 200, 404]
        outbox.record(notice(to="msp/duty-lead", channel="chat"))
        for count, code in ((1, 503), (2, 429)):
            deliver(outbox, notify, "demo", send_by_apprise)
            assert states(outbox) == [("waiting", count, f"the service answered {code}")]
            clock.now += retry_after(count)
        assert deliver(outbox, notify, "demo", send_by_apprise).sent == 1
        assert json.loads(hook.bodies[-1])["title"] == "Approval needed"
        outbox.record(notice(1, to="msp/duty-lead", channel="chat"))
        assert deliver(outbox, notify, "demo", send_by_apprise).failed == 1
    assert "the service answered 404" in {why for _, _, why in states(outbox)}


@pytest.mark.parametrize(("heard", "result"), [
    ("Failed to send: error=410.", Result.FAILED),
    ("Failed to send: error=500.", Result.LATER),
    ("something new", Result.LATER),
])
def test_what_a_refusal_means(heard: str, result: Result) -> None:
    assert explain([heard]).result is result


# --- many, and often ------------------------------------------------------------------------------


def test_many_notices_to_one_address_become_one_message(
    mail: MailServer, outbox: Outbox, notify: Notify
) -> None:
    for number in range(60):
        outbox.record(notice(number, subject=f"Approval needed {number}"))
    outbox.record(notice(0, KIRAN))
    assert deliver(outbox, notify, "demo", send_by_apprise).sent == 61
    assert sorted(str(one["X-Rcpt"]) for one in mail.mails) == ["asha@mail.example", "kiran@mail.example"]
    gathered = next(one for one in mail.mails if one["X-Rcpt"].startswith("asha"))
    assert gathered["Subject"] == "60 notices from demo"
    assert len([line for line in gathered.get_content().splitlines() if line.startswith("- Approval")]) == 40
    assert "20 more: lamplighter notifications demo" in gathered.get_content()


def test_no_address_gets_more_than_its_rate_and_nothing_is_lost(
    outbox: Outbox, notify: Notify, clock: Clock
) -> None:
    times: list[float] = []

    def send(*_: object) -> module.Answer:
        times.append(clock.now)
        return module.Answer(Result.SENT)

    slow = replace(notify, per_hour=4)
    for number in range(30):
        outbox.record(notice(number))
        deliver(outbox, slow, "demo", send)
        clock.now += 60
    for _ in range(12):
        deliver(outbox, slow, "demo", send)
        clock.now += 600
    assert {one.state for one in outbox.entries()} == {"sent"}
    for begin in times:
        assert len([when for when in times if begin <= when < begin + 3600]) <= 4


def test_a_round_has_a_most_and_a_deadline(outbox: Outbox) -> None:
    people = [f"person{number}@internal.example" for number in range(20)]
    notify = Notify({one: (Channel("chat", "env:X"),) for one in people}, per_round=5)
    for one in people:
        outbox.record(notice(to=one, channel="chat"))
    sent = module.Answer(Result.SENT)
    assert deliver(outbox, notify, "demo", lambda *_: sent, seconds=0).sent == 0
    assert [deliver(outbox, notify, "demo", lambda *_: sent).sent for _ in range(5)] == [5, 5, 5, 5, 0]


def test_whom_nothing_reaches_is_recorded_and_shown(outbox: Outbox) -> None:
    outbox.record(notice(channel=NO_CHANNEL))
    assert states(outbox) == [("failed", 0, "nothing in notify.yaml reaches them")]
    assert not list(outbox.due())


def test_a_channel_that_was_taken_out_of_the_file_waits(outbox: Outbox) -> None:
    outbox.record(notice())
    assert deliver(outbox, Notify(), "demo", send_by_apprise).later == 1
    assert states(outbox) == [("waiting", 1, "notify.yaml does not have this channel any more")]


# --- races and deaths -----------------------------------------------------------------------------


def test_racing_processes_send_each_notice_once(store: DirectoryStore, notify: Notify, clock: Clock) -> None:
    notify = replace(notify, per_hour=1000, per_round=1000)
    for number in range(3):
        Outbox(store, clock).record(notice(number))
        Outbox(store, clock).record(notice(number, KIRAN))
    sent: list[str] = []
    gate = threading.Barrier(6)

    def send(_channel: Channel, _subject: str, text: str) -> module.Answer:
        sent.append(f"{_channel.to} {text}")
        return module.Answer(Result.SENT)

    def work() -> None:
        gate.wait()
        deliver(Outbox(store, clock), notify, "demo", send)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(sent) == len(set(sent)) == 6


PROGRAM = """
import sys
from pathlib import Path
from lamplighter.model.notice import Notice, Occasion
from lamplighter.notify.send import deliver, send_by_apprise
from lamplighter.notify.outbox import Outbox
from lamplighter.site.notify import Channel, Notify
from lamplighter.store.directory import DirectoryStore
outbox = Outbox(DirectoryStore(Path(sys.argv[1])), lambda: {now})
made = Notice(Occasion("patch-linux-00000000", "gate", "d", {now}), "{to}", "mail", "s", "t", "l", {now})
outbox.record(made)
deliver(outbox, Notify({{"{to}": (Channel("mail", "env:MAIL", "env:ASHA"),)}}), "demo", send_by_apprise)
"""


@pytest.mark.parametrize(("point", "before", "after"), [("outbox.recorded", 0, 1), ("outbox.sent", 1, 2)])
def test_a_process_that_is_killed_loses_nothing(
    point: str, before: int, after: int, mail: MailServer, store: DirectoryStore, notify: Notify, clock: Clock
) -> None:
    """Killed between record and send: sent later. Killed between send and record: sent once more."""
    env = {**os.environ, "LAMPLIGHTER_CRASH": point}
    program = PROGRAM.format(now=NOW, to=ASHA)
    died = subprocess.run([sys.executable, "-c", program, str(store.root)], env=env, check=False, timeout=60)
    assert died.returncode == -signal.SIGKILL
    assert len(mail.mails) == before
    outbox = Outbox(store, clock)
    if before:
        assert deliver(outbox, notify, "demo", send_by_apprise).sent == 0, "the dead process still holds it"
        clock.now += CLAIM_SECONDS
    assert deliver(outbox, notify, "demo", send_by_apprise).sent == 1
    assert len(mail.mails) == after
    assert [one.state for one in outbox.entries()] == ["sent"]


# --- words ----------------------------------------------------------------------------------------

HOSTILE = (
    "Ok\r\nBcc: all@internal.example\n\n<b>x</b> [click](https://evil.example) @everyone <!channel> `rm`"
    "\u202e"
)


def test_hostile_text_stays_text() -> None:
    values = dict.fromkeys(("run", "site", "runbook", "state", "since", "message", "requester", "change",
                            "digest"), HOSTILE)
    subject, text = word("ended", rung=1, climbs=True, link="http://127.0.0.1/v2", **values)
    assert "\n" not in subject
    assert "\r" not in subject + text
    for bad in ("<", "[", "](", "`", "://evil", " @everyone", "\u202e", "\nBcc"):
        assert bad not in subject + text


def test_our_own_link_is_left_whole() -> None:
    assert plain(Trusted("http://127.0.0.1:4200/v2/runs")) == "http://127.0.0.1:4200/v2/runs"
    assert plain("see http://evil.example") == "see http:// evil.example"
    assert plain("priya.nair@msp.example") == "priya.nair@msp.example"


def test_a_secret_is_not_shown_by_a_resolver() -> None:
    answer = send_by_apprise(Channel("c", "env:C"), "s", "t", lambda ref: Secret("quux://hunter2", ref))
    assert "hunter2" not in answer.why
