"""One way to write a small file: aside, synced, renamed, and the folder synced.

A rename alone is not enough: after a power cut a file system may show the new name over an empty file.
"""

from __future__ import annotations

import os
from pathlib import Path

from linnet.config import RunError


def write_durably(path: Path, content: bytes | memoryview) -> None:
    """Write a file so that it is there whole or not at all, even after a power cut.

    Raises:
        OSError: when the disk does not take it; the file is then as it was.
    """
    aside = path.with_name(path.name + ".part")
    try:
        with aside.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        aside.replace(path)
        sync_folder(path.parent)
    except OSError:
        aside.unlink(missing_ok=True)
        raise


def keep(path: Path, text: str, what: str) -> None:
    """Write a file of a run durably, as UTF-8.

    Args:
        what: what the file is to a person, for the error.

    Raises:
        RunError: when the disk does not take it; the file is then as it was.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(path, text.encode())
    except OSError as error:
        raise RunError(f"{what} cannot be written ({error.strerror or error})", str(path),
                       "what was saved is intact; make room and run the same command again") from None  # fmt: skip


def sync_folder(folder: Path) -> None:
    """Make the names in a folder as durable as its files."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
