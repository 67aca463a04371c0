"""Keeps a wrong password from locking an account: with many hosts at once it would be wrong on all of them.

Until one host has taken an account's password, few hosts are offered it; when all of those refuse it, nobody
else is. A domain counts them together, and locks after five or ten.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from lamplighter.errors import AuthFailedError, UnreachableError
from lamplighter.transports.winrm_auth import Login
from lamplighter.transports.winrm_http import HttpLink, Reply

MOST_REFUSALS = 3
_UNSENT = "The password was not offered to this host"


class Accounts:
    """What became of each account's password so far; shared by all connections of a transport."""

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._taken: set[object] = set()
        self._offered: Counter[object] = Counter()  # refused, or not answered yet
        self._refused: Counter[object] = Counter()

    @contextmanager
    def offer(self, account: object, deadline: float) -> Iterator[None]:
        """One login, when it is its turn.

        Args:
            account: name and secret reference; equal for equal passwords.
            deadline: monotonic seconds, until which it is waited for others' answers.

        Raises:
            AuthFailedError: enough hosts refused it, and none took it.
            UnreachableError: others did not get their answers in time.
        """
        with self._change:
            in_time = self._change.wait_for(lambda: self._decided(account), deadline - time.monotonic())
            if account not in self._taken and self._refused[account] >= MOST_REFUSALS:
                raise AuthFailedError(
                    f"{MOST_REFUSALS} hosts refused the account's password, and none took it",
                    changed=f"{_UNSENT}, so that the account is not locked",
                    advice="Check the password and the account; then start anew",
                )
            if not in_time:
                raise UnreachableError("other hosts have not answered the account's login", changed=_UNSENT)
            self._offered[account] += 1
        refused, taken = False, False
        try:
            yield
            taken = True
        except AuthFailedError:
            refused = True
            raise
        finally:
            with self._change:
                self._offered[account] -= not refused
                self._refused[account] += refused
                self._taken |= {account} if taken else set()
                self._change.notify_all()

    def _decided(self, account: object) -> bool:
        free = self._offered[account] < MOST_REFUSALS
        return free or account in self._taken or self._refused[account] >= MOST_REFUSALS


class CarefulLogin:
    """A login that waits for its turn. Args: inner; accounts, shared; account, its name and reference."""

    def __init__(self, inner: Login, accounts: Accounts, account: object) -> None:
        self._inner, self._accounts, self._account = inner, accounts, account

    def log_in(self, link: HttpLink, deadline: float) -> None:
        """See `Login.log_in`; the host is connected already, so one that is down holds nobody up."""
        with self._accounts.offer(self._account, deadline):
            self._inner.log_in(link, deadline)

    def wrap(self, message: bytes) -> tuple[Mapping[str, str], bytes]:
        """See `Login.wrap`."""
        return self._inner.wrap(message)

    def unwrap(self, reply: Reply) -> bytes:
        """See `Login.unwrap`."""
        return self._inner.unwrap(reply)
