"""Examples that are learned whole, before they share a row or a batch.

Pretraining text has one rule for all its tokens; an example of a later stage says itself which of
its tokens are learned. Inputs and targets are set apart here, once; and it is here that examples
too long for their row are refused, cut or dropped, so that their number is told the same
wherever they go.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from linnet.config import RequestError

TooLong = Literal["refuse", "cut", "drop"]


@dataclass(frozen=True, eq=False)
class Example:
    """One conversation, or text, and which of its tokens are learned.

    tokens [n] integers, n ≥ 2; learned [n] bool, of which the first is False: nothing stands
    before it. Both are as the text reads; inputs and targets are set apart in `write` alone.
    """

    tokens: np.ndarray
    learned: np.ndarray

    def __post_init__(self) -> None:
        if self.tokens.ndim != 1 or len(self.tokens) < 2 or self.learned.shape != self.tokens.shape:
            raise ValueError("an example is two or more tokens [n] and as many flags [n]")
        if self.learned.dtype != np.bool_:
            raise ValueError("the flags of learned tokens are booleans")
        if self.learned[0]:
            raise ValueError("a first token cannot be learned: put a token before it that opens the text")

    @property
    def places(self) -> int:
        """How many places of a row it takes: the last token is a target only."""
        return len(self.tokens) - 1

    def write(self, inputs: np.ndarray, targets: np.ndarray) -> None:
        """Fill in the first m inputs and learned targets, both [m]; other targets are left as they are."""
        stop = len(inputs)
        inputs[:] = self.tokens[:stop]
        np.copyto(targets, self.tokens[1 : stop + 1], where=self.learned[1 : stop + 1], casting="unsafe")


@dataclass(frozen=True)
class Report:
    """What one epoch holds, and what was done to have it so."""

    rows: int
    places: int  # rows times their length
    examples: int
    tokens: int  # places that hold an example's token
    targets: int  # of these, places whose target is counted
    cut: int  # examples that lost their end
    dropped: int  # examples left out; with groups, all of a group
    unlearned: int  # examples of the epoch with nothing to learn, perhaps since they were cut

    @property
    def waste(self) -> float:
        """The share of places that hold no token."""
        return 1 - self.tokens / self.places


@dataclass(frozen=True)
class Fitted:
    """Examples measured against the longest that is allowed."""

    places: np.ndarray  # [n] of every example, none above the longest allowed
    targets: np.ndarray  # [n] counted targets of every example
    kept: np.ndarray  # groups that are not dropped, rising
    group: int
    cut: int

    def report(self, rows: int, places: int) -> Report:
        own_places, targets = (v.reshape(-1, self.group)[self.kept] for v in (self.places, self.targets))
        return Report(
            rows=rows,
            places=places,
            examples=own_places.size,
            tokens=int(own_places.sum()),
            targets=int(targets.sum()),
            cut=self.cut,
            dropped=len(self.places) - own_places.size,
            unlearned=int((targets == 0).sum()),
        )

    def fingerprint(self, *facts: object) -> str:
        """What decides every sample, the examples' tokens apart."""
        digest = hashlib.sha256(repr(facts).encode())
        for array in (self.places, self.targets, self.kept):
            digest.update(array.astype("<i8").tobytes())
        return digest.hexdigest()


def fit(examples: Sequence[Example], longest: int, too_long: TooLong, group: int = 1) -> Fitted:
    """Measure all examples, and decide what happens to those of more than `longest` places.

    Args:
        group: so many neighbours are kept or dropped together.

    Raises:
        RequestError: some are too long and these are refused, or none is left.
    """
    count = len(examples)
    if count % group:
        raise ValueError(f"{count} examples are not groups of {group}")
    shape = np.array(
        [(example.places, np.count_nonzero(example.learned[: longest + 1])) for example in examples],
        dtype=np.int64,
    ).reshape(-1, 2)
    places, targets = shape[:, 0], shape[:, 1]
    over = places > longest
    if over.any() and too_long == "refuse":
        raise RequestError(
            f"{over.sum():,} of {count:,} examples take more than {longest:,} tokens, the longest {places.max():,}",
            "data", "allow longer ones, or have them cut or dropped",
        )  # fmt: skip
    lost = over.reshape(-1, group).any(axis=1) & (too_long == "drop")
    if lost.all():
        raise RequestError(f"none of {count:,} examples is left", "data", "add examples or allow longer ones")
    cut = int(over.sum()) if too_long == "cut" else 0
    return Fitted(np.minimum(places, longest), targets, np.flatnonzero(~lost), group, cut)
