"""Every guard of engine, ledger and host keys is there for a test that fails without it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.assurance import report
from tests.bench.rows import Row

pytestmark = pytest.mark.faults


def test_no_guard_can_be_taken_out_unnoticed() -> None:
    program = Path(__file__).with_name("mutants.py")
    done = subprocess.run(
        [sys.executable, "-P", str(program)], capture_output=True, text=True, check=False, timeout=280
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert not found["gone"], "not once in their file any more; mend tests/cases/engine_guards.yaml"
    assert found["whole"] == 0, "the tests fail with nothing taken out"
    assert not found["unclear"]
    assert not found["unnoticed"], "no test misses these guards"
    report("mutations", [
        Row("engine_guards_taken_out", found["guards"], "guards"),
        Row("engine_guards_unnoticed", len(found["unnoticed"]), "guards", 0),
    ])
