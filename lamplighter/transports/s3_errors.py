"""What a store's answers mean, and the words for them. Its own messages repeat keys, and are never shown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import botocore.exceptions
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    HTTPClientError,
    NoCredentialsError,
    PartialCredentialsError,
    ReadTimeoutError,
    SSLError,
)

from lamplighter.errors import (
    AuthFailedError,
    RemoteFailedError,
    SessionLostError,
    TimedOutError,
    TransportError,
    UnreachableError,
)

UNKNOWN = "it is not known whether it was written"
RETRIED = frozenset({500, 502, 503, 504})
"""A request that ends so may have been carried out."""
_AUTH = {
    "403", "AccessDenied", "AllAccessDisabled", "ExpiredToken", "InvalidAccessKeyId", "InvalidToken",
    "SignatureDoesNotMatch", "TokenRefreshRequired", "RequestTimeTooSkewed",
}
_ABSENT = {"404", "NoSuchKey", "NoSuchVersion", "NotFound"}
_NO_LOCK = {"ObjectLockConfigurationNotFoundError", "NoSuchObjectLockConfiguration"}
_ELSEWHERE = {
    "NoSuchBucket", "PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException", "301", "302", "307",
}
_RIGHTS = {
    "GetObject": "s3:GetObject, and s3:ListBucket: without that, what is not there is AccessDenied, too",
    "PutObject": "s3:PutObject, and in a bucket with object lock s3:PutObjectRetention",
    "ListObjectsV2": "s3:ListBucket", "ListObjectVersions": "s3:ListBucketVersions",
    "GetObjectLockConfiguration": "s3:GetBucketObjectLockConfiguration",
    "GetObjectRetention": "s3:GetObjectRetention",
}
"""Operation to the rights that it needs (Amazon S3 API reference)."""
_PRECONDITION_FAILED, _CONFLICT, _NOT_MODIFIED = 412, 409, 304


class LostError(Exception):
    """The condition of a write did not hold.

    Attributes:
        unsure: the store gave no verdict: 409 while another write of the key is under way, or 304.
    """

    def __init__(self, *, unsure: bool) -> None:
        super().__init__()
        self.unsure = unsure


class AbsentError(Exception):
    """There is no such object, version or configuration."""


def answered(error: ClientError, what: str, where: str) -> Exception:
    """The store said no."""
    code = str(error.response.get("Error", {}).get("Code", ""))
    code = code if code.isalnum() and len(code) < 80 else "unknown"  # noqa: PLR2004 - S3's longest has 45
    about: Mapping[str, Any] = error.response.get("ResponseMetadata", {})
    status = about.get("HTTPStatusCode", 0)
    if code in _ABSENT | _NO_LOCK:
        return AbsentError()
    if _PRECONDITION_FAILED in (status, _number(code)) or code == "PreconditionFailed":
        return LostError(unsure=False)
    if status in {_CONFLICT, _NOT_MODIFIED} or _number(code) in {_CONFLICT, _NOT_MODIFIED}:
        return LostError(unsure=True)
    found: TransportError
    if code in _AUTH:
        advice = _auth_advice(code, error.operation_name, about)
        found = AuthFailedError(f"{what}: {code}", where=where, advice=advice)
    else:
        advice = _elsewhere(about) if code in _ELSEWHERE else "try again later"
        found = RemoteFailedError(f"{what}: {code}", where=where, advice=advice)
    found.data = {"status": status, "code": code}
    return found


def unanswered(error: Exception, what: str, where: str) -> TransportError:
    """Nothing, or nothing usable, came back."""
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return AuthFailedError(f"{what}: there are no credentials", where=where)
    if isinstance(error, SSLError):
        return UnreachableError(
            f"{what}: the server's certificate is not trusted", where=where,
            advice="name its authority's certificate: ca in the store's options",
        )
    if isinstance(error, ReadTimeoutError):
        return TimedOutError(f"{what}: no answer in time", where=where)
    if isinstance(error, ConnectTimeoutError | botocore.exceptions.ConnectionError | HTTPClientError):
        return UnreachableError(
            f"{what}: no connection ({type(error).__name__})", where=where, advice="check the endpoint"
        )
    return RemoteFailedError(f"{what}: {type(error).__name__}", where=where)


def in_doubt(error: TransportError) -> TransportError:
    """A write that may have been carried out, though no try of it was answered well."""
    message = error.message.replace("no connection", "the connection broke")
    kind = TimedOutError if isinstance(error, TimedOutError) else SessionLostError
    advice = "Repeating it is harmless: what was written already is found"
    return kind(f"{message}; {UNKNOWN}", where=error.where, advice=advice)


def _auth_advice(code: str, operation: str, about: Mapping[str, Any]) -> str:
    if code == "RequestTimeTooSkewed":
        return f"set this machine's clock{_skew(about)}"
    if code in {"403", "AccessDenied", "AllAccessDisabled"}:
        return f"allow this account in the bucket's policy: {_RIGHTS.get(operation, operation)}"
    return "check the keys, and whether they are this endpoint's"


def _skew(about: Mapping[str, Any]) -> str:
    try:
        theirs = parsedate_to_datetime(about["HTTPHeaders"]["date"])
        return f"; it is {(datetime.now(UTC) - theirs).total_seconds():+.0f} s against the store's"
    except (KeyError, ValueError, TypeError):
        return ""


def _elsewhere(about: Mapping[str, Any]) -> str:
    region = str(about.get("HTTPHeaders", {}).get("x-amz-bucket-region", ""))
    if re.fullmatch(r"[a-z]{2}(-[a-z]+)+-[0-9]{1,2}", region):
        return f"check the bucket's name and region; the store names the region {region}"
    return "check the bucket's name and region"


def _number(code: str) -> int:
    return int(code) if code.isdecimal() else 0
