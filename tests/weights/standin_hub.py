"""A small stand-in for the model hub on the loopback: what ``huggingface_hub`` asks for, no more.

Files are announced by HEAD and sent by GET, with the commit, the size and the checksum in the hub's
own headers, from ``/<owner>/<name>/resolve/<revision>/<file>``; a part of a file by ``Range``.
"""

from __future__ import annotations

import hashlib
import re
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"
Files = dict[str, dict[str, bytes]]
"""Content by repository and file name."""


@dataclass
class Request:
    """What was asked: ``HEAD`` or ``GET``, of which file, and the first byte wanted."""

    method: str
    repo: str
    name: str
    start: int = 0


@dataclass
class StandinHub:
    """Serves files until it is closed, and misbehaves on request.

    Attributes:
        files: what it has.
        fail: given a request, the HTTP status and headers to fail with, or ``None`` to answer it.
        cut: given a GET, how many bytes of its answer to send before the connection ends; ``None``
            sends all.
        reset: a cut connection is reset rather than closed.
        sent: what to send in place of a file's content, by file name.
        ranges: whether a part can be asked for; a server without sends all.
        requests: all that were made.
    """

    files: Files
    fail: Callable[[Request], tuple[int, dict[str, str]] | None] = lambda _: None
    cut: Callable[[Request], int | None] = lambda _: None
    reset: bool = False
    sent: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    requests: list[Request] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def endpoint(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()

    def asked(self, method: str, name: str) -> list[Request]:
        """The requests of one kind for one file."""
        return [r for r in self.requests if (r.method, r.name) == (method, name)]

    def _handler(hub) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                self._answer("HEAD")

            def do_GET(self) -> None:
                self._answer("GET")

            def _answer(self, method: str) -> None:
                repo, name = re.fullmatch(r"/(.+)/resolve/[^/]+/(.+)", self.path).groups()
                request = Request(method, repo, name)
                if hub.ranges and (wanted := self.headers.get("Range")):
                    request.start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])
                hub.requests.append(request)
                failure = hub.fail(request)
                if failure is None and repo not in hub.files:
                    failure = 401, {"X-Error-Code": "RepoNotFound"}
                elif failure is None and name not in hub.files[repo]:
                    failure = 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}
                if failure is not None:
                    self._start(failure[0], {**failure[1], "Content-Length": "0"})
                    return
                content = hub.files[repo][name]
                headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{checksum(name, content)}"'}
                if is_large(name):
                    headers["X-Linked-Size"] = str(len(content))
                    headers["X-Linked-ETag"] = headers["ETag"]
                    headers["ETag"] = '"of-the-storage-behind"'
                content = hub.sent.get(name, content) if method == "GET" else content
                part = content[request.start :]
                headers["Content-Length"] = str(len(part))
                if request.start >= len(content):
                    self._start(416, {"Content-Range": f"bytes */{len(content)}"})
                elif request.start:
                    span = f"bytes {request.start}-{len(content) - 1}/{len(content)}"
                    self._start(206, {**headers, "Content-Range": span})
                else:
                    self._start(200, headers)
                if method == "GET":
                    self._send(part, hub.cut(request))

            def _start(self, status: int, headers: dict[str, str]) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()

            def _send(self, content: bytes, cut: int | None) -> None:
                self.wfile.write(content[:cut])
                if cut is not None and cut < len(content):
                    self.close_connection = True
                    if hub.reset:
                        option = struct.pack("ii", 1, 0)
                        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, option)
                        self.connection.close()

            def log_message(self, *_: object) -> None:
                """Nothing on the terminal."""

        return Handler


def is_large(name: str) -> bool:
    """Whether the hub would keep a file outside git, under its SHA-256."""
    return name.endswith((".safetensors", ".bin"))


def checksum(name: str, content: bytes) -> str:
    """What the hub calls a file's content."""
    if is_large(name):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
