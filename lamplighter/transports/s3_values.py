"""What the S3 transport speaks of: settings, objects, versions; and the protocol that checks read by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

MAX_OBJECT = 64 * 1024 * 1024
"""Largest object read into memory unless the caller says otherwise, in bytes."""


@dataclass(frozen=True, slots=True)
class S3Settings:
    """Which bucket, and how to get there.

    Attributes:
        bucket: its name.
        endpoint: `https://host:port` of an S3-compatible store; empty for Amazon's.
        region: for the signature.
        ca: PEM file of the authority behind the endpoint; empty for the system's.
        access_key, secret_key, session_token: secret references.
        chain: use the usual AWS chain (environment, profile, instance role) when no reference is given.
        proxy: URL of an HTTP proxy; the environment's are never used.
        connect_timeout, read_timeout: seconds, per try.
        tries: how often a request is sent at most.
        checksums: let botocore add its CRC to every upload; off for stores that reject it.
    """

    bucket: str
    endpoint: str = ""
    region: str = "us-east-1"
    ca: str = ""
    access_key: str = ""
    secret_key: str = ""
    session_token: str = ""
    chain: bool = False
    proxy: str = ""
    connect_timeout: float = 5.0
    read_timeout: float = 20.0
    tries: int = 4
    checksums: bool = True


@dataclass(frozen=True, slots=True)
class Stored:
    """An object that was read.

    Attributes:
        data: its bytes.
        etag: the store's name for this content; for `If-Match`, not a digest.
        modified: when it was written.
        version: its version id; empty in a bucket without versions.
        server: how the server calls itself.
        mark: what its writer left with it.
    """

    data: bytes
    etag: str
    modified: datetime
    version: str = ""
    server: str = ""
    mark: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """What a list names.

    Attributes:
        key: of an object, or the common prefix with its final `/`.
        size: bytes; -1 for a prefix.
        modified: when it was written; None for a prefix.
    """

    key: str
    size: int = -1
    modified: datetime | None = None


@dataclass(frozen=True, slots=True)
class Version:
    """One version of one object, or a delete marker.

    Attributes:
        key, version: what it is.
        latest: it is what a plain read sees.
        deleted: it is a delete marker; size and hash it has none.
        size: bytes.
        modified: when it was made.
    """

    key: str
    version: str
    latest: bool
    deleted: bool
    size: int
    modified: datetime


@dataclass(frozen=True, slots=True)
class Retention:
    """Until when a version cannot be deleted, and whether anybody may shorten that.

    Attributes:
        mode: `COMPLIANCE` (nobody) or `GOVERNANCE` (who has the special permission).
        until: UTC.
    """

    mode: str
    until: datetime


@dataclass(frozen=True, slots=True)
class Put:
    """What became of a write.

    Attributes:
        etag: of what was written; empty when the condition did not hold.
        unsure: then: the store gave no verdict (409, 304, 200 without an ETag).
    """

    etag: str
    unsure: bool = False


class Reader(Protocol):
    """What a check of backups needs: it reads and changes nothing."""

    def get(self, key: str, *, limit: int = MAX_OBJECT, version: str = "") -> Stored | None:
        """Read an object; None when there is none."""

    def list(self, prefix: str = "", *, flat: bool = True) -> Iterator[Entry]:
        """Every object below a prefix, or with `flat=False` only what lies directly below it."""

    def versions(self, prefix: str = "") -> Iterator[Version]:
        """Every version and delete marker below a prefix."""

    def retention(self, key: str, version: str = "") -> Retention | None:
        """Until when a version is locked; None when it is not."""

    def locks(self) -> bool:
        """Whether the bucket has object lock."""
