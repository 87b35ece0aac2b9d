"""A Hub for models on this machine: the endpoints that huggingface_hub asks, over a folder in memory."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = r"(?P<repo>[\w.-]+/[\w.-]+)"


@dataclass
class Hub:
    """What the Hub holds, and what goes wrong with it.

    Attributes:
        commits: of each repository, its commits, oldest first; each is the content by path.
        blobs: uploaded large files by SHA-256.
        requests: method, path and authorization of each request.
        fail_at: beginning of "METHOD path" that is answered with an error.
        break_after: number of bytes of a large file after which its download breaks off.
    """

    commits: dict[str, list[dict[str, bytes]]] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    fail_at: tuple[str, int] | None = None
    break_after: int | None = None
    address: str = ""

    def put(self, repo: str, files: dict[str, bytes]) -> str:
        """Add a commit; returns its name."""
        self.commits.setdefault(repo, []).append({**self.files(repo), **files})
        return self.commit(repo)

    def files(self, repo: str) -> dict[str, bytes]:
        return self.commits[repo][-1] if self.commits.get(repo) else {}

    def commit(self, repo: str, number: int = -1) -> str:
        number = number % max(1, len(self.commits[repo]))
        return hashlib.sha1(f"{repo} {number}".encode()).hexdigest()

    def at(self, repo: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        names = {self.commit(repo, number): files for number, files in enumerate(self.commits[repo])}
        if revision == "main":
            return self.commit(repo), self.files(repo)
        return (revision, names[revision]) if revision in names else None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _json(self, value: Any, status: int = 200) -> None:
        self._answer(status, json.dumps(value).encode(), Content_Type="application/json")

    def _missing(self, what: str) -> None:
        self._answer(404, X_Error_Code=what)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _handle(self) -> None:
        body = self._body()
        self.hub.requests.append((self.command, self.path, self.headers.get("authorization")))
        if self.hub.fail_at is not None and f"{self.command} {self.path}".startswith(self.hub.fail_at[0]):
            self._answer(self.hub.fail_at[1])
            return
        for method, pattern, route in _ROUTES:
            found = re.fullmatch(pattern, self.path.partition("?")[0])
            if found and self.command in method:
                getattr(self, route)(body, **found.groupdict())
                return
        self._answer(404)

    def __getattr__(self, name: str) -> Any:  # do_GET and so on, as http.server looks them up
        if name.startswith("do_"):
            return self._handle
        raise AttributeError(name)

    def resolve(self, _: bytes, repo: str, revision: str, path: str) -> None:
        if repo not in self.hub.commits:
            self._missing("RepoNotFound")
            return
        found = self.hub.at(repo, revision)
        if found is None:
            self._missing("RevisionNotFound")
            return
        commit, files = found
        if path not in files:
            self._answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
            return
        content = files[path]
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        headers = {"X_Repo_Commit": commit, "ETag": etag, "Accept_Ranges": "bytes"}
        start = re.match(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if start and self.command == "GET":
            offset = int(start[1])
            headers["Content_Range"] = f"bytes {offset}-{len(content) - 1}/{len(content)}"
            self._answer(206, content[offset:], **headers)
        elif self.command == "GET" and self.hub.break_after is not None and len(content) > self.hub.break_after:
            self.send_response(200)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: self.hub.break_after])
            self.close_connection = True
        else:
            self._answer(200, content, **headers)

    def info(self, _: bytes, repo: str, revision: str = "main") -> None:
        if repo not in self.hub.commits:
            self._missing("RepoNotFound")
            return
        found = self.hub.at(repo, revision)
        if found is None:
            self._missing("RevisionNotFound")
            return
        siblings = [{"rfilename": path, "size": len(content)} for path, content in found[1].items()]
        self._json({"_id": "1", "id": repo, "sha": found[0], "siblings": siblings, "private": True, "tags": []})

    def create(self, body: bytes) -> None:
        values = json.loads(body)
        repo = f"{values['organization']}/{values['name']}"
        known = repo in self.hub.commits
        self.hub.commits.setdefault(repo, [])
        self._json({"url": f"{self.hub.address}/{repo}", "id": repo}, 409 if known else 200)

    def preupload(self, body: bytes, repo: str, revision: str) -> None:
        files = json.loads(body)["files"]
        modes = [
            {
                "path": each["path"],
                "uploadMode": "lfs" if each["path"].endswith(".safetensors") else "regular",
                "shouldIgnore": False,
            }
            for each in files
        ]
        self._json({"files": modes})

    def batch(self, body: bytes, repo: str) -> None:
        objects = []
        for each in json.loads(body)["objects"]:
            actions = {"upload": {"href": f"{self.hub.address}/blobs/{each['oid']}", "header": {}}}
            objects.append({**each, **({} if each["oid"] in self.hub.blobs else {"actions": actions})})
        self._json({"transfer": "basic", "objects": objects})

    def blob(self, body: bytes, oid: str) -> None:
        assert hashlib.sha256(body).hexdigest() == oid
        self.hub.blobs[oid] = body
        self._answer(200)

    def write(self, body: bytes, repo: str, revision: str) -> None:
        files = {}
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.hub.blobs[value["oid"]]
        commit = self.hub.put(repo, files)
        url = f"{self.hub.address}/{repo}/commit/{commit}"
        self._json({"success": True, "commitOid": commit, "commitUrl": url})

    def card(self, _: bytes) -> None:
        self._json({"errors": [], "warnings": []})


_ROUTES = (
    (("GET", "HEAD"), rf"/{REPOSITORY}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", "resolve"),
    (("GET",), rf"/api/models/{REPOSITORY}/revision/(?P<revision>[^/]+)", "info"),
    (("GET",), rf"/api/models/{REPOSITORY}", "info"),
    (("POST",), r"/api/repos/create", "create"),
    (("POST",), r"/api/validate-yaml", "card"),
    (("POST",), rf"/api/models/{REPOSITORY}/preupload/(?P<revision>[^/]+)", "preupload"),
    (("POST",), rf"/{REPOSITORY}\.git/info/lfs/objects/batch", "batch"),
    (("PUT",), r"/blobs/(?P<oid>[0-9a-f]+)", "blob"),
    (("POST",), rf"/api/models/{REPOSITORY}/commit/(?P<revision>[^/]+)", "write"),
)


@contextmanager
def running(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Iterator[Hub]:
    """A Hub that huggingface_hub asks inside the block, with an empty cache."""
    from huggingface_hub import constants

    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    use(monkeypatch, hub.address, cache)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(cache / "token"))
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def use(monkeypatch: pytest.MonkeyPatch, address: str, cache: Path) -> None:
    """Let huggingface_hub ask another address, which it otherwise reads once, when it is imported."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
