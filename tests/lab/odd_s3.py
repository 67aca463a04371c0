"""An S3 server in memory whose oddities a case switches on, as real stores and what stands before them have.

It checks no signature; SeaweedFS is the honest store of the tests. What it can be told, all optional:

conditions      `honest`; `ignored`; `racy` (looked at 30 ms before the write); `404`, `501` ...: refused so
etags           `strong`; `weak` (as a proxy makes them); `bare` (no quotes); `none` (a PUT answers without)
versions        `kept`; `off`; `501`, `405`: the question is refused; `twice`: a page repeats the last entry
lock            `off`; `on`; `501`, `405`
missing         `404`, or `403` as for an account that may not list
page            keys a page; `page_end`: `token`, `none` (cut without one), `same` (for ever), `again` (twice)
lag             (prefix, keys): lists of the prefix lack so many of their last keys
faults          [method, part of the key, how often, what]: `cut` before or `lost` after the work was done,
                `twice` (a proxy repeats it), `page` (503 in HTML), `odd` (200 with an error), or a status
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit
from xml.sax.saxutils import escape

HONEST: dict[str, Any] = {
    "conditions": "honest", "etags": "strong", "versions": "kept", "lock": "off", "missing": "404",
    "page": 1000, "page_end": "token", "lag": None, "faults": [],
}
BUCKET = "odd"
Answer = tuple[int, dict[str, str], str | bytes]


class OddS3:
    """One server with one bucket. Params: behaviour, laid over HONEST."""

    def __init__(self, **behaviour: Any) -> None:
        self.odd = {**HONEST, **behaviour}
        self.rows: dict[str, list[dict[str, Any]]] = {}
        self.mutex = threading.RLock()
        self._number = 0
        handler = type("Handler", (_Handler,), {"outer": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """End it."""
        self._http.shutdown()
        self._http.server_close()

    def current(self, key: str) -> dict[str, Any] | None:
        """What a plain read sees."""
        row = self.rows.get(key)
        return row[-1] if row and not row[-1]["gone"] else None

    def keys(self, prefix: str = "") -> list[str]:
        """Of everything that can be read."""
        return sorted(key for key in self.rows if key.startswith(prefix) and self.current(key))

    def put(self, key: str, data: bytes, about: dict[str, str] | None = None, *, gone: bool = False) -> str:
        """Write as an administrator, a lifecycle rule or a restore does. Returns: the new ETag."""
        with self.mutex:
            self._number += 1
            kept = self.odd["versions"] in {"kept", "twice"}
            etag = hashlib.md5(data, usedforsecurity=False).hexdigest()
            one = {"data": data, "about": about or {}, "etag": etag, "gone": gone,
                   "id": f"v{self._number:06d}" if kept else "null"}
            self.rows[key] = [*self.rows.get(key, ()), one] if kept else [one]
            return etag

    def expire(self, prefix: str) -> None:
        """A lifecycle rule that leaves markers and nothing else."""
        for key in self.keys(prefix):
            self.rows[key] = []
            self.put(key, b"", gone=True)

    def copy(self) -> dict[str, list[dict[str, Any]]]:
        """All of it, for a restore: assign it to `rows`."""
        with self.mutex:
            return {key: list(row) for key, row in self.rows.items()}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    outer: OddS3

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self._serve("GET")

    def do_PUT(self) -> None:
        self._serve("PUT")

    def _serve(self, method: str) -> None:
        with contextlib.suppress(OSError):
            url = urlsplit(self.path)
            asked = dict(parse_qsl(url.query, keep_blank_values=True))
            key = unquote(url.path.split("/", 2)[2] if url.path.count("/") > 1 else "")
            data = self._body() if method == "PUT" else b""
            fault = self._fault(method, key or asked.get("prefix", ""))
            if fault == "cut":
                self._hang_up()
            elif fault == "page":
                self._say((503, {"Content-Type": "text/html"}, "<html><h1>503</h1></html>"))
            elif fault == "odd":
                self._say((200, {}, _error("InternalError")))
            elif fault.isdecimal():
                self._say((int(fault), {}, _error(_CODES.get(fault, "InternalError"))))
            else:
                answer = self._answer(method, key, asked, data)
                if fault == "twice":
                    answer = self._answer(method, key, asked, data)
                self._hang_up() if fault == "lost" else self._say(answer)

    def _fault(self, method: str, key: str) -> str:
        with self.outer.mutex:
            for fault in self.outer.odd["faults"]:
                if fault[0] == method and fault[1] in key and fault[2] > 0:
                    fault[2] -= 1
                    return str(fault[3])
        return ""

    def _answer(self, method: str, key: str, asked: dict[str, str], data: bytes) -> Answer:
        if not key:
            return self._of_bucket(asked)
        return self._put(key, data) if method == "PUT" else self._get(key, asked)

    def _get(self, key: str, asked: dict[str, str]) -> Answer:
        odd, one = self.outer.odd, self.outer.current(key)
        if "versionId" in asked:
            one = next((row for row in self.outer.rows.get(key, ()) if row["id"] == asked["versionId"]), None)
        if one is None:
            status = odd["missing"]
            return int(status), {}, _error("AccessDenied" if status == "403" else "NoSuchKey")
        etag = {"weak": f'W/"{one["etag"]}"', "bare": one["etag"]}.get(odd["etags"], f'"{one["etag"]}"')
        about = {f"x-amz-meta-{name}": value for name, value in one["about"].items()}
        return 200, {"ETag": etag, "Last-Modified": "Wed, 25 Nov 2026 12:00:00 GMT", **about}, one["data"]

    def _put(self, key: str, data: bytes) -> Answer:
        how = self.outer.odd["conditions"]
        conditional = "If-None-Match" in self.headers or "If-Match" in self.headers
        if conditional and how.isdecimal():
            return int(how), {}, _error(_CODES.get(how, "InvalidArgument"))
        if how == "racy" and conditional:
            refused = self._refused(key)
            time.sleep(0.03)
            return refused or self._written(key, data)
        with self.outer.mutex:
            return (self._refused(key) if how != "ignored" else None) or self._written(key, data)

    def _refused(self, key: str) -> Answer | None:
        one, wanted = self.outer.current(key), self.headers.get("If-Match")
        if wanted and one is None:
            return 404, {}, _error("NoSuchKey")
        if ("If-None-Match" in self.headers and one) or (wanted and one and wanted != f'"{one["etag"]}"'):
            return 412, {}, _error("PreconditionFailed")
        return None

    def _written(self, key: str, data: bytes) -> Answer:
        start = "x-amz-meta-"
        names = [name.lower() for name in self.headers if name.lower().startswith(start)]
        etag = self.outer.put(key, data, {name.removeprefix(start): self.headers[name] for name in names})
        return 200, {} if self.outer.odd["etags"] == "none" else {"ETag": f'"{etag}"'}, ""

    def _of_bucket(self, asked: dict[str, str]) -> Answer:
        odd, prefix = self.outer.odd, asked.get("prefix", "")
        if "object-lock" in asked:
            if odd["lock"] == "on":
                inside = "<ObjectLockEnabled>Enabled</ObjectLockEnabled>"
                return 200, {}, f"<ObjectLockConfiguration>{inside}</ObjectLockConfiguration>"
            status = "404" if odd["lock"] == "off" else odd["lock"]
            return int(status), {}, _error(_CODES.get(status, "ObjectLockConfigurationNotFoundError"))
        if "versions" in asked:
            if odd["versions"].isdecimal():
                return int(odd["versions"]), {}, _error(_CODES[odd["versions"]])
            return self._page("ListVersionsResult", self._versions(prefix), asked, odd["versions"] == "twice")
        return self._page("ListBucketResult", self._names(prefix, asked), asked, odd["page_end"] == "again")

    def _names(self, prefix: str, asked: dict[str, str]) -> list[tuple[str, str]]:
        end, found = asked.get("delimiter", ""), set()
        for key in self.outer.keys(prefix):
            cut = key.find(end, len(prefix)) if end else -1
            found.add(key if cut < 0 else key[: cut + 1])
        lag = self.outer.odd["lag"]
        names = sorted(found)
        if lag and lag[0] in prefix:
            names = names[: max(0, len(names) - lag[1])]
        return [(name, _entry(name, folder=bool(end) and name.endswith(end))) for name in names]

    def _versions(self, prefix: str) -> list[tuple[str, str]]:
        with self.outer.mutex:
            rows = sorted((key, row) for key, row in self.outer.rows.items() if key.startswith(prefix))
        return [
            (key, _version(key, one, latest=one is row[-1])) for key, row in rows for one in row
        ]

    def _page(self, kind: str, items: list[tuple[str, str]], asked: dict[str, str], again: bool) -> Answer:
        odd = self.outer.odd
        start = int(asked.get("continuation-token") or asked.get("version-id-marker") or 0)
        end = start + odd["page"]
        part = items[max(0, start - (again and start > 0)) : end]
        more = end < len(items)
        token = {"none": "", "same": "1"}.get(odd["page_end"], str(end))
        following = ""
        if more and token and kind == "ListBucketResult":
            following = f"<NextContinuationToken>{token}</NextContinuationToken>"
        elif more and token:
            following = (
                f"<NextKeyMarker>{escape(part[-1][0])}</NextKeyMarker>"
                f"<NextVersionIdMarker>{token}</NextVersionIdMarker>"
            )
        whole = "".join(text for _, text in part)
        return 200, {}, f"<{kind}><IsTruncated>{str(more).lower()}</IsTruncated>{following}{whole}</{kind}>"

    def _body(self) -> bytes:
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if "aws-chunked" not in (self.headers.get("Content-Encoding") or ""):
            return data
        whole = b""
        while data:
            head, _, data = data.partition(b"\r\n")
            size = int(head.split(b";")[0], 16)
            if not size:
                break
            whole, data = whole + data[:size], data[size + 2 :]
        return whole

    def _say(self, answer: Answer) -> None:
        status, headers, text = answer
        data = text.encode() if isinstance(text, str) else text
        self.send_response(status)
        for name, value in {"Content-Type": "application/xml", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.close()


_CODES = {
    "400": "InvalidArgument", "403": "AccessDenied", "405": "MethodNotAllowed",
    "409": "ConditionalRequestConflict", "501": "NotImplemented", "503": "SlowDown",
}


def _error(code: str) -> str:
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code}</Message></Error>"


def _entry(name: str, *, folder: bool) -> str:
    if folder:
        return f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>"
    when = "<LastModified>2026-01-01T00:00:00.000Z</LastModified>"
    return f"<Contents><Key>{escape(name)}</Key>{when}<Size>1</Size></Contents>"


def _version(key: str, one: dict[str, Any], *, latest: bool) -> str:
    kind = "DeleteMarker" if one["gone"] else "Version"
    when = "<LastModified>2026-01-01T00:00:00.000Z</LastModified>"
    return (
        f"<{kind}><Key>{escape(key)}</Key><VersionId>{one['id']}</VersionId>"
        f"<IsLatest>{str(latest).lower()}</IsLatest>{when}</{kind}>"
    )


@contextlib.contextmanager
def odd_s3(**behaviour: Any) -> Iterator[OddS3]:
    """A server for the length of a `with` block."""
    server = OddS3(**behaviour)
    try:
        yield server
    finally:
        server.stop()
