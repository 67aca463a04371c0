"""Shell text for a host: how a script, its arguments and sudo are put together. Pure.

What an account's login shell is given is one fixed line (`LOADER`). It starts from an empty environment, says
on both streams that it is there, takes the text of the script from standard input, and runs it only when all
of it has come. So scripts and arguments are in no process list, meet no length limit and pass no second
shell; nothing that a profile sets, prints, reads or takes away reaches a script; and nothing runs in part.

A conversation, `>` to the host and `1` and `2` its two streams:

    2  lamplighter begins                 only where sudo may ask for a password, which it then has taken
    >  lamplighter-5f0c... 1234           a random word, and how many bytes of text will follow
    >  #                                  the text's first line: it ends us if somebody took the one before
    1  lamplighter-5f0c...                the channel is proved: whatever came before is nobody's answer
    2  lamplighter-5f0c...
    >  the text
    1  what the script printed, then: lamplighter-5f0c...-end 3
    2  what the script printed, then: lamplighter-5f0c...-end 3

None of the marks stands in anything that was sent, so an echo of it (`set -x`) is not taken for one.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from lamplighter.errors import RefusedError

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
BEGINS = b"lamplighter begins\n"
"""What is said on standard error where sudo may ask: whatever came before is the login shell's, or sudo's."""
UNREAD = 125
"""The loader's exit code when the first line it reads is not ours."""
FIRST = b"#\n"
"""What every text begins with, and is sent with the first line."""
CUT, END = b"-cut\n", b"-end "
"""After the word: the text did not come whole and was not run; the script's end, and its exit code."""
LOADER = (
    "read -r ll_word ll_size; "
    "case $ll_word in lamplighter-*) ;; *) exit 125; esac; "  # meant for somebody else: say nothing of it
    "(echo $ll_word); echo $ll_word >&2; ll_text=$(/usr/bin/head -c $ll_size; echo .); "
    "test ${#ll_text} = $((ll_size + 1)) || { echo $ll_word-cut; echo $ll_word-cut >&2; exit 125; }; "
    'eval "$ll_text"'
)
"""One line without single quotes, backslashes, exclamation marks: csh and fish read them in other ways.

The first word comes from a process of its own: where none can be made, that is known before anything runs.
"""
PROMPT = "lamplighter%%asks %p:"
"""For sudo's `-p`: it prints one percent sign, and the name of the account whose password it wants."""
ASKS = re.compile(rb"lamplighter%asks ([^:\n]*):")

_CLEAN = ("/usr/bin/env", "-i")
_SHELL = (*_CLEAN, "/bin/sh", "-c")
_ENVIRONMENT = """umask 022
for ll_limit in f t d v m; do ulimit {soft}-$ll_limit unlimited; done 2>/dev/null
ulimit -S -n 1024 2>/dev/null
HOME={home} USER={user} LOGNAME={user} SHELL=/bin/sh LC_ALL=C.UTF-8 LANGUAGE= PATH={path}
case $HOME in /*) ;; *) HOME=/ ;; esac
export HOME USER LOGNAME SHELL LC_ALL LANGUAGE PATH
cd "$HOME" 2>/dev/null || cd /
set -- {arguments}
"""
_RUN = """#
ll_script={script}
(
{environment}eval "$ll_script"
)
ll_code=$?
printf '%s-end %s\\n' "$ll_word" "$ll_code"
printf '%s-end %s\\n' "$ll_word" "$ll_code" >&2
exit
#"""
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_UNIT = re.compile(r"[a-z0-9][a-z0-9-]{0,199}")


def login_command(*, sudo: bool = False, password: bool = False) -> str:
    """The line for the account's login shell: the loader, as the account or as root.

    Args:
        sudo: as root. sudo and what it starts are found without the account's environment.
        password: let sudo ask for a password, by `PROMPT`; without, it fails at once when it would. It is
            asked even when sudo remembers one (`-k`), and is not remembered.
    """
    if not sudo:
        return f"exec {shlex.join((*_SHELL, LOADER))}"
    flags = ("-k", "-S", "-p", PROMPT) if password else ("-n",)
    loader = f"echo lamplighter  begins >&2; {LOADER}" if password else LOADER
    return f"exec {shlex.join((*_CLEAN, f'PATH={PATH}', 'sudo', *flags, '--', *_SHELL, loader))}"


def answered(script: str, args: Sequence[str], user: str) -> bytes:
    """The text for the loader: runs a script in a subshell, and marks the end of its answer on both streams.

    Raises:
        RefusedError: as `standalone`.
    """
    body = shlex.quote(f"{{ :\n{script}\n}} </dev/null\n")
    return _checked(_RUN.format(script=body, environment=_environment(args, user)))


def standalone(script: str, args: Sequence[str], user: str) -> str:
    """A script that is run later, from a file: its environment, its arguments as `$1` ..., itself.

    The script stands in braces: the shell reads all of it before it runs any of it.

    Args:
        script: POSIX shell text.
        args: its arguments.
        user: the account that will run it; its home is where it begins.

    Raises:
        RefusedError: something holds a NUL or is not Unicode text, which no shell can pass on.
    """
    return _checked(f"{_environment(args, user)}{{ :\n{script}\n}} </dev/null\n").decode()


def _checked(text: str) -> bytes:
    if "\0" in text or (not text.isascii() and _SURROGATE.search(text)):
        raise RefusedError("a script or argument holds a NUL or is not Unicode", changed="Nothing was run")
    return text.encode()


def _environment(args: Sequence[str], user: str) -> str:
    # A plain name's home the shell looks up by itself (POSIX 2.6.1); others would have to be quoted.
    home = f"~{user}" if _PLAIN_NAME.fullmatch(user) else '$(getent passwd "$(id -u)" | cut -d: -f6)'
    return _ENVIRONMENT.format(
        home=home, user=shlex.quote(user), path=PATH, soft="" if user == "root" else "-S ",
        arguments=" ".join(map(shlex.quote, args)),
    )


def unit_name(unit: str) -> str:
    """Check the name of a detached unit, which becomes a directory's name.

    Raises:
        RefusedError: not of `[a-z0-9-]`, or longer than 200.
    """
    if not _UNIT.fullmatch(unit):
        raise RefusedError(f"{unit[:60]!r} is no unit name: use a-z, 0-9 and -", changed="Nothing was run")
    return unit
