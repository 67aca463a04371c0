"""Names of hosts and groups: what they may look like, and the ranges that stand for many."""

from __future__ import annotations

import ipaddress
import re
import string
import unicodedata
from collections.abc import Sequence
from itertools import product

from lamplighter.errors import MalformedError

MAX_NAME = 253  # RFC 1035 section 2.3.4
MAX_PORT = 65_535

_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?", re.ASCII)
_HOSTNAME = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
                       r"(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)*", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,12}")
_RANGE = re.compile(r"\[([^\[\]]*)\]")
_BRACKETED_PORT = re.compile(r"\[(?P<base>[^\[\]]+)\]:(?P<port>\d{1,9})", re.ASCII)
_PORT = re.compile(r"(?P<base>(?:[^:\[\]]|\[[^\]]*\])+):(?P<port>\d{1,9})", re.ASCII)


def is_name(name: str) -> bool:
    """Whether this can be a host's or group's name: ASCII letters, digits, `_`, `-`, `.`."""
    return len(name) <= MAX_NAME and bool(_NAME.fullmatch(name))


def is_address(text: str) -> bool:
    """Whether this can be connected to: a host name of at most 63 characters a label, or an IP address."""
    return is_ip(text) or (bool(_HOSTNAME.fullmatch(text)) and not _looks_like_ipv4(text))


def is_ip(text: str) -> bool:
    """Whether this is an IPv4 or IPv6 address (a zone such as `%eth0` included)."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return text.isascii()


def same_address(text: str) -> str:
    """One spelling of an address: names in lower case and without a last dot, IPv6 as RFC 5952 writes it."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return text.lower().removesuffix(".")
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def _looks_like_ipv4(text: str) -> bool:
    """`192.0.2.256` is a misspelt address, not the name of a host."""
    return re.fullmatch(r"\d+(\.\d+)+", text) is not None


def name_advice(name: str) -> str:
    """What to write instead of a name that is none; names the first character that does not belong."""
    for character in name:
        if not character.isascii():
            called = unicodedata.name(character, f"U+{ord(character):04X}")
            return f"it holds the character {called}; retype it in ASCII"
    return "use ASCII letters, digits, `-`, `_` and `.`, beginning and ending with a letter or digit"


def expand(pattern: str, room: int) -> tuple[list[str], int | None]:
    """The hosts that a key of `hosts` stands for.

    Args:
        pattern: a name or address, ranges such as `[01:10]`, `[a:c]`, `[0:9:3]` in it, `:port` after it.
        room: most names it may stand for.

    Returns:
        The names, and the port or None.

    Raises:
        MalformedError: the pattern stands for nothing, or for too much; says what to write.
    """
    base, port = _split_port(pattern)
    if port is not None and not 0 < port <= MAX_PORT:
        raise MalformedError(f"has the port {port}", advice=f"write a port from 1 to {MAX_PORT}")
    if is_ip(base):
        return [base], port
    pieces = _RANGE.split(base)
    steps: list[list[str]] = []
    total = 1
    for text in pieces[1::2]:
        values = _values(text)
        total *= len(values)
        if total > room:
            raise MalformedError(f"stands for more than {room} hosts",
                                 advice="correct the range, or split the estate into several sites")
        steps.append([_filled(text, value) for value in values])
    names = [_joined(pieces[::2], chosen) for chosen in product(*steps)]
    wrong = next((name for name in names if not is_name(name) or not is_address(name)), None)
    if wrong is not None:
        made = "" if wrong == base else f"makes `{wrong[:80]}`, which "
        raise MalformedError(f"{made}is not a host name", advice=name_advice(wrong))
    return names, port


def _split_port(pattern: str) -> tuple[str, int | None]:
    """`web1:2222`, `[2001:db8::1]:22`; the brackets of a range stay."""
    match = _BRACKETED_PORT.fullmatch(pattern)
    if match is None or not is_ip(match["base"]):
        match = _PORT.fullmatch(pattern)
    return (match["base"], int(match["port"])) if match and not is_ip(pattern) else (pattern, None)


def _joined(texts: list[str], values: tuple[str, ...]) -> str:
    return texts[0] + "".join(value + text for value, text in zip(values, texts[1:], strict=True))


def _values(text: str) -> Sequence[int | str]:
    """The values of one range, both ends included, not yet written out."""
    parts = text.split(":")
    if len(parts) not in {2, 3} or not parts[1]:
        raise _range_error(text, "is not begin:end or begin:end:step")
    begin, end, step = parts[0] or "0", parts[1], parts[2] if len(parts) == 3 else "1"  # noqa: PLR2004 - as it says
    if not re.fullmatch(r"0{0,3}[1-9][0-9]{0,8}", step):
        raise _range_error(text, "has a step that is not a whole number above 0")
    letters = string.ascii_letters
    values: Sequence[int | str]
    if len(begin) == 1 and len(end) == 1 and begin in letters and end in letters:
        values = letters[letters.index(begin):letters.index(end) + 1:int(step)]
    elif _NUMBER.fullmatch(begin) and _NUMBER.fullmatch(end):
        values = range(int(begin), int(end) + 1, int(step))
    else:
        raise _range_error(text, "does not go from number to number or from letter to letter")
    if not values:
        raise _range_error(text, "ends before it begins")
    if _width(begin) and len(begin) != len(end):
        raise _range_error(text, f"needs ends of equal length, such as `[{begin}:{end.zfill(len(begin))}]`")
    return values


def _filled(text: str, value: int | str) -> str:
    return str(value).zfill(_width(text.partition(":")[0]))


def _width(begin: str) -> int:
    """A begin with leading zeros fixes how long every value is."""
    return len(begin) if begin.startswith("0") and len(begin) > 1 else 0


def _range_error(text: str, problem: str) -> MalformedError:
    return MalformedError(f"has the range `[{text[:40]}]`, which {problem}",
                          advice="both ends count: `[1:9]`, `[01:10]`, `[a:c]`, `[0:9:3]`")
