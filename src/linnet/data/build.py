"""Documents to token shards: in parallel, resumable, and found again by content.

A store lives in a folder named by a hash of everything that decides its bytes: the
tokenizer's fingerprint, each source's content, the share held out. Changing any of them
means another folder, so a stale store is never met. Documents are tokenised by several
processes and written in the order they were read, so the bytes do not depend on how many.

Which documents are held out is decided by a hash of each document's text: equal documents
fall on the same side, wherever and however often they appear.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import multiprocessing
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from linnet.config import RequestError, RunError
from linnet.data.documents import files_of, held_out, kind_of, texts
from linnet.data.settings import DataSettings, Source
from linnet.data.store import FORMAT, Store, open_store, sha256_of, token_dtype
from linnet.data.writing import ShardWriter, Tokenized, write_durably
from linnet.text import Tokenizer

BATCH_CHARACTERS = 1 << 20
_HELD_OUT_AT_LEAST = 1
Progress = Callable[["BuildProgress"], None]


@dataclass(frozen=True)
class BuildProgress:
    """How far a build is: the source at hand, its documents so far, all bytes of text so far.

    `share` is the part of the whole that is done, where it can be told.
    """

    source: str
    documents: int
    text_bytes: int
    share: float | None = None


def cache_folder(settings: DataSettings) -> Path:
    """Where stores are kept: `cache_dir`, else $LINNET_CACHE, else ~/.cache/linnet."""
    chosen = settings.cache_dir or os.environ.get("LINNET_CACHE") or "~/.cache/linnet"
    return Path(chosen).expanduser()


def fingerprint(source: Source) -> dict[str, Any]:
    """What decides the documents of a source: the content of its files, a dataset's commit, a generator's code."""
    facts: dict[str, Any] = source.model_dump(exclude={"path"}, exclude_none=True)
    if source.path:
        facts["files"] = [sha256_of(path) for path in files_of(source)]
    elif source.builtin:
        package = Path(__file__).parent / "world"
        facts["generator"] = [sha256_of(path) for path in sorted(package.glob("*.py"))]
    else:
        facts["commit"] = _commit(source)
    return facts


def _commit(source: Source) -> str:
    from huggingface_hub import HfApi

    try:
        return str(HfApi().dataset_info(source.dataset or "", revision=source.revision).sha)
    except Exception as error:  # offline, missing and gated all come as different kinds
        reason = str(error).splitlines()[0]
        raise RequestError(f"the dataset cannot be reached ({reason})", source.label,
                           "check its name and the network, or give files with path") from None  # fmt: skip


def store_key(settings: DataSettings, tokenizer: Tokenizer) -> str:
    """The name of the store that these settings and this tokenizer make."""
    facts = {
        "format": FORMAT,
        "tokenizer": tokenizer.fingerprint,
        "sources": [fingerprint(source) for source in settings.sources],
        "validation": [fingerprint(source) for source in settings.validation_sources],
        "fraction": None if settings.validation_sources else settings.validation_fraction,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:20]


def build(settings: DataSettings, tokenizer: Tokenizer, progress: Progress | None = None) -> Store:
    """The store for these settings, built if it is not there yet.

    Raises:
        RequestError: when a source is missing, empty or not what it claims to be.
        RunError: when the disk is full or a dataset stops answering; a later build goes on from there.
    """
    if any(_is_token_file(source) for source in (*settings.sources, *settings.validation_sources)):
        from linnet.data.bins import open_bins

        return open_bins(settings, tokenizer, cache_folder(settings))
    folder = cache_folder(settings) / "stores" / store_key(settings, tokenizer)
    if (folder / "store.json").exists():
        return open_store(folder)
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
        handle = (folder.parent / f"{folder.name}.lock").open("w")
    except OSError as error:
        raise RequestError(f"the cache cannot be written ({error.strerror})", str(folder.parent),
                           "set data.cache_dir or LINNET_CACHE to a folder that can") from None  # fmt: skip
    with handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _fill(folder: Path, settings: DataSettings, tokenizer: Tokenizer, progress: Progress) -> None:
    fraction = 0.0 if settings.validation_sources else settings.validation_fraction
    while True:
        partial = folder.with_name(f"{folder.name}-{fraction:g}.partial")
        writer = ShardWriter(partial, token_dtype(tokenizer.vocab_size))
        with _pool(settings, tokenizer) as tokenize:
            _write_sources(writer, settings, fraction, tokenize, progress)
        documents = {name: sum(s["documents"] for s in part.spans) for name, part in writer.splits.items()}
        if not sum(documents.values()):
            shutil.rmtree(partial)
            raise RequestError("there is no text in it", ", ".join(s.label for s in settings.sources),
                               "give a source with at least one document")  # fmt: skip
        if documents["train"] and documents["validation"] >= _HELD_OUT_AT_LEAST:
            break
        shutil.rmtree(partial)
        if fraction >= 0.5 or not fraction or sum(documents.values()) < 2:
            raise RequestError(
                "there are too few documents to hold some out for validation",
                ", ".join(s.label for s in settings.sources), "add documents or set validation_sources",
            )  # fmt: skip
        fraction = min(0.5, fraction * 4)  # a small corpus: hold out a larger share, until it has a document
    _finish(partial, folder, writer, tokenizer, fraction)


def _finish(partial: Path, folder: Path, writer: ShardWriter, tokenizer: Tokenizer, fraction: float) -> None:
    facts = {
        "format": FORMAT,
        "dtype": writer.dtype.str,
        "tokenizer": {
            "name": tokenizer.name,
            "fingerprint": tokenizer.fingerprint,
            "vocab_size": tokenizer.vocab_size,
            "eos_id": tokenizer.eos_id,
        },
        "text_bytes": writer.text_bytes,
        "validation_fraction": fraction,
        "splits": {name: {"shards": p.shards, "spans": p.spans} for name, p in writer.splits.items()},
    }
    try:
        write_durably(partial / "store.json", json.dumps(facts, indent=2).encode())
        (partial / "progress.json").unlink(missing_ok=True)
        partial.replace(folder)
    except OSError as error:
        raise RunError(f"the store cannot be written ({error.strerror})", str(folder), "make room") from None


def _write_sources(
    writer: ShardWriter, settings: DataSettings, fraction: float, tokenize: Tokenize, progress: Progress
) -> None:
    plan = [(source, texts(source), fraction if not source.builtin else 0.0) for source in settings.sources]
    for source in settings.sources:
        if source.builtin and not settings.validation_sources:
            count = max(8, round((source.documents or DEFAULT_WORLD) * settings.validation_fraction))
            plan.append((source, held_out(source, count), 1.0))
    plan += [(source, texts(source), 1.0) for source in settings.validation_sources]
    for index, (source, documents, share) in enumerate(plan):
        if index < writer.source:
            continue
        writer.begin_source(index, source.label)
        waiting = islice(documents, writer.documents, _limit(source))
        for batch in tokenize(_batches(waiting), share):
            writer.add(batch)
            progress(BuildProgress(source.label, writer.documents, writer.text_bytes))
    writer.flush()


DEFAULT_WORLD = 20_000  # documents of the built-in world when the recipe does not say


def _limit(source: Source) -> int | None:
    return DEFAULT_WORLD if source.builtin and source.documents is None else None


def _batches(documents: Iterator[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for text in documents:
        batch.append(text)
        size += len(text)
        if size >= BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


Tokenize = Callable[[Iterator[list[str]], float], Iterator[Tokenized]]


@contextmanager
def _pool(settings: DataSettings, tokenizer: Tokenizer) -> Iterator[Tokenize]:
    """Tokenise batches in order: the first few here, and by processes when there are many."""
    count = settings.preprocessing_processes or len(os.sched_getaffinity(0))
    context = multiprocessing.get_context("spawn")
    pool: list[ProcessPoolExecutor] = []

    def run(batches: Iterator[list[str]], share: float) -> Iterator[Tokenized]:
        for batch in islice(batches, 8 if count > 1 else None):
            yield tokenized(tokenizer, batch, share)
        if count == 1:
            return
        waiting: deque[Future[Tokenized]] = deque()
        for batch in batches:
            if not pool:
                pool.append(ProcessPoolExecutor(count, context, _set_tokenizer, (tokenizer,)))
            waiting.append(pool[0].submit(_tokenized_there, batch, share))
            if len(waiting) > 3 * count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    try:
        yield run
    finally:
        for executor in pool:
            executor.shutdown(wait=True, cancel_futures=True)


_worker_tokenizer: list[Tokenizer] = []


def _set_tokenizer(tokenizer: Tokenizer) -> None:
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops the pool
    _worker_tokenizer[:] = [tokenizer]


def _tokenized_there(batch: list[str], share: float) -> Tokenized:
    return tokenized(_worker_tokenizer[0], batch, share)


def tokenized(tokenizer: Tokenizer, batch: list[str], share: float) -> Tokenized:
    """A batch of documents as tokens, each followed by exactly one EOS; `share` of them held out."""
    encoded = tokenizer.encode_batch(batch)
    eos = np.array([tokenizer.eos_id], dtype=np.uint32)
    lengths = np.array([len(ids) + 1 for ids in encoded], dtype=np.int64)
    tokens = np.concatenate([part for ids in encoded for part in (np.asarray(ids, dtype=np.uint32), eos)])
    raw = [text.encode("utf-8") for text in batch]
    chosen = np.array([is_held_out(data, share) for data in raw])
    return Tokenized(tokens, lengths, chosen, sum(map(len, raw)))


def is_held_out(document: bytes, share: float) -> bool:
    """Whether a document belongs to validation: by a hash of its content alone."""
    if share in (0.0, 1.0):
        return bool(share)
    place = int.from_bytes(hashlib.blake2b(document, digest_size=8, key=b"linnet validation").digest(), "big")
    return place < share * (1 << 64)
