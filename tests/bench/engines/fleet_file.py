"""What every engine is told of the hosts: one JSON file, the same for all."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

COMMAND = 'echo "answer-$LAB_HOST"'
PARALLEL = 50


@dataclass(frozen=True, slots=True)
class Target:
    """One host, and how to log in to it."""

    name: str
    address: str
    port: int
    user: str
    key: str
    known_hosts: str


def write_targets(path: Path, targets: Iterable[Target]) -> Path:
    path.write_text(json.dumps([asdict(target) for target in targets]), encoding="utf-8")
    return path


def read_targets(path: str) -> list[Target]:
    values: list[dict[str, Any]] = json.loads(Path(path).read_text(encoding="utf-8"))
    return [Target(**value) for value in values]
