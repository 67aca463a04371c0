"""How often accounts are changed: counted in the site's store, whichever worker does it.

Whoever can make the helpdesk reset passwords will do it often. So the first change too many is an anomaly:
it is not carried out, and both parties hear of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lamplighter.model.canonical import canonical, parse
from lamplighter.store import LIVE, Store

KEY = f"{LIVE}rates/account-changes"
HOUR, DAY = 3600, 86400
LIMIT = 4 * 1024 * 1024
"""Bytes: more than a day of the highest rate."""


@dataclass(frozen=True, slots=True)
class Rates:
    """See the module's docstring.

    Attributes:
        store: the site's.
        per_user: changes of one account in 24 hours.
        per_hour: changes of any account in 60 minutes.
        clock: seconds since the epoch.
    """

    store: Store
    per_user: int
    per_hour: int
    clock: Callable[[], float]

    def take(self, run: str, pin: str) -> str:
        """Take a run's place, once however often it asks.

        Args:
            run: the run's id.
            pin: of the account.

        Returns:
            Why there is none; empty when it has it.

        Raises:
            StoreError: they cannot be counted, so nothing may be changed.
        """
        while True:
            now = int(self.clock())
            old = self.store.get(KEY, limit=LIMIT)
            taken = [one for one in (parse(old, limit=LIMIT) if old else []) if one[0] > now - DAY]
            if any(one[1] == run and one[2] == pin for one in taken):
                return ""
            if why := self._crossed(taken, pin, now):
                return why
            if self.store.swap(KEY, old, canonical([*taken, [now, run, pin]])):
                return ""

    def _crossed(self, taken: list[list[str | int]], pin: str, now: int) -> str:
        user = sum(one[2] == pin for one in taken)
        hour = sum(int(one[0]) > now - HOUR for one in taken)
        if user >= self.per_user:
            return f"this account was changed {user} times in 24 hours; the site allows {self.per_user}"
        if hour >= self.per_hour:
            return f"{hour} accounts were changed in the last hour; the site allows {self.per_hour}"
        return ""
