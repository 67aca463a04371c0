"""Who signed a line: from the signature over the key to the person, each step with its own refusal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from lamplighter.errors import MalformedError
from lamplighter.model.envelope import read_line
from lamplighter.model.party import Person
from lamplighter.model.signers import Revoked, Signer, Signers
from lamplighter.model.sshkey import PublicKey
from lamplighter.model.sshsig import parse_signature, verify

NEVER = 2**53 - 1
"""Later than any time a statement can name."""


class Code(StrEnum):
    """Why a signed line does not count."""

    BAD_SIGNATURE = "bad-signature"  # the key did not sign these bytes
    WRONG_DIGEST = "wrong-digest"  # it is about another plan
    UNKNOWN_KEY = "unknown-key"  # the key is not listed for the person the statement names
    WRONG_NAMESPACE = "wrong-namespace"  # signed for another purpose, or the key is not listed for this one
    KEY_EXPIRED = "key-expired"  # outside valid-after .. valid-before
    KEY_REVOKED = "key-revoked"
    UNKNOWN_PERSON = "unknown-person"  # not in people.yaml, or has left
    WRONG_PARTY = "wrong-party"  # of a party the gate does not name
    LACKS_ROLE = "lacks-role"
    REQUESTER = "requester"  # nobody approves what they asked for
    DUPLICATE_PERSON = "duplicate-person"  # another approval of the same person counts
    NOT_YET_VALID = "not-yet-valid"
    EXPIRED = "expired"
    TOO_OLD = "too-old"  # signed longer ago than the gate's max_age
    USED = "used"  # its id was used for another plan
    SPENT = "spent"  # a standing approval, used as often in this hour or day as it says
    REJECTED = "rejected"  # a reject, or what a reject overrides
    REVOKED = "revoked"  # a revoke, or what a revoke takes back
    MALFORMED = "malformed"


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom a site trusts.

    Attributes:
        people: by id, from `people.yaml`.
        signers: from `approvers`.
        revoked: keys that no longer count.
    """

    people: Mapping[str, Person] = field(default_factory=dict)
    signers: Signers = field(default_factory=Signers)
    revoked: Revoked = field(default_factory=Revoked)


@dataclass(frozen=True, slots=True)
class Attested:
    """A line with a good signature by a listed key that is not revoked. Whose, and when, is judged next.

    Attributes:
        statement: the signed bytes; now they may be parsed.
        key: that signed.
        signers: the lines of `approvers` that list the key for the namespace; never empty.
        revoked: the key has been revoked since; only ever so when `attest` was asked about the past.
    """

    statement: bytes
    key: PublicKey
    signers: tuple[Signer, ...]
    revoked: bool = False

    def valid_until(self, when: float) -> int:
        """The first second after `when` at which the key is no longer valid; 0 when it is not valid then."""
        valid = [signer.valid_before for signer in self.signers if signer.valid_at(when)]
        return max((last + 1 if last else NEVER for last in valid), default=0)


def attest(line: str, namespace: str, trust: Trust, *, past: bool = False) -> Attested | Code:
    """Check the signature on a line and that its key is one of the site's.

    Args:
        line: as pasted or stored; may be hostile.
        namespace: what the signature must be for.
        trust: the site's keys.
        past: whose key it *was* is asked, so that a revoked one is told and not refused. Only what takes
            something away may be judged so: losing a key must not give back what was taken with it.

    Returns:
        The attested bytes, or why not. Never raises on hostile input.
    """
    try:
        envelope = read_line(line)
        signature = parse_signature(envelope.signature)
    except MalformedError:
        return Code.MALFORMED
    if not verify(signature, envelope.statement):
        return Code.BAD_SIGNATURE
    if signature.namespace != namespace:
        return Code.WRONG_NAMESPACE
    revoked = signature.key in trust.revoked
    if revoked and not past:
        return Code.KEY_REVOKED
    signers = trust.signers.of(signature.key)
    if not signers:
        return Code.KEY_REVOKED if revoked else Code.UNKNOWN_KEY
    listed = tuple(signer for signer in signers if signer.signs_in(namespace))
    if not listed:
        return Code.WRONG_NAMESPACE
    return Attested(envelope.statement, signature.key, listed, revoked)


def person_of(attested: Attested, name: str, trust: Trust, *, past: bool = False) -> Person | Code:
    """The person a statement names, when the key that signed it is listed for exactly them.

    Args:
        attested: see `attest`.
        name: as the statement has it.
        trust: the site's people.
        past: somebody who has left is still told; see `attest`.
    """
    if any(signer.principal != name for signer in attested.signers):
        return Code.UNKNOWN_KEY
    person = trust.people.get(name)
    if person is None or (person.left and not past) or person.id != name:
        return Code.UNKNOWN_PERSON
    return person
