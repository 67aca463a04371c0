"""Buckets on the lab's S3 server, and what the store needs to use them."""

from __future__ import annotations

import secrets
from functools import cache
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config

from lamplighter.secrets import Secret
from lamplighter.store.s3 import S3Store
from lamplighter.transports.s3 import Bucket
from lamplighter.transports.s3_values import S3Settings
from tests.lab.seaweedfs import Seaweed
from tests.storekit import named

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def client(server: Seaweed, access_key: str = "", secret_key: str = "") -> S3Client:
    """The administrator's own way in, or somebody else's, past everything under test."""
    made: S3Client = boto3.session.Session().client(
        "s3", endpoint_url=server.endpoint, region_name="us-east-1",
        aws_access_key_id=access_key or server.access_key, verify=str(server.ca),
        aws_secret_access_key=secret_key or server.secret_key, config=Config(proxies={}),
    )
    return made


def shared_bucket(server: Seaweed, *, lock: bool = False) -> str:
    """One plain and one locked bucket per server: each takes several of its volumes."""
    return _bucket(server, lock)


@cache  # of positional arguments: one that is left out would be another call than one that is given
def _bucket(server: Seaweed, lock: bool) -> str:
    name = f"lamplighter-{secrets.token_hex(6)}"
    client(server).create_bucket(Bucket=name, ObjectLockEnabledForBucket=lock)
    return name


def new_store(server: Seaweed, *, lock: bool = False) -> S3Store:
    """A store under a prefix of its own."""
    name = shared_bucket(server, lock=lock)
    return named(S3Store(open_bucket(server, name), f"s3://{name}/{secrets.token_hex(6)}/site"))


def settings(server: Seaweed, name: str, **changes: object) -> S3Settings:
    options: dict[str, object] = {
        "bucket": name, "endpoint": server.endpoint, "ca": str(server.ca), "access_key": "env:ACCESS",
        "secret_key": "env:SECRET", **changes,
    }
    return S3Settings(**options)  # type: ignore[arg-type]


def open_bucket(server: Seaweed, name: str, *, reader: bool = False, **changes: object) -> Bucket:
    values = {
        "env:ACCESS": server.reader_key if reader else server.access_key,
        "env:SECRET": server.reader_secret if reader else server.secret_key, "env:WRONG": "wrong-secret-4711",
    }
    return Bucket(settings(server, name, **changes), lambda reference: Secret(values[reference], reference))
