"""Every guard of the ledger, store, leases and verifier is missed by a test when it is taken away."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
GUARDS = yaml.safe_load((ROOT / "tests/cases/ledger/guards.yaml").read_text("utf-8"))
pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkout again, so that nobody else runs a mutant."""
    folder = tmp_path_factory.mktemp("mutants")
    for name in ("lamplighter", "tests", "inventories", "flows", "tasks"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "state"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def passes(copy: Path, tests: str) -> bool:
    done = subprocess.run(
        [sys.executable, "-B", "-m", "pytest", "-x", *shlex.split(tests)], cwd=copy, capture_output=True,
        text=True, timeout=200, check=False,
    )
    assert done.returncode in (0, 1), done.stdout[-2000:]
    return done.returncode == 0


@pytest.mark.parametrize("case", GUARDS, ids=lambda case: f"{case['file']}: {case['guard'].strip()[:40]}")
def test_each_guard_is_missed(copy: Path, case: dict[str, Any]) -> None:
    source = copy / "lamplighter" / case["file"]
    text = source.read_text("utf-8")
    assert text.count(case["guard"]) == 1, "the guard stands there once"
    source.write_text(text.replace(case["guard"], case["left"]), "utf-8")
    try:
        assert not passes(copy, case["tests"]), "nobody missed it"
    finally:
        source.write_text(text, "utf-8")


def test_with_every_guard_in_place_they_pass(copy: Path) -> None:
    for tests in sorted({case["tests"] for case in GUARDS}):
        assert passes(copy, tests), tests
