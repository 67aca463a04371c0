"""What was changed on a site's standing approvals, one record a run, in the site's store.

A record never changes, and its key says all there is: `standing-uses/<digest>/<day>/<time>-<targets>-<run>`.
So that judging a gate costs a listing of two days, whatever the approval's age.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lamplighter.model.standing import DAY, Use
from lamplighter.store import Store

PREFIX = "standing-uses/"


def record_use(store: Store, digest: str, use: Use) -> None:
    """Count a run's targets as used, once.

    Args:
        store: the site's.
        digest: of the standing approval's statement.
        use: see `Use`.

    Raises:
        StoreError: it could not be written, so nothing may rest on it.
    """
    key = f"{_folder(digest)}{use.time // DAY:06}/{use.time:012}-{use.targets}-{use.run}"
    store.put_new(key, b"{}")


class RecentUses(Mapping[str, tuple[Use, ...]]):
    """Digest of a standing approval to its uses of the last day at least, read when asked."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getitem__(self, digest: str) -> tuple[Use, ...]:
        days = list(self._store.list(_folder(digest)))[-2:]
        return tuple(_use(key) for day in days for key in self._store.list(day))

    def __iter__(self) -> Iterator[str]:
        return (f"sha256:{key.strip('/').rpartition('/')[2]}" for key in self._store.list(PREFIX))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _use(key: str) -> Use:
    time, targets, run = key.rpartition("/")[2].split("-", 2)
    return Use(int(time), run, int(targets))


def _folder(digest: str) -> str:
    return f"{PREFIX}{digest.removeprefix('sha256:')}/"
