"""Which store this is: made once, on purpose, and known by an id that `site.yaml` holds.

A path or a prefix says where a store should be, not that it is there: a disk that is not mounted is an
empty folder, a mistyped prefix an empty bucket. So a store carries one object, `store`, that was written at
its birth (`lamplighter store new`) and says its id and its site. Opening looks for it, and never makes one.
"""

from __future__ import annotations

import secrets
from dataclasses import asdict, dataclass

from lamplighter.errors import MalformedError, StoreError
from lamplighter.model.canonical import canonical
from lamplighter.model.envelope import Fields
from lamplighter.store import Store, StoreAddress

KEY = "store"
VERSION = 1
_LIMIT = 4096


@dataclass(frozen=True, slots=True)
class Identity:
    """What a store says about itself.

    Attributes:
        id: 32 hexadecimal digits, drawn at its birth.
        site: the one site whose runs it keeps.
        made: seconds since the epoch.
    """

    id: str
    site: str
    made: int


def new_id() -> str:
    """An id that no other store has."""
    return secrets.token_hex(16)


def name_store(store: Store, identity: Identity) -> None:
    """Give a new, empty store its identity.

    Raises:
        ExistsError: it has one.
    """
    store.put_new(KEY, canonical({"v": VERSION, **asdict(identity)}))


def identity_of(store: Store) -> Identity | None:
    """What a store says about itself; None when nothing says that it is one.

    Raises:
        StoreError: it cannot be read.
    """
    data = store.get(KEY, limit=_LIMIT)
    if data is None:
        return None
    try:
        fields = Fields(data, VERSION, "the store's identity", limit=_LIMIT)
        found = Identity(fields.text("id"), fields.text("site"), fields.number("made"))
        fields.end()
    except MalformedError as error:
        raise StoreError(
            f"the object `{KEY}` does not say which store this is: {error.message}", where=store.url,
            changed="Nothing was changed",
            advice="restore it from a copy; nothing is written here until then",
        ) from error
    return found


def site_of(store: Store) -> str:
    """The site a store belongs to; empty when it is none."""
    found = identity_of(store)
    return found.site if found else ""


def check_site(store: Store, site: str) -> None:
    """Refuse what is no store, or another site's.

    Raises:
        StoreError: as said.
    """
    found = identity_of(store)
    if found is None:
        raise no_store(StoreAddress(store.url, site=site))
    if found.site != site:
        raise _of_another_site(found, site, store)


def check_identity(store: Store, address: StoreAddress) -> None:
    """Refuse a store that is not the one that is meant.

    Args:
        store: opened.
        address: what `site.yaml` says; an empty `id` or `site` in it asks for nothing.

    Raises:
        StoreError: there is no store, or another one, or `site.yaml` does not say which.
    """
    found = identity_of(store)
    if found is None:
        raise no_store(address)
    if address.site and found.site != address.site:
        raise _of_another_site(found, address.site, store)
    if address.site and not address.id:
        raise StoreError(
            f"site.yaml does not say which store this is; it is {found.id}", where=store.url,
            changed="Nothing was changed",
            advice=f"if it is the right one, write under store: `id: {found.id}`",
        )
    if address.id and found.id != address.id:
        raise StoreError(
            f"this is the store {found.id}, and site.yaml names {address.id}", where=store.url,
            changed="Nothing was changed",
            advice="see which disk is mounted there, or which bucket and prefix are named",
        )


def _of_another_site(found: Identity, site: str, store: Store) -> StoreError:
    return StoreError(
        f"the store belongs to site {found.site!r}, not to {site!r}", where=store.url,
        changed="Nothing was changed", advice="give each site a store of its own in its site.yaml",
    )


def no_store(address: StoreAddress, why: str = "") -> StoreError:
    """The error for a place where no store is."""
    what = f"there is no store here{f' ({why})' if why else ''}"
    name = address.site or "SITE"
    if address.id:
        return StoreError(
            f"{what}; site.yaml names the store {address.id}", where=address.url,
            changed="Nothing was changed",
            advice="is its disk mounted, is the path or prefix right? A store that is lost is restored, or "
            f"`id` is taken out of site.yaml and a new one made: lamplighter store new {name}",
        )
    return StoreError(
        what, where=address.url, changed="Nothing was changed",
        advice=f"check the path or prefix; a store is made once: lamplighter store new {name}",
    )
