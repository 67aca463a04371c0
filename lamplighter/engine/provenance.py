"""Which code a run is carried out by: one digest over everything of the checkout that its process loads.

That is the whole of `lamplighter/`; the flow's file, the module of its operation, whatever those import from
the checkout, directly or not, and the other files beside those modules whose names they mention: shell and
PowerShell scripts, tables. A plan holds it, so that what was signed is what runs; so does a decision on a
stage.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

import lamplighter
from lamplighter.model.runbook import Runbook

DOMAIN = b"lamplighter-code@v2\n"
ENGINE = Path(lamplighter.__file__).resolve().parent


def code_of(runbook: Runbook) -> str:
    """As a plan holds it: the version, for people, and the digest, `0.1.0 sha256:...`."""
    return f"{lamplighter.__version__} {code_digest(runbook)}"


def code_digest(runbook: Runbook) -> str:
    """`sha256:...` over a runbook's code as it lies on disk when first asked; empty without an operation."""
    place = _place(runbook)
    return _digest(*place) if place else ""


def code_files(runbook: Runbook) -> tuple[Path, ...]:
    """The files that the digest is over, sorted; none without an operation."""
    place = _place(runbook)
    return _files(*place) if place else ()


def _place(runbook: Runbook) -> tuple[Path, Path, str] | None:
    """The checkout's root, the operation's module, the flow's name."""
    module = sys.modules.get(getattr(runbook.operation, "__module__", ""))
    name = getattr(module, "__file__", None)
    if module is None or runbook.operation is None or not name:
        return None
    file = Path(name).resolve()
    return file.parents[module.__name__.count(".")], file, runbook.flow_name


@lru_cache(maxsize=64)
def _digest(root: Path, module: Path, flow: str) -> str:
    digest = hashlib.sha256(DOMAIN)
    for file in _files(root, module, flow):
        content = file.read_bytes()
        name = file.relative_to(root if file.is_relative_to(root) else ENGINE.parent).as_posix()
        digest.update(f"{name}\n{len(content)}\n".encode())
        digest.update(content)
    return f"sha256:{digest.hexdigest()}"


def _files(root: Path, module: Path, flow: str) -> tuple[Path, ...]:
    engine = {file for file in ENGINE.rglob("*") if file.is_file() and file.suffix != ".pyc"}
    start = [file for file in (module, root / "flows" / f"{flow}.py") if file.is_file()]
    return tuple(sorted(engine | _closure(start, root)))


def _closure(start: Iterable[Path], root: Path) -> set[Path]:
    found: set[Path] = set()
    tables: dict[Path, list[Path]] = {}
    todo = list(start)
    while todo:
        file = todo.pop()
        if file in found or file.is_relative_to(ENGINE):
            continue
        found.add(file)
        todo += (around for around in (file.parent / "__init__.py",) if around.is_file())
        nodes = list(ast.walk(ast.parse(file.read_bytes())))
        todo += _imported(nodes, root)
        if file.parent not in tables:
            tables[file.parent] = _tables(file.parent)
        texts = {node.value for node in nodes if isinstance(node, ast.Constant)}
        found |= {one for one in tables[file.parent] if one.name in texts or one.stem in texts}
    return found


def _imported(nodes: Iterable[ast.AST], root: Path) -> Iterator[Path]:
    """Files of the checkout that a module imports, wherever in it, and those of the packages around them."""
    for node in nodes:
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            place = root.joinpath(*name.split("."))
            yield from (one for one in (place.with_suffix(".py"), place / "__init__.py") if one.is_file())


def _tables(folder: Path) -> list[Path]:
    """What lies below a package's folder and is no Python: scripts, tables."""
    return [one for one in folder.rglob("*") if one.is_file() and one.suffix not in {".py", ".pyc"}]
