"""Spans of time as people type them."""

from __future__ import annotations

import re

from lamplighter.errors import SelectionError

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def seconds(text: str) -> int:
    """`90m`, `24h`, `3d` in seconds; a bare number is seconds.

    Raises:
        SelectionError: anything else, or nothing at all.
    """
    match = re.fullmatch(r"([1-9][0-9]{0,8})([smhdw]?)", text.strip())
    if match is None:
        raise SelectionError(f"{text!r} is not a span of time", advice="write 90m, 24h or 3d")
    return int(match[1]) * UNITS[match[2] or "s"]
