"""A stand-in for TCIA's server (NBIA's REST interface), which can misbehave."""

import csv
import hashlib
import io
import json
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlparse


class Nbia:
    """What the stand-in holds and how it misbehaves; ``requests`` are the paths and ranges that were asked for."""

    def __init__(self) -> None:
        self.archives: dict[str, bytes] = {}
        self.listing: list[dict[str, Any]] = []
        self.files: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.cuts: dict[str, list[int]] = {}  # bytes after which the connection breaks, a number an attempt
        self.marks = True
        self.ranges = True
        self.chunked = False  # no length is told, as of archives that are made while they are sent


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    nbia: Nbia

    def do_GET(self) -> None:
        parsed = urlparse(self.path)
        query = {key: values[0] for key, values in parse_qs(parsed.query).items()}
        name = parsed.path.rpartition("/")[2]
        self.nbia.requests.append((query.get("SeriesInstanceUID", name), self.headers.get("Range", "")))
        if name == "getSeries":
            self.send(json.dumps(self.nbia.listing).encode(), name)
        elif name == "getImageWithMD5Hash":
            self.send(self.nbia.archives.get(query["SeriesInstanceUID"]), query["SeriesInstanceUID"])
        else:
            self.send(self.nbia.files.get(name), name)

    def send(self, content: bytes | None, name: str) -> None:
        if content is None:
            self.send_error(404)
            return
        mark = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
        start = 0
        asked = self.headers.get("Range", "")
        if asked and self.nbia.ranges and self.headers.get("If-Range") in (None, mark):
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        if self.nbia.marks:
            self.send_header("ETag", mark)
        body = content[start:]
        cut = self.nbia.cuts[name].pop(0) if self.nbia.cuts.get(name) else None
        if self.nbia.chunked:
            self.send_header("Transfer-Encoding", "chunked")
            end = b"\r\n0\r\n\r\n" if cut is None else b""
            body = f"{len(body):x}\r\n".encode() + body[:cut] + end
        else:
            self.send_header("Content-Length", str(len(body)))
            body = body[:cut]
        self.end_headers()
        self.close_connection = cut is not None
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None: ...


@contextmanager
def serve(nbia: Nbia) -> Iterator[str]:
    """The address of a server that gives what ``nbia`` holds."""
    http = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"nbia": nbia}))
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{http.server_port}"
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


def archive_of(files: dict[str, bytes], hashes: dict[str, str] | None = None) -> bytes:
    """A zip as TCIA sends it; ``hashes`` replaces entries of its list, "" drops one."""
    listed = {name: hashlib.md5(content).hexdigest() for name, content in files.items() if name.endswith(".dcm")}
    listed = {name: value for name, value in {**listed, **(hashes or {})}.items() if value}
    text = io.StringIO()
    csv.writer(text).writerows([("Filename", "MD5Hash"), *listed.items()])
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, content in files.items():
            zipped.writestr(name, content)
        zipped.writestr("md5hashes.csv", text.getvalue())
    return out.getvalue()
