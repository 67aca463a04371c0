"""PowerShell actions: one verb and noun per `.ps1`, and a `.json` beside it with what goes in and comes out.

The rules they keep are tested in `tests/tasks/test_powershell.py`: comment-based help, `[CmdletBinding()]`
with `SupportsShouldProcess` where something is changed, typed parameters, `$ErrorActionPreference = 'Stop'`,
approved verbs, no aliases, one JSON object out. None of them ran on Windows yet: see docs/windows-hosts.md.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path

from lamplighter.model.powershell import PowerShellScript

FOLDER = Path(__file__).parent


@functools.cache
def load(name: str) -> PowerShellScript:
    """Read an action.

    Args:
        name: verb and noun, such as `Get-HostFact`.

    Raises:
        FileNotFoundError: there is none of that name.
    """
    path = FOLDER / f"{name}.ps1"
    declared = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    text = path.read_text(encoding="utf-8")
    return PowerShellScript(name, text, declared["parameters"], declared["output"])


def names() -> tuple[str, ...]:
    """Every action there is, sorted."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.ps1")))
