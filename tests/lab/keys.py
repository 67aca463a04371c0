"""SSH keys, made where they are used and gone with the estate or fleet that made them."""

import shutil
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.lab.spec import PASSPHRASE
from tests.lab.system import run

CLIENT, ENCRYPTED = "client_key", "client_key_encrypted"


def make_key(path: Path, comment: str, passphrase: str = "") -> None:
    """Make an ed25519 key pair. Params: path, of the private key; comment; passphrase."""
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", comment, "-f", path])


def make_keys(wanted: Iterable[tuple[Path, str]]) -> None:
    """Make many host keys at once. Params: wanted, paths and comments."""
    with ThreadPoolExecutor(max_workers=8) as pool:
        list(pool.map(lambda pair: make_key(*pair), wanted))


def make_client_keys(folder: Path) -> str:
    """Make the plain and the passphrase-protected client key.

    Params: folder, made if need be. Returns: authorized_keys lines for both.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    make_key(folder / CLIENT, "lab client")
    make_key(folder / ENCRYPTED, "lab client, encrypted", PASSPHRASE)
    return "".join(public_line(folder / name) + "\n" for name in (CLIENT, ENCRYPTED))


def public_line(private: Path) -> str:
    """Read the public half. Params: private, the private key's path. Returns: type, key, comment."""
    return private.with_name(f"{private.name}.pub").read_text(encoding="ascii").strip()


def known_hosts_line(address: str, port: int, public: str) -> str:
    """Write a known_hosts line. Params: address; port; public, a public line. Returns: the line."""
    where = address if port == 22 else f"[{address}]:{port}"  # noqa: PLR2004 - ssh's own rule
    return " ".join([where, *public.split()[:2]])


def remove_tree(folder: Path) -> None:
    """Remove a folder and all in it, whatever is missing already. Params: folder."""
    shutil.rmtree(folder, ignore_errors=True)
