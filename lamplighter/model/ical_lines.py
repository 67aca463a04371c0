"""Bytes of an iCalendar file into components and properties (RFC 5545 section 3.1), as programs write it.

Line ends of any kind, byte order marks, UTF-16, folding in the middle of a letter, blank lines, names in
lower case and quotation marks left out are read. What cannot be is told; a line that is broken but names
nothing of interest is passed over.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from lamplighter.errors import MalformedError

MAX_BYTES = 4 * 1024 * 1024
SMALLER = "export the freezes only, or fewer years"
MAX_DEPTH = 8
_NAME = re.compile(r"[A-Za-z0-9-]+")
_PARAMETER = re.compile(r';\s*([A-Za-z0-9-]+)=((?:"[^"]*"|[^";:,]*)(?:,(?:"[^"]*"|[^";:,]*))*)')
_MOMENT = re.compile(r"([A-Za-z0-9-]+)(;.*)?:([^:]*)")
MOMENTS = frozenset({"DTSTART", "DTEND", "RDATE", "EXDATE", "RECURRENCE-ID"})
_NEEDED = MOMENTS | {"DURATION", "RRULE", "EXRULE", "STATUS", "UID", "SEQUENCE", "METHOD", "BEGIN", "END"}
_UTF16 = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
_ESCAPED = re.compile(r"\\([\\;,nN])")


class Property(NamedTuple):
    """One line: its value, and its parameters by name, in capitals."""

    value: str
    params: dict[str, str]


@dataclass(slots=True)
class Component:
    """What stands between BEGIN and END.

    Attributes:
        name: in capitals.
        properties: by name, in capitals, in file order; the components' inside it are not among them.
        parts: the components inside it.
    """

    name: str
    properties: dict[str, list[Property]] = field(default_factory=dict)
    parts: list[Component] = field(default_factory=list)

    def one(self, name: str) -> Property | None:
        """The first property of that name."""
        return next(iter(self.properties.get(name, ())), None)

    def text(self, name: str) -> str:
        """Its value without escapes; empty without one."""
        found = self.one(name)
        return (
            _ESCAPED.sub(lambda match: "\n" if match[1] in "nN" else match[1], found.value) if found else ""
        )

    def values(self) -> dict[str, list[str]]:
        """The properties without their parameters."""
        return {name: [each.value for each in found] for name, found in self.properties.items()}


def decode(data: bytes) -> str:
    """The file as text, its folded lines made whole; see `components`.

    Raises:
        MalformedError: it is too large, or in no encoding that is read here.
    """
    if len(data) > MAX_BYTES:
        raise MalformedError(f"is larger than {MAX_BYTES // 1024} KiB; {SMALLER}")
    wide = _UTF16.get(data[:2]) or {b"B\0": "utf-16-le", b"\0B": "utf-16-be"}.get(data[:2])
    if wide:
        try:
            data = data.decode(wide).removeprefix("\ufeff").encode()
        except UnicodeDecodeError as error:
            raise MalformedError("is not UTF-16, as its first bytes say; save it as UTF-8") from error
    data = data.removeprefix(codecs.BOM_UTF8).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    whole = re.sub(rb"\n[ \t]", b"", data)
    try:
        return whole.decode("utf-8")
    except UnicodeDecodeError as error:
        place = whole[: error.start].rpartition(b"\n")[2].decode("utf-8", "replace")
        raise MalformedError(
            f"is not UTF-8: byte 0x{whole[error.start]:02x} after `{place[-40:]}`; save or export it as UTF-8"
        ) from error


def components(text: str) -> list[Component]:
    """The VCALENDARs of a file.

    Raises:
        MalformedError: it is no calendar, breaks off, or a line that is needed cannot be read.
    """
    top = Component("")
    stack = [top]
    for name, found in _properties(text, stack):
        if name == "BEGIN":
            _begin(found.value.strip().upper(), stack)
        elif name == "END":
            ended = found.value.strip().upper()
            if len(stack) > 1 and stack[-1].name != ended:
                raise MalformedError(f"is not iCalendar: END:{ended[:30]} stands inside a {stack[-1].name}")
            del stack[max(1, len(stack) - 1) :]
        elif len(stack) > 1:
            stack[-1].properties.setdefault(name, []).append(found)
    if len(stack) > 1:
        raise MalformedError(f"breaks off: the end of its last {stack[-1].name} is missing; export it again")
    if not top.parts:
        raise MalformedError("is not iCalendar: it has no BEGIN:VCALENDAR")
    return top.parts


def _begin(name: str, stack: list[Component]) -> None:
    if (len(stack) == 1) != (name == "VCALENDAR"):
        raise MalformedError(
            f"is not iCalendar: BEGIN:{name[:30]} stands {'outside of' if len(stack) == 1 else 'inside'}"
            " a VCALENDAR"
        )
    if len(stack) > MAX_DEPTH:
        raise MalformedError(f"is nested deeper than {MAX_DEPTH} levels")
    made = Component(name)
    stack[-1].parts.append(made)
    stack.append(made)


def _properties(text: str, stack: list[Component]) -> Iterator[tuple[str, Property]]:
    for line in filter(str.strip, text.split("\n")):
        match = _NAME.match(line)
        name = match[0].upper() if match else ""
        found = _read(line, name)
        if found is not None:
            yield name, found
        elif name in _NEEDED and len(stack) > 1:
            raise MalformedError(f"has a line that cannot be read: `{line[:60]}`")


def _read(line: str, name: str) -> Property | None:
    """A line's value and parameters; None when it has none."""
    if name in MOMENTS:  # Exchange leaves the quotation marks out: TZID=(UTC+05:30) Chennai, Kolkata
        match = _MOMENT.fullmatch(line)
        if match is None:
            return None
        params = dict(part.partition("=")[::2] for part in _split(match[2] or ""))
        return Property(
            match[3].strip(), {key.strip().upper(): value.strip('"') for key, value in params.items()}
        )
    place = len(name)
    params = {}
    while found := _PARAMETER.match(line, place):
        params[found[1].upper()] = found[2].strip('"')
        place = found.end()
    return Property(line[place + 1 :], params) if name and line[place : place + 1] == ":" else None


def _split(params: str) -> list[str]:
    return [part for part in re.split(r";(?=[A-Za-z0-9-]+=)", params) if part]
