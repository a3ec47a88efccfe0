"""Stores of tokens that were built elsewhere, as a source: a folder, here or behind a URL, with a store.json.

Tokenising a web's worth of text is done once, by many machines; whoever trains on it fetches the
shards. What is fetched must be what was built (sha256 of each shard), made with the recipe's
tokenizer, and with the recipe's share held out: which documents that is follows from a hash of their
content, so sources agree on every document as long as they agree on the share.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from linnet.config import RequestError, RunError
from linnet.data.settings import DataSettings, Source
from linnet.data.shards.carrying import fetch, is_there, text_at, unheard
from linnet.data.shards.keys import cache_folder, unwritable
from linnet.data.shards.locking import locked
from linnet.data.shards.progress import BuildProgress, Progress
from linnet.data.shards.store import FORMAT, SPLITS, Store, open_store, sha256_of
from linnet.data.sources.files import File, content_of, names_files
from linnet.data.sources.places import is_remote
from linnet.data.sources.reading import unseen
from linnet.data.sources.troubles import shown
from linnet.storage import write_durably
from linnet.text import Tokenizer

NAME = "store.json"
_PART = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)*")  # a file below the store's folder, and nowhere else
_LOOKING = 10.0  # seconds that a place may fail to say whether there is a store: somebody waits for the start


def place_of(source: Source, patience: float = 0.0) -> str | None:
    """The folder or URL of the store that a source names, or None when it names something else.

    Raises:
        RunError: when its place does not answer for `patience` seconds.
    """
    if not source.path:
        return None
    place = source.path.removesuffix(f"/{NAME}").rstrip("/")
    if not is_remote(place):
        folder = Path(place.removeprefix("file://")).expanduser()
        return str(folder) if (folder / NAME).is_file() else None
    if place != source.path.rstrip("/"):
        return place  # it names the store.json itself
    if names_files(place):
        return None
    return place if is_there(f"{place}/{NAME}", min(patience, _LOOKING), unheard) else None


def places_of(settings: DataSettings) -> dict[str, str]:
    """Where the sources lie that are stores of tokens, by title.

    Raises:
        RequestError: when the data section asks of them what cannot be done with tokens.
        RunError: when a place does not answer.
    """
    patience = 60 * settings.retry_minutes
    for source in settings.all_sources:
        _refuse_folder_of_stores(source)
    for source in settings.validation_sources:
        if place_of(source, patience):
            raise RequestError("a store of tokens cannot be a validation source", source.title,
                               "name text there")  # fmt: skip
    found = {source.title: (source, place_of(source, patience)) for source in settings.all_sources}
    places = {title: place for title, (_, place) in found.items() if place}
    for title in places:
        _check_request(found[title][0], settings)
    return places


def _refuse_folder_of_stores(source: Source) -> None:
    """A folder that `--out` filled holds a store for each source; it is none itself."""
    folder = Path(source.path or "").expanduser()
    if source.path and folder.is_dir() and not (folder / NAME).exists():
        inside = sorted(str(path.parent) for path in folder.glob(f"*/{NAME}"))
        if inside:
            raise RequestError("this folder holds several stores of tokens", source.path,
                               f"name each as a source: {', '.join(inside)}")  # fmt: skip


def _check_request(source: Source, settings: DataSettings) -> None:
    fields = Source.model_fields
    for name in ("text_field", "text_template", "filter", "documents"):
        if getattr(source, name) != fields[name].default:
            raise RequestError(f"{name} is for text, and this is a store of tokens", source.title,
                               f"leave it out, or build the store with it: --out after {name}")  # fmt: skip
    if source.streaming:
        raise RequestError("a store of tokens is fetched whole", source.title, "set streaming: false")
    if settings.validation_sources:
        raise RequestError("validation_sources cannot be taken out of a store of tokens", source.title,
                           "leave them out: the store holds documents out itself")  # fmt: skip
    if settings.cleaning.deduplicate != "none":
        raise RequestError("documents of a store of tokens cannot be compared with text", source.title,
                           "set cleaning.deduplicate: none; do it when the store is built")  # fmt: skip


def refuse_with_token_files(places: Mapping[str, str]) -> None:
    """Raises: RequestError when there are stores beside nanoGPT's token files."""
    for title in places:
        raise RequestError(
            "a store of tokens cannot be mixed with token files (.bin)", title, "give one kind"
        )


def refuse_training(settings: DataSettings) -> None:
    """Raises: RequestError when a tokenizer is to be trained on tokens."""
    for title in places_of(settings):
        raise RequestError("a tokenizer cannot be trained on a store of tokens", title,
                           "set tokenizer.name to the one that the store was made with")  # fmt: skip


@dataclass(frozen=True)
class _Part:
    """A shard as a store.json tells of it."""

    file: str
    tokens: int
    documents: int
    sha256: str

    @property
    def starts(self) -> str:
        return f"{self.file.removesuffix('.bin')}.starts"


@dataclass(frozen=True)
class _Listed:
    """What a store.json says, as far as reading the store needs it."""

    content: bytes
    tokenizer: str
    fingerprint: str
    eos_id: int
    share: float
    dtype: np.dtype
    parts: list[_Part]

    @classmethod
    def read(cls, content: bytes, where: str) -> _Listed:
        """Raises: RequestError when this is no store.json, or of a newer format."""
        try:
            facts: dict[str, Any] = json.loads(content)
            if int(facts["format"]) > FORMAT:
                raise RequestError("this store was made by a newer Linnet", where, "update Linnet")
            shards = [shard for name in SPLITS for shard in facts["splits"][name]["shards"]]
            parts = [
                _Part(str(s["file"]), int(s["tokens"]), int(s["documents"]), str(s["sha256"])) for s in shards
            ]
            made = facts["tokenizer"]
            found = cls(
                content, str(made["name"]), str(made["fingerprint"]), int(made["eos_id"]),
                float(facts["validation_fraction"]), np.dtype(facts["dtype"]), parts,
            )  # fmt: skip
        except (ValueError, KeyError, TypeError, AttributeError):
            raise RequestError(
                "this is not the store.json of a store of tokens", where, "put it there again"
            ) from None
        if not all(_PART.fullmatch(part.file) and part.file.endswith(".bin") for part in parts):
            raise RequestError(
                "this store.json names files outside of its folder", where, "use another store"
            )
        return found

    def check(self, title: str, tokenizer: Tokenizer, settings: DataSettings) -> None:
        """Raises: RequestError when the recipe means other tokens than these."""
        if self.fingerprint != tokenizer.fingerprint:
            raise RequestError(
                f"these tokens were made with another tokenizer ({self.tokenizer}, sha {self.fingerprint[:12]}), "
                f"not {tokenizer.name} ({tokenizer.fingerprint[:12]})", title,
                "set tokenizer.name to that one, or build a store with this one",
            )  # fmt: skip
        if self.share != settings.validation_fraction:
            raise RequestError(
                f"this store holds {self.share:g} of its documents out and the recipe "
                f"{settings.validation_fraction:g}, so what one source trains on another could hold out", title,
                f"set data.validation_fraction={self.share:g}" if self.share else "build it without validation_sources",
            )  # fmt: skip


def open_ready(
    source: Source, place: str, settings: DataSettings, tokenizer: Tokenizer, progress: Progress
) -> Store:
    """The store at a place; one that lies behind a URL is fetched first, one that lies here is read there.

    Raises:
        RequestError: when it is no store, or not of the recipe's tokens, or not whole.
        RunError: when it arrives damaged, its place stays away or the disk is full; a later try goes on.
    """
    title = source.title
    if is_remote(place):
        return _fetched(source, place, settings, tokenizer, progress)
    folder = Path(place)
    listed = _Listed.read(_local(folder / NAME), str(folder / NAME))
    listed.check(title, tokenizer, settings)
    store = open_store(folder, title)
    shards = (*store.train.shards, *store.validation.shards)
    done, total = 0, sum(part.tokens for part in listed.parts)
    for shard in shards:  # hashed the first time, remembered from then on
        progress(
            BuildProgress(title, 0, done * listed.dtype.itemsize, done / max(1, total), doing="checking")
        )
        size = shard.tokens * listed.dtype.itemsize
        if content_of(File(str(shard.path), shard.path.name, size, "")) != shard.sha256:
            raise RequestError("this shard is damaged: its sha256 is not the one in store.json", str(shard.path),
                               "put the store there again")  # fmt: skip
        done += shard.tokens
    return store


def _local(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RequestError(f"cannot be read ({error.strerror})", str(path), "check the file") from None


def _fetched(
    source: Source, place: str, settings: DataSettings, tokenizer: Tokenizer, progress: Progress
) -> Store:
    title, patience = source.title, 60 * settings.retry_minutes

    def tell(note: str, done: int = 0, share: float | None = None) -> None:
        progress(BuildProgress(title, 0, done, share, note, "fetching"))

    where = f"{place}/{NAME}"
    listed = _Listed.read(_asked(where, patience, tell), shown(where))
    listed.check(title, tokenizer, settings)
    folder = cache_folder(settings) / "fetched" / hashlib.sha256(listed.content).hexdigest()[:20]
    with locked(folder):
        if not (folder / NAME).exists():
            _fetch_all(listed, place, folder, patience, tell)
    try:
        return open_store(folder, title)
    except RequestError:  # somebody removed a part of what was here: fetch that again
        with locked(folder):
            _fetch_all(listed, place, folder, patience, tell)
        return open_store(folder, title)


def _asked(where: str, patience: float, tell: Any) -> bytes:
    try:
        return text_at(where, patience, tell)
    except RunError as error:
        if type(error) is RunError and error.what == "there is no such file":
            raise RequestError(error.what, error.where, "check the path") from None
        raise


def _fetch_all(listed: _Listed, place: str, folder: Path, patience: float, tell: Any) -> None:
    """Bring every file of a store into a folder, its store.json last."""
    total = sum(part.tokens for part in listed.parts) * listed.dtype.itemsize
    done = 0
    for part in listed.parts:
        path, size = folder / part.file, part.tokens * listed.dtype.itemsize
        before = done

        def seen(arrived: int, before: int = before) -> None:
            tell("", before + arrived, (before + arrived) / max(1, total))

        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(folder, error) from None
        if not _has(path, size):
            here = File(f"{place}/{part.file}", part.file, size, "")
            fetch(here, path, lambda aside: sha256_of(aside) == part.sha256, patience, tell, seen)  # noqa: B023
        starts, length = folder / part.starts, 8 * part.documents
        if not _has(starts, length):
            there = File(f"{place}/{part.starts}", part.starts, length, "")
            fetch(there, starts, lambda aside: _are_starts(aside, path, listed), patience, tell, unseen)  # noqa: B023
        done += size
    try:
        write_durably(folder / NAME, listed.content)
    except OSError as error:
        raise unwritable(folder, error) from None


def _has(path: Path, size: int) -> bool:
    """Whether a file arrived earlier; it got its name when it had been checked."""
    return path.exists() and path.stat().st_size == size


def _are_starts(path: Path, shard: Path, listed: _Listed) -> bool:
    """Whether a file of document starts is that of a shard: every document but the first follows an EOS."""
    if path.stat().st_size % 8:
        return False
    tokens, starts = np.fromfile(shard, listed.dtype), np.fromfile(path, "<u8")
    ends = np.flatnonzero(tokens[:-1] == listed.eos_id) + 1
    return bool(np.array_equal(starts, np.concatenate(([0], ends)).astype("<u8")))
