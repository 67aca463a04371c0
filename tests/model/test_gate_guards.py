"""Each guard of the gate is there for a case that fails without it."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.faults
def test_no_guard_can_be_removed_unnoticed() -> None:
    command = [sys.executable, "-m", "tests.gate_mutants"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
