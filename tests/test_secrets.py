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


@pytest.fixture(autouse=True)
def commands(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that the worker's owner keeps."""
    file = private(tmp_path_factory.mktemp("owner") / "commands", b"", 0o644)
    monkeypatch.setenv("LAMPLIGHTER_COMMANDS", str(file))
    return file


def private(path: Path, data: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(data)
    path.chmod(mode)
    return path


def test_each_kind_of_reference(tmp_path: Path, commands: Path) -> None:
    file = private(tmp_path / "s", f"{CANARY}\n".encode())
    assert resolve("env:LL_SECRET").reveal() == CANARY
    assert resolve(f"file:{file}").reveal() == CANARY
    commands.write_text(f"# of the vault\nother false\n  vault-db1  cat '{file}'\n")
    assert resolve("cmd:vault-db1").reveal() == CANARY


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
        ("cmd:gone", "cannot be started"),
        ("cmd:fails", "exit code 1"),
        ("cmd:silent", "empty"),
        ("cmd:quotes", "quotes"),
        ("cmd:binary", "not UTF-8"),
        ("cmd:long", "longer"),
        ("cmd:unknown", "no command of that name"),
        ("cmd:bare", "no command of that name"),
        ("cmd:curl evil.example", "hold none"),
        ("cmd:/bin/true", "hold none"),
        ("cmd:../x", "hold none"),
    ],
)
def test_errors_name_the_reference(reference: str, says: str, commands: Path) -> None:
    commands.write_text(
        "gone /nonexistent/x\nfails false\nsilent true\nquotes 'unmatched\nbare\n"
        "binary printf '\\377'\nlong head -c 100000 /dev/zero\n"
    )
    with pytest.raises(SecretError, match=says) as caught:
        resolve(reference)
    assert str(caught.value).startswith(reference)
    error = caught.value
    assert error.__cause__ is None
    assert error.__context__ is None or error.__suppress_context__


def test_a_command_that_fails_does_not_show_what_it_printed(commands: Path) -> None:
    commands.write_text("loud sh -c 'echo $LL_SECRET; echo $LL_SECRET >&2; exit 3'\n")
    with pytest.raises(SecretError) as caught:
        resolve("cmd:loud")
    assert CANARY not in str(caught.value)


def test_no_shell_is_involved(tmp_path: Path, commands: Path) -> None:
    commands.write_text("plain echo $HOME;true\n")
    assert resolve("cmd:plain").reveal() == "$HOME;true"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", [0o666, 0o664, 0o620, 0o602])
def test_a_file_of_commands_that_others_may_write_is_refused(commands: Path, mode: int) -> None:
    commands.write_text("vault echo x\n")
    commands.chmod(mode)
    with pytest.raises(SecretError, match="others may write the file of commands"):
        resolve("cmd:vault")


def test_without_a_file_of_commands_there_are_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("LAMPLIGHTER_COMMANDS")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(SecretError, match=r"cannot be read .*\.config/lamplighter/commands"):
        resolve("cmd:vault")


def test_a_command_has_a_deadline(commands: Path) -> None:
    commands.write_text(
        "sleeps sleep 60\ncloses sh -c 'exec >&-; sleep 60'\nleaves sh -c 'sleep 60 & exit'\n"
    )
    began = time.monotonic()
    for name in ("sleeps", "closes", "leaves"):
        with pytest.raises(SecretError, match="in time"):
            resolve(f"cmd:{name}", timeout=0.3)
    assert time.monotonic() - began < 9


def test_a_file_everybody_can_read_is_refused(tmp_path: Path) -> None:
    file = private(tmp_path / "s", CANARY.encode(), 0o644)
    with pytest.raises(SecretError, match="everybody"):
        resolve(f"file:{file}")


def test_a_file_has_a_cap(tmp_path: Path) -> None:
    file = private(tmp_path / "s", b"x" * (MAX_BYTES + 1))
    with pytest.raises(SecretError, match="longer"):
        resolve(f"file:{file}")
