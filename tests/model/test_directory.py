"""Filters escape by construction; entries say what they are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ldap3.operation.search import compile_filter, parse_filter

from lamplighter.errors import MalformedError, UnusableError
from lamplighter.model.directory import (
    IN_CHAIN,
    Change,
    Entry,
    Filter,
    Kind,
    all_of,
    any_of,
    at_least,
    equals,
    matches,
    none_of,
    present,
)
from lamplighter.secrets import Secret

VALUES = st.one_of(st.binary(min_size=1, max_size=30), st.text("()*\\\0 &|!=\u00e9\U0001f600x", min_size=1))


def compiled(one: Filter) -> object:
    return compile_filter(parse_filter(str(one), None, False, False, None, False).elements[0])


@given(VALUES)
def test_a_value_is_compared_as_it_is_and_can_never_be_more(value: bytes | str) -> None:
    tree = compiled(all_of(equals("uid", value), present("cn")))
    first, second = tree["and"]
    assert bytes(first["equalityMatch"]["assertionValue"]) == (
        value if isinstance(value, bytes) else value.encode()
    )
    assert str(second["present"]) == "cn"


@given(VALUES)
def test_the_same_in_an_extensible_match(value: bytes | str) -> None:
    match = compiled(matches("memberOf", IN_CHAIN, value))["extensibleMatch"]
    assert str(match["matchingRule"]) == IN_CHAIN
    assert bytes(match["matchValue"]) == (value if isinstance(value, bytes) else value.encode())


def test_filters_combine() -> None:
    assert str(none_of(equals("a", "1"), at_least("b", 2))) == "(!(|(a=1)(b>=2)))"
    assert str(any_of(equals("a", "x)(uid=*"))) == "(a=x\\29\\28uid\\3d\\2a)"


@pytest.mark.parametrize("name", ["", "a b", "a)(b", "1a", "a=", "cn\0"])
def test_a_name_that_is_no_attribute_is_refused(name: str) -> None:
    for build in (lambda: equals(name, "x"), lambda: present(name), lambda: Change(name, Kind.REPLACE)):
        with pytest.raises(MalformedError):
            build()


def test_nothing_is_not_compared_with() -> None:
    with pytest.raises(MalformedError):
        equals("uid", "")
    with pytest.raises(MalformedError):
        any_of()


def test_an_entry_says_what_it_is_asked_for_and_nothing_else() -> None:
    values = {"n": (b"-5",), "t": (b"\xc3\xa9",), "f": (b"TRUE",), "b": (b"\xff",), "m": (b"1", b"2")}
    entry = Entry("cn=x", values)
    assert (entry.number("N"), entry.text("t"), entry.flag("F")) == (-5, "\u00e9", True)
    assert entry.octets("b") == b"\xff"
    assert (entry.number("x"), entry.text("x"), entry.flag("x"), entry.octets("x")) == (None, "", None, b"")
    assert entry.texts("m") == ("1", "2")
    for wrong in (
        lambda: entry.text("b"), lambda: entry.number("t"), lambda: entry.flag("n"), lambda: entry.text("m"),
        lambda: Entry("", {"n": ("\u0661".encode(),)}).number("n"),
    ):
        with pytest.raises(UnusableError):
            wrong()


def test_a_change_does_not_show_what_it_hides() -> None:
    assert "canary" not in repr(Change("userPassword", Kind.REPLACE, (Secret("canary"),)))
