"""Bucket stores on loopback: Google's and Amazon's, each emulated by a server of its own.

The libraries find them by their own conventions, in environment variables that they read when they
are imported; so what uses a bucket runs in a process of its own.
"""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import pytest

NAME = "corpus"
_STARTING = 30.0  # seconds that a server may take to answer
_SIGNED = {  # the emulator reads who asks, and does not check it
    "Authorization": "AWS4-HMAC-SHA256 Credential=nobody/20260101/us-east-1/s3/aws4_request, "
    "SignedHeaders=host, Signature=0",
}


@dataclass
class Bucket:
    """An empty bucket: its `url`, and the variables with which a process finds it."""

    url: str
    host: str
    variables: Mapping[str, str] = field(default_factory=dict)

    def put(self, name: str, data: bytes) -> None:
        """Store an object."""
        if self.url.startswith("gs"):
            place = f"/upload/storage/v1/b/{NAME}/o?uploadType=media&name={quote(name, safe='')}"
            _ask(f"{self.host}{place}", "POST", data)
        else:
            _ask(f"{self.host}/{NAME}/{quote(name)}", "PUT", data, _SIGNED)

    def environment(self) -> dict[str, str]:
        """The variables of a process that finds the bucket, and nobody's own settings."""
        dropped = ("AWS_", "GOOGLE_", "FSSPEC_", "GCSFS_", "STORAGE_")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
        return inherited | {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", **self.variables}

    def run(self, program: str, *words: str) -> str:
        """What a Python program prints that finds the bucket."""
        done = subprocess.run(
            [sys.executable, "-c", program, *words],
            env=self.environment(), capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout


@contextmanager
def google() -> Iterator[Bucket]:
    """A bucket as Google Cloud Storage has them. Skips the test where the libraries are not installed."""
    _needs("gcsfs", "gcp_storage_emulator")
    with _server("gcp-storage-emulator", "start", "--host=127.0.0.1", "--port={port}", "--in-memory") as host:
        about = json.dumps({"name": NAME}).encode()
        _ask(f"{host}/storage/v1/b?project=test", "POST", about, {"Content-Type": "application/json"})
        yield Bucket(f"gs://{NAME}", host, {
            "STORAGE_EMULATOR_HOST": host, "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
            "FSSPEC_GS_TOKEN": "anon",
        })  # fmt: skip


@contextmanager
def amazon() -> Iterator[Bucket]:
    """A bucket as Amazon S3 has them. Skips the test where the libraries are not installed."""
    _needs("s3fs", "moto", "flask")
    with _server("moto_server", "-H", "127.0.0.1", "-p", "{port}") as host:
        _ask(f"{host}/{NAME}", "PUT", b"", _SIGNED)
        yield Bucket(f"s3://{NAME}", host, {
            "AWS_ENDPOINT_URL_S3": host, "AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "n0secret",
            "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
        })  # fmt: skip


def _needs(*modules: str) -> None:
    for module in modules:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")


@contextmanager
def _server(script: str, *words: str) -> Iterator[str]:
    """A server from the scripts of this Python, until left."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).parent / script), *(word.format(port=port) for word in words)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait(process, port)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    until = time.monotonic() + _STARTING
    while process.poll() is None and time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"{process.args!r} does not answer")


def _ask(url: str, method: str, data: bytes, headers: Mapping[str, str] | None = None) -> bytes:
    """A request to a server that may still be waking up."""
    kind = {"Content-Type": "application/octet-stream"}
    request = urllib.request.Request(url, data, {**kind, **(headers or {})}, method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for _ in range(3):
        try:
            with opener.open(request, timeout=5) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError:
            raise
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"{url} does not answer")
