"""The order of samples, computed and never stored.

Epoch e visits the windows of the corpus in the order of a keyed permutation, so sample i
is a pure function of (corpus, seed, i): a resumed run, any number of workers or ranks and
any micro-batch size see the same sample, and no shuffle buffer has to be saved.

The permutation is a balanced Feistel network over the smallest even number of bits that
covers the range, walked along its cycle until it lands inside (Black & Rogaway 2002,
"Ciphers with arbitrary finite domains").
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np

_ROUNDS = 8
_RUN = 4096
_MIX = (np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53))  # MurmurHash3's 64-bit finaliser


class Permutation:
    """A keyed permutation of 0..length-1, evaluated at any index without a table."""

    def __init__(self, length: int, *key: int) -> None:
        if length < 1:
            raise ValueError("a permutation needs at least one element")
        self.length = length
        self._half = max(1, ((length - 1).bit_length() + 1) // 2)
        self._low = np.uint64((1 << self._half) - 1)
        digest = hashlib.shake_256(repr((length, *key)).encode()).digest(8 * _ROUNDS)
        self._keys = np.frombuffer(digest, dtype="<u8").astype(np.uint64)

    def __call__(self, index: np.ndarray) -> np.ndarray:
        """Places [n] (int64) of the indices [n], each in 0..length-1."""
        place = self._encrypt(index.astype(np.uint64))
        outside = place >= self.length
        while outside.any():
            place[outside] = self._encrypt(place[outside])
            outside = place >= self.length
        return place.astype(np.int64)

    def _encrypt(self, value: np.ndarray) -> np.ndarray:
        left, right = value >> np.uint64(self._half), value & self._low
        for key in self._keys:
            left, right = right, left ^ (mixed(right ^ key) & self._low)
        return (left << np.uint64(self._half)) | right


def mixed(value: np.ndarray) -> np.ndarray:
    """Each number [n] (uint64) as one that looks drawn at random."""
    for factor in _MIX:
        value = (value ^ (value >> np.uint64(33))) * factor
    return value ^ (value >> np.uint64(33))


class Order:
    """Which window of the corpus is global sample i, epoch after epoch.

    Samples are asked for in runs, so places are computed _RUN at a time and the last runs are kept: a
    permutation's every call costs some hundred microseconds, however few places it is asked for.
    """

    def __init__(self, windows: int, *key: int) -> None:
        self.windows, self.key = windows, key
        self._run = lru_cache(maxsize=8)(self._computed)

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """Windows [n] of the global samples [n]."""
        epochs, within = np.divmod(samples, self.windows)
        runs, places = np.divmod(within, _RUN)
        result = np.empty_like(samples)
        for epoch, run in set(zip(epochs.tolist(), runs.tolist(), strict=True)):
            here = (epochs == epoch) & (runs == run)
            result[here] = self._run(epoch, run)[places[here]]
        return result

    def _computed(self, epoch: int, run: int) -> np.ndarray:
        indices = np.arange(run * _RUN, min((run + 1) * _RUN, self.windows))
        return Permutation(self.windows, *self.key, epoch)(indices)
