"""Shards being written: documents in, whole files out, resumable at every finished shard.

A shard is written under a temporary name, synced and renamed; then `progress.json` says from
which row reading goes on. A build that is killed goes on from there and ends in the same
bytes as one that was not.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from linnet.config import RunError
from linnet.data.shards.store import SPLITS
from linnet.data.shards.tokenising import Tokenised
from linnet.data.sources.documents import Tally
from linnet.storage import write_durably

SHARD_TOKENS = 64 * 1024 * 1024


@dataclass
class _Open:
    """What of a split is not yet in a shard, and what is."""

    tokens: list[np.ndarray] = field(default_factory=list)
    lengths: list[np.ndarray] = field(default_factory=list)
    pending: int = 0
    documents: int = 0
    shards: list[dict[str, Any]] = field(default_factory=list)


class ShardWriter:
    """Writes the two splits of a piece of a store into its folder, or goes on with one.

    `file` and `row` say where to go on reading, `documents` how many are in, `tally` what was left out
    up to there. `finished` says that there is nothing left to do.
    """

    def __init__(self, folder: Path, dtype: np.dtype, shard_tokens: int = SHARD_TOKENS) -> None:
        self.folder, self.dtype, self.shard_tokens = folder, dtype, shard_tokens
        self.splits = {name: _Open() for name in SPLITS}
        self.file, self.row, self.documents, self.text_bytes = 0, 0, 0, 0
        self.tally, self.finished = Tally(), (folder / PIECE).exists()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if self.finished:  # it may have been killed before it tidied up
                (folder / "progress.json").unlink(missing_ok=True)
            else:
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
        self.file, self.row, self.documents = progress["file"], progress["row"], progress["documents"]
        self.text_bytes, self.tally = progress["text_bytes"], Tally(**progress["tally"])
        self.splits = {
            name: _Open(shards=parts[name]["shards"], documents=parts[name]["documents"]) for name in SPLITS
        }

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
            part.documents += len(lengths)
        self.documents += len(batch.lengths)
        self.text_bytes += int(batch.text_bytes.sum())
        self.file, self.row, self.tally = int(batch.files[-1]), int(batch.rows[-1]) + 1, batch.tally
        if sum(part.pending for part in self.splits.values()) >= self.shard_tokens:
            self.flush()

    def flush(self) -> None:
        """Write what is pending as shards, then the place from which an interrupted build goes on."""
        try:
            for name, part in self.splits.items():
                if part.pending:
                    self._shard(name, part)
            progress = {"file": self.file, "row": self.row, **self._contents()}
            write_durably(self.folder / "progress.json", json.dumps(progress).encode())
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

    def _contents(self) -> dict[str, Any]:
        splits = {name: {"shards": p.shards, "documents": p.documents} for name, p in self.splits.items()}
        counts = {"documents": self.documents, "text_bytes": self.text_bytes, "tally": asdict(self.tally)}
        return {**counts, "splits": splits}

    def finish(self, tally: Tally) -> None:
        """Say that the piece is whole, and what was left out of it.

        Raises:
            RunError: when the disk does not take it.
        """
        self.tally = tally
        self.flush()
        try:
            write_durably(self.folder / PIECE, json.dumps(self._contents()).encode())
            (self.folder / "progress.json").unlink(missing_ok=True)
        except OSError as error:
            raise self._failed(error) from None
        self.finished = True

    def _failed(self, error: OSError) -> RunError:
        return cannot_write(self.folder, error)


PIECE = "piece.json"


def cannot_write(folder: Path, error: OSError) -> RunError:
    """What to say when the disk does not take shards."""
    return RunError(
        f"the shards cannot be written ({error.strerror})", str(folder),
        "make room and run the same command again; it goes on where it stopped",
    )  # fmt: skip
