"""Distinguished names: any value survives, and one name has one meaning."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamplighter.errors import MalformedError
from lamplighter.model.dn import Dn, escape_value, join_dn, parse_dn, within_any

VALUES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)
AWKWARD = st.text(' "#+,;<=>\\\0\n()*/ab\u00e9\u202e\U0001f600', min_size=1, max_size=12)


def compared(value: str) -> str:
    return " ".join(filter(None, unicodedata.normalize("NFC", value).lower().split(" ")))


@given(st.one_of(VALUES, AWKWARD))
def test_a_value_comes_out_as_it_went_in(value: str) -> None:
    dn = join_dn(("cn", value), ("ou", "Staff"), base="dc=lab,dc=test")
    assert parse_dn(dn).rdns[0] == (("cn", compared(value)),)
    assert parse_dn(dn).within(parse_dn("OU=staff, DC=Lab,DC=TEST"))


@given(st.one_of(VALUES, AWKWARD))
def test_every_character_may_be_escaped_as_hex(value: str) -> None:
    hexed = "".join(f"\\{octet:02X}" for octet in value.encode())
    assert parse_dn(f"cn={hexed},dc=test") == parse_dn(join_dn(("cn", value), base="dc=test"))


@given(st.text(max_size=60))
def test_anything_else_is_refused_and_never_crashes(text: str) -> None:
    try:
        dn = parse_dn(text)
    except MalformedError:
        assert within_any(text, ["dc=test"]) is False
    else:
        assert isinstance(dn, Dn)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("CN=Roe\\, Jane,OU=Staff", "cn=roe\\2c jane , ou = staff"),
        ("cn=a+sn=b,dc=x", "SN=b + CN=a,DC=X"),
        ("cn=\\ a\\ ,dc=x", "cn=a,dc=x"),
        ("1.2.3=#0401FF,dc=x", "1.2.3=#0401ff,dc=x"),
        ("cn=a;dc=x", "cn=a,dc=x"),
    ],
)
def test_spellings_of_one_name(one: str, other: str) -> None:
    assert parse_dn(one) == parse_dn(other)


@pytest.mark.parametrize(
    ("dn", "base", "inside"),
    [
        ("CN=Jane,OU=Staff,DC=lab,DC=test", "ou=staff,dc=lab,dc=test", True),
        ("OU=Staff,DC=lab,DC=test", "ou=staff,dc=lab,dc=test", True),
        ("CN=Jane\\,OU=Staff,DC=lab,DC=test", "ou=staff,dc=lab,dc=test", False),
        ("CN=Jane,OU=Staff\\,Old,DC=lab,DC=test", "ou=staff,dc=lab,dc=test", False),
        ("CN=Jane,OU=NotStaff,DC=lab,DC=test", "ou=staff,dc=lab,dc=test", False),
        ("DC=lab,DC=test", "ou=staff,dc=lab,dc=test", False),
        ("CN=Jane,OU=Staff,DC=lab,DC=test", "", False),
        ("no dn at all", "dc=test", False),
    ],
)
def test_being_inside_is_a_question_about_names_not_text(dn: str, base: str, inside: bool) -> None:
    assert within_any(dn, [base]) is inside


@pytest.mark.parametrize("value", ["", " ", "#", "\\", "\0"])
def test_escaping_awkward_values(value: str) -> None:
    escaped = escape_value(value)
    assert "\0" not in escaped
    if value:
        assert parse_dn(f"cn={escaped}").rdns[0][0][1] == compared(value)
    else:
        with pytest.raises(MalformedError):
            join_dn(("cn", value))


@pytest.mark.parametrize("text", ["cn", "=x", "cn=\\", "cn=\\zz", "cn=#0", "cn=\\ff", "c n=x", "x" * 9000])
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(MalformedError):
        parse_dn(text)
