"""Hashes of many runs of numbers at once: documents of tokens, words of letters, n-grams of words.

An audit looks at every token of a corpus, so nothing in it may be done document by document. With
sums of value·base^place over the whole chunk (modulo 2^64, where an odd base has an inverse), the
polynomial hash of any run of places is a difference and a product (Karp and Rabin 1987).
"""

from __future__ import annotations

import numpy as np

from linnet.data.order import mixed

_BASE = 0xD6E8FEB86659FD93
_MODULUS = 1 << 64
_SALT = np.uint64(0x9E3779B97F4A7C15)


def drawn(numbers: np.ndarray) -> np.ndarray:
    """A fixed 64-bit number for each of the numbers [n]; none of those up to 2^32 has 0."""
    return mixed(numbers.astype(np.uint64) + _SALT)


class Rolling:
    """Polynomial hashes of runs, whatever their length."""

    def __init__(self) -> None:
        self._powers = np.ones(1, np.uint64)
        self._inverses = np.ones(1, np.uint64)

    def runs(self, values: np.ndarray, starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
        """Hashes [m] of values[starts[i]:stops[i]], uint64; the same for equal runs wherever they lie."""
        self._reach(len(values))
        sums = np.empty(len(values) + 1, np.uint64)
        sums[0] = 0
        np.cumsum(values * self._powers[: len(values)], out=sums[1:])
        return (sums[stops] - sums[starts]) * self._inverses[starts]

    @staticmethod
    def joined(first: int, length: int, second: int) -> int:
        """The hash of a run of `length` values and of the run after it, as one."""
        return (first + second * pow(_BASE, length, _MODULUS)) % _MODULUS

    def _reach(self, length: int) -> None:
        if len(self._powers) <= length:
            inverse = pow(_BASE, -1, _MODULUS)
            self._powers, self._inverses = (
                _powers(base, length + length // 4 + 2) for base in (_BASE, inverse)
            )


def _powers(base: int, count: int) -> np.ndarray:
    powers = np.full(count, base, np.uint64)
    powers[0] = 1
    return np.multiply.accumulate(powers)


def inside(values: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Which of the values [n] are among sorted ones [m]: boolean [n]."""
    return place_in(values, among) >= 0


def place_in(values: np.ndarray, among: np.ndarray) -> np.ndarray:
    """The place of each value [n] among sorted, distinct ones [m], -1 where it is not there."""
    if not len(among):
        return np.full(len(values), -1)
    places = np.minimum(np.searchsorted(among, values), len(among) - 1)
    return np.where(among[places] == values, places, -1)
