"""Everything a user meets is documented: runbooks, commands, options, settings, environment variables."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from lamplighter.cli import commands, main
from lamplighter.cli.sync import FILES, derived
from lamplighter.derive.book import NOTES, flow_steps, notes
from lamplighter.derive.catalogue import discover
from lamplighter.derive.reference import ENVIRONMENT, keys

ROOT = Path(__file__).parents[1]
ENTRIES = discover(ROOT)
CODE = [path for folder in ("lamplighter", "tasks", "flows") for path in (ROOT / folder).rglob("*.py")]


@pytest.mark.parametrize("name", ENTRIES)
def test_a_runbook_is_documented(name: str) -> None:
    entry = ENTRIES[name]
    assert notes(entry).keys() == set(NOTES), f"flows/{entry.file.name} needs these sections in its docstring"
    assert all(notes(entry).values())
    assert flow_steps(entry), "a flow is made of documented steps"
    page = (ROOT / "docs" / "runbooks" / f"{name}.md").read_text()
    for said in (entry.runbook.title, entry.runbook.function, str(entry.runbook.owner), "## Whom it wakes"):
        assert said in page
    options = entry.flow.parameters.properties
    assert options
    for option, said_of_it in options.items():
        assert said_of_it.get("description"), f"{name}: the parameter {option} has no line in Args"
        assert f"`{option}`" in page


@pytest.mark.parametrize("name", commands())
def test_a_command_is_documented(name: str) -> None:
    command = commands()[name]
    page = (ROOT / "docs" / "commands.md").read_text()
    assert command.help
    assert f"## lamplighter {name}\n" in page
    for one in command.params:
        assert getattr(one, "help", ""), f"lamplighter {name}: {one.name} says nothing of itself"


@pytest.mark.parametrize("name", FILES)
def test_a_setting_is_documented(name: str) -> None:
    page = (ROOT / "docs" / "settings.md").read_text()
    for key, _, meaning in keys(FILES[name]):
        assert meaning, f"{name}: {key} has no docstring below its field"
        assert f"| `{key}` |" in page


def test_every_environment_variable_is_documented() -> None:
    read = {name for path in CODE for name in re.findall(r"LAMPLIGHTER_[A-Z_]+", path.read_text())}
    assert read == set(ENVIRONMENT)


def test_every_file_of_a_site_is_a_setting() -> None:
    folders = [ROOT / "inventories" / site for site in ("demo", "template")]
    models = {path.name for folder in folders for path in folder.glob("*.yaml")}
    assert models - {"hosts.yaml"} <= FILES.keys(), "hosts.yaml is Ansible's format"


def test_the_committed_pages_are_what_they_are_derived_from() -> None:
    stale = [path.name for path, text in derived(ROOT).items() if path.read_text() != text]
    assert not stale, "run lamplighter sync"


def test_no_derived_page_changes_with_the_day(monkeypatch: pytest.MonkeyPatch) -> None:
    before = derived(ROOT)
    monkeypatch.setattr("time.time", lambda: 2_000_000_000.0)
    assert derived(ROOT) == before


def test_a_stale_page_fails_the_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("lamplighter.cli.sync.home", lambda: tmp_path)
    page = tmp_path / "docs" / "runbooks" / "gone.md"
    page.parent.mkdir(parents=True)
    page.write_text("left over\n")
    text = tmp_path / "docs" / "matrix.md"
    monkeypatch.setattr("lamplighter.cli.sync.derived", lambda _: {text: "new\n"})
    with pytest.raises(SystemExit) as ended:
        main(["sync", "--check"])
    assert ended.value.code == 1
    assert "2 derived files are stale" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main(["sync"])
    assert not ended.value.code
    assert text.read_text() == "new\n"
    assert not page.exists()


def test_the_site_can_be_built_and_searched(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html"]
    command += ["-d", str(tmp_path / "doctrees"), "docs", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    index = (tmp_path / "site" / "searchindex.js").read_text()
    assert '"runbooks/patch-linux"' in index
    assert "Linux patch cycle" in (tmp_path / "site" / "runbooks" / "patch-linux.html").read_text()
