"""`batches[step]`: what a step learns from, a pure function of (data, seed, step).

Batches are made ahead by threads, not processes: a batch is a few milliseconds of copying
from mapped files, most of it outside the interpreter's lock, and a thread cannot be left
behind, be ended by a scheduler's signal to all processes, or run out of shared memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Sequence
from typing import Any

import numpy as np

from linnet.data.ahead import made_ahead
from linnet.data.batches import Batch, Windows, collate
from linnet.data.mixture import Mixture, exactly
from linnet.data.sequences import Place, Sequences, WholeSequences

Part = tuple[int, int]
"""(rank, ranks): which rows of every batch a reader makes."""


class TrainBatches:
    """The samples step·B .. (step+1)·B of a mixture.

    Args:
        sources: what the mixture draws from, in its order.
        length, eos_id, document_mask, bos_id: see Windows.
        part: the rows of each batch that are made here; the ranks' parts, one after the other, are the batch.
    """

    def __init__(
        self, sources: Sequence[Sequences], mixture: Mixture, batch_size: int, length: int, eos_id: int,
        document_mask: bool, part: Part = (0, 1), bos_id: int | None = None,
    ) -> None:  # fmt: skip
        self.sources, self.mixture, self.batch_size = sources, mixture, batch_size
        self.length, self.eos_id, self.document_mask, self.bos_id = length, eos_id, document_mask, bos_id
        rank, ranks = part
        self._rows = slice(rank * batch_size // ranks, (rank + 1) * batch_size // ranks)

    @classmethod
    def over(cls, windows: Windows, batch_size: int, seed: int) -> TrainBatches:
        """Batches of one split."""
        whole = WholeSequences("data", windows, (seed,))
        mixture = Mixture([(0, [exactly(1)])], seed)
        layout = (windows.length, windows.eos_id, windows.document_mask)
        return cls([whole], mixture, batch_size, *layout, bos_id=windows.bos_id)

    def samples(self, step: int) -> np.ndarray:
        """Global sample numbers of a step's rows here [B], or less than B where there are several parts."""
        return np.arange(step * self.batch_size, (step + 1) * self.batch_size)[self._rows]

    def tokens(self, samples: np.ndarray) -> list[np.ndarray]:
        """First input and targets of each global sample: at most length + 1 ids.

        Raises:
            IndexError: when the sources are used up before.
            LinnetError: when a streamed source cannot be read.
        """
        sources, indices = self.mixture.locate(samples)
        rows: list[np.ndarray] = [np.empty(0)] * len(samples)
        self._prepare(sources, indices)
        for source in np.unique(sources).tolist():
            here = np.flatnonzero(sources == source)
            for place, row in zip(here.tolist(), self.sources[source].tokens(indices[here]), strict=True):
                rows[place] = row
        return rows

    def _prepare(self, sources: np.ndarray, indices: np.ndarray) -> None:
        """Have all sources at work before one of them is waited for."""
        for source, first in zip(*np.unique(sources, return_index=True), strict=True):
            self.sources[source].prepare(int(indices[first]))

    def place(self, sample: int) -> Place:
        """Where a global sample lies."""
        (source,), (index,) = self.mixture.locate(np.array([sample]))
        return self.sources[source].place(int(index))

    def __getitem__(self, step: int) -> Batch:
        last = (step + 1) * self.batch_size - 1
        self.mixture.locate(np.array([last]))  # a step is had whole or not at all
        rows = self.tokens(self.samples(step))
        return collate(rows, self.length, self.eos_id, self.document_mask, self.bos_id)

    def fingerprint(self, step: int) -> str:
        """What decides the tokens of all samples before a step, the sources' bytes apart."""
        titles = [source.title for source in self.sources] if len(self.sources) > 1 else []
        bos = () if self.bos_id is None else (self.bos_id,)
        layout = (self.length, self.eos_id, self.document_mask, titles, *bos)
        mixed = self.mixture.fingerprint(step * self.batch_size)
        return hashlib.sha256(repr((layout, mixed)).encode()).hexdigest()

    def state(self, step: int) -> dict[str, Any]:
        """What a run that is resumed at a step needs to find its samples in an empty cache."""
        served = self.mixture.served(step * self.batch_size)
        states = {s.title: s.state(index) for s, index in zip(self.sources, served, strict=True)}
        return {title: state for title, state in states.items() if state is not None}

    def restore(self, state: dict[str, Any]) -> None:
        """Take in what `state` gave."""
        for source in self.sources:
            source.restore(state.get(source.title))

    def stop_when(self, interrupted: Callable[[], bool]) -> None:
        """End every waiting for a source with an error once this is true: a stop must not wait for a network."""
        for source in self.sources:
            source.stop_when(interrupted)

    def passes(self, step: int) -> dict[str, float]:
        """How often each source has been passed after a step, where its size is known."""
        served = self.mixture.served(step * self.batch_size)
        found = ((s.title, s.passes(count)) for s, count in zip(self.sources, served, strict=True))
        return {title: passes for title, passes in found if passes is not None}

    def news(self, before: int, after: int) -> list[str]:
        """What a person should know of the data of the steps from `before` to `after`, a line each."""
        then, now = self.passes(before), self.passes(after)
        lines = [
            f"{title} is used up and begins pass {int(passes) + 1}"
            for title, passes in now.items()
            if int(passes) > int(then.get(title, 0)) and self.mixture.when_exhausted == "repeat"
        ]
        for sample, weights in self.mixture.changes(after * self.batch_size):
            if before * self.batch_size <= sample:
                parts = zip((source.title for source in self.sources), weights, strict=True)
                shares = ", ".join(f"{title} {100 * weight:.4g}%" for title, weight in parts)
                lines.append(f"from sample {sample:,} on the mixture is {shares}")
        return lines

    def stream(
        self, start: int, stop: int, workers: int = 0, pin: bool = False
    ) -> Generator[Batch, None, None]:
        """Batches of steps start..stop, made ahead by `workers` threads (0: here, when asked for).

        Ends early when the sources are used up. Closing the iterator, or leaving it, ends the threads.

        Args:
            pin: put them in page-locked memory; for CUDA devices.
        """
        first = start * self.batch_size
        weights, served = self.mixture.weights_at(first), self.mixture.served(first)
        for source, weight, index in zip(self.sources, weights, served, strict=True):
            if weight:
                source.prepare(index)
        yield from made_ahead(self._made, range(start, stop), workers, pin)

    def _made(self, step: int) -> Batch | None:
        try:
            return self[step]
        except IndexError:
            return None
