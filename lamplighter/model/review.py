"""A review: internal IT looks at an emergency afterwards, and signs what it found.

An emergency passes on one second person, of either party, so internal IT may hear of it only when it is
over. The review makes up for that. The statement is RFC 8785 JSON, `{v, site, run, head, reviewer, verdict,
reason, time, id}`, signed in the namespace `lamplighter-review@v1` and carried as one line
(`lamplighter.model.envelope`). `head` is the hash of the run's closing record: what was reviewed is exactly
that ledger. Whether the verdict is good or bad, the review is done; a bad one is internal IT's to pursue.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from lamplighter.errors import MalformedError
from lamplighter.model.attest import Code, Trust, attest, person_of
from lamplighter.model.canonical import canonical
from lamplighter.model.envelope import MAX_LINE, MAX_REASON, Fields, read_line
from lamplighter.model.party import Party

NAMESPACE = "lamplighter-review@v1"
VERSION = 1
SECONDS = 24 * 3600
"""From the moment an emergency's gate opens until its review is overdue."""


class Verdict(StrEnum):
    """What internal IT says of an emergency."""

    JUSTIFIED = "justified"
    OBJECTED = "objected"  # it should not have been one, or not have been done so


@dataclass(frozen=True, slots=True)
class Review:
    """What is signed.

    Attributes:
        site, run: which run.
        head: hash of its closing record.
        reviewer: the signer's id in `people.yaml` and in `approvers`.
        verdict: see `Verdict`.
        time: seconds since the epoch, by the signer's clock.
        id: unique.
        reason: one line for the record; an objection needs one.
    """

    site: str
    run: str
    head: str
    reviewer: str
    verdict: Verdict
    time: int
    id: str
    reason: str = ""

    def to_bytes(self) -> bytes:
        """The canonical bytes to sign.

        Raises:
            MalformedError: `read_review` would not read it back.
        """
        data = canonical({
            "v": VERSION, "site": self.site, "run": self.run, "head": self.head, "reviewer": self.reviewer,
            "verdict": str(self.verdict), "time": self.time, "id": self.id, "reason": self.reason,
        })
        read_review(data)
        return data


@dataclass(frozen=True, slots=True)
class Due:
    """A review that an emergency opened.

    Attributes:
        run: which run.
        site: where.
        requester: who asked for it, and so may not review it.
        opened: when its gate opened, seconds since the epoch.
        due: the first second at which it is overdue.
    """

    run: str
    site: str
    requester: str
    opened: int
    due: int

    def to_bytes(self) -> bytes:
        """Canonical bytes, as the store keeps them."""
        return canonical({
            "v": VERSION, "run": self.run, "site": self.site, "requester": self.requester,
            "opened": self.opened, "due": self.due,
        })


def read_review(data: bytes) -> Review:
    """Parse a review's canonical bytes. Verify the signature over them first.

    Raises:
        MalformedError: not canonical, an unknown or missing field, a value out of bounds.
    """
    fields = Fields(data, VERSION, "the review", limit=MAX_LINE)
    word = fields.text("verdict")
    if word not in set(Verdict):
        raise MalformedError(f"verdict {word[:20]!r} is not justified or objected")
    review = Review(
        fields.text("site"), fields.text("run"), fields.digest("head"), fields.text("reviewer"),
        Verdict(word), fields.number("time"), fields.id("id"),
        fields.text("reason", most=MAX_REASON, empty=True),
    )
    fields.end()
    if review.verdict is Verdict.OBJECTED and not review.reason:
        raise MalformedError("an objection needs a reason")
    return review


def read_due(data: bytes) -> Due:
    """Read an opened review as the store keeps it.

    Raises:
        MalformedError: it is not one.
    """
    fields = Fields(data, VERSION, "the opened review", limit=MAX_LINE)
    due = Due(
        fields.text("run"), fields.text("site"), fields.text("requester"), fields.number("opened"),
        fields.number("due"),
    )
    fields.end()
    return due


def judge_review(line: str, due: Due, head: str, trust: Trust) -> Review | Code:
    """Tell whether a line closes an opened review; never raises on hostile input.

    Args:
        line: as stored; may be hostile.
        due: the review that an emergency opened.
        head: hash of that run's closing record.
        trust: the site's people and keys.

    Returns:
        The review; or why it does not count: it is by internal IT, not by whoever asked for the emergency,
        and about exactly this ledger. The key must have been valid when it signed.
    """
    attested = attest(line, NAMESPACE, trust)
    if isinstance(attested, Code):
        return attested
    try:
        review = read_review(read_line(line).statement)
    except MalformedError:
        return Code.MALFORMED
    person = person_of(attested, review.reviewer, trust)
    if isinstance(person, Code):
        return person
    if (review.site, review.run, review.head) != (due.site, due.run, head):
        return Code.WRONG_DIGEST
    if person.party is not Party.INTERNAL:
        return Code.WRONG_PARTY
    if person.id == due.requester:
        return Code.REQUESTER
    return review if attested.valid_until(review.time) else Code.KEY_EXPIRED
