"""Examples laid into rows whole, for the stages after pretraining.

Pretraining cuts one long line of text into windows (`batches.py`). An example of instruction
tuning must not be cut: an answer without its question teaches making things up, a question
without its answer teaches nothing. So whole examples share a row, packed by best-fit decreasing
(Johnson 1974, "Fast algorithms for bin packing"; for training, Ding et al. 2024, "Fewer truncations
improve language modeling"), or, where a row must be one example (preference pairs, rollouts), a
batch holds examples of like length, padded to its longest.

Sample i is a pure function of (examples, seed, i). A block is some thousands of examples that
follow each other in the epoch's keyed permutation; it is packed by itself, when it is first asked
for, and its rows are shuffled. So the rows of an epoch are new companies of examples every time,
every stretch of an epoch is a fair draw of long and short, and nothing is stored. What it costs:
each block has its own last, half-filled row; and to know where a block begins, those before it
must be packed, which costs a resumed run about a second for a million examples.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch

from linnet.config import RequestError
from linnet.data.batches import IGNORE, Batch
from linnet.data.examples import Example, Report, TooLong, fit
from linnet.data.order import Permutation

# Instructions of 147 tokens (mean) in rows of 2,048 waste 2.9% at 256 examples a block, 1.0% at 1,024,
# 0.5% at 4,096, 0.35% here and 0.31% at 131,072; one to a row they would waste 93%.
PACKED_BLOCK = 16384
# Batches of 8 instructions are padding for 61% unsorted, 17% at 16 batches a block, 6% here, 3% at 256;
# the fewer, the more the company of an example changes from epoch to epoch.
BUCKETED_BLOCK = 64


def best_fit(lengths: np.ndarray, row_length: int) -> list[np.ndarray]:
    """Rows of example numbers by best-fit decreasing: the longest first, each where the least room is left.

    Equal lengths move together, and rows are found by bisection among the rooms that are left:
    O(n log n), about a second for a million examples.

    Args:
        lengths: [n] places that each example takes, 1..row_length.

    Returns:
        For each row its examples, in rising order.
    """
    if len(lengths) == 0:
        return []
    if lengths.min() < 1 or lengths.max() > row_length:
        raise ValueError(f"lengths are 1 to {row_length}")
    order = np.argsort(-lengths, kind="stable")
    ordered = lengths[order]
    edges = [0, *(np.flatnonzero(np.diff(ordered)) + 1).tolist(), len(order)]
    row_of = np.empty(len(order), dtype=np.int64)
    by_room: dict[int, list[int]] = {}
    rooms: list[int] = []  # the keys of by_room, rising
    rows = 0

    def put(room: int, some: list[int]) -> None:
        if room and some:
            if room not in by_room:
                insort(rooms, room)
            by_room.setdefault(room, []).extend(some)

    for begin, end in pairwise(edges):
        length = int(ordered[begin])
        while begin < end:
            at = bisect_left(rooms, length)
            room = rooms[at] if at < len(rooms) else row_length
            each = room // length  # once in a row, it is the tightest for the next of the same length too
            wanted = -(-(end - begin) // each)
            if at < len(rooms):
                chosen = by_room[room][-wanted:]
                del by_room[room][-wanted:]
                if not by_room[room]:
                    del by_room[room], rooms[at]
            else:
                chosen = list(range(rows, rows + wanted))
                rows += wanted
            count = min(end - begin, each * len(chosen))
            row_of[order[begin : begin + count]] = np.repeat(chosen, each)[:count]
            full, rest = divmod(count, each)
            put(room - each * length, chosen[:full])
            put(room - rest * length, chosen[full:])
            begin += count
    return np.split(np.argsort(row_of, kind="stable"), np.cumsum(np.bincount(row_of))[:-1])


class PackedExamples:
    """Rows of whole examples, epoch after epoch; sample i is row i.

    Each example is a document of its own in its row, with positions from 0; the places left at a
    row's end are one more document, of `pad_id`, with nothing to learn.

    Args:
        too_long: of examples that take more than a row: "refuse" them with an error, "cut" their
            end off, or "drop" them.
        block: how many examples are packed together.

    Raises:
        RequestError: no example is left, or one is too long and these are refused.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        row_length: int,
        seed: int,
        pad_id: int,
        too_long: TooLong = "refuse",
        block: int = PACKED_BLOCK,
    ) -> None:
        self.examples, self.row_length, self.pad_id = examples, row_length, pad_id
        self._fitted = fitted = fit(examples, row_length, too_long)
        self._blocks = _Blocks(len(fitted.kept), block, seed, self._pack)
        self.fingerprint = fitted.fingerprint("packed", row_length, seed, pad_id, block)

    def _pack(self, members: np.ndarray) -> list[np.ndarray]:
        examples = self._fitted.kept[members]
        return [examples[row] for row in best_fit(self._fitted.places[examples], self.row_length)]

    def rows(self, sample: int) -> np.ndarray:
        """Which examples row `sample` holds: document k of the row is the k-th of these."""
        return self._blocks[sample]

    def first(self, epoch: int) -> int:
        """The first sample of an epoch: how many rows all epochs before it have."""
        return self._blocks.first(epoch)

    def batch(self, samples: np.ndarray) -> Batch:
        """The batch of these rows [B], with positions and documents."""
        shape = (len(samples), self.row_length)
        tokens = np.full(shape, self.pad_id, dtype=np.int64)
        targets = np.full(shape, IGNORE, dtype=np.int64)
        positions, documents = np.empty(shape, dtype=np.int64), np.empty(shape, dtype=np.int64)
        along = np.arange(self.row_length)
        for row, sample in enumerate(samples.tolist()):
            members = self.rows(sample)
            ends = np.cumsum(self._fitted.places[members]).tolist()
            begins = [0, *ends]
            for member, begin, end in zip(members.tolist(), begins, ends, strict=False):
                self.examples[member].write(tokens[row, begin:end], targets[row, begin:end])
            for document, (begin, end) in enumerate(zip(begins, [*ends, self.row_length], strict=True)):
                positions[row, begin:end] = along[: end - begin]
                documents[row, begin:end] = document
        laid = [torch.from_numpy(value) for value in (tokens, targets, positions, documents)]
        return Batch(laid[0], laid[1], laid[2], laid[3])

    @property
    def waste(self) -> float:
        """The share of places of the first epoch that hold no token."""
        return self.report().waste

    def report(self, epoch: int = 0) -> Report:
        """What an epoch holds; the rows of two epochs differ by a few."""
        rows = self.first(epoch + 1) - self.first(epoch)
        return self._fitted.report(rows, rows * self.row_length)


class BucketedBatches:
    """Batches of examples of like length, each a row of its own: for preferences and rewards.

    `batches[step]` is padded at its rows' ends to its longest, up to a multiple; rows are documents
    from position 0, so there is no layout. The order of batches is shuffled: no drift from short to long.

    Args:
        examples: with `group` g, examples g·j .. g·j + g-1 belong together (a chosen and a rejected
            answer, say) and are neighbours in one batch.
        batch_size: groups in a batch; one batch of an epoch has fewer when they don't come out even.
        token_budget: or, most places of a batch, padding and all; at least one group of the longest.
        multiple: widths are multiples of this, for kernels that like them, up to `max_length`.
        too_long: as in `PackedExamples`, of more than `max_length` places; of a group, all is dropped.
        block: batches (of the mean size) whose groups are sorted together.

    Raises:
        RequestError: as `PackedExamples`; or the longest group exceeds the token budget.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        max_length: int,
        seed: int,
        pad_id: int,
        *,
        batch_size: int | None = None,
        token_budget: int | None = None,
        group: int = 1,
        multiple: int = 8,
        too_long: TooLong = "refuse",
        block: int = BUCKETED_BLOCK,
    ) -> None:
        if (batch_size is None) == (token_budget is None):
            raise ValueError("a batch has a size or a token budget")
        self.examples, self.max_length, self.pad_id = examples, max_length, pad_id
        self.group, self.multiple = group, multiple
        self.batch_size, self.token_budget = batch_size, token_budget
        self._fitted = fitted = fit(examples, max_length, too_long, group)
        self._longest = fitted.places.reshape(-1, group).max(axis=1)[fitted.kept]  # of each kept group
        widest, mean = (group * self._width(int(v)) for v in (self._longest.max(), self._longest.mean()))
        if token_budget is not None and widest > token_budget:
            raise RequestError(
                f"a token budget of {token_budget:,} is less than the {widest:,} of the longest example",
                "data", "raise the budget or shorten the examples",
            )  # fmt: skip
        size = block * (batch_size or int(token_budget or 0) // mean)
        self._blocks = _Blocks(len(fitted.kept), size, seed, self._cut, unit=batch_size or 1)
        facts = (max_length, seed, pad_id, batch_size, token_budget, group, multiple, block)
        self.fingerprint = fitted.fingerprint("bucketed", *facts)

    def _width(self, longest: int) -> int:
        return min(-(-longest // self.multiple) * self.multiple, self.max_length)

    def _cut(self, members: np.ndarray) -> list[np.ndarray]:
        """Groups of like length: sorted, then cut into batches."""
        steps = -(-self._longest[members] // self.multiple)  # of one width, the permutation's order stays
        members = members[np.argsort(steps, kind="stable")]
        if self.batch_size is not None:
            return np.split(members, range(self.batch_size, len(members), self.batch_size))
        widths = [self._width(longest) for longest in self._longest[members].tolist()]
        edges = [0]
        for place, width in enumerate(widths):
            if (place + 1 - edges[-1]) * self.group * width > int(self.token_budget or 0):
                edges.append(place)
        return np.split(members, edges[1:])

    def rows(self, step: int) -> np.ndarray:
        """Which examples the batch of a step holds, row by row; all of a group together."""
        groups = self._fitted.kept[self._blocks[step]]
        return (groups[:, None] * self.group + np.arange(self.group)).reshape(-1)

    def first(self, epoch: int) -> int:
        """The first step of an epoch: how many batches all epochs before it have."""
        return self._blocks.first(epoch)

    def __getitem__(self, step: int) -> Batch:
        rows = self.rows(step)
        places = self._fitted.places[rows].tolist()
        shape = (len(rows), self._width(max(places)))
        tokens = np.full(shape, self.pad_id, dtype=np.int64)
        targets = np.full(shape, IGNORE, dtype=np.int64)
        for row, (example, end) in enumerate(zip(rows.tolist(), places, strict=True)):
            self.examples[example].write(tokens[row, :end], targets[row, :end])
        return Batch(torch.from_numpy(tokens), torch.from_numpy(targets))

    @property
    def waste(self) -> float:
        """The share of places of the first epoch that are padding."""
        return self.report().waste

    def report(self, epoch: int = 0) -> Report:
        """What an epoch holds; it is walked through, batch by batch, without its tokens."""
        steps = range(self.first(epoch), self.first(epoch + 1))
        shapes = [(len(rows), self._fitted.places[rows].max()) for rows in map(self.rows, steps)]
        places = sum(rows * self._width(int(longest)) for rows, longest in shapes)
        return self._fitted.report(sum(rows for rows, _ in shapes), places)


class _Blocks:
    """Groups (rows, batches) of members 0..count-1, made block by block and numbered through all epochs.

    Args:
        size: about how many members a block has; the blocks of an epoch are alike in size.
        make: groups of a block's members; shuffled afterwards.
        unit: blocks have multiples of this many members, but for an epoch's last.
    """

    def __init__(
        self,
        count: int,
        size: int,
        seed: int,
        make: Callable[[np.ndarray], list[np.ndarray]],
        unit: int = 1,
    ) -> None:
        self.count, self.seed, self.unit, self._make = count, seed, unit, make
        self.per_epoch = -(-count // size)
        self._begins = [0]  # the number of each block's first group, as far as known
        self._kept: dict[int, list[np.ndarray]] = {}
        self._lock = threading.Lock()  # batches are made by several threads

    def __getitem__(self, number: int) -> np.ndarray:
        if number < 0:
            raise IndexError(number)
        with self._lock:
            while self._begins[-1] <= number:
                self._reach(len(self._begins))
            block = bisect_right(self._begins, number) - 1
            return self._block(block)[number - self._begins[block]]

    def first(self, epoch: int) -> int:
        with self._lock:
            self._reach(epoch * self.per_epoch)
            return self._begins[epoch * self.per_epoch]

    def _reach(self, block: int) -> None:
        while len(self._begins) <= block:
            self._begins.append(self._begins[-1] + len(self._block(len(self._begins) - 1)))

    def _block(self, number: int) -> list[np.ndarray]:
        if number not in self._kept:
            while len(self._kept) >= 4:  # a few steps, made ahead, may lie on both sides of a border
                del self._kept[next(iter(self._kept))]
            self._kept[number] = self._shuffled(*divmod(number, self.per_epoch))
        return self._kept[number]

    def _shuffled(self, epoch: int, block: int) -> list[np.ndarray]:
        units = -(-self.count // self.unit)
        begin, end = (min(self.count, units * b // self.per_epoch * self.unit) for b in (block, block + 1))
        groups = self._make(Permutation(self.count, self.seed, epoch)(np.arange(begin, end)))
        if not groups:
            return []
        order = Permutation(len(groups), self.seed, epoch, block)(np.arange(len(groups)))
        return [groups[place] for place in order.tolist()]
