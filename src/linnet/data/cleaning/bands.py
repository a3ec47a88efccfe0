"""An index of signatures that answers in microseconds which of them may be close to a new one.

Locality-sensitive hashing (Indyk and Motwani 1998; Leskovec, Rajaraman and Ullman, Mining of Massive
Datasets, section 3.4): a signature is cut into bands, and two signatures that agree in a whole band are
candidates. datasketch has such an index; this one exists because ten million documents should fit into
an ordinary machine's memory. Its buckets are Python sets (measured: 5.2 KB a document at 16 bands, here
0.2 KB), and it does not check candidates, so that at a threshold of 0.8 pairs of 0.7 pass.

Each band has one hash table with open addressing: a slot is a 64-bit integer, the band's 32-bit hash
above the document's number + 1; 0 is an empty slot. The tables are read through memoryviews because
one slot at a time is what a look-up needs, and numpy is slow at that.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CROWDED = 16  # documents under one band's hash; what all pages of a site share should not slow every look-up
_SPARE = 1024  # slots after the last one that a hash points to, for runs that begin near the end
_FULL = 0.7
_GROWTH = 1.5
_NUMBER = 0xFFFFFFFF


class BandIndex:
    """Numbers of documents by the bands of their signatures.

    Args:
        permutations: the values in a signature.
        threshold: the similarity from which pairs should be found.

    Attributes:
        bands, rows: how a signature is cut; `chance` says what follows from it.
    """

    def __init__(self, permutations: int, threshold: float) -> None:
        self.bands, self.rows = best_cut(permutations, threshold)
        random = np.random.RandomState(5)  # its stream is the same in every version of numpy
        self._multipliers = random.randint(0, 1 << 63, (self.bands, self.rows), np.uint64) * 2 + 1
        self._documents, self._slots = 0, 4096
        self._tables = [np.zeros(self._slots + _SPARE, np.uint64) for _ in range(self.bands)]
        self._views = [table.data for table in self._tables]

    def hashes(self, signature: NDArray[np.uint32]) -> list[int]:
        """The 32-bit hash of each band of a signature, [permutations]."""
        cut = signature[: self.bands * self.rows].reshape(self.bands, self.rows)
        return ((cut * self._multipliers).sum(axis=1, dtype=np.uint64) >> np.uint64(32)).tolist()

    def candidates(self, hashes: list[int]) -> set[int]:
        """The numbers of the documents that agree with these hashes in at least one band."""
        found, slots = set(), self._slots
        for table, wanted in zip(self._views, hashes, strict=True):
            at = wanted * slots >> 32
            while slot := table[at]:
                if slot >> 32 == wanted:
                    found.add((slot & _NUMBER) - 1)
                at += 1
        return found

    def add(self, hashes: list[int]) -> None:
        """Remember a document under the next number; the first has 0."""
        if self._documents >= _FULL * self._slots:
            self._grow()
        self._documents += 1
        slots = self._slots
        for table, wanted in zip(self._views, hashes, strict=True):
            at, same = wanted * slots >> 32, 0
            while slot := table[at]:
                same += slot >> 32 == wanted
                at += 1
            if same < CROWDED:
                table[at] = wanted << 32 | self._documents

    def _grow(self) -> None:
        """Make room, one band after another, so that little memory is needed on the way."""
        self._slots = int(self._slots * _GROWTH)
        for band, old in enumerate(self._tables):
            self._tables[band] = _placed(np.sort(old[old != 0]), self._slots)
            self._views[band] = self._tables[band].data


def _placed(entries: NDArray[np.uint64], slots: int) -> NDArray[np.uint64]:
    """A table of entries that are sorted by their hashes: each as near after its own slot as it can be."""
    table = np.zeros(slots + _SPARE, np.uint64)
    order = np.arange(len(entries))
    own = ((entries >> np.uint64(32)) * np.uint64(slots) >> np.uint64(32)).astype(np.int64)
    table[np.maximum.accumulate(own - order) + order] = entries
    return table


def chance(similarity: float, bands: int, rows: int) -> float:
    """How likely two documents of a Jaccard similarity become candidates: 1 - (1 - s^rows)^bands."""
    return 1 - (1 - similarity**rows) ** bands


def best_cut(permutations: int, threshold: float) -> tuple[int, int]:
    """Bands and rows: the longest bands, so the fewest idle candidates, that find 9 in 10 at the threshold."""
    cuts = [(permutations // rows, rows) for rows in range(1, permutations + 1)]
    return max(
        (cut for cut in cuts if chance(threshold, *cut) >= 0.9), key=lambda cut: cut[1], default=cuts[0]
    )
