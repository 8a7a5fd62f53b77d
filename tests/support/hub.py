"""A Hub on this machine that speaks the Hub's protocol: revisions, redirects to large files, ranges, tokens, gates, commits; and
that can be slow, broken, busy or gone."""

import base64
import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

LARGE = 10_000
"""Bytes from which on a file is kept apart, under its hash, as LFS does."""


@dataclass
class Repository:
    """What a repository holds at its newest commit, and who may read it."""

    files: dict[str, bytes] = field(default_factory=dict)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    private: bool = False
    gated: bool = False
    licence: str = "apache-2.0"
    newest: str = ""

    def commit(self, changed: dict[str, bytes]) -> str:
        """Keep a new commit; return its name."""
        self.files = {**self.files, **changed}
        content = "".join(f"{name}{hashlib.sha1(data).hexdigest()}" for name, data in sorted(self.files.items()))
        self.newest = hashlib.sha1(f"{content}{len(self.commits)}".encode()).hexdigest()
        self.commits[self.newest] = dict(self.files)
        return self.newest


class Hub:
    """The state of the server, and what it was asked."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.tokens = {"hf_good": True, "hf_other": False}
        """Tokens that are known, and whether their accounts were let through gates."""
        self.asked: list[str] = []
        self.authorised_elsewhere: list[str] = []
        """Tokens that were sent to the server of large files, which is another's."""
        self.status = 0
        """Answer everything with it."""
        self.cut: list[int] = []
        """Bytes of the next answers with large files after which the connection ends."""
        self.damaged = False
        self.large_status = 0
        """Answer for large files with it."""
        self.ranges = True
        self.refuses_uploads = 0
        """Answer large files that are sent with this status."""
        self.silent = 0.0
        """Seconds before anything is answered."""
        self.slow = 0.0
        """Seconds between the pieces of a large file."""
        self.starts: list[int] = []
        """The first bytes that large files were asked from."""
        self.blobs: dict[str, bytes] = {}
        self.url, self.elsewhere = "", ""

    def add(self, name: str, folder: Path, **settings: Any) -> str:
        """Make a repository of a folder's files; return its commit."""
        repository = self.repositories.setdefault(name, Repository(**settings))
        return repository.commit({file.name: file.read_bytes() for file in sorted(folder.iterdir())})


class Handler(BaseHTTPRequestHandler):
    """Answers as the Hub does."""

    protocol_version, disable_nagle_algorithm = "HTTP/1.1", True
    hub: Hub

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def do_PUT(self) -> None:
        self.answer()

    def answer(self) -> None:
        path = unquote(self.path.partition("?")[0])
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.asked.append(f"{self.command} {path}")
        time.sleep(self.hub.silent)
        if self.hub.status:
            return self.send(self.hub.status, b"{}", {"Retry-After": "7"} if self.hub.status == 429 else {})
        if path.startswith("/cdn/") and self.hub.large_status:
            return self.send(self.hub.large_status, b"{}")
        if path.startswith("/cdn/"):
            return self.large(path.removeprefix("/cdn/"))
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if token and token not in self.hub.tokens:
            message = "Invalid credentials in Authorization header"
            return self.send(401, b"{}", {"X-Error-Message": message})
        return self.route(path, body, token)

    def route(self, path: str, body: bytes, token: str) -> None:
        if self.command in ("POST", "PUT"):
            return self.write(path, body, token)
        found = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path)
        if found:
            return self.describe(found[1], found[2] or "main", token)
        found = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        return self.resolve(found[1], found[2], found[3], token) if found else self.send(404, b"{}")

    def opened(self, name: str, revision: str, token: str) -> tuple[Repository, str] | None:
        """Return a repository and the commit that is meant, or answer why not."""
        repository = self.hub.repositories.get(name)
        if repository is None or (repository.private and not token):
            self.send(
                404 if token else 401,
                b"{}",
                {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"},
            )
            return None
        commit = repository.newest if revision == "main" else revision
        if commit not in repository.commits:
            self.send(
                404, b"{}", {"X-Error-Code": "RevisionNotFound", "X-Error-Message": f"Invalid rev id: {revision}"}
            )
            return None
        return repository, commit

    def describe(self, name: str, revision: str, token: str) -> None:
        if (found := self.opened(name, revision, token)) is None:
            return
        repository, commit = found
        siblings = [{"rfilename": file, "size": len(data)} for file, data in repository.commits[commit].items()]
        told = {"id": name, "sha": commit, "siblings": siblings, "private": repository.private, "tags": []}
        told |= {"cardData": {"license": repository.licence}, "gated": repository.gated, "downloads": 0, "likes": 0}
        self.send(200, json.dumps(told).encode(), {"Content-Type": "application/json"})

    def resolve(self, name: str, revision: str, file: str, token: str) -> None:
        if (found := self.opened(name, revision, token)) is None:
            return
        repository, commit = found
        if repository.gated and not self.hub.tokens.get(token):
            self.send(
                403 if token else 401, b"{}", {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted"}
            )
            return
        data = repository.commits[commit].get(file)
        if data is None:
            self.send(404, b"{}", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
            return
        if len(data) < LARGE:
            self.send(200, data, {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X-Repo-Commit": commit})
            return
        digest = hashlib.sha256(data).hexdigest()
        self.hub.blobs[digest] = data
        told = {"X-Linked-ETag": f'"{digest}"', "X-Linked-Size": str(len(data)), "X-Repo-Commit": commit}
        self.send(302, b"", told | {"Location": f"{self.hub.elsewhere}/cdn/{digest}?signature=1"})

    def large(self, digest: str) -> None:
        data = self.hub.blobs[digest]
        if token := self.headers.get("Authorization"):
            self.hub.authorised_elsewhere.append(token)
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        start = int(asked[1]) if asked and self.hub.ranges else 0
        self.hub.starts.append(start)
        if self.hub.damaged:
            data = data[:-1] + bytes([data[-1] ^ 1])
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        if self.command == "HEAD":
            return
        most = self.hub.cut.pop(0) if self.hub.cut else len(data)
        for at in range(start, min(start + most, len(data)), 2**16):
            self.wfile.write(data[at : min(at + 2**16, start + most)])
            time.sleep(self.hub.slow)
        if start + most < len(data):
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(2)

    def write(self, path: str, body: bytes, token: str) -> None:
        if path.startswith("/upload/"):  # its address is a secret that the batch told
            if self.hub.refuses_uploads or hashlib.sha256(body).hexdigest() != path.removeprefix("/upload/"):
                return self.send(self.hub.refuses_uploads or 400, b"{}")
            self.hub.blobs[path.removeprefix("/upload/")] = body
            return self.tell({})
        if not token:
            return self.send(401, b"{}", {"X-Error-Message": "Invalid username or password."})
        if not self.hub.tokens[token]:
            return self.send(403, json.dumps({"error": "Forbidden: no write permission"}).encode())
        if path == "/api/repos/create":
            return self.create(json.loads(body))
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/.+", path):
            asked = json.loads(body)["files"]
            modes = [{"path": one["path"], "uploadMode": "lfs" if one["size"] >= LARGE else "regular"} for one in asked]
            return self.tell({"files": [one | {"shouldIgnore": False, "oid": None} for one in modes]})
        if path.endswith(".git/info/lfs/objects/batch"):
            objects = json.loads(body)["objects"]
            links = [one | {"actions": {"upload": {"href": f"{self.hub.url}/upload/{one['oid']}"}}} for one in objects]
            return self.tell({"transfer": "basic", "objects": links})
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/.+", path):
            return self.commit(found[1], body)
        return self.tell({})

    def create(self, asked: dict[str, Any]) -> None:
        name = f"{asked.get('organization') or 'me'}/{asked['name'].rpartition('/')[2]}"
        if name in self.hub.repositories:
            return self.send(409, json.dumps({"error": "exists", "url": f"{self.hub.url}/{name}"}).encode())
        self.hub.repositories[name] = Repository(
            private=asked.get("visibility") == "private" or bool(asked.get("private"))
        )
        self.hub.repositories[name].commit({})
        return self.tell({"url": f"{self.hub.url}/{name}", "name": name, "id": name})

    def commit(self, name: str, body: bytes) -> None:
        changed = {}
        for line in body.splitlines():
            one = json.loads(line)
            if one["key"] == "file":
                changed[one["value"]["path"]] = base64.b64decode(one["value"]["content"])
            if one["key"] == "lfsFile":
                changed[one["value"]["path"]] = self.hub.blobs[one["value"]["oid"]]
        made = self.hub.repositories[name].commit(changed)
        self.tell({"commitUrl": f"{self.hub.url}/{name}/commit/{made}", "commitOid": made, "hookOutput": ""})

    def tell(self, value: Any) -> None:
        self.send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@contextmanager
def serving() -> Iterator[Hub]:
    """Serve a Hub on a free port until the end."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Own", (Handler,), {"hub": hub}))
    server.daemon_threads = True
    port = server.server_address[1]
    hub.url, hub.elsewhere = f"http://127.0.0.1:{port}", f"http://localhost:{port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(name="hub")
def served_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Serve a Hub, and let the Hub's library ask it, with an empty cache and no token, in an empty folder."""
    from huggingface_hub import constants
    from huggingface_hub.utils import close_session

    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 5)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with serving() as served:
        monkeypatch.setattr(constants, "ENDPOINT", served.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", served.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        yield served
    close_session()
