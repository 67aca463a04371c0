"""Secret references: where a secret is, never the secret itself.

A site's files, plans and parameters hold `env:NAME`, `file:PATH` or `cmd:NAME`. The process that needs the
value resolves the reference at the last moment and gets a `Secret`, which masks itself wherever it is shown.
Python cannot wipe memory; what is promised is that no value reaches a log, `repr`, exception or pickle.
"""

from __future__ import annotations

import ctypes
import os
import re
import resource
import selectors
import shlex
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, final

from lamplighter.errors import SecretError

DEFAULT_TIMEOUT = 20.0
MAX_BYTES = 64 * 1024
MASK = "********"
_PR_SET_DUMPABLE = 4  # <linux/prctl.h>
COMMANDS = "LAMPLIGHTER_COMMANDS"
"""Names the file of commands; without it `~/.config/lamplighter/commands`."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_REFERENCE = re.compile(r"(env|file|cmd):\s*\S.*", re.DOTALL)


def keep_memory_private() -> None:
    """Leave no copy of this process's memory: no core dump, and no debugger of another account.

    `setrlimit(2)` RLIMIT_CORE, and `prctl(2)` PR_SET_DUMPABLE, which also keeps a core from a crash handler
    that `core_pattern` pipes to. Both hold for forked children; a program that is started anew has its own.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


@final
class Secret:
    """A value that shows itself only when asked by name.

    Args:
        value: the secret text.
        reference: where it came from; shown in `repr`.
    """

    __slots__ = ("_reference", "_value")

    def __init__(self, value: str, reference: str = "") -> None:
        self._value = value
        self._reference = reference

    def reveal(self) -> str:
        """The secret itself. Pass it on at once; keep it nowhere."""
        return self._value

    def __repr__(self) -> str:
        return f"<Secret {self._reference or MASK}>"

    def __str__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return format(MASK, spec)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is never pickled")


Resolve = Callable[[str], Secret]
"""Turns a reference into its secret; raises `SecretError`."""


def is_reference(text: str) -> bool:
    """Whether a text has the form of a reference."""
    return _REFERENCE.fullmatch(text) is not None


def resolve(reference: str, *, timeout: float = DEFAULT_TIMEOUT) -> Secret:
    """Read the secret a reference points to.

    Args:
        reference: `env:NAME`, an environment variable; `file:PATH`, a file's content without its last line
            break; `cmd:NAME`, what a command prints, without its last line break. The command stands in a
            file that the worker's owner keeps (`COMMANDS`), a line `NAME COMMAND` each: whoever writes a
            site's files chooses among commands, and writes none. It is split as a shell would, but no shell
            runs it; it gets no standard input.
        timeout: seconds a command may take.

    Raises:
        SecretError: not a reference, or nothing usable behind it. It names the reference, never a value;
            a text that is no reference may be a secret itself and is not repeated.
    """
    scheme, _, rest = reference.partition(":")
    if not is_reference(reference):
        raise SecretError(
            "a secret must be a reference, and what was given is none",
            advice="Write env:NAME, file:PATH or cmd:NAME, and keep the value out of the site's files",
        )
    try:
        text = _read(scheme, rest, timeout).decode()
    except UnicodeDecodeError:
        raise SecretError("the secret is not UTF-8 text", where=reference) from None
    except SecretError as error:
        raise error.at(reference) from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise SecretError("the secret is empty", where=reference)
    return Secret(text, reference)


def _read(scheme: str, rest: str, timeout: float) -> bytes:
    if scheme == "env":
        return _environment(rest)
    return _file(rest) if scheme == "file" else _command(rest, timeout)


def _environment(name: str) -> bytes:
    value = os.environb.get(name.encode())
    if value is None:
        raise SecretError("no such environment variable", advice="Set it for the worker's process")
    return value


def _file(name: str) -> bytes:
    path = Path(name).expanduser()
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if stat.S_ISREG(mode) and mode & stat.S_IRWXO:
                raise SecretError(
                    "everybody on this machine can read the file", advice="Take it from others: chmod o= FILE"
                )
            value = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise SecretError(f"the file cannot be read ({_reason(error)})") from None
    return _capped(value)


def _kept_command(name: str) -> list[str]:
    """The command of that name, from the file that the worker's owner keeps."""
    path = Path(os.environ.get(COMMANDS) or "~/.config/lamplighter/commands").expanduser()
    advice = f"Write it there as a line `NAME COMMAND`, and cmd:NAME into the site's files: {path}"
    if not _NAME.fullmatch(name):
        raise SecretError("a site's files name a command, and hold none", advice=advice)
    try:
        with path.open("rb") as file:
            kept = os.fstat(file.fileno())
            text = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise SecretError(f"the file of commands cannot be read ({_reason(error)})", advice=advice) from None
    if kept.st_uid not in {0, os.getuid()} or kept.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise SecretError(
            f"others may write the file of commands, {path}", advice=f"Take it from them: chmod go-w {path}"
        )
    for line in _capped(text).decode("utf-8", "replace").splitlines():
        known, _, command = line.strip().partition(" ")
        if known == name and command.strip():
            return _split(command)
    raise SecretError("there is no command of that name", advice=advice)


def _split(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:
        raise SecretError("the command's quotes do not match") from None


def _command(name: str, timeout: float) -> bytes:
    argv = _kept_command(name)
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise SecretError(f"the command cannot be started ({_reason(error)})") from None
    with process:
        try:
            value = _output(process, time.monotonic() + timeout)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    if process.returncode != 0:
        raise SecretError(
            f"the command ended with exit code {process.returncode}",
            advice="Run it by hand as the worker's user to see why",
        )
    return value


def _output(process: subprocess.Popen[bytes], deadline: float) -> bytes:
    """Read to the end of the command, within the deadline and the cap."""
    if process.stdout is None:
        raise SecretError("the command has no output")
    value = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while selector.select(max(0.0, deadline - time.monotonic())):
            piece = os.read(process.stdout.fileno(), MAX_BYTES)
            value += piece
            _capped(value)
            if not piece:
                break
        else:
            raise SecretError("the command did not finish in time")
    try:
        process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        raise SecretError("the command did not finish in time") from None
    return bytes(value)


def _capped(value: bytes | bytearray) -> bytes:
    if len(value) > MAX_BYTES:
        raise SecretError(f"the secret is longer than {MAX_BYTES} bytes")
    return bytes(value)


def _reason(error: Exception) -> str:
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else type(error).__name__
