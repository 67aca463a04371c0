"""`lamplighter store`, and that no other command makes a store or takes another one for it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lamplighter.cli import main
from lamplighter.ledger import Ledger
from lamplighter.site import load_site
from lamplighter.store import open_store

ROOT = Path(__file__).resolve().parents[2]
Call = Callable[..., tuple[int, str]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The demo site with a store that was not made yet."""
    monkeypatch.setenv("LAMPLIGHTER_INVENTORIES", str(tmp_path / "sites"))
    monkeypatch.chdir(ROOT)
    made = Path(shutil.copytree(ROOT / "inventories" / "demo", tmp_path / "sites" / "demo"))
    write(made, f"store: file:{tmp_path}/store")
    return made


def write(folder: Path, entry: str) -> None:
    path = folder / "site.yaml"
    path.write_text(re.sub(r"(?m)^store:.*\n(  .*\n)*", f"{entry.strip()}\n", path.read_text()))


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    def run(*words: str) -> tuple[int, str]:
        try:
            main([*words])
        except SystemExit as ended:
            out, err = capsys.readouterr()
            return int(ended.code or 0), out + err
        raise AssertionError("commands end the process")
    return run


def test_a_store_is_made_by_a_command_and_named_in_the_sites_file(folder: Path, call: Call) -> None:
    code, told = call("check", "demo")
    assert (code, "has no store yet, so nothing can run: lamplighter store new demo" in told) == (0, True)
    code, told = call("store", "new", "demo")
    assert code == 0
    write(folder, told[told.index("store:"):].partition("warning:")[0])
    assert load_site(folder).store.id in told
    code, told = call("verify", "--site", "demo")
    assert (code, "nothing was recorded yet" in told) == (2, True)
    code, told = call("store", "new", "demo")
    assert (code, "names the store" in told) == (2, True)
    assert call("store", "old", "demo")[0] == 2


def test_a_store_that_is_gone_is_neither_sound_nor_made_anew(
    folder: Path, call: Call, tmp_path: Path
) -> None:
    told = call("store", "new", "demo")[1]
    write(folder, told[told.index("store:"):].partition("warning:")[0])
    with Ledger.open(open_store(load_site(folder).store), "run-1", "demo") as ledger:
        ledger.append("opened")
        ledger.seal("Completed")
    assert call("verify", "--site", "demo")[0] == 0
    root = tmp_path / "store"
    root.rename(root.with_name("unmounted"))
    for mounted in (False, True):
        if mounted:
            root.mkdir(mode=0o700)
        for words in (("verify", "--site", "demo"), ("notifications", "demo")):
            code, told = call(*words)
            assert (code, "no store here" in told, "mounted" in told) == (2, True, True)
    assert list(root.iterdir()) == []
