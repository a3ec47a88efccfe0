"""A hub on loopback: answers as the Hugging Face hub does for one dataset, and nothing else."""

from __future__ import annotations

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import unquote, urlparse


class Hub:
    """Serves `files` as the dataset `name` at one commit, until left."""

    def __init__(self, name: str, files: dict[str, bytes], commit: str = "1" * 40) -> None:
        self.name, self.files, self.commit = name, files, commit
        self.asked: list[str] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                hub.answer(self)

            do_HEAD = do_GET

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Hub:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = unquote(urlparse(request.path).path)
        self.asked.append(f"{request.command} {path}")
        api, resolve = f"/api/datasets/{self.name}", f"/datasets/{self.name}/resolve/"
        if path in (api, f"{api}/revision/main", f"{api}/revision/{self.commit}"):
            siblings = [{"rfilename": name} for name in self.files]
            self._json(request, {"id": self.name, "sha": self.commit, "siblings": siblings, "tags": []})
        elif path.startswith(f"{api}/tree/"):
            folder = path.removeprefix(f"{api}/tree/").partition("/")[2]
            entries = [
                {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                for name, data in self.files.items()
                if not folder
            ]
            self._json(request, entries or {"error": "not found"}, 200 if entries else 404)
        elif path.startswith(resolve) and path.removeprefix(resolve).partition("/")[2] in self.files:
            self._file(request, self.files[path.removeprefix(resolve).partition("/")[2]])
        else:
            self._json(request, {"error": "not found"}, 404)

    def _json(self, request: BaseHTTPRequestHandler, value: object, status: int = 200) -> None:
        self._send(request, status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _file(self, request: BaseHTTPRequestHandler, data: bytes) -> None:
        headers = {
            "ETag": f'"{hashlib.sha1(data).hexdigest()}"',
            "X-Repo-Commit": self.commit,
            "Accept-Ranges": "bytes",
        }
        wanted = request.headers.get("Range")
        if not wanted:
            self._send(request, 200, data, headers)
            return
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        begin, end = int(first), min(int(last or len(data)), len(data) - 1)
        headers["Content-Range"] = f"bytes {begin}-{end}/{len(data)}"
        self._send(request, 206, data[begin : end + 1], headers)

    def _send(
        self, request: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str]
    ) -> None:
        request.send_response(status)
        if status == 404:
            known = f"datasets/{self.name}/" in request.path
            headers = {**headers, "X-Error-Code": "EntryNotFound" if known else "RepoNotFound"}
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            request.send_header(name, value)
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(body)
