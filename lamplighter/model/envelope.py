"""A signed statement as one line of text: what is stored, sent, and pasted into a form.

The line is base64url (no padding) of the canonical JSON `{"signature": armoured SSHSIG, "statement":
base64url of the signed bytes}`. The statement travels as the exact bytes that were signed: they are
verified first, and parsed only then.
"""

from __future__ import annotations

import base64
import binascii
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

from lamplighter.errors import MalformedError
from lamplighter.model.canonical import MAX_BYTES, Json, canonical, parse, sha256

MAX_LINE = 16 * 1024
"""Longest line read, in characters."""
MAX_REASON = 2000

FOLD = 48
"""Characters in a piece of a folded line: what fits into the dialog in which approvals are pasted."""
_BEGIN = "eyJzaWduYXR1cmUiOi"

_ALPHABET = re.compile(r"[A-Za-z0-9_-]+")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{7,63}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_LAST_SECOND = 253402300799  # the year 9999: what a date can still show


@dataclass(frozen=True, slots=True)
class Envelope:
    """The inner pair of a line.

    Attributes:
        statement: the signed bytes.
        signature: armoured, as `ssh-keygen -Y sign` writes it.
    """

    statement: bytes
    signature: str

    def to_line(self) -> str:
        """The line, without a line break.

        Raises:
            MalformedError: it would be longer than `MAX_LINE`.
        """
        pair = {"signature": self.signature, "statement": encode(self.statement)}
        line = encode(canonical(pair))
        if len(line) > MAX_LINE:
            raise MalformedError(f"a line of {len(line)} characters is more than the {MAX_LINE} allowed")
        return line


def read_line(line: str) -> Envelope:
    """Take a line apart; blanks and line breaks around it are the only liberty.

    Raises:
        MalformedError: too long, or anything but the one spelling of the pair.
    """
    if len(line) > MAX_LINE:
        raise MalformedError(f"a line of {len(line)} characters is more than the {MAX_LINE} allowed")
    pair = parse(decode(line.strip(" \t\r\n")), limit=MAX_LINE)
    if not isinstance(pair, dict) or set(pair) != {"signature", "statement"}:
        raise MalformedError("the line is not a pair of signature and statement")
    if not isinstance(pair["signature"], str) or not isinstance(pair["statement"], str):
        raise MalformedError("signature and statement must be text")
    return Envelope(decode(pair["statement"]), pair["signature"])


def folded(line: str) -> str:
    """A line cut into pieces a browser's form shows whole; `pasted` puts them together again."""
    return "\n".join(line[at : at + FOLD] for at in range(0, len(line), FOLD))


def pasted(text: str) -> tuple[str, ...]:
    """The signed lines in what somebody pasted: one or several, each whole or folded.

    Every line begins alike, for it is the spelling of an object whose first key is `signature`. What does
    not begin so is taken word by word; it is no line, and is refused as one.
    """
    whole = "".join(text.split())
    if not whole.startswith(_BEGIN):
        return tuple(text.split())
    return tuple(_BEGIN + rest for rest in whole.split(_BEGIN)[1:])


def line_id(line: str) -> str:
    """A name for a line whose statement has none that can be read."""
    return sha256(line.strip(" \t\r\n").encode("utf-8", "surrogatepass"))[:23]


def encode(data: bytes) -> str:
    """base64url without padding (RFC 4648 section 5)."""
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def decode(text: str) -> bytes:
    """Read base64url without padding, in its one spelling.

    Raises:
        MalformedError: another alphabet, padding, or stray bits.
    """
    if not _ALPHABET.fullmatch(text):
        raise MalformedError("not base64url without padding")
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError) as error:
        raise MalformedError("not base64url") from error
    if encode(data) != text:
        raise MalformedError("base64url with stray bits")
    return data


class Fields:
    """Takes the fields of a statement out one by one; what is left over is unknown, and refused."""

    def __init__(self, data: bytes, version: int, what: str, *, limit: int = MAX_BYTES) -> None:
        value = parse(data, limit=limit)
        if not isinstance(value, dict) or type(value.get("v")) is not int or value["v"] != version:
            raise MalformedError(f"not {what} of format version {version}")
        self._left, self._what = {name: item for name, item in value.items() if name != "v"}, what

    def text(self, name: str, *, most: int = 254, empty: bool = False) -> str:
        """A text without control or invisible formatting characters."""
        value = self._take(name)
        if not isinstance(value, str) or len(value) > most or not (value or empty) or not is_clean(value):
            raise MalformedError(f"{name} of {self._what} is not a text of at most {most} characters")
        return value

    def id(self, name: str) -> str:
        """An identifier: 8 to 64 letters, digits, dots, dashes, underscores."""
        return self._matching(name, _ID)

    def digest(self, name: str) -> str:
        """`sha256:` and 64 hex digits."""
        return self._matching(name, _DIGEST)

    def number(self, name: str, *, most: int = _LAST_SECOND) -> int:
        """A whole number from 0."""
        value = self._take(name)
        if type(value) is not int or not 0 <= value <= most:
            raise MalformedError(f"{name} of {self._what} is not a number from 0 to {most}")
        return value

    def span(self) -> tuple[int, int]:
        """`not_before` and `expires`, seconds since the epoch; the second is later."""
        start, end = self.number("not_before"), self.number("expires")
        if end <= start:
            raise MalformedError(f"{self._what} expires before it begins")
        return start, end

    def mapping(self, name: str) -> Mapping[str, Json]:
        """A JSON object."""
        value = self._take(name)
        if not isinstance(value, dict):
            raise MalformedError(f"{name} of {self._what} is not an object")
        return value

    def flag(self, name: str) -> bool:
        """True or false."""
        value = self._take(name)
        if not isinstance(value, bool):
            raise MalformedError(f"{name} of {self._what} is not true or false")
        return value

    def has(self, name: str) -> bool:
        """Tell whether an optional field is there."""
        return name in self._left

    def end(self) -> None:
        """Nothing may be left."""
        if self._left:
            raise MalformedError(f"{self._what} has the unknown field {min(self._left)[:40]!r}")

    def _take(self, name: str) -> Json:
        if name not in self._left:
            raise MalformedError(f"{self._what} lacks {name}")
        return self._left.pop(name)

    def _matching(self, name: str, pattern: re.Pattern[str]) -> str:
        value = self._take(name)
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise MalformedError(f"{name} of {self._what} is not of the form {pattern.pattern}")
        return value


def is_clean(text: str) -> bool:
    """Tell whether a text shows what it holds: no control, surrogate, bidirectional or invisible marks."""
    return (text.isascii() and text.isprintable()) or not any(map(_is_hidden, text))


def visible(text: str) -> str:
    """The text with such characters spelled out, so that a terminal shows what it was given."""
    return "".join(f"\\u{ord(char):04x}" if _is_hidden(char) else char for char in text)


def spelled(text: str) -> str:
    """The same for several lines: line breaks are left."""
    return text if text.isprintable() else "\n".join(map(visible, text.split("\n")))


def _is_hidden(char: str) -> bool:
    return unicodedata.category(char) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
