"""How often a host is asked again: quickly while it is silent, ever more slowly while it says no.

A host that boots answers before it lets anybody in: keys, homes and directories come later. Each refused
login may count for a ban list (fail2ban's usual five in ten minutes; sshd's own PerSourcePenalties), so a
refusal is asked about four times in the first minute and six times in ten.
"""

from __future__ import annotations

import time

from lamplighter.errors import AuthFailedError, ChannelError, LamplighterError, SudoRefusedError

_REFUSALS = (AuthFailedError, ChannelError, SudoRefusedError)
_SHORTEST_LOGIN = 5.0
_LONGEST_LOGIN = 60.0
_LAST = 2.0
"""Seconds before the deadline at which the last question is asked."""


class Patience:
    """The pauses between questions until a deadline.

    Args:
        deadline: monotonic seconds.

    Attributes:
        login: how many seconds the next question may take; more after each that took too long.
    """

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self._silent = 0.1
        self._refused = 1.0
        self._least = 0.0
        self.login = _SHORTEST_LOGIN

    @property
    def left(self) -> float:
        """Seconds until the deadline; 0 when they are too few for another question."""
        left = self._deadline - time.monotonic()
        return left if left > self._least else 0.0

    def answered(self) -> None:
        """The host answered: it is asked quickly again."""
        self._silent = 0.1

    def slow(self) -> None:
        """A question took too long: the next may take longer."""
        self.login = min(_LONGEST_LOGIN, self.login * 2)

    def nap(self, error: LamplighterError | None = None) -> None:
        """Wait until the next question; one that would come too late comes shortly before the deadline."""
        if isinstance(error, _REFUSALS):
            self._refused *= 3
            pause = self._refused
        else:
            self._silent = pause = min(2.0, self._silent * 1.5)
        left = max(0.0, self._deadline - time.monotonic())
        self._least = 0.5
        time.sleep(min(left, pause, max(left - _LAST, self._silent)))
