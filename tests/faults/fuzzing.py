"""What the fuzz campaigns share: damage done to good samples, and the property every reader must have.

A reader of hostile input returns, or raises one of the errors it declares; nothing else, and in bounded time
and memory. Counts are small in CI; `LAMPLIGHTER_TORTURE=1` runs the campaign and keeps its figures.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.assurance import FULL, much, report
from tests.bench.rows import Row

SLOWEST_MS = 500.0
"""CPU for one small input, on a machine that others use as well; a runaway takes seconds."""
GROWTH_MB = 120.0
"""How much memory a whole campaign over one reader may add."""
HOSTILE = (
    "\x00",
    "\x1b[2J",
    "\u202e",
    "e\u0301",
    "\u0130",
    "\ud800",
    "\u00b2",
    "\u2028",
    "\n",
    "\r\n",
    "\t",
    " ",
)
NUMBERS = (0, -1, 2**31, 2**53, 2**64, 10**400)


@dataclass
class Reader:
    """One reader of hostile input.

    Attributes:
        name: in figures.
        read: the call; it may assert what must hold of what it returns.
        inputs: what it is given.
        errors: what it may raise.
        small, full: how many inputs in CI, and in the campaign.
    """

    name: str
    read: Callable[[Any], object]
    inputs: st.SearchStrategy[Any]
    errors: tuple[type[Exception], ...] = ()
    small: int = 60
    full: int = 3000
    tried: int = field(default=0, init=False)
    refused: int = field(default=0, init=False)
    slowest: float = field(default=0.0, init=False)

    def attack(self) -> None:
        """Give it many inputs; a finding is a failure, shrunk to its smallest."""
        self._give(lambda _: None, self.small)  # what making inputs costs is not the reader's affair
        before = _peak_mb()
        self._give(self._one, much(self.small, self.full))
        report(
            "fuzz",
            [
                Row(f"{self.name}_inputs", self.tried, "inputs", min(self.small, 20), higher=True),
                Row(f"{self.name}_refused", self.refused, "inputs"),
                Row(f"{self.name}_slowest_ms", self.slowest * 1000, "ms CPU", SLOWEST_MS),
                Row(f"{self.name}_growth_mb", _peak_mb() - before, "MB", GROWTH_MB),
            ],
        )

    def _give(self, take: Callable[[Any], None], inputs: int) -> None:
        settings(
            max_examples=inputs, deadline=None, database=None, derandomize=not FULL,
            suppress_health_check=list(HealthCheck),
        )(given(self.inputs)(take))()

    def _one(self, data: Any) -> None:
        began = time.thread_time()
        self.tried += 1
        try:
            self.read(data)
        except self.errors:
            self.refused += 1
        self.slowest = max(self.slowest, time.thread_time() - began)


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@st.composite
def damaged(draw: st.DrawFn, samples: Sequence[bytes]) -> bytes:
    """A good sample with some bytes changed, cut, repeated, or spliced with another's; or noise."""
    if not draw(st.integers(0, 9)):
        return draw(st.binary(max_size=300))
    data = bytearray(draw(st.sampled_from(samples)))
    for _ in range(draw(st.integers(0, 5))):
        at = draw(st.integers(0, len(data)))
        what = draw(st.sampled_from(("set", "cut", "insert", "repeat", "splice", "end")))
        if what == "set" and data:
            data[at % len(data)] = draw(st.integers(0, 255))
        elif what == "cut":
            del data[at : at + draw(st.integers(1, 20))]
        elif what == "insert":
            data[at:at] = draw(st.binary(min_size=1, max_size=8))
        elif what == "repeat":
            data[at:at] = data[at : at + 12] * draw(st.integers(1, 30))
        elif what == "splice":
            data[at:] = draw(st.sampled_from(samples))[at:]
        else:
            del data[at:]
    return bytes(data[:20_000])


@st.composite
def garbled(draw: st.DrawFn, samples: Sequence[str], tokens: Sequence[str] = ()) -> str:
    """A good text with some of it changed, and words of the format and hostile characters put in."""
    if not draw(st.integers(0, 9)):
        return draw(st.text(max_size=200))
    text = draw(st.sampled_from(samples))
    words = st.sampled_from((*tokens, *HOSTILE))
    for _ in range(draw(st.integers(0, 5))):
        at, width = draw(st.integers(0, len(text))), draw(st.sampled_from((0, 0, 1, 2, 10, 1000)))
        put = draw(st.one_of(words, st.text(max_size=3)))
        text = text[:at] + put * draw(st.sampled_from((0, 1, 1, 1, 40))) + text[at + width :]
    return text[:20_000]


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(NUMBERS),
    st.sampled_from(HOSTILE),
    st.text(max_size=20),
    st.just([]),
    st.just({}),
    st.floats(),
    st.just("sha256:" + "0" * 64),
)


@st.composite
def rewired(draw: st.DrawFn, samples: Sequence[Any]) -> Any:
    """A good JSON value with some of its parts replaced, left out, or moved elsewhere."""
    value = draw(st.sampled_from(samples))
    for _ in range(draw(st.integers(0, 3))):
        value = _rewire(draw, value)
    return value


def _rewire(draw: st.DrawFn, value: Any) -> Any:
    if isinstance(value, dict) and value and draw(st.integers(0, 9)):
        name = draw(st.sampled_from(sorted(value)))
        rest = {key: item for key, item in value.items() if key != name}
        what = draw(st.sampled_from(("deeper", "deeper", "drop", "rename", "add")))
        if what == "drop":
            return rest
        if what == "rename":
            return {**rest, draw(st.text(max_size=5)): value[name]}
        if what == "add":
            return {**value, draw(st.text(max_size=5)): draw(LEAVES)}
        return {**rest, name: _rewire(draw, value[name])}
    if isinstance(value, list) and value and draw(st.integers(0, 9)):
        at = draw(st.integers(0, len(value) - 1))
        return [*value[:at], _rewire(draw, value[at]), *value[at + draw(st.integers(0, 1)) :]]
    return draw(LEAVES)
