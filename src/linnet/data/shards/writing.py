"""Shards being written: documents in, whole files out, resumable at every finished shard.

A shard is written under a temporary name, synced and renamed; then `progress.json` says how
many documents are safely in. A build that is killed goes on from there and ends in the same
bytes as one that was not.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from linnet.config import RunError
from linnet.data.shards.store import SPLITS, Span
from linnet.data.shards.tokenising import Tokenised

SHARD_TOKENS = 64 * 1024 * 1024


@dataclass
class _Open:
    """What of a split is not yet in a shard, and what is."""

    tokens: list[np.ndarray] = field(default_factory=list)
    lengths: list[np.ndarray] = field(default_factory=list)
    pending: int = 0
    shards: list[dict[str, Any]] = field(default_factory=list)
    spans: list[dict[str, Any]] = field(default_factory=list)


class ShardWriter:
    """Writes the two splits of a store into a folder of unfinished work, or goes on with one.

    `source` and `documents` say where to go on: the source at hand and how many of its documents are in.
    """

    def __init__(self, folder: Path, dtype: np.dtype, shard_tokens: int = SHARD_TOKENS) -> None:
        self.folder, self.dtype, self.shard_tokens = folder, dtype, shard_tokens
        self.splits = {name: _Open() for name in SPLITS}
        self.source, self.documents, self.text_bytes = 0, 0, 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._resume()
        except OSError as error:
            raise self._failed(error) from None

    def _resume(self) -> None:
        path = self.folder / "progress.json"
        if not path.exists():
            return
        progress = json.loads(path.read_text(encoding="utf-8"))
        parts = progress["splits"]
        for shard in (shard for part in parts.values() for shard in part["shards"]):
            file = self.folder / shard["file"]
            if not file.exists() or file.stat().st_size != shard["tokens"] * self.dtype.itemsize:
                return  # somebody removed a part: begin again
        self.source, self.documents = progress["source"], progress["documents"]
        self.text_bytes = progress["text_bytes"]
        self.splits = {
            name: _Open(shards=parts[name]["shards"], spans=parts[name]["spans"]) for name in SPLITS
        }

    def begin_source(self, index: int, label: str) -> None:
        """Documents added from now on are from this source: the one at hand, or the one after it."""
        if index != self.source:
            self.source, self.documents = index, 0
        for part in self.splits.values():
            if len(part.spans) == index:
                part.spans.append(asdict(Span(label, 0, 0)))

    def add(self, batch: Tokenised) -> None:
        """Take in a run of documents; write a shard and remember the place when there is enough.

        Raises:
            RunError: when the disk does not take it.
        """
        for name, part in self.splits.items():
            tokens, lengths = batch.of(name)
            part.tokens.append(tokens)
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
            progress = {"source": self.source, "documents": self.documents, "text_bytes": self.text_bytes}
            write_durably(self.folder / "progress.json", json.dumps(progress | self.contents()).encode())
        except OSError as error:
            raise self._failed(error) from None

    def _shard(self, name: str, part: _Open) -> None:
        stem = f"{name}-{len(part.shards):05d}"
        tokens = np.concatenate(part.tokens, dtype=self.dtype)
        ends = np.cumsum(np.concatenate(part.lengths))
        starts = np.concatenate(([0], ends[:-1])).astype("<u8")
        write_durably(self.folder / f"{stem}.bin", tokens.data)
        write_durably(self.folder / f"{stem}.starts", starts.data)
        part.shards.append({
            "file": f"{stem}.bin", "tokens": len(tokens), "documents": len(starts),
            "sha256": hashlib.sha256(tokens.data).hexdigest(),
        })  # fmt: skip
        part.tokens, part.lengths, part.pending = [], [], 0

    def contents(self) -> dict[str, Any]:
        """What of each split is in shards, as `store.json` says it."""
        return {"splits": {name: {"shards": p.shards, "spans": p.spans} for name, p in self.splits.items()}}

    def count(self, split: str) -> int:
        """Documents of a split so far."""
        return sum(span["documents"] for span in self.splits[split].spans)

    def finish(self, folder: Path, facts: dict[str, Any]) -> None:
        """Name the work `folder`: from now on it is a store.

        Raises:
            RunError: when the disk does not take it.
        """
        self.flush()
        facts = {**facts, "text_bytes": self.text_bytes, **self.contents()}
        try:
            write_durably(self.folder / "store.json", json.dumps(facts, indent=2).encode())
            (self.folder / "progress.json").unlink()
            self.folder.replace(folder)
            _sync_folder(folder.parent)
        except OSError as error:
            raise self._failed(error) from None

    def _failed(self, error: OSError) -> RunError:
        return RunError(
            f"the shards cannot be written ({error.strerror})", str(self.folder),
            "make room and run the same command again; it goes on where it stopped",
        )  # fmt: skip


def write_durably(path: Path, content: bytes | memoryview) -> None:
    """Write a file so that it is there whole or not at all, even after a power cut."""
    aside = path.with_name(path.name + ".part")
    try:
        with aside.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        aside.replace(path)
        _sync_folder(path.parent)
    except OSError:
        aside.unlink(missing_ok=True)
        raise


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
