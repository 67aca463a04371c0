"""Sends what is in the outbox: mail, and through apprise to Teams, Slack and about a hundred others.

Only encrypted services are used; a plain one is taken on this machine's own loopback only. What a server
answered is kept as a code and a sentence: apprise's own log lines hold addresses and are not passed on.
"""

from __future__ import annotations

import ipaddress
import logging
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby

import apprise
from apprise import NotifyFormat
from apprise.plugins import NotifyBase
from apprise.plugins.email.base import NotifyEmail
from apprise.plugins.email.common import SecureMailMode

from lamplighter.crashpoints import crashpoint
from lamplighter.errors import MalformedError, SecretError
from lamplighter.model.notice import Answer, Attempt, Notice, Result
from lamplighter.notify.mail import recipient_of, send_mail
from lamplighter.notify.outbox import WINDOW, Outbox
from lamplighter.notify.wording import digest_of
from lamplighter.secrets import Resolve, resolve
from lamplighter.site.notify import Channel, Notify

MOST_SINGLE = 3
"""Notices to one address in one round that go out one by one; more become one message."""
MOST_TOGETHER = 200
SEND_SECONDS = 25.0
ROUND_SECONDS = 120.0
CONNECT_SECONDS, READ_SECONDS = 5.0, 10.0
MAIL_SECONDS = 20.0
"""Until an answer of a mail server must be there: one that scans what it takes needs its time, and a message
that it takes after that is sent again."""
BODY_FORMAT = NotifyFormat.TEXT
_HTTP = re.compile(r"error=(\d{3})\b")
_GONE = frozenset({400, 404, 405, 410, 413, 422})
_LOCK = threading.Lock()


Send = Callable[[Channel, str, str], Answer]
"""Delivers subject and text over a channel."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """What one round did: notices by what became of them."""

    sent: int = 0
    later: int = 0
    failed: int = 0

    def __str__(self) -> str:
        return f"{self.sent} sent, {self.later} to be tried again, {self.failed} failed"


def deliver(
    outbox: Outbox, notify: Notify, site: str, send: Send, *, seconds: float = ROUND_SECONDS,
    notices: Iterable[Notice] | None = None,
) -> Delivered:
    """Send what is due, within the site's rates and a deadline; what is left waits for the next round.

    Those who run things come first, and then the users, of whom there may be hundreds.

    Args:
        outbox: the site's.
        notify: how people are reached.
        site: its name, for messages that gather several notices.
        send: delivers one message.
        seconds: no message is begun after that.
        notices: which ones, recorded before; all that are due by default.

    Raises:
        StoreError: the outbox cannot be read or written.
    """
    end, sent_messages = time.monotonic() + seconds, 0
    results: list[Result] = []
    found = outbox.due() if notices is None else notices
    waiting = sorted(found, key=lambda one: (bool(one.mail), one.address, one.created, one.id))
    for address, group in groupby(waiting, key=lambda one: one.address):
        for batch in _batches(list(group)):
            if time.monotonic() >= end or sent_messages >= notify.per_round:
                return _delivered(results)
            done = _send_batch(outbox, notify, site, send, address, batch)
            sent_messages += bool(done)
            results += done
    return _delivered(results)


def _delivered(results: Sequence[Result]) -> Delivered:
    return Delivered(*(results.count(kind) for kind in (Result.SENT, Result.LATER, Result.FAILED)))


def _batches(notices: list[Notice]) -> Iterator[list[Notice]]:
    """One by one when there are few; together when there are many, so that nobody is flooded.

    To users one by one: several accounts may have one address, and a list of links is nothing for them.
    """
    size = 1 if len(notices) <= MOST_SINGLE or notices[0].mail else MOST_TOGETHER
    yield from (notices[start : start + size] for start in range(0, len(notices), size))


def _send_batch(
    outbox: Outbox, notify: Notify, site: str, send: Send, address: tuple[str, str], batch: list[Notice]
) -> list[Result]:
    claimed = [(notice, claim) for notice in batch if (claim := outbox.claim(notice))]
    if not claimed:
        return []
    if not outbox.may_send(address, notify.per_hour):
        held = Answer(Result.LATER, f"held back: {notify.per_hour} messages an hour went there already")
        return _settle(outbox, claimed, held, WINDOW // 4)
    notices = [notice for notice, _ in claimed]
    first = notices[0]
    channel = notify.way(first)
    subject, text = (first.subject, first.text) if len(notices) == 1 else digest_of(notices, site)
    answer = _answer(channel, first, outbox, lambda way: send(way, subject, text))
    crashpoint("outbox.sent")
    return _settle(outbox, claimed, answer)


def _answer(
    channel: Channel | None, first: Notice, outbox: Outbox, send: Callable[[Channel], Answer]
) -> Answer:
    if outbox.is_late(first):
        return Answer(Result.FAILED, "it could not be sent before it was of no use any more")
    gone = Answer(Result.LATER, "notify.yaml does not have this channel any more")
    return send(channel) if channel else gone


def _settle(
    outbox: Outbox, claimed: Sequence[tuple[Notice, Attempt]], answer: Answer, after: int = 0
) -> list[Result]:
    return [outbox.settle(notice, claim, answer.result, answer.why, after) for notice, claim in claimed]


# --- one message ----------------------------------------------------------------------------------


def send_by_apprise(channel: Channel, subject: str, text: str, resolver: Resolve = resolve) -> Answer:
    """Deliver one message within a deadline. Never raises: whatever went wrong is in the answer."""
    answers: list[Answer] = []
    work = threading.Thread(
        target=lambda: answers.append(_send(channel, subject, text, resolver)), name="notify", daemon=True
    )
    work.start()
    work.join(SEND_SECONDS)
    return answers[0] if answers else Answer(Result.LATER, f"no answer within {SEND_SECONDS:.0f} s")


def _send(channel: Channel, subject: str, text: str, resolver: Resolve) -> Answer:
    try:
        url = resolver(channel.url).reveal().strip()
        address = channel.address or (resolver(channel.to).reveal() if channel.to else "")
    except SecretError as error:
        return Answer(Result.LATER, str(error))
    with _overhear() as heard:
        try:
            service = _service(url)
            if isinstance(service, str):
                return Answer(Result.LATER, service)
            if not isinstance(service, NotifyEmail):
                return _by_service(service, address, subject, text, heard)
            to = recipient_of(url, service, address)
        except MalformedError as error:
            return Answer(Result.LATER, error.message)
        except Exception as error:  # noqa: BLE001 - any of a hundred services; its text may hold the address
            return Answer(Result.LATER, f"the service's program failed with {type(error).__name__}")
    return send_mail(service, to, subject, text, connect_seconds=CONNECT_SECONDS, seconds=MAIL_SECONDS)


def _by_service(
    service: NotifyBase, address: str, subject: str, text: str, heard: Sequence[str]
) -> Answer:
    """Through apprise, which takes lists of addresses apart in its own way: so it is given none."""
    if address:
        return Answer(Result.LATER, "an address goes with a mail server, mailtos://, and with nothing else")
    sender = apprise.Apprise(asset=_asset())
    sender.add(service)
    taken = sender.notify(text, title=subject, body_format=BODY_FORMAT)
    return Answer(Result.SENT) if taken else explain(heard)


def _asset() -> apprise.AppriseAsset:
    """No files, no threads of its own, and its name on what it sends."""
    return apprise.AppriseAsset(
        app_id="Lamplighter", app_desc="Lamplighter", app_url="", async_mode=False, secure_logging=True,
        storage_mode=apprise.PersistentStoreMode.MEMORY,
    )


def _service(url: str) -> NotifyBase | str:
    """The service of a URL; a sentence when it must not be used."""
    service = apprise.Apprise.instantiate(url, asset=_asset())
    if service is None:
        return "the reference holds no URL that apprise knows"
    here = _is_here(service)
    if not here and not _is_encrypted(service, url.partition(":")[0].lower()):
        return "the service is not encrypted; write mailtos:// with mode=starttls, https:// or the like"
    if not here and not service.verify_certificate:
        return "the URL says verify=no, and an unproven server gets no notices"
    service.socket_connect_timeout = min(service.socket_connect_timeout, CONNECT_SECONDS)
    service.socket_read_timeout = min(service.socket_read_timeout, READ_SECONDS)
    return service


def _is_encrypted(service: NotifyBase, scheme: str) -> bool:
    """By what the service says of itself; `https` is a page's own address, which apprise knows as well."""
    if isinstance(service, NotifyEmail) and service.secure_mode == SecureMailMode.INSECURE:
        return False
    found: str | tuple[str, ...] | None = getattr(type(service), "secure_protocol", None)
    return scheme in {"https", *((found,) if isinstance(found, str) else found or ())}


def _is_here(service: NotifyBase) -> bool:
    """Whether it is on this machine; a mail server's own name may differ from the address's."""
    host = str((service.smtp_host if isinstance(service, NotifyEmail) else service.host) or "")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def explain(heard: Sequence[str]) -> Answer:
    """What a refused attempt means, from apprise's log lines: only a code of them is kept.

    HTTP: 404 and 410 say that the webhook is gone.
    """
    text = "\n".join(heard)
    if http := _HTTP.search(text):
        code = int(http[1])
        result = Result.FAILED if code in _GONE else Result.LATER
        return Answer(result, f"the service answered {code}")
    for sign, why in _SIGNS:
        if sign in text:
            return Answer(Result.LATER, why)
    return Answer(Result.LATER, "the service could not be reached, or did not take it")


_SIGNS = (
    ("CERTIFICATE_VERIFY_FAILED", "the server's certificate is not trusted here"),
    ("Connection refused", "the server is down: connection refused"),
    ("timed out", "the server did not answer in time"),
    ("Name or service not known", "the server's name is not known"),
)


@contextmanager
def _overhear() -> Iterator[list[str]]:
    """Collect apprise's log lines, and keep them from everybody else: they hold addresses."""
    heard: list[str] = []
    log = logging.getLogger("apprise")
    ear = _Ear(heard)
    with _LOCK:
        before = (log.level, log.propagate, log.handlers)
        log.handlers, log.propagate = [ear], False
        log.setLevel(logging.DEBUG)
        try:
            yield heard
        finally:
            log.setLevel(before[0])
            log.propagate, log.handlers = before[1], before[2]


class _Ear(logging.Handler):
    def __init__(self, heard: list[str]) -> None:
        super().__init__(logging.DEBUG)
        self._heard = heard

    def emit(self, record: logging.LogRecord) -> None:
        self._heard.append(record.getMessage()[:2000])
