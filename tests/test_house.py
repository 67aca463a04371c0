"""The rules of the house that no linter knows."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from functools import lru_cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LONGEST_FILE = {"tests": 480}
USUALLY = 400
LONGEST_FUNCTION = 45
TRANSPORTS = {
    "paramiko": "ssh", "winrm": "winrm", "requests": "winrm", "spnego": "winrm", "ldap3": "ldap",
    "boto3": "s3", "botocore": "s3",
}
PREFECT_LIVES_IN = re.compile(
    r"flows/.*|tasks/steps\.py|lamplighter/(artifacts|form|orchestrator|worker|derive/timetable)\.py"
)


@lru_cache
def _tracked() -> tuple[Path, ...]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True,
        text=True, check=True,
    ).stdout.splitlines()
    return tuple(sorted(Path(name) for name in set(listed) if (ROOT / name).is_file()))


def _sources(*folders: str) -> list[Path]:
    return [path for path in _tracked() if path.suffix == ".py" and path.parts[0] in folders]


def _imports(path: Path) -> set[str]:
    return _imported((ROOT / path).read_text(encoding="utf-8"))


def _imported(text: str) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
        elif isinstance(node, ast.Call) and re.search(r"import_module|__import__", ast.unparse(node.func)):
            found |= {ast.unparse(argument).strip("'").split(".")[0] for argument in node.args[:1]}
    return found


@pytest.mark.parametrize("library", TRANSPORTS)
def test_one_family_of_files_touches_a_transport_library(library: str) -> None:
    allowed = f"lamplighter/transports/{TRANSPORTS[library]}"
    users = [path for path in _sources("lamplighter", "tasks", "flows") if library in _imports(path)]
    assert users == [path for path in users if path.as_posix().startswith(allowed)]


@pytest.mark.parametrize("text", [
    "import paramiko", "import os, paramiko.channel as c", "from paramiko import Transport",
    "def f():\n    from paramiko.channel import Channel", "importlib.import_module('paramiko.channel')",
    "try:\n    __import__('paramiko')\nexcept ImportError:\n    pass",
])
def test_the_rule_sees_every_way_to_use_a_library(text: str) -> None:
    assert "paramiko" in _imported(text)
    assert "paramiko" not in _imported("from lamplighter.transports import ssh as paramiko")


def test_prefect_is_imported_in_five_places_only() -> None:
    users = [path for path in _sources("lamplighter", "tasks", "flows") if "prefect" in _imports(path)]
    assert users
    assert all(PREFECT_LIVES_IN.fullmatch(path.as_posix()) for path in users)


def test_the_model_asks_no_clock_and_touches_no_file() -> None:
    forbidden = re.compile(
        r"\b(time\.time|time\.monotonic|datetime\.now|date\.today|utcnow|open|subprocess|socket|os\.environ)\b\("
    )
    for path in _sources("lamplighter"):
        if path.parts[1] == "model":
            text = (ROOT / path).read_text(encoding="utf-8")
            assert not forbidden.findall(text), path


def test_no_flow_shadows_a_module() -> None:
    shadowed = {"ssh", "winrm", "ldap", "s3", "email", "calendar", "platform", "secrets"}
    assert not shadowed & {path.stem for path in _sources("flows")}


def test_files_and_functions_stay_short() -> None:
    long = []
    for path in _sources("lamplighter", "tasks", "flows", "tests"):
        text = (ROOT / path).read_text(encoding="utf-8")
        if text.count("\n") > LONGEST_FILE.get(path.parts[0], USUALLY):
            long.append(f"{path}: {text.count(chr(10))} lines")
        long += [
            f"{path}:{node.lineno}: {node.name} has {_length(node)} lines"
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and _length(node) > LONGEST_FUNCTION
        ]
    assert long == []


def _length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
    return (node.end_lineno or first.lineno) - first.lineno + 1


def test_nothing_secret_and_nothing_of_one_machine_is_committed() -> None:
    private = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\n[A-Za-z0-9+/=\n]{64}")
    index = re.compile(rb"^(--(extra-)?index-url|--find-links|--trusted-host)", re.MULTILINE)
    for path in _tracked():
        data = (ROOT / path).read_bytes()
        assert not private.search(data), path
        assert f"{ROOT}/".encode() not in data, path
        if path.name.startswith("requirements"):
            assert not index.search(data), path
            assert b"://" not in data, path


def test_every_folder_of_the_product_is_type_checked() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    product = {path.parts[0] for path in _tracked() if path.suffix == ".py"} - {"tests", "docs", "tools"}
    assert product == set(settings["tool"]["mypy"]["packages"])


def _attributes(docstring: str) -> set[str]:
    """Names that a class's docstring lists below `Attributes:`."""
    section = re.split(r"\n {4}(?! )", docstring.partition("Attributes:\n")[2], maxsplit=1)[0]
    lines = section.splitlines()
    listed = (re.match(r" {8}(\w+(?:, \w+)*): ", line) for line in lines if line.strip())
    return {name for found in listed if found for name in found[1].split(", ")}


def _holds(node: ast.ClassDef) -> set[str]:
    """Names that a class declares, sets or defines."""
    found = {one.name for one in node.body if isinstance(one, ast.FunctionDef)}
    for one in ast.walk(node):
        if isinstance(one, ast.Attribute | ast.Name) and isinstance(one.ctx, ast.Store):
            found.add(one.attr if isinstance(one, ast.Attribute) else one.id)
    return found


def test_a_docstring_lists_no_attribute_that_is_gone() -> None:
    gone = []
    for path in _sources("lamplighter", "tasks", "flows"):
        for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and not node.bases:
                listed = _attributes(ast.get_docstring(node, clean=False) or "")
                gone += [f"{path}: {node.name}.{name}" for name in sorted(listed - _holds(node))]
    assert gone == []
