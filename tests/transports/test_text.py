from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamplighter.transports.text import clean, decode, last_line

BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
NASTY = st.text(st.sampled_from("\x1b[]0;1mHPX^_\x07\x9b\x9d\x90\x9c\\ \n\t\rab\x00\x7f\x85\u2028" + BIDI))


@given(st.one_of(st.text(), NASTY))
def test_nothing_that_deceives_is_left(text: str) -> None:
    for character in clean(text):
        assert character in "\n\t" or unicodedata.category(character) != "Cc"
        assert character not in BIDI
        assert character not in "\u2028\u2029"


@given(st.one_of(st.text(), NASTY))
def test_cleaning_twice_is_cleaning_once(text: str) -> None:
    assert clean(clean(text)) == clean(text)


@given(st.text(st.characters(exclude_categories=["Cc", "Cf", "Zl", "Zp", "Cs"])))
def test_plain_text_stays(text: str) -> None:
    assert clean(f"{text}\n\t{text}") == f"{text}\n\t{text}"


@given(st.binary())
def test_any_bytes_decode(data: bytes) -> None:
    decode(data).encode()


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("\x1b[31;1mred\x1b[0m", "red"),
        ("\x9b31mred", "red"),
        ("\x1b]0;owned\x07title", "title"),
        ("\x1b]8;;http://evil.example\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1bPq#0;2\x1b\\sixel", "sixel"),
        ("\x1b(Bset \x1b7save", "set save"),
        ("\x1b[2J\x1b[H", ""),
        ("\x1b", ""),
        ("cut \x1b[", "cut "),
        ("open \x1b]0;never closed", "open 0;never closed"),
        ("10%\r20%\r\n", "10%\n20%\n"),
        ("safe\u202egpj.exe", "safegpj.exe"),
        ("bell\x07 nul\x00 back\x08 del\x7f nel\x85", "bell nul back del nel"),
        ("tab\there\n", "tab\there\n"),
    ],
)
def test_sequences(hostile: str, shown: str) -> None:
    assert clean(hostile) == shown


@pytest.mark.parametrize(
    "piece", ["\x1b]", "\x1b[0", "\x1bP", "\x1b ", "\x9b", "\u202e", "\r", "\x1b]x\x1b", "\x1b[000 "]
)
def test_time_is_linear(piece: str) -> None:
    def seconds(count: int) -> float:
        text = piece * count
        began = time.perf_counter()
        clean(text)
        return time.perf_counter() - began

    assert min(seconds(400_000) for _ in range(3)) < 30 * min(seconds(40_000) for _ in range(3)) + 0.05


def test_what_is_not_utf8_is_marked() -> None:
    assert decode(b"caf\xe9 \xff\xfe \xc3\xa9") == "caf\ufffd \ufffd\ufffd \xe9"


def test_last_line() -> None:
    assert last_line(b"one\ntwo \x1b[31mred\x1b[0m\n\n  \n") == "two red"
    assert last_line(b"") == ""
    assert len(last_line(b"x" * 10_000)) == 200
