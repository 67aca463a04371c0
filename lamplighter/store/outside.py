"""What this machine saw of a store, kept outside the store.

A store that was restored from yesterday is whole and verifies: nothing in it tells that there was more. So
each worker notes, by the store's id and on its own disk, the last seal it saw, and how far it saw open runs.
A store that has less is older than what was seen. `LAMPLIGHTER_NOTES` says where; a lost note is no harm but
that a rollback is not noticed from here.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from lamplighter.errors import MalformedError, StoreError
from lamplighter.model.canonical import canonical, parse

PLACE = "LAMPLIGHTER_NOTES"
_LIMIT = 4096


@dataclass(frozen=True, slots=True)
class Seen:
    """The end of a chain, as this machine saw it.

    Attributes:
        count: how many records it had.
        head: hash of the last one.
        time: when it was seen, seconds since the epoch.
    """

    count: int
    head: str
    time: int


class Notes:
    """This machine's notes of one store.

    Args:
        store_id: of the store; empty for one without identity, of which nothing is noted.
        place: the folder of all notes; by default `LAMPLIGHTER_NOTES`, else the account's state folder
            (XDG Base Directory Specification).
    """

    def __init__(self, store_id: str, place: Path | None = None) -> None:
        self._folder = (place or _place()) / store_id if store_id else None

    def seal(self) -> Seen | None:
        """The last seal that was seen; None when none was.

        Raises:
            StoreError: the note cannot be read.
        """
        return self._read("seal")

    def run(self, run: str) -> Seen | None:
        """How far an open run was seen."""
        return self._read(f"run-{run}")

    def runs(self) -> Mapping[str, Seen]:
        """Every open run that was seen."""
        names = sorted(self._folder.glob("run-*")) if self._folder and self._folder.is_dir() else []
        found = {path.name.removeprefix("run-"): self._read(path.name) for path in names}
        return {run: seen for run, seen in found.items() if seen}

    def note_seal(self, seen: Seen) -> None:
        """Keep the last seal; an earlier one changes nothing."""
        with self._locked() as folder:
            old = self._read("seal") if folder else None
            if folder and (old is None or old.count < seen.count):
                self._write("seal", seen)

    def note_run(self, run: str, seen: Seen) -> None:
        """Keep how far an open run was seen."""
        with contextlib.suppress(OSError):
            if self._folder:
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._write(f"run-{run}", seen)

    def forget_run(self, run: str) -> None:
        """A sealed run's end is held by its seal."""
        with contextlib.suppress(OSError):
            if self._folder:
                (self._folder / f"run-{run}").unlink(missing_ok=True)

    def forget(self) -> None:
        """Forget the store: both parties said that it was restored."""
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[Path | None]:
        """Workers of one machine note one after the other; where nothing can be noted, nothing is."""
        descriptor = -1
        with contextlib.suppress(OSError):
            if self._folder:
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                descriptor = os.open(self._folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            yield self._folder if descriptor >= 0 else None
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def _read(self, name: str) -> Seen | None:
        if self._folder is None:
            return None
        try:
            data = (self._folder / name).read_bytes()
        except OSError:
            return None
        try:
            return Seen(**parse(data, limit=_LIMIT))
        except (MalformedError, TypeError) as error:
            raise StoreError(
                "the note of what this machine saw of the store cannot be read",
                where=str(self._folder / name), changed="Nothing was changed",
                advice="see what happened to that file; then remove it",
            ) from error

    def _write(self, name: str, seen: Seen) -> None:
        if self._folder is None:
            return
        draft = self._folder / f".{secrets.token_hex(8)}"
        with contextlib.suppress(OSError):
            draft.write_bytes(canonical(asdict(seen)))
            draft.replace(self._folder / name)


def _place() -> Path:
    said = os.environ.get(PLACE)
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(said or f"{state}/lamplighter/notes").expanduser()
