"""Takes one guard at a time out of the code, and runs the tests that must miss it.

`python -P tests/faults/mutants.py` prints a JSON object: the guards nobody missed, and what else went wrong.
Nothing on disk is changed: each mutant is a forked process that compiles the changed text on import.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import cryptography.hazmat.primitives.asymmetric.ec
import hypothesis
import paramiko
import pydantic
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CASES = ROOT / "tests" / "cases" / "engine_guards.yaml"
AT_ONCE = 2
CALM = ("-W", "ignore::pytest.PytestAssertRewriteWarning")  # hypothesis is there before pytest
WARM = (cryptography, hypothesis, paramiko, pydantic)  # imported once, before the forks


class Mutant(importlib.machinery.SourceFileLoader):
    """Loads one module from a text that lacks its guard."""

    def __init__(self, name: str, path: str, old: str, new: str) -> None:
        super().__init__(name, path)
        self._text = Path(path).read_text(encoding="utf-8").replace(old, new)

    def get_code(self, fullname: str) -> CodeType | None:
        del fullname
        return compile(self._text, self.path, "exec")


class Finder:
    """Finds the one module that is changed; leaves the others to everybody else."""

    def __init__(self, case: dict[str, Any]) -> None:
        self._case = case
        self._name = case["file"].removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        del path, target
        if name != self._name:
            return None
        file = str(ROOT / self._case["file"])
        loader = Mutant(name, file, self._case["old"], self._case["new"])
        return importlib.util.spec_from_file_location(name, file, loader=loader)


def missed(case: dict[str, Any] | None, files: list[str], words: str) -> int:
    """Run the tests in a child; returns its process id. Its status: 0 all passed, 1 one failed."""
    pid = os.fork()
    if pid:
        return pid
    status = 99
    try:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        if case:
            sys.meta_path.insert(0, Finder(case))  # type: ignore[arg-type]
        how = ["-x", "-q", "--noconftest", "-p", "no:cacheprovider", "-p", "no:xdist", "--timeout=60", *CALM]
        status = int(pytest.main([*how, "-k", f"({words}) and not bucket", *files]))
    finally:
        os._exit(status)


def unfit(cases: list[dict[str, Any]]) -> list[str]:
    """Guards that do not stand exactly once where the file says."""
    return [
        case["guard"] for case in cases
        if (ROOT / case["file"]).read_text(encoding="utf-8").count(case["old"]) != 1
    ]


def main() -> int:
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    cases = yaml.safe_load(CASES.read_text(encoding="utf-8"))
    gone = unfit(cases)
    files = sorted({case["tests"][0] for case in cases})
    words = " or ".join(sorted({case["tests"][1] for case in cases}))
    waiting: list[tuple[str, Any]] = [("nothing taken out", (None, files, words))]
    waiting += [
        (case["guard"], (case, [case["tests"][0]], case["tests"][1])) for case in cases
        if case["guard"] not in gone
    ]
    statuses: dict[str, int] = {}
    running: dict[int, str] = {}
    while waiting or running:
        while waiting and len(running) < AT_ONCE:
            name, work = waiting.pop(0)
            running[missed(*work)] = name
        pid, status = os.wait()
        statuses[running.pop(pid)] = os.waitstatus_to_exitcode(status)
    whole = statuses.pop("nothing taken out")
    json.dump({
        "guards": len(cases), "gone": gone, "whole": whole,
        "unnoticed": [name for name, status in statuses.items() if status == 0],
        "unclear": [f"{name}: {status}" for name, status in statuses.items() if status not in {0, 1}],
    }, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
