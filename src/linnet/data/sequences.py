"""The training sequences of one source, in the order they are served, epoch after epoch.

A source that was built whole is one long line of tokens, cut into windows that a keyed permutation
visits in any order. A streamed source is known only shard by shard, so its windows are permuted
within each shard; shards follow each other. Both are pure functions of (data, seed, index).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from linnet.config import RequestError
from linnet.data.batches import Windows
from linnet.data.order import Order, Permutation
from linnet.data.shards.stream import Stream
from linnet.data.shards.stream_folder import Facts


@dataclass(frozen=True)
class Place:
    """Where a sequence lies. shard: of a stream. window: in the split, or in the shard. source: its title."""

    source: str
    epoch: int
    window: int
    of: int
    shard: int | None = None


class Sequences(Protocol):
    """What a mixture draws from."""

    title: str

    def tokens(self, indices: np.ndarray) -> list[np.ndarray]:
        """First input and targets of each of the sequences [n]: at most length + 1 ids."""
        ...

    def prepare(self, index: int) -> None:
        """Have made ready, without waiting, what a sequence that will soon be asked for lies in."""
        ...

    def limit(self, count: int) -> int | None:
        """None when there are `count` sequences, within the passes that are allowed; else how many there are.

        May wait until it is known.
        """
        ...

    def expect(self, count: int) -> None:
        """Be told how many sequences the run will take, so that no more are made ready."""
        ...

    def passes(self, served: int) -> float | None:
        """How often the source has been passed after that many sequences, where its size is known."""
        ...

    def place(self, index: int) -> Place:
        """Where a sequence lies."""
        ...

    def state(self, index: int) -> dict[str, Any] | None:
        """What is needed to go on at a sequence with an empty cache; None when nothing is."""
        ...

    def restore(self, state: dict[str, Any] | None) -> None:
        """Take in what `state` gave."""
        ...

    def stop_when(self, interrupted: Callable[[], bool]) -> None:
        """End every waiting with an error once this is true."""
        ...


class WholeSequences:
    """The windows of a split, permuted anew in each epoch.

    Args:
        key: of the permutations, besides the epoch.
    """

    def __init__(self, title: str, windows: Windows, key: tuple[int, ...], epochs: int = 1) -> None:
        self.title, self.windows, self.epochs = title, windows, epochs
        self.count = windows.count
        if windows.split.tokens < windows.length:
            raise RequestError(
                f"the training part has {windows.split.tokens} tokens, fewer than one sequence of "
                f"{windows.length}", title, "add text or shorten sequence_length",
            )  # fmt: skip
        self.order = Order(self.count, *key)

    def tokens(self, indices: np.ndarray) -> list[np.ndarray]:
        """See Sequences."""
        return self.windows.rows(self.order(indices))

    def prepare(self, index: int) -> None:
        """See Sequences."""

    def limit(self, count: int) -> int | None:
        """See Sequences."""
        return None if count <= self.epochs * self.count else self.epochs * self.count

    def expect(self, count: int) -> None:
        """See Sequences."""

    def passes(self, served: int) -> float | None:
        """See Sequences."""
        return served / self.count

    def place(self, index: int) -> Place:
        """See Sequences."""
        window = int(self.order(np.array([index]))[0])
        source = self.windows.split.source_at(window * self.windows.length)
        return Place(source, index // self.count, window, self.count)

    def state(self, index: int) -> dict[str, Any] | None:
        """See Sequences."""
        return None

    def restore(self, state: dict[str, Any] | None) -> None:
        """See Sequences."""

    def stop_when(self, interrupted: Callable[[], bool]) -> None:
        """See Sequences."""


class StreamedSequences:
    """The windows of a stream's shards; each token is a target once an epoch.

    Args:
        stream: whose shards hold a whole number of windows.
        key: of the permutations, besides epoch and shard.
    """

    def __init__(
        self, title: str, stream: Stream, length: int, key: tuple[int, ...], epochs: int = 1
    ) -> None:
        self.title, self.stream, self.length, self.key, self.epochs = title, stream, length, key, epochs
        self.per_shard = stream.shard_tokens // length
        self._sure = 0  # sequences that there are, as far as was looked
        self._order = lru_cache(maxsize=8)(self._new_order)

    def _count(self) -> int | None:
        """Windows of an epoch, once the end of the source is known."""
        end = self.stream.end()
        return end and (end[0] - 1) * self.per_shard + -(-end[1] // self.length)

    def _find(self, index: int, count: int | None) -> tuple[int, int, Facts, np.ndarray]:
        """Epoch and place within the epoch of a sequence, and the shard it lies in.

        count: what `_count` gave last; it is asked again, which may read a file, only where the end was met.
        """
        while True:
            epoch, within = divmod(index, count) if count else (0, index)
            found = self.stream.shard(within // self.per_shard)
            if found is not None and within % self.per_shard < self._windows(found[0]):
                return epoch, within, *found
            count = self._count()

    def _windows(self, facts: Facts) -> int:
        return -(-facts.tokens // self.length)

    def _window(self, epoch: int, within: int, facts: Facts) -> int:
        return int(self._order(self._windows(facts), epoch, facts.index)[within % self.per_shard])

    def _new_order(self, windows: int, epoch: int, shard: int) -> np.ndarray:
        return Permutation(windows, *self.key, epoch, shard)(np.arange(windows))

    def tokens(self, indices: np.ndarray) -> list[np.ndarray]:
        """See Sequences."""
        rows, count = [], self._count()
        for index in indices.tolist():
            epoch, within, facts, tokens = self._find(index, count)
            start = self._window(epoch, within, facts) * self.length
            before = tokens[start - 1] if start else facts.start.before
            rows.append(np.concatenate(([before], tokens[start : start + self.length]), dtype=np.int64))
        return rows

    def prepare(self, index: int) -> None:
        """See Sequences."""
        self.stream.prepare(self._within(index) // self.per_shard)

    def limit(self, count: int) -> int | None:
        """See Sequences."""
        known = self._count()
        if known is None:
            if count <= self._sure:  # a shard is not opened, or even made again, to learn this twice
                return None
            found = self.stream.shard((count - 1) // self.per_shard)
            if found is not None and (count - 1) % self.per_shard < self._windows(found[0]):
                self._sure = max(self._sure, count)
                return None
            known = self._count()
            assert known is not None  # a shard that is not full is the last
        return None if count <= self.epochs * known else self.epochs * known

    def expect(self, count: int) -> None:
        """See Sequences."""
        self.stream.until = max(0, count - 1) // self.per_shard

    def passes(self, served: int) -> float | None:
        """See Sequences."""
        count = self._count()
        return served / count if count else None

    def place(self, index: int) -> Place:
        """See Sequences."""
        epoch, within, facts, _ = self._find(index, self._count())
        window = self._window(epoch, within, facts)
        return Place(self.title, epoch, window, self._windows(facts), facts.index)

    def state(self, index: int) -> dict[str, Any] | None:
        """See Sequences."""
        return self.stream.state(self._within(index) // self.per_shard)

    def _within(self, index: int) -> int:
        """The place of a sequence in its epoch, as far as the end is known."""
        count = self._count()
        return index % count if count else index

    def restore(self, state: dict[str, Any] | None) -> None:
        """See Sequences."""
        if state is not None:
            self.stream.restore(state)

    def stop_when(self, interrupted: Callable[[], bool]) -> None:
        """See Sequences."""
        self.stream.interrupted = interrupted
