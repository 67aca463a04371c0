"""A web server that is not what apt hopes for: `python odd_server.py PORT ANSWER FOLDER`, on loopback."""

import http.server
import sys
from http import HTTPStatus
from pathlib import Path

PAGE = b"<html><head><title>Sign in</title></head><body>Please sign in to the network</body></html>\n"
ANSWERS = {"login": 200, "auth": 401, "denied": 403, "proxy": 407, "gone": 404, "ill": 503}


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers every GET with the page of its kind, or with files."""

    answer, folder = "", Path()

    def do_GET(self) -> None:
        """See the module."""
        code, body = ANSWERS.get(self.answer, 200), PAGE
        if self.answer == "files":
            place = self.folder / self.path.lstrip("/")
            code, body = (200, place.read_bytes()) if place.is_file() else (404, b"")
        self.send_response(code, HTTPStatus(code).phrase)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


if __name__ == "__main__":
    Handler.answer, Handler.folder = sys.argv[2], Path(sys.argv[3])
    http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
