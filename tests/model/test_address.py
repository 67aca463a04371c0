"""Which one mailbox an attribute of a directory means. The cases are data: `cases/mail/addresses.yaml`."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lamplighter.errors import MalformedError
from lamplighter.model.address import is_address, on_the_wire, pick_address, read_address

CASES = yaml.safe_load((Path(__file__).parents[1] / "cases" / "mail" / "addresses.yaml").read_text())


@pytest.mark.parametrize(("value", "meant"), CASES["values"])
def test_a_value_means_one_mailbox_or_none(value: str, meant: str) -> None:
    found = pick_address([value])
    assert (on_the_wire(found) if found else "") == meant


@pytest.mark.parametrize(("values", "meant"), CASES["several"])
def test_several_values_mean_one_mailbox_in_any_order(values: list[str], meant: str) -> None:
    assert pick_address(values) == pick_address(values[::-1]) == meant


@given(st.text(max_size=40) | st.from_regex(r"[a-z\"<>,; ']{0,8}@[a-z,; @\[\].]{0,12}"))
def test_what_is_taken_is_an_address_and_stays_the_same(text: str) -> None:
    try:
        found = read_address(text)
    except MalformedError:
        return
    assert is_address(found)
    assert found.rpartition("@")[0] in text or not text.isascii()
    assert not set("\r\n\0") & set(found)


def test_longer_than_allowed_is_no_address() -> None:
    assert read_address("a" * 64 + "@b.example")
    for text in ("a" * 65 + "@b.example", "a@" + "b" * 64 + ".example", "a@" + "bc." * 85 + "example"):
        with pytest.raises(MalformedError):
            read_address(text)
