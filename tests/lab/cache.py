"""What the lab makes once and keeps in the user's cache: images, a provisioned domain, an empty database."""

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path


def cache_folder() -> Path:
    """Say where it is kept.

    Returns:
        The lab's folder in the user's cache.
    """
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "lamplighter" / "lab"


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Be the only one who holds this lock, on the whole machine.

    Args:
        path: of the lock; its folder is made if need be.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def kept_file(name: str, recipe: object, make: Callable[[Path], Path]) -> Path:
    """Get a file that takes long to make, and make it if it is not there; older ones of its name go.

    Args:
        name: what it is.
        recipe: whatever it depends on; has a `repr` that says so.
        make: from a scratch folder to the finished file in it.

    Returns:
        The file's path.
    """
    digest = hashlib.sha256(repr(recipe).encode()).hexdigest()[:16]
    path = cache_folder() / f"{name}-{digest}"
    if path.exists():
        return path
    with locked(path.parent / f"{name}.lock"):
        if not path.exists():
            for old in path.parent.glob(f"{name}-*"):
                shutil.rmtree(old) if old.is_dir() else old.unlink()
            scratch = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=path.parent))
            try:
                make(scratch).rename(path)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
    return path
