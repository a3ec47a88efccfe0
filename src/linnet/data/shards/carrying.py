"""Files carried whole from a place behind a URL to this machine: resumed where they stopped, asked for again.

Why this exists: a store of tokens is fetched once and read for days, so what arrives is held against
what the store says of itself, and a network that blips costs a pause and not a run.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import TypeVar

import fsspec

from linnet.config import LinnetError, RunError
from linnet.data.shards.writing import cannot_write
from linnet.data.sources.documents import Document
from linnet.data.sources.files import File, open_file
from linnet.data.sources.retrying import DAMAGED_READS, persistent
from linnet.data.sources.troubles import Interruption, shown, trouble_with
from linnet.storage import sync_folder

CHUNK = 8 << 20  # bytes between two looks at how far it is

Trouble = Callable[[str], None]
Done = TypeVar("Done")


def unheard(_: str) -> None:
    """For places that are only looked at: what keeps them is told when it ends badly."""


def patiently(action: Callable[[], Done], place: str, patience: float, trouble: Trouble) -> Done:
    """What `action` gives, which is done again while `place` does not answer; see `persistent`.

    Raises:
        LinnetError: what no repetition mends, or when there was no answer for `patience` seconds.
    """
    given: list[Done] = []

    def tried(_file: int, _row: int) -> Iterator[Document]:
        try:
            given.append(action())
        except LinnetError:
            raise
        except Exception as error:
            met = trouble_with(error, shown(place), remote=True)
            if met is None:
                raise
            raise met from error
        yield from ()

    for _ in persistent(tried, 0, 0, patience, trouble):
        pass
    return given[0]


def is_there(url: str, patience: float, trouble: Trouble) -> bool:
    """Whether a file stands at a URL and may be seen.

    Raises:
        RunError: when its place does not answer.
    """

    def look() -> bool:
        try:
            fs, inner = fsspec.core.url_to_fs(url)
            fs.info(inner)
        except Exception as error:
            met = trouble_with(error, shown(url), remote=True)
            if isinstance(met, Interruption):
                raise met from error
            return False  # whatever else keeps it from being read is told by whoever reads the place
        return True

    return patiently(look, url, patience, trouble)


def text_at(url: str, patience: float, trouble: Trouble) -> bytes:
    """The bytes of a small file at a URL.

    Raises:
        LinnetError: when it is not there or may not be read, or its place does not answer.
    """

    def read() -> bytes:
        fs, inner = fsspec.core.url_to_fs(url)
        with fs.open(inner, "rb") as stream:
            return bytes(stream.read())

    return patiently(read, url, patience, trouble)


def fetch(
    file: File, path: Path, whole: Callable[[Path], bool], patience: float, trouble: Trouble,
    seen: Callable[[int], None],
) -> None:  # fmt: skip
    """Bring a file here; what an earlier try brought is not asked for again.

    Args:
        whole: whether what arrived is what it should be.
        seen: is told how many bytes have arrived so far.

    Raises:
        RunError: when it arrives damaged again and again, its place stays away or the disk is full.
        LinnetError: when it is not there or may not be read.
    """
    aside = path.with_name(f"{path.name}.part")

    def chunks(_file: int, first: int) -> Iterator[Document]:
        return _chunks(file, aside, first)

    for _ in range(DAMAGED_READS):
        begun = aside.stat().st_size // CHUNK if aside.exists() else 0
        for chunk in persistent(chunks, 0, begun, patience, trouble):
            seen(min(file.size or 0, (chunk.row + 1) * CHUNK))
        try:
            if whole(aside):
                aside.replace(path)
                sync_folder(path.parent)
                return
            aside.unlink()
        except OSError as error:
            raise cannot_write(aside, error) from None
    raise RunError("its bytes are not those that its store.json tells of", file.shown,
                   "put the store there again")  # fmt: skip


def _chunks(file: File, aside: Path, first: int) -> Iterator[Document]:
    """Write a file from chunk `first` on; each chunk is told as a document in its row, as `persistent` counts."""
    with open_file(file) as remote:
        if first and remote.seekable():
            remote.seek(first * CHUNK)
        elif first:
            first = 0
        handle = _written(aside, lambda: os.open(aside, os.O_RDWR | os.O_CREAT, 0o644))
        try:
            _written(aside, lambda: os.ftruncate(handle, first * CHUNK))
            os.lseek(handle, 0, os.SEEK_END)
            for number in count(first):
                data = _filled(remote.read)
                if not data:
                    break
                _written(aside, lambda: _write_all(handle, data))  # noqa: B023 - called at once
                yield Document("", 0, number)
            _written(aside, lambda: os.fsync(handle))
        finally:
            os.close(handle)


def _filled(read: Callable[[int], bytes]) -> bytes:
    """A whole chunk, or what is left; one read of a raw file may give less."""
    parts: list[bytes] = []
    missing = CHUNK
    while missing and (data := read(missing)):
        parts.append(data)
        missing -= len(data)
    return b"".join(parts)


def _write_all(handle: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(handle, rest) :]


def _written(path: Path, action: Callable[[], Done]) -> Done:
    """A disk that takes nothing is no network that will be back."""
    try:
        return action()
    except OSError as error:
        raise cannot_write(path, error) from None
