"""A real mail server for tests, and a webhook receiver for a chat.

The mail server takes mail only over STARTTLS and after AUTH (RFC 3207, RFC 4954). It refuses some
recipients for good and others for a while, forgets to answer, and can be down.
"""

import logging
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

from tests.lab.pki import Ca

logging.getLogger("mail.log").setLevel(logging.CRITICAL)  # it writes every address down
USER, PASSWORD = "ops@mail.example", "s3cret&/?pass"


@dataclass
class Answers:
    """What the server says to whom.

    Params: recipients, to their answers, given one after the other, the last one for ever; data, the
    same for the end of a message; delay, seconds before a message is answered.
    """

    recipients: dict[str, list[str]] = field(default_factory=dict)
    data: list[str] = field(default_factory=lambda: ["250 taken"])
    delay: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    mails: list[EmailMessage] = field(default_factory=list)
    recipients_seen: list[tuple[str, ...]] = field(default_factory=list)

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        """Answer to a recipient."""
        answer = self._next(f"rcpt {address}", self.recipients.get(address, ["250 OK"]))
        if answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Keep a message, or refuse it."""
        answer = self._next("data", self.data)
        if self.delay:
            time.sleep(self.delay)  # noqa: ASYNC251 - the whole server hangs: what a stuck one looks like
        if answer.startswith("250"):
            mail = message_from_bytes(bytes(envelope.content or b""), policy=policy.default)
            assert isinstance(mail, EmailMessage)
            self.recipients_seen.append(tuple(envelope.rcpt_tos))
            mail["X-Rcpt"] = ", ".join(envelope.rcpt_tos)
            self.mails.append(mail)
        return answer

    def _next(self, what: str, answers: list[str]) -> str:
        self.counts[what] += 1
        return answers[min(self.counts[what], len(answers)) - 1]


class MailServer:
    """A mail server on loopback.

    Params: folder, for its CA and certificate; international, whether it offers SMTPUTF8 (RFC 6531); wrapped,
    whether it speaks TLS from the first byte (RFC 8314 3.3) and not after STARTTLS.
    """

    def __init__(self, folder: Path, *, international: bool = True, wrapped: bool = False) -> None:
        self._international, self._wrapped = international, wrapped
        self.ca = Ca(folder, "Mail CA")
        certificate, key = self.ca.issue("127.0.0.1", "localhost", file="mail")
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(certificate, key)
        self.answers = Answers()
        self.port = _free_port()
        self._controller: Controller | None = None

    @property
    def mails(self) -> list[EmailMessage]:
        """What was taken."""
        return self.answers.mails

    def url(self, *, password: str = PASSWORD, options: str = "") -> str:
        """The apprise URL of this server, without a recipient."""
        login = f"{quote(USER, safe='')}:{quote(password, safe='')}"
        sender = quote("Lamplighter <lamplighter@mail.example>", safe="")
        mode = "ssl" if self._wrapped else "starttls"
        return f"mailtos://{login}@127.0.0.1:{self.port}?mode={mode}&from={sender}{options}"

    def start(self) -> None:
        """Listen; on the same port as before when it did before."""
        encrypted: dict[str, Any] = {"tls_context": self._context, "require_starttls": True}
        if self._wrapped:  # aiosmtpd takes only STARTTLS for an encryption that allows a login
            encrypted = {"ssl_context": self._context, "auth_require_tls": False}
        self._controller = Controller(
            self.answers, hostname="127.0.0.1", port=self.port, auth_required=True,
            authenticator=_authenticate, enable_SMTPUTF8=self._international, **encrypted,
        )
        self._controller.start()

    def stop(self) -> None:
        """Be down."""
        if self._controller is not None:
            self._controller.stop()
            self._controller = None

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it."""
        self.stop()


def _free_port() -> int:
    """The controller cannot listen on port 0: it greets itself on the port it was given."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _authenticate(
    _server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, data: Any
) -> AuthResult:
    good = (data.login, data.password) == (USER.encode(), PASSWORD.encode())
    return AuthResult(success=good, handled=False)


class Webhook:
    """A chat's webhook on loopback.

    Attributes: bodies, what was posted; paths, what was asked for; codes, to answer with, the last for ever.
    """

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.paths: list[str] = []
        self.codes: list[int] = [200]
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    def __enter__(self) -> Self:
        """Start it."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _handler(hook: Webhook) -> Callable[..., BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            hook.bodies.append(self.rfile.read(int(self.headers.get("Content-Length", 0))))
            self._answer()

        def do_GET(self) -> None:
            self._answer()

        def _answer(self) -> None:
            hook.paths.append(self.path)
            code = hook.codes[min(len(hook.paths), len(hook.codes)) - 1]
            self.send_response(code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Be quiet."""

    return Handler
