"""Runs of words, as decontamination compares texts: n words in a row, whatever stands between them.

A word is a run of letters and digits of any script, in small letters; all else parts words, so two
texts that differ in case, punctuation or line breaks have the same runs. (GPT-3, appendix C of Brown
et al. 2020, compares words without case and punctuation too.) Scripts that put no space between words
make few and long ones, and less is found in them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from linnet.data.audit.hashing import Rolling, drawn
from linnet.data.order import mixed
from linnet.text import Tokenizer

END = "\0"
"""Parts texts that are looked at together."""

WORD = re.compile(r"[^\W_]+")
_BEYOND = 0x20000  # from here on Unicode has ideographs, which are letters


def _letters() -> np.ndarray:
    """For each code point a number that is the same for a letter and its small form; 0 for what is no letter."""
    table = np.arange(0x110000, dtype=np.uint64)
    for code in range(_BEYOND):
        sign = chr(code)
        small = sign.lower()
        table[code] = (ord(small) if len(small) == 1 else code) if sign.isalnum() else 0
    return np.where(table > 0, drawn(table), np.uint64(0))


class Spelling:
    """Tokens back to text, a chunk at a time: EOS becomes END, which no document contains."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        pieces = []
        for token in range(tokenizer.vocab_size):
            piece = tokenizer.token_bytes(token).replace(b"\0", b" ")
            piece = b" " if token in tokenizer.special_ids else piece
            pieces.append(END.encode() if token == tokenizer.eos_id else piece)
        self.eos_id = tokenizer.eos_id
        self.lengths = np.fromiter(map(len, pieces), np.int64, len(pieces))  # bytes of each token
        self._bytes = np.frombuffer(b"".join(pieces), np.uint8)
        self._starts = (np.cumsum(self.lengths) - self.lengths).astype(np.int32)

    def text(self, tokens: np.ndarray) -> bytes:
        """The text of tokens [n] as UTF-8, which may begin and end within a character."""
        lengths = self.lengths[tokens]
        shifts = self._starts[tokens] - (np.cumsum(lengths) - lengths).astype(np.int32)
        places = np.repeat(shifts, lengths)
        places += np.arange(len(places), dtype=np.int32)
        return self._bytes[places].tobytes()


@dataclass(frozen=True)
class Grams:
    """Runs of n words.

    hashes: uint64 [m]. texts: which of the texts each lies in [m]. words: the number of its first word among
    all words [m].
    """

    hashes: np.ndarray
    texts: np.ndarray
    words: np.ndarray


class WordGrams:
    """All runs of n words in texts.

    Args:
        n: words in a run.
    """

    def __init__(self, n: int) -> None:
        self.n = n
        self._letters = _letters()
        self._rolling = Rolling()

    def __call__(self, text: str, drop_first: bool = False, drop_last: bool = False) -> Grams:
        """The runs of texts that are joined by END; none reaches over it.

        Args:
            drop_first, drop_last: leave out the first or last word, which may be cut.
        """
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
        values = self._letters[codes]
        letter = np.zeros(len(codes) + 2, bool)
        np.not_equal(values, 0, out=letter[1:-1])
        edges = np.flatnonzero(letter[1:] != letter[:-1])  # a word begins and ends in turns
        starts, stops = edges[::2], edges[1::2]
        kept = slice(int(drop_first), len(starts) - int(drop_last))
        starts, stops = starts[kept], stops[kept]
        words = mixed(self._rolling.runs(values, starts, stops))
        borders = np.searchsorted(starts, np.flatnonzero(codes == 0))  # the first word of each text but one
        number = np.repeat(np.arange(len(borders) + 1), np.diff(borders, prepend=0, append=len(starts)))
        count = len(words) - self.n + 1
        if count < 1:
            return Grams(np.empty(0, np.uint64), np.empty(0, np.int64), np.empty(0, np.int64))
        first = np.arange(count)
        hashes = mixed(self._rolling.runs(words, first, first + self.n))
        whole = number[:count] == number[self.n - 1 :]
        return Grams(hashes[whole], number[:count][whole], first[whole])


def words_of(text: str) -> list[str]:
    """The words of one text, for people to read."""
    return WORD.findall(text.lower())
