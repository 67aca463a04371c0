"""One host whose answers keep a parser busy: Python's lock is held meanwhile, and every run stops.

Whatever a part of a reading holds, up to a mebibyte of its own words alone and in pairs, is read or refused
in time that grows with its length and no faster.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from lamplighter.errors import LamplighterError
from lamplighter.model.inventory import Host
from lamplighter.model.session import Completed
from lamplighter.transports.text import clean
from tasks import apt_outcome, linux
from tasks.apt import read_facts, with_rehearsal
from tests.assurance import FULL, much

SIZE = much(128, 1024) * 1024
SECONDS = much(1, 8)
"""CPU for one input: ten times what a linear reader takes here, a hundredth of what a quadratic one would."""
TOKENS, PAIRS = much(8, 40), much(6, 400)
HOSTS = sorted((Path(__file__).parents[1] / "cases" / "apt" / "hosts").glob("*.yaml"))
Parts = Mapping[str, Any]


def parts(recorded: Parts, name: str = "", text: str = "") -> linux.Reading:
    """A recorded reading, one part of it replaced."""
    merged = {**recorded, **({name: text} if name else {})}
    return linux.Reading({
        key: linux.Part(value["code"], value["text"]) if isinstance(value, dict) else linux.Part(0, value)
        for key, value in merged.items() if value is not None
    })


def survey(recorded: Parts, name: str = "", text: str = "") -> object:
    return read_facts(Host("h1", (), {}), "all", parts(recorded["survey"], name, text), 0.0, 1.0)


def rehearsal(recorded: Parts, name: str = "", text: str = "") -> object:
    facts = survey(recorded)
    return with_rehearsal(facts, parts(recorded["rehearse"], name, text))  # type: ignore[arg-type]


def outcome(recorded: Parts, name: str = "", text: str = "") -> object:
    return apt_outcome.state(parts(recorded["state"], name, text))


READINGS: dict[str, Callable[..., object]] = {"survey": survey, "rehearse": rehearsal, "state": outcome}


def readings() -> Iterator[Any]:
    """Every part that any recorded reading has, with the recording that has most of it."""
    found: dict[tuple[str, str], tuple[int, Parts]] = {}
    for file in HOSTS:
        recorded = yaml.load(file.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
        for kind in READINGS.keys() & recorded.keys():
            if kind == "rehearse" and "survey" not in recorded:
                continue
            for name, value in recorded[kind].items():
                text = value["text"] if isinstance(value, dict) else value
                if text and len(str(text)) > found.get((kind, name), (0, {}))[0]:
                    found[kind, name] = (len(str(text)), recorded)
    for (kind, name), (_, recorded) in sorted(found.items(), key=lambda one: one[0]):
        yield pytest.param(kind, name, recorded, id=f"{kind}-{name}")


def tokens(text: str) -> list[str]:
    """Its words, marks and blanks, the commonest first; then whole lines, with their ends."""
    words = Counter(re.findall(r"\w+|\s+|[^\w\s]", text))
    lines = Counter(f"{line}\n" for line in text.splitlines() if line)
    half = TOKENS // 2
    return [token for token, _ in (*words.most_common(TOKENS - half), *lines.most_common(half))]


def bombs(text: str) -> Iterator[str]:
    own = tokens(text)
    pairs = list(itertools.permutations(own, 2))
    chosen = pairs if FULL else random.Random(1).sample(pairs, min(PAIRS, len(pairs)))  # noqa: S311 - no secret
    for unit in (*own, *map("".join, chosen)):
        yield unit * (SIZE // len(unit) + 1)


def cost(read: Callable[[], object]) -> float:
    began = time.thread_time()
    with contextlib.suppress(LamplighterError):  # it says so, and that host is its own row
        read()
    return time.thread_time() - began


@pytest.mark.parametrize(("kind", "name", "recorded"), readings())
def test_no_part_of_a_reading_costs_more_than_its_length(kind: str, name: str, recorded: Parts) -> None:
    value = recorded[kind][name]
    text = str(value["text"] if isinstance(value, dict) else value)
    slow = []
    for bomb in bombs(text):
        spent = cost(lambda bomb=bomb: READINGS[kind](recorded, name, bomb))
        if spent > SECONDS:
            slow.append(f"{bomb[:40]!r}: {spent:.1f} s")
            break
    assert not slow


@pytest.mark.parametrize(
    "unit", ["\x1b[", "\x1b]", "\x1b[31", "\x9b", "\r", "\x08", "a\x08", "\x1b[0m", "\n", "\x1b\\"]
)
def test_cleaning_is_linear(unit: str) -> None:
    assert cost(lambda: clean(unit * (SIZE // len(unit)))) < SECONDS


def test_a_completed_command_shows_so_much_and_no_more() -> None:
    shown = Completed(0, "x" * SIZE, "y" * SIZE)
    assert cost(lambda: repr(shown)) < SECONDS
