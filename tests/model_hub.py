"""The part of the Hugging Face hub that serves a model's files, on loopback."""

from __future__ import annotations

import hashlib
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """As much of the hub's protocol as downloading files needs."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.gated: set[str] = set()
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.answer(body=False)

            def do_GET(self) -> None:
                self.answer(body=True)

            def answer(self, body: bool) -> None:
                repository, _, rest = self.path.lstrip("/").partition("/resolve/")
                revision, _, file = rest.partition("/")
                content = hub.files.get(f"{repository}/{file}")
                known = any(name.startswith(repository + "/") for name in hub.files)
                code = "EntryNotFound"
                if repository in hub.gated:
                    content, code = None, "GatedRepo"
                elif not known:
                    code = "RepoNotFound"
                elif revision not in {"main", COMMIT}:
                    content, code = None, "RevisionNotFound"
                self.send_response(200 if content is not None else 403 if code == "GatedRepo" else 404)
                if content is None:
                    self.send_header("X-Error-Code", code)
                else:
                    self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("Content-Length", str(len(content or b"")))
                self.end_headers()
                if body and content is not None:
                    self.wfile.write(content)

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Hub:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def asking(endpoint: str | None, home: Path) -> dict[str, str]:
    """The variables of a process whose hub is `endpoint`, or nowhere, and which keeps its things in `home`."""
    kept = {key: os.environ[key] for key in ("PATH", "SYSTEMROOT") if key in os.environ}
    kept |= {"HF_HOME": str(home / "hf"), "HOME": str(home), "PYTHONUTF8": "1"}
    return kept | ({"HF_ENDPOINT": endpoint} if endpoint else {"HF_HUB_OFFLINE": "1"})
