"""Detached units: commands that outlive the connection that started them, started at most once for ever.

The truth is on the host, in files that only atomic operations make; the scripts beside this module are the
whole protocol (`unit_place.sh` explains it). An attempt that was claimed and did not begin can be fenced off,
and only then is there a next one, whose number this side must know: a launch that was delayed on its way
arrives with the old number and is refused. So nothing begins twice, and nothing begins that was declared
absent.
"""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Sequence
from importlib import resources
from typing import Protocol

from lamplighter.errors import (
    AuthFailedError,
    HostKeyError,
    RemoteFailedError,
    SessionLostError,
    TimedOutError,
    UnitExistsError,
    UnreachableError,
)
from lamplighter.model.session import Completed, UnitState
from lamplighter.transports import shell
from lamplighter.transports.ssh_exchange import Raw
from lamplighter.transports.text import decode, last_line

POLL = 20
"""Seconds one question to the host waits there for the unit's end."""
_SLACK = 10.0
_TIMEOUT = 60.0
_MAX_ATTEMPTS = 9
_REPLY_CAP = 16 * 1024
_ATTEMPT = re.compile(r"[0-9]{1,9}")
_FINISHED = re.compile(r"finished (?P<code>[0-9]{1,3}) (?P<out>[0-9]{1,18}) (?P<err>[0-9]{1,18})")


class Link(Protocol):
    """What units need of a session."""

    @property
    def host(self) -> str:
        """Inventory name."""

    @property
    def closed(self) -> bool:
        """Whether the session was given back."""

    def attach(self, deadline: float) -> None:
        """Have a live connection, or raise `UnreachableError`."""

    def drop(self) -> None:
        """End the connection."""

    def execute(self, argv: tuple[str, ...], stdin: bytes, *, sudo: bool, timeout: float, cap: int) -> Raw:
        """Run a program."""


class Units:
    """The detached units of one host, as seen through one session."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._attempts: dict[tuple[str, bool], int] = {}

    def launch(self, unit: str, script: str, args: Sequence[str], sudo: bool) -> None:
        """Start a unit; see `Session.launch`."""
        attempt = self._attempts.get((unit, sudo), 1)
        text = shell.compose(script, args)
        reply = self._ask("unit_launch.sh", unit, sudo, (str(attempt), text, _text("unit_runner.sh")))
        word = _word(reply)
        if word == "begun":
            return
        if word == "exists":
            raise UnitExistsError(
                f"the unit {unit} was launched before",
                where=self._link.host,
                changed="Nothing was started",
                advice="Ask for its state, and wait for it if it runs",
            )
        raise self._failure(f"the unit {unit} could not be started", reply)

    def state(self, unit: str, sudo: bool) -> UnitState:
        """What became of a unit; see `Session.unit_state`."""
        self._link.attach(time.monotonic() + _TIMEOUT)
        try:
            reply = self._ask("unit_state.sh", unit, sudo, ())
        except SessionLostError:
            self._link.drop()
            self._link.attach(time.monotonic() + _TIMEOUT)
            reply = self._ask("unit_state.sh", unit, sudo, ())
        word, _, attempt = _word(reply).partition(" ")
        if word == "absent" and _ATTEMPT.fullmatch(attempt):
            if int(attempt) > _MAX_ATTEMPTS:
                raise self._failure(f"the unit {unit} was fenced off {_MAX_ATTEMPTS} times", reply)
            self._attempts[unit, sudo] = int(attempt)
        if word not in set(UnitState):
            raise self._failure(f"the state of the unit {unit} cannot be read", reply)
        return UnitState(word)

    def wait(self, unit: str, sudo: bool, timeout: float, cap: int) -> Completed:
        """Wait for a unit's end; see `Session.wait`."""
        began = time.monotonic()
        deadline = began + timeout
        pause = 0.1
        while (left := deadline - time.monotonic()) > 0:
            try:
                self._link.attach(deadline)
                reply = self._wait_a_while(unit, sudo, left, cap)
            except (AuthFailedError, HostKeyError):
                raise
            except (SessionLostError, UnreachableError):
                if self._link.closed:
                    raise
                self._link.drop()
                pause = min(3.0, pause * 2)
                time.sleep(max(0.0, min(pause, deadline - time.monotonic())))
                continue
            pause = 0.1
            word = _word(reply).partition(" ")[0]
            if word == "finished":
                return _completed(reply, cap, time.monotonic() - began)
            if word in {"lost", "absent"}:
                raise self._lost(unit, word)
            if word != "running":
                raise self._failure(f"the unit {unit} cannot be waited for", reply)
        raise TimedOutError(
            f"the unit {unit} did not finish within {timeout:g} s",
            where=self._link.host,
            changed="It may still be running on the host",
            advice="Ask for its state later",
        )

    def _wait_a_while(self, unit: str, sudo: bool, left: float, cap: int) -> Raw:
        seconds = max(1, min(POLL, round(left)))
        timeout = min(left, seconds + _SLACK)
        return self._ask("unit_wait.sh", unit, sudo, (str(seconds), str(cap)), timeout, cap + _REPLY_CAP)

    def _ask(
        self,
        name: str,
        unit: str,
        sudo: bool,
        args: tuple[str, ...],
        timeout: float = _TIMEOUT,
        cap: int = _REPLY_CAP,
    ) -> Raw:
        place = "system" if sudo else "user"
        script = f"{_text('unit_place.sh')}\n{_text(name)}"
        text = shell.compose(script, (place, shell.unit_name(unit), *args))
        return self._link.execute(shell.SHELL, text.encode(), sudo=sudo, timeout=timeout, cap=cap)

    def _failure(self, what: str, reply: Raw) -> RemoteFailedError:
        said = last_line(reply.err)
        return RemoteFailedError(
            f"{what}{': ' if said else ''}{said}",
            where=self._link.host,
            changed="Nothing was started",
            advice="Check free space and permissions of its state directory (/var/lib/lamplighter)",
        )

    def _lost(self, unit: str, word: str) -> SessionLostError:
        absent = word == "absent"
        return SessionLostError(
            f"the unit {unit} {'was never launched' if absent else 'ended without leaving an exit code'}",
            where=self._link.host,
            changed="" if absent else "What it did before it was killed, or the host went down, is not known",
            advice="Look at the host before it is tried again",
        )


def _word(reply: Raw) -> str:
    """The first line of a unit script's answer; nothing if it failed."""
    return decode(reply.out.partition(b"\n")[0]).strip() if reply.code == 0 else ""


def _completed(reply: Raw, cap: int, seconds: float) -> Completed:
    ended = _FINISHED.fullmatch(_word(reply))
    if ended is None:
        raise RemoteFailedError("the host's record of a unit's end cannot be read")
    return Completed(
        exit_code=int(ended["code"]),
        stdout=decode(reply.out.partition(b"\n")[2]),
        stderr=decode(reply.err),
        seconds=seconds,
        truncated=max(int(ended["out"]), int(ended["err"])) > cap,
    )


@functools.cache
def _text(name: str) -> str:
    """One of the scripts beside this module."""
    return resources.files("lamplighter.transports").joinpath(name).read_text()
