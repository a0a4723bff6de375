"""A small stand-in for the model hub on the loopback: what ``huggingface_hub`` asks for, no more.

Files are announced by HEAD and sent by GET, with the commit, the size and the checksum in the hub's
own headers, from ``/<owner>/<name>/resolve/<revision>/<file>``; a part of a file by ``Range``.

An upload makes the repository, asks which files are large, sends those by PUT to where a git-lfs
batch says, and then commits all of them in lines of JSON, in which the small ones lie. There is no
xet: later versions of ``huggingface_hub`` must be told so, earlier ones ask. A Space is one whose
name here begins with ``spaces/``.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import yaml

COMMIT = "0123456789abcdef0123456789abcdef01234567"
Files = dict[str, dict[str, bytes]]
"""Content by repository and file name."""


@dataclass
class Request:
    """What was asked: ``HEAD`` or ``GET``, of which file, and the first byte wanted.

    An upload's are ``POST`` and ``PUT``; in place of a file they name the step: ``create``,
    ``validate-yaml``, ``preupload``, ``batch``, ``commit`` or, of ``PUT``, the content's SHA-256.
    """

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
        cut: given a GET, how many bytes of its answer to send before the connection ends, and given
            a PUT, how many of its content to read; ``None`` is for all.
        reset: a cut connection is reset rather than closed.
        sent: what to send in place of a file's content, by file name.
        ranges: whether a part can be asked for; a server without sends all.
        requests: all that were made.
        token: without it, nothing can be written.
        private: repositories that were made so.
        sdks: what Spaces run, by repository.
        large: contents that were sent by PUT, by SHA-256.
        commits: id of the last commit by repository, of those that were uploaded to.
    """

    files: Files
    fail: Callable[[Request], tuple[int, dict[str, str]] | None] = lambda _: None
    cut: Callable[[Request], int | None] = lambda _: None
    reset: bool = False
    sent: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    requests: list[Request] = field(default_factory=list)
    token: str = "hf_standin"
    private: set[str] = field(default_factory=set)
    sdks: dict[str, str] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    commits: dict[str, str] = field(default_factory=dict)

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

    def upload_step(self, request: Request, body: bytes) -> tuple[int, dict]:
        """Answer one request of an upload: HTTP status and JSON."""
        if request.method == "PUT":
            if hashlib.sha256(body).hexdigest() != request.name:
                return 400, {"error": "other content than was announced"}
            self.large[request.name] = body
            return 200, {}
        if request.name == "commit":
            return self._commit(request.repo, [json.loads(line) for line in body.splitlines()])
        asked = json.loads(body)
        if request.name == "create":
            answer = {"url": f"{self.endpoint}/{request.repo}"}
            if request.repo in self.files:
                return 409, answer
            self.files[request.repo] = {}
            # The flag is that of earlier versions.
            if asked.get("visibility") == "private" or asked.get("private"):
                self.private.add(request.repo)
            if asked["type"] == "space":
                self.sdks[request.repo] = asked["sdk"]
            return 200, answer
        if request.name == "validate-yaml":
            front = asked["content"].partition("---")[2].partition("\n---")[0]
            if isinstance(yaml.safe_load(front), dict):
                return 200, {"errors": [], "warnings": []}
            return 400, {"errors": [{"message": "no front matter"}], "warnings": []}
        if request.name == "preupload":
            there = self.files[request.repo]
            return 200, {"files": [self._mode(file["path"], there) for file in asked["files"]]}
        objects = []
        for wanted in asked["objects"]:
            if wanted["oid"] not in self.large:
                href = f"{self.endpoint}/storage/{request.repo}/{wanted['oid']}"
                wanted["actions"] = {"upload": {"href": href}}
            objects.append(wanted)
        return 200, {"transfer": "basic", "objects": objects}

    def _mode(self, name: str, there: dict[str, bytes]) -> dict:
        """How a file is to be sent, and which content of that name is there."""
        mode = {"path": name, "uploadMode": "lfs" if is_large(name) else "regular"}
        oid = {"oid": checksum(name, there[name])} if name in there else {}
        return {**mode, **oid, "shouldIgnore": False}

    def _commit(self, repo: str, lines: list[dict]) -> tuple[int, dict]:
        """All of it or nothing."""
        added = {}
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "file":
                added[value["path"]] = base64.b64decode(value["content"])
            elif value["oid"] not in self.large:
                return 400, {"error": "content that was never sent"}
            else:
                added[value["path"]] = self.large[value["oid"]]
        self.files[repo] |= added
        names = sorted((name, checksum(name, content)) for name, content in added.items())
        self.commits[repo] = hashlib.sha1(repr(names).encode()).hexdigest()
        url = f"{self.endpoint}/{repo}/commit/{self.commits[repo]}"
        return 200, {"success": True, "commitOid": self.commits[repo], "commitUrl": url}

    def _handler(hub) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                self._answer("HEAD")

            def do_GET(self) -> None:
                if described := re.fullmatch(r"/api/(models|spaces)/(.+)", self.path):
                    self._describe(_repository(*described.groups()))
                else:
                    self._answer("GET")

            def do_POST(self) -> None:
                body = self._body()
                if self.path == "/api/repos/create":
                    asked = json.loads(body)
                    repo = f"{asked['organization']}/{asked['name']}"
                    repo, name = _repository(f"{asked['type']}s", repo), "create"
                elif self.path == "/api/validate-yaml":
                    repo, name = "", "validate-yaml"
                elif batch := re.fullmatch(r"/(.+)\.git/info/lfs/objects/batch", self.path):
                    repo, name = batch[1], "batch"
                else:
                    pattern = r"/api/(models|spaces)/(.+)/(preupload|commit)/main"
                    kinds, repo, name = re.fullmatch(pattern, self.path).groups()
                    repo = _repository(kinds, repo)
                self._take(Request("POST", repo, name), body)

            def do_PUT(self) -> None:
                repo, name = re.fullmatch(r"/storage/(.+)/(.+)", self.path).groups()
                request = Request("PUT", repo, name)
                cut = hub.cut(request)
                if cut is None:
                    self._take(request, self._body())
                    return
                hub.requests.append(request)
                self.rfile.read(cut)
                self._break_off()

            def _body(self) -> bytes:
                if self.headers.get("Transfer-Encoding") != "chunked":
                    return self.rfile.read(int(self.headers["Content-Length"]))
                content = b""
                while size := int(self.rfile.readline(), 16):
                    content += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return content

            def _take(self, request: Request, body: bytes) -> None:
                hub.requests.append(request)
                # Where contents are stored, the address is the permission.
                trusted = self.headers.get("Authorization") == f"Bearer {hub.token}"
                failure = hub.fail(request)
                if failure is not None:
                    self._start(failure[0], {**failure[1], "Content-Length": "0"})
                elif not trusted and request.method == "POST":
                    self._send_json(401, {"error": "Invalid username or password."})
                else:
                    self._send_json(*hub.upload_step(request, body))

            def _describe(self, repo: str) -> None:
                found = repo in hub.files
                self._send_json(200 if found else 404, {"id": repo, "sha": hub.commits.get(repo)})

            def _send_json(self, status: int, answer: dict) -> None:
                content = json.dumps(answer).encode()
                headers = {"Content-Type": "application/json", "Content-Length": str(len(content))}
                self._start(status, headers)
                self.wfile.write(content)

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
                commit = hub.commits.get(repo, COMMIT)
                headers = {"X-Repo-Commit": commit, "ETag": f'"{checksum(name, content)}"'}
                if is_large(name):
                    headers["X-Linked-Size"] = str(len(content))
                    headers["X-Linked-ETag"] = headers["ETag"]
                    headers["ETag"] = '"of-the-storage-behind"'
                content = hub.sent.get(name, content) if method == "GET" else content
                part = content[request.start :]
                headers["Content-Length"] = str(len(part))
                if request.start and request.start >= len(content):
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
                    self._break_off()

            def _break_off(self) -> None:
                self.close_connection = True
                if hub.reset:
                    option = struct.pack("ii", 1, 0)
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, option)
                    self.connection.close()

            def log_message(self, *_: object) -> None:
                """Nothing on the terminal."""

        return Handler


def _repository(kinds: str, repo: str) -> str:
    """What a repository is called here: with what it is, unless that is a model."""
    return repo if kinds == "models" else f"{kinds}/{repo}"


def is_large(name: str) -> bool:
    """Whether the hub would keep a file outside git, under its SHA-256."""
    return name.endswith((".safetensors", ".bin"))


def checksum(name: str, content: bytes) -> str:
    """What the hub calls a file's content."""
    if is_large(name):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
