"""The list of crash points is complete, and a crash is a real one."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

from lamplighter import crashpoints

ROOT = Path(crashpoints.__file__).parent


def test_the_list_names_exactly_the_points_in_the_source() -> None:
    used: set[str] = set()
    for path in ROOT.rglob("*.py"):
        if path.name != "crashpoints.py":
            used.update(re.findall(r'(?:crashpoint|due)\("([^"]+)"\)', path.read_text("utf-8")))
    drafts = {f"{point}.{place}" for point in ("put", "swap") for place in ("before", "half", "written")}
    assert used | drafts == set(crashpoints.NAMES)


def run(variable: str) -> subprocess.CompletedProcess[str]:
    code = (
        "from lamplighter.crashpoints import crashpoint\n"
        "for _ in range(3): crashpoint('put.named'); print('past', flush=True); crashpoint('put.durable')"
    )
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False,
        env={"LAMPLIGHTER_CRASH": variable},
    )


def test_a_process_dies_at_the_named_pass_and_nowhere_else() -> None:
    for variable, passes in (("put.named:2", 1), ("put.durable", 1), ("*:5", 2), ("put.named:4", 3), ("", 3)):
        done = run(variable)
        assert done.stdout.count("past") == passes
        assert done.returncode == (0 if passes == 3 else -signal.SIGKILL)


def test_a_misspelt_point_is_refused() -> None:
    assert "no crash point is called 'put.nmaed'" in run("put.nmaed:1").stderr
