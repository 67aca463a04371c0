"""Removes one guard of the gate at a time, and runs the cases: each must notice.

Works on a copy of the package in a temporary folder, so it runs in a process of its own:
`python -m tests.gate_mutants` prints the guards that nobody missed, and exits 1 when there are any.
"""

from __future__ import annotations

import importlib
import shutil
import sys
import tempfile
from pathlib import Path

import yaml

PACKAGE = Path(__file__).parents[1] / "lamplighter"
GUARDS = Path(__file__).parent / "cases" / "gate_guards.yaml"


def survivors() -> tuple[int, list[str]]:
    """How many mutants there are, and those that every case still passes with."""
    count, found = 0, []
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "lamplighter"
        shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
        sys.path.insert(0, folder)
        sys.dont_write_bytecode = True
        if noticed():
            return 0, ["the cases fail with nothing removed"]
        for file, guards in yaml.safe_load(GUARDS.read_text()).items():
            for guard, remains in guards.items():
                for left in remains:
                    count += 1
                    found += try_one(copy / "model" / file, guard, left)
    return count, found


def try_one(source: Path, guard: str, left: str) -> list[str]:
    """What is wrong with one mutant; empty when a case notices it."""
    text = source.read_text()
    if text.count(guard) != 1:
        return [f"{source.name}: {guard!r} stands there {text.count(guard)} times"]
    source.write_text(text.replace(guard, left))
    missed = noticed()
    source.write_text(text)
    return [] if missed else [f"{source.name}: nobody misses {guard!r} -> {left!r}"]


def noticed() -> bool:
    """Load the code anew and tell whether a case fails, or the code falls over."""
    for name in list(sys.modules):
        if name.split(".")[0] == "lamplighter" or name == "tests.gate_cases":
            del sys.modules[name]
    importlib.invalidate_caches()
    try:
        cases = importlib.import_module("tests.gate_cases")
        return any(case.check() for case in cases.cases())
    except Exception:  # noqa: BLE001 - a mutant may fall over in any way, and that is noticed as well
        return True


if __name__ == "__main__":
    number, lines = survivors()
    sys.stdout.write("\n".join(lines or [f"{number} guards, each missed when removed"]) + "\n")
    sys.exit(1 if lines else 0)
