"""The demo's mail sink: takes every mail and chat message there is, and shows them on a page.

A process of its own: `python -m tests.lab.demo_mail FOLDER`. Whatever comes is a file in the folder, so that
it is there again after a restart.
"""

import html
import json
import signal
import sys
import time
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.lab.prefect_stack import free_port

PAGE_PORT = 4280
STYLE = """
body { font: 15px/1.5 sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem }
pre { white-space: pre-wrap }
td, th { padding: .2rem .8rem .2rem 0; text-align: left; vertical-align: top }"""


class Sink:
    """Where the mail is. Params: folder, made if need be; its ports are chosen once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        ports = folder / "ports.json"
        if not ports.exists():
            folder.mkdir(parents=True, exist_ok=True)
            ports.write_text(json.dumps({"smtp": free_port(), "page": free_port(PAGE_PORT)}))
        known = json.loads(ports.read_text())
        self.smtp, self.page = int(known["smtp"]), int(known["page"])

    @property
    def url(self) -> str:
        """Where a browser reads it."""
        return f"http://127.0.0.1:{self.page}"

    def env(self, people: dict[str, str]) -> dict[str, str]:
        """What notify.yaml refers to. Params: people, addresses by variable."""
        return {
            "LAMPLIGHTER_MAIL": f"mailto://127.0.0.1:{self.smtp}?from=lamplighter@lantern.example",
            "LAMPLIGHTER_CHAT_MSP": f"json://127.0.0.1:{self.page}/chat",
            **people,
        }

    def keep(self, content: bytes) -> None:
        """Write a message down."""
        (self.folder / f"{time.time_ns()}.eml").write_bytes(content)

    def messages(self) -> dict[str, EmailMessage]:
        """What came, the latest first."""
        files = sorted(self.folder.glob("*.eml"), reverse=True)
        return {file.stem: _read(file) for file in files}

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Take a mail; aiosmtpd's name."""
        told = ", ".join(envelope.rcpt_tos)
        self.keep(f"X-Rcpt: {told}\r\n".encode() + bytes(envelope.content or b""))
        return "250 taken"


def _read(file: Path) -> EmailMessage:
    mail = message_from_bytes(file.read_bytes(), policy=policy.default)
    assert isinstance(mail, EmailMessage)
    return mail


def index(sink: Sink) -> str:
    """The page that lists what came."""
    rows = [
        f"<tr><td>{_at(name)}</td><td>{_safe(mail['X-Rcpt'])}</td>"
        f"<td><a href='/{name}'>{_safe(mail['Subject'] or '(no subject)')}</a></td></tr>"
        for name, mail in sink.messages().items()
    ]
    none = "<p>Nothing yet. A run that waits for its approval tells its approvers at once.</p>"
    table = f"<table><tr><th>at<th>to<th>subject</tr>{''.join(rows)}</table>" if rows else none
    return _page("Mail of the demo", f"{table}<p>Nothing leaves this machine.</p>")


def letter(sink: Sink, name: str) -> str:
    """One message. Errors: KeyError when there is none of that name."""
    mail = sink.messages()[name]
    body = mail.get_body(("plain", "html"))
    text = body.get_content() if body else ""
    head = f"<p>{_at(name)}, to {_safe(mail['X-Rcpt'])}</p>"
    said = f"{head}<pre>{_safe(text)}</pre><p><a href='/'>all mail</a></p>"
    return _page(str(mail["Subject"] or "(no subject)"), said)


def _page(title: str, body: str) -> str:
    head = f"<meta charset=utf-8><title>{_safe(title)}</title><style>{STYLE}</style>"
    return f"<!doctype html>{head}<h1>{_safe(title)}</h1>{body}"


def _safe(text: object) -> str:
    return html.escape(str(text))


def _at(name: str) -> str:
    return time.strftime("%d %b %H:%M:%S", time.localtime(int(name) / 1e9))


def _handler(sink: Sink) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.strip("/")
            try:
                self._answer(200, letter(sink, name) if name else index(sink))
            except KeyError:
                self._answer(404, _page("There is no such message", "<p><a href='/'>all mail</a></p>"))

        def do_POST(self) -> None:
            said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            mail = EmailMessage()
            mail["X-Rcpt"], mail["Subject"] = "the MSP's chat", str(said.get("title", "")) or "(no title)"
            mail.set_content(str(said.get("message", "")))
            sink.keep(bytes(mail))
            self._answer(200, "")

        def _answer(self, code: int, text: str) -> None:
            data = text.encode()
            self.send_response(code)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            """Be quiet."""

    return Handler


def main() -> None:
    """Take mail until told to stop."""
    sink = Sink(Path(sys.argv[1]))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    mail = Controller(sink, hostname="127.0.0.1", port=sink.smtp, enable_SMTPUTF8=True)
    mail.start()
    with ThreadingHTTPServer(("127.0.0.1", sink.page), _handler(sink)) as page:
        try:
            page.serve_forever()
        finally:
            mail.stop()


if __name__ == "__main__":
    main()
