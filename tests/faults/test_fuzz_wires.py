"""Whole transports against servers that answer anything, over sockets."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import paramiko
import pytest
from hypothesis import strategies as st
from ldap3.operation.delete import delete_operation

from lamplighter.errors import (
    ChannelError,
    OutputTooLargeError,
    SessionLostError,
    TransportError,
    UnreachableError,
)
from lamplighter.secrets import Secret
from lamplighter.transports.ldap_settings import LdapServer
from lamplighter.transports.ldap_wire import Wire as LdapWire
from lamplighter.transports.s3 import Bucket
from lamplighter.transports.s3_values import Retention, S3Settings
from lamplighter.transports.shell import BEGINS, FIRST
from lamplighter.transports.ssh_exchange import Order, Raw, carry_out
from lamplighter.transports.ssh_hostkeys import Pins, PublicKey
from lamplighter.transports.ssh_wire import Wire, log_in, shake_hands
from lamplighter.transports.winrm_http import HttpLink
from lamplighter.transports.winrm_settings import WinRmSettings
from tests import winrmkit as kit
from tests.faults.fuzzing import Reader, damaged
from tests.lab import rogue_ldap as rogue

pytestmark = pytest.mark.faults
SOON = 5.0


# --- HTTP: WinRM and S3 ---------------------------------------------------------------------------


class Parrot:
    """Says the same bytes to whoever connects and asks, and hangs up."""

    def __init__(self) -> None:
        self.words = b""
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                link, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._say, args=(link, self.words), daemon=True).start()

    @staticmethod
    def _say(link: socket.socket, words: bytes) -> None:
        with contextlib.suppress(OSError), link:
            link.settimeout(SOON)
            link.recv(65536)
            link.sendall(words)
            link.shutdown(socket.SHUT_WR)
            while link.recv(65536):
                pass

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(SOON)


@pytest.fixture
def parrot() -> Iterator[Parrot]:
    parrot = Parrot()
    yield parrot
    parrot.close()


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\nDate: Mon, 23 Nov 2026 13:00:00 GMT\r\n"
HTTP = [
    HEAD + b"Content-Length: 5\r\n\r\nhello",
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD + b"Connection: close\r\n\r\nhello",
    b"HTTP/1.1 307 Moved\r\nLocation: http://evil.example:80/x\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 401 No\r\nWWW-Authenticate: Negotiate oQcwBQ==\r\nContent-Length: 0\r\n\r\n",
    HEAD + b"Content-Encoding: gzip\r\nContent-Length: 9999999999999999999\r\n\r\n\x1f\x8b",
]
LIST = (
    b"<ListBucketResult><Name>b</Name><IsTruncated>false</IsTruncated><Contents><Key>a</Key><Size>3</Size>"
    b"<LastModified>2026-11-23T13:00:00Z</LastModified><ETag>x</ETag></Contents></ListBucketResult>"
)
VERSIONS = (
    b"<ListVersionsResult><IsTruncated>false</IsTruncated><Version><Key>a</Key><VersionId>1</VersionId>"
    b"<IsLatest>true</IsLatest><LastModified>2026-11-23T13:00:00Z</LastModified><Size>3</Size></Version>"
    b"<DeleteMarker><Key>b</Key><VersionId>2</VersionId><IsLatest>true</IsLatest>"
    b"<LastModified>2026-11-23T13:00:00Z</LastModified></DeleteMarker></ListVersionsResult>"
)
RETAINED = (
    b"<Retention><Mode>COMPLIANCE</Mode><RetainUntilDate>2027-11-23T13:00:00Z</RetainUntilDate></Retention>"
)
LOCK = b"<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>"
ERROR = b"<Error><Code>NoSuchKey</Code><Message>no</Message><RequestId>1</RequestId></Error>"


def _page(body: bytes, status: bytes = b"200 OK", *more: bytes) -> bytes:
    fields = b"".join(b"%s\r\n" % one for one in more)
    return b"HTTP/1.1 %s\r\nContent-Type: application/xml\r\n%sContent-Length: %d\r\n\r\n%s" % (
        status,
        fields,
        len(body),
        body,
    )


STORED = (
    b'ETag: "900150983cd24fb0d6963f7d28e17f72"',
    b"Last-Modified: Mon, 23 Nov 2026 13:00:00 GMT",
    b"x-amz-version-id: 1",
    b"x-amz-meta-sha256: ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
)
S3 = [
    _page(LIST),
    _page(VERSIONS),
    _page(RETAINED),
    _page(LOCK),
    _page(ERROR, b"404 Not Found"),
    _page(b"abc", b"200 OK", *STORED),
    *HTTP,
]


def test_winrm_over_http(parrot: Parrot) -> None:
    settings = WinRmSettings.of(
        kit.windows(None, ansible_host="127.0.0.1", ansible_port=parrot.port, ansible_winrm_scheme="http")
    )

    def ask(words: bytes) -> None:
        parrot.words = words
        link = HttpLink(settings)
        link.open(time.monotonic() + SOON)
        try:
            link.post(b"x", {}, time.monotonic() + SOON)
        finally:
            link.close()

    Reader("winrm_http", ask, damaged(HTTP), (SessionLostError, OutputTooLargeError), full=4000).attack()


# botocore leaves the connection of an object whose headers it cannot read to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_s3_over_http(parrot: Parrot) -> None:
    where = S3Settings(
        "b",
        f"http://127.0.0.1:{parrot.port}",
        access_key="env:A",
        secret_key="env:B",
        tries=1,
        connect_timeout=SOON,
        read_timeout=SOON,
    )
    bucket = Bucket(where, lambda reference: Secret("made-up", reference))
    calls: tuple[Callable[[], object], ...] = (
        lambda: bucket.get("a"),
        lambda: list(bucket.list()),
        lambda: list(bucket.list(flat=False)),
        lambda: list(bucket.versions()),
        lambda: bucket.retention("a"),
        bucket.locks,
        lambda: bucket.put("a", b"abc", absent=True),
        lambda: bucket.put("a", b"abc", lock=Retention("COMPLIANCE", datetime(2030, 1, 1, tzinfo=UTC))),
    )

    def ask(case: tuple[int, bytes]) -> None:
        parrot.words = case[1]
        calls[case[0]]()

    cases = st.tuples(st.integers(0, len(calls) - 1), damaged(S3))
    Reader("s3_http", ask, cases, (TransportError,), small=200, full=3000).attack()
    bucket.close()


# --- LDAP -----------------------------------------------------------------------------------------


def test_ldap_over_a_socket() -> None:
    answers = [
        rogue.entry(1, "cn=x,dc=test", cn=b"x" * 200),
        rogue.result(1, 0x6B, 0),
        rogue.result(1, 0x6B, 10, "no"),
        rogue.entry(1, "cn=x,dc=test", cn=b"x") + rogue.result(1, 0x65),
        rogue.message(0, 0x78, b"bye"),
        rogue.message(1, 0x79),
        rogue.result(1, 0x6B, 0, "", rogue.referral("ldap://r/")),
    ]

    def ask(words: bytes) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            theirs.sendall(words)
            theirs.shutdown(socket.SHUT_WR)
            wire = LdapWire(ours, LdapServer("127.0.0.1", 0, ""))
            try:
                wire.result("delRequest", delete_operation("cn=x"), time.monotonic() + SOON)
            finally:
                wire.hang_up()

    Reader("ldap_wire", ask, damaged(answers), (SessionLostError, OutputTooLargeError), full=4000).attack()


# --- SSH ------------------------------------------------------------------------------------------

KEXINIT = bytes.fromhex("0000002c0a14") + b"\x00" * 16 + b"\x00\x00\x00\x04none" + b"\x00" * 30
BANNERS = [
    b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n" + KEXINIT,
    b"SSH-1.99-x\r\n",
    b"hello\r\n" * 5 + b"SSH-2.0-x\r\n",
    b"SSH-2.0-x\r\n\x00\x00\x00\x0c\x0a\x01\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00",
    b"HTTP/1.1 400\r\n\r\n",
]


def test_an_ssh_handshake() -> None:
    pins = Pins("h", (PublicKey("ssh-ed25519", b"x" * 51),), (), authority=False, file="host_keys")

    def greet(words: bytes) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.sendall(words[:8000])
            theirs.shutdown(socket.SHUT_WR)
            shake_hands(ours, pins, time.monotonic() + SOON)

    Reader("ssh_handshake", greet, damaged(BANNERS), (UnreachableError,), small=30, full=1500).attack()


@dataclass
class Plot:
    """What the server does with the next command: pieces for its two streams, and its end.

    Attributes:
        pieces: whether for standard error, and what; `@` stands for the word of the conversation.
        code: the channel's exit code; None for none.
        got: what it was sent after the first line.
        done: set when it has been played and heard.
    """

    pieces: list[tuple[bool, bytes]] = field(default_factory=list)
    code: int | None = 0
    word: bytes = b""
    got: bytes = b""
    done: threading.Event = field(default_factory=threading.Event)

    def sent(self, *, error: bool) -> bytes:
        """All of one stream, as the other side may have read it."""
        return b"".join(piece for err, piece in self.pieces if err is error).replace(b"@", self.word)


class Stage(paramiko.ServerInterface):
    """A server that lets everybody in and plays the plot."""

    def __init__(self, plot: Plot) -> None:
        self.plot = plot

    def get_allowed_auths(self, username: str) -> str:
        del username
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        del username, key
        return paramiko.AUTH_SUCCESSFUL

    def check_channel_request(self, kind: str, chanid: int) -> int:
        del kind, chanid
        return paramiko.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        del command
        threading.Thread(target=self._play, args=(channel,), daemon=True).start()
        return True

    def _play(self, channel: paramiko.Channel) -> None:
        plot = self.plot
        channel.settimeout(SOON)
        with contextlib.suppress(OSError, paramiko.SSHException):
            line = b""
            while not line.endswith(b"\n") and (byte := channel.recv(1)):
                line += byte
            plot.word = line.split()[0]
            for error, piece in plot.pieces:
                (channel.sendall_stderr if error else channel.sendall)(piece.replace(b"@", plot.word))
            if plot.code is not None:
                channel.send_exit_status(plot.code)
            channel.shutdown_write()
            while piece := channel.recv(65536):
                plot.got += piece
            plot.got = plot.got.removeprefix(FIRST)
        channel.close()
        plot.done.set()


@pytest.fixture
def theatre(tmp_path: Path) -> Iterator[tuple[Wire, Plot]]:
    """A real connection to a server of paramiko's, logged in."""
    del tmp_path
    key, plot = paramiko.RSAKey.generate(2048), Plot()
    ours, theirs = socket.socketpair()
    server = paramiko.Transport(theirs)
    server.add_server_key(key)
    server.start_server(event=threading.Event(), server=Stage(plot))
    pins = Pins("h", (PublicKey("ssh-rsa", key.asbytes()),), (), authority=False, file="host_keys")
    wire = shake_hands(ours, pins, time.monotonic() + SOON)
    log_in(wire, "ops", paramiko.RSAKey.generate(2048), time.monotonic() + SOON)
    yield wire, plot
    wire.hang_up()
    server.close()
    server.join(SOON)


TEXT = FIRST + b"the text of a script"
TOLD = [
    (True, b"a greeting\n"), (False, b"and more\n"), (True, BEGINS), (False, b"@\n"), (True, b"@\n"),
    (False, b"answer\n@ @-en"), (True, b"trouble\n"), (False, b"d\n@-end 3\n"), (True, b"@-end 3\n"),
    (False, b"behind it\n"),
]
"""A conversation as it should be."""


def play(wire: Wire, plot: Plot, pieces: list[tuple[bool, bytes]], code: int | None, *, proved: bool) -> Raw:
    """Carry an order out against a server that says these things; what holds of every error is asserted."""
    plot.pieces, plot.code, plot.got = pieces, code, b""
    plot.done.clear()
    wire.proved.clear()
    wire.proved.update({False} if proved else ())
    order = Order(TEXT, SOON, time.monotonic() + SOON, 2000)
    try:
        raw = carry_out(wire, order)
    except TransportError as error:
        refused = error
    else:
        assert plot.done.wait(SOON), "what it was sent belongs to this order, not to the next"
        return raw
    assert plot.done.wait(SOON)
    if "Nothing was run" in str(refused) or "not sent" in str(refused):
        assert plot.got == b"", refused
    assert order.word.decode() not in str(refused)
    raise refused


def check(plot: Plot, raw: Raw) -> None:
    """An answer that is believed lies between its marks, on both streams."""
    for error, data in ((False, raw.out), (True, raw.err)):
        sent = plot.sent(error=error)
        framed = plot.word + b"\n" + data + plot.word + b"-end %d\n" % raw.code
        at = sent.find(plot.word + b"\n")
        assert sent[at:].startswith(framed), (sent, raw)


def cut(pieces: list[tuple[bool, bytes]], at: int) -> list[tuple[bool, bytes]]:
    """The first `at` bytes of a conversation."""
    kept = []
    for error, piece in pieces:
        kept.append((error, piece[:at]))
        at -= len(piece)
        if at <= 0:
            break
    return kept


def torn(pieces: list[tuple[bool, bytes]]) -> list[tuple[bool, bytes]]:
    """Every byte a packet of its own; the word is one, for the server puts it in."""
    return [(error, piece[at : at + 1]) for error, piece in pieces for at in range(len(piece))]


ENOUGH = sum(len(piece) for _, piece in TOLD[:-1])
"""Bytes of the conversation up to the last mark."""


@pytest.mark.parametrize("proved", [False, True])
def test_an_answer_cut_at_any_byte_is_none(theatre: tuple[Wire, Plot], proved: bool) -> None:
    wire, plot = theatre
    for at in range(ENOUGH):
        with pytest.raises((SessionLostError, ChannelError)):
            play(wire, plot, cut(TOLD, at), 3, proved=proved)
    for code in (3, 0, None):  # the channel's own exit code is nobody's answer
        for pieces in (TOLD, torn(TOLD), TOLD[:-1]):
            raw = play(wire, plot, pieces, code, proved=proved)
            assert (raw.code, raw.err) == (3, b"trouble\n")
            assert raw.out.startswith(b"answer\n" + plot.word)
            assert plot.got == TEXT.removeprefix(FIRST)


def test_an_ssh_command(theatre: tuple[Wire, Plot]) -> None:
    """Pieces of a conversation left out, repeated, merged, in any order, and with others between them."""
    wire, plot = theatre
    odd = st.sampled_from(
        [BEGINS, b"@\n", b"@-end 0\n", b"@-cut\n", b"@-end 9999\n", b"\xff\x1b[2J", b"x" * 700]
    )
    piece = st.sampled_from(TOLD) | st.tuples(st.booleans(), odd | st.binary(max_size=30))
    among = st.builds(
        lambda some, at: [*TOLD[:at], *some, *TOLD[at:]],
        st.lists(piece, max_size=3), st.integers(0, len(TOLD)),
    )
    pieces = st.permutations(TOLD) | st.lists(piece, max_size=12) | among
    whole = st.tuples(pieces, st.sampled_from((0, 0, 3, 255, None)), st.booleans(), st.booleans())

    def attack(case: tuple[list[tuple[bool, bytes]], int | None, bool, bool]) -> None:
        told, code, proved, tear = case
        check(plot, play(wire, plot, torn(told) if tear else told, code, proved=proved))

    errors = (SessionLostError, OutputTooLargeError, ChannelError)
    Reader("ssh_exchange", attack, whole, errors, small=60, full=4000).attack()
