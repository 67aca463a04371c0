"""A WinRM endpoint on loopback, for tests: real HTTP, real NTLM and Kerberos, real sealing, real TLS.

What it proves: that the transport finds, authenticates, seals, bounds and ends what it should, against a
server that is strict about it. The login and the seals are pyspnego's acceptor; the SOAP is `winrm_soap`'s.

What it does not prove: anything on Windows. It is ours, so it may share our misreadings; it was laid beside
recorded traffic, and pypsrp's client accepts it, which bounds how far off it can be. Commands are local
`/bin/sh` lines and PowerShell is a stand-in (`winrm_commands`): no PowerShell runs, so no `.ps1` is proved to
do what it should. NTLM accounts come from a file. There is no CredSSP, no PSRP and no WQL.
"""

from __future__ import annotations

import base64
import os
import re
import select
import socket
import ssl
import struct
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import spnego
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from spnego.channel_bindings import GssChannelBindings
from spnego.exceptions import SpnegoError

from tests.lab.winrm_commands import Acts
from tests.lab.winrm_soap import Service
from tests.lab.winrm_trouble import Answer, Trouble

DOMAIN, USER, PASSWORD = "LAB", "svc-ops", "Made-up-Passw0rd"
_SEALED = "application/HTTP-SPNEGO-session-encrypted"
_BOUNDARY = re.compile(
    rb"--Encrypted Boundary(?:--)?\r\n(?:\tContent-Type: application/octet-stream\r\n)?"
)


@dataclass(frozen=True)
class Arrived:
    """One request as it came.

    Attributes:
        action: what it asked for, `login` without an envelope, empty if it could not be read.
    """

    headers: Mapping[str, str]
    body: bytes
    action: str = ""


@dataclass
class Settings:
    """How an endpoint is configured.

    Attributes:
        protocol: `ntlm` or `kerberos` for Negotiate.
        basic: offer Basic, as `Auth/Basic`.
        allow_unencrypted: take unsealed messages over plain HTTP, as `AllowUnencrypted`.
        certificate: PEM of certificate and key; HTTPS when there is one.
    """

    protocol: str = "ntlm"
    basic: bool = False
    allow_unencrypted: bool = False
    certificate: bytes = b""


class WinRmEndpoint:
    """One host's WinRM listener; a context manager.

    Args:
        folder: for the account file; the caller's temporary folder.
        settings: how it is configured.
        address: loopback, IPv4 or IPv6.
    """

    def __init__(self, folder: Path, settings: Settings | None = None, address: str = "127.0.0.1") -> None:
        self.settings = settings or Settings()
        self.address = address
        self.acts: Acts = {}
        self.service = Service(self.acts)
        self.trouble: dict[str, Trouble] = {}
        """By action (`login`, `Create`, `Receive` ...): what to do with the answer."""
        self.arrived: list[Arrived] = []
        self.stopping = threading.Event()
        self._folder = folder
        self._server: _Server | None = None
        self._accounts = ""

    @property
    def port(self) -> int:
        """The port it listens on."""
        assert self._server is not None
        return int(self._server.server_address[1])

    @property
    def running(self) -> int:
        """How many commands it holds."""
        return sum(len(shell.commands) for shell in self.service.shells.values())

    def __enter__(self) -> Self:
        users = self._folder / "ntlm-users"
        users.write_text(f"{DOMAIN}:{USER}:{PASSWORD}\n{DOMAIN}:outsider:{PASSWORD}\n", encoding="ascii")
        self._accounts = os.environ.get("NTLM_USER_FILE", "")
        os.environ["NTLM_USER_FILE"] = str(users)
        self._server = _Server(self)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()
        self.service.close()
        if self._accounts:
            os.environ["NTLM_USER_FILE"] = self._accounts
        else:
            del os.environ["NTLM_USER_FILE"]


class _Server(ThreadingHTTPServer):
    """The listener."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, endpoint: WinRmEndpoint) -> None:
        self.endpoint = endpoint
        self.address_family = socket.AF_INET6 if ":" in endpoint.address else socket.AF_INET
        self.bindings: GssChannelBindings | None = None
        super().__init__((endpoint.address, 0), _Handler)
        if endpoint.settings.certificate:
            self._speak_tls(endpoint.settings.certificate)

    def _speak_tls(self, pem: bytes) -> None:
        path = self.endpoint._folder / f"server-{self.server_port}.pem"
        path.write_bytes(pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        digest = x509.load_pem_x509_certificate(pem).fingerprint(hashes.SHA256())
        self.bindings = GssChannelBindings(application_data=b"tls-server-end-point:" + digest)

    def handle_error(self, *_: object) -> None:
        """A client that went away is no news."""


@dataclass
class _Peer:
    """What a connection knows of its client."""

    context: spnego.ContextProxy | None = None
    user: str = ""
    tail: dict[str, str] = field(default_factory=dict)


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    timeout = 60
    disable_nagle_algorithm = True
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.peer = _Peer()

    def log_message(self, *_: object) -> None:
        """Nothing: tests ask `arrived`."""

    def do_POST(self) -> None:
        """One request."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        endpoint = self.server.endpoint
        self.peer.tail = {}
        if not self._authenticate():
            endpoint.arrived.append(Arrived(dict(self.headers), body, "login"))
            self._finish("login", Answer(401, self.peer.tail))
            return
        if not body:
            endpoint.arrived.append(Arrived(dict(self.headers), body, "login"))
            self._finish("login", Answer(200, self.peer.tail))
            return
        message = self._unsealed(body)
        if message is None:
            endpoint.arrived.append(Arrived(dict(self.headers), body))
            self.put(Answer(403, {}))
            return
        action, code, plain = endpoint.service.handle(message, self.peer.user)
        endpoint.arrived.append(Arrived(dict(self.headers), body, action))
        self._finish(action, Answer(code, {}, plain=plain))

    # --- what a trouble may use ---

    def put(self, answer: Answer) -> None:
        """Send an answer."""
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def raw(self, data: bytes) -> None:
        """Send bytes."""
        self.wfile.write(data)

    def seal(self, answer: Answer) -> Answer:
        """Put an answer's envelope into its body."""
        return self._sealed(answer.status, answer.plain) if answer.plain else answer

    def cut(self) -> None:
        """End the connection after this."""
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def waiting(self) -> bool:
        """Whether it is worth going on."""
        self.close_connection = True
        gone = select.select((self.connection,), (), (), 0)[0]
        return not gone and not self.server.endpoint.stopping.is_set()

    # --- login and seals ---

    def _finish(self, action: str, answer: Answer) -> None:
        trouble = self.server.endpoint.trouble.get(action)
        if trouble is None:
            self.put(self.seal(answer))
        else:
            trouble(self, answer)

    def _authenticate(self) -> bool:
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        settings = self.server.endpoint.settings
        if scheme == "Basic" and settings.basic:
            self.peer.user = USER
            return base64.b64decode(token).decode() == f"{USER}:{PASSWORD}"
        if scheme in {"Negotiate", "Kerberos"}:
            return self._step(scheme, base64.b64decode(token))
        if self.peer.context is not None and self.peer.context.complete:
            return True
        self.peer.tail = {"WWW-Authenticate": 'Basic realm="WSMAN"' if settings.basic else "Negotiate"}
        return False

    def _step(self, scheme: str, token: bytes) -> bool:
        peer = self.peer
        if peer.context is None or peer.context.complete:
            peer.context = spnego.server(
                service="HTTP",
                protocol=self.server.endpoint.settings.protocol,
                channel_bindings=self.server.bindings,
            )
        try:
            out = peer.context.step(token)
        except (SpnegoError, ValueError, struct.error):
            peer.context, peer.tail = None, {"WWW-Authenticate": scheme}
            return False
        peer.tail = {"WWW-Authenticate": f"{scheme} {base64.b64encode(out).decode()}"} if out else {}
        peer.user = peer.context.client_principal or "" if peer.context.complete else ""
        return peer.context.complete

    def _unsealed(self, body: bytes) -> bytes | None:
        """The envelope, None when it should have come sealed and did not."""
        settings = self.server.endpoint.settings
        if not self.headers.get("Content-Type", "").startswith("multipart/encrypted"):
            return body if settings.certificate or settings.allow_unencrypted else None
        sealed = _BOUNDARY.split(body)[2]
        size = struct.unpack_from("<I", sealed)[0]
        assert self.peer.context is not None
        return self.peer.context.unwrap_winrm(sealed[4:4 + size], sealed[4 + size:])

    def _sealed(self, code: int, plain: bytes) -> Answer:
        headers: dict[str, Any] = {"Content-Type": "application/soap+xml;charset=UTF-8", **self.peer.tail}
        if not self.headers.get("Content-Type", "").startswith("multipart/encrypted"):
            return Answer(code, headers, plain, plain)
        assert self.peer.context is not None
        wrapped = self.peer.context.wrap_winrm(plain)
        body = (
            f"--Encrypted Boundary\r\n\tContent-Type: {_SEALED}\r\n"
            f"\tOriginalContent: type=application/soap+xml;charset=UTF-8;"
            f"Length={len(plain) + wrapped.padding_length}\r\n--Encrypted Boundary\r\n"
            f"\tContent-Type: application/octet-stream\r\n"
        ).encode() + struct.pack("<I", len(wrapped.header)) + wrapped.header + wrapped.data
        headers["Content-Type"] = f'multipart/encrypted;protocol="{_SEALED}";boundary="Encrypted Boundary"'
        return Answer(code, headers, body + b"--Encrypted Boundary--\r\n", plain)
