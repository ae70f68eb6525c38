"""A hub on 127.0.0.1 that speaks the part of the Hugging Face protocol that downloads use.

Model info, tree, and `resolve` with HEAD, GET, ETag, commit and Range; large files are redirected to
a second server, as the real hub sends them to a storage host. It offers no xet. Faults are told to
it from the outside: cut a transfer, refuse, lie about a file. Every request is recorded.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

LARGE_FILE_BYTES = 10_000
"""Files from this size on are "large" (LFS): named by SHA-256 and redirected to the storage host."""


def fake_checkpoint(*, weight_bytes: int = 50_000, seed: int = 0) -> dict[str, bytes]:
    """Make the files of a repository with the names of a checkpoint and random content."""
    draw = random.Random(seed)
    return {
        ".gitattributes": b"*.safetensors filter=lfs\n",
        "README.md": b"# a model\n",
        "params.json": draw.randbytes(700),
        "tekken.json": draw.randbytes(20_000),
        "consolidated.safetensors": draw.randbytes(weight_bytes),
        "voice_embedding/casual_male.pt": draw.randbytes(300),
        "voice_embedding/cheerful_female.pt": draw.randbytes(12_000),
        "assets/picture.png": draw.randbytes(40),
    }


OTHER = "someone/finetune"
COMMIT = "c" * 40
FILES = fake_checkpoint()
NEEDED = {name for name in FILES if name not in {".gitattributes", "assets/picture.png"}}


def git_blob_id(content: bytes) -> str:
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def etag(content: bytes) -> str:
    return sha256(content) if len(content) >= LARGE_FILE_BYTES else git_blob_id(content)


def put_in_cache(
    cache: Path, repo: str, commit: str, *, ref: str | None = None, files: dict[str, bytes] = FILES
) -> Path:
    """Write a snapshot the way huggingface_hub lays it out."""
    home = cache / f"models--{repo.replace('/', '--')}"
    snapshot = home / "snapshots" / commit
    for name, content in files.items():
        blob = home / "blobs" / etag(content)
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(content)
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).symlink_to(os.path.relpath(blob, (snapshot / name).parent))
    if ref is not None:
        (home / "refs" / ref).parent.mkdir(parents=True, exist_ok=True)
        (home / "refs" / ref).write_text(commit)
    return snapshot


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".cache" not in path.parts
    }


@dataclass
class Repository:
    """A repository with its history.

    Attributes:
        revisions: branch or tag to commit.
        files: per commit, content by path.
        card: the metadata of the model card, or None.
        token: the only token that may read the files; None lets everyone.
    """

    revisions: dict[str, str]
    files: dict[str, dict[str, bytes]]
    card: dict[str, Any] | None = None
    token: str | None = None


@dataclass(frozen=True)
class SeenRequest:
    """A request as it arrived; `host` is "hub" or "storage"."""

    host: str
    method: str
    path: str
    range: str | None
    authorization: str | None
    accept_encoding: str | None


@dataclass
class LoopbackHub:
    """The state of the hub. Start it with `serve()`.

    Attributes:
        repositories: by id.
        seen: every request, in order.
        cut_after: per file name, close the connection after this many bytes of the body, once.
        status_after_cut: per file name, the HTTP status of every request after a cut; removing the entry heals it.
        sent_instead: per file name, content that is sent in place of the true one.
        ignores_range: answer 200 and the whole file to a Range request.
        before_answer: called with each request before it is answered; what it raises breaks the connection.
        change_info: applied to each model info before it is sent.
    """

    repositories: dict[str, Repository] = field(default_factory=dict)
    seen: list[SeenRequest] = field(default_factory=list)
    cut_after: dict[str, int] = field(default_factory=dict)
    status_after_cut: dict[str, int] = field(default_factory=dict)
    sent_instead: dict[str, bytes] = field(default_factory=dict)
    ignores_range: bool = False
    before_answer: Callable[[SeenRequest], object] | None = None
    change_info: Callable[[dict[str, Any]], Any] = lambda info: info
    endpoint: str = ""
    storage: str = ""

    def add(
        self,
        repo: str,
        files: dict[str, bytes],
        *,
        commit: str = COMMIT,
        branch: str | None = "main",
        licence: str | None = "cc-by-nc-4.0",
        token: str | None = None,
    ) -> Repository:
        revisions = {branch: commit} if branch else {}
        card = {"license": licence} if licence else None
        self.repositories[repo] = Repository(revisions, {commit: files}, card, token)
        return self.repositories[repo]

    def requests_for(self, name: str) -> list[SeenRequest]:
        """Return the GET requests that were answered with content of the file, or with an error in its place."""
        ends = [f"/resolve/{commit}/{name}" for repo in self.repositories.values() for commit in repo.files]
        large = {
            f"/blobs/{sha256(files[name])}/{name}"
            for repo in self.repositories.values()
            for files in repo.files.values()
            if name in files and len(files[name]) >= LARGE_FILE_BYTES
        }
        return [
            seen
            for seen in self.seen
            if seen.method == "GET" and (seen.path in large if large else any(seen.path.endswith(end) for end in ends))
        ]

    @contextmanager
    def serve(self) -> Iterator[LoopbackHub]:
        servers = [ThreadingHTTPServer(("127.0.0.1", 0), self._handler(host)) for host in ("hub", "storage")]
        threads = [threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True) for server in servers]
        self.endpoint, self.storage = (f"http://127.0.0.1:{server.server_address[1]}" for server in servers)
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            for server, thread in zip(servers, threads, strict=True):
                server.shutdown()
                thread.join()
                server.server_close()

    def _handler(self, host: str) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub, Handler.host = hub, host
        return Handler


class _Handler(BaseHTTPRequestHandler):
    # One request per connection: a server that keeps connections open cannot be stopped while clients live.
    protocol_version = "HTTP/1.0"
    hub: LoopbackHub
    host: str

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        url = urlsplit(self.path)
        seen = SeenRequest(
            self.host,
            self.command,
            unquote(url.path),
            self.headers.get("Range"),
            self.headers.get("Authorization"),
            self.headers.get("Accept-Encoding"),
        )
        self.hub.seen.append(seen)
        if self.hub.before_answer is not None:
            self.hub.before_answer(seen)
        parts = [unquote(part) for part in url.path.strip("/").split("/")]
        if self.host == "storage":
            self._storage(parts)
        elif parts[:2] == ["api", "models"] and len(parts) >= 4:
            self._api("/".join(parts[2:4]), parts[4:], parse_qs(url.query))
        elif len(parts) >= 5 and parts[2] == "resolve":
            self._resolve("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        else:
            self._error(404, "", "Not Found")

    # --- the hub's own host

    def _api(self, repo_id: str, rest: list[str], query: dict[str, list[str]]) -> None:
        found = self._find(repo_id, rest[1] if len(rest) > 1 else "main", needs_access=False)
        if found is None:
            return
        repo, commit = found
        files = repo.files[commit]
        if rest[:1] == ["tree"]:
            self._json([self._tree_entry(name, content) for name, content in sorted(files.items())])
        else:
            with_blobs = "blobs" in query
            info = {"_id": "1", "id": repo_id, "modelId": repo_id, "sha": commit, "tags": [], "gated": bool(repo.token)}
            info["siblings"] = [self._sibling(name, content, with_blobs) for name, content in sorted(files.items())]
            if repo.card is not None:
                info["cardData"] = repo.card
            self._json(self.hub.change_info(info))

    @staticmethod
    def _sibling(name: str, content: bytes, with_blobs: bool) -> dict[str, Any]:
        if not with_blobs:
            return {"rfilename": name}
        entry: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": git_blob_id(content)}
        if len(content) >= LARGE_FILE_BYTES:
            entry["lfs"] = {"size": len(content), "sha256": sha256(content), "pointerSize": 130}
        return entry

    @staticmethod
    def _tree_entry(name: str, content: bytes) -> dict[str, Any]:
        entry: dict[str, Any] = {"type": "file", "path": name, "size": len(content), "oid": git_blob_id(content)}
        if len(content) >= LARGE_FILE_BYTES:
            entry["lfs"] = {"size": len(content), "oid": sha256(content), "pointerSize": 130}
        return entry

    def _resolve(self, repo_id: str, revision: str, name: str) -> None:
        found = self._find(repo_id, revision, needs_access=True)
        if found is None:
            return
        repo, commit = found
        content = repo.files[commit].get(name)
        if content is None:
            self._error(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": commit})
        elif len(content) < LARGE_FILE_BYTES:
            self._content(name, content, {"X-Repo-Commit": commit, "ETag": f'"{etag(content)}"'})
        else:
            self.send_response(302)
            self.send_header("Location", f"{self.hub.storage}/blobs/{sha256(content)}/{name}?signature=s3cret")
            self.send_header("X-Repo-Commit", commit)
            self.send_header("X-Linked-Size", str(len(content)))
            self.send_header("X-Linked-ETag", f'"{sha256(content)}"')
            self.send_header("Content-Length", "0")
            self.end_headers()

    def _find(self, repo_id: str, revision: str, *, needs_access: bool) -> tuple[Repository, str] | None:
        sent = self.headers.get("Authorization")
        repo = self.hub.repositories.get(repo_id)
        known = {f"Bearer {repo.token}" for repo in self.hub.repositories.values() if repo.token}
        if sent is not None and known and sent not in known and not sent.endswith("-without-access"):
            self._error(401, "", "Invalid credentials in Authorization header")
        elif repo is None and sent is None:
            # The real hub hides from strangers whether a repository exists.
            self._error(401, "", "Invalid username or password.")
        elif repo is None:
            self._error(404, "RepoNotFound", "Repository not found")
        elif needs_access and repo.token and sent != f"Bearer {repo.token}":
            self._error(401 if sent is None else 403, "GatedRepo", "Access to this model is restricted.")
        elif revision not in repo.revisions and revision not in repo.files:
            self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        else:
            return repo, repo.revisions.get(revision, revision)
        return None

    # --- the storage host

    def _storage(self, parts: list[str]) -> None:
        digest, name = parts[1], "/".join(parts[2:])
        for repo in self.hub.repositories.values():
            for files in repo.files.values():
                if name in files and sha256(files[name]) == digest:
                    self._content(name, files[name], {"ETag": f'"{digest}"'})
                    return
        self._error(404, "", "no such blob")

    # --- answers

    def _content(self, name: str, content: bytes, headers: dict[str, str]) -> None:
        hub = self.hub
        if name in hub.status_after_cut and name not in hub.cut_after:
            self._error(hub.status_after_cut[name], "", "out of order")
            return
        content = hub.sent_instead.get(name, content)
        start = 0
        if (wanted := self.headers.get("Range")) is not None and not hub.ignores_range:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                self._error(416, "", "Range Not Satisfiable", {"Content-Range": f"bytes */{len(content)}"})
                return
            headers = headers | {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        self.send_response(206 if "Content-Range" in headers else 200)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if self.command == "GET":
            cut = hub.cut_after.pop(name, None)
            self.wfile.write(content[start:] if cut is None else content[start:cut])

    def _json(self, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _error(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        body = json.dumps({"error": message}).encode() if self.command == "GET" else b""
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", message)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def client_of(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch, home: Path) -> Iterator[None]:
    """Point this process at the hub, with an empty cache under `home` and no token of the user.

    huggingface_hub keeps part of its environment and a pool of connections from import on; both are
    replaced here, so that a test neither reads the user's settings nor leaves a socket open.
    """
    import huggingface_hub
    from huggingface_hub import constants

    for name in [name for name in os.environ if name.startswith(("HF_", "HUGGINGFACE_", "HUGGING_FACE_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HOME", str(home))
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    monkeypatch.setattr(constants, "HF_STORED_TOKENS_PATH", str(home / "stored_tokens"))
    # Before 1.0 its client was another, and this had another name.
    close = getattr(huggingface_hub, "close_session", None) or huggingface_hub.utils.reset_sessions
    close()
    try:
        yield
    finally:
        close()
