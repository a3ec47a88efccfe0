"""Files that fail: what a command opens is noted, and on a later run one of them is made to fail."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_EVENTS = ("open", "os.rename", "os.mkdir")


class _Watch:
    """An audit hook sees every file that Python opens, renames or makes, and may refuse it. It cannot be removed."""

    def __init__(self) -> None:
        self.seen: dict[tuple[str, str], None] | None = None
        self.target: tuple[str, str] | None = None
        self.error = 0
        self.installed = False

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if (self.seen is None and self.target is None) or event not in _EVENTS:
            return
        paths = arguments[:2] if event == "os.rename" else arguments[:1]
        writes = (
            event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        )
        kind = "write" if writes else event
        for path in paths:
            if isinstance(path, int) or path is None:
                continue
            moment = (kind, os.path.abspath(os.fsdecode(path)))
            if self.seen is not None:
                self.seen[moment] = None
            if moment == self.target:
                raise OSError(self.error, os.strerror(self.error), moment[1])


_WATCH = _Watch()


@contextmanager
def noted(under: Path) -> Iterator[list[tuple[str, Path]]]:
    """What happens meanwhile to files of a folder, in order: (open, write, os.rename … , path)."""
    if not _WATCH.installed:
        sys.addaudithook(_WATCH)
        _WATCH.installed = True
    found: list[tuple[str, Path]] = []
    _WATCH.seen = {}
    try:
        yield found
    finally:
        seen, _WATCH.seen = _WATCH.seen, None
        found += [(kind, Path(path)) for kind, path in seen if Path(path).is_relative_to(under)]


@contextmanager
def failing(kind: str, path: Path, error: int = errno.EIO) -> Iterator[None]:
    """Meanwhile this kind of access to a path raises OSError."""
    _WATCH.target, _WATCH.error = (kind, str(path)), error
    try:
        yield
    finally:
        _WATCH.target = None


CONTENTS: dict[str, bytes] = {
    "not UTF-8": b"\xff\xfe\x00\x80 \xc3(",
    "a list": b"[1, 2]",
    "a number": b"7",
    "null": b"null",
    "a string": b'"text"',
    "empty": b"",
    "of wrong types": b'{"version": [], "model": 3, "step": "x", "stage": 4, "name": [1], "files": 7, "shards": "x"}',
}  # fmt: skip
