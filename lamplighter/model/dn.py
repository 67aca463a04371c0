"""Distinguished names: made from values, never by gluing text, and compared as directories compare them.

RFC 4514 gives a DN many spellings: escapes may be characters or hex, blanks and letter case vary. `parse_dn`
reduces them to one, so that "is this account below that OU" is a question about names and not about text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from lamplighter.errors import MalformedError

MAX_DN = 8192
"""Characters of the longest DN read here; RFC 4514 sets no limit, directories do."""

Pair: TypeAlias = tuple[str, str]
"""Attribute type, short and in lower case; value as compared: in lower case and NFC, blanks collapsed,
`#hex` as it is."""

_SHORT = {  # RFC 4514 3, with the other names and the OIDs of RFC 4519
    "commonname": "cn", "2.5.4.3": "cn", "localityname": "l", "2.5.4.7": "l", "stateorprovincename": "st",
    "2.5.4.8": "st", "organizationname": "o", "2.5.4.10": "o", "organizationalunitname": "ou",
    "2.5.4.11": "ou", "countryname": "c", "2.5.4.6": "c", "streetaddress": "street", "2.5.4.9": "street",
    "domaincomponent": "dc", "0.9.2342.19200300.100.1.25": "dc", "userid": "uid",
    "0.9.2342.19200300.100.1.1": "uid",
}
_TYPE = re.compile(r"[A-Za-z][A-Za-z0-9-]*|\d+(?:\.\d+)*")
_HEX_VALUE = re.compile(r"#(?:[0-9A-Fa-f]{2})+")
_HEX = frozenset("0123456789abcdefABCDEF")
_ESCAPED = frozenset(' "#+,;<=>\\')
_SPECIAL = frozenset('"+,;<=>\\')


@dataclass(frozen=True, slots=True)
class Dn:
    """A DN as it is compared.

    Attributes:
        rdns: the relative names, most specific first, each a sorted tuple of pairs.
    """

    rdns: tuple[tuple[Pair, ...], ...]

    def within(self, base: Dn) -> bool:
        """Whether this is `base` or below it."""
        size = len(base.rdns)
        return size > 0 and self.rdns[len(self.rdns) - size :] == base.rdns


def escape_value(value: str) -> str:
    """Escape a value for a DN (RFC 4514 2.4): specials, first `#`, outer blanks, controls; `=` for Samba."""
    text = "".join(_escape(char) for char in value)
    if text.startswith(("#", " ")):
        text = "\\" + text
    if text.endswith(" ") and len(value) > 1:
        text = text[:-1] + "\\ "
    return text


def join_dn(*parts: Pair, base: str = "") -> str:
    """Make a DN from attribute types and values, most specific first.

    Args:
        parts: `("cn", "Roe, Jane")` and so on; values as they are, unescaped.
        base: a DN that goes behind them as it stands.

    Raises:
        MalformedError: a type is none, or a value is empty.
    """
    for kind, value in parts:
        if not _TYPE.fullmatch(kind) or not value:
            raise MalformedError(f"{kind[:40]!r} and {value[:40]!r} name nothing in a directory")
    return ",".join((*(f"{kind}={escape_value(value)}" for kind, value in parts), *filter(None, (base,))))


def parse_dn(text: str) -> Dn:
    """Read a DN in any RFC 4514 spelling.

    Raises:
        MalformedError: it is none, or longer than `MAX_DN` characters.
    """
    if len(text) > MAX_DN:
        raise MalformedError(f"a DN of {len(text)} characters is longer than {MAX_DN}")
    if not text.strip():
        return Dn(())
    rdns = (_split(part, "+") for part in _split(text, ",;"))
    return Dn(tuple(tuple(sorted(_pair(ava) for ava in rdn)) for rdn in rdns))


def within_any(text: str, bases: Iterable[str]) -> bool:
    """Whether a DN is one of the bases or below one; False when it cannot be read.

    Raises:
        MalformedError: a base is no DN.
    """
    parsed = [parse_dn(base) for base in bases]
    try:
        dn = parse_dn(text)
    except MalformedError:
        return False
    return any(dn.within(base) for base in parsed)


def _escape(char: str) -> str:
    if char in _SPECIAL:
        return "\\" + char
    return f"\\{ord(char):02x}" if char < " " or char == "\x7f" else char


def _split(text: str, separators: str) -> list[str]:
    """Cut at separators that no backslash escapes."""
    parts, start, position = [], 0, 0
    while position < len(text):
        if text[position] == "\\":
            position += 1
        elif text[position] in separators:
            parts.append(text[start:position])
            start = position + 1
        position += 1
    return [*parts, text[start:]]


def _pair(ava: str) -> Pair:
    kind, equals, value = ava.partition("=")
    kind = kind.strip()
    if not equals or not _TYPE.fullmatch(kind):
        raise MalformedError(f"no DN: {ava[:60]!r} is no type=value")
    kind = _SHORT.get(kind.lower(), kind.lower())
    value = value.lstrip(" ")
    if value.startswith("#"):
        if not _HEX_VALUE.fullmatch(value.rstrip(" ")):
            raise MalformedError(f"no DN: {ava[:60]!r} has a broken #hex value")
        return kind, value.rstrip(" ").lower()
    text = unicodedata.normalize("NFC", _unescape(value)).lower()
    return kind, " ".join(filter(None, text.split(" ")))


def _unescape(value: str) -> str:
    """Undo RFC 4514 escapes; unescaped blanks at the end do not count."""
    out, position, kept = bytearray(), 0, 0
    while position < len(value):
        char = value[position]
        if char != "\\":
            out += char.encode("utf-8", "surrogatepass")
            position += 1
            kept = kept if char == " " else len(out)
            continue
        pair = value[position + 1 : position + 3]
        if len(pair) == 2 and set(pair) <= _HEX:  # noqa: PLR2004 - two hex digits
            out.append(int(pair, 16))
            position += 3
        elif pair and pair[0] in _ESCAPED:
            out += pair[0].encode()
            position += 2
        else:
            raise MalformedError(f"no DN: a backslash escapes nothing in {value[:60]!r}")
        kept = len(out)
    try:
        return out[:kept].decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        raise MalformedError(f"no DN: {value[:60]!r} is not UTF-8") from None
