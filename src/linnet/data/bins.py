"""nanoGPT's token files, opened as they are.

`train.bin` is raw uint16 tokens with an end-of-text token after each document. When no
validation file is given, the last documents are held out; a held-out document that also
stands in the training part is left out of validation, so that the two share none.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from linnet.config import RequestError
from linnet.data.documents import files_of, kind_of
from linnet.data.settings import DataSettings, Source
from linnet.data.store import Shard, Span, Split, Store, sha256_of, token_dtype
from linnet.data.writing import write_durably
from linnet.text import Tokenizer


def open_bins(settings: DataSettings, tokenizer: Tokenizer, cache: Path) -> Store:
    """A store over token files.

    Raises:
        RequestError: when text and token files are mixed, a file has an odd size or holds an id
            outside the vocabulary.
    """
    dtype = token_dtype(tokenizer.vocab_size)
    train = _shards(settings.sources, dtype, tokenizer)
    if settings.validation_sources:
        validation = _shards(settings.validation_sources, dtype, tokenizer)
    else:
        train, validation = _hold_out(train, settings.validation_fraction, dtype, tokenizer, cache)
    digest = hashlib.sha256()
    for name, shards in (("train", train), ("validation", validation)):
        for shard in shards:
            digest.update(f"{name} {shard.tokens} {shard.sha256}\n".encode())
    label = ", ".join(source.label for source in settings.sources)
    return Store(
        _as_split(train, dtype, label, tokenizer.eos_id),
        _as_split(validation, dtype, f"{label} (held out)", tokenizer.eos_id),
        tokenizer.eos_id,
        tokenizer.vocab_size,
        digest.hexdigest(),
    )


def _as_split(shards: tuple[Shard, ...], dtype: np.dtype, label: str, eos_id: int) -> Split:
    split = Split(shards, dtype)
    documents = sum(int((_mapped(s, dtype) == eos_id).sum()) for s in shards)
    return Split(shards, dtype, (Span(label, split.tokens, max(1, documents)),))


def _shards(sources: tuple[Source, ...], dtype: np.dtype, tokenizer: Tokenizer) -> tuple[Shard, ...]:
    shards = []
    for source in sources:
        for path in files_of(source) if source.path else []:
            if kind_of(path) != ".bin":
                raise RequestError("text cannot be mixed with token files", str(path), "give one kind")
            shards.append(_checked(path, dtype, tokenizer))
        if not source.path:
            raise RequestError("this cannot be mixed with token files", source.label, "give one kind")
    return tuple(shards)


def _checked(path: Path, dtype: np.dtype, tokenizer: Tokenizer) -> Shard:
    size = path.stat().st_size
    if not size or size % dtype.itemsize:
        raise RequestError(
            f"{size} bytes are not whole {dtype.name} tokens", str(path),
            f"a vocabulary of {tokenizer.vocab_size} is read as {dtype.name}",
        )  # fmt: skip
    shard = Shard(path, size // dtype.itemsize, sha256_of(path))
    tokens = _mapped(shard, dtype)
    for begin in range(0, shard.tokens, 1 << 24):
        largest = int(tokens[begin : begin + (1 << 24)].max())
        if largest >= tokenizer.vocab_size:
            raise RequestError(
                f"token {largest} is outside the vocabulary of {tokenizer.vocab_size}", str(path),
                "name the tokenizer that the file was made with",
            )  # fmt: skip
    return shard


def _mapped(shard: Shard, dtype: np.dtype) -> np.ndarray:
    return np.memmap(shard.path, dtype=dtype, mode="r", shape=(shard.tokens,))


def _hold_out(
    shards: tuple[Shard, ...], fraction: float, dtype: np.dtype, tokenizer: Tokenizer, cache: Path
) -> tuple[tuple[Shard, ...], tuple[Shard, ...]]:
    """Cut the last file at a document's end; the held-out part, without what training also has, is a new file."""
    last = shards[-1]
    tokens = _mapped(last, dtype)
    ends = np.flatnonzero(tokens == tokenizer.eos_id) + 1
    wanted = max(1, round(sum(s.tokens for s in shards) * fraction))
    later = ends[(ends <= last.tokens - wanted) & (ends < last.tokens)]
    if not len(later):
        raise RequestError("there are too few documents to hold some out", str(last.path), "set validation_sources")
    cut = int(later[-1])
    kept = _without_training_documents(tokens[cut:], shards, cut, dtype, tokenizer.eos_id)
    if not len(kept):
        raise RequestError("every held-out document also stands in training", str(last.path),
                           "set validation_sources")  # fmt: skip
    name = hashlib.sha256(json.dumps([s.sha256 for s in shards] + [fraction, dtype.str]).encode()).hexdigest()[:20]
    path = cache / "stores" / f"{name}.validation.bin"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        write_durably(path, kept.tobytes())
    train = (*shards[:-1], Shard(last.path, cut, f"{last.sha256}[:{cut}]"))
    return train, (Shard(path, len(kept), sha256_of(path)),)


def _without_training_documents(
    held: np.ndarray, shards: tuple[Shard, ...], cut: int, dtype: np.dtype, eos_id: int
) -> np.ndarray:
    candidates = {document.tobytes(): document for document in _documents(held, eos_id)}
    for shard in shards:
        tokens = _mapped(shard, dtype)[: cut if shard is shards[-1] else None]
        for document in _documents(tokens, eos_id):
            candidates.pop(document.tobytes(), None)
    return np.concatenate(list(candidates.values())) if candidates else np.empty(0, dtype)


def _documents(tokens: np.ndarray, eos_id: int) -> list[np.ndarray]:
    ends = np.flatnonzero(tokens == eos_id) + 1
    return [part for part in np.split(np.asarray(tokens), ends) if len(part)]
