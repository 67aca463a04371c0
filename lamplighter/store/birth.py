"""The birth of a store: once, on purpose, in a place that is empty and fit for it."""

from __future__ import annotations

from lamplighter.errors import StoreError
from lamplighter.store import StoreAddress, folder_of, reach
from lamplighter.store.identity import Identity, identity_of, name_store, new_id

FOUND_ON_NEW_DISKS = {"lost+found"}


def make_store(address: StoreAddress, now: int) -> Identity:
    """Make the store that a site's file names; its place must be empty.

    Args:
        address: with the site; without an id, which the new store draws.
        now: seconds since the epoch.

    Raises:
        StoreError: there is a store, or something else, in that place; the place is not fit for one; or
            `site.yaml` names a store already, which is then not the one to be made.
    """
    if address.id:
        raise StoreError(
            f"site.yaml names the store {address.id} already", where=address.url,
            changed="Nothing was made",
            advice="see whether its disk is mounted; if that store is given up, take `id` out of site.yaml",
        )
    folder = folder_of(address.url)
    if folder is not None:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"the folder cannot be made: {error.strerror}", where=address.url) from error
    store = reach(address)
    found = identity_of(store)
    if found is not None:
        raise StoreError(
            f"there is a store already: {found.id}, of site {found.site}", where=address.url,
            changed="Nothing was made", advice=f"if it is the right one, write under store: `id: {found.id}`",
        )
    others = sorted(name for name in store.names() if name not in FOUND_ON_NEW_DISKS)
    if others:
        raise StoreError(
            f"something else lies here: {', '.join(others[:5])}", where=address.url,
            changed="Nothing was made", advice="name an empty folder or an unused prefix",
        )
    identity = Identity(new_id(), address.site, now)
    name_store(store, identity)
    return identity
