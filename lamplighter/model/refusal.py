"""Why a signed line does not count, in words and with the name of who signed it. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from lamplighter.model.attest import Code
from lamplighter.model.gate import GateResult
from lamplighter.model.plan import Plan
from lamplighter.model.quorum import needs

_WORDS = {
    Code.BAD_SIGNATURE: "the signature is not over these words",
    Code.WRONG_DIGEST: "{who} signed another plan than this one",
    Code.UNKNOWN_KEY: "approvers does not list that key for {who}",
    Code.WRONG_NAMESPACE: "the key of {who} is not listed for approvals, or signed something else",
    Code.KEY_EXPIRED: "the key of {who} is outside its validity",
    Code.KEY_REVOKED: "the key of {who} is revoked",
    Code.UNKNOWN_PERSON: "{who} is not in people.yaml, or has left",
    Code.WRONG_PARTY: "{who} is not of a party that this gate asks: it needs {needs}",
    Code.LACKS_ROLE: "{who} does not hold the role: this gate needs {needs}",
    Code.REQUESTER: "{who} asked for this run, and nobody approves what they asked for",
    Code.DUPLICATE_PERSON: "{who} has approved already, and counts once",
    Code.NOT_YET_VALID: "the time of what {who} signed has not come; is that machine's clock right?",
    Code.EXPIRED: "what {who} signed has expired",
    Code.TOO_OLD: "{who} signed it too long ago",
    Code.SPENT: "the standing approval of {who} was used as often in this hour or day as it says",
    Code.USED: "what {who} signed was used for another plan, and serves once",
    Code.REJECTED: "{who} rejected the plan, or what they signed was rejected",
    Code.REVOKED: "what {who} signed was taken back",
    Code.MALFORMED: "it is no line that lamplighter has printed, as a whole",
}


def needs_of(plan: Plan) -> str:
    """What opens this plan's gate, in words."""
    if plan.change_type != "emergency":
        return needs(plan.gate)
    who = " or ".join(f"1 of {party} (emergency)" for party in plan.gate.emergency.parties)
    return f"{who}, and a review by internal IT within 24 hours"


def in_words(code: Code, who: str, plan: Plan) -> str:
    """One code as a sentence without its full stop.

    Args:
        code: the gate's.
        who: the id that the line claims; empty when it claims none.
        plan: whose gate it was for.
    """
    return _WORDS[code].format(who=who or "somebody", needs=needs_of(plan))


def refusals(result: GateResult, plan: Plan) -> Iterator[tuple[str, Code, str]]:
    """(approval id, code, sentence) of each line that does not count."""
    return ((name, code, in_words(code, result.names.get(name, ""), plan)) for name, code in result.refused)
