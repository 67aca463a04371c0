"""The reader of answers takes what RFC 4511 allows, and refuses everything else with one error."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ldap3.operation.bind import bind_response_operation
from ldap3.protocol.rfc4511 import LDAPMessage, MessageID, ProtocolOp
from ldap3.utils.asn1 import encode

from lamplighter.errors import MalformedError
from lamplighter.model.logins import PolicyError, PolicyState
from lamplighter.transports import ldap_ber as ber
from tests.lab import rogue_ldap as rogue

READERS = (ber.read_result, ber.read_entry)


def survives(data: bytes) -> None:
    for read in (ber.frame_size, ber.items, ber.read_cookie, ber.read_policy):
        with contextlib.suppress(MalformedError):
            read(data)
    try:
        message = ber.read_message(data)
    except MalformedError:
        return
    for reader in READERS:
        with contextlib.suppress(MalformedError):
            reader(message)


@given(st.binary(max_size=200))
def test_no_octets_break_the_reader(data: bytes) -> None:
    survives(data)


@given(st.data())
def test_no_damage_to_a_good_answer_breaks_the_reader(data: st.DataObject) -> None:
    good = bytearray(rogue.entry(7, "cn=x,dc=test", cn=b"x" * 200, sn=b"y"))
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    survives(bytes(good[: data.draw(st.integers(0, len(good)))]))


@given(st.integers(0, 2**31 - 1), st.text(max_size=300), st.integers(0, 122))
def test_results_are_read_as_ldap3_writes_them(number: int, text: str, code: int) -> None:
    message = LDAPMessage()
    message["messageID"] = MessageID(number)
    response = bind_response_operation(0, "dc=x", text, server_sasl_credentials="s")
    response["resultCode"] = code if code in response["resultCode"].namedValues.values() else 0
    message["protocolOp"] = ProtocolOp().setComponentByName("bindResponse", response)
    data = encode(message)
    assert ber.frame_size(data) == len(data)
    read = ber.read_message(data)
    result = ber.read_result(read)
    assert (read.id, read.kind, result.text, result.matched) == (number, ber.BIND_RESPONSE, text, "dc=x")
    assert result.sasl == b"s"


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=3), st.text(min_size=1, max_size=20))
def test_entries_keep_octets_as_they_are(values: list[bytes], dn: str) -> None:
    value_set = rogue.tlv(0x31, *(rogue.tlv(4, value) for value in values))
    attribute = rogue.tlv(0x30, rogue.tlv(4, b"objectGUID"), value_set)
    frame = rogue.message(1, ber.SEARCH_ENTRY, rogue.tlv(4, dn.encode()), rogue.tlv(0x30, attribute))
    assert ber.read_entry(ber.read_message(frame)) == (dn, {"objectguid": tuple(values)})


@pytest.mark.parametrize("data", [b"\x04\x05abcd", b"\x04", b"\x04\x82\x01", b"\x1f\x01a", b"\x04\x80a\0\0"])
def test_what_does_not_fit_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedError):
        ber.items(data)


def test_an_attribute_twice_is_refused() -> None:
    one = rogue.tlv(0x30, rogue.tlv(4, b"cn"), rogue.tlv(0x31, rogue.tlv(4, b"x")))
    with pytest.raises(MalformedError, match="twice"):
        ber.read_entry(ber.Message(1, ber.SEARCH_ENTRY, rogue.tlv(4, b"dc=x") + rogue.tlv(0x30, one, one)))


@pytest.mark.parametrize(
    ("value", "state"),
    [
        (b"\x30\x00", PolicyState()),
        (b"\x30\x03\x81\x01\x02", PolicyState(PolicyError.MUST_CHANGE)),
        (b"\x30\x03\x81\x01\x01", PolicyState(PolicyError.LOCKED)),
        (b"\x30\x05\xa0\x03\x80\x01\x3c", PolicyState(expires_in=60)),
        (b"\x30\x08\xa0\x03\x81\x01\x02\x81\x01\x00", PolicyState(PolicyError.EXPIRED, None, 2)),
    ],
)
def test_the_password_policy_control(value: bytes, state: PolicyState) -> None:
    assert ber.read_policy(value) == state


@pytest.mark.parametrize("value", [b"", b"\x30\x03\x81\x01\x63", b"\x30\x02\x81\x00", b"\x31\x00"])
def test_a_broken_policy_control_is_refused(value: bytes) -> None:
    with pytest.raises(MalformedError):
        ber.read_policy(value)
