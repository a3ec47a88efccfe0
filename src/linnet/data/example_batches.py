"""Examples as the batches of a stage: what the loop is given after pretraining.

Which examples share a row or a batch is said in `packing.py`; here steps are counted, passes told, and each
row gets what an objective needs besides its tokens. Held-out examples are batched here too, the same ones at
every evaluation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from linnet.config import Length
from linnet.data.ahead import made_ahead
from linnet.data.batches import IGNORE, Batch, spread
from linnet.data.examples import Example
from linnet.data.packing import BucketedBatches, PackedExamples

_WIDTH = 8  # widths of held-out batches are multiples of this


class ExampleBatches:
    """What packed and bucketed examples have in common.

    Args:
        title: of the data, in messages and metrics.
        first: the number of an epoch's first step. A step of packed rows may lie on both sides of it.
    """

    def __init__(self, title: str, fingerprint: str) -> None:
        self.title, self._fingerprint = title, fingerprint
        self._edges = [0]  # the first steps of the epochs that have been asked for

    def __getitem__(self, step: int) -> Batch:
        raise NotImplementedError

    def first(self, epoch: int) -> int:
        """The step at which an epoch begins; how many steps that many epochs take."""
        raise NotImplementedError

    def steps(self, duration: Length, tokens_per_step: int) -> int:
        """A duration in optimizer steps; a part of an epoch as that part of its steps."""
        if duration.unit != "epochs":
            return duration.steps(tokens_per_step, 0)
        whole = int(duration.amount)
        begin = self.first(whole)
        part = duration.amount - whole
        return max(1, begin + (round(part * (self.first(whole + 1) - begin)) if part else 0))

    def stream(
        self, start: int, stop: int, workers: int = 0, pin: bool = False
    ) -> Generator[Batch, None, None]:
        """See Batches."""
        return made_ahead(self.__getitem__, range(start, stop), workers, pin)

    def stop_when(self, interrupted: Callable[[], bool]) -> None:
        """Nothing is ever waited for."""

    def fingerprint(self, step: int) -> str:
        """What decides every sample, the examples' tokens apart."""
        return self._fingerprint

    def state(self, step: int) -> dict[str, Any]:
        """Nothing: a batch is computed from its step."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Nothing to take in."""

    def passes(self, step: int) -> dict[str, float]:
        """Epochs after a step."""
        while self._edges[-1] <= step:
            self._edges.append(self.first(len(self._edges)))
        epoch = int(np.searchsorted(self._edges, step, side="right")) - 1
        begin, end = self._edges[epoch : epoch + 2]
        return {self.title: epoch + (step - begin) / (end - begin)}

    def news(self, before: int, after: int) -> list[str]:
        """Nothing: that examples are learned more than once is how these stages are."""
        return []


class PackedBatches(ExampleBatches):
    """`batch_size` packed rows a step."""

    def __init__(self, title: str, rows: PackedExamples, batch_size: int) -> None:
        super().__init__(title, _digest(rows.fingerprint, batch_size))
        self.rows, self.batch_size = rows, batch_size

    def __getitem__(self, step: int) -> Batch:
        return self.rows.batch(np.arange(step * self.batch_size, (step + 1) * self.batch_size))

    def first(self, epoch: int) -> int:
        """See ExampleBatches."""
        return -(-self.rows.first(epoch) // self.batch_size)


class GroupBatches(ExampleBatches):
    """Groups of examples (pairs), each example a row of its own.

    Args:
        columns: further values of each example [n, ...], by their name in the batch.
    """

    def __init__(
        self, title: str, groups: BucketedBatches, columns: Mapping[str, Tensor] | None = None
    ) -> None:
        super().__init__(title, groups.fingerprint)
        self.groups, self.columns = groups, dict(columns or {})

    def __getitem__(self, step: int) -> Batch:
        rows = torch.from_numpy(self.groups.rows(step))
        columns = {name: values[rows] for name, values in self.columns.items()}
        return replace(self.groups[step], columns=columns, group=self.groups.group)

    def first(self, epoch: int) -> int:
        """See ExampleBatches."""
        return self.groups.first(epoch)


class HeldOutExamples:
    """Held-out examples, each a row, those of like length together.

    Args:
        group: so many neighbours belong together.
        columns: see GroupBatches.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        pad_id: int,
        group: int = 1,
        columns: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.examples, self.pad_id, self.group = examples, pad_id, group
        self.columns = dict(columns or {})

    def batches(self, size: int, limit: int | None = None) -> Iterator[Batch]:
        """Batches of `size` groups; at most `limit` groups, evenly spread."""
        places = np.array([example.places for example in self.examples]).reshape(-1, self.group).max(axis=1)
        chosen = np.concatenate([np.empty(0, np.int64), *spread(len(places), len(places), limit)])
        ordered = chosen[np.argsort(places[chosen], kind="stable")]
        for begin in range(0, len(ordered), size):
            yield self._batch(ordered[begin : begin + size])

    def _batch(self, groups: np.ndarray) -> Batch:
        rows = (groups[:, None] * self.group + np.arange(self.group)).reshape(-1)
        some = [self.examples[row] for row in rows.tolist()]
        width = -(-max(example.places for example in some) // _WIDTH) * _WIDTH
        batch = padded(some, width, self.pad_id)
        index = torch.from_numpy(rows)
        return replace(batch, group=self.group, columns={n: v[index] for n, v in self.columns.items()})


class HeldOutPacked:
    """Held-out examples in packed rows, as in training: every batch has the same shape, so it is compiled once."""

    def __init__(self, rows: PackedExamples) -> None:
        self.rows = rows

    def batches(self, size: int, limit: int | None = None) -> Iterator[Batch]:
        """Batches of `size` rows, the last filled up with rows of which nothing is counted."""
        for chosen in spread(self.rows.first(1), size, limit):
            batch = self.rows.batch(np.resize(chosen, size))
            batch.targets[len(chosen) :] = IGNORE
            yield batch


def padded(examples: Sequence[Example], width: int, pad_id: int) -> Batch:
    """Examples as rows of `width` places, filled up on the right."""
    tokens = np.full((len(examples), width), pad_id, dtype=np.int64)
    targets = np.full((len(examples), width), IGNORE, dtype=np.int64)
    for row, example in enumerate(examples):
        example.write(tokens[row, : example.places], targets[row, : example.places])
    return Batch(torch.from_numpy(tokens), torch.from_numpy(targets))


def digest_of_examples(*parts: Sequence[Example]) -> str:
    """What decides every token of the examples, and which are learned."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        for example in part:
            digest.update(len(example.tokens).to_bytes(8, "little"))
            digest.update(example.tokens.astype("<i8").tobytes())
            digest.update(example.learned.tobytes())
    return digest.hexdigest()


def _digest(*facts: object) -> str:
    return hashlib.sha256(repr(facts).encode()).hexdigest()
