"""nanoGPT's token files, opened as they are.

`train.bin` is raw uint16 tokens with an end-of-text token after each document. When no
validation file is given, the last documents are held out; a held-out document that also
stands in the training part is left out of validation, so that the two share none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from linnet.config import RequestError
from linnet.data.settings import Source
from linnet.data.shards.keys import key_of, unwritable
from linnet.data.shards.store import (
    Shard,
    Span,
    Split,
    Store,
    mapped,
    sha256_of,
    shards_fingerprint,
    token_dtype,
)
from linnet.data.sources.files import files_of
from linnet.storage import write_durably
from linnet.text import Tokenizer

_CHUNK = 1 << 24  # tokens looked at together


def is_token_file(source: Source) -> bool:
    """Whether a source is token files."""
    return bool(source.path) and any(file.kind == ".bin" for file in files_of(source))


def open_bins(
    groups: Sequence[tuple[Source, ...]], validation_sources: tuple[Source, ...], fraction: float,
    tokenizer: Tokenizer, cache: Path,
) -> list[Store]:  # fmt: skip
    """A store over the token files of each group of sources.

    Raises:
        RequestError: when text and token files are mixed, a file has an odd size or holds an id
            outside the vocabulary, or there is no document that could be held out.
    """
    dtype, eos_id = token_dtype(tokenizer.vocab_size), tokenizer.eos_id
    found = [_checked(group, dtype, tokenizer) for group in groups]
    given = _checked(validation_sources, dtype, tokenizer)
    shared = _split(given, dtype, eos_id)
    stores = []
    for number, shards in enumerate(found):
        others = tuple(shard for other in (*found[:number], *found[number + 1 :]) for shard in other)
        if given:
            train, validation = _split(shards, dtype, eos_id), shared
        else:
            parts = _hold_out(shards, others, fraction, dtype, eos_id, cache)
            train, validation = (_split(part, dtype, eos_id) for part in parts)
        fingerprint = shards_fingerprint({"train": train, "validation": validation})
        stores.append(Store(train, validation, eos_id, tokenizer.vocab_size, fingerprint))
    return stores


def _split(shards: tuple[Shard, ...], dtype: np.dtype, eos_id: int) -> Split:
    spans = tuple(
        Span(str(s.path), s.tokens, sum(1 for _ in _documents(mapped(s, dtype), eos_id))) for s in shards
    )
    return Split(shards, dtype, spans)


def _checked(sources: tuple[Source, ...], dtype: np.dtype, tokenizer: Tokenizer) -> tuple[Shard, ...]:
    shards = []
    for source in sources:
        files = files_of(source) if source.path else []
        if not files or any(file.kind != ".bin" for file in files):
            raise RequestError("text cannot be mixed with token files", source.title, "give one kind")
        if source.documents:
            raise RequestError("token files are taken whole", source.title, "leave out 'documents'")
        if any(file.remote for file in files):
            raise RequestError("token files are read in place", source.title, "get the files here")
        shards += [_shard(Path(file.path), dtype, tokenizer) for file in files]
    return tuple(shards)


def _shard(path: Path, dtype: np.dtype, tokenizer: Tokenizer) -> Shard:
    try:
        size, sha256 = path.stat().st_size, sha256_of(path)
    except OSError as error:
        raise RequestError(f"cannot be read ({error.strerror})", str(path), "check the file") from None
    if not size or size % dtype.itemsize:
        raise RequestError(
            f"{size} bytes are not whole {dtype.name} tokens", str(path),
            f"a vocabulary of {tokenizer.vocab_size} is read as {dtype.name}",
        )  # fmt: skip
    shard = Shard(path, size // dtype.itemsize, sha256)
    tokens = mapped(shard, dtype)
    largest = max(int(tokens[begin : begin + _CHUNK].max()) for begin in range(0, shard.tokens, _CHUNK))
    if largest >= tokenizer.vocab_size:
        raise RequestError(
            f"token {largest} is outside the vocabulary of {tokenizer.vocab_size}", str(path),
            "name the tokenizer that the file was made with",
        )  # fmt: skip
    return shard


def _hold_out(
    shards: tuple[Shard, ...], others: tuple[Shard, ...], fraction: float, dtype: np.dtype, eos_id: int,
    cache: Path,
) -> tuple[tuple[Shard, ...], tuple[Shard, ...]]:  # fmt: skip
    """Cut the last file at a document's end; the held-out part, without what training also has, is a new file.

    others: what training has besides `shards`.
    """
    last = shards[-1]
    wanted = max(1, round(sum(shard.tokens for shard in shards) * fraction))
    cut = end = 0
    for document in _documents(mapped(last, dtype), eos_id):
        end += len(document)
        if end <= last.tokens - wanted:
            cut = end
    if not cut:
        raise RequestError(
            "there are too few documents to hold some out", str(last.path), "set validation_sources"
        )
    train = (*shards[:-1], Shard(last.path, cut, f"{last.sha256}[:{cut}]"))
    against = (*train, *others)
    name = key_of(
        shards=[shard.sha256 for shard in (*shards, *others)], cut=cut, dtype=dtype.str, eos_id=eos_id
    )
    path = cache / "stores" / f"{name}.validation.bin"
    if not path.exists():
        kept = _only_here(mapped(last, dtype)[cut:], against, dtype, eos_id)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_durably(path, kept.data)
        except OSError as error:
            raise unwritable(path.parent, error) from None
    if not path.stat().st_size:
        raise RequestError("every held-out document also stands in training", str(last.path),
                           "set validation_sources")  # fmt: skip
    return train, (Shard(path, path.stat().st_size // dtype.itemsize, sha256_of(path)),)


def _only_here(held: np.ndarray, train: tuple[Shard, ...], dtype: np.dtype, eos_id: int) -> np.ndarray:
    """The held-out documents, one of each, that no training shard has."""
    found = {document.tobytes(): None for document in _documents(held, eos_id)}
    for shard in train:
        for document in _documents(mapped(shard, dtype), eos_id):
            found.pop(document.tobytes(), None)
    return np.frombuffer(b"".join(found), dtype)


def _documents(tokens: np.ndarray, eos_id: int) -> Iterator[np.ndarray]:
    """The documents in tokens, each with the EOS that ends it; the last may have none."""
    start = 0
    for begin in range(0, len(tokens), _CHUNK):
        for end in (np.flatnonzero(tokens[begin : begin + _CHUNK] == eos_id) + begin + 1).tolist():
            yield tokens[start:end]
            start = end
    if start < len(tokens):
        yield tokens[start:]
