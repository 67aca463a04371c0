"""Generated passwords: long enough for the directory's own policy, and easy to dictate over a telephone.

They are for one use: whoever gets one must change it at the next login. Words are three syllables that any
language can say; characters leave out what is misread or misheard. Both carry at least `BITS` random bits.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum

from lamplighter.errors import RefusedError
from lamplighter.model.canonical import JsonObject
from lamplighter.secrets import Secret

BITS = 55
LONGEST = 127
"""Characters; Active Directory's own tools take no more."""

_CONSONANTS = "bdfgklmnprstvz"
_VOWELS = "aeiou"
_SYLLABLES = 3
_LETTERS, _CAPITALS, _DIGITS = "abcdefhkmnprtwxy", "ACDEFHKMNPRTWXY", "34679"
_GROUP = 4
_CLASSES = 4
_TRIES = 100
_SHORTEST_NAME = 3
_SEPARATORS = " ,.-_#\t"


class Style(StrEnum):
    """How a password reads."""

    WORDS = "words"  # Bodake-Lumiro-Tafeno-43
    CHARACTERS = "characters"  # Kr7m-Xa4p-Ht9w-Fe3n


@dataclass(frozen=True, slots=True)
class PasswordPolicy:
    """What a directory asks of a password, as far as it could be read.

    Attributes:
        source: DN of the policy; empty when none could be read.
        shortest, longest: characters; 0 for no bound known.
        classes: how many of capital, small, digit, other must occur (Active Directory's complexity: 3).
        history: how many earlier passwords are remembered.
        lockout_after: wrong passwords until the account is locked; 0 for never, or not known.
        lockout_seconds: until it unlocks itself; 0 for never, or not known.
    """

    source: str = ""
    shortest: int = 0
    longest: int = 0
    classes: int = 0
    history: int = 0
    lockout_after: int = 0
    lockout_seconds: int = 0

    def to_json(self) -> JsonObject:
        """For the plan and the evidence."""
        return asdict(self)


def generate(policy: PasswordPolicy, style: Style = Style.WORDS, names: Iterable[str] = ()) -> Secret:
    """Make a password.

    Args:
        policy: the account's effective one.
        style: how it reads.
        names: the account's login and names, no part of which may occur in it (MS-SAMR 3.1.1.7.2).

    Raises:
        RefusedError: the policy leaves no room for a password with `BITS` random bits.
    """
    forbidden = tuple(name_parts(names))
    for _ in range(_TRIES):
        text = _words(policy.shortest) if style is Style.WORDS else _characters(policy.shortest)
        if len(text) > (policy.longest or LONGEST):
            break
        if fits(text, policy, forbidden):
            return Secret(text, "generated")
    raise RefusedError(
        f"no password with {BITS} random bits, in {style}, fits the directory's policy",
        changed="Nothing was changed",
        advice="Choose the other style, or have the policy looked at"
        + (f" ({policy.source})" if policy.source else ""),
    )


def fits(text: str, policy: PasswordPolicy, forbidden: Iterable[str] = ()) -> bool:
    """Whether a password meets what is known of a policy.

    Args:
        text: the password.
        policy: see `PasswordPolicy`.
        forbidden: parts of names, in lower case.
    """
    kinds = (str.isupper, str.islower, str.isdigit, lambda char: not char.isalnum())
    classes = sum(any(kind(char) for char in text) for kind in kinds)
    return (
        policy.shortest <= len(text) <= (policy.longest or LONGEST)
        and classes >= min(policy.classes, _CLASSES)
        and not any(part in text.lower() for part in forbidden)
    )


def name_parts(names: Iterable[str]) -> Iterator[str]:
    """The parts of names that a password may not hold: three characters or more, in lower case."""
    for name in names:
        text = name.lower()
        for separator in _SEPARATORS:
            text = text.replace(separator, " ")
        yield from (part for part in (*text.split(" "), name.lower()) if len(part) >= _SHORTEST_NAME)


def _words(shortest: int) -> str:
    """Words and two digits, until it is random and long enough."""
    bits_a_word = _SYLLABLES * math.log2(len(_CONSONANTS) * len(_VOWELS))
    parts = [_word() for _ in range(math.ceil(BITS / bits_a_word))]
    while len("-".join(parts)) + 3 < shortest:
        parts.append(_word())
    return "-".join((*parts, "".join(secrets.choice(_DIGITS) for _ in range(2))))


def _word() -> str:
    return "".join(
        secrets.choice(_CONSONANTS) + secrets.choice(_VOWELS) for _ in range(_SYLLABLES)
    ).capitalize()


def _characters(shortest: int) -> str:
    """Groups of a capital, two small letters or so, and a digit, until it is random and long enough."""
    every = _LETTERS + _CAPITALS + _DIGITS
    bits_a_group = math.log2(len(_CAPITALS) * len(_DIGITS)) + (_GROUP - 2) * math.log2(len(every))
    groups: list[str] = []
    while len(groups) * bits_a_group < BITS or len("-".join(groups)) < shortest:
        middle = "".join(secrets.choice(every) for _ in range(_GROUP - 2))
        groups.append(secrets.choice(_CAPITALS) + middle + secrets.choice(_DIGITS))
    return "-".join(groups)
