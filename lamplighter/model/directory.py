"""What an operation may do in a directory: the protocol of `lamplighter.transports.ldap`, and its values.

A filter is built from attributes and values and escaped as it is built (RFC 4515); there is no way to hand in
text. What was read is an `Entry`: raw octets, and accessors that say which type they expect, because LDAP
itself does not say what is text. A new password is handed in as something that must be asked to `reveal`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, TypeAlias, runtime_checkable

from lamplighter.errors import MalformedError, UnusableError
from lamplighter.model.logins import Login, Usability

IN_CHAIN = "1.2.840.113556.1.4.1941"
"""LDAP_MATCHING_RULE_IN_CHAIN (MS-ADTS 3.1.1.3.4.4.3): membership through any number of groups."""

MOST = 1000
"""Entries a search returns before it is refused as too broad."""

_ATTRIBUTE = re.compile(r"(?:[A-Za-z][A-Za-z0-9-]*|\d+(?:\.\d+)*)(?:;[A-Za-z0-9-]+)*")
_RULE = re.compile(r"[A-Za-z][A-Za-z0-9-]*|\d+(?:\.\d+)*")
_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@._-")


@runtime_checkable
class Hidden(Protocol):
    """A value that shows itself only when asked by name: `lamplighter.secrets.Secret`."""

    def reveal(self) -> str:
        """The value itself."""


Value: TypeAlias = str | bytes | int
"""What is compared or written: text becomes UTF-8, a number its decimal digits."""


def octets(value: Value) -> bytes:
    """The octets of a value as they go over the wire."""
    return value if isinstance(value, bytes) else str(value).encode()


@dataclass(frozen=True, slots=True)
class Filter:
    """A search filter. Made by the functions below only; `str` is its RFC 4515 text."""

    text: str

    def __str__(self) -> str:
        return self.text


def equals(attribute: str, value: Value) -> Filter:
    """`(attribute=value)`; an empty value is refused, as it would match what nobody meant."""
    return _compare(attribute, "=", value)


def at_least(attribute: str, value: Value) -> Filter:
    """`(attribute>=value)`."""
    return _compare(attribute, ">=", value)


def at_most(attribute: str, value: Value) -> Filter:
    """`(attribute<=value)`."""
    return _compare(attribute, "<=", value)


def present(attribute: str) -> Filter:
    """`(attribute=*)`."""
    return Filter(f"({_named(attribute, _ATTRIBUTE)}=*)")


def matches(attribute: str, rule: str, value: Value) -> Filter:
    """`(attribute:rule:=value)`, an extensible match (RFC 4515 3)."""
    return Filter(f"({_named(attribute, _ATTRIBUTE)}:{_named(rule, _RULE)}:={_escaped(value)})")


def all_of(*filters: Filter) -> Filter:
    """All must match."""
    return _combine("&", filters)


def any_of(*filters: Filter) -> Filter:
    """One must match."""
    return _combine("|", filters)


def none_of(*filters: Filter) -> Filter:
    """None may match."""
    return Filter(f"(!{any_of(*filters)})")


def held(text: str) -> Filter:
    """A filter that the directory itself holds, in a `memberURL` (RFC 4516 2): one component, and no more.

    Raises:
        MalformedError: its parentheses do not make it one component.
    """
    depth = 0
    for place, char in enumerate(text):
        depth += {"(": 1, ")": -1}.get(char, 0)
        if depth < 1 and place < len(text) - 1:
            depth = -1
            break
    if depth or not text or "\0" in text:
        raise MalformedError(f"{text[:80]!r} is no filter")
    return Filter(text)


def _compare(attribute: str, sign: str, value: Value) -> Filter:
    return Filter(f"({_named(attribute, _ATTRIBUTE)}{sign}{_escaped(value)})")


def _combine(sign: str, filters: Sequence[Filter]) -> Filter:
    if not filters:
        raise MalformedError("a filter of no filters matches nothing or everything, never what was meant")
    return filters[0] if len(filters) == 1 else Filter(f"({sign}{''.join(map(str, filters))})")


def _named(name: str, pattern: re.Pattern[str]) -> str:
    if not pattern.fullmatch(name):
        raise MalformedError(f"{name[:60]!r} is no attribute or matching rule of a directory")
    return name


def _escaped(value: Value) -> str:
    r"""Every octet but letters, digits and `@._-` as `\hh`, which RFC 4515 3 allows for any octet."""
    data = octets(value)
    if not data:
        raise MalformedError("a filter compares with an empty value")
    return "".join(chr(octet) if octet in _PLAIN else f"\\{octet:02x}" for octet in data)


class Scope(StrEnum):
    """How far below its base a search reaches (RFC 4511 4.5.1.2)."""

    BASE = "base"
    CHILDREN = "children"
    SUBTREE = "subtree"


@dataclass(frozen=True, slots=True)
class Entry:
    """What was read of one object. Its texts come from the directory and may be hostile.

    Attributes:
        dn: as the server spelled it.
        attributes: values in octets, by attribute name in lower case; what has no value is absent.
    """

    dn: str
    attributes: Mapping[str, tuple[bytes, ...]] = field(default_factory=dict)

    def has(self, name: str) -> bool:
        """Whether the attribute was returned; False also when the account may not read it."""
        return name.lower() in self.attributes

    def all_octets(self, name: str) -> tuple[bytes, ...]:
        """All values, raw."""
        return self.attributes.get(name.lower(), ())

    def octets(self, name: str) -> bytes:
        """The one value, raw; empty when there is none.

        Raises:
            UnusableError: there are several.
        """
        values = self.all_octets(name)
        if len(values) > 1:
            raise UnusableError(f"{name} has {len(values)} values where one was expected", where=self.dn)
        return values[0] if values else b""

    def texts(self, name: str) -> tuple[str, ...]:
        """All values as text.

        Raises:
            UnusableError: one is not UTF-8.
        """
        try:
            return tuple(value.decode() for value in self.all_octets(name))
        except UnicodeDecodeError:
            raise UnusableError(f"{name} is not text", where=self.dn) from None

    def text(self, name: str) -> str:
        """The one value as text; empty when there is none.

        Raises:
            UnusableError: there are several, or it is not UTF-8.
        """
        self.octets(name)
        return (self.texts(name) or ("",))[0]

    def number(self, name: str) -> int | None:
        """The one value as a whole number (RFC 4517 3.3.16); None when there is none.

        Raises:
            UnusableError: there are several, or it is no number.
        """
        text = self.text(name)
        if not text:
            return None
        if not re.fullmatch(r"-?\d{1,20}", text, re.ASCII):
            raise UnusableError(f"{name} is no number", where=self.dn)
        return int(text)

    def flag(self, name: str) -> bool | None:
        """The one value as a boolean (RFC 4517 3.3.3); None when there is none.

        Raises:
            UnusableError: there are several, or it is neither TRUE nor FALSE.
        """
        text = self.text(name)
        if text not in {"", "TRUE", "FALSE"}:
            raise UnusableError(f"{name} is neither TRUE nor FALSE", where=self.dn)
        return text == "TRUE" if text else None


class Kind(StrEnum):
    """What a change does to an attribute (RFC 4511 4.6)."""

    ADD = "add"
    DELETE = "delete"
    REPLACE = "replace"


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one attribute.

    Attributes:
        attribute: its name.
        kind: see `Kind`.
        values: none with `DELETE` or `REPLACE` removes the attribute. A `Hidden` value is written in UTF-8,
            and for `unicodePwd` quoted in UTF-16LE, as MS-ADTS 3.1.1.3.1.5.1 asks.
    """

    attribute: str
    kind: Kind
    values: tuple[Value | Hidden, ...] = ()

    def __post_init__(self) -> None:
        _named(self.attribute, _ATTRIBUTE)


def replace(attribute: str, *values: Value | Hidden) -> Change:
    """Set an attribute to exactly these values."""
    return Change(attribute, Kind.REPLACE, values)


def remove(attribute: str, *values: Value | Hidden) -> Change:
    """Remove these values, or the whole attribute; an error when it is not there."""
    return Change(attribute, Kind.DELETE, values)


@runtime_checkable
class Directory(Protocol):
    """One server of a directory, logged in; for one thread at a time.

    Everything has a deadline and a cap. Referrals are never followed.
    """

    @property
    def server(self) -> str:
        """The name of the server this session talks to, as in the site's list."""

    @property
    def base(self) -> str:
        """DN that searches start from."""

    def search(
        self, where: Filter, attributes: Sequence[str], *, base: str = "", scope: Scope = Scope.SUBTREE,
        most: int = MOST,
    ) -> tuple[Entry, ...]:
        """Find entries, in pages.

        Args:
            where: see `Filter`.
            attributes: to read, `*` and `+` included if wanted; none reads DNs only.
            base: DN to start from; empty for the directory's base.
            scope: see `Scope`.
            most: entries at most.

        Raises:
            OutputTooLargeError: more than `most` match, or the answer is too long.
            NoSuchEntryError: there is no `base`.
            ReferralError, RemoteFailedError, TimedOutError, SessionLostError.
        """

    def get(self, dn: str, attributes: Sequence[str]) -> Entry | None:
        """Read one entry by its DN; None when it is not there or not visible.

        Raises:
            As `search`, but for `NoSuchEntryError`.
        """

    def root(self, attributes: Sequence[str]) -> Entry:
        """Read what the server says of itself (RFC 4512 5.1).

        Raises:
            As `search`.
        """

    def values(self, dn: str, attribute: str) -> tuple[bytes, ...]:
        """Read all values of an attribute with many, in ranges where the server gives them so.

        Raises:
            OutputTooLargeError: they are too many.
            As `search`.
        """

    def access(self, dn: str) -> bytes:
        """Read the owner, group and discretionary list of an object's security descriptor.

        Returns:
            Its octets (MS-DTYP 2.4.6), for `lamplighter.model.access`; empty when it may not be read.
        """

    def compares(self, dn: str, attribute: str, value: Value) -> bool | None:
        """Whether an attribute has a value (RFC 4511 4.10); None when the account may not ask that."""

    def usability(self, dn: str) -> Usability:
        """What the server says by its own clock of whether an account can log in.

        Raises:
            As `search`.
        """

    def refers(self, dn: str, attribute: str) -> bool:
        """Whether this server refers changes of an entry to another one.

        It is asked to change the entry on a condition that never holds (RFC 4528): that changes nothing.
        """

    def try_login(self, name: str, password: Hidden) -> Login:
        """Log in once as somebody, over a connection of its own to this very server, and leave.

        Raises:
            UnreachableError, SessionLostError: it is not known whether the password serves.
        """

    @property
    def peers(self) -> tuple[str, ...]:
        """The names of the other servers in the site's list."""

    def peer(self, server: str) -> Directory:
        """A session with one of them, to be closed.

        Raises:
            UnreachableError: it does not answer, or refuses.
        """

    def modify(self, dn: str, *changes: Change) -> None:
        """Change one entry; all changes or none (RFC 4511 4.6). Sent once, never repeated.

        Raises:
            NotPermittedError, PolicyViolationError, UnwillingError, NoSuchEntryError, RemoteFailedError: it
                was refused, and nothing was changed.
            ReferralError: the server is not the one to change it; nothing was changed.
            SessionLostError, TimedOutError: it is not known whether it was changed.
        """

    def set_password(self, dn: str, new: Hidden) -> None:
        """Set a password by the extended operation of RFC 3062. Sent once, never repeated.

        Raises:
            As `modify`.
        """

    def close(self) -> None:
        """Give the connection back; never raises."""
