"""What the tests of stores look at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from linnet.data.shards import tokenising, writing
from linnet.data.shards.store import Split
from linnet.text import Tokenizer


def documents_of(split: Split, eos_id: int) -> list[tuple[int, ...]]:
    tokens = split.read(0, split.tokens)
    assert tokens[-1] == eos_id
    parts = np.split(tokens, np.flatnonzero(tokens == eos_id) + 1)[:-1]
    return [tuple(part[:-1].tolist()) for part in parts]


def texts_of(split: Split, tokenizer: Tokenizer) -> list[str]:
    return [tokenizer.decode(ids) for ids in documents_of(split, tokenizer.eos_id)]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many shards and many batches from little text."""
    monkeypatch.setattr(writing, "SHARD_TOKENS", 1500)
    monkeypatch.setattr(tokenising, "BATCH_CHARACTERS", 900)
