"""One pass over a source's tokens: how often each occurs, and a hash and a length for every document.

Twelve bytes stay in memory for a document, whatever its length; the tokens are read in chunks and let go.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from linnet.data.audit.hashing import Rolling, drawn
from linnet.data.audit.lines import Line, chunks
from linnet.data.order import mixed

Look = Callable[[np.ndarray, int, bool], None]


@dataclass(frozen=True)
class Counted:
    """What one line holds.

    histogram: of token ids [vocabulary]. digests, lengths: of each document [documents], uint64 and int32,
    without its EOS; a last document without end is left out where the line is not complete. cut: documents
    that lie in more than one training sequence.
    """

    line: Line
    histogram: np.ndarray
    digests: np.ndarray
    lengths: np.ndarray
    cut: int

    @property
    def documents(self) -> int:
        """How many documents there are."""
        return len(self.digests)

    def tokens_of(self, document: int, limit: int) -> np.ndarray:
        """The first tokens of a document [at most limit]."""
        start = int(self.lengths[:document].sum(dtype=np.int64)) + document
        return self.line.read(start, min(limit, int(self.lengths[document])))


class Counter:
    """Counts lines.

    Args:
        vocab_size, eos_id: of the tokenizer.
        length: of training sequences.
    """

    def __init__(self, vocab_size: int, eos_id: int, length: int) -> None:
        self.vocab_size, self.eos_id, self.length = vocab_size, eos_id, length
        self._values = drawn(np.arange(vocab_size))
        self._rolling = Rolling()

    def count(self, line: Line, look: Look = lambda tokens, document, last: None) -> Counted:
        """Read a line once.

        Args:
            look: is given each chunk, the number of the document that it begins in, and whether it is the last.
        """
        histogram = np.zeros(self.vocab_size, np.int64)
        digests: list[np.ndarray] = []
        lengths: list[np.ndarray] = []
        open_hash = open_length = document = cut = place = 0
        for tokens in chunks(line):
            look(tokens, document, place + len(tokens) == line.tokens)
            histogram += np.bincount(tokens, minlength=self.vocab_size)
            ends = np.flatnonzero(tokens == self.eos_id)
            starts = np.concatenate(([0], ends + 1))
            found = self._rolling.runs(self._values[tokens], starts, np.append(ends, len(tokens)))
            sizes = np.append(ends, len(tokens)) - starts
            found[0] = self._rolling.joined(open_hash, open_length, int(found[0]))
            sizes[0] += open_length
            open_hash, open_length = int(found[-1]), int(sizes[-1])
            digests.append(_finished(found[:-1], sizes[:-1]))
            lengths.append(sizes[:-1].astype(np.int32))
            cut += self._cut(line.begin + place + ends, sizes[:-1])
            document += len(ends)
            place += len(tokens)
        if open_length and line.complete:  # token files may end without EOS
            digests.append(_finished(np.array([open_hash], np.uint64), np.array([open_length])))
            lengths.append(np.array([open_length], np.int32))
            cut += self._cut(np.array([line.begin + place - 1]), np.array([open_length - 1]))
        none = np.empty(0)
        return Counted(
            line, histogram, np.concatenate([none.astype(np.uint64), *digests]),
            np.concatenate([none.astype(np.int32), *lengths]), cut,
        )  # fmt: skip

    def _cut(self, ends: np.ndarray, sizes: np.ndarray) -> int:
        """How many documents, by the places of their last token and their lengths before it, cross a border."""
        return int(np.count_nonzero((ends - sizes) // self.length != ends // self.length))


def _finished(hashes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    return mixed(hashes ^ drawn(sizes))
