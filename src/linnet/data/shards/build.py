"""Documents to token shards: in parallel, resumable, and found again by content.

A store lives in a folder named by everything that decides its bytes (see keys.py). Documents
are written in the order they were read, so the bytes do not depend on how many processes
tokenised them, or on how often the build was interrupted.

Which documents are held out is decided by a hash of each document's text: equal documents
fall on the same side, wherever and however often they appear.
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from linnet.config import RequestError
from linnet.data.settings import DataSettings, Source
from linnet.data.shards import writing
from linnet.data.shards.keys import cache_folder, store_key, unwritable
from linnet.data.shards.store import FORMAT, Store, open_store, token_dtype
from linnet.data.shards.tokenising import Tokenise, tokeniser
from linnet.data.shards.writing import ShardWriter
from linnet.data.sources.documents import files_of, kind_of, limit_of, texts
from linnet.hardware.host import cores
from linnet.text import Tokenizer

Progress = Callable[["BuildProgress"], None]


@dataclass(frozen=True)
class BuildProgress:
    """How far a build is: the source at hand, its documents so far, all bytes of text so far.

    `share` is the part of the whole that has been read, where it can be told.
    """

    source: str
    documents: int
    text_bytes: int
    share: float | None = None


def build(settings: DataSettings, tokenizer: Tokenizer, progress: Progress | None = None) -> Store:
    """The store for these settings, built if it is not there yet.

    Raises:
        RequestError: when a source is missing, empty or not what it claims to be.
        RunError: when the disk is full or a dataset stops answering; a later build goes on from there.
    """
    if any(_is_token_file(source) for source in (*settings.sources, *settings.validation_sources)):
        from linnet.data.shards.bins import open_bins

        return open_bins(settings, tokenizer, cache_folder(settings))
    folder = cache_folder(settings) / "stores" / store_key(settings, tokenizer)
    if not (folder / "store.json").exists():
        with _lock(folder):
            if not (folder / "store.json").exists():
                _fill(folder, settings, tokenizer, progress or (lambda _: None))
    return open_store(folder)


def _is_token_file(source: Source) -> bool:
    return bool(source.path) and any(kind_of(path) == ".bin" for path in files_of(source))


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """One builder a store; a second process waits and then finds it built."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        handle = folder.with_name(f"{folder.name}.lock").open("w")
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError as error:
        raise unwritable(folder.parent, error) from None
    with handle:
        yield


def _fill(folder: Path, settings: DataSettings, tokenizer: Tokenizer, progress: Progress) -> None:
    fraction = 0.0 if settings.validation_sources else settings.validation_fraction
    label = ", ".join(source.title for source in settings.sources)
    while True:
        aside = folder.with_name(f"{folder.name}-{fraction:g}.partial")
        writer = ShardWriter(aside, token_dtype(tokenizer.vocab_size), writing.SHARD_TOKENS)
        with tokeniser(tokenizer, settings.preprocessing_processes or cores()) as tokenise:
            _write_sources(writer, settings, fraction, tokenise, progress)
        train, validation = writer.count("train"), writer.count("validation")
        if train and validation:
            break
        shutil.rmtree(aside)
        if not train + validation or (settings.validation_sources and not train):
            raise RequestError("there is no text in it", label, "give a source with at least one document")
        if settings.validation_sources:
            names = ", ".join(source.title for source in settings.validation_sources)
            raise RequestError("there is no text in it", names, "give validation_sources with text")
        if fraction == 0.5 or train + validation == 1:
            raise RequestError(
                f"{train + validation} documents are too few to hold some out for validation", label,
                "add documents or set validation_sources",
            )  # fmt: skip
        fraction = min(0.5, fraction * 4)  # a small corpus: hold out a larger share, until it has a document
    if folder.exists():
        shutil.rmtree(folder)  # a store that lost its store.json
    facts = {
        "name": tokenizer.name,
        "fingerprint": tokenizer.fingerprint,
        "vocab_size": tokenizer.vocab_size,
        "eos_id": tokenizer.eos_id,
    }
    writer.finish(folder, {
        "format": FORMAT, "dtype": writer.dtype.str, "tokenizer": facts, "validation_fraction": fraction,
    })  # fmt: skip


def _write_sources(
    writer: ShardWriter, settings: DataSettings, fraction: float, tokenise: Tokenise, progress: Progress
) -> None:
    plan = _plan(settings, fraction)
    reading = _Reading([source for source, _, _ in plan])
    for index, (source, split, share) in enumerate(plan):
        if index < writer.source:
            continue
        writer.begin_source(index, source.title)
        reading.begin()
        documents = texts(source, split, reading.seen)
        for batch in tokenise(islice(documents, writer.documents, None), share):
            writer.add(batch)
            read = reading.share(index, writer.documents)
            progress(BuildProgress(source.title, writer.documents, writer.text_bytes, read))
    writer.flush()


def _plan(settings: DataSettings, fraction: float) -> list[tuple[Source, str, float]]:
    """Each source to read, which of its splits, and the share of its documents that is held out."""
    plan = [(source, "train", 0.0 if source.builtin else fraction) for source in settings.sources]
    validation = settings.validation_sources
    if not validation:  # the built-in world holds documents of its own out, by their content
        worlds = (source for source in settings.sources if source.builtin)
        counts = ((w, max(8, round((limit_of(w) or 0) * settings.validation_fraction))) for w in worlds)
        validation = tuple(w.model_copy(update={"documents": count}) for w, count in counts)
    return plan + [(source, "validation", 1.0) for source in validation]


class _Reading:
    """What part of all sources has been read: in bytes of files, or in documents where all have a number."""

    def __init__(self, sources: list[Source]) -> None:
        limits = [limit_of(source) or 0 for source in sources]
        files = all(source.path and not limit for source, limit in zip(sources, limits, strict=True))
        self._by_documents = all(limits)
        sizes = [sum(path.stat().st_size for path in files_of(source)) for source in sources] if files else []
        self._totals = limits if self._by_documents else sizes
        self._bytes = 0  # of the source at hand

    def begin(self) -> None:
        self._bytes = 0

    def seen(self, count: int) -> None:
        self._bytes += count

    def share(self, index: int, documents: int) -> float | None:
        """The share with `documents` read of source `index`; None where the whole is not known."""
        if not self._totals:
            return None
        before = sum(self._totals[:index])
        here = documents if self._by_documents else self._bytes
        return min(1.0, (before + here) / sum(self._totals))
