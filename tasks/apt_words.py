"""Lists and numbers as people read them."""

from __future__ import annotations

from collections.abc import Iterable

SHOWN = 12


def some(names: Iterable[str], most: int = SHOWN) -> str:
    """The first of them, and how many more."""
    listed = list(names)
    rest = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + rest


def count(number: int, noun: str) -> str:
    """`1 package`, `2 packages`."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def listed(what: str, names: Iterable[str]) -> Iterable[str]:
    """`what: a, b`, or nothing for no names."""
    joined = ", ".join(names)
    if joined:
        yield f"{what}: {joined}"
