from __future__ import annotations

import getpass
import os
import pwd
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lamplighter.errors import RefusedError
from lamplighter.transports import shell
from lamplighter.transports.ssh_answer import Stream

SHELLS = [shell for shell in ("dash", "bash", "busybox") if shutil.which(shell)]


WORD = "lamplighter-5f0c"
ME = getpass.getuser()


def feed(stdin: str | bytes, program: str = "dash") -> subprocess.CompletedProcess[bytes]:
    """What the loader makes of what it is sent."""
    sh = ["busybox", "sh"] if program == "busybox" else [f"/bin/{program}"]
    data = stdin if isinstance(stdin, bytes) else stdin.encode()
    argv = ["env", "-i", *sh, "-c", shell.LOADER]
    return subprocess.run(argv, input=data, capture_output=True, check=False, timeout=20)


def whole(script: str, *args: str) -> bytes:
    text = shell.answered(script, args, ME)
    return f"{WORD} {len(text)}\n".encode() + text


def answer(done: subprocess.CompletedProcess[bytes]) -> tuple[int | None, bytes, bytes]:
    out, err = Stream(WORD.encode()), Stream(WORD.encode())
    out.feed(done.stdout)
    err.feed(done.stderr)
    assert (out.front, err.front) == (b"", b"")
    assert out.code == err.code
    return out.code, bytes(out.data), bytes(err.data)


ANY_TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)


@given(st.lists(ANY_TEXT, max_size=5))
@example(["", "'", "a'b", '"', "$(id)", "`id`", "\n", "-n", "--", "*", "é\u202e", "\\", "}", "\r\n"])
@settings(max_examples=60, deadline=None)
def test_arguments_arrive_as_they_are(args: list[str]) -> None:
    code, out, err = answer(feed(whole('for a; do printf "%s\\0" "$a"; done', *args)))
    assert (code, out.decode(), err) == (0, "".join(f"{arg}\0" for arg in args), b"")


@pytest.mark.parametrize("program", SHELLS)
def test_commands_do_not_eat_the_script(program: str) -> None:
    done = feed(whole("cat; read x; head -c 5\necho after; exit 4"), program)
    assert answer(done) == (4, b"after\n", b"")


@pytest.mark.parametrize("program", SHELLS)
def test_the_environment(program: str) -> None:
    done = feed(whole('echo "$LC_ALL $PATH $HOME $USER $#"; umask; pwd'), program)
    home = pwd.getpwuid(os.getuid()).pw_dir  # the account's, whatever HOME says
    assert answer(done)[1].decode() == f"C.UTF-8 {shell.PATH} {home} {ME} 0\n0022\n{home}\n"


@pytest.mark.parametrize("program", SHELLS)
def test_a_script_cut_off_anywhere_runs_nothing_and_says_so(program: str, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    data = whole(f"echo x >>{mark}", "a b")
    for length in range(len(data) - 1, 0, -11):
        stream = Stream(WORD.encode())
        stream.feed(feed(data[:length], program).stdout)
        assert not mark.exists(), data[:length]
        assert stream.code is None
        assert stream.cut or b"\n" not in data[:length], data[:length]
    feed(data, program)
    assert mark.read_text() == "x\n"


@pytest.mark.parametrize("eaten", [1, 5, len(WORD), len(WORD) + 2, 30, 60])
def test_a_script_whose_beginning_was_taken_runs_nothing(eaten: int, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    done = feed(whole(f"touch {mark}", "a")[eaten:])
    assert not mark.exists()
    assert done.stdout == b"" or b"-cut\n" in done.stdout


def test_a_first_line_that_was_taken_is_noticed_before_the_script_is_sent() -> None:
    started = whole("true")
    first = started.index(b"\n") + 1
    done = feed(started[first : first + len(shell.FIRST)] + started)
    assert (done.returncode, done.stdout) == (shell.UNREAD, b"")


def test_a_line_that_is_not_ours_is_neither_run_nor_shown(tmp_path: Path) -> None:
    """A password that sudo did not take, for example."""
    done = feed(f"touch {tmp_path}/x; hunter2\n".encode() + whole("true"))
    assert (done.returncode, done.stdout, done.stderr) == (shell.UNREAD, b"", b"")
    assert not list(tmp_path.iterdir())


def test_an_empty_script_and_a_comment_are_fine() -> None:
    assert answer(feed(whole(""))) == (0, b"", b"")
    assert answer(feed(whole("echo x # comment"))) == (0, b"x\n", b"")
    assert answer(feed(whole("cat <<END\nhere\nEND"))) == (0, b"here\n", b"")


def test_a_syntax_error_has_its_exit_code() -> None:
    code, out, err = answer(feed(whole("echo x\nif then")))
    assert (code, out) == (2, b"")
    assert b"yntax" in err


@pytest.mark.parametrize("bad", ["a\0b", "\ud800"])
def test_what_no_shell_can_pass_on_is_refused(bad: str) -> None:
    with pytest.raises(RefusedError):
        shell.answered("echo", (bad,), ME)
    with pytest.raises(RefusedError):
        shell.standalone(bad, (), ME)


@pytest.mark.parametrize("name", ["", "..", "a/b", "A", "-a", "a b", "a" * 201, "a\n", "a;b", "ü"])
def test_unit_names(name: str) -> None:
    with pytest.raises(RefusedError):
        shell.unit_name(name)
    assert shell.unit_name("p0-web1-step-3") == "p0-web1-step-3"


def test_sudo_is_told_to_ask_at_most_as_agreed() -> None:
    assert " sudo " not in shell.login_command()
    assert f" PATH={shell.PATH} sudo -n -- /usr/bin/env -i " in shell.login_command(sudo=True)
    asking = shell.login_command(sudo=True, password=True)
    assert f" sudo -k -S -p '{shell.PROMPT}' -- /usr/bin/env -i " in asking


def test_no_mark_stands_in_what_is_sent() -> None:
    """A shell with `set -x` prints our command before sudo asks anything."""
    for command in (shell.login_command(), shell.login_command(sudo=True, password=True)):
        assert shell.BEGINS.strip() not in command.encode()
        assert not shell.ASKS.search(command.encode())
    text = whole("true")
    assert WORD.encode() + shell.END not in text
    assert WORD.encode() + shell.CUT not in text


@pytest.mark.parametrize("user", ["root", "CORP\\ops", "ops@corp.example", "no-such-account"])
def test_a_home_there_always_is(user: str) -> None:
    text = shell.answered('echo "$HOME"', (), user)
    code, out, _ = answer(feed(f"{WORD} {len(text)}\n".encode() + text))
    assert code == 0
    assert out.startswith(b"/")


TOLD = (
    b"a greeting\n" * 20
    + b"lamplighter-5f0c\nx lamplighter-5f0c-e\nlamplighter-5f0c-end 7\nbehind"
)


def test_a_stream_is_read_alike_in_pieces_of_any_size() -> None:
    for first in range(len(TOLD)):
        for second in range(first, len(TOLD), 9):
            stream = Stream(WORD.encode())
            for piece in (TOLD[:first], TOLD[first:second], TOLD[second:]):
                stream.feed(piece)
            assert (stream.code, bytes(stream.data)) == (7, b"x lamplighter-5f0c-e\n"), (first, second)
    stream = Stream(WORD.encode())
    for at in range(len(TOLD)):
        stream.feed(TOLD[at : at + 1])
    assert (stream.code, bytes(stream.data)) == (7, b"x lamplighter-5f0c-e\n")
