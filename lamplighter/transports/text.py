"""What a host printed, made safe to show: to a terminal, in a report, to a parser that splits lines.

A host's output is hostile input. Escape sequences repaint an operator's terminal, bidirectional overrides
make one text look like another, and odd line breaks smuggle lines into a report.
"""

from __future__ import annotations

import re

_STRING_END = r"(?:\x07|\x1b\\|\x9c)"
_HOSTILE = re.compile(
    "|".join(
        (
            # ECMA-48 5.4: control sequences. Unfinished ones lose their introducer only.
            r"(?:\x1b\[|\x9b)[0-?]*+[ -/]*+[@-~]",
            # ECMA-48 8.3: OSC, DCS, SOS, PM, APC and their string, up to BEL or ST.
            rf"(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*+{_STRING_END}",
            # Other escape sequences: intermediates and a final byte (ECMA-35).
            r"\x1b[ -/]*+[0-~]",
            # C0 but tab and newline, DEL, C1.
            r"[\x00-\x08\x0b-\x1f\x7f-\x9f]",
            # Bidirectional marks, embeddings, overrides, isolates (UAX 9); line and paragraph separator.
            "[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\u2028\u2029]",
        )
    )
)
_RETURN = re.compile(r"\r\n?")


def clean(text: str) -> str:
    """Remove what could deceive: controls, terminal escapes, bidirectional overrides. Linear in time.

    Args:
        text: any text.

    Returns:
        The text with carriage returns as newlines, and no control character but tab and newline.
    """
    if text.isascii() and text.isprintable():
        return text
    return _HOSTILE.sub("", _RETURN.sub("\n", text))


def decode(data: bytes | bytearray) -> str:
    """Bytes of a host as clean text; what is not UTF-8 becomes U+FFFD."""
    return clean(data.decode("utf-8", "replace"))


def last_line(data: bytes | bytearray, limit: int = 200) -> str:
    """The last line that says something, clean and short, for an error message."""
    lines = [line for line in decode(data[-4096:]).splitlines() if line.strip()]
    return lines[-1].strip()[:limit] if lines else ""
