"""An approval: what a person signs to let a plan pass, to reject it, or to take an approval back.

The statement is RFC 8785 JSON, `{v, plan, decision, approver, not_before, expires, id, reason}`, signed in
the namespace `lamplighter-approval@v1` and carried as one line (`lamplighter.model.envelope`). A revoke may
also carry `revokes`, the id of the one approval it takes back; without it, it takes back all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from lamplighter.errors import MalformedError
from lamplighter.model.canonical import canonical
from lamplighter.model.envelope import MAX_LINE, MAX_REASON, Fields

NAMESPACE = "lamplighter-approval@v1"
VERSION = 1


class Decision(StrEnum):
    """What the signer says of the plan."""

    APPROVE = "approve"
    REJECT = "reject"  # it must not be carried out; final
    REVOKE = "revoke"  # an approval, or all of them, no longer counts


@dataclass(frozen=True, slots=True)
class Statement:
    """What is signed.

    Attributes:
        plan: digest of the plan's bytes.
        decision: see `Decision`.
        approver: the signer's id in `people.yaml` and in `approvers`.
        not_before, expires: when it counts, seconds since the epoch, the second one excluded. A reject or
            revoke does not expire.
        id: unique; 8 to 64 letters, digits, dots, dashes, underscores.
        reason: one line for the record.
        revokes: in a revoke, the id of the one approval it takes back; empty means all of the plan's.
    """

    plan: str
    decision: Decision
    approver: str
    not_before: int
    expires: int
    id: str
    reason: str = ""
    revokes: str = ""

    def to_bytes(self) -> bytes:
        """The canonical bytes to sign.

        Raises:
            MalformedError: `read_statement` would not read it back.
        """
        value = {
            "v": VERSION, "plan": self.plan, "decision": str(self.decision), "approver": self.approver,
            "not_before": self.not_before, "expires": self.expires, "id": self.id, "reason": self.reason,
        }
        if self.revokes:
            value["revokes"] = self.revokes
        data = canonical(value)
        read_statement(data)
        return data


def read_statement(data: bytes) -> Statement:
    """Parse a statement's canonical bytes. Verify the signature over them first.

    Raises:
        MalformedError: not canonical, an unknown or missing field, a value out of bounds.
    """
    fields = Fields(data, VERSION, "the approval", limit=MAX_LINE)
    word = fields.text("decision")
    if word not in set(Decision):
        raise MalformedError(f"decision {word[:20]!r} is not approve, reject or revoke")
    start, end = fields.span()
    statement = Statement(
        fields.digest("plan"), Decision(word), fields.text("approver"), start, end, fields.id("id"),
        fields.text("reason", most=MAX_REASON, empty=True),
        fields.id("revokes") if fields.has("revokes") else "",
    )
    fields.end()
    if statement.revokes and statement.decision is not Decision.REVOKE:
        raise MalformedError(f"an approval that is to {word} names one that it revokes")
    return statement
