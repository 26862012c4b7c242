"""A bucket of numbered keys that can be listed as fast as anybody reads: ``python -m … PORT COUNT``.

Speaks as much of S3 as a listing needs (ListObjectsV2). Its pages are made before it opens its port, so
that the time of a listing is its reader's. Whoever asks for an object is refused and counted: ``GET
/-/reads``.
"""

from __future__ import annotations

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

KEYS_A_PAGE = 1_000
_ENTRY = (
    "<Contents><Key>inbox/{0:07}.jpg</Key><LastModified>2026-03-01T12:00:00.000Z</LastModified>"
    "<ETag>&quot;{0:032x}&quot;</ETag><Size>300000</Size><StorageClass>STANDARD</StorageClass></Contents>"
)
_PAGE = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    "<Name>invoices</Name><Prefix>inbox/</Prefix><KeyCount>{count}</KeyCount><MaxKeys>1000</MaxKeys>"
    "<IsTruncated>{more}</IsTruncated>{token}{entries}</ListBucketResult>"
)


def pages(count: int) -> list[bytes]:
    starts = range(0, count, KEYS_A_PAGE)
    return [_page(start, min(KEYS_A_PAGE, count - start), start + KEYS_A_PAGE < count) for start in starts]


def _page(start: int, count: int, more: bool) -> bytes:
    token = f"<NextContinuationToken>{start // KEYS_A_PAGE + 1}</NextContinuationToken>" if more else ""
    entries = "".join(map(_ENTRY.format, range(start, start + count)))
    return _PAGE.format(count=count, more=str(more).lower(), token=token, entries=entries).encode()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, port: int, count: int) -> None:
        self.pages = pages(count)
        self.reads = 0
        super().__init__(("127.0.0.1", port), _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        asked = urlsplit(self.path)
        query = parse_qs(asked.query)
        if asked.path == "/-/reads":
            self._answer(200, str(self.server.reads).encode())
        elif "list-type" in query:
            page = int(query.get("continuation-token", ["0"])[0])
            self._answer(200, self.server.pages[page])
        else:
            self.server.reads += 1
            self._answer(404, b"")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        pass


if __name__ == "__main__":
    _Server(int(sys.argv[1]), int(sys.argv[2])).serve_forever()
