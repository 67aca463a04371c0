"""A signed request: who asks for a run, as a fact and not as a claim.

Where the gate names the requester's own party, separation of duties needs to know who asked. The statement
is RFC 8785 JSON, signed in the namespace `lamplighter-request@v1`, and carried as one line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from lamplighter.errors import MalformedError
from lamplighter.model.attest import Code, Trust, attest, person_of
from lamplighter.model.canonical import Json, canonical
from lamplighter.model.envelope import MAX_LINE, MAX_REASON, Fields

NAMESPACE = "lamplighter-request@v1"
VERSION = 1
MAX_SECONDS = 7 * 24 * 3600
MAX_REFERENCE = 200


@dataclass(frozen=True, slots=True)
class Asked:
    """What a run is asked to do.

    Attributes:
        site, runbook: where, and what.
        parameters: everything the runbook's flow is started with, defaults written out, but the requester:
            what is not signed somebody else could choose.
    """

    site: str
    runbook: str
    parameters: Mapping[str, Json] = field(default_factory=dict)

    def differs(self, other: Asked) -> tuple[str, ...]:
        """Names in which the two are not the same: `packages`.

        Raises:
            MalformedError: a value has no canonical form.
        """
        found = [name for name in ("site", "runbook") if getattr(self, name) != getattr(other, name)]
        mine, theirs = ({name: canonical(value) for name, value in asked.parameters.items()}
                        for asked in (self, other))
        return (*found, *sorted(name for name in {*mine, *theirs} if mine.get(name) != theirs.get(name)))


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """What is signed.

    Attributes:
        asked: see `Asked`.
        requester: the signer's id.
        not_before, expires: when a run may be opened with it, seconds since the epoch, the second excluded.
        id: unique; it opens one run only.
        reason: one line for the record.
    """

    asked: Asked
    requester: str
    not_before: int
    expires: int
    id: str
    reason: str = ""

    def to_bytes(self) -> bytes:
        """The canonical bytes to sign.

        Raises:
            MalformedError: `read_request` would not read it back.
        """
        value = asdict(self)
        data = canonical({"v": VERSION, **value.pop("asked"), **value})
        read_request(data)
        return data


def read_request(data: bytes) -> SignedRequest:
    """Parse a request's canonical bytes. Verify the signature over them first.

    Raises:
        MalformedError: not canonical, an unknown or missing field, a value out of bounds.
    """
    what = Fields(data, VERSION, "the request", limit=MAX_LINE)
    asked = Asked(
        what.text("site"), what.text("runbook"), what.mapping("parameters"),
    )
    start, end = what.span()
    request = SignedRequest(
        asked, what.text("requester"), start, end, what.id("id"),
        what.text("reason", most=MAX_REASON, empty=True),
    )
    what.end()
    if end - start > MAX_SECONDS:
        raise MalformedError(f"a request lasts at most {MAX_SECONDS // 86400} days")
    return request


def authenticate(
    line: str, asked: Asked, trust: Trust, now: int, used: Mapping[str, str], run: str,
) -> SignedRequest | Code:
    """Find out who signed a request for exactly this run.

    Args:
        line: the signed request; may be hostile.
        asked: what the run was asked to do.
        trust: the site's people and keys.
        now: seconds since the epoch.
        used: request id to the run it opened.
        run: the run's id.

    Returns:
        The request, whose requester is then known as `signed`; or why it does not count.
    """
    attested = attest(line, NAMESPACE, trust)
    if isinstance(attested, Code):
        return attested
    try:
        request = read_request(attested.statement)
        same = not request.asked.differs(asked)
    except MalformedError:
        return Code.MALFORMED
    person = person_of(attested, request.requester, trust)
    if isinstance(person, Code):
        return person
    if not same:
        return Code.WRONG_DIGEST
    if used.get(request.id, run) != run:
        return Code.USED
    if not attested.valid_until(now):
        return Code.KEY_EXPIRED
    if now < request.not_before:
        return Code.NOT_YET_VALID
    return Code.EXPIRED if now >= request.expires else request
