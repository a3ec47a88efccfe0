"""Token shards on disk: what a build writes and everything else reads.

A shard is raw little-endian uint16 or uint32 tokens, the `train.bin` of nanoGPT, so theirs
open as they are. Beside each shard of ours lie the document starts, and one `store.json`
says what all of it is: tokenizer, counts, sources, sha256 of each shard. It is written
last; a folder without it is not a store.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from linnet.config import RequestError, RunError

FORMAT = 3
SPLITS = ("train", "validation")


def token_dtype(vocab_size: int) -> np.dtype:
    """The narrowest shard type that holds every id of a vocabulary."""
    return np.dtype("<u2") if vocab_size <= 1 << 16 else np.dtype("<u4")


def sha256_of(path: Path) -> str:
    """sha256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@dataclass(frozen=True)
class Shard:
    """One file of tokens, or so many of its tokens from `start` on."""

    path: Path
    tokens: int
    sha256: str
    start: int = 0


@dataclass(frozen=True)
class Span:
    """What of a split came from one source; the spans of a split follow each other."""

    label: str
    tokens: int
    documents: int


@dataclass
class Split:
    """All tokens of a split as one long array, read by position across its shards."""

    shards: tuple[Shard, ...]
    dtype: np.dtype
    spans: tuple[Span, ...] = ()
    _maps: dict[Path, np.ndarray] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self._ends = list(accumulate(shard.tokens for shard in self.shards))
        self._ends_array = np.array(self._ends, np.int64)
        self._reach: dict[Path, int] = {}  # tokens of each file, as far as any of its shards goes
        for shard in self.shards:
            end = shard.start + shard.tokens
            self._reach[shard.path] = max(end, self._reach.get(shard.path, 0))

    @property
    def tokens(self) -> int:
        """How many tokens there are."""
        return self._ends[-1] if self._ends else 0

    @property
    def documents(self) -> int:
        """How many documents there are."""
        return sum(span.documents for span in self.spans)

    def read(self, start: int, count: int) -> np.ndarray:
        """Tokens start..start+count as int64 [count]."""
        result = np.empty(count, dtype=np.int64)
        filled = 0
        while filled < count:
            shard = bisect_right(self._ends, start + filled)
            begin = start + filled - (self._ends[shard - 1] if shard else 0)
            piece = self._map(shard)[begin : begin + count - filled]
            result[filled : filled + len(piece)] = piece
            filled += len(piece)
        return result

    def rows(self, starts: np.ndarray, count: int) -> np.ndarray:
        """Tokens start..start+count of each of the starts [n], as int64 [n, count]; one gather a shard."""
        result = np.empty((len(starts), count), dtype=np.int64)
        shards = np.searchsorted(self._ends_array, starts, side="right")
        within = starts + count <= self._ends_array[shards]
        for shard in np.unique(shards[within]).tolist():
            here = np.flatnonzero(within & (shards == shard))
            begin = starts[here] - (self._ends[shard - 1] if shard else 0)
            result[here] = self._map(shard)[begin[:, None] + np.arange(count)]
        for row in np.flatnonzero(~within).tolist():
            result[row] = self.read(int(starts[row]), count)
        return result

    def source_at(self, position: int) -> str:
        """The source that the token at `position` came from."""
        ends = list(accumulate(span.tokens for span in self.spans))
        return self.spans[min(bisect_right(ends, position), len(ends) - 1)].label

    def _map(self, shard: int) -> np.ndarray:
        """A shard's tokens; a file is mapped once, however many of its parts are shards."""
        part = self.shards[shard]
        if part.path not in self._maps:
            whole = Shard(part.path, self._reach[part.path], "")
            self._maps[part.path] = mapped(whole, self.dtype)
        return self._maps[part.path][part.start : part.start + part.tokens]


def mapped(shard: Shard, dtype: np.dtype) -> np.ndarray:
    """A shard's tokens [tokens], read from disk as they are used."""
    offset = shard.start * dtype.itemsize
    try:
        return np.asarray(np.memmap(shard.path, dtype=dtype, mode="r", offset=offset, shape=(shard.tokens,)))
    except OSError as error:
        raise _unreadable(shard, error.strerror) from None
    except ValueError:
        raise _unreadable(shard, "it has been cut") from None


def _unreadable(shard: Shard, reason: str | None) -> RunError:
    return RunError(
        f"this shard cannot be read ({reason})", str(shard.path), "delete the store's folder and build again"
    )


@dataclass(frozen=True)
class Store:
    """A train and a validation split, and the tokenizer they were made with."""

    train: Split
    validation: Split
    eos_id: int
    vocab_size: int
    fingerprint: str
    folder: Path | None = None
    facts: dict[str, Any] = field(default_factory=dict)


def open_store(folder: Path, title: str = "") -> Store:
    """Open a finished build of the source that people know as `title`.

    Raises:
        RequestError: when the store is unfinished, of a newer format, or a shard is missing or cut.
    """
    path = folder / "store.json"
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise RequestError("there is no token store here", str(folder), "run linnet data build") from None
    except ValueError:
        raise RequestError("this is not valid JSON", str(path), "delete the folder and build again") from None
    try:
        if facts["format"] > FORMAT:
            raise RequestError("this store was made by a newer Linnet", str(path), "update Linnet")
        dtype = np.dtype(facts["dtype"])
        splits = {name: _split(folder, facts["splits"][name], dtype, title) for name in SPLITS}
        eos_id, vocab_size = int(facts["tokenizer"]["eos_id"]), int(facts["tokenizer"]["vocab_size"])
    except (KeyError, TypeError, ValueError):
        raise RequestError(
            "this does not describe a store", str(path), "delete the folder and build again"
        ) from None
    fingerprint = shards_fingerprint(splits)
    return Store(splits["train"], splits["validation"], eos_id, vocab_size, fingerprint, folder, facts)


def _split(folder: Path, facts: dict[str, Any], dtype: np.dtype, title: str) -> Split:
    shards = tuple(Shard(folder / s["file"], s["tokens"], s["sha256"]) for s in facts["shards"])
    for shard in shards:
        size = shard.path.stat().st_size if shard.path.exists() else -1
        if size != shard.tokens * dtype.itemsize:
            what = (
                "is missing" if size < 0 else f"has {size} bytes instead of {shard.tokens * dtype.itemsize}"
            )
            raise RequestError(
                f"this shard {what}", str(shard.path), "delete the store's folder and build again"
            )
    span = Span(title or str(folder), sum(shard.tokens for shard in shards), facts["documents"])
    return Split(shards, dtype, (span,))


def joined(splits: Sequence[Split]) -> Split:
    """Splits one after the other, as one."""
    shards = tuple(shard for split in splits for shard in split.shards)
    return Split(shards, splits[0].dtype, tuple(span for split in splits for span in split.spans))


def shards_fingerprint(splits: dict[str, Split]) -> str:
    """What decides every token of a store: the sizes and hashes of its shards."""
    lines = [f"{name} {shard.tokens} {shard.sha256}\n" for name in SPLITS for shard in splits[name].shards]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def damaged_shards(store: Store) -> list[Path]:
    """Shards whose bytes no longer have the sha256 they were written with."""
    shards = (*store.train.shards, *store.validation.shards)
    try:
        return [shard.path for shard in shards if sha256_of(shard.path) != shard.sha256]
    except OSError as error:
        raise RunError(
            f"this shard cannot be read ({error.strerror})", str(error.filename), "check the disk"
        ) from None
