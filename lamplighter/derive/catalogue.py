"""Finds the runbooks: every module in `flows/` that declares a `RUNBOOK`."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from lamplighter.errors import SelectionError
from lamplighter.model.runbook import Runbook


@dataclass(frozen=True, slots=True)
class Entry:
    """One runbook and where it stands.

    Attributes:
        runbook: its declaration.
        flow: the Prefect flow.
        file: path of its file from the root of the checkout.
    """

    runbook: Runbook
    flow: Any
    file: Path

    @property
    def entrypoint(self) -> str:
        """`flows/patch_linux.py:patch_linux`, as Prefect writes it."""
        return f"{self.file.as_posix()}:{self.runbook.flow_name}"


def home() -> Path:
    """The checkout: LAMPLIGHTER_HOME, else the nearest folder from here upwards that holds `flows/`."""
    named = os.environ.get("LAMPLIGHTER_HOME")
    if named:
        return Path(named)
    here = Path.cwd()
    return next((place for place in (here, *here.parents) if (place / "flows").is_dir()), here)


def discover(root: Path | None = None) -> Mapping[str, Entry]:
    """Import every file in `flows/` and return the runbooks by id.

    Raises:
        SelectionError: a file whose declaration and flow do not fit together.
    """
    root = root or home()
    entries = [_load(root, stem) for stem in _stems(root)]
    return {entry.runbook.id: entry for entry in entries}


def named(runbook_id: str, root: Path | None = None) -> Entry:
    """The runbook of that id, from its own file: a mistake in another one does not stop it.

    Raises:
        SelectionError: there is none, and the closest is named; or its declaration and flow do not fit.
    """
    root = root or home()
    stems = _stems(root)
    stem = runbook_id.replace("-", "_")
    if stem in stems and "_" not in runbook_id:
        return _load(root, stem)
    known = [each.replace("_", "-") for each in stems]
    close = get_close_matches(runbook_id, known, 1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise SelectionError(
        f"there is no runbook {runbook_id!r}", where=str(root), changed="Nothing was run",
        advice=f"{hint}There are: {', '.join(known)}",
    )


def _stems(root: Path) -> list[str]:
    return sorted(file.stem for file in (root / "flows").glob("[!_]*.py"))


def _load(root: Path, stem: str) -> Entry:
    """Import one file of `flows/`."""
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    module = importlib.import_module(f"flows.{stem}")
    runbook = getattr(module, "RUNBOOK", None)
    flow = getattr(module, stem, None)
    if not isinstance(runbook, Runbook) or flow is None or runbook.flow_name != stem:
        raise SelectionError(
            f"needs a RUNBOOK whose id is {stem.replace('_', '-')!r} and a flow named {stem!r}",
            where=f"flows/{stem}.py", advice="CONTRIBUTING.md shows a runbook in full",
        )
    return Entry(replace(runbook, start=flow.fn), flow, Path("flows") / f"{stem}.py")
