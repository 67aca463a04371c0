"""Stores for tests: a store is made once and then opened, as everywhere."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TypeVar

from lamplighter.store import Store, StoreAddress, open_store
from lamplighter.store.birth import make_store
from lamplighter.store.directory import DirectoryStore
from lamplighter.store.identity import Identity, identity_of, name_store, new_id

SITE = "demo"
S = TypeVar("S", bound=Store)


def a_store(folder: Path, site: str = SITE) -> DirectoryStore:
    """The store in a folder, made when none is there."""
    if not (folder / "store").exists():
        make_store(StoreAddress(f"file:{folder}", site=site), int(time.time()))
    return DirectoryStore(folder)


def store_entry(folder: Path, site: str = SITE) -> dict[str, str]:
    """What `site.yaml` says of the store in a folder, made when none is there."""
    found = identity_of(a_store(folder, site))
    assert found is not None
    return {"url": f"file:{folder}", "id": found.id}


def store_line(folder: Path, site: str = SITE) -> str:
    """The same as one line of `site.yaml`."""
    entry = store_entry(folder, site)
    return f"store: {{url: '{entry['url']}', id: {entry['id']}}}"


def opened(folder: Path) -> Store:
    """Whatever store lies in a folder."""
    return open_store(StoreAddress(f"file:{folder}"))


def named(store: S, site: str = SITE) -> S:
    """A store in a place of its own, a bucket's prefix for example, given its identity."""
    name_store(store, Identity(new_id(), site, int(time.time())))
    return store
