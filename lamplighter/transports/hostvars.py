"""Reads a host's connection variables; every mistake is collected, and all are told at once."""

from __future__ import annotations

from collections.abc import Mapping

from lamplighter.errors import UnreachableError
from lamplighter.model.canonical import Json
from lamplighter.model.inventory import Host

LONGEST = 600
"""Seconds: no time-out is longer than ten minutes."""


class Reader:
    """Variables of one host.

    Attributes:
        mistakes: what was wrong so far, a sentence each.
    """

    def __init__(self, variables: Mapping[str, Json]) -> None:
        self.vars = variables
        self.mistakes: list[str] = []

    def finish(self, host: Host) -> None:
        """Raise if there was any mistake.

        Raises:
            UnreachableError: names all of them.
        """
        if self.mistakes:
            raise UnreachableError(
                "; ".join(self.mistakes), where=host.name, changed="Nothing was sent to the host",
                advice="Correct the host's variables in the inventory",
            )

    def text(self, name: str) -> str:
        """A variable that is text; empty when it is not set."""
        value = self.vars.get(name, "")
        if isinstance(value, str):
            return value.strip()
        self.mistakes.append(f"{name} is not text")
        return ""

    def seconds(self, name: str, default: float) -> float:
        """A time-out, 1 to `LONGEST` seconds."""
        value = self.vars.get(name, default)
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= LONGEST:
            return float(value)
        self.mistakes.append(f"{name} is not a number of seconds from 1 to {LONGEST}")
        return default

    def port(self, text: str) -> int:
        """A port number; 0 when it is none (RFC 9293 3.1: 16 bits)."""
        number = int(text) if text.isascii() and text.isdigit() and len(text) <= 5 else 0  # noqa: PLR2004 - 65535
        if not 0 < number < 65536:  # noqa: PLR2004
            self.mistakes.append(f"{text!r} is not a port")
        return number
