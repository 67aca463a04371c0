"""The S3 transport against a real server, and against servers that mean harm or say nothing."""

from __future__ import annotations

import hashlib
import http.server
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from lamplighter.errors import (
    AuthFailedError,
    LamplighterError,
    OutputTooLargeError,
    RemoteFailedError,
    SecretError,
    TimedOutError,
    TransportError,
    UnreachableError,
)
from lamplighter.secrets import Secret
from lamplighter.transports import s3
from lamplighter.transports.s3 import Bucket
from lamplighter.transports.s3_values import Retention, S3Settings
from tests.lab.daemon import stands_still
from tests.lab.seaweedfs import Seaweed, seaweedfs
from tests.s3kit import client, open_bucket, settings, shared_bucket

SECRET = "wrong-secret-4711"


@pytest.fixture(scope="module")
def name(seaweed: Seaweed) -> str:
    return shared_bucket(seaweed, lock=True)


@pytest.fixture(scope="module")
def bucket(seaweed: Seaweed, name: str) -> Bucket:
    return open_bucket(seaweed, name)


def test_what_is_written_comes_back_with_its_digest_checked(
    bucket: Bucket, seaweed: Seaweed, name: str
) -> None:
    data = os.urandom(200_000)
    assert bucket.put("t/whole", data).etag
    found = bucket.get("t/whole")
    assert found is not None
    assert found.data == data
    assert abs((datetime.now(UTC) - found.modified).total_seconds()) < 60
    assert bucket.get("t/none") is None
    other = {"sha256": hashlib.sha256(b"y").hexdigest()}
    client(seaweed).put_object(Bucket=name, Key="t/whole", Body=b"x", Metadata=other)
    with pytest.raises(RemoteFailedError, match="other bytes than were written"):
        bucket.get("t/whole")


def test_larger_objects_than_allowed_are_not_read(bucket: Bucket) -> None:
    bucket.put("t/large", b"x" * 1001)
    assert bucket.get("t/large", limit=1001)
    with pytest.raises(OutputTooLargeError, match="larger than the 1000 bytes"):
        bucket.get("t/large", limit=1000)


def test_conditions_hold(bucket: Bucket) -> None:
    first = bucket.put("t/cond", b"1", absent=True)
    assert first.etag
    assert not bucket.put("t/cond", b"2", absent=True).etag
    assert not bucket.put("t/cond", b"2", etag='"ffffffffffffffffffffffffffffffff"').etag
    second = bucket.put("t/cond", b"2", etag=first.etag)
    assert second.etag
    assert not bucket.put("t/cond", b"3", etag=first.etag).etag
    found = bucket.get("t/cond")
    assert found is not None
    assert (found.data, found.etag) == (b"2", second.etag)


@pytest.mark.parametrize("lock", [False, True])
def test_of_racing_conditional_writes_one_wins(seaweed: Seaweed, *, lock: bool) -> None:
    bucket = open_bucket(seaweed, shared_bucket(seaweed, lock=lock))
    etag = bucket.put("race/cas", b"start").etag
    with ThreadPoolExecutor(16) as pool:
        new = list(pool.map(lambda n: bucket.put("race/new", b"%d" % n, absent=True).etag, range(16)))
        cas = list(pool.map(lambda n: bucket.put("race/cas", b"%d" % n, etag=etag).etag, range(16)))
    assert [len([one for one in won if one]) for won in (new, cas)] == [1, 1]


def test_every_page_is_read(bucket: Bucket) -> None:
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda n: bucket.put(f"pages/{n % 3}/{n:04d}", b""), range(1050)))
    assert len(list(bucket.list("pages/"))) == 1050
    assert [entry.key for entry in bucket.list("pages/", flat=False)] == ["pages/0/", "pages/1/", "pages/2/"]
    assert len(list(bucket.versions("pages/"))) == 1050
    assert list(bucket.list("no/such")) == []


def test_versions_markers_and_locks_are_seen(bucket: Bucket, seaweed: Seaweed, name: str) -> None:
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=2)
    assert bucket.locks()
    assert not open_bucket(seaweed, shared_bucket(seaweed)).locks()
    bucket.put("t/v", b"one", lock=Retention("GOVERNANCE", until))
    bucket.put("t/v", b"two")
    client(seaweed).delete_object(Bucket=name, Key="t/v")
    versions = sorted(bucket.versions("t/v"), key=lambda version: (version.deleted, version.modified))
    assert [(version.deleted, version.latest, version.size) for version in versions] == [
        (False, False, 3), (False, False, 3), (True, True, 0),
    ]
    assert bucket.get("t/v") is None
    read = [(bucket.get("t/v", version=version.version), version) for version in versions[:2]]
    old = {found.data: version for found, version in read if found}
    assert set(old) == {b"one", b"two"}
    assert bucket.retention("t/v", old[b"one"].version) == Retention("GOVERNANCE", until)
    assert bucket.retention("t/v", old[b"two"].version) is None
    assert bucket.retention("t/none") is None


# --- errors ---------------------------------------------------------------------------------------


def tell(error: LamplighterError) -> str:
    chain, texts = error, []
    while chain is not None:
        texts += [str(chain), repr(chain), repr(vars(chain))]
        chain = chain.__cause__  # type: ignore[assignment]
    return " ".join(texts)


def test_wrong_credentials_are_told_without_repeating_them(seaweed: Seaweed, name: str) -> None:
    wrong = open_bucket(seaweed, name, secret_key="env:WRONG")
    unknown = open_bucket(seaweed, name, access_key="env:WRONG")
    for bucket, code in ((wrong, "SignatureDoesNotMatch"), (unknown, "InvalidAccessKeyId")):
        with pytest.raises(AuthFailedError, match=code) as told:
            bucket.get("t/x")
        for secret in (SECRET, seaweed.secret_key, seaweed.access_key):
            assert secret not in tell(told.value)
        assert SECRET not in repr(bucket)


def test_rights_that_are_missing_are_told(seaweed: Seaweed, name: str, bucket: Bucket) -> None:
    bucket.put("t/readable", b"x")
    reader = open_bucket(seaweed, name, reader=True)
    assert reader.get("t/readable")
    with pytest.raises(AuthFailedError, match="t/readable cannot be written: AccessDenied"):
        reader.put("t/readable", b"y")


def test_a_bucket_that_is_not_there(seaweed: Seaweed) -> None:
    bucket = open_bucket(seaweed, "no-such-bucket")
    for act in (lambda: bucket.get("a"), lambda: list(bucket.list()), lambda: bucket.put("a", b"")):
        with pytest.raises((RemoteFailedError, AuthFailedError)):
            act()


@pytest.mark.parametrize("changes", [
    {"access_key": "", "secret_key": ""}, {"secret_key": ""}, {"access_key": ""},
])
def test_credentials_are_named_or_nothing_starts(
    changes: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even when the environment offers some: whose they are, nobody said."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    names = {"access_key": "env:A", "secret_key": "env:B", **changes}
    with pytest.raises(AuthFailedError, match="no credentials are named"):
        Bucket(S3Settings("b", **names), lambda reference: Secret("x", reference))  # type: ignore[arg-type]


def test_a_reference_that_leads_nowhere(seaweed: Seaweed, name: str) -> None:
    with pytest.raises(SecretError, match="env:LAMPLIGHTER_NO_SUCH"):
        Bucket(settings(seaweed, name, access_key="env:LAMPLIGHTER_NO_SUCH"))


def test_the_usual_aws_chain_is_used_when_asked_for(
    seaweed: Seaweed, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", seaweed.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", seaweed.secret_key)
    bucket = Bucket(settings(seaweed, name, access_key="", secret_key="", chain=True))
    assert bucket.put("t/chain", b"x").etag


def test_a_certificate_of_an_unknown_authority_is_refused(seaweed: Seaweed, name: str) -> None:
    with pytest.raises(UnreachableError, match="certificate is not trusted") as told:
        open_bucket(seaweed, name, ca="", tries=1).get("a")
    assert "ca in the store's options" in told.value.advice


def test_nobody_there(seaweed: Seaweed, name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(UnreachableError, match="no connection"):
        open_bucket(seaweed, name, endpoint=f"https://127.0.0.1:{port}", tries=1).get("a")


def test_proxies_of_the_environment_are_not_used(
    seaweed: Seaweed, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:1")
    assert open_bucket(seaweed, name, tries=1).put("t/direct", b"x").etag


def test_debug_logging_shows_no_request(
    seaweed: Seaweed, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    open_bucket(seaweed, name).put("t/log", b"canary-in-body")
    assert seaweed.secret_key not in caplog.text
    assert "canary-in-body" not in caplog.text
    assert "Authorization" not in caplog.text


@pytest.mark.faults
def test_a_frozen_server_costs_a_bounded_time(tmp_path_factory: pytest.TempPathFactory) -> None:
    with seaweedfs(tmp_path_factory.mktemp("frozen"), tls=True) as server:
        name = shared_bucket(server)
        bucket = open_bucket(server, name, read_timeout=1.0, connect_timeout=1.0, tries=2)
        assert open_bucket(server, name).put("a", b"x").etag
        os.kill(server.pid, signal.SIGSTOP)
        stands_still(server.pid)
        began = time.monotonic()
        with pytest.raises((TimedOutError, UnreachableError)):
            bucket.put("a", b"y")
        assert time.monotonic() - began < 15


# --- servers that mean harm -----------------------------------------------------------------------


@contextmanager
def hostile(answer: bytes) -> Iterator[tuple[str, list[str]]]:
    """Sends `answer` to whatever it is asked, for ever when it ends in `...`."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            asked.append(f"{self.command} {self.path}")
            self.close_connection = True
            try:
                self.wfile.write(answer.removesuffix(b"..."))
                while answer.endswith(b"..."):
                    self.wfile.write(b"<Contents><Key>x</Key></Contents>" * 10_000)
            except OSError:
                pass

        do_GET = do_PUT = do_HEAD = do_POST = handle_any  # noqa: N815 - the library's names

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def at() -> Iterator[Callable[[str], Bucket]]:
    with ExitStack() as stack:
        def opened(endpoint: str) -> Bucket:
            bucket = Bucket(
                S3Settings("b", endpoint, access_key="env:A", secret_key="env:B", tries=1, read_timeout=5),
                lambda reference: Secret(SECRET, reference),
            )
            stack.callback(bucket.close)
            return bucket
        yield opened


At = Callable[[str], Bucket]


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\n"


def test_an_endless_list_is_cut_off(at: At, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "MAX_ANSWER", 3_000_000)
    with hostile(HEAD + b"\r\n<ListBucketResult>...") as (endpoint, _), pytest.raises(TransportError):
        list(at(endpoint).list())


def test_an_endless_error_is_cut_off(at: At, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "MAX_ANSWER", 3_000_000)
    error = b"HTTP/1.1 403 Forbidden\r\nContent-Type: application/xml\r\n\r\n<Error>..."
    with hostile(error) as (endpoint, _), pytest.raises(TransportError):
        at(endpoint).get("a")


def test_a_body_longer_than_it_says_is_cut_off(at: At) -> None:
    body = HEAD + b"ETag: x\r\nLast-Modified: Mon, 23 Nov 2026 13:00:00 GMT\r\nContent-Length: 5\r\n\r\nabc"
    with hostile(body) as (endpoint, _), pytest.raises(TransportError):
        at(endpoint).get("a", limit=100)


@pytest.mark.parametrize("answer", [
    b"garbage\r\n\r\n", HEAD + b"\r\n<not xml", HEAD + b"\r\n" + b"<a>" * 1000, b"", HEAD + b"\r\n\xff\xfe",
    b"HTTP/1.1 500 No\r\n\r\n" + SECRET.encode(),
    b"HTTP/1.1 403 No\r\n\r\n<Error><Code>\x1b[2J" + SECRET.encode(),
])
def test_garbage_is_a_typed_error(at: At, answer: bytes) -> None:
    with hostile(answer) as (endpoint, _):
        for act in (lambda: list(at(endpoint).list()), lambda: at(endpoint).get("a")):
            with pytest.raises(TransportError) as told:
                act()
            assert SECRET not in tell(told.value)
            assert "\x1b" not in tell(told.value)


def test_a_redirect_is_not_followed(at: At) -> None:
    with hostile(b"") as (other, asked):
        moved = f"HTTP/1.1 307 Moved\r\nLocation: {other}/b/a\r\nContent-Length: 0\r\n\r\n".encode()
        with hostile(moved) as (endpoint, _), pytest.raises(TransportError):
            at(endpoint).put("a", b"body")
        assert asked == []


@pytest.mark.parametrize("moved", [
    b"HTTP/1.1 307 Moved\r\nLocation: http://127.0.0.1:9/\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 301 Moved\r\nx-amz-bucket-region: eu-west-9\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 400 No\r\nConnection: close\r\n\r\n<Error><Code>PermanentRedirect</Code></Error>",
])
def test_a_store_that_redirects_for_ever_is_asked_once(at: At, moved: bytes) -> None:
    with hostile(moved) as (endpoint, asked):
        for act in (at(endpoint).locks, lambda: at(endpoint).get("a"), lambda: at(endpoint).put("a", b"x")):
            asked.clear()
            with pytest.raises(TransportError, match="check the bucket's name and region"):
                act()
            assert len(asked) == 1


def test_a_store_that_says_go_on_and_hangs_up_is_not_waited_for(at: At) -> None:
    with hostile(b"HTTP/1.1 100 Continue\r\n") as (endpoint, _), pytest.raises(TransportError):
        at(endpoint).put("a", b"body")
