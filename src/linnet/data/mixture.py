"""Which source global sample i comes from, and which of that source's sequences it is.

Samples come in blocks, and each block holds every source exactly as often as its weight says:
not on average, and not up to a random number generator's mood. Within a block a source's places
are spread evenly, each moved by a keyed hash inside its own interval, so that every batch comes
close to the weights too. All of it is computed from (weights, seed, i) and nothing is stored.

Weights change at the start of a phase, and, when a source that may not repeat runs dry, at the
beginning of the block that it could not fill (of a block of more than SMALL_BLOCK samples, at the
first sample that it lacks): both begin a new stretch of blocks.
"""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from threading import RLock
from typing import Literal

import numpy as np

from linnet.config import RequestError
from linnet.data.order import mixed

LARGEST_BLOCK = 1_000_000  # samples; weights that need a larger one to be exact are refused
SMALL_BLOCK = 10_000  # of which it costs little to look at the whole before the first is served
SMALLEST_BLOCK = 256
_LAID_OUT = 1 << 20  # samples whose places are kept

Exhausted = Literal["repeat", "stop", "reweight"]
Limit = Callable[[int, int], int | None]
"""(source, n) → None when the source is known to have n sequences, or how many it has when fewer."""


def exactly(weight: float) -> Fraction:
    """The decimal fraction that a person wrote: 0.1 is a tenth."""
    return Fraction(str(weight))


def shares(weights: Sequence[float | None]) -> list[Fraction]:
    """Weights as parts of 1; where none is given, what they weigh is one part."""
    if all(weight is None for weight in weights):
        return [Fraction(1)]
    return list(_adding_up([exactly(weight or 0.0) for weight in weights]))


@dataclass(frozen=True)
class Stretch:
    """Blocks of like composition from global sample `start` on.

    counts: samples of each source in a block. before: samples of each source served before `start`.
    """

    start: int
    counts: tuple[int, ...]
    before: tuple[int, ...]
    weights: tuple[Fraction, ...]

    @property
    def size(self) -> int:
        """Samples in a block."""
        return sum(self.counts)


class Mixture:
    """The order in which sources are drawn from.

    Args:
        phases: (first global sample, weights of the sources adding up to 1); the first begins at 0.
        seed: of the places within blocks.
        when_exhausted: what follows when a source has no more sequences.
        limit: asked how many sequences a source may give; may wait until that is known.
    """

    def __init__(
        self,
        phases: Sequence[tuple[int, Sequence[Fraction]]],
        seed: int,
        when_exhausted: Exhausted = "repeat",
        limit: Limit = lambda source, count: None,
    ) -> None:
        self.seed, self.when_exhausted, self._limit = seed, when_exhausted, limit
        self._phases = [(start, tuple(weights)) for start, weights in phases]
        first = self._phases[0][1]
        self.sources = len(first)
        self._stretches = [Stretch(0, block_of(first), (0,) * self.sources, first)]
        largest = max(sum(block_of(weights)) for _, weights in self._phases)
        self._layout = lru_cache(maxsize=max(4, min(64, _LAID_OUT // largest)))(self._laid_out)
        self._lock = RLock()
        self.end: int | None = None  # the first sample that cannot be had, once that is known

    def locate(self, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The source of each of the global samples [n], and which of its sequences, both int64 [n].

        Raises:
            IndexError: for samples from `end` on.
        """
        self._extend(int(samples.max()))
        if self.end is not None and int(samples.max()) >= self.end:
            raise IndexError("the sources are used up")
        if self.sources == 1:
            return np.zeros_like(samples), samples
        sources, indices = np.empty_like(samples), np.empty_like(samples)
        which = np.searchsorted([stretch.start for stretch in self._stretches], samples, side="right") - 1
        for number in np.unique(which).tolist():
            stretch = self._stretches[number]
            blocks, places = np.divmod(samples - stretch.start, stretch.size)
            for block in np.unique(blocks[which == number]).tolist():
                here = (which == number) & (blocks == block)
                drawn, ranks = self._layout(number, block)
                chosen = drawn[places[here]]
                sources[here] = chosen
                passed = np.array(stretch.before) + block * np.array(stretch.counts)
                indices[here] = passed[chosen] + ranks[places[here]]
        return sources, indices

    def served(self, samples: int) -> tuple[int, ...]:
        """How many sequences of each source the first `samples` global samples hold."""
        if samples:
            self._extend(samples - 1)
        return self._before(self._number_at(samples), samples)

    def weights_at(self, sample: int) -> tuple[float, ...]:
        """The weights that hold at a global sample."""
        self._extend(sample)
        return tuple(map(float, self._stretches[self._number_at(sample)].weights))

    def changes(self, until: int) -> list[tuple[int, tuple[float, ...]]]:
        """(global sample, weights from there on) of every change before `until` that is known of."""
        return [(s.start, tuple(map(float, s.weights))) for s in self._stretches[1:] if s.start < until]

    def fingerprint(self, samples: int) -> str:
        """What decides the composition of the first `samples` samples, and of nothing after them."""
        phases = [(start, weights) for start, weights in self._phases if start < max(1, samples)]
        facts: list[object] = [[(start, list(map(str, weights))) for start, weights in phases]]
        facts += [self.seed, self.when_exhausted]
        if any(sum(block_of(weights)) > SMALL_BLOCK for _, weights in phases):
            facts.append("exact")  # they used to be rounded
        return hashlib.sha256(repr(tuple(facts)).encode()).hexdigest()

    def _number_at(self, sample: int) -> int:
        """Which of the stretches that are known a global sample lies in."""
        return bisect_right(self._stretches, sample, key=lambda stretch: stretch.start) - 1

    def _before(self, number: int, sample: int) -> tuple[int, ...]:
        """Samples of each source before a global sample of a stretch."""
        stretch = self._stretches[number]
        block, place = divmod(sample - stretch.start, stretch.size)
        part = np.bincount(self._layout(number, block)[0][:place], minlength=self.sources)
        whole = zip(stretch.before, stretch.counts, part.tolist(), strict=True)
        return tuple(before + block * count + rest for before, count, rest in whole)

    def _extend(self, sample: int) -> None:
        """Begin the stretches that lie before or at a sample."""
        with self._lock:
            self._extend_alone(sample)

    def _extend_alone(self, sample: int) -> None:
        while self.end is None:
            last = self._stretches[-1]
            phase = next((phase for phase in self._phases if phase[0] > last.start), None)
            reach = min(sample, phase[0] - 1) if phase else sample
            asked = self._asked(last, reach)
            dry = self._runs_dry(last, asked)
            if dry is not None:
                self._turn(dry, asked)
            elif phase and phase[0] <= sample:
                self._begin(phase[0], self._without_dry(phase[1], phase[0]))
            else:
                return

    def _asked(self, stretch: Stretch, reach: int) -> tuple[int, ...]:
        """How many sequences each source must have for the samples up to `reach`, the last stretch's.

        A source that is streamed makes them ready to answer that, so of a large block no more than needed.
        """
        if stretch.size > SMALL_BLOCK:
            return self._before(len(self._stretches) - 1, reach + 1)
        blocks = (reach - stretch.start) // stretch.size + 1
        return tuple(
            before + blocks * count for before, count in zip(stretch.before, stretch.counts, strict=True)
        )

    def _runs_dry(self, stretch: Stretch, asked: tuple[int, ...]) -> int | None:
        """The first block in which some source has fewer sequences than are asked of it."""
        if self.when_exhausted == "repeat":
            return None
        first = None
        for source, (before, count) in enumerate(zip(stretch.before, stretch.counts, strict=True)):
            limit = self._limit(source, asked[source]) if asked[source] > before else None
            if limit is not None:
                fills = max(0, limit - before) // count
                first = fills if first is None else min(first, fills)
        return first

    def _turn(self, block: int, asked: tuple[int, ...]) -> None:
        """Stop, or go on without the sources that cannot fill a block."""
        number, last = len(self._stretches) - 1, self._stretches[-1]
        start = last.start + block * last.size
        drawn, ranks = self._layout(number, block)
        rooms = np.array([self._room(last, block, s, asked[s]) for s in range(self.sources)])
        lacking = int(np.argmax(ranks >= rooms[drawn]))
        if self.when_exhausted == "stop":
            self.end = start + lacking
            return
        dry = rooms < last.counts
        if last.size > SMALL_BLOCK:
            start += lacking
            dry = np.arange(self.sources) == drawn[lacking]
        weights = [Fraction(0) if gone else w for gone, w in zip(dry, last.weights, strict=True)]
        if not any(weights):
            self.end = start
        else:
            self._begin(start, _adding_up(weights))

    def _room(self, stretch: Stretch, block: int, source: int, asked: int) -> int:
        """How many of the sequences that a block asks of a source it can give, as far as they are asked for."""
        count = stretch.counts[source]
        passed = stretch.before[source] + block * count
        wanted = min(passed + count, asked)
        limit = self._limit(source, wanted) if wanted > passed else None
        return count if limit is None else max(0, limit - passed)

    def _without_dry(self, weights: tuple[Fraction, ...], start: int) -> tuple[Fraction, ...]:
        """The weights of a new phase without the sources that an earlier one used up."""
        if self.when_exhausted != "reweight":
            return weights
        now = self._stretches[-1].weights
        planned = max((phase for phase in self._phases if phase[0] < start), key=lambda phase: phase[0])[1]
        dry = [not held and bool(wanted) for held, wanted in zip(now, planned, strict=True)]
        kept = [Fraction(0) if gone else weight for gone, weight in zip(dry, weights, strict=True)]
        return _adding_up(kept) if any(kept) else weights

    def _begin(self, start: int, weights: tuple[Fraction, ...]) -> None:
        before = self._before(len(self._stretches) - 1, start)
        fresh = Stretch(start, block_of(weights), before, weights)
        if start == self._stretches[-1].start:
            self._stretches.pop()
            self._layout.cache_clear()
        self._stretches.append(fresh)

    def _laid_out(self, number: int, block: int) -> tuple[np.ndarray, np.ndarray]:
        """The source at each place of a block, and the how-manieth of its source that it is, both [block]."""
        stretch = self._stretches[number]
        sources = np.repeat(np.arange(self.sources), stretch.counts)
        ranks = np.concatenate([np.arange(count) for count in stretch.counts])
        digest = hashlib.blake2b(repr((self.seed, stretch.start, block)).encode(), digest_size=8).digest()
        key = np.uint64(int.from_bytes(digest, "little"))
        jitter = mixed(np.arange(stretch.size, dtype=np.uint64) ^ key).astype(np.float64) / 2.0**64
        order = np.argsort((ranks + jitter) / np.array(stretch.counts)[sources], kind="stable")
        return sources[order], ranks[order]  # ranks grow with places: jitter stays inside its interval


def _adding_up(weights: Sequence[Fraction]) -> tuple[Fraction, ...]:
    total = sum(weights, Fraction(0))
    return tuple(weight / total for weight in weights)


def least_block(weights: Sequence[Fraction]) -> int:
    """The fewest samples that can hold each source exactly as often as its weight says."""
    return math.lcm(*(weight.denominator for weight in weights))


def block_of(weights: Sequence[Fraction]) -> tuple[int, ...]:
    """How many samples of each source a block holds.

    Raises:
        RequestError: when the weights need a block of more than LARGEST_BLOCK samples.
    """
    size = least_block(weights)
    if size > LARGEST_BLOCK:
        raise RequestError(too_fine(size), "weights", FEWER_DECIMALS)
    size *= -(-SMALLEST_BLOCK // size)
    return tuple(int(weight * size) for weight in weights)


FEWER_DECIMALS = "give domains and sources weights with fewer decimals"


def too_fine(size: int) -> str:
    """What is wrong with weights that need blocks of `size` samples."""
    return (
        f"the weights would be exact only in blocks of {size:,} samples, and {LARGEST_BLOCK:,} are the most"
    )
