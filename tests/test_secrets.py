from __future__ import annotations

import copy
import pickle
import time
from pathlib import Path

import pytest

from lamplighter.errors import SecretError
from lamplighter.secrets import MASK, MAX_BYTES, Secret, resolve

CANARY = "canary-8f2e1c"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LL_SECRET", CANARY)
    monkeypatch.setenv("LL_EMPTY", "")


def private(path: Path, data: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(data)
    path.chmod(mode)
    return path


def test_each_kind_of_reference(tmp_path: Path) -> None:
    file = private(tmp_path / "s", f"{CANARY}\n".encode())
    assert resolve("env:LL_SECRET").reveal() == CANARY
    assert resolve(f"file:{file}").reveal() == CANARY
    assert resolve(f"cmd:cat '{file}'").reveal() == CANARY


def test_only_the_last_line_break_goes(tmp_path: Path) -> None:
    file = private(tmp_path / "s", b" two\nlines \r\n")
    assert resolve(f"file:{file}").reveal() == " two\nlines "


def test_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    private(tmp_path / "s", b"x")
    assert resolve("file:~/s").reveal() == "x"


def test_a_secret_shows_itself_nowhere() -> None:
    secret = resolve("env:LL_SECRET")
    shown = [repr(secret), str(secret), f"{secret}", f"{secret:>20}", f"{[secret]}", f"{secret!r}"]
    assert not any(CANARY in text for text in shown)
    assert repr(secret) == "<Secret env:LL_SECRET>"
    assert str(secret) == MASK
    for take_copy in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            take_copy(secret)
    assert not hasattr(secret, "__dict__")
    assert repr(Secret("x")) == f"<Secret {MASK}>"


@pytest.mark.parametrize("text", [CANARY, f"vault:{CANARY}", "", "env:", "file: ", f"ENV:{CANARY}"])
def test_what_is_no_reference_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(SecretError) as caught:
        resolve(text)
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("env:LL_MISSING", "no such environment variable"),
        ("env:LL_EMPTY", "empty"),
        ("file:/nonexistent/x", "No such file"),
        ("file:/", "Is a directory"),
        ("cmd:/nonexistent/x", "cannot be started"),
        ("cmd:false", "exit code 1"),
        ("cmd:true", "empty"),
        ("cmd:'unmatched", "quotes"),
        ("cmd:printf '\\377'", "not UTF-8"),
        ("cmd:head -c 100000 /dev/zero", "longer"),
    ],
)
def test_errors_name_the_reference(reference: str, says: str) -> None:
    with pytest.raises(SecretError, match=says) as caught:
        resolve(reference)
    assert str(caught.value).startswith(reference)
    error = caught.value
    assert error.__cause__ is None
    assert error.__context__ is None or error.__suppress_context__


def test_a_command_that_fails_does_not_show_what_it_printed() -> None:
    with pytest.raises(SecretError) as caught:
        resolve("cmd:sh -c 'echo $LL_SECRET; echo $LL_SECRET >&2; exit 3'")
    assert CANARY not in str(caught.value)


def test_no_shell_is_involved(tmp_path: Path) -> None:
    assert resolve("cmd:echo $HOME;true").reveal() == "$HOME;true"
    assert list(tmp_path.iterdir()) == []


def test_a_command_has_a_deadline() -> None:
    began = time.monotonic()
    for command in ("cmd:sleep 60", "cmd:sh -c 'exec >&-; sleep 60'", "cmd:sh -c 'sleep 60 & exit'"):
        with pytest.raises(SecretError, match="in time"):
            resolve(command, timeout=0.3)
    assert time.monotonic() - began < 9


def test_a_file_everybody_can_read_is_refused(tmp_path: Path) -> None:
    file = private(tmp_path / "s", CANARY.encode(), 0o644)
    with pytest.raises(SecretError, match="everybody"):
        resolve(f"file:{file}")


def test_a_file_has_a_cap(tmp_path: Path) -> None:
    file = private(tmp_path / "s", b"x" * (MAX_BYTES + 1))
    with pytest.raises(SecretError, match="longer"):
        resolve(f"file:{file}")
