"""A notice: one message to one address, as a value; when it is tried again, and when it is given up. Pure.

A notice is named by its occasion: site, run, what happened, which rung, to whom, through which channel. The
same occasion met twice, by a restarted or a second process, has the same name and is recorded once.

Whom: somebody of people.yaml, through a channel of notify.yaml that is looked up late; or somebody who is in
neither, a user of the directory, at the one mail address that the notice then holds.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum

from lamplighter.errors import MalformedError
from lamplighter.model.canonical import canonical, digest, parse

VERSION = 1
MAX_SUBJECT = 200
MAX_TEXT = 6000
LIMIT = 64 * 1024
THROUGH = "through:"
"""Begins the channel of a notice to a user; the name of a mail server of `notify.yaml` follows."""
NO_CHANNEL = "none"
"""The channel of a notice to somebody whom nothing reaches: recorded and shown, and failed from the start."""
FIRST_RETRY, LONGEST_RETRY = 60, 3600


@dataclass(frozen=True, slots=True)
class Occasion:
    """What a notice is about.

    Attributes:
        run: the run's id.
        kind: `gate`, `ended`, `crashed`, `emergency`, `expiring`; also the template's name, if it has one.
        about: tells occasions of one run apart.
        since: when it began, seconds since the epoch.
        rung: of the escalation path, from 0; -1 for who is told outside the path.
    """

    run: str
    kind: str
    about: str
    since: int
    rung: int = -1


@dataclass(frozen=True, slots=True)
class Notice:
    """See the module's docstring. Nothing in it is secret.

    Attributes:
        occasion: what it is about.
        to: a person's id, or a role such as `internal/change-manager`; or a user's login.
        channel: its name in `notify.yaml`; `THROUGH` and a mail server's name for a user.
        subject, text: as sent.
        link: the page it leads to.
        created: seconds since the epoch.
        mail: a user's address; empty for everybody else.
        until: when it is of no use any more, seconds since the epoch; 0 for never.
    """

    occasion: Occasion
    to: str
    channel: str
    subject: str
    text: str
    link: str
    created: int
    mail: str = ""
    until: int = 0

    @property
    def address(self) -> tuple[str, str]:
        """Whom and how: what goes to one address is sent together when there is much of it."""
        return self.mail or self.to, self.channel

    @property
    def id(self) -> str:
        """32 hex digits: the same for the same occasion, whoever recorded it, whatever the text says."""
        name = digest({**asdict(self.occasion), "to": self.to, "channel": self.channel})
        return name.removeprefix("sha256:")[:32]

    @property
    def month(self) -> str:
        """`2026-11`, of the occasion, so that it is the same for everybody who records it."""
        return datetime.fromtimestamp(self.occasion.since, UTC).strftime("%Y-%m")

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        return canonical({"v": VERSION, **asdict(self)})


def read_notice(data: bytes) -> Notice:
    """Parse what `Notice.to_bytes` wrote.

    Raises:
        MalformedError: it is something else.
    """
    value = parse(data, limit=LIMIT)
    try:
        if value.pop("v") != VERSION:
            raise MalformedError(f"not a notice of format version {VERSION}")
        return Notice(Occasion(**value.pop("occasion")), **value)
    except (TypeError, KeyError, AttributeError) as error:
        raise MalformedError("not a notice") from error


class Result(StrEnum):
    """What became of one attempt."""

    SENT = "sent"  # the server took it; whether somebody reads it is not known
    LATER = "later"  # try again
    FAILED = "failed"  # never to be tried again: the server said so, or it is too late


@dataclass(frozen=True, slots=True)
class Answer:
    """What an attempt to send met; `why` holds neither address nor secret."""

    result: Result
    why: str = ""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What is known of the sending so far: the value that processes race for.

    Attributes:
        count: attempts begun.
        by: the process that is sending; empty when none is.
        until: when its claim ends, or when the next attempt is due; seconds since the epoch.
        why: what the last attempt met, in words that hold no address and no secret.
        nonce: tells two claims of the same moment apart.
    """

    count: int = 0
    by: str = ""
    until: int = 0
    why: str = ""
    nonce: str = ""

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        return canonical(asdict(self))


def read_attempt(data: bytes | None) -> Attempt:
    """Parse an attempt; None is one that was never made.

    Raises:
        MalformedError: it is something else.
    """
    try:
        return Attempt() if data is None else Attempt(**parse(data, limit=LIMIT))
    except TypeError as error:
        raise MalformedError("not an attempt") from error


def retry_after(count: int) -> int:
    """Seconds to wait after so many attempts: 1, 2, 4 ... minutes, at most an hour."""
    return int(min(LONGEST_RETRY, FIRST_RETRY * 2 ** min(count - 1, 10)))


def judge(result: Result, notice: Notice, attempt: Attempt, now: float, give_up: int) -> Result:
    """What an attempt's result means for the notice: `LATER` ends as `FAILED` once it is too old."""
    waits = now + retry_after(attempt.count)
    last = notice.created + give_up
    too_late = waits > (min(last, notice.until) if notice.until else last)
    return Result.FAILED if result is Result.LATER and too_late else result
