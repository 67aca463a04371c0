"""Who may do what to an object of Active Directory, by its security descriptor. Pure.

MS-DTYP 2.4 has the formats, MS-ADTS 5.1.3 how a right is found. Only what must be known here is read: who is
allowed or denied which extended right, or to read a property. What cannot be read is an error, never a no.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from lamplighter.errors import MalformedError

SELF, EVERYONE, AUTHENTICATED = (  # S-1-5-10, S-1-1-0, S-1-5-11: MS-DTYP 2.4.2.4
    bytes.fromhex(f"0101{authority:012x}{one}000000")
    for authority, one in ((5, "0a"), (1, "00"), (5, "0b"))
)

CHANGE_PASSWORD = uuid.UUID("ab721a53-1e2f-11d0-9819-00aa0040529b")  # extended rights, MS-ADTS 5.1.3.2.1
RESET_PASSWORD = uuid.UUID("00299570-246d-11d0-a768-00aa006e0529")
MEMBER = uuid.UUID("bf9679c0-0de6-11d0-a285-00aa003049e2")  # attributes, MS-ADA2, and the sets they are in
MEMBERSHIP = uuid.UUID("bc0ac240-79a9-11d0-9020-00c04fc2d4cf")
LOGON_HOURS = uuid.UUID("bf9679ab-0de6-11d0-a285-00aa003049e2")
LOGON_INFORMATION = uuid.UUID("5f202010-79a5-11d0-9020-00c04fc2d4cf")

EXTENDED, READ = 0x100, 0x10  # RIGHT_DS_CONTROL_ACCESS, RIGHT_DS_READ_PROPERTY: MS-ADTS 5.1.3.2
_ALL, _GENERIC_READ = 0x10000000, 0x80000000
_ALLOW, _DENY, _ALLOW_OBJECT, _DENY_OBJECT = 0, 1, 5, 6  # MS-DTYP 2.4.4.1
_INHERIT_ONLY = 0x8
_HAS_TYPE, _HAS_INHERITED = 0x1, 0x2
_DACL_PRESENT = 0x4


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of an access control list that holds for the object itself.

    Attributes:
        allows: or else denies.
        mask: rights.
        kind: the extended right, attribute or set it is about; None for all.
        sid: of whom.
    """

    allows: bool
    mask: int
    kind: uuid.UUID | None
    sid: bytes

    def covers(self, right: int, kinds: Collection[uuid.UUID]) -> bool:
        """Whether it is about this right on one of these kinds."""
        mask = self.mask | (EXTENDED | READ if self.mask & _ALL else 0)
        mask |= READ if self.mask & _GENERIC_READ else 0
        return bool(mask & right) and (self.kind is None or self.kind in kinds)


@dataclass(frozen=True, slots=True)
class Access:
    """An object's discretionary access control list.

    Attributes:
        entries: in their order; None when there is no list, which allows everybody everything.
    """

    entries: tuple[Entry, ...] | None

    def allows(self, who: Collection[bytes], right: int, *kinds: uuid.UUID) -> bool:
        """Whether the first entry that is about one of these identities allows the right."""
        return self.entries is None or next(
            (one.allows for one in self.entries if one.sid in who and one.covers(right, kinds)), False
        )

    def denies(self, who: Collection[bytes], right: int, *kinds: uuid.UUID) -> bool:
        """Whether any entry denies it to one of them, in whatever order."""
        return any(
            not one.allows and one.sid in who and one.covers(right, kinds) for one in self.entries or ()
        )


def read_access(descriptor: bytes) -> Access:
    """Read a self-relative security descriptor (MS-DTYP 2.4.6).

    Raises:
        MalformedError: it is none.
    """
    try:
        _, _, control, _, _, _, start = struct.unpack_from("<BBHIIII", descriptor)
        if not control & _DACL_PRESENT or not start:
            return Access(None)
        _, _, _, count, _ = struct.unpack_from("<BBHHH", descriptor, start)
        return Access(tuple(_entries(descriptor, start + 8, count)))
    except (struct.error, ValueError):
        raise MalformedError("a security descriptor is cut off or makes no sense") from None


def _entries(data: bytes, place: int, count: int) -> Iterator[Entry]:
    for _ in range(count):
        kind, flags, size = struct.unpack_from("<BBH", data, place)
        if size < 8 or place + size > len(data):  # noqa: PLR2004 - header and mask
            raise ValueError
        if kind in {_ALLOW, _DENY, _ALLOW_OBJECT, _DENY_OBJECT} and not flags & _INHERIT_ONLY:
            yield _entry(kind, data[place + 4 : place + size])
        place += size


def _entry(kind: int, body: bytes) -> Entry:
    mask, at, about = struct.unpack_from("<I", body)[0], 4, None
    if kind in {_ALLOW_OBJECT, _DENY_OBJECT}:
        has, at = struct.unpack_from("<I", body, 4)[0], 8
        if has & _HAS_TYPE:
            about, at = uuid.UUID(bytes_le=body[at : at + 16]), at + 16
        at += 16 if has & _HAS_INHERITED else 0
    size = 8 + 4 * body[at + 1] if len(body) > at + 1 else 0
    if len(body) < at + size or not size:
        raise ValueError
    return Entry(kind in {_ALLOW, _ALLOW_OBJECT}, mask, about, body[at : at + size])
