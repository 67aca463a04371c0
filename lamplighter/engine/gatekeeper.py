"""Judges one plan's gate again and again, before every host, as cheaply as the last answer allows.

An open gate stays open until the answer's own `valid_until`, unless somebody left another line in the store
or the site's people, keys or revocations changed; so between hosts it costs one listing of the store. A
closed gate is judged anew each time. When the gate cannot be judged it is closed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from lamplighter.errors import LedgerBrokenError, NotApprovedError, SiteError, StoreError
from lamplighter.model.canonical import MAX_BYTES, sha256
from lamplighter.model.envelope import MAX_LINE
from lamplighter.model.gate import GatePolicy, GateResult, evaluate
from lamplighter.model.plan import Plan, read_plan
from lamplighter.store import Store

POLICY_SECONDS = 2.0
"""How stale the site's people, keys and revocations may be when a host is touched."""
SITE_TRIES = 3
"""A site that is just being updated holds mistakes for a moment."""


class Gatekeeper:
    """See the module's docstring. Safe for any number of threads.

    Args:
        plan_bytes: as stored, shown and signed.
        store: where signed lines may be left for the plan.
        policy: reads the site's people and keys as they stand on disk now.
    """

    def __init__(self, plan_bytes: bytes, store: Store, policy: Callable[[], GatePolicy]) -> None:
        self._plan, self._digest = plan_bytes, sha256(plan_bytes)
        self._store, self._read_policy = store, policy
        self._policy: tuple[float, GatePolicy] | None = None
        self._dropped: dict[str, str] = {}
        self._last: tuple[tuple[str, ...], GatePolicy, int, GateResult] | None = None
        self._lock = threading.Lock()

    def judge(self, recorded: Sequence[str], now: int, *, anew: bool = False) -> GateResult:
        """The gate's answer.

        Args:
            recorded: signed lines the run's ledger holds.
            now: seconds since the epoch.
            anew: do not rest on an earlier answer.

        Raises:
            NotApprovedError: it cannot be judged.
        """
        with self._lock:
            try:
                policy = self._current_policy()
                lines = tuple(dict.fromkeys([*recorded, *self._dropped_lines()]))
            except (SiteError, StoreError) as error:
                raise NotApprovedError(f"the gate cannot be judged: {error}") from error
            if self._last and not anew:
                known, under, since, result = self._last
                if known == lines and under is policy and since <= now < result.valid_until:
                    return result
            result = evaluate(self._plan, lines, policy, now)
            self._last = (lines, policy, now, result) if result.passed else None
            return result

    @property
    def looked(self) -> int:
        """How many lines left in the store the last answer knew."""
        return len(self._dropped)

    def _current_policy(self) -> GatePolicy:
        now = time.monotonic()
        if self._policy is None or now - self._policy[0] > POLICY_SECONDS:
            self._policy = (now, self._patiently())
        return self._policy[1]

    def _patiently(self) -> GatePolicy:
        for _ in range(SITE_TRIES - 1):
            try:
                return self._read_policy()
            except SiteError:
                time.sleep(POLICY_SECONDS / SITE_TRIES)
        return self._read_policy()

    def _dropped_lines(self) -> tuple[str, ...]:
        """What lies in the store never changes, so each line is read once."""
        keys = list(self._store.list(_dropped(self._digest)))
        for key in keys:
            if key not in self._dropped:
                self._dropped[key] = _line(self._store, key)
        return tuple(self._dropped[key] for key in keys)


def plan_key(digest: str) -> str:
    """Where the store keeps a plan's bytes."""
    return f"plans/{digest.removeprefix('sha256:')}.json"


def stored_plan(store: Store, digest: str, run: str) -> tuple[Plan, bytes]:
    """A run's plan and its bytes, checked against the digest in its ledger before they are read.

    Raises:
        StoreError: the bytes are gone, or the store cannot be read.
        LedgerBrokenError: they are not those the ledger names.
    """
    data = store.get(plan_key(digest), limit=MAX_BYTES)
    if data is None:
        raise StoreError("the plan's bytes are gone", where=run, changed="Nothing more is changed")
    plan = read_plan(data) if sha256(data) == digest else None
    if plan is None or plan.run != run:
        raise LedgerBrokenError(
            "the stored plan is not the one in the ledger; nothing more is changed", where=run,
            advice="Keep the store as it is and call internal IT",
        )
    return plan, data


def drop_line(store: Store, plan: str, line: str) -> None:
    """Leave a signed line where the run of that plan finds it before it touches the next host."""
    store.put_new(f"{_dropped(plan)}{sha256(line.encode()).removeprefix('sha256:')}", line.encode())


def dropped_lines(store: Store, plan: str) -> tuple[str, ...]:
    """Signed lines that were left in the store for a plan."""
    return tuple(_line(store, key) for key in store.list(_dropped(plan)))


def count_dropped(store: Store, plan: str) -> int:
    """How many signed lines were left in the store for a plan; none is ever removed."""
    return sum(1 for _ in store.list(_dropped(plan)))


def _line(store: Store, key: str) -> str:
    return (store.get(key, limit=MAX_LINE) or b"").decode("ascii", "replace")


def _dropped(plan: str) -> str:
    return f"approvals/{plan.removeprefix('sha256:')}/"
