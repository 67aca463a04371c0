"""S3 buckets, Amazon's or any compatible store's; the only importer of boto3 and botocore.

Where the libraries' defaults are loose, this is not: every request has a timeout and a bounded number of
tries, every list is paginated to its end, every answer has a largest size, no proxy is taken from the
environment, and credentials are exactly those the site names. Bytes that were written by `put` carry their
SHA-256, and are checked against it when they are read. Errors are typed and hold an error code at most:
S3's own messages repeat access keys and strings to sign.

Conditional writes (`If-None-Match: *`, `If-Match`) are atomic on Amazon S3 since November 2024 and on
SeaweedFS 4.48 (races in `tests/transports/test_s3.py`); `store/s3_trial.py` refuses a store where they are
not.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC
from typing import TYPE_CHECKING, Any, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    ProxyConnectionError,
    SSLError,
)
from botocore.parsers import ResponseParserError

from lamplighter.errors import (
    AuthFailedError,
    OutputTooLargeError,
    RemoteFailedError,
    TransportError,
    UnreachableError,
)
from lamplighter.secrets import Resolve, resolve
from lamplighter.transports.s3_errors import RETRIED, AbsentError, LostError, answered, in_doubt, unanswered
from lamplighter.transports.s3_values import (
    MAX_OBJECT,
    Entry,
    Put,
    Retention,
    S3Settings,
    Stored,
    Version,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MAX_ANSWER = 32 * 1024 * 1024
"""Largest answer to a list or another small request, in bytes; a page of 1,000 keys takes at most 4 MB."""
DIGEST, MARK = "sha256", "mark"
_NOT_ALLOWED, _NOT_IMPLEMENTED = 405, 501
T = TypeVar("T")


class Bucket:
    """One bucket; safe for any number of threads. Fulfils `Reader`.

    Args:
        settings: which, and how to get there.
        resolver: turns secret references into secrets.

    Raises:
        SecretError: a reference cannot be resolved.
        AuthFailedError: no credentials are named.
    """

    def __init__(self, settings: S3Settings, resolver: Resolve = resolve) -> None:
        self._name = settings.bucket
        self._where = f"s3://{settings.bucket}" + (f" at {settings.endpoint}" if settings.endpoint else "")
        self._doubt = _Doubt()
        self._client = _client(settings, resolver, self._where, self._doubt)
        self._closed = weakref.finalize(self, self._client.close)

    def __repr__(self) -> str:
        return f"<Bucket {self._where}>"

    def close(self) -> None:
        """Close its connections; they are closed with the last reference, too."""
        self._closed()

    def put(
        self, key: str, data: bytes, *, absent: bool = False, etag: str = "", lock: Retention | None = None,
        mark: str = "",
    ) -> Put:
        """Write an object, if a condition holds.

        Args:
            key: where.
            data: what; its SHA-256 is kept as metadata.
            absent: only if there is no such object.
            etag: only if the object is still the one of this etag.
            lock: until when nobody may delete this version; the bucket must have object lock.
            mark: kept with it, so that its writer knows it again; of `[0-9a-f]`.

        Returns:
            An empty etag when the condition did not hold, or the store gave no verdict. That is a question
            and no answer: an earlier try, a proxy or the store itself may have written it. Read and compare.

        Raises:
            SessionLostError: a try of it was not answered; it is not known whether it was written.
            TransportError: see `lamplighter.errors`; it was not written.
        """
        options: dict[str, Any] = {"Metadata": {DIGEST: hashlib.sha256(data).hexdigest()}}
        if mark:
            options["Metadata"][MARK] = mark
        if absent:
            options["IfNoneMatch"] = "*"
        if etag:
            options["IfMatch"] = etag
        if lock:
            options |= {"ObjectLockMode": lock.mode, "ObjectLockRetainUntilDate": lock.until}
        self._doubt.pending = False
        try:
            with self._told(f"{key} cannot be written", (LostError, AbsentError)):
                answer = self._client.put_object(Bucket=self._name, Key=key, Body=data, **options)
        except LostError as lost:
            return Put("", unsure=lost.unsure)
        except AbsentError:  # what If-Match names is gone
            return Put("")
        except TransportError as error:
            raise (in_doubt(error) if self._doubt.pending else error) from None
        tag = answer.get("ETag", "")
        return Put(_etag(tag), unsure=not tag)  # 200 without one may be an error in disguise

    def get(self, key: str, *, limit: int = MAX_OBJECT, version: str = "") -> Stored | None:
        """Read an object whole; None when there is none.

        Raises:
            OutputTooLargeError: it is larger than `limit` bytes.
            RemoteFailedError: its bytes are not those that `put` wrote.
        """
        options: dict[str, Any] = {"VersionId": version} if version else {}
        try:
            with self._told(f"{key} cannot be read"):
                answer = self._client.get_object(Bucket=self._name, Key=key, **options)
                with contextlib.closing(answer["Body"]) as body:
                    data = body.read(limit + 1) if answer.get("ContentLength", 0) <= limit else b""
                length = answer.get("ContentLength", len(data))
                server = answer["ResponseMetadata"]["HTTPHeaders"].get("server", "")
                stored = Stored(
                    data, _etag(answer["ETag"]), answer["LastModified"], answer.get("VersionId", ""), server,
                    answer.get("Metadata", {}).get(MARK, ""),
                )
        except AbsentError:
            return None
        if max(length, len(data)) > limit:
            raise OutputTooLargeError(f"{key} is larger than the {limit} bytes allowed", where=self._where)
        digest = answer.get("Metadata", {}).get(DIGEST)
        if len(data) != length or (digest and hashlib.sha256(data).hexdigest() != digest):
            raise RemoteFailedError(f"{key} came back with other bytes than were written", where=self._where)
        return stored

    def list(self, prefix: str = "", *, flat: bool = True) -> Iterator[Entry]:
        """See `Reader.list`; every page is read, in order of keys within each page."""
        options: dict[str, Any] = {} if flat else {"Delimiter": "/"}
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._name, Prefix=prefix, **options
        )
        yield from self._pages(pages, prefix, _entries)

    def versions(self, prefix: str = "") -> Iterator[Version]:
        """See `Reader.versions`."""
        pages = self._client.get_paginator("list_object_versions").paginate(Bucket=self._name, Prefix=prefix)
        yield from self._pages(pages, prefix, _versions)

    def retention(self, key: str, version: str = "") -> Retention | None:
        """See `Reader.retention`."""
        options: dict[str, Any] = {"VersionId": version} if version else {}
        try:
            with self._told(f"the retention of {key} cannot be read"):
                found = self._client.get_object_retention(Bucket=self._name, Key=key, **options)["Retention"]
        except AbsentError:
            return None
        if "Mode" not in found or "RetainUntilDate" not in found:
            return None
        return Retention(found["Mode"], found["RetainUntilDate"].astimezone(UTC))

    def locks(self) -> bool:
        """See `Reader.locks`; a store that does not know the question has none."""
        try:
            with self._told("the bucket's object lock cannot be read"):
                found = self._client.get_object_lock_configuration(Bucket=self._name)
                return found["ObjectLockConfiguration"].get("ObjectLockEnabled") == "Enabled"
        except AbsentError:
            return False
        except RemoteFailedError as error:
            if is_unknown_there(error):
                return False
            raise

    def _pages(self, pages: Any, prefix: str, read: Callable[[Any], Sequence[T]]) -> Iterator[T]:
        rest = iter(pages)
        while True:
            try:
                with self._told(f"{prefix or 'the bucket'} cannot be listed"):
                    page = next(rest, None)
                    found = () if page is None else read(page)
                if page and page.get("IsTruncated") and not (
                    page.get("NextContinuationToken") or page.get("NextKeyMarker")
                ):
                    raise RemoteFailedError(
                        f"the list of {prefix or 'the bucket'} breaks off and does not say where it goes on",
                        where=self._where, advice="this store's lists cannot be trusted: use another one",
                    )
            except AbsentError as error:
                raise RemoteFailedError("there is no such bucket", where=self._where) from error
            if page is None:
                return
            yield from found

    @contextlib.contextmanager
    def _told(
        self, what: str, expected: tuple[type[Exception], ...] = (AbsentError,)
    ) -> Iterator[None]:
        """Turn the library's errors into typed ones without their texts, which may repeat secrets.

        Args:
            what: went wrong.
            expected: the signals the caller deals with.
        """
        try:
            yield
        except ClientError as error:
            found = answered(error, what, self._where)
            if isinstance(found, (TransportError, *expected)):
                raise found from None
            raise RemoteFailedError(f"{what}: the answer does not fit", where=self._where) from None
        except (BotoCoreError, HTTPClientError) as error:
            raise unanswered(error, what, self._where) from None
        except KeyError as error:
            raise RemoteFailedError(f"{what}: the answer lacks {error}", where=self._where) from None
        except (ResponseParserError, ValueError, TypeError, AttributeError, OverflowError) as error:
            why = f"{what}: the answer is not S3's ({type(error).__name__})"
            raise RemoteFailedError(why, where=self._where, advice="check the endpoint") from None


def _entries(page: Any) -> list[Entry]:
    objects = [Entry(one["Key"], one["Size"], one["LastModified"]) for one in page.get("Contents", ())]
    return objects + [Entry(one["Prefix"]) for one in page.get("CommonPrefixes", ())]


def _versions(page: Any) -> list[Version]:
    return [
        Version(
            one["Key"], one["VersionId"], one["IsLatest"], deleted=deleted, size=one.get("Size", 0),
            modified=one["LastModified"],
        )
        for kind, deleted in (("Versions", False), ("DeleteMarkers", True))
        for one in page.get(kind, ())
    ]


def is_unknown_there(error: BaseException | None) -> bool:
    """Whether the store does not know what it was asked."""
    said = error.data if isinstance(error, TransportError) else {}
    unknown = {"NotImplemented", "MethodNotAllowed"}
    return said.get("status") in {_NOT_ALLOWED, _NOT_IMPLEMENTED} or said.get("code") in unknown


class _Doubt(threading.local):
    """Whether a try of this thread's request may have been carried out, though it was not answered."""

    pending = False


def _etag(tag: str) -> str:
    """An ETag as it was before a proxy made it weak, or a store left its quotes out (RFC 9110 8.8.3)."""
    plain = tag.removeprefix("W/").strip('"')
    return f'"{plain}"' if plain else ""


def _client(settings: S3Settings, resolver: Resolve, where: str, doubt: _Doubt) -> S3Client:
    if bool(settings.access_key) != bool(settings.secret_key) or not (settings.access_key or settings.chain):
        raise AuthFailedError(
            "no credentials are named", where=where,
            advice="give access_key and secret_key as references (env:NAME, file:PATH, cmd:NAME), or "
            "credentials: aws for the usual AWS chain",
        )
    names = {
        "aws_access_key_id": settings.access_key, "aws_secret_access_key": settings.secret_key,
        "aws_session_token": settings.session_token,
    }
    keys: dict[str, Any] = {name: resolver(place).reveal() for name, place in names.items() if place}
    when: Any = "when_supported" if settings.checksums else "when_required"
    config = Config(
        connect_timeout=settings.connect_timeout, read_timeout=settings.read_timeout,
        retries={"mode": "standard", "total_max_attempts": settings.tries}, max_pool_connections=50,
        proxies={"http": settings.proxy, "https": settings.proxy} if settings.proxy else {},
        signature_version="s3v4", s3={"addressing_style": "path" if settings.endpoint else "auto"},
        request_checksum_calculation=when, response_checksum_validation=when,
    )
    _keep_quiet()
    try:
        client: S3Client = boto3.session.Session().client(
            "s3", endpoint_url=settings.endpoint or None, region_name=settings.region,
            verify=settings.ca or True, config=config, **keys,
        )
    except (BotoCoreError, ValueError) as error:
        raise UnreachableError(f"the bucket cannot be opened: {type(error).__name__}", where=where) from None
    _cap_answers(client, doubt)
    client.meta.events.register("before-parameter-build.s3", _stay)
    client.meta.events.register("before-call.s3", _ask_no_leave)
    return client


def _stay(context: dict[str, Any], **_: object) -> None:
    """Have botocore believe that the request was redirected before, for it is redirected once at most.

    It would ask the same server for the bucket's region, and follow redirects from that question by asking
    again, until Python's stack is full. Neither our region nor our endpoint is the server's to choose.
    """
    context["s3_redirect"] = {**context.get("s3_redirect", {}), "redirected": True}


def _ask_no_leave(params: dict[str, Any], **_: object) -> None:
    """Send bodies without asking first.

    A store that says "100 Continue" and hangs up would have botocore read for ever: it waits for an empty
    line, which the end of a connection never gives, and knows no time-out there.
    """
    params["headers"].pop("Expect", None)


def _keep_quiet() -> None:
    """At level DEBUG the libraries log headers and bodies; whoever debugs a worker must not see them."""
    for name in ("boto3", "botocore", "urllib3", "s3transfer"):
        if logging.getLogger(name).level < logging.INFO:
            logging.getLogger(name).setLevel(logging.INFO)


def _cap_answers(client: S3Client, doubt: _Doubt) -> None:
    """Read every answer but the body of an object here, up to a largest size; note what is in doubt.

    botocore would read them whole, whatever their size. There is no public way to its HTTP session.
    """
    session = client._endpoint.http_session  # type: ignore[attr-defined]  # noqa: SLF001 - as said
    send = session.send

    def capped(request: Any) -> Any:
        is_object = request.stream_output
        request.stream_output = True
        try:
            answer = send(request)
            if not is_object or answer.status_code >= 300:  # noqa: PLR2004 - an error, which botocore reads whole
                answer._content = _read(answer.raw)  # noqa: SLF001 - what its `content` would have read
        except (ConnectTimeoutError, EndpointConnectionError, ProxyConnectionError, SSLError):
            raise
        except Exception:
            doubt.pending = True
            raise
        doubt.pending |= answer.status_code in RETRIED
        return answer

    session.send = capped


def _read(raw: Any) -> bytes:
    try:
        data: bytes = raw.read(MAX_ANSWER + 1)
    except Exception as error:
        raise HTTPClientError(error=error) from error
    finally:
        raw.close()  # what was read to its end has given its connection back by now
    if len(data) > MAX_ANSWER:
        raise HTTPClientError(error=f"the answer is larger than {MAX_ANSWER} bytes")
    return data
