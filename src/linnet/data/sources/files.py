"""The files that a source names, near or far, in one fixed order, and what their bytes are.

A file's name is told from the folder, repository or prefix that the source names, so a folder that
moved is the same data.
"""

from __future__ import annotations

import glob
import hashlib
import io
import json
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

from linnet.config import RequestError
from linnet.data.settings import Source
from linnet.data.sources import places
from linnet.data.sources.hub import PARQUET_COPY, hub_files
from linnet.data.sources.names import (
    KINDS,
    KNOWN,
    about_the_data,
    hidden,
    kind_of,
    packing_of,
    readable,
    saved_by_datasets,
)
from linnet.data.sources.troubles import Interruption, shown, trouble_with

_EXPORT = "export it to parquet: datasets.load_from_disk(FOLDER).to_parquet(FILE) for each of its splits"
_SETTLED = 2.0  # seconds; a file changed more lately may change again within the clock's step


@dataclass(frozen=True)
class File:
    """One file of a source.

    `path` opens it (it may hold secrets: tell people `shown`). `name` is its stable name, `size` its
    bytes where known, `version` changes when its bytes do.
    """

    path: str = field(repr=False)
    name: str
    size: int | None
    version: str

    @property
    def kind(self) -> str:
        """The suffix that says what it is, packing aside: `.jsonl` of `a.jsonl.gz`."""
        return kind_of(self.name)

    @property
    def packing(self) -> str:
        """`.gz`, `.zst`, or nothing."""
        return packing_of(self.name)

    @property
    def remote(self) -> bool:
        """Whether it lies behind a URL."""
        return places.is_remote(self.path)

    @property
    def shown(self) -> str:
        """Its place as people are told it."""
        return shown(self.path)


def files_of(source: Source) -> list[File]:
    """The files a source names, sorted by name; the built-in world has none.

    Of a folder or a glob, hidden files and folders are left out unless they are named, and so are README
    and LICENSE texts beside data of another kind.

    Raises:
        RequestError: when nothing is there, or nothing of a kind that can be read.
    """
    if source.builtin:
        return []
    if source.dataset:
        found = [File(*facts) for facts in hub_files(source)]
        where, mend = source.title, PARQUET_COPY
    elif places.is_remote(source.path or ""):
        found = _remote(source.path or "")
        where, mend = shown(source.path or ""), f"give {KNOWN}"
    else:
        found = _local(source.path or "")
        where, mend = source.path or "", f"give {KNOWN}"
    if not found:
        raise RequestError("no file matches", where, f"check the path; it may name files of {KNOWN}")
    if saved_by_datasets([file.name for file in found]):
        raise RequestError("this is a dataset saved by save_to_disk", where, _EXPORT)
    for file in found:
        if not readable(file.name):
            name = "".join(Path(file.name).suffixes[-2:]) or "no suffix"
            raise RequestError(
                f"files with {name} are not read", file.shown, _EXPORT if name.endswith(".arrow") else mend
            )
    return sorted(found, key=lambda file: file.name)


def names_files(url: str) -> bool:
    """Whether a URL says which files it means, rather than a folder."""
    return bool(places.MAGIC.search(url)) or kind_of(url.partition("?")[0]) in KINDS


def _meant(found: list[File], named: bool) -> list[File]:
    """The files of a folder or a glob without those that nobody means; `named`: hidden ones are asked for."""
    shown_ones = [file for file in found if named or not hidden(file.name)]
    left_out = about_the_data([file.name for file in shown_ones if file.kind in KINDS])
    return [file for file in shown_ones if file.name not in left_out]


def _remote(url: str) -> list[File]:
    found = [File(*facts) for facts in places.listing(url)]
    if len(found) == 1 and places.bare(url).endswith(f"/{found[0].name}"):
        return found
    sign = places.MAGIC.search(url)
    found = _meant(found, named=bool(sign and hidden(url[url.rfind("/", 0, sign.start()) + 1 :])))
    if not names_files(url):
        found = [file for file in found if file.kind in KINDS] or found[:1]
    return found


def _local(word: str) -> list[File]:
    path = Path(os.path.expanduser(word.removeprefix("file://")))
    if os.path.isdir(path):
        return _meant([_local_file(item, path) for item in _below(path)], named=False)
    if os.path.lexists(path) or not glob.has_magic(str(path)):
        return [_local_file(path, path.parent)]
    root = next((parent for parent in path.parents if os.path.isdir(parent)), path.parent)
    rest = str(path.relative_to(root))
    names = glob.glob(os.path.join(glob.escape(str(root)), rest), recursive=True)
    items = [Path(name) for name in names if not os.path.isdir(name)]
    return _meant([_local_file(item, root) for item in items], named=hidden(rest))


def _below(folder: Path) -> Iterator[Path]:
    """The files of a folder and of those in it that are of a known kind and not hidden."""

    def refuse(error: OSError) -> None:
        raise cast(Exception, trouble_with(error, str(error.filename or folder), remote=False)) from None

    for where, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not hidden(name)]
        yield from (Path(where, name) for name in names if kind_of(name) in KINDS and not hidden(name))


def _local_file(path: Path, root: Path) -> File:
    try:
        facts = path.stat()
    except FileNotFoundError as error:
        if path.is_symlink():
            raise RequestError(
                "this link leads to no file", str(path), "remove it, or restore its file"
            ) from None
        raise cast(Exception, trouble_with(error, str(path), remote=False)) from None
    except OSError as error:
        raise cast(Exception, trouble_with(error, str(path), remote=False)) from None
    except ValueError as error:  # a null character
        raise RequestError(f"this is no path ({error})", str(path), "check the path") from None
    if not stat.S_ISREG(facts.st_mode):
        raise RequestError(
            "this is a pipe or a device, which can be read only once",
            str(path),
            "write what it gives to a file",
        )
    name = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
    return File(str(path), name, facts.st_size, f"{facts.st_size}-{facts.st_mtime_ns}")


class _Stream(io.RawIOBase):
    """A file's bytes. What goes wrong is told as our own errors, and an early end is not taken for the end."""

    def __init__(self, file: File) -> None:
        self._file = file
        self._inner: Any = None
        try:
            self._inner = places.opened(file.path, file.size) if file.remote else open(file.path, "rb")  # noqa: SIM115
        except Exception as error:
            self._tell(error)

    def _tell(self, error: Exception) -> None:
        met = trouble_with(error, self._file.shown, self._file.remote)
        if met is None or met is error:
            raise error
        raise met from error

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """Whether the place can be read from anywhere."""
        return bool(self._inner.seekable())

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a byte."""
        try:
            return int(self._inner.seek(offset, whence))
        except ValueError as error:
            raise RequestError(
                f"its place cannot be read from the middle ({error})", self._file.shown, "get the file here"
            ) from None

    def tell(self) -> int:
        """The byte that is read next."""
        return int(self._inner.tell())

    def read(self, size: int = -1) -> bytes:
        """Bytes from here on; fewer than asked for only at the end."""
        try:
            data = self._inner.read(size)
        except Exception as error:
            self._tell(error)
        known = self._file.size
        if self._file.remote and known is not None and len(data) < size and self.tell() < known:
            raise Interruption("the file ended too early", self._file.shown, "run the same command again")
        return data

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Let the file go."""
        if self._inner is not None and not self.closed:
            self._inner.close()
        super().close()


def open_file(file: File) -> BinaryIO:
    """A file open for reading; seekable where its place is.

    Raises:
        Interruption: here and while reading, when its place does not answer.
        RunError, RequestError: when it is not there or may not be read.
    """
    return cast(BinaryIO, _Stream(file))


def content_of(file: File, cache: Path | None = None) -> str:
    """What stands for a file's bytes: sha256 of a local file, version and size of a remote one.

    A local file's hash is remembered below `cache`/hashes (LINNET_CACHE when not given) for as long as
    its path, size, inode and time of change stay the same, so that a large corpus is hashed once.

    Raises:
        RequestError: when the file cannot be read.
    """
    if file.remote:
        return f"{file.version}-{file.size}"
    cache = cache or Path(os.environ.get("LINNET_CACHE") or "~/.cache/linnet").expanduser()
    place = os.path.abspath(file.path)
    kept = cache / "hashes" / f"{hashlib.sha256(os.fsencode(place)).hexdigest()[:32]}.json"
    try:
        with open(place, "rb") as stream:
            before = os.fstat(stream.fileno())
            facts = [place, before.st_size, before.st_mtime_ns, before.st_ino]
            known = _remembered(kept)
            if known and known[:-1] == facts:
                return str(known[-1])
            content = hashlib.file_digest(stream, "sha256").hexdigest()
            after = os.fstat(stream.fileno())
    except OSError as error:
        raise cast(Exception, trouble_with(error, file.shown, remote=False)) from None
    same = (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
    if same and time.time() - after.st_mtime > _SETTLED:
        _remember(kept, [*facts, content])
    return content


def _remembered(kept: Path) -> list[Any]:
    try:
        known = json.loads(kept.read_text())
    except (OSError, ValueError):
        return []
    return known if isinstance(known, list) else []


def _remember(kept: Path, facts: list[Any]) -> None:
    """Keep a hash whole or not at all; a cache that cannot be written only means hashing again."""
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        handle, aside = tempfile.mkstemp(dir=kept.parent, suffix=".partial")
        with os.fdopen(handle, "w") as stream:
            json.dump(facts, stream)
        os.replace(aside, kept)
    except OSError:
        pass
