from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lamplighter.errors import RefusedError
from lamplighter.transports import shell

SHELLS = [shell for shell in ("dash", "bash", "busybox") if shutil.which(shell)]


def feed(text: str | bytes, program: str = "dash") -> subprocess.CompletedProcess[bytes]:
    argv = ["busybox", "sh", "-s"] if program == "busybox" else [program, "-s"]
    data = text if isinstance(text, bytes) else text.encode()
    return subprocess.run(argv, input=data, capture_output=True, check=False, timeout=20)


ANY_TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)


@given(st.lists(ANY_TEXT, max_size=5))
@example(["", "'", "a'b", '"', "$(id)", "`id`", "\n", "-n", "--", "*", "é\u202e", "\\", "}", "\r\n"])
@settings(max_examples=60, deadline=None)
def test_arguments_arrive_as_they_are(args: list[str]) -> None:
    done = feed(shell.compose('for a; do printf "%s\\0" "$a"; done', args))
    assert done.stdout.decode() == "".join(f"{arg}\0" for arg in args)
    assert done.stderr == b""


@pytest.mark.parametrize("program", SHELLS)
def test_commands_do_not_eat_the_script(program: str) -> None:
    done = feed(shell.compose("cat; read x; head -c 5\necho after; exit 4", ()), program)
    assert (done.stdout, done.returncode) == (b"after\n", 4)


@pytest.mark.parametrize("program", SHELLS)
def test_the_environment(program: str) -> None:
    done = feed(shell.compose('echo "$LC_ALL $PATH $#"', ()), program)
    assert done.stdout.decode() == f"C.UTF-8 {shell.PATH} 0\n"


@pytest.mark.parametrize("program", SHELLS)
def test_a_script_cut_off_anywhere_runs_nothing(program: str, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    data = shell.compose(f"echo x >>{mark}\n", ("a b",)).encode()
    for length in range(len(data) - len("} </dev/null\n"), 0, -7):
        feed(data[:length], program)
        assert not mark.exists(), data[:length]
    feed(data, program)
    assert mark.exists()


def test_an_empty_script_and_a_comment_are_fine() -> None:
    assert feed(shell.compose("", ())).returncode == 0
    assert feed(shell.compose("echo x # comment", ())).stdout == b"x\n"
    assert feed(shell.compose("cat <<END\nhere\nEND", ())).stdout == b"here\n"


@pytest.mark.parametrize("bad", ["a\0b", "\ud800"])
def test_what_no_shell_can_pass_on_is_refused(bad: str) -> None:
    with pytest.raises(RefusedError):
        shell.compose("echo", (bad,))
    with pytest.raises(RefusedError):
        shell.compose(bad, ())


@pytest.mark.parametrize("name", ["", "..", "a/b", "A", "-a", "a b", "a" * 201, "a\n", "a;b", "ü"])
def test_unit_names(name: str) -> None:
    with pytest.raises(RefusedError):
        shell.unit_name(name)
    assert shell.unit_name("p0-web1-step-3") == "p0-web1-step-3"


def test_sudo_is_told_to_ask_at_most_as_agreed() -> None:
    assert shell.command("sh", "-s") == "exec sh -s"
    assert shell.command("sh", "-s", sudo=True).startswith("exec sudo -n -- ")
    asking = shell.command("sh", "-s", sudo=True, password=True)
    assert asking.startswith("exec sudo -k -S -p lamplighter-asks: -- ")
