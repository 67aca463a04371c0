"""Whom the lines of `directory.yaml` name: the server's to say, never the spelling's.

A line may be a DN in any spelling, of an account or of an OU; a login, a principal name, a pin in any
spelling. What names nobody is a mistake, and told.
"""

from __future__ import annotations

import base64
import binascii
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from lamplighter.errors import LamplighterError, SessionLostError, UnreachableError
from lamplighter.model.directory import Directory, Filter
from tasks.groups import contexts

MOST_NAMED = 20
_GUID = 16


class Names(Protocol):
    """How a kind of directory names accounts."""

    def pinned(self, pin: str) -> Filter:
        """The filter that finds an account by its pin."""

    def named(self, text: str, session: Directory) -> tuple[str, ...]:
        """The pins of the accounts a login, address or number names, anywhere on the server."""


@dataclass(frozen=True, slots=True)
class Lines:
    """What a list of the settings says of one account.

    Attributes:
        hits: lines that mean it.
        empty: lines that name nobody.
    """

    hits: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()


def read_lines(lines: Sequence[str], pin: str, names: Names, session: Directory) -> Lines:
    """Which lines mean the account, and which nobody.

    Raises:
        UnreachableError, SessionLostError: the directory does not answer.
    """
    hits, empty = [], []
    for line in lines:
        means = _below(line, pin, names, session) if "=" in line[:-2] else _named(line, pin, names, session)
        if means is None:
            empty.append(line)
        elif means:
            hits.append(line)
    return Lines(tuple(hits), tuple(empty))


def _below(line: str, pin: str, names: Names, session: Directory) -> bool | None:
    """Whether the account is this entry or below it; None when it is not there."""
    try:
        return bool(session.search(names.pinned(pin), (), base=line, most=1))
    except (UnreachableError, SessionLostError):
        raise
    except LamplighterError:
        return None


def _named(line: str, pin: str, names: Names, session: Directory) -> bool | None:
    found = set(names.named(line, session))
    for guess in guids(line):
        if guess == pin:
            return True
        if any(session.search(names.pinned(guess), (), base=base, most=1) for base in contexts(session)):
            found.add(guess)
    return pin in found if found else None


def guids(text: str) -> Iterator[str]:
    """What a GUID may be that some tool printed: with or without braces and dashes, or as its octets."""
    plain = text.strip().removeprefix("urn:uuid:").strip("{}<>").lower().removeprefix("guid=")
    digits = "".join(char for char in plain if char not in "-\\ ").removeprefix("0x")
    try:
        octets = bytes.fromhex(digits)
        if len(octets) == _GUID:
            yield str(uuid.UUID(bytes=octets))
            if "-" not in plain:
                yield str(uuid.UUID(bytes_le=octets))
    except ValueError:
        pass
    try:
        octets = base64.b64decode(text.strip(), validate=True)
        if len(octets) == _GUID:
            yield str(uuid.UUID(bytes_le=octets))
    except (binascii.Error, ValueError):
        pass
