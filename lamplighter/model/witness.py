"""A witness: the other party signs the end of the site's chain, so that neither can rewrite it alone.

The statement is RFC 8785 JSON, `{v, site, seal, head, witness, time, id}`, and after a restore `restored`;
signed in the namespace `lamplighter-witness@v1` and carried as one line (`lamplighter.model.envelope`).
Whoever keeps such a line can show later that seal number `seal` had the hash `head`: everything up to it is
fixed. Keep it where the party that writes the store cannot reach it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from lamplighter.errors import MalformedError
from lamplighter.model.attest import Code, Trust, attest, person_of
from lamplighter.model.canonical import canonical
from lamplighter.model.envelope import MAX_LINE, Fields, read_line
from lamplighter.model.party import Person

NAMESPACE = "lamplighter-witness@v1"
VERSION = 1
_MOST = 2**53 - 1


@dataclass(frozen=True, slots=True)
class Statement:
    """What is signed.

    Attributes:
        site: whose chain.
        seal: number of the last seal seen.
        head: its hash.
        witness: the signer's id in `people.yaml` and in `approvers`.
        time: seconds since the epoch, by the signer's clock.
        id: unique.
        restored: why the store is older than what was seen of it, and is to be gone on with; empty when it
            is not.
    """

    site: str
    seal: int
    head: str
    witness: str
    time: int
    id: str
    restored: str = ""

    def to_bytes(self) -> bytes:
        """The canonical bytes to sign."""
        said = {name: value for name, value in asdict(self).items() if name != "restored" or value}
        return canonical({"v": VERSION, **said})


@dataclass(frozen=True, slots=True)
class Witnessed:
    """A line, judged.

    Attributes:
        statement: what it says; None when it cannot be read.
        person: who signed; None when no signature counts, or none was checked.
        refused: why it does not count; None when it does, or when no trust was given.
    """

    statement: Statement | None
    person: Person | None = None
    refused: Code | None = None


def read_statement(data: bytes) -> Statement:
    """Parse a statement's canonical bytes.

    Raises:
        MalformedError: not canonical, an unknown or missing field, a value out of bounds.
    """
    fields = Fields(data, VERSION, "the witness statement", limit=MAX_LINE)
    statement = Statement(
        fields.text("site"), fields.number("seal", most=_MOST), fields.digest("head"), fields.text("witness"),
        fields.number("time"), fields.id("id"), fields.text("restored") if fields.has("restored") else "",
    )
    fields.end()
    return statement


def judge_witness(line: str, trust: Trust | None) -> Witnessed:
    """Read a witness line and say whose it is; never raises on hostile input.

    Args:
        line: as stored.
        trust: the site's people and keys; None reads without checking who signed.
    """
    try:
        statement = read_statement(read_line(line).statement)
    except MalformedError:
        return Witnessed(None, refused=Code.MALFORMED)
    if trust is None:
        return Witnessed(statement)
    attested = attest(line, NAMESPACE, trust)
    if isinstance(attested, Code):
        return Witnessed(statement, refused=attested)
    person = person_of(attested, statement.witness, trust)
    if isinstance(person, Code):
        return Witnessed(statement, refused=person)
    if not attested.valid_until(statement.time):
        return Witnessed(statement, refused=Code.KEY_EXPIRED)
    return Witnessed(statement, person)
