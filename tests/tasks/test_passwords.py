"""Generated passwords meet the policy, carry enough chance, and can be read over a telephone."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamplighter.errors import RefusedError
from tasks.passwords import LONGEST, PasswordPolicy, Style, fits, generate, name_parts

NAMES = st.lists(st.text("abcdefgroe jane.-_", min_size=1, max_size=12), max_size=3)


@given(st.integers(0, 60), st.integers(0, 4), st.sampled_from(Style), NAMES)
def test_every_password_meets_its_policy(shortest: int, classes: int, style: Style, names: list[str]) -> None:
    policy = PasswordPolicy("cn=p", shortest, 0, classes)
    text = generate(policy, style, names).reveal()
    assert fits(text, policy, name_parts(names))
    assert shortest <= len(text) <= LONGEST


def test_no_two_are_alike_and_both_styles_can_be_dictated() -> None:
    words = {generate(PasswordPolicy()).reveal() for _ in range(500)}
    assert len(words) == 500
    assert all(re.fullmatch(r"(?:(?:[A-Z][aeiou]|[a-z][aeiou]){3}-){3}[34679]{2}", one) for one in words)
    characters = {generate(PasswordPolicy(), Style.CHARACTERS).reveal() for _ in range(500)}
    assert len(characters) == 500
    assert not any(set(one) & set("0O1lI5S2Z8Bgq9"[:12]) for one in characters)


def test_a_policy_that_leaves_no_room_is_said() -> None:
    with pytest.raises(RefusedError, match="fits the directory's policy"):
        generate(PasswordPolicy("cn=p", 0, 8))
    with pytest.raises(RefusedError):
        generate(PasswordPolicy("cn=p", 500))


def test_the_value_does_not_show() -> None:
    secret = generate(PasswordPolicy())
    assert secret.reveal() not in f"{secret} {secret!r}"


def test_parts_of_names() -> None:
    parts = {"jroe", "jane", "marie", "roe", "jane-marie o. roe"}
    assert set(name_parts(["jroe", "Jane-Marie O. Roe"])) == parts
    assert not fits("Xjroe-4-Yz", PasswordPolicy(), ["jroe"])
