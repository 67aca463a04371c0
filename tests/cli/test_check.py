from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from lamplighter.cli import main

ROOT = Path(__file__).parents[2]


def check(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["check", *words])
    code = ended.value.code
    return code if isinstance(code, int) else 0


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("LAMPLIGHTER_INVENTORIES", str(tmp_path))
    shutil.copytree(ROOT / "inventories" / "template", tmp_path / "template")
    return Path(shutil.copytree(ROOT / "inventories" / "demo", tmp_path / "demo"))


def test_a_clean_site_ends_with_exit_code_0(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check("demo") == 0
    assert check() == 0, "the template is left out unless it is named"
    said = capsys.readouterr().out.splitlines()
    assert said == said[:3] * 2
    first = r"demo: stocktake\.ics: \d+ freezes in the next 400 days, first \w{3} \d+ \w{3} \d{4}"
    assert re.fullmatch(first, said[0])
    assert said[2] == "demo: no mistakes"
    assert copy.is_dir()


def test_each_mistake_is_one_line_with_its_place(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copy / "approvers").unlink()
    text = (copy / "hosts.yaml").read_text(encoding="utf-8")
    hostile = '"[bold]\\e[31m' + "x" * 200 + '"'
    (copy / "hosts.yaml").write_text(text.replace("192.0.2.11", hostile), encoding="utf-8")
    assert check("demo") == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{copy}/approvers: the file is missing (copy it from inventories/template/")
    assert lines[1].startswith(f"{copy}/hosts.yaml:11: the host `web1`: `ansible_host` is `[bold]\\x1b[31mxx")
    assert lines[-1] == "demo: 2 mistakes"


def test_a_calendar_that_freezes_nothing_is_a_warning(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    over = ("BEGIN:VCALENDAR", "VERSION:2.0", "BEGIN:VEVENT", "UID:1", "SUMMARY:Diwali", "DTSTART:20241031",
            "END:VEVENT", "END:VCALENDAR")
    (copy / "stocktake.ics").write_text("\r\n".join(over), encoding="utf-16")
    assert check("demo") == 0
    said = capsys.readouterr()
    assert "stocktake.ics: freezes nothing in the next 400 days: its events are over" in said.err
    assert check("demo", "--json") == 0
    [first, *_] = json.loads(capsys.readouterr().out)["sites"][0]["remarks"]
    assert first["warning"] is True


def test_json_holds_the_same(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copy / "people.yaml").write_text("people: {}\n", encoding="utf-8")
    assert check("demo", "--json") == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["ok"] is False
    assert [site["site"] for site in answer["sites"]] == ["demo"]
    assert set(answer["sites"][0]["mistakes"][0]) == {"file", "line", "message", "advice"}


def test_a_site_that_is_not_there_ends_with_exit_code_2(copy: Path) -> None:
    assert copy.is_dir()
    assert check("dmeo") == 2
