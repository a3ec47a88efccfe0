"""nanoGPT's token files, opened as they are.

`train.bin` is raw uint16 tokens with an end-of-text token after each document. Nothing is copied: what
is left out of training are stretches of the file that are passed over, and the held-out part is those
stretches. Which documents these are follows from a hash of their tokens, as for text: equal documents
fall on the same side, whatever their order and wherever they stand.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from linnet.config import RequestError
from linnet.data.settings import Source
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
from linnet.data.shards.tokenising import LARGEST_SHARE, digest_of
from linnet.data.sources.files import files_of
from linnet.text import Tokenizer

_CHUNK = 1 << 24  # tokens looked at together
_EMPTY = digest_of(b"")  # an EOS after an EOS is no document that could be left out


def is_token_file(source: Source) -> bool:
    """Whether a source is token files."""
    return bool(source.path) and any(file.kind == ".bin" for file in files_of(source))


@dataclass(frozen=True)
class _File:
    """A token file and its documents.

    ends: [documents] where each ends, its EOS included. digests: [documents] hashes of their tokens
    without the EOS, uint64.
    """

    shard: Shard
    ends: np.ndarray
    digests: np.ndarray

    @cached_property
    def lengths(self) -> np.ndarray:
        """[documents] tokens of each, its EOS included."""
        return np.diff(self.ends, prepend=0)

    def among(self, digests: np.ndarray) -> np.ndarray:
        """[documents] which of them have one of these hashes."""
        return np.isin(self.digests, digests) & (self.digests != _EMPTY)


def open_bins(
    groups: Sequence[tuple[str, tuple[Source, ...]]],
    validation_sources: tuple[Source, ...],
    fraction: float,
    tokenizer: Tokenizer,
) -> list[Store]:
    """A store over the token files of each group of sources.

    Args:
        groups: each with the name of its domain.
        validation_sources: their documents are left out of training. Without them a share is held out.
        fraction: of documents that is held out, chosen by their hashes; none that alone holds more than
            this share of its group's tokens. Twice as large a share, and so on, where a domain gets none.

    Raises:
        RequestError: when text and token files are mixed, a file has an odd size or holds an id
            outside the vocabulary, or nothing would be left to hold out or to train on.
    """
    dtype = token_dtype(tokenizer.vocab_size)
    found = [_checked(group, dtype, tokenizer) for _, group in groups]
    given = _checked(validation_sources, dtype, tokenizer)
    if given:
        held_out = np.concatenate([file.digests for file in given])
        explicit = _split(given, [np.ones(len(file.ends), bool) for file in given], dtype)
    else:
        held_out = _held_out([domain for domain, _ in groups], found, fraction, tokenizer)
    stores = []
    for files, (_, sources) in zip(found, groups, strict=True):
        masks = [file.among(held_out) for file in files]
        train = _split(files, [~mask for mask in masks], dtype)
        if not train.tokens:
            raise RequestError(
                "all of its documents are held out", sources[0].title, "give other validation_sources"
            )
        validation = explicit if given else _split(files, masks, dtype)
        fingerprint = shards_fingerprint({"train": train, "validation": validation})
        stores.append(Store(train, validation, tokenizer.eos_id, tokenizer.vocab_size, fingerprint))
    return stores


def _split(files: Sequence[_File], masks: Sequence[np.ndarray], dtype: np.dtype) -> Split:
    """Of each file the documents that its mask [documents] chooses, as they lie."""
    shards: list[Shard] = []
    spans = []
    for file, mask in zip(files, masks, strict=True):
        if mask.all():
            shards.append(file.shard)
        else:
            borders = np.flatnonzero(np.diff(mask, prepend=False, append=False))
            edges = np.concatenate(([0], file.ends))[borders].reshape(-1, 2)
            for start, stop in edges.tolist():
                sha256 = f"{file.shard.sha256}[{start}:{stop}]"
                shards.append(Shard(file.shard.path, stop - start, sha256, start))
        spans.append(Span(str(file.shard.path), int(file.lengths[mask].sum()), int(mask.sum())))
    return Split(tuple(shards), dtype, tuple(spans))


def _held_out(
    domains: Sequence[str], groups: Sequence[list[_File]], share: float, tokenizer: Tokenizer
) -> np.ndarray:
    """Hashes of the documents that are held out of groups of files, of each domain at least one."""
    while True:
        chosen, spared = [], []
        for files in groups:
            longest = share * sum(file.shard.tokens for file in files)
            for file in files:
                here = file.digests < share * 2.0**64
                chosen.append(file.digests[here])
                spared.append(file.digests[here & (file.lengths > longest)])
        digests = np.setdiff1d(np.concatenate(chosen), np.concatenate(spared))
        having = {
            domain
            for domain, files in zip(domains, groups, strict=True)
            if any(file.among(digests).any() for file in files)
        }
        lacking = [files for domain, files in zip(domains, groups, strict=True) if domain not in having]
        if not lacking:
            return digests
        if share >= LARGEST_SHARE:
            raise _nothing_held_out(lacking[0], tokenizer)
        share = min(LARGEST_SHARE, 2 * share)


def _nothing_held_out(files: list[_File], tokenizer: Tokenizer) -> RequestError:
    count = len(np.unique(np.concatenate([file.digests for file in files])))
    where = str(files[-1].shard.path)
    dtype = token_dtype(tokenizer.vocab_size)
    if all(len(f.ends) == 1 and mapped(f.shard, dtype)[-1] != tokenizer.eos_id for f in files):
        what = f"no end-of-text token ({tokenizer.eos_id}) parts it into documents, so none can be held out"
        return RequestError(what, where, "set validation_sources")
    return RequestError(
        f"its {count} different documents are too few to hold some out", where, "set validation_sources"
    )


def _checked(sources: tuple[Source, ...], dtype: np.dtype, tokenizer: Tokenizer) -> list[_File]:
    found = []
    for source in sources:
        files = files_of(source) if source.path else []
        if not files or any(file.kind != ".bin" for file in files):
            raise RequestError("text cannot be mixed with token files", source.title, "give one kind")
        if source.documents:
            raise RequestError("token files are taken whole", source.title, "leave out 'documents'")
        if any(file.remote for file in files):
            raise RequestError("token files are read in place", source.title, "get the files here")
        found += [
            _looked_at(_shard(Path(file.path), dtype, tokenizer), dtype, tokenizer.eos_id) for file in files
        ]
    return found


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


def _looked_at(shard: Shard, dtype: np.dtype, eos_id: int) -> _File:
    ends, digests = [], []
    for end, document in _documents(mapped(shard, dtype), eos_id):
        ends.append(end)
        digests.append(digest_of(document.tobytes()))
    return _File(shard, np.array(ends, np.int64), np.array(digests, np.uint64))


def _documents(tokens: np.ndarray, eos_id: int) -> Iterator[tuple[int, np.ndarray]]:
    """Where each document in tokens ends, and its tokens without the EOS there; the last may have none."""
    start = 0
    for begin in range(0, len(tokens), _CHUNK):
        for end in (np.flatnonzero(tokens[begin : begin + _CHUNK] == eos_id) + begin + 1).tolist():
            yield end, tokens[start : end - 1]
            start = end
    if start < len(tokens):
        yield len(tokens), tokens[start:]
