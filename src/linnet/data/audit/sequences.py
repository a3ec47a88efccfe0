"""The samples themselves, as training reads them: the same for every reader, and none of them twice.

Every way of reading is gone through at once, step by step: each number of workers, each number of
ranks. What one of them would do wrong in a run (a worker that repeats a batch, ranks that overlap)
shows as a sample that differs from the first reader's or that came before.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from linnet.data.audit.hashing import drawn, place_in
from linnet.data.batches import IGNORE, Batch
from linnet.data.order import mixed
from linnet.data.training import Part, TrainBatches

WORKERS = (0, 1, 4, 8)
RANKS = (1, 2, 3)
_SHOWN = 3
_PLACED = 1000  # repeated samples whose place is looked up

Reopen = Callable[[Part], TrainBatches]


@dataclass
class Reader:
    """One way of reading: batches by that many workers, as the parts of that many ranks."""

    workers: int
    ranks: int
    streams: list[Generator[Batch, None, None]]
    hashes: list[np.ndarray] = field(default_factory=list)

    def step(self) -> list[Batch]:
        """The parts of the next batch; fewer when the sources are used up."""
        found = (next(stream, None) for stream in self.streams)
        parts = [batch for batch in found if batch is not None]
        self.hashes += [_hashes(part) for part in parts]
        return parts

    @property
    def samples(self) -> np.ndarray:
        """A hash for each sample read so far."""
        return np.concatenate([np.empty(0, np.uint64), *self.hashes])


@dataclass
class Served:
    """What the first samples hold.

    places: of all sequences, counted or not. targets, documents: by component; a document that goes on in
    a second sequence counts in both.
    """

    samples: int = 0
    places: int = 0
    targets: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    documents: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    def add(self, batch: Batch, sources: np.ndarray, opening: Sequence[int | None]) -> None:
        """Take in a batch, whose rows come from these sources; `opening`: the tokens that open a document."""
        tokens, counted = batch.tokens.numpy(), batch.targets.numpy() != IGNORE
        opened = np.isin(tokens, [token for token in opening if token is not None]) & counted
        documents = opened.sum(axis=1) + (counted[:, 0] & ~opened[:, 0])
        np.add.at(self.targets, sources, counted.sum(axis=1))
        np.add.at(self.documents, sources, documents)
        self.samples += len(tokens)
        self.places += tokens.size


def read_samples(
    train: TrainBatches, reopen: Reopen, steps: int, told: Callable[[int], None]
) -> tuple[dict[str, Any], Served]:
    """Read the batches of the first steps in every way, and compare.

    Args:
        reopen: makes the batches of a part of the ranks.
        told: of every step that was read.
    """
    readers = [Reader(n, 1, [train.stream(0, steps, n)]) for n in WORKERS]
    for ranks in RANKS[1:]:
        if ranks <= train.batch_size:
            parts = [reopen((rank, ranks)) for rank in range(ranks)]
            readers.append(Reader(0, ranks, [part.stream(0, steps) for part in parts]))
    kinds = len(train.sources)
    served = Served(targets=np.zeros(kinds, np.int64), documents=np.zeros(kinds, np.int64))
    try:
        for step in range(steps):
            found = [reader.step() for reader in readers]
            if not any(found):
                break
            for batch in found[0]:
                sources, _ = train.mixture.locate(train.samples(step))
                served.add(batch, sources, (train.eos_id, train.bos_id))
            told(step + 1)
    finally:
        for reader in readers:
            for stream in reader.streams:
                stream.close()
    return _compared(train, readers, served.samples), served


def _compared(train: TrainBatches, readers: list[Reader], count: int) -> dict[str, Any]:
    epochs = _epochs(train, count)
    first = readers[0].samples
    again, before = _repeated(first, epochs)
    known, times = np.unique(np.delete(first, again), return_counts=True)  # as often as epochs have it
    rows = []
    for reader in readers:
        hashes = reader.samples
        both = min(len(hashes), len(first))
        different = int(np.count_nonzero(hashes[:both] != first[:both])) + abs(len(hashes) - len(first))
        repeated = _too_often(hashes, known, times)
        rows.append({
            "workers": reader.workers, "ranks": reader.ranks, "samples": len(hashes),
            "different": different, "repeated": repeated, "share": repeated / max(1, len(hashes)),
        })  # fmt: skip
    return {
        "samples": count,
        "steps": -(-count // train.batch_size),
        "share": max(row["share"] for row in rows),
        "different": max(row["different"] for row in rows),
        "readers": rows,
        **_places(train, again, before),
    }


def _too_often(hashes: np.ndarray, known: np.ndarray, times: np.ndarray) -> int:
    """How many samples came before, beyond the `times` that each of the known ones may come."""
    found, counts = np.unique(hashes, return_counts=True)
    places = place_in(found, known)
    allowed = np.where(places >= 0, times[places], 1) if len(times) else np.ones_like(counts)
    return int(np.maximum(0, counts - allowed).sum())


def _repeated(hashes: np.ndarray, epochs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Samples that are like an earlier one of the same source and epoch, and which one."""
    keys = mixed(hashes ^ epochs)
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    earlier = first[inverse]
    again = np.flatnonzero(earlier != np.arange(len(keys)))
    return again, earlier[again]


def _epochs(train: TrainBatches, count: int) -> np.ndarray:
    """A number for the source and epoch of each of the first samples [count]."""
    if not count:
        return np.empty(0, np.uint64)
    sources, indices = train.mixture.locate(np.arange(count))
    epochs = np.zeros_like(indices)
    for number, source in enumerate(train.sources):
        here = sources == number
        if (one := source.passes(1)) is not None:
            epochs[here] = indices[here] // round(1 / one)
    return drawn(epochs * len(train.sources) + sources)


def _places(train: TrainBatches, again: np.ndarray, before: np.ndarray) -> dict[str, Any]:
    """Whether what is repeated is the same part of the text, or another that reads the same."""
    same = 0
    examples: list[dict[str, Any]] = []
    for sample, earlier in zip(again[:_PLACED].tolist(), before[:_PLACED].tolist(), strict=True):
        places = train.place(earlier), train.place(sample)
        same += places[0] == places[1]
        if len(examples) < _SHOWN:
            windows = [place.window for place in places]
            examples.append({"samples": [earlier, sample], "source": places[1].source, "windows": windows})
    return {"same_place": same, "examples": examples}


def _hashes(batch: Batch) -> np.ndarray:
    """A hash of each row's inputs and targets [rows], uint64."""
    length = batch.tokens.shape[1]
    weights = drawn(np.arange(2 * length)) | np.uint64(1)
    tokens, targets = (part.numpy().view(np.uint64) for part in (batch.tokens, batch.targets))
    return mixed(tokens @ weights[:length] + targets @ weights[length:])
