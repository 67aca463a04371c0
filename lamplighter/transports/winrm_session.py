"""A session over WinRM: one shell on one host, and PowerShell actions in it."""

from __future__ import annotations

import contextlib
import secrets as randomness
import time
from collections.abc import Mapping
from dataclasses import dataclass

from lamplighter.errors import (
    AuthFailedError,
    LamplighterError,
    OutputTooLargeError,
    SecretError,
    SessionLostError,
    TimedOutError,
    UnreachableError,
)
from lamplighter.model.canonical import Json
from lamplighter.model.powershell import PowerShellResult, PowerShellScript
from lamplighter.model.session import DEFAULT_CAP, DEFAULT_TIMEOUT
from lamplighter.secrets import MASK, Resolve, Secret
from lamplighter.transports import winrm_bootstrap as bootstrap
from lamplighter.transports.winrm_settings import WinRmSettings
from lamplighter.transports.winrm_soap import NO_SHELL, Channel, Fault, Shell, unopened

_TIDY = 5.0
_PACE = 0.5
_TOLD = "The host was told to end it; how far it came is not known"
_UNKNOWN = "The command may still be running on the host"


@dataclass(frozen=True, slots=True)
class Raw:
    """A command's exit code and what it printed, byte for byte."""

    code: int
    out: bytes
    err: bytes


class WinRmSession:
    """One Windows host, connected. See `lamplighter.model.powershell.PowerShellSession`.

    Args:
        host: inventory name.
        settings: how the host is reached.
        channel: the connection; it belongs to this session alone.
        secret: resolves secret parameters when they are needed.
    """

    def __init__(self, host: str, settings: WinRmSettings, channel: Channel, secret: Resolve) -> None:
        self._host = host
        self._settings = settings
        self._channel = channel
        self._shell = Shell(channel, settings.operation_timeout)
        self._secret = secret
        self._closed = False

    def __repr__(self) -> str:
        return f"<WinRmSession {self._host} {self._settings}>"

    @property
    def host(self) -> str:
        """The inventory name of the host."""
        return self._host

    def open(self, deadline: float) -> None:
        """Connect, log in and create the shell; called once, by the transport."""
        self._shell.open(deadline)

    def invoke(
        self,
        script: PowerShellScript,
        params: Mapping[str, Json] | None = None,
        *,
        secrets: Mapping[str, str] | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        cap: int = DEFAULT_CAP,
    ) -> PowerShellResult:
        """Run an action to its end; see `PowerShellSession.invoke`."""
        began = time.monotonic()
        params, secrets = params or {}, secrets or {}
        hidden: dict[str, Secret] = {}
        try:
            script.check_parameters(params, secrets)
            hidden.update((name, self._secret(reference)) for name, reference in secrets.items())
            frame = f"lamplighter-{randomness.token_hex(16)}:"
            revealed = {name: secret.reveal() for name, secret in hidden.items()}
            stdin = bootstrap.request(script, {**params, **revealed}, frame)
            raw = self._execute(bootstrap.COMMAND, bootstrap.ARGUMENTS, stdin, timeout, cap)
            answer = bootstrap.answer(script, frame, raw.code, raw.out, raw.err)
            output = script.check_output(_masked(answer.output, hidden))
        except SecretError as error:
            raise error.at(self._host) from None
        except LamplighterError as error:
            raise _hiding(error, hidden).at(self._host) from None
        return PowerShellResult(
            script=script.name,
            digest=script.digest,
            output=output,
            notes=_masked(answer.notes, hidden),
            errors=_masked(answer.errors, hidden),
            seconds=time.monotonic() - began,
        )

    def execute(
        self,
        command: str,
        *args: str,
        stdin: bytes = b"",
        timeout: float = DEFAULT_TIMEOUT,
        cap: int = DEFAULT_CAP,
    ) -> Raw:
        """Run a program to its end.

        Args:
            command: program, found by the host's `cmd`.
            args: its arguments, as `cmd` wants them quoted; they show in process lists.
            stdin: all of its standard input.
            timeout: seconds.
            cap: bytes read from each output stream.

        Raises:
            SessionLostError, TimedOutError, OutputTooLargeError: how it ended is not known.
        """
        try:
            return self._execute(command, args, stdin, timeout, cap)
        except LamplighterError as error:
            raise error.at(self._host) from None

    def close(self) -> None:
        """Delete the shell, which ends whatever runs in it, and the connection; never raises."""
        self._closed = True
        self._drop()

    def _drop(self) -> None:
        """As `close`, but for a session that may be had back."""
        if self._shell.is_open:
            with contextlib.suppress(LamplighterError):
                self._shell.close(time.monotonic() + _TIDY)
        self._channel.close()

    def _reopen(self, deadline: float) -> None:
        """Connect once more after the session was lost: whoever lost an action has to ask what became of it.

        A refused login is not tried again: that would lock the account.
        """
        if self._closed:
            raise SessionLostError("the session is closed", changed="Nothing was sent")
        try:
            self._shell.open(min(deadline, time.monotonic() + self._settings.connect_timeout))
        except Fault as fault:
            error = unopened(fault, self._settings)
        except AuthFailedError as refusal:
            self._closed, error = True, refusal
        except (UnreachableError, SessionLostError) as failure:
            error = failure
        else:
            return
        raise SessionLostError(
            f"the session was lost, and cannot be had back: {error.message}",
            changed="Nothing was sent", advice=error.advice,
        )

    def _execute(self, command: str, args: tuple[str, ...], stdin: bytes, timeout: float, cap: int) -> Raw:
        deadline = time.monotonic() + timeout
        number = self._start(command, args, deadline)
        try:
            return self._drain(number, self._feed(number, stdin, deadline), timeout, cap)
        except UnreachableError as error:  # the connection went and cannot be had back
            raise SessionLostError(error.message, changed=_UNKNOWN, advice=error.advice) from None
        except Fault as fault:
            raise _forgotten(fault) from None
        except SessionLostError as error:
            error.changed = error.changed or _UNKNOWN
            raise
        finally:
            self._tidy(number)

    def _start(self, command: str, args: tuple[str, ...], deadline: float) -> str:
        """Start a command. If that goes wrong it may have begun, and only the end of the shell ends it."""
        if not self._shell.is_open:
            self._reopen(deadline)
        try:
            return self._shell.start(command, args, deadline)
        except UnreachableError as error:
            self._drop()
            raise SessionLostError(error.message, changed="Nothing was sent", advice=error.advice) from None
        except Fault as fault:
            self._drop()
            raise _forgotten(fault) from None
        except BaseException:
            self._drop()
            raise

    def _feed(self, number: str, stdin: bytes, deadline: float) -> float:
        """Send the input; returns until when to wait. A command that ended early takes no more of it."""
        try:
            self._shell.feed(number, stdin, deadline)
        except Fault as fault:
            if fault.code == NO_SHELL:
                raise
            return min(deadline, time.monotonic() + _TIDY)
        return deadline

    def _drain(self, number: str, deadline: float, timeout: float, cap: int) -> Raw:
        """Read to the end of a command, within the deadline and the cap."""
        out, err = bytearray(), bytearray()
        while (asked := time.monotonic()) < deadline:
            piece = self._shell.receive(number, deadline)
            if piece is None or not (piece.out or piece.err or piece.code is not None):
                # "Not yet" belongs to the end of an operation timeout; who says it at once is not hammered.
                time.sleep(max(0.0, min(asked + _PACE, deadline) - time.monotonic()))
                continue
            out += piece.out
            err += piece.err
            if max(len(out), len(err)) > cap:
                raise OutputTooLargeError(f"the host printed more than {cap} bytes", changed=_TOLD)
            if piece.code is not None:
                return Raw(piece.code, bytes(out), bytes(err))
        raise TimedOutError(
            f"the command did not end within {timeout:g} s", changed=_TOLD,
            advice="Look on the host whether it still runs before it is started again",
        )

    def _tidy(self, number: str) -> None:
        """End the command whatever happened; if that cannot be done, end the shell with everything in it."""
        try:
            self._shell.terminate(number, time.monotonic() + _TIDY)
        except LamplighterError:
            self._drop()


def _forgotten(fault: Fault) -> SessionLostError:
    what = "the host no longer knows the shell or the command" if fault.code == NO_SHELL else fault.message
    return SessionLostError(
        what,
        changed="How far the command came is not known",
        advice="Was the WinRM service restarted, or the host? Look at its event log",
    )


def _hiding(error: LamplighterError, hidden: Mapping[str, Secret]) -> LamplighterError:
    error.message = _masked(error.message, hidden)
    error.args = (error.message,)
    error.data = _masked(dict(error.data), hidden)
    return error


def _masked(value: Json, hidden: Mapping[str, Secret]) -> Json:
    """The value with every secret that a script let slip replaced by a mask."""
    if isinstance(value, str):
        for secret in hidden.values():
            value = value.replace(secret.reveal(), MASK)
        return value
    if isinstance(value, list):
        return [_masked(item, hidden) for item in value]
    if isinstance(value, dict):
        return {_masked(name, hidden): _masked(item, hidden) for name, item in value.items()}
    return value
