"""Mail to addresses of every form, through a real server: exactly the one mailbox that was meant."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import yaml

from lamplighter.model.address import pick_address
from lamplighter.model.notice import Answer, Result
from lamplighter.notify.send import send_by_apprise
from lamplighter.secrets import Secret
from lamplighter.site.notify import Channel
from tests.lab.smtp import MailServer

CASES = yaml.safe_load((Path(__file__).parent / "cases" / "mail" / "addresses.yaml").read_text())
MEANT = sorted({meant for _, meant in CASES["values"] if meant})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MailServer]:
    with MailServer(tmp_path_factory.mktemp("mail")) as up:
        yield up


@pytest.fixture
def mail(server: MailServer, monkeypatch: pytest.MonkeyPatch) -> MailServer:
    server.answers.__init__()  # type: ignore[misc]
    monkeypatch.setenv("SSL_CERT_FILE", str(server.ca.path))
    return server


def send(url: str, to: str = "", address: str = "") -> Answer:
    """One message, by each way in which a channel can name its recipient."""
    texts = {"url": url, "to": to}
    channel = Channel("mail", "url", "to" if to else "", address)
    return send_by_apprise(channel, "A subject", "A text.\n", lambda name: Secret(texts[name], name))


@pytest.mark.parametrize("meant", MEANT)
@pytest.mark.parametrize("way", ["user of the directory", "reference", "in the URL", "in the URL's path"])
def test_the_only_recipient_is_the_one_meant(way: str, meant: str, mail: MailServer) -> None:
    url = mail.url()
    coded = quote(meant, safe="")
    answer = {
        "user of the directory": lambda: send(url, address=meant),
        "reference": lambda: send(url, to=f"{meant}\n"),
        "in the URL": lambda: send(f"{url}&to={coded}"),
        "in the URL's path": lambda: send(url.replace("?", f"/{coded}?")),
    }[way]()
    assert answer == Answer(Result.SENT)
    assert mail.answers.recipients_seen == [(meant,)]
    (taken,) = mail.mails
    (header,) = taken["To"].addresses
    assert header.addr_spec.encode("utf-8", "surrogateescape").decode() == meant
    assert (taken["Cc"], taken["Bcc"], taken["Auto-Submitted"]) == (None, None, "auto-generated")


@pytest.mark.parametrize("value", [value for value, meant in CASES["values"] if not meant])
def test_what_is_no_address_reaches_nobody(value: str, mail: MailServer) -> None:
    assert pick_address([value]) == ""
    for answer in (send(mail.url(), to=value), send(mail.url(), address=value)):
        assert answer == Answer(Result.LATER, "the recipient is not one mail address")
    assert not mail.mails


@pytest.mark.parametrize(("more", "why"), [
    ("&to=boss@mail.example", "names a recipient of its own"),
    ("&TO=boss@mail.example", "names a recipient of its own"),
    ("&cc=boss@mail.example", "sends copies"),
    ("&bcc=boss@mail.example", "sends copies"),
])
def test_a_server_whose_url_names_others_sends_nothing(more: str, why: str, mail: MailServer) -> None:
    answer = send(mail.url(options=more), address="jane@mail.example")
    assert answer.result is Result.LATER
    assert why in answer.why
    assert not mail.mails


def test_a_url_with_several_recipients_reaches_none_of_them(mail: MailServer) -> None:
    for more in ("&to=a@mail.example&to=b@mail.example", "&to=a@mail.example,b@mail.example"):
        assert send(mail.url(options=more)).result is Result.LATER
    assert not mail.mails


def test_an_address_is_given_to_mail_servers_only() -> None:
    answer = send("json://127.0.0.1:9/hook", address="jane@mail.example")
    assert answer == Answer(
        Result.LATER, "an address goes with a mail server, mailtos://, and with nothing else"
    )


def test_a_server_that_takes_no_international_address_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with MailServer(tmp_path, international=False) as old:
        monkeypatch.setenv("SSL_CERT_FILE", str(old.ca.path))
        assert send(old.url(), address="jane@bücher.example") == Answer(Result.SENT)
        answer = send(old.url(), address="müller@bücher.example")
        assert answer.result is Result.FAILED
        assert "SMTPUTF8" in answer.why
        assert old.answers.recipients_seen == [("jane@xn--bcher-kva.example",)]


@pytest.mark.filterwarnings("ignore:Requiring AUTH")
def test_a_server_that_speaks_tls_from_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with MailServer(tmp_path, wrapped=True) as wrapped:
        refused = send(wrapped.url(), address="o'neil@mail.example")
        assert refused == Answer(Result.LATER, "the server's certificate is not trusted here")
        monkeypatch.setenv("SSL_CERT_FILE", str(wrapped.ca.path))
        assert send(wrapped.url(), address="o'neil@mail.example") == Answer(Result.SENT)
        assert wrapped.answers.recipients_seen == [("o'neil@mail.example",)]


@pytest.mark.parametrize(("said", "result"), [
    ("450 greylisted", Result.LATER), ("451 later", Result.LATER), ("452 full", Result.LATER),
    ("421 busy", Result.LATER), ("550 unknown", Result.FAILED), ("552 full", Result.FAILED),
    ("554 no", Result.FAILED),
])
@pytest.mark.parametrize("where", ["recipient", "message"])
def test_what_a_servers_answer_means(where: str, said: str, result: Result, mail: MailServer) -> None:
    if where == "recipient":
        mail.answers.recipients["jane@mail.example"] = [said]
    else:
        mail.answers.data = [said]
    answer = send(mail.url(), address="jane@mail.example")
    assert answer.result is result
    assert said[:3] in answer.why
