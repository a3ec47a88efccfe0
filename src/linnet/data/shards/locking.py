"""Locks on what several processes build in one cache: one of them works, the others wait and find it done.

A lock is a file beside what it guards, held through the system's `flock`: it ends with its process,
however that ends. On a network file system it holds between machines only where that is mounted with
locking; where it is not, two machines must not be given the same piece.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from linnet.data.shards.keys import unwritable


@contextmanager
def locked(folder: Path, shared: bool = False) -> Iterator[None]:
    """Hold `<folder>.lock` alone, or beside others that hold it `shared`.

    Raises:
        RequestError: when the lock's folder cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        handle = folder.with_name(f"{folder.name}.lock").open("w")
        fcntl.flock(handle, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
    except OSError as error:
        raise unwritable(folder.parent, error) from None
    with handle:
        yield


def taken(lock: Path) -> int | None:
    """A lock's file, open and held alone until it is closed; None when somebody else holds it. Waits for nobody.

    Raises:
        OSError: when it cannot be opened.
    """
    handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle
