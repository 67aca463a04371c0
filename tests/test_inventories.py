"""Inventories as people have them: hosts, variables, ways in, and what is said."""

from __future__ import annotations

import re
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from lamplighter.errors import SiteError
from lamplighter.site import load_site, look_at_site
from lamplighter.site.files import read_files

ROOT = Path(__file__).parents[1]
CASES = yaml.safe_load((ROOT / "tests" / "cases" / "inventories.yaml").read_text(encoding="utf-8"))
UNPINNED = "no host key is pinned"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = Path(shutil.copytree(ROOT / "inventories" / "demo", tmp_path / "demo"))
    (folder / "calendar.yaml").unlink()
    text = (folder / "site.yaml").read_text(encoding="utf-8")
    (folder / "site.yaml").write_text(text.replace("hosts: web:&prod", "hosts: all"), encoding="utf-8")
    return folder


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


@pytest.mark.parametrize("case", CASES, ids=[each["about"] for each in CASES])
def test_inventories(case: dict[str, Any], site: Path) -> None:
    write(site, case["files"])
    found = look_at_site(site, None, int(time.time()))
    mistakes = [str(one).replace(f"{site}/", "").replace(f"{site}", "") for one in found.mistakes]
    told = [one for one in mistakes if UNPINNED not in one]
    wanted = case.get("told", [])
    for pattern, sentence in zip(wanted, told, strict=False):
        assert re.search(pattern, sentence), sentence
    assert len(told) == len(wanted), told
    remarks = [one.text for one in found.remarks if one.warning]
    assert len(remarks) == len(case.get("remarks", ())), remarks
    for pattern, sentence in zip(case.get("remarks", ()), remarks, strict=True):
        assert re.search(pattern, sentence), sentence
    hosts = read_files(site).inventory.hosts
    for name, values in case.get("hosts", {}).items():
        assert {key: hosts[name].vars.get(key) for key in values} == values, name


CACHED = ("group_vars/all.yml", "host_vars/web1/deep/x", "notify.yaml", "directory.yaml")


@pytest.mark.parametrize("name", CACHED)
def test_a_change_of_any_file_is_seen(name: str, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lamplighter.site.SETTLED", -1.0)  # else files this young are read again each time
    assert load_site(site) is load_site(site)
    write(site, {name: "a: [\n"})
    with pytest.raises(SiteError, match=re.escape(name)):
        load_site(site)


@pytest.mark.parametrize("name", ["hosts.yaml", "people.yaml", "approvers", "host_keys", "site.yaml"])
def test_a_byte_order_mark_is_no_mistake(name: str, site: Path) -> None:
    before = [one.message for one in look_at_site(site, None, int(time.time())).mistakes]
    (site / name).write_bytes(b"\xef\xbb\xbf" + (site / name).read_bytes())
    assert [one.message for one in look_at_site(site, None, int(time.time())).mistakes] == before
    (site / name).write_bytes((site / name).read_bytes().decode("utf-8-sig").encode("utf-16"))
    found = look_at_site(site, None, int(time.time())).mistakes
    assert any("UTF-16" in one.message for one in found)
