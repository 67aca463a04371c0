"""A session over SSH: commands, detached units, files, waiting for a reboot."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lamplighter.errors import (
    LamplighterError,
    OutputTooLargeError,
    RemoteFailedError,
    SecretError,
    SessionLostError,
)
from lamplighter.model.session import DEFAULT_CAP, DEFAULT_TIMEOUT, Completed, UnitState
from lamplighter.secrets import Resolve, Secret
from lamplighter.transports import shell
from lamplighter.transports import ssh_refusals as refusals
from lamplighter.transports.ssh_boot import BootWatch
from lamplighter.transports.ssh_detached import Units
from lamplighter.transports.ssh_exchange import Order, Raw, carry_out
from lamplighter.transports.ssh_settings import SshSettings
from lamplighter.transports.ssh_wire import Wire
from lamplighter.transports.text import decode, last_line

_PUT = """umask 077; set -C; p=$1.$$.part
printf %s "$4" | base64 -d >"$p" && [ "$(wc -c <"$p")" -eq "$3" ] && chmod "$2" "$p" &&
    { sync "$p" || :; } 2>/dev/null && mv -f "$p" "$1" && exit
rm -f "$p"
exit 1"""
_GET = 'exec head -c "$1" -- "$2"'


@dataclass(frozen=True, slots=True)
class Pool:
    """What a session needs of the transport that made it.

    Attributes:
        reach: gives the host's live connection by a deadline (monotonic), or raises `UnreachableError`.
        release: takes note that the session is closed.
        secret: resolves the sudo password when it is needed.
    """

    reach: Callable[[float], Wire]
    release: Callable[[], None]
    secret: Resolve


class SshSession:
    """One host, connected. See `lamplighter.model.session.Session`.

    Args:
        host: inventory name.
        settings: how to log in.
        pool: where its connection comes from and goes back to.
    """

    def __init__(self, host: str, settings: SshSettings, pool: Pool) -> None:
        self._host = host
        self._settings = settings
        self._pool = pool
        self._wire: Wire | None = None
        self._closed = False
        self._units = Units(self)

    def __repr__(self) -> str:
        return f"<SshSession {self._host} {self._settings.target}>"

    @property
    def host(self) -> str:
        """The inventory name of the host."""
        return self._host

    @property
    def closed(self) -> bool:
        """Whether the session was given back."""
        return self._closed

    def run(
        self,
        script: str,
        *args: str,
        sudo: bool = False,
        timeout: float = DEFAULT_TIMEOUT,
        cap: int = DEFAULT_CAP,
    ) -> Completed:
        """Run shell text to its end; see `Session.run`. A session once lost runs nothing more."""
        began = time.monotonic()
        raw = self.perform(script, args, sudo=sudo, timeout=timeout, cap=cap)
        return Completed(raw.code, decode(raw.out), decode(raw.err), time.monotonic() - began)

    def launch(self, unit: str, script: str, *args: str, sudo: bool = False) -> None:
        """Start shell text detached, at most once for ever per unit; see `Session.launch`."""
        self._units.launch(unit, script, args, sudo)

    def ready(self, *, sudo: bool = False) -> None:
        """Make sure that a unit could be started; see `Session.ready`."""
        self._units.ready(sudo)

    def unit_state(self, unit: str, *, sudo: bool = False) -> UnitState:
        """Ask what became of a unit; see `Session.unit_state`."""
        return self._units.state(unit, sudo)

    def wait(
        self, unit: str, *, sudo: bool = False, timeout: float, cap: int = DEFAULT_CAP
    ) -> Completed:
        """Wait for a unit, over as many connections as it takes; see `Session.wait`."""
        return self._units.wait(unit, sudo, timeout, cap)

    def await_boot(self, previous: str, *, timeout: float, unit: str = "") -> str:
        """Reconnect until the host is proved to have rebooted; see `Session.await_boot`."""
        return BootWatch(self, self._units, previous, unit).run(timeout)

    def put(
        self,
        path: str,
        data: bytes,
        *,
        mode: int = 0o600,
        sudo: bool = False,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> None:
        """Write a file whole or not at all.

        Args:
            path: absolute, on the host; its directory exists.
            data: the content.
            mode: permissions.
            sudo: as root.
            timeout: seconds.

        Raises:
            RemoteFailedError: it could not be written; the old file, if any, is as it was.
            SessionLostError, TimedOutError, SudoRefusedError: as `run`.
        """
        text = base64.b64encode(data).decode()
        args = (path, f"{mode:o}", str(len(data)), text)
        raw = self.perform(_PUT, args, sudo=sudo, timeout=timeout, cap=DEFAULT_CAP)
        if raw.code != 0:
            raise self._remote_failure(f"{path} could not be written", raw, "The file is as it was")

    def get(
        self, path: str, *, cap: int = DEFAULT_CAP, sudo: bool = False, timeout: float = DEFAULT_TIMEOUT
    ) -> bytes:
        """Read a file.

        Args:
            path: absolute, on the host.
            cap: largest size read, in bytes.
            sudo: as root.
            timeout: seconds.

        Raises:
            RemoteFailedError: it cannot be read.
            OutputTooLargeError: it is larger than the cap.
            SessionLostError, TimedOutError, SudoRefusedError: as `run`.
        """
        args = (str(cap + 1), path)
        raw = self.perform(_GET, args, sudo=sudo, timeout=timeout, cap=max(cap + 1, DEFAULT_CAP))
        if raw.code != 0:
            raise self._remote_failure(f"{path} could not be read", raw, "")
        if len(raw.out) > cap:
            raise OutputTooLargeError(f"{path} is larger than {cap} bytes", where=self._host)
        return raw.out

    def close(self) -> None:
        """Give the connection back, for other sessions of the host; never raises."""
        if not self._closed:
            self._closed = True
            self._wire = None
            self._pool.release()

    def attach(self, deadline: float, patience: float = 0.0) -> None:
        """Make sure there is a live connection by `deadline` (monotonic), or raise `UnreachableError`.

        Args:
            deadline: monotonic seconds.
            patience: how many seconds one login may take, where it is more than the host's usual limit.
        """
        self._check_open()
        if not self.connected:
            limit = max(self._settings.connect_timeout, patience)
            self._wire = self._pool.reach(min(deadline, time.monotonic() + limit))

    @property
    def connected(self) -> bool:
        """Whether the connection there was is still there."""
        return self._wire is not None and self._wire.is_active()

    @property
    def connection(self) -> object:
        """What a new connection differs in from the one before."""
        return self._wire

    def drop(self) -> None:
        """End the connection, which does not answer any more."""
        if self._wire is not None:
            self._wire.hang_up()

    def perform(self, script: str, args: Sequence[str], *, sudo: bool, timeout: float, cap: int) -> Raw:
        """Run a script over the connection there is; never connects, never repeats."""
        self._check_open()
        deadline = time.monotonic() + timeout
        text = shell.answered(script, args, self.account(sudo=sudo))
        if self._wire is None or not self._wire.is_active():
            raise SessionLostError(
                "the session was lost before",
                where=self._host,
                changed="The command was not sent",
                advice="Ask for the state of what ran, or connect again",
            )
        try:
            user = self._settings.target.user
            sudo = sudo and user != "root"
            reference = self._settings.sudo_password if sudo else ""
            password = _one_line(self._pool.secret(reference), reference) if reference else None
            return carry_out(self._wire, Order(text, timeout, deadline, cap, user, sudo, password))
        except SecretError as error:
            raise refusals.sudo_refused(str(error), "Look at that reference").at(self._host) from None
        except LamplighterError as error:
            raise error.at(self._host) from None

    def account(self, *, sudo: bool) -> str:
        """Who runs what is run."""
        return "root" if sudo else self._settings.target.user

    def _check_open(self) -> None:
        if self._closed:
            raise SessionLostError(
                "the session was closed", where=self._host, changed="Nothing was sent", advice="Connect again"
            )

    def _remote_failure(self, what: str, raw: Raw, changed: str) -> RemoteFailedError:
        said = last_line(raw.err)
        return RemoteFailedError(f"{what}{': ' if said else ''}{said}", where=self._host, changed=changed)


def _one_line(secret: Secret, reference: str) -> Secret:
    """A password sudo can be given: it reads a line."""
    if "\n" in secret.reveal():
        raise SecretError("the sudo password has more than one line", where=reference)
    return secret
