"""Reads what a directory sends: the small part of BER that RFC 4511 5.1 allows, and nothing else.

ldap3's own reader trusts every length and every tag. This one takes definite lengths of at most four octets
and one-octet tags, stays inside its bounds, and never recurses deeper than its callers ask.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lamplighter.errors import MalformedError
from lamplighter.model.logins import Answer, PolicyError, PolicyState, Usability

PAGED = "1.2.840.113556.1.4.319"  # RFC 2696
PASSWORD_POLICY = "1.3.6.1.4.1.42.2.27.8.5.1"  # noqa: S105 - an OID: draft-behera-ldap-password-policy 6

USABILITY = "1.3.6.1.4.1.42.2.27.9.5.8"  # the account usability control, slapo-ppolicy(5)
ASSERTION = "1.3.6.1.1.12"  # RFC 4528 2
DESCRIPTOR = "1.2.840.113556.1.4.801"  # LDAP_SERVER_SD_FLAGS_OID, MS-ADTS 3.1.1.3.4.1.11

BOOLEAN, INTEGER, OCTETS, ENUMERATED, SEQUENCE, SET = 0x01, 0x02, 0x04, 0x0A, 0x30, 0x31
BIND_RESPONSE, SEARCH_ENTRY, SEARCH_DONE, SEARCH_REFERENCE = 0x61, 0x64, 0x65, 0x73
MODIFY_RESPONSE, EXTENDED_RESPONSE, INTERMEDIATE_RESPONSE = 0x67, 0x78, 0x79
CONTROLS, REFERRAL, SASL_CREDENTIALS = 0xA0, 0xA3, 0x87
MAX_ITEMS = 200_000
"""Elements of one sequence or set: members of a large group; each costs 50 times its octets in memory."""
_MAX_INTEGER = 8
_LONG = 0x80
_NUMBER = 0x1F
_WARNING, _ERROR = 0xA0, 0x81
_AVAILABLE, _NOT_AVAILABLE = 0x80, 0xA1
_RESET, _UNLOCKS = 1, 4


@dataclass(frozen=True, slots=True)
class Message:
    """One LDAPMessage (RFC 4511 4.1.1).

    Attributes:
        id: of the request it answers; 0 for a notification.
        kind: tag of the operation.
        body: content of the operation.
        controls: value of each control, by OID.
    """

    id: int
    kind: int
    body: bytes
    controls: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Result:
    """An LDAPResult (RFC 4511 4.1.9) with what its operation adds.

    Attributes:
        code: result code.
        matched: DN of the last object that was found.
        text: diagnostic message; hostile.
        sasl: server's SASL credentials.
        controls: value of each control, by OID.
    """

    code: int
    matched: str
    text: str
    sasl: bytes = b""
    controls: Mapping[str, bytes] = field(default_factory=dict)


def frame_size(data: bytes | bytearray) -> int | None:
    """Octets of the message that begins here; None when too little of it is there to tell.

    Raises:
        MalformedError: no LDAPMessage begins like this.
    """
    if data and data[0] != SEQUENCE:
        raise MalformedError("what came is no LDAP message")
    if len(data) < 2:  # noqa: PLR2004 - tag and first length octet
        return None
    length = data[1]
    if length < _LONG:
        return 2 + length
    count = length - _LONG
    if not 1 <= count <= 4:  # noqa: PLR2004 - RFC 4511 5.1: definite lengths; four octets are 4 GiB
        raise MalformedError("a length in an LDAP message is indefinite or absurd")
    if len(data) < 2 + count:
        return None
    return 2 + count + int.from_bytes(data[2 : 2 + count], "big")


def items(data: bytes) -> list[tuple[int, bytes]]:
    """The tags and contents that follow each other in `data`.

    Raises:
        MalformedError: they do not fill it exactly, or are too many.
    """
    found, position = [], 0
    while position < len(data):
        tag = data[position]
        if tag & _NUMBER == _NUMBER or position + 1 >= len(data):
            raise MalformedError("an LDAP message is cut off or has a tag that LDAP does not know")
        start = position + 2
        length = data[position + 1]
        if length >= _LONG:
            count = length - _LONG
            length = int.from_bytes(data[start : start + count], "big")
            start += count
            if not 1 <= count <= 4:  # noqa: PLR2004 - as `frame_size`
                raise MalformedError("a length in an LDAP message is indefinite or absurd")
        if start + length > len(data):
            raise MalformedError("an LDAP message is cut off inside")
        found.append((tag, data[start : start + length]))
        if len(found) > MAX_ITEMS:
            raise MalformedError(f"an LDAP message has more than {MAX_ITEMS} elements in one place")
        position = start + length
    return found


def read_message(frame: bytes) -> Message:
    """Read one whole LDAPMessage.

    Raises:
        MalformedError: it is none.
    """
    envelope = items(_only(items(frame), SEQUENCE))
    if len(envelope) < 2:  # noqa: PLR2004 - id and operation
        raise MalformedError("an LDAP message has no operation")
    controls = {}
    for tag, value in envelope[2:]:
        if tag == CONTROLS:
            controls.update(dict(_control(item) for item in items(value)))
    return Message(_integer(envelope[0]), envelope[1][0], envelope[1][1], controls)


def read_result(message: Message) -> Result:
    """Read the LDAPResult in a response.

    Raises:
        MalformedError: there is none.
    """
    parts = items(message.body)
    if [tag for tag, _ in parts[:3]] != [ENUMERATED, OCTETS, OCTETS]:
        raise MalformedError("an LDAP result is not one")
    sasl = next((value for tag, value in parts[3:] if tag == SASL_CREDENTIALS), b"")
    matched, text = (value.decode("utf-8", "replace") for _, value in parts[1:3])
    return Result(_integer(parts[0], ENUMERATED), matched, text, sasl, message.controls)


def read_entry(message: Message) -> tuple[str, dict[str, tuple[bytes, ...]]]:
    """Read a search result entry (RFC 4511 4.5.2): its DN, and its values by attribute in lower case.

    Raises:
        MalformedError: it is none.
    """
    parts = items(message.body)
    if [tag for tag, _ in parts] != [OCTETS, SEQUENCE]:
        raise MalformedError("a search result entry is not one")
    attributes: dict[str, tuple[bytes, ...]] = {}
    for tag, value in items(parts[1][1]):
        attribute = items(value) if tag == SEQUENCE else []
        if [kind for kind, _ in attribute] != [OCTETS, SET]:
            raise MalformedError("an attribute in a search result entry is not one")
        values = tuple(octets for kind, octets in items(attribute[1][1]) if kind == OCTETS)
        name = _text(attribute[0][1]).lower()
        if name in attributes:
            raise MalformedError("an attribute stands twice in a search result entry")
        if values:
            attributes[name] = values
    return _text(parts[0][1]), attributes


def read_cookie(value: bytes) -> bytes:
    """The cookie of a paged result (RFC 2696 2); empty after the last page.

    Raises:
        MalformedError: the control is broken.
    """
    parts = items(_only(items(value), SEQUENCE))
    if [tag for tag, _ in parts] != [INTEGER, OCTETS]:
        raise MalformedError("the control of a paged search is broken")
    return parts[1][1]


def read_policy(value: bytes | None) -> PolicyState | None:
    """The password policy response control (draft-behera-ldap-password-policy-11 6.2).

    Raises:
        MalformedError: the control is broken.
    """
    if value is None:
        return None
    state: dict[str, int] = {}
    for tag, content in items(_only(items(value), SEQUENCE)):
        if tag == _WARNING:  # a choice: seconds to expiry [0], or grace logins [1]
            for kind, part in items(content):
                state[f"warning{kind & _NUMBER}"] = _integer((INTEGER, part))
        elif tag == _ERROR:
            state["error"] = _integer((INTEGER, content))
    known = list(PolicyError)
    error = state.get("error")
    if error is not None and not 0 <= error < len(known):
        raise MalformedError("the password policy objects to something unknown")
    return PolicyState(
        known[error] if error is not None else None, state.get("warning0"), state.get("warning1")
    )


def read_usability(value: bytes) -> Usability:
    """The account usability response control: seconds to expiry [0], or why it cannot be used [1].

    Raises:
        MalformedError: the control is broken.
    """
    ((tag, content),) = items(value) or [(0, b"")]
    if tag == _AVAILABLE:
        return Usability(Answer.USABLE)
    if tag != _NOT_AVAILABLE:
        raise MalformedError("the account usability control is broken")
    said = {kind & _NUMBER: part for kind, part in items(content)}
    unlocks = _integer((INTEGER, said[_UNLOCKS])) if _UNLOCKS in said else 0
    return Usability(Answer.UNUSABLE, any(said.get(_RESET, b"")), unlocks)


def _control(item: tuple[int, bytes]) -> tuple[str, bytes]:
    parts = items(item[1]) if item[0] == SEQUENCE else []
    if not parts or parts[0][0] != OCTETS:
        raise MalformedError("a control of an LDAP message is broken")
    return _text(parts[0][1]), next((value for tag, value in parts[1:] if tag == OCTETS), b"")


def _only(found: list[tuple[int, bytes]], tag: int) -> bytes:
    if len(found) != 1 or found[0][0] != tag:
        raise MalformedError("an LDAP message is not made as it must be")
    return found[0][1]


def _integer(item: tuple[int, bytes], tag: int = INTEGER) -> int:
    if item[0] != tag or not 1 <= len(item[1]) <= _MAX_INTEGER:
        raise MalformedError("a number in an LDAP message is none")
    return int.from_bytes(item[1], "big", signed=True)


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise MalformedError("a name in an LDAP message is not UTF-8") from None
