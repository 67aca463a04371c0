"""The WinRM transport: one connection and one shell per session.

`WinRmTransport.connect` gives a `lamplighter.model.powershell.PowerShellSession`. Messages go over TLS that
trusts the site's pinned authorities (`winrm_http`), or are sealed by NTLM or Kerberos (`winrm_auth`); there
is no third way. What a session can do is in `winrm_session`. Nothing here was run against Windows yet: what
the tests prove, and what they cannot, stands in `tests/lab/winrm_endpoint.py`.
"""

from __future__ import annotations

import threading
import time
from typing import Self

from lamplighter.errors import (
    AuthFailedError,
    LamplighterError,
    OutputTooLargeError,
    SecretError,
    SessionLostError,
    UnreachableError,
)
from lamplighter.model.inventory import Host
from lamplighter.secrets import Resolve, Secret, resolve
from lamplighter.transports.winrm_auth import Login, login_for
from lamplighter.transports.winrm_lockout import Accounts, CarefulLogin
from lamplighter.transports.winrm_session import WinRmSession
from lamplighter.transports.winrm_settings import WinRmSettings
from lamplighter.transports.winrm_soap import Channel, Fault, unopened

_UNDONE = "No command was sent to the host"


class WinRmTransport:
    """Connections to a site's Windows hosts; safe to use from many threads at once.

    Args:
        resolve_secret: reads passwords and secret parameters; each is read once.
    """

    def __init__(self, resolve_secret: Resolve = resolve) -> None:
        self._resolve = resolve_secret
        self._lock = threading.Lock()
        self._secrets: dict[str, Secret] = {}
        self._sessions: list[WinRmSession] = []
        self._accounts = Accounts()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def connect(self, host: Host) -> WinRmSession:
        """Connect, log in and open a shell.

        Raises:
            UnreachableError: no connection could be made, or no WinRM service answered on it.
            CertificateError: the host's certificate is not of the pinned authorities, or of another name.
            AuthFailedError: the host refused the account, or did not prove to be itself.
        """
        settings = WinRmSettings.of(host)
        session = self._session(host.name, settings)
        try:
            session.open(time.monotonic() + settings.connect_timeout)
        except BaseException as error:
            session.close()
            if isinstance(error, LamplighterError):
                raise _unreachable(error, settings).at(host.name) from None
            raise
        with self._lock:
            self._sessions.append(session)
        return session

    def close(self) -> None:
        """End every session and its shell; never raises."""
        with self._lock:
            sessions, self._sessions = self._sessions, []
        for session in sessions:
            session.close()

    def _session(self, name: str, settings: WinRmSettings) -> WinRmSession:
        def new_login() -> Login:
            if not settings.password:
                return login_for(settings, None)
            login = login_for(settings, self._secret(settings.password))
            return CarefulLogin(login, self._accounts, (settings.user.lower(), settings.password))

        return WinRmSession(name, settings, Channel(settings, new_login), self._secret)

    def _secret(self, reference: str) -> Secret:
        with self._lock:
            if reference not in self._secrets:
                self._secrets[reference] = self._resolve(reference)
            return self._secrets[reference]


def _unreachable(error: LamplighterError, settings: WinRmSettings) -> LamplighterError:
    """Nothing was done yet, so whatever went wrong means that the host was not reached."""
    if isinstance(error, Fault):
        error = unopened(error, settings)
    if isinstance(error, UnreachableError):
        return error
    if isinstance(error, SecretError):
        return AuthFailedError(str(error), changed="Nothing was sent to the host")
    if isinstance(error, SessionLostError | OutputTooLargeError):
        return UnreachableError(error.message, changed=error.changed or _UNDONE, advice=error.advice)
    return UnreachableError(error.message, changed=_UNDONE, advice=error.advice)
