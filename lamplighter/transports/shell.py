"""Shell text for a host: how a script, its arguments and sudo are put together. Pure.

Scripts and arguments travel on standard input, so they are in no process list, meet no length limit and pass
no second shell. The script stands in braces: the shell reads all of it before it runs any of it, so a script
cut off in transit is a syntax error and not half a script, and its commands find `/dev/null` on their
standard input instead of the script's next lines.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from lamplighter.errors import RefusedError
from lamplighter.transports.ssh_exchange import ASK, BEGUN

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SHELL = ("sh", "-s")
_PREAMBLE = f"export LC_ALL=C.UTF-8 PATH={PATH}\n"
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_UNIT = re.compile(r"[a-z0-9][a-z0-9-]{0,199}")


def compose(script: str, args: Sequence[str]) -> str:
    """Text for `sh -s`: the environment, the arguments as `$1` ..., the script.

    Raises:
        RefusedError: something holds a NUL or is not Unicode text, which no shell can pass on.
    """
    arguments = " ".join(shlex.quote(argument) for argument in args)
    text = f"{_PREAMBLE}set -- {arguments}\n{{ :\n{script}\n}} </dev/null\n"
    if "\0" in text or (not text.isascii() and _SURROGATE.search(text)):
        raise RefusedError("a script or argument holds a NUL or is not Unicode", changed="Nothing was run")
    return text


def command(*argv: str, sudo: bool = False, password: bool = False) -> str:
    """A command for the account's login shell, run as it is or as root.

    Args:
        argv: program and arguments; they do show in process lists.
        sudo: as root, announced by `BEGUN` on standard error.
        password: let sudo ask for a password by `ASK`; without, it fails at once when it would. It is asked
            even when sudo remembers one (`-k`), and is not remembered.
    """
    if not sudo:
        return f"exec {shlex.join(argv)}"
    flags = ("-k", "-S", "-p", ASK.decode()) if password else ("-n",)
    start = f'echo {BEGUN.decode().strip()} >&2; exec "$@"'
    return f"exec {shlex.join(('sudo', *flags, '--', 'sh', '-c', start, 'sh', *argv))}"


def unit_name(unit: str) -> str:
    """Check the name of a detached unit, which becomes a directory's name.

    Raises:
        RefusedError: not of `[a-z0-9-]`, or longer than 200.
    """
    if not _UNIT.fullmatch(unit):
        raise RefusedError(f"{unit[:60]!r} is no unit name: use a-z, 0-9 and -", changed="Nothing was run")
    return unit
