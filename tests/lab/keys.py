"""SSH keys, made where they are used and gone with the estate or fleet that made them."""

import shutil
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.lab.errors import LabError
from tests.lab.spec import PASSPHRASE
from tests.lab.system import run

CLIENT, ENCRYPTED = "client_key", "client_key_encrypted"


def make_key(path: Path, comment: str, passphrase: str = "") -> None:
    """Make an ed25519 key pair.

    Args:
        path: of the private key.
    """
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", comment, "-f", path])


def make_keys(wanted: Iterable[tuple[Path, str]]) -> None:
    """Make many host keys at once.

    Args:
        wanted: paths and comments.
    """
    with ThreadPoolExecutor(max_workers=8) as pool:
        list(pool.map(lambda pair: make_key(*pair), wanted))


def make_client_keys(folder: Path) -> str:
    """Make the plain and the passphrase-protected client key.

    Args:
        folder: made if need be.

    Returns:
        Lines for authorized_keys, one for each.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    make_key(folder / CLIENT, "lab client")
    make_key(folder / ENCRYPTED, "lab client, encrypted", PASSPHRASE)
    return "".join(public_line(folder / name) + "\n" for name in (CLIENT, ENCRYPTED))


def public_line(private: Path) -> str:
    """Read the public half.

    Args:
        private: the private key's path.

    Returns:
        Type, key, comment.
    """
    return private.with_name(f"{private.name}.pub").read_text(encoding="ascii").strip()


def known_hosts_line(address: str, port: int, public: str) -> str:
    """Write a known_hosts line.

    Args:
        public: a public line.

    Returns:
        The line.
    """
    where = address if port == 22 else f"[{address}]:{port}"
    return " ".join([where, *public.split()[:2]])


def require_empty(folder: Path) -> None:
    """Make sure a folder holds nothing that would be lost.

    Raises:
        LabError: if it does.
    """
    if folder.exists() and any(folder.iterdir()):
        raise LabError(f"{folder} is not empty: give the estate or fleet a folder of its own")


def remove_tree(folder: Path) -> None:
    """Remove a folder and all in it, whatever is missing already."""
    shutil.rmtree(folder, ignore_errors=True)
