"""Why this exists: every item of the built-in data must be the same on every machine, Python and run, and
must belong to exactly one split. So randomness is keyed here (hashlib seeds, no ``hash()``), and a split is a
property of an item's content, never of the order in which items are asked for.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import cache
from hashlib import blake2b
from typing import TypeVar

from linnet.config import RequestError

T = TypeVar("T")

SPLITS = ("train", "validation", "test")


def number_of(*parts: object) -> int:
    """A 64-bit integer that depends only on the text of `parts`."""
    return int.from_bytes(blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest(), "big")


class Draw:
    """Random choices that are a pure function of a key.

    Only `random.Random.random` is used, the one method whose sequence Python promises to keep for a seed.
    """

    __slots__ = ("random",)

    def __init__(self, *key: object) -> None:
        self.random: Callable[[], float] = random.Random(number_of(*key)).random

    def pick(self, options: Sequence[T]) -> T:
        """One of `options`, each equally likely."""
        return options[int(self.random() * len(options))]

    def between(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`, both included."""
        return low + int(self.random() * (high - low + 1))

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self.random() < probability

    def sample(self, options: Sequence[T], count: int) -> list[T]:
        """`count` different members of `options`, in random order."""
        pool = list(options)
        for place in range(min(count, len(pool))):
            other = place + int(self.random() * (len(pool) - place))
            pool[place], pool[other] = pool[other], pool[place]
        return pool[:count]


def check_split(split: str) -> str:
    """`split` itself; RequestError when there is no such split."""
    if split not in SPLITS:
        raise RequestError(f"there is no split {split!r}", "built-in data", f"use one of {', '.join(SPLITS)}")
    return split


def split_of(*key: object) -> str:
    """The split to which the item with this key belongs: 80% train, 10% validation, 10% test."""
    bucket = number_of("split", *key) % 10
    return "validation" if bucket == 0 else "test" if bucket == 1 else "train"


@cache
def _partition(name: str, items: tuple[object, ...]) -> dict[str, list[object]]:
    ranked = sorted(items, key=lambda item: number_of("partition", name, item))
    held = max(1, len(ranked) // 10)
    return {"validation": ranked[:held], "test": ranked[held : 2 * held], "train": ranked[2 * held :]}


def partition(name: str, items: tuple[T, ...], split: str) -> list[T]:
    """The members of a small finite set that belong to `split`; no split is empty from three members on."""
    return _partition(name, items)[check_split(split)]  # type: ignore[return-value]


def draw_in_split(
    split: str, key: tuple[object, ...], propose: Callable[[Draw], tuple[T, str]]
) -> tuple[T, Draw]:
    """Draw proposals until one's content key falls into `split`.

    `propose` returns (what was drawn, its content key). The returned Draw continues after the accepted one.
    """
    check_split(split)
    draw = Draw(*key)
    while True:
        proposal, content = propose(draw)
        if split_of(content) == split:
            return proposal, draw
