"""What the tests of stores look at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from linnet.data.opening import _Opening, open_corpus
from linnet.data.settings import DataSettings
from linnet.data.shards import tokenising, writing
from linnet.data.shards.progress import Progress, silent
from linnet.data.shards.store import Split, Store
from linnet.data.shards.tokenising import HeldOut
from linnet.text import Tokenizer


def documents_of(split: Split, eos_id: int) -> list[tuple[int, ...]]:
    tokens = split.read(0, split.tokens)
    assert tokens[-1] == eos_id
    parts = np.split(tokens, np.flatnonzero(tokens == eos_id) + 1)[:-1]
    return [tuple(part[:-1].tolist()) for part in parts]


def texts_of(split: Split, tokenizer: Tokenizer) -> list[str]:
    return [tokenizer.decode(ids) for ids in documents_of(split, tokenizer.eos_id)]


def contents(folder: Path, root: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many shards and many batches from little text."""
    monkeypatch.setattr(writing, "SHARD_TOKENS", 1500)
    monkeypatch.setattr(tokenising, "BATCH_CHARACTERS", 900)
    monkeypatch.setattr(tokenising, "_RUNS_BEFORE_PROCESSES", 8)


@dataclass(frozen=True)
class Built:
    """The one component of a small corpus."""

    train: Split
    validation: Split
    eos_id: int
    fingerprint: str
    stores: tuple[Store, ...]

    @property
    def folders(self) -> list[Path]:
        """Where its stores lie, one a source."""
        return [store.folder for store in self.stores if store.folder]

    @property
    def bytes(self) -> dict[str, bytes]:
        """Every file of its stores."""
        return {
            name: data for folder in self.folders for name, data in contents(folder, folder.parent).items()
        }

    @property
    def folder(self) -> Path | None:
        """Where the only store lies."""
        (store,) = self.stores
        return store.folder

    @property
    def facts(self) -> dict[str, Any]:
        """What the only store says of itself."""
        (store,) = self.stores
        return store.facts


def build(settings: DataSettings, tokenizer: Tokenizer, progress: Progress = silent) -> Built:
    """Open a data section whose sources are one long text."""
    corpus = open_corpus(settings, tokenizer, progress=progress)
    (component,), (validation,) = corpus.components, corpus.validation.values()
    assert component.split is not None
    return Built(component.split, validation.split, corpus.eos_id, corpus.fingerprint, component.stores)


def keys_of(settings: DataSettings, tokenizer: Tokenizer) -> tuple[str, ...]:
    """The names of the stores that a data section's training sources make."""
    held_out = HeldOut(0.0 if settings.validation_sources else settings.validation_fraction)
    opening = _Opening(settings, tokenizer, 0, silent)
    return tuple(opening._task(source, held_out).folder.name for source in settings.sources)
