"""Mail addresses as directories and people write them: which one mailbox is meant, or none. Pure.

A message goes to exactly one mailbox, so nothing is guessed: what is not whole is no address. In particular
`souza, fiona@corp.example` is not taken apart, for `fiona@corp.example` may be somebody else.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Iterable

import idna

from lamplighter.errors import MalformedError

MAX_LOCAL, MAX_ADDRESS = 64, 254
"""Octets (RFC 5321 4.5.3.1.1; 4.5.3.1.3 without the angle brackets)."""
_ATEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\u0080-\U0010ffff-]"
_QUOTED = r'"(?:[ !#-\[\]-~\u0080-\U0010ffff]|\\[ -~])+"'
_LOCAL = re.compile(rf"{_ATEXT}+(?:\.{_ATEXT}+)*|{_QUOTED}")  # RFC 5321 4.1.2, with RFC 6531 3.3
_NAMED = re.compile(rf'(?:(?:{_QUOTED})|[^"<>@]*)\s*<\s*([^<>]+?)\s*>')
_PIECES = re.compile(rf"(?:{_QUOTED}|<[^<>]*>|[^,;])+")
_PRIMARY, _ALIAS = "SMTP:", "smtp:"


def read_address(text: str) -> str:
    """The one address in a text: `a@b.example`, or with a display name, `A. Person <a@b.example>`.

    Args:
        text: as somebody wrote it. A display name may hold a comma, as Outlook writes it.

    Returns:
        The address in Unicode's form NFC, its domain in lower case.

    Raises:
        MalformedError: it is no address, or more than one.
    """
    whole = unicodedata.normalize("NFC", text.strip())
    named = _NAMED.fullmatch(whole)
    address = named[1] if named else whole
    local, _, domain = address.rpartition("@")
    if any(unicodedata.category(sign)[0] == "C" or (sign != " " and sign.isspace()) for sign in address):
        raise MalformedError("a mail address cannot hold control characters or invisible ones")
    if not _LOCAL.fullmatch(local):
        raise MalformedError(f"{text.strip()[:80]!r} is not one mail address")
    found = f"{local}@{_domain(domain)}"
    if len(local.encode()) > MAX_LOCAL or len(on_the_wire(found).encode()) > MAX_ADDRESS:
        raise MalformedError(f"{text.strip()[:80]!r} is longer than a mail address may be")
    return found


def is_address(text: str) -> bool:
    """Whether a text is exactly one address, as `read_address` gives it, and nothing else."""
    try:
        return read_address(text) == text
    except MalformedError:
        return False


def pick_address(values: Iterable[str]) -> str:
    """The one address of an attribute that a message goes to; empty without any. Never several.

    The rule: a value marked `SMTP:`, as Exchange marks the primary one of proxyAddresses; else the first in
    the alphabet, for the values of an attribute have no order (RFC 4511 4.1.7). A value that lists several
    whole addresses counts as its first one; a value that is anything else does not count.
    """
    given = [value.strip() for value in values]
    primary = [value.removeprefix(_PRIMARY) for value in given if value.startswith(_PRIMARY)]
    others = [value.removeprefix(_ALIAS) for value in given]
    for group in (primary, others):
        if found := sorted(filter(None, map(_first, group)), key=lambda one: (one.casefold(), one)):
            return found[0]
    return ""


def on_the_wire(address: str) -> str:
    """An address as servers take it: an international domain in ASCII (RFC 5890), the mailbox as it is.

    Args:
        address: as `read_address` gives it.
    """
    local, _, domain = address.rpartition("@")
    return f"{local}@{domain if domain.isascii() else idna.encode(domain, uts46=True).decode()}"


def _first(value: str) -> str:
    """The address of a value, or the first of a list in which every part is one."""
    try:
        return read_address(value)
    except MalformedError:
        pass
    pieces = [piece for piece in _PIECES.findall(value) if piece.strip()]
    try:
        found = [read_address(piece) for piece in pieces]
    except MalformedError:
        return ""
    return found[0] if found else ""


def _domain(text: str) -> str:
    if text.startswith("[") and text.endswith("]"):
        return f"[{_literal(text[1:-1])}]"
    try:
        idna.encode(text, uts46=True)
        if not text.endswith("."):
            return idna.uts46_remap(text).lower()
    except (idna.IDNAError, UnicodeError, IndexError):
        pass
    raise MalformedError(f"{text[:80]!r} is no domain of a mail address")


def _literal(text: str) -> str:
    """An address literal (RFC 5321 4.1.3)."""
    try:
        if text.upper().startswith("IPV6:"):
            return f"IPv6:{ipaddress.IPv6Address(text[5:])}"
        return str(ipaddress.IPv4Address(text))
    except ValueError:
        raise MalformedError(f"[{text[:80]}] is no domain of a mail address") from None
