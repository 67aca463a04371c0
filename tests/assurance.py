"""What the fault campaigns share: how much to do, and where the figures go.

`LAMPLIGHTER_TORTURE=1` (`make torture`) runs the full numbers and writes them to docs/assurance/; otherwise
a small part is run, printed and not kept.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from tests.bench.rows import Row

FULL = os.environ.get("LAMPLIGHTER_TORTURE") == "1"
OUT = Path(__file__).parents[1] / "docs" / "assurance"


def much(small: int, full: int) -> int:
    """How often: in CI, and in the campaign."""
    return full if FULL else small


def report(campaign: str, rows: Sequence[Row]) -> None:
    """Print the figures, keep them when they are the full ones, and fail when a goal is missed."""
    for row in rows:
        print(row)  # noqa: T201 - figures are what a campaign is for
    if FULL:
        OUT.mkdir(parents=True, exist_ok=True)
        path = OUT / f"{campaign}.json"
        known = {one["name"]: one for one in json.loads(path.read_text())["rows"]} if path.exists() else {}
        known |= {row.name: row.to_json() for row in rows}
        path.write_text(json.dumps({"rows": list(known.values())}, indent=2) + "\n", encoding="utf-8")
    missed = [row.name for row in rows if not row.met]
    assert not missed, f"goals missed: {missed}"
