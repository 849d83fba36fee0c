"""A Hugging Face hub on loopback, with the routes that segue and huggingface_hub use.

    with FakeHub() as hub:
        hub.add("owner/name", {"config.json": b"{}", "model.safetensors": weights})
        monkeypatch.setenv("HF_ENDPOINT", hub.url)

Weights are stored in "LFS": they have a SHA-256, and their address redirects to another host
(another port here), as the real hub does.  All other files have git's SHA-1.  Requests are recorded
in `requests`; `drop`, `stall`, `answer` and `send_instead` make the next request for a file go
wrong; `refuse` and `unplugged` make every request go wrong.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

LFS = re.compile(r"\.(bin|safetensors|model|h5|msgpack|onnx)$")
CHUNK = 16 * 1024


@dataclass(frozen=True)
class Request:
    """A request: `file` is None for the listing of a repository."""

    method: str
    repository: str
    file: str | None
    range: str | None = None
    token: str | None = None
    at_cdn: bool = False


@dataclass
class Repository:
    files: dict[str, bytes]
    token: str | None = None  # private: only with this token does it exist
    gated: bool = False  # listed for everyone, its files for nobody
    announced: dict[str, int] = field(default_factory=dict)  # sizes in the list that are lies

    @property
    def commit(self) -> str:
        everything = json.dumps({name: digest(name, data) for name, data in self.files.items()})
        return hashlib.sha1(everything.encode()).hexdigest()


def digest(name: str, data: bytes) -> str:
    """What names the content: the ETag of the file, and its blob in the cache."""
    return hashlib.sha256(data).hexdigest() if LFS.search(name) else git_digest(data)


def git_digest(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class FakeHub:
    """Serves on two ports of 127.0.0.1 while it is open.

    Attributes:
        url: what HF_ENDPOINT is set to.
        requests: all of them, in order.
        renamed: repositories that have moved, from their old names to their new ones.
        portal: whether a captive portal answers every request.
        unplugged: whether every connection ends without an answer.
        serves_ranges: whether `Range` is honoured.
        pace_s: a pause after every 16 KiB sent.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.renamed: dict[str, str] = {}
        self.requests: list[Request] = []
        self.portal = self.unplugged = False
        self.serves_ranges = True
        self.pace_s = 0.0
        self.closing = threading.Event()
        self._refused: dict[str, int] = {}
        self._faults: dict[str, list[tuple[str, Any]]] = {}
        self._servers = [_Server(self), _Server(self)]
        self.url, self.cdn = (f"http://127.0.0.1:{s.server_port}" for s in self._servers)

    def __enter__(self) -> FakeHub:
        for server in self._servers:
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.closing.set()
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def add(self, name: str, files: dict[str, bytes], **options: Any) -> Repository:
        self.repositories[name] = Repository(files, **options)
        return self.repositories[name]

    def fetched(self) -> list[str]:
        """The files whose content was requested, in order, with every retry."""
        return [r.file for r in self.requests if r.file and r.method == "GET" and not r.at_cdn]

    def drop(self, file: str, after: int) -> None:
        """Close the connection after that many bytes of the body."""
        self._faults.setdefault(file, []).append(("drop", after))

    def stall(self, file: str, after: int) -> None:
        """Send nothing more after that many bytes of the body, and keep the connection."""
        self._faults.setdefault(file, []).append(("stall", after))

    def answer(self, file: str, status: int) -> None:
        """Answer with a status and no file."""
        self._faults.setdefault(file, []).append(("status", status))

    def refuse(self, repository: str, status: int) -> None:
        """Answer every request for a repository with a status."""
        self._refused[repository] = status

    def refusal_of(self, repository: str) -> int | None:
        return self._refused.get(repository)

    def send_instead(self, file: str, data: bytes) -> None:
        """Send other content than the listing announces."""
        self._faults.setdefault(file, []).append(("data", data))

    def clear_faults(self) -> None:
        """Let every later request for a file go right."""
        self._faults.clear()

    def next_fault(self, file: str) -> tuple[str, Any]:
        faults = self._faults.get(file) or [("", None)]
        return faults.pop(0)


class _Server(ThreadingHTTPServer):
    def __init__(self, hub: FakeHub) -> None:
        self.hub = hub
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # it holds small bodies back for 40 ms
    server: _Server

    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        try:
            if self.server.hub.unplugged:
                self.close_connection = True
            elif self.server.hub.portal:
                self._reply(200, {"Content-Type": "text/html"}, b"<html>Room number?</html>")
            elif match := re.fullmatch(r"/api/models/(.+?)(/revision/[^/]+)?", path):
                self._list(match[1])
            elif match := re.fullmatch(r"/(.+?)/resolve/[^/]+/(.+)", path):
                self._resolve(match[1], match[2])
            elif match := re.fullmatch(r"/cdn/(.+?)/blob/(.+)", path):
                self._note(match[1], match[2], at_cdn=True)
                self._send(match[2], self.server.hub.repositories[match[1]].files[match[2]], {})
            else:
                self._reply(404)
        except ConnectionError:  # the client has gone
            self.close_connection = True

    def _token(self) -> str | None:
        return self.headers.get("Authorization", "").removeprefix("Bearer ") or None

    def _note(self, repository: str, file: str | None, at_cdn: bool = False) -> None:
        asked_range, token = self.headers.get("Range"), self._token()
        asked = Request(self.command, repository, file, asked_range, token, at_cdn)
        self.server.hub.requests.append(asked)

    def _find(self, name: str) -> Repository | None:
        """The repository, or None when the answer has been given."""
        hub, token = self.server.hub, self._token()
        if name in hub.renamed:
            self._reply(307, {"Location": self.path.replace(name, hub.renamed[name])})
            return None
        if (status := hub.refusal_of(name)) is not None:
            self._reply(status)
            return None
        found = hub.repositories.get(name)
        if found is None or found.token not in (None, token):
            self._reply(404 if token else 401, {"X-Error-Code": "RepoNotFound"})
            return None
        return found

    def _list(self, name: str) -> None:
        self._note(name, None)
        if (repository := self._find(name)) is None:
            return
        with_sizes = "blobs" in parse_qs(urlsplit(self.path).query)
        siblings = []
        for file, data in repository.files.items():
            entry: dict[str, Any] = {"rfilename": file}
            if with_sizes:
                size = repository.announced.get(file, len(data))
                entry |= {"size": size, "blobId": git_digest(data)}
                if LFS.search(file):
                    pointer = f"oid sha256:{digest(file, data)}\nsize {size}\n".encode()
                    entry["blobId"] = git_digest(pointer)
                    entry["lfs"] = {"sha256": digest(file, data), "size": size}
            siblings.append(entry)
        listing = {"id": name, "sha": repository.commit, "siblings": siblings}
        self._reply(200, {"Content-Type": "application/json"}, json.dumps(listing).encode())

    def _resolve(self, name: str, file: str) -> None:
        self._note(name, file)
        if (repository := self._find(name)) is None:
            return
        head = {"X-Repo-Commit": repository.commit}
        if repository.gated:
            self._reply(401, head | {"X-Error-Code": "GatedRepo"})
        elif file not in repository.files:
            self._reply(404, head | {"X-Error-Code": "EntryNotFound"})
        elif LFS.search(file):
            data = repository.files[file]
            head["X-Linked-Etag"] = f'"{digest(file, data)}"'
            head["X-Linked-Size"] = str(repository.announced.get(file, len(data)))
            head["Location"] = f"{self.server.hub.cdn}/cdn/{name}/blob/{quote(file)}"
            self._reply(302, head)
        else:
            data = repository.files[file]
            self._send(file, data, head | {"ETag": f'"{digest(file, data)}"'})

    def _send(self, file: str, data: bytes, head: dict[str, str]) -> None:
        hub = self.server.hub
        fault, value = hub.next_fault(file if self.command == "GET" else "")
        if fault == "status":
            self._reply(value)
            return
        data = value if fault == "data" else data
        start, status = 0, 200
        if hub.serves_ranges and (asked := self.headers.get("Range")):
            start, status = int(asked.removeprefix("bytes=").removesuffix("-")), 206
            if start >= len(data):
                self._reply(416)
                return
            head["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        body = data[start:]
        head["Content-Length"] = str(len(body))
        if fault in ("drop", "stall"):
            self.close_connection = True
            body = body[:value]
        self._reply(status, head, body)
        if fault == "stall":
            self.wfile.flush()
            hub.closing.wait()

    def _reply(self, status: int, head: dict[str, str] | None = None, body: bytes = b"") -> None:
        self.send_response(status)
        for key, value in ({"Content-Length": str(len(body))} | (head or {})).items():
            self.send_header(key, value)
        self.send_header("X-HF-Warning", "topic; a warning that nobody wants to see")
        self.end_headers()
        if self.command == "GET":
            for at in range(0, len(body), CHUNK):
                self.wfile.write(body[at : at + CHUNK])
                time.sleep(self.server.hub.pace_s)
