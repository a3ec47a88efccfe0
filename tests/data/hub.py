"""A hub on loopback: answers as the Hugging Face hub does for some datasets, and fails when it is told to."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from urllib.parse import unquote, urlparse

COMMIT = "1" * 40
Files = dict[str, bytes]


@dataclass
class _Fault:
    """What happens to the next `times` requests whose path holds `match`: a status, or a body that breaks off."""

    times: int
    match: str
    status: int | None = None
    after_bytes: int = 0
    headers: Mapping[str, str] | None = None


class Hub:
    """Serves datasets at one commit each, until left.

    Hub({"owner/name": {"data/a.jsonl": b"..."}}) or, for one dataset, Hub("owner/name", {...}).
    `asked` holds every request as "METHOD /path"; `bodies` counts the bytes of files that were sent.
    """

    def __init__(
        self, datasets: str | Mapping[str, Files], files: Files | None = None, commit: str = COMMIT
    ) -> None:
        named = {datasets: files or {}} if isinstance(datasets, str) else datasets
        self.datasets = {name: dict(found) for name, found in named.items()}
        self.commit = commit
        self.asked: list[str] = []
        self.bodies = 0
        self._faults: list[_Fault] = []
        self._lock = threading.Lock()
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # or each answer waits for 40 ms

            def do_GET(self) -> None:
                hub.answer(self)

            do_HEAD = do_POST = do_GET

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                pass  # a reader that went away

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Hub:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def files(self) -> Files:
        """The files of the first dataset; they may be changed."""
        return next(iter(self.datasets.values()))

    def environment(self, home: Path) -> dict[str, str]:
        """The variables with which a process asks this hub and no other place, keeping its things in `home`."""
        dropped = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_TOKEN")
        inherited = {name: value for name, value in os.environ.items() if name not in dropped}
        return inherited | {"HF_ENDPOINT": self.url, "HF_HOME": str(home), "NO_PROXY": "127.0.0.1",
                            "no_proxy": "127.0.0.1"}  # fmt: skip

    def fail(
        self,
        times: int = 1,
        status: int = 500,
        match: str = "/resolve/",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Answer the next `times` requests whose path holds `match` with a status."""
        with self._lock:
            self._faults.append(_Fault(times, match, status=status, headers=headers))

    def drop(self, times: int = 1, after_bytes: int = 0, match: str = "/resolve/") -> None:
        """Close the connection after so many bytes of the next `times` bodies whose path holds `match`."""
        with self._lock:
            self._faults.append(_Fault(times, match, after_bytes=after_bytes))

    def recover(self) -> None:
        """Forget faults that have not happened yet."""
        with self._lock:
            self._faults.clear()

    def remove(self, path: str, dataset: str | None = None) -> None:
        """A file disappears: from reading, and from listings."""
        del self.datasets[dataset or next(iter(self.datasets))][path]

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = unquote(urlparse(request.path).path)
        length = int(request.headers.get("Content-Length") or 0)
        sent = request.rfile.read(length)
        with self._lock:
            self.asked.append(f"{request.command} {path}")
        fault = self._fault(request, path)
        if fault and fault.status:
            self._json(request, {"error": "told to fail"}, fault.status, dict(fault.headers or {}))
            return
        self._answer(request, path, sent, fault.after_bytes if fault else None)

    def _fault(self, request: BaseHTTPRequestHandler, path: str) -> _Fault | None:
        with self._lock:
            for fault in self._faults:
                breaks = fault.status is None
                if fault.times and fault.match in path and not (breaks and request.command == "HEAD"):
                    fault.times -= 1
                    return fault
        return None

    def _answer(self, request: BaseHTTPRequestHandler, path: str, sent: bytes, cut: int | None) -> None:
        for name, files in self.datasets.items():
            api, resolve = f"/api/datasets/{name}", f"/datasets/{name}/resolve/"
            revisions = (self.commit, "main", "refs/convert/parquet")
            if path in (api, *(f"{api}/revision/{revision}" for revision in revisions)):
                siblings = [{"rfilename": file} for file in files]
                about = {"id": name, "sha": self.commit, "siblings": siblings, "tags": [], "private": False,
                         "downloads": 0, "likes": 0}  # fmt: skip
                self._json(request, about)
                return
            if path.startswith(f"{api}/tree/"):
                folder = _below(path.removeprefix(f"{api}/tree/"), revisions)
                recursive = "recursive=true" in request.path.lower()
                entries = [] if folder is None else _tree(files, folder, recursive)
                self._json(request, entries or {"error": "not found"}, 200 if entries else 404)
                return
            if path.startswith(f"{api}/paths-info/"):
                asked = json.loads(sent)["paths"]
                self._json(request, [_entry(file, files[file]) for file in asked if file in files])
                return
            inside = _below(path.removeprefix(resolve), revisions) if path.startswith(resolve) else None
            if inside in files:
                self._file(request, files[inside], cut)
                return
        self._json(request, {"error": "not found"}, 404)

    def _json(
        self, request: BaseHTTPRequestHandler, value: object, status: int = 200,
        headers: dict[str, str] | None = None,
    ) -> None:  # fmt: skip
        body = json.dumps(value).encode()
        self._send(request, status, body, {"Content-Type": "application/json", **(headers or {})})

    def _file(self, request: BaseHTTPRequestHandler, data: bytes, cut: int | None) -> None:
        headers = {
            "ETag": f'"{hashlib.sha1(data).hexdigest()}"',
            "X-Repo-Commit": self.commit,
            "Accept-Ranges": "bytes",
        }
        wanted = request.headers.get("Range")
        status = 200
        if wanted:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            begin, end = int(first), min(int(last or len(data)), len(data) - 1)
            if begin >= len(data):
                self._send(request, 416, b"", {"Content-Range": f"bytes */{len(data)}"})
                return
            headers["Content-Range"] = f"bytes {begin}-{end}/{len(data)}"
            data, status = data[begin : end + 1], 206
        if request.command != "HEAD":
            self.bodies += len(data)
        self._send(request, status, data, headers, cut)

    def _send(
        self, request: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str],
        cut: int | None = None,
    ) -> None:  # fmt: skip
        request.send_response(status)
        if status == 404:
            known = any(f"datasets/{name}/" in request.path for name in self.datasets)
            headers = {**headers, "X-Error-Code": "EntryNotFound" if known else "RepoNotFound"}
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            request.send_header(name, value)
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(body[:cut])
        if cut is not None:
            request.close_connection = True


def _below(path: str, revisions: tuple[str, ...]) -> str | None:
    """The path inside a repository of what follows a revision; None when there is no such revision."""
    for revision in revisions:
        if path == revision or path.startswith(f"{revision}/"):
            return path.removeprefix(revision).lstrip("/")
    return None


def _entry(name: str, data: bytes) -> dict[str, object]:
    return {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}


def _tree(files: Files, folder: str, recursive: bool) -> list[dict[str, object]]:
    """What the hub lists below a folder: its files and folders, with all below them when recursive."""
    prefix = f"{folder}/" if folder else ""
    entries: dict[str, dict[str, object]] = {}
    for name, data in sorted(files.items()):
        if not name.startswith(prefix):
            continue
        parts = name.removeprefix(prefix).split("/")
        for depth in range(1, len(parts)):
            path = prefix + "/".join(parts[:depth])
            if recursive or depth == 1:
                entries[path] = {"type": "directory", "path": path, "size": 0,
                                 "oid": hashlib.sha1(path.encode()).hexdigest()}  # fmt: skip
        if recursive or len(parts) == 1:
            entries[name] = _entry(name, data)
    return list(entries.values())
