"""Every `.ps1` keeps the discipline; a real grammar reads them, because no PowerShell is at hand."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import tree_sitter_pwsh
import yaml
from jsonschema import Draft202012Validator
from tree_sitter import Language, Node, Parser

from lamplighter.model.powershell import PowerShellScript
from lamplighter.transports import winrm_bootstrap as bootstrap
from tasks import powershell

RULES = yaml.safe_load((Path(__file__).parents[1] / "cases/powershell/rules.yaml").read_text())
VERBS = set(RULES["verbs"].split())
READING = set(RULES["cmdlets"]["reading"])
INVOKING = RULES["cmdlets"]["invoking"]
CMDLETS = READING | set(RULES["cmdlets"]["changing"]) | INVOKING.keys()
BOOTSTRAP = Path(bootstrap.__file__).with_suffix(".ps1")
ACTIONS = [powershell.FOLDER / f"{name}.ps1" for name in powershell.names()]
action = pytest.mark.parametrize("path", ACTIONS, ids=lambda path: path.stem)
script = pytest.mark.parametrize("path", [*ACTIONS, BOOTSTRAP], ids=lambda path: path.stem)


@cache
def tree(path: Path) -> Node:
    return Parser(Language(tree_sitter_pwsh.language())).parse(path.read_bytes()).root_node


def nodes(root: Node, *kinds: str) -> Iterator[Node]:
    if root.type in kinds:
        yield root
    for child in root.children:
        yield from nodes(child, *kinds)


def text(node: Node) -> str:
    return (node.text or b"").decode()


def variable(node: Node) -> str:
    return text(next(nodes(node, "variable"))).removeprefix("$")


def declared(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.with_suffix(".json").read_text()))


def parameters(path: Path) -> dict[str, str]:
    """Name and .NET type of each parameter."""
    return {
        variable(node): text(next(nodes(node, "type_literal")))[1:-1]
        for node in nodes(tree(path), "script_parameter")
    }


def changes(path: Path) -> bool:
    """Whether a script calls anything that is not known to read only."""
    called = {text(node) for node in nodes(tree(path), "command_name")}
    methods = {text(node).strip("'") for node in nodes(tree(path), "verbatim_string_characters")}
    harmless = {name for name, allowed in INVOKING.items() if methods & set(allowed)}
    return bool(called - READING - harmless) or any(nodes(tree(path), "command_name_expr"))


def test_there_are_actions() -> None:
    assert len(ACTIONS) >= 4


@script
def test_it_parses(path: Path) -> None:
    assert not tree(path).has_error
    assert b"\t" not in path.read_bytes()
    assert path.read_bytes().isascii(), "the console's code page would decide what it says"


@pytest.mark.parametrize(
    "broken",
    [
        "Get-Service | Where-Object { $_.Status", 'Write-Host "hello', "if $x -eq 1 { 'a' }",
        "Get-Service | | Sort-Object", '$x = @"\nabc\n',
    ],
)  # fmt: skip
def test_the_grammar_notices_mistakes(broken: str) -> None:
    assert Parser(Language(tree_sitter_pwsh.language())).parse(broken.encode()).root_node.has_error


@action
def test_it_is_named_by_verb_and_noun(path: Path) -> None:
    verb, _, noun = path.stem.partition("-")
    assert verb in VERBS
    assert noun.isalpha()
    assert noun[0].isupper()


@action
def test_it_has_help_for_itself_and_each_parameter(path: Path) -> None:
    help_text = text(next(nodes(tree(path), "comment")))
    assert help_text.startswith("<#\n.SYNOPSIS\n")
    assert ".DESCRIPTION" in help_text
    assert f".OUTPUTS\nOne JSON object, as {path.stem}.json declares it." in help_text
    for name in parameters(path):
        assert f".PARAMETER {name}\n" in help_text


@script
def test_it_stops_at_the_first_error(path: Path) -> None:
    statements = [text(node) for node in nodes(tree(path), "pipeline")]
    assert statements[0] == "$ErrorActionPreference = 'Stop'"


@action
def test_every_parameter_is_typed_as_its_schema_says(path: Path) -> None:
    schema = declared(path)["parameters"]
    found = parameters(path)
    properties = {name: rule for name, rule in schema["properties"].items() if name != "WhatIf"}
    assert found.keys() == properties.keys()
    assert schema["additionalProperties"] is False
    for name, kind in found.items():
        rule = properties[name]
        choices = {"string" if isinstance(item, str) else "?" for item in rule.get("enum", ())}
        assert choices | {rule.get("type", "string")} <= set(RULES["types"][kind])


@action
def test_mandatory_parameters_are_required(path: Path) -> None:
    mandatory = {
        variable(node)
        for node in nodes(tree(path), "script_parameter")
        if any(text(name) == "Mandatory" for name in nodes(node, "simple_name"))
    }
    assert mandatory == set(declared(path)["parameters"].get("required", ()))


@script
def test_it_calls_known_cmdlets_only(path: Path) -> None:
    called = {text(node) for node in nodes(tree(path), "command_name")}
    extra = {"ConvertFrom-Json"} if path == BOOTSTRAP else set()
    assert called - CMDLETS - extra == set(), "look it up, then add it to rules.yaml"


@action
def test_it_asks_before_it_changes_anything(path: Path) -> None:
    arguments = {text(node) for node in nodes(tree(path), "simple_name")}
    asks = "SupportsShouldProcess" in arguments and "ShouldProcess" in arguments
    assert any(text(node) == "CmdletBinding" for node in nodes(tree(path), "attribute_name"))
    assert changes(path) == asks == ("WhatIf" in declared(path)["parameters"]["properties"])


@action
def test_it_writes_one_json_object_with_the_declared_keys(path: Path) -> None:
    last = text(list(nodes(tree(path), "pipeline"))[-1])
    assert last.startswith("ConvertTo-Json -InputObject $fact -Depth ")
    assert last.endswith(" -Compress")
    found = nodes(tree(path), "assignment_expression")
    assignments = [node for node in found if text(node).startswith("$fact = [ordered]@{")]
    assert len(assignments) == 1
    literal = next(nodes(assignments[0], "hash_literal_expression"))
    keys = [text(next(nodes(entry, "key_expression"))) for entry in direct(literal, "hash_entry")]
    schema = declared(path)["output"]
    assert keys == schema["required"] == list(schema["properties"])
    assert schema["additionalProperties"] is False


def direct(root: Node, kind: str) -> Iterator[Node]:
    """Nodes of a kind, not looking inside them."""
    for child in root.children:
        if child.type == kind:
            yield child
        elif child.type == "hash_literal_body":
            yield from direct(child, kind)


@action
def test_its_schemas_are_schemas(path: Path) -> None:
    schemas = declared(path)
    assert schemas.keys() == {"parameters", "output"}
    for schema in schemas.values():
        Draft202012Validator.check_schema(schema)


@action
def test_it_is_short_and_narrow(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) <= 120
    assert all(len(line) <= 110 for line in lines)


@action
def test_loading_gives_text_schemas_and_digest(path: Path) -> None:
    loaded = powershell.load(path.stem)
    digest = subprocess.run(["sha256sum", path], capture_output=True, check=True, text=True).stdout.split()[0]
    assert loaded.digest == f"sha256:{digest}"
    assert loaded.parameters == declared(path)["parameters"]


def test_the_bootstrap_fits_a_command_line_of_cmd() -> None:
    line = " ".join((bootstrap.COMMAND, *bootstrap.ARGUMENTS))
    assert len(line) < 8191
    assert not set(line) & set("%^&|<>\"'`\n")


@pytest.mark.skipif(shutil.which("pwsh") is None, reason="no PowerShell here; run it where there is one")
def test_powershell_itself_parses_them_and_runs_the_bootstrap() -> None:
    check = (
        "$wrong = $null; [void][System.Management.Automation.Language.Parser]::ParseFile("
        "$args[0], [ref]$null, [ref]$wrong); $wrong.Count"
    )
    for path in (*ACTIONS, BOOTSTRAP):
        argv = ["pwsh", "-NoProfile", "-Command", check, path]
        assert subprocess.run(argv, capture_output=True, check=True, text=True).stdout.strip() == "0"
    echo = PowerShellScript("Get-Echo", "param([string]$Text)\n@{ text = $Text } | ConvertTo-Json -Compress")
    told = {"text": "it's \"quoted\" \u00e9"}
    stdin = bootstrap.request(echo, {"Text": told["text"]}, "frame:")
    done = subprocess.run(["pwsh", *bootstrap.ARGUMENTS], input=stdin, capture_output=True, check=False)
    assert bootstrap.answer(echo, "frame:", done.returncode, done.stdout, done.stderr).output == told
