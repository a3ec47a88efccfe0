"""The lock of a run folder: one process trains a run."""

from __future__ import annotations

import os
from pathlib import Path

from linnet.config import RequestError
from linnet.data.shards.locking import taken

LOCK = ".lock"


def lock(folder: Path) -> int:
    """Make a run's folder and hold it alone, until the returned file is closed or the process ends.

    The lock is of the folder that is at this path now: one that was set aside while its lock was taken is let go.

    Raises:
        RequestError: when the folder cannot be made, or another process holds it.
    """
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(folder, error) from None
        try:
            handle = taken(folder / LOCK)
        except FileNotFoundError:  # set aside between the two
            continue
        except OSError as error:
            raise _unwritable(folder, error) from None
        if handle is None:
            raise RequestError("another process is training this run", str(folder),
                               "wait for it, or give another --run")  # fmt: skip
        if _is_at(handle, folder / LOCK):
            return handle
        os.close(handle)


def _unwritable(folder: Path, error: OSError) -> RequestError:
    return RequestError(
        f"the run folder cannot be written ({error.strerror})", str(folder), "give another --run"
    )


def _is_at(handle: int, path: Path) -> bool:
    try:
        there = path.stat()
    except OSError:
        return False
    held = os.fstat(handle)
    return (held.st_dev, held.st_ino) == (there.st_dev, there.st_ino)
