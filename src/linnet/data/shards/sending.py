"""Finished stores copied to a folder or a bucket, from where other machines take them as sources.

Shards go first and store.json last, so a store that is there is whole. What arrived is read back and
hashed; what is there already and right is not sent again, so an interrupted copy goes on.

    OUT/<a source's title>/
      store.json
      piece-00000/train-00000.bin  train-00000.starts  validation-00000.bin …
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import fsspec

from linnet.config import RequestError, RunError
from linnet.data.settings import DataSettings
from linnet.data.shards.bins import is_token_file
from linnet.data.shards.carrying import CHUNK, patiently, unheard
from linnet.data.shards.progress import BuildProgress, Progress, silent
from linnet.data.shards.ready import place_of
from linnet.data.shards.store import Store, sha256_of
from linnet.data.shards.writing import cannot_write
from linnet.data.sources.names import KINDS, kind_of
from linnet.data.sources.places import is_remote
from linnet.data.sources.retrying import DAMAGED_READS
from linnet.data.sources.troubles import shown
from linnet.storage import sync_folder
from linnet.text import Tokenizer

_UNSENDABLE = {
    "http": "a web server takes no files",
    "https": "a web server takes no files",
    "hf": "the hub takes a folder at once, not file by file",
}


@dataclass(frozen=True)
class Sent:
    """A store that is there now: where, how many files it has, and how many of them had to be sent."""

    title: str
    place: str
    files: int
    sent: int


@dataclass(frozen=True)
class _Item:
    """A file to be there: its name below `out`, its bytes here, and what they must be."""

    name: str
    path: Path
    size: int
    sha256: str


class Destination:
    """A folder or a bucket that stores are copied to.

    Args:
        out: a path, or a URL of what fsspec can write.
        patience: seconds that the place may fail to answer.

    Raises:
        RequestError: when nothing can be written there.
    """

    def __init__(self, out: str, patience: float = 0.0) -> None:
        self.out, self.patience = out.rstrip("/"), patience
        self.remote = is_remote(out)
        self._root = "" if self.remote else str(Path(out.removeprefix("file://")).expanduser())
        scheme = out.partition("://")[0].lower()
        if not self.remote:
            try:
                Path(self._root).mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise RequestError(
                    f"cannot be written ({error.strerror})", self._root, "give another --out"
                ) from None
            return
        if scheme in _UNSENDABLE:
            raise RequestError(f"nothing can be written there ({_UNSENDABLE[scheme]})", shown(out),
                               "give a folder, s3:// or gs://; a folder goes to the hub by hf upload")  # fmt: skip
        try:
            self._fs, self._root = fsspec.core.url_to_fs(self.out)
        except ImportError:
            raise RequestError(f"writing to {scheme}:// needs a library that is not installed", shown(out),
                               "pip install 'linnet[buckets]'") from None  # fmt: skip
        except ValueError:
            raise RequestError(f"there is no way to write to {scheme}://", shown(out),
                               "give a folder, s3:// or gs://") from None  # fmt: skip

    def at(self, name: str) -> str:
        """A file's place as people are told it."""
        return f"{shown(self.out)}/{name}"

    def sha256(self, name: str, size: int) -> str | None:
        """sha256 of a file that is there and has this size, else None.

        Raises:
            LinnetError: when its place does not answer, or it may not be read.
        """
        path = f"{self._root}/{name}"
        if not self.remote:
            here = Path(path)
            return sha256_of(here) if here.is_file() and here.stat().st_size == size else None

        def read() -> str | None:
            self._fs.invalidate_cache()
            try:
                if self._fs.info(path)["size"] != size:
                    return None
            except FileNotFoundError:
                return None
            digest = hashlib.sha256()
            with self._fs.open(path, "rb", block_size=CHUNK, cache_type="readahead") as stream:
                while data := stream.read(CHUNK):
                    digest.update(data)
            return digest.hexdigest()

        return patiently(read, self.at(name), self.patience, unheard)

    def content(self, name: str) -> bytes | None:
        """The bytes of a small file, or None when there is none."""
        path = f"{self._root}/{name}"
        if not self.remote:
            return Path(path).read_bytes() if Path(path).is_file() else None

        def read() -> bytes | None:
            self._fs.invalidate_cache()
            try:
                return bytes(self._fs.cat_file(path))
            except FileNotFoundError:
                return None

        return patiently(read, self.at(name), self.patience, unheard)

    def put(self, path: Path, name: str, trouble: Callable[[str], None]) -> None:
        """Copy a file there, in place of what was there.

        Raises:
            LinnetError: when it cannot be written, or its place does not answer.
        """
        if self.remote:
            patiently(lambda: self._fs.put_file(str(path), f"{self._root}/{name}"), self.at(name),
                      self.patience, trouble)  # fmt: skip
            return
        there = Path(self._root) / name
        aside = there.with_name(f"{there.name}.part")
        try:
            there.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, aside)
            with aside.open("rb") as stream:
                os.fsync(stream.fileno())
            aside.replace(there)
            sync_folder(there.parent)
        except OSError as error:
            raise cannot_write(there.parent, error) from None


def check_request(settings: DataSettings) -> None:
    """Raises: RequestError when a data section makes stores that nobody could take as a source."""
    if settings.validation_sources:
        raise RequestError(
            "stores built with validation_sources hold nothing out, so no recipe could take them",
            "data.validation_sources", "leave them out; validation_fraction of the documents is then held out",
        )  # fmt: skip
    for source in settings.all_sources:
        if source.streaming:
            raise RequestError("a streamed source has no store to copy", source.title, "set streaming: false")
        if not place_of(source, 60 * settings.retry_minutes) and is_token_file(source):
            raise RequestError("token files (.bin) have no store to copy", source.title, "copy the files")


def slugs(titles: Sequence[str]) -> dict[str, str]:
    """A folder's name for each title, told apart by a hash where two would be equal, and never like a file's."""
    short = {title: _slug(title) for title in titles}
    times = Counter(short.values())
    hashed = {title: hashlib.sha256(title.encode()).hexdigest()[:8] for title in titles}
    return {title: slug if times[slug] == 1 else f"{slug}-{hashed[title]}" for title, slug in short.items()}


def _slug(title: str) -> str:
    slug = re.sub(r"[^\w.-]+", "-", shown(title)).strip("-._")[:100] or "source"
    return slug.replace(".", "-") if kind_of(slug) in KINDS else slug


def send(stores: Mapping[str, Store], to: Destination, progress: Progress = silent) -> list[Sent]:
    """Copy stores, by the titles of their sources, to `to`.

    Raises:
        RequestError: when another store lies there under the same name; nothing was written then.
        RunError: when the place stays away, takes nothing, or gives back other bytes.
    """
    names = slugs(list(stores))
    listed = {title: _items_of(store, names[title]) for title, store in stores.items()}
    for items in listed.values():
        _refuse_another(items[-1], to)
    total = max(1, sum(item.size for items in listed.values() for item in items))
    done, sent = 0, []
    for title, items in listed.items():

        def tell(note: str = "", title: str = title) -> None:
            progress(BuildProgress(title, 0, done, done / total, note, "sending"))  # noqa: B023 - called at once

        new = 0
        for item in items:
            tell()
            new += _sent(item, to, tell)
            done += item.size
        tell()
        sent.append(Sent(title, to.at(names[title]), len(items), new))
    return sent


def send_tokenizer(tokenizer: Tokenizer, to: Destination) -> Sent:
    """Copy a tokenizer that nobody else has, without which its stores are of no use, to a folder of its own.

    Raises:
        RunError: as `send`.
    """
    name = f"tokenizer-{tokenizer.fingerprint[:12]}"
    with tempfile.TemporaryDirectory() as aside:
        tokenizer.save(aside)
        items = [_item(path, f"{name}/{path.name}") for path in sorted(Path(aside).iterdir())]
        new = sum(_sent(item, to, unheard) for item in items)
    return Sent(tokenizer.name, to.at(name), len(items), new)


def _items_of(store: Store, slug: str) -> list[_Item]:
    """A store's files in the order they are sent, its store.json last."""
    assert store.folder is not None
    items = []
    for shard in (*store.train.shards, *store.validation.shards):
        name = f"{slug}/{shard.path.relative_to(store.folder).as_posix()}"
        items.append(_Item(name, shard.path, shard.path.stat().st_size, shard.sha256))
        starts = shard.path.with_suffix(".starts")
        items.append(_item(starts, f"{name.removesuffix('.bin')}.starts"))
    return [*items, _item(store.folder / "store.json", f"{slug}/store.json")]


def _item(path: Path, name: str) -> _Item:
    return _Item(name, path, path.stat().st_size, sha256_of(path))


def _refuse_another(item: _Item, to: Destination) -> None:
    there = to.content(item.name)
    if there is not None and there != item.path.read_bytes():
        raise RequestError(
            "another store is there", to.at(item.name), "give another --out, or delete that one"
        )


def _sent(item: _Item, to: Destination, trouble: Callable[[str], None]) -> bool:
    """Make sure that a file is there; whether it had to be sent."""
    if to.sha256(item.name, item.size) == item.sha256:
        return False
    for _ in range(DAMAGED_READS):
        to.put(item.path, item.name, trouble)
        if to.sha256(item.name, item.size) == item.sha256:
            return True
    raise RunError("what was read back is not what was sent", to.at(item.name),
                   "run the same command again; it goes on where it stopped")  # fmt: skip
