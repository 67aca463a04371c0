"""CLIXML, the XML in which PowerShell writes to standard error, as the text a person expected. Pure.

[MS-PSRP] 2.2.5 describes the format, 2.2.5.3.2 how strings are escaped. Only error and warning lines are
kept; progress records are dropped. The input is hostile: a document with a DTD, one nested too deep, or a
broken one is shown as it is instead, and the result is never longer than the input.
"""

from __future__ import annotations

import re
from xml.parsers import expat

from lamplighter.transports.text import clean

_MARK = re.compile(r"#< CLIXML[ \t]*\n?")
_DOCUMENT = re.compile(r"<Objs\b")
_END = "</Objs>"
_ESCAPED = re.compile(r"(?:_x[0-9A-Fa-f]{4}_)+")
_SHOWN = {"Error", "Warning"}
_DEPTH = 64


def readable(text: str) -> str:
    """Text in which every CLIXML document is replaced by its messages.

    Args:
        text: standard error, already clean of control characters.
    """
    text = _MARK.sub("", text)
    parts: list[str] = []
    read = 0
    while (start := _DOCUMENT.search(text, read)) is not None:
        end = text.find(_END, start.start())
        if end < 0:
            break
        end += len(_END)
        parts += (text[read:start.start()], _messages(text[start.start():end]))
        read = end
    return "".join((*parts, text[read:])).strip("\n") if "<Objs" in text else text


class _Reader:
    """Collects the text of the strings in the error and warning streams."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._depth = 0
        self._text: list[str] | None = None

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > _DEPTH:
            raise ValueError
        shown = name.rpartition("|")[2] == "S" and attributes.get("S") in _SHOWN
        self._text = [] if shown else None

    def data(self, text: str) -> None:
        if self._text is not None:
            self._text.append(text)

    def end(self, _name: str) -> None:
        self._depth -= 1
        if self._text is not None:
            self.lines.append(_unescaped("".join(self._text)))
        self._text = None

    def doctype(self, *_: object) -> None:
        raise ValueError


def _messages(document: str) -> str:
    parser = expat.ParserCreate(namespace_separator="|")
    reader = _Reader()
    parser.StartElementHandler, parser.EndElementHandler = reader.start, reader.end
    parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = reader.data, reader.doctype
    try:
        parser.Parse(document.encode("utf-8", "replace"), True)
    except (expat.ExpatError, ValueError):
        return document
    return "".join(reader.lines)


def _unescaped(text: str) -> str:
    """`_xHHHH_` stands for a UTF-16 code unit, of an escape sequence too; some are halves of characters."""
    return clean(_ESCAPED.sub(_characters, text))


def _characters(match: re.Match[str]) -> str:
    units = match[0].strip("_").replace("x", "").split("__")
    return b"".join(int(unit, 16).to_bytes(2, "little") for unit in units).decode("utf-16-le", "replace")
