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
    HostKeyError,
    LamplighterError,
    RefusedError,
    RemoteFailedError,
    SessionLostError,
    SudoRefusedError,
    TimedOutError,
    UnitExistsError,
    UnreachableError,
)
from lamplighter.model.session import Completed, UnitState
from lamplighter.transports import shell
from lamplighter.transports.ssh_exchange import Raw
from lamplighter.transports.ssh_patience import Patience
from lamplighter.transports.text import decode, last_line

POLL = 20
"""Seconds one question to the host waits there for the unit's end."""
_SLACK = 10.0
_TIMEOUT = 60.0
_MAX_ATTEMPTS = 9
_REPLY_CAP = 16 * 1024
_STARTING = ("unit_launch.sh", "unit_ask.sh")
_ADVICE = "Look at space and permissions of its state directory (/var/lib/lamplighter), and at its systemd"
_ATTEMPT = re.compile(r"[0-9]{1,9}")
_FINISHED = re.compile(
    r"finished (?P<code>[0-9]{1,3}) (?P<how>whole|cut) (?P<out>[0-9]{1,18}) (?P<err>[0-9]{1,18})"
)


class Link(Protocol):
    """What units need of a session."""

    @property
    def host(self) -> str:
        """Inventory name."""

    @property
    def closed(self) -> bool:
        """Whether the session was given back."""

    @property
    def connected(self) -> bool:
        """Whether there is a live connection."""

    @property
    def connection(self) -> object:
        """Which connection it is, or was."""

    def attach(self, deadline: float, patience: float = 0.0) -> None:
        """Have a live connection, or raise `UnreachableError`; one login may take `patience` seconds."""

    def drop(self) -> None:
        """End the connection."""

    def account(self, *, sudo: bool) -> str:
        """Who runs what is run."""

    def perform(self, script: str, args: Sequence[str], *, sudo: bool, timeout: float, cap: int) -> Raw:
        """Run a script to its end."""


class Units:
    """The detached units of one host, as seen through one session."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._attempts: dict[tuple[str, bool], int] = {}

    def launch(self, unit: str, script: str, args: Sequence[str], sudo: bool) -> None:
        """Start a unit; see `Session.launch`."""
        attempt = self._attempts.get((unit, sudo), 1)
        text = shell.standalone(script, args, self._link.account(sudo=sudo))
        reply = self._ask("unit_launch.sh", unit, sudo, (str(attempt), text, _text("unit_runner.sh")))
        word, _, why = _word(reply).partition(" ")
        if word == "begun":
            return
        if word == "exists":
            raise UnitExistsError(
                f"the unit {unit} was launched before",
                where=self._link.host,
                changed="Nothing was started",
                advice="Ask for its state, and wait for it if it runs",
            )
        if word == "refused":
            raise self._failure(f"the unit {unit} could not be started: {why[:300]}", "Nothing was started")
        raise SessionLostError(
            f"the launch of the unit {unit} was not answered{_said(reply)}",
            where=self._link.host,
            changed="Whether it was started is not known",
            advice="Ask for its state",
        )

    def ready(self, sudo: bool) -> None:
        """Make sure that a unit could be started; see `Session.ready`."""
        reply = self._ask("unit_ask.sh", "ready", sudo, ())
        if (word := _word(reply)) != "ready":
            raise RefusedError(
                f"no unit can be started on it: {word.removeprefix('refused ') or last_line(reply.err)}",
                where=self._link.host, changed="Nothing was changed", advice=_ADVICE,
            )

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
                raise self._failure(f"the unit {unit} was fenced off {_MAX_ATTEMPTS} times")
            self._attempts[unit, sudo] = int(attempt)
        if word not in set(UnitState):
            raise self._failure(f"the state of the unit {unit} cannot be read{_said(reply)}")
        return UnitState(word)

    def wait(self, unit: str, sudo: bool, timeout: float, cap: int) -> Completed:
        """Wait for a unit's end; see `Session.wait`."""
        began = time.monotonic()
        patience = Patience(began + timeout)
        refused: LamplighterError | None = None
        while patience.left > 0:
            try:
                self._link.attach(began + timeout, patience.login)
                reply = self._wait_a_while(unit, sudo, patience, cap)
            except HostKeyError:
                raise
            except (SessionLostError, UnreachableError, SudoRefusedError) as lost:
                if self._link.closed:
                    raise
                if isinstance(lost, TimedOutError):
                    patience.slow()
                self._link.drop()
                refused = lost
                patience.nap(lost)
                continue
            refused = None
            patience.answered()
            word = _word(reply).partition(" ")[0]
            if word == "finished":
                return self._completed(unit, reply, cap, time.monotonic() - began)
            if word in {"lost", "absent"}:
                raise self._lost(unit, word)
            if word != "running":
                raise self._failure(f"the unit {unit} cannot be waited for{_said(reply)}")
        raise TimedOutError(
            f"the unit {unit} did not finish within {timeout:g} s"
            + (f"; when last asked: {refused.message}" if refused is not None else ""),
            where=self._link.host,
            changed="It may still be running on the host",
            advice="Ask for its state later",
        )

    def _wait_a_while(self, unit: str, sudo: bool, patience: Patience, cap: int) -> Raw:
        left = patience.left
        seconds = max(1, min(POLL, round(left)))
        timeout = min(left, seconds + max(_SLACK, patience.login))
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
        parts = ("unit_place.sh", "unit_ready.sh", name) if name in _STARTING else ("unit_place.sh", name)
        script = "\n".join(map(_text, parts))
        return self._link.perform(
            script, (place, shell.unit_name(unit), *args), sudo=sudo, timeout=timeout, cap=cap
        )

    def _failure(self, what: str, changed: str = "") -> RemoteFailedError:
        return RemoteFailedError(what, where=self._link.host, changed=changed, advice=_ADVICE)

    def _completed(self, unit: str, reply: Raw, cap: int, seconds: float) -> Completed:
        """A unit's end, whole: its exit code as recorded, and every byte of output that was announced."""
        ended = _FINISHED.fullmatch(_word(reply))
        if ended is None:
            raise self._failure(f"the record of the unit {unit}'s end is damaged{_said(reply)}")
        if ended["how"] == "cut":
            raise self._failure(
                f"the unit {unit} ended with exit code {ended['code']}, and its output is not whole: the "
                "file system of its state was full", "What it did, it did",
            )
        out = reply.out.partition(b"\n")[2]
        for data, size in ((out, int(ended["out"])), (reply.err, int(ended["err"]))):
            if len(data) != size if size <= cap else len(data) < cap // 2 * 2:
                raise self._failure(f"the output of the unit {unit} could not be read whole{_said(reply)}")
        return Completed(
            exit_code=int(ended["code"]), stdout=decode(out), stderr=decode(reply.err), seconds=seconds,
            truncated=max(int(ended["out"]), int(ended["err"])) > cap,
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


def _said(reply: Raw) -> str:
    """What a unit script said instead of its answer, for an error."""
    said = last_line(reply.err) or _word(reply)
    return f" (exit code {reply.code}{': ' if said else ''}{said})"


@functools.cache
def _text(name: str) -> str:
    """One of the scripts beside this module."""
    return resources.files("lamplighter.transports").joinpath(name).read_text()
