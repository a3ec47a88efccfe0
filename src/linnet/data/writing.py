"""Shards being written: documents in, whole files out, resumable at every finished shard.

A shard is written under a temporary name, synced and renamed; then `progress.json` says how
many documents are safely in. A build that is killed goes on from there and ends in the same
bytes as one that was not.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from linnet.config import RunError
from linnet.data.store import SPLITS, Span, sha256_of

SHARD_TOKENS = 64 * 1024 * 1024


@dataclass
class Tokenized:
    """A run of documents as tokens, each ended by one EOS; which of them are held out."""

    tokens: np.ndarray  # [sum of lengths]
    lengths: np.ndarray  # [documents]
    held_out: np.ndarray  # [documents], boolean
    text_bytes: int

    def of(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Tokens and lengths of the documents that belong to a split."""
        chosen = self.held_out if split == "validation" else ~self.held_out
        return self.tokens[np.repeat(chosen, self.lengths)], self.lengths[chosen]


@dataclass
class _Open:
    """What of a split is not yet in a shard, and what is."""

    tokens: list[np.ndarray] = field(default_factory=list)
    lengths: list[np.ndarray] = field(default_factory=list)
    pending: int = 0
    shards: list[dict[str, Any]] = field(default_factory=list)
    spans: list[dict[str, Any]] = field(default_factory=list)


class ShardWriter:
    """Writes the two splits of a store into a folder of unfinished work."""

    def __init__(self, folder: Path, dtype: np.dtype, shard_tokens: int = SHARD_TOKENS) -> None:
        self.folder, self.dtype, self.shard_tokens = folder, dtype, shard_tokens
        self.splits = {name: _Open() for name in SPLITS}
        self.source, self.documents, self.text_bytes = 0, 0, 0
        folder.mkdir(parents=True, exist_ok=True)
        self._resume()

    def _resume(self) -> None:
        path = self.folder / "progress.json"
        if not path.exists():
            return
        progress = json.loads(path.read_text(encoding="utf-8"))
        self.source, self.documents = progress["source"], progress["documents"]
        self.text_bytes = progress["text_bytes"]
        for name in SPLITS:
            self.splits[name].shards = progress["splits"][name]["shards"]
            self.splits[name].spans = progress["splits"][name]["spans"]

    def begin_source(self, index: int, label: str) -> None:
        """Documents added from now on are from this source."""
        if index != self.source or not self.splits["train"].spans:
            for part in self.splits.values():
                part.spans.append(asdict(Span(label, 0, 0)))
            if index != self.source:
                self.source, self.documents = index, 0

    def add(self, batch: Tokenized) -> None:
        """Take in a run of documents; write a shard and remember the place when there is enough."""
        for name, part in self.splits.items():
            tokens, lengths = batch.of(name)
            part.tokens.append(tokens.astype(self.dtype))
            part.lengths.append(lengths)
            part.pending += len(tokens)
            part.spans[-1]["tokens"] += len(tokens)
            part.spans[-1]["documents"] += len(lengths)
        self.documents += len(batch.lengths)
        self.text_bytes += batch.text_bytes
        if sum(part.pending for part in self.splits.values()) >= self.shard_tokens:
            self.flush()

    def flush(self) -> None:
        """Write what is pending as shards, then the place from which an interrupted build goes on."""
        try:
            for name, part in self.splits.items():
                if part.pending:
                    self._shard(name, part)
            state = {name: {"shards": p.shards, "spans": p.spans} for name, p in self.splits.items()}
            progress = {"source": self.source, "documents": self.documents, "text_bytes": self.text_bytes}
            write_durably(self.folder / "progress.json", json.dumps(progress | {"splits": state}).encode())
        except OSError as error:
            raise RunError(
                f"the shards cannot be written ({error.strerror})", str(self.folder),
                "make room and run the same command again; it goes on where it stopped",
            ) from None  # fmt: skip

    def _shard(self, name: str, part: _Open) -> None:
        stem = f"{name}-{len(part.shards):05d}"
        tokens = np.concatenate(part.tokens)
        starts = np.concatenate(([0], np.cumsum(np.concatenate(part.lengths))[:-1])).astype("<u8")
        write_durably(self.folder / f"{stem}.bin", tokens.tobytes())
        write_durably(self.folder / f"{stem}.starts", starts.tobytes())
        file = self.folder / f"{stem}.bin"
        part.shards.append(
            {"file": file.name, "tokens": len(tokens), "documents": len(starts), "sha256": sha256_of(file)}
        )
        part.tokens, part.lengths, part.pending = [], [], 0


def write_durably(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all, even after a power cut."""
    aside = path.with_name(path.name + ".part")
    try:
        with aside.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        aside.replace(path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise
