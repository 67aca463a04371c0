"""Which flows a checkout has, and that one of them does not need the others."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lamplighter.derive.catalogue import discover, named
from lamplighter.errors import SelectionError

ROOT = Path(__file__).parents[1]
ASK = "import sys; from lamplighter.derive.catalogue import named; print(named(sys.argv[1]).entrypoint)"


@pytest.mark.parametrize("name", ["patch-linx", "patch_linux", "../patch-linux", "steps", "", "_x", "a/b"])
def test_what_is_no_runbook_is_said_to_be_none(name: str) -> None:
    with pytest.raises(SelectionError, match=r"there is no runbook .*patch-linux"):
        named(name)


def test_a_broken_flow_stops_itself_alone(tmp_path: Path) -> None:
    for folder in ("flows", "tasks"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "flows" / "half_written.py").write_text("import nothing_of_that_name\n")
    (tmp_path / "flows" / "no_declaration.py").write_text("RUNBOOK = None\n")

    def ask(name: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", ASK, name], env=os.environ | {"LAMPLIGHTER_HOME": str(tmp_path)},
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )

    assert ask("patch-linux").stdout == "flows/patch_linux.py:patch_linux\n"
    assert "nothing_of_that_name" in ask("half-written").stderr
    assert "needs a RUNBOOK whose id is 'no-declaration'" in ask("no-declaration").stderr


def test_every_check_begins_under_the_stage_of_its_function() -> None:
    """A flow without an operation has no ledger that would ask: `open_check` does, first of all."""
    for entry in discover(ROOT).values():
        tree = ast.parse((ROOT / entry.file).read_text())
        (body,) = (
            node.body for node in tree.body
            if isinstance(node, ast.FunctionDef) and node.name == entry.runbook.flow_name
        )
        first = ast.unparse(body[1])  # behind its docstring
        wanted = "with open_" if entry.runbook.changes else "opened = open_check(RUNBOOK, site)"
        assert first.startswith(wanted), entry.file
