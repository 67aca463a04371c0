"""Which code a runbook runs: one digest over everything that decides what it does to a host.

That is its flow's file, the module of its operation, whatever those import from the same package, directly
or not, and the other files of that package whose names they mention: shell and PowerShell scripts, tables.
The engine itself is not in it; its version stands in every plan and ledger.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from lamplighter.model.runbook import Runbook

DOMAIN = b"lamplighter-code@v1\n"


def code_digest(runbook: Runbook) -> str:
    """`sha256:...` over a runbook's code as it lies on disk when first asked; empty without an operation."""
    if runbook.operation is None:
        return ""
    module = sys.modules.get(getattr(runbook.operation, "__module__", ""))
    file = getattr(module, "__file__", None)
    return _digest(Path(file), runbook.flow_name) if file else ""


@lru_cache(maxsize=64)
def _digest(module: Path, flow: str) -> str:
    package = module.parent
    digest = hashlib.sha256(DOMAIN)
    flow_file = package.parent / "flows" / f"{flow}.py"
    files = {*_closure(module, package), *([flow_file] if flow_file.is_file() else [])}
    for file in sorted(files):
        content = file.read_bytes()
        name = file.relative_to(package.parent).as_posix()
        digest.update(f"{name}\n{len(content)}\n".encode())
        digest.update(content)
    return f"sha256:{digest.hexdigest()}"


def _closure(module: Path, package: Path) -> set[Path]:
    found: set[Path] = set()
    todo = [module]
    while todo:
        file = todo.pop()
        if file in found:
            continue
        found.add(file)
        if file.suffix == ".py":
            todo += _imported(file, package)
            found |= set(_mentioned(file, package))
    return found


def _imported(file: Path, package: Path) -> Iterator[Path]:
    """Modules of the package that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(file.read_bytes())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            head, _, rest = name.partition(".")
            path = package.parent / head / (rest.replace(".", "/") + ".py")
            if head == package.name and rest and path.is_file():
                yield path


def _mentioned(file: Path, package: Path) -> Iterator[Path]:
    """Other files of the package whose name, or name without its ending, stands in a text of the file."""
    texts = {
        node.value for node in ast.walk(ast.parse(file.read_bytes()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    for other in package.rglob("*"):
        if other.is_file() and other.suffix not in {".py", ".pyc"} and {other.name, other.stem} & texts:
            yield other
