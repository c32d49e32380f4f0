"""A dataset hub on this machine, for the real clients: what they ask of the Hugging Face hub.

Datasets are commits of files in memory. Files whose name ends in `.parquet` are in large file
storage, as on the hub: their bytes lie behind a redirect. Tests say what goes wrong.
Source: https://huggingface.co/docs/hub/api, and the headers that `huggingface_hub` reads.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass
class Dataset:
    """refs: branch or other ref -> commit; commits: commit -> path -> bytes.

    gated: the status that downloads are refused with, without the token that has access.
    """

    refs: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    gated: int = 0

    def push(self, files: dict[str, bytes], ref: str = "main") -> str:
        """A new commit with these files on a ref; its name."""
        commit = hashlib.sha1(f"{ref} {len(self.commits)}".encode()).hexdigest()
        self.commits[commit] = dict(files)
        self.refs[ref] = commit
        return commit


@dataclass
class Hub:
    """refusals: (part of the path, status, headers) of the next answers, each used once.

    cut: path -> how. `once`: the connection ends early the first time. `always`: a shorter file
    is sent as if it was whole.
    """

    url: str = ""
    datasets: dict[str, Dataset] = field(default_factory=dict)
    refusals: list[tuple[str, int, dict[str, str]]] = field(default_factory=list)
    cut: dict[str, str] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)

    def dataset(self, name: str) -> Dataset:
        """The dataset of this name, made when there is none."""
        return self.datasets.setdefault(name, Dataset())


class _RefusedError(Exception):
    def __init__(self, status: int, headers: dict[str, str]) -> None:
        self.status, self.headers = status, headers


def _not_found(code: str) -> _RefusedError:
    return _RefusedError(404, {"X-Error-Code": code})


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        self.hub.requests.append(f"{self.command} {unquote(url.path)}")
        try:
            for refusal in self.hub.refusals:
                if refusal[0] in url.path:
                    self.hub.refusals.remove(refusal)
                    raise _RefusedError(*refusal[1:])
            self._answer([unquote(part) for part in url.path.strip("/").split("/")], url.query)
        except _RefusedError as refused:
            self._send(refused.status, b"{}", refused.headers)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *args: Any) -> None:  # it would go to stderr
        pass

    def _answer(self, parts: list[str], query: str) -> None:
        match parts:
            case ["api", "datasets", owner, name, *rest]:
                self._answer_api(self._dataset(f"{owner}/{name}"), f"{owner}/{name}", rest, query)
            case ["datasets", owner, name, "resolve", revision, *path]:
                self._resolve(self._dataset(f"{owner}/{name}"), revision, "/".join(path))
            case ["lfs", digest]:
                self._send_stored(digest)
            case _:
                raise _RefusedError(404, {})

    def _dataset(self, name: str) -> Dataset:
        if name not in self.hub.datasets:
            raise _not_found("RepoNotFound")
        return self.hub.datasets[name]

    def _answer_api(self, dataset: Dataset, name: str, rest: list[str], query: str) -> None:
        match rest:
            case [] | ["revision", _]:
                commit, _ = _files(dataset, rest[1] if rest else "main")
                self._send_json({"id": name, "sha": commit, "siblings": [], "tags": []})
            case ["refs"]:
                refs = [
                    {"name": ref, "ref": ref, "targetCommit": c} for ref, c in dataset.refs.items()
                ]
                branches = [ref for ref in refs if not ref["ref"].startswith("refs/")]
                converts = [ref for ref in refs if ref["ref"].startswith("refs/convert")]
                self._send_json({"branches": branches, "tags": [], "converts": converts})
            case ["tree", revision, *path]:
                recursive = parse_qs(query).get("recursive", ["false"])[0].lower() == "true"
                _, files = _files(dataset, revision)
                self._send_json(_tree(files, "/".join(path), recursive=recursive))
            case ["paths-info", revision]:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                asked = parse_qs(body)["paths"]
                _, files = _files(dataset, revision)
                whole = _tree(files, "", recursive=True)
                self._send_json([entry for entry in whole if entry["path"] in asked])
            case _:
                raise _RefusedError(404, {})

    def _resolve(self, dataset: Dataset, revision: str, path: str) -> None:
        commit, files = _files(dataset, revision)
        authorized = self.headers.get("Authorization") == "Bearer hf_has_access"
        if dataset.gated and not authorized:
            raise _RefusedError(dataset.gated, {"X-Error-Code": "GatedRepo"})
        headers = {"X-Repo-Commit": commit}
        if path not in files:
            raise _RefusedError(404, {"X-Error-Code": "EntryNotFound", **headers})
        data = files[path]
        if not path.endswith(".parquet"):
            self._send(200, data, {**headers, "ETag": f'"{_blob_id(data)}"'})
            return
        digest = hashlib.sha256(data).hexdigest()
        linked = {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(data))}
        # Another host than the hub's, as there: the client asks this one for size and digest.
        store = self.hub.url.replace("127.0.0.1", "localhost")
        self._send(302, b"", {**headers, **linked, "Location": f"{store}/lfs/{digest}"})

    def _send_stored(self, digest: str) -> None:
        for dataset in self.hub.datasets.values():
            for files in dataset.commits.values():
                for path, data in files.items():
                    if hashlib.sha256(data).hexdigest() == digest:
                        self._send_possibly_cut(path, data)
                        return
        raise _RefusedError(404, {})

    def _send_possibly_cut(self, path: str, data: bytes) -> None:
        how = self.hub.cut.get(path, "")
        if how == "once":
            del self.hub.cut[path]
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2])
            self.close_connection = True
            return
        self._send(200, data[: len(data) // 2] if how == "always" else data, {})

    def _send_json(self, data: Any) -> None:
        self._send(200, json.dumps(data).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def _files(dataset: Dataset, revision: str) -> tuple[str, dict[str, bytes]]:
    commit = dataset.refs.get(revision, revision)
    if commit not in dataset.commits:
        raise _not_found("RevisionNotFound")
    return commit, dataset.commits[commit]


def _tree(files: dict[str, bytes], folder: str, *, recursive: bool) -> list[dict[str, Any]]:
    start = f"{folder}/" if folder else ""
    below = {path: data for path, data in files.items() if path.startswith(start)}
    if not below:
        raise _not_found("EntryNotFound")
    folders = {
        start + "/".join(parts[:depth])
        for parts in (path.removeprefix(start).split("/") for path in below)
        for depth in range(1, len(parts))
        if recursive or depth == 1
    }
    entries = [{"type": "directory", "path": path, "oid": "0" * 40, "size": 0} for path in folders]
    for path, data in below.items():
        if recursive or "/" not in path.removeprefix(start):
            entry: dict[str, Any] = {"type": "file", "path": path, "size": len(data)}
            entry["oid"] = _blob_id(data)
            if path.endswith(".parquet"):
                digest = hashlib.sha256(data).hexdigest()
                entry["lfs"] = {"oid": digest, "size": len(data), "pointerSize": 130}
            entries.append(entry)
    return sorted(entries, key=lambda entry: str(entry["path"]))


def _blob_id(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@contextmanager
def hub_server() -> Iterator[Hub]:
    """A hub that answers until the block is left."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
