"""What the lab reads and refuses before it starts anything; needs no rights."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab import SYSTEM_PACKAGES, HostSpec, LabError
from tests.lab.aptsource import AptSource, find_source

ROOT = Path(__file__).resolve().parent.parent


def test_a_mirror_is_read_from_deb822_and_from_one_line_sources(tmp_path: Path) -> None:
    release = {"ID": "debian", "VERSION_CODENAME": "bookworm"}
    parts = tmp_path / "sources.list.d"
    parts.mkdir()
    keyring = tmp_path / "keyring.gpg"
    keyring.touch()
    (parts / "off.sources").write_text(
        "Enabled: no\nTypes: deb\nURIs: http://off.test/\nSuites: bookworm\nComponents: main\n"
    )
    (parts / "on.sources").write_text(
        f"# a comment\nTypes: deb deb-src\nURIs: http://mirror.test/debian\n"
        f"Suites: bookworm\n bookworm-updates\nComponents: main contrib\nSigned-By: {keyring}\n"
    )
    expected = AptSource("http://mirror.test/debian", "bookworm", ("main", "contrib"), keyring)
    assert find_source(tmp_path, release) == expected
    (tmp_path / "sources.list").write_text(
        f"deb-src http://src.test bookworm main\n"
        f"deb [arch=amd64 signed-by={keyring}] http://line.test bookworm main # why\n"
    )
    assert find_source(tmp_path, release) == AptSource("http://line.test", "bookworm", ("main",), keyring)


def test_a_machine_without_a_source_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    with pytest.raises(LabError, match="no apt source for trixie"):
        find_source(tmp_path, {"ID": "debian", "VERSION_CODENAME": "trixie"})


def test_requirements_are_printed_one_a_line() -> None:
    argv = [sys.executable, "-m", "tests.lab", "requirements"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True)
    assert tuple(done.stdout.split()) == SYSTEM_PACKAGES


@pytest.mark.parametrize("name", ["", "Web1", "web_1", "../etc", "-web", "a" * 32])
def test_a_name_that_cannot_be_a_host_name_is_refused(name: str) -> None:
    with pytest.raises(LabError):
        HostSpec(name)
