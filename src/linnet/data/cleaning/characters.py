"""What kind each character of a text is, for whole texts at once.

Why a table: asking Python about one character at a time takes longer than tokenising the text. A table
of kinds, made once from the Unicode database, answers for a text of two thousand characters in
microseconds.
"""

from __future__ import annotations

import functools
import unicodedata

import numpy as np
from numpy.typing import NDArray

SYMBOL, SPACE, DIGIT, LETTER, STANDALONE = range(5)  # words are made of what comes after SPACE
KINDS = 5
_BLOCK = 1 << 20  # characters looked at at once

# Scripts that are written without spaces: each character counts as a word of its own, as there is no
# finding the words without a dictionary (Unicode Standard Annex 29, section 4).
_STANDALONE = (
    (0x0E00, 0x0F00),  # Thai, Lao
    (0x1000, 0x10A0),  # Myanmar
    (0x1780, 0x1800),  # Khmer
    (0x3040, 0x3100),  # Hiragana, Katakana
    (0x3400, 0x4DC0), (0x4E00, 0xA000), (0xF900, 0xFB00), (0x20000, 0x34000),  # Han
)  # fmt: skip


@functools.cache
def _table() -> NDArray[np.uint8]:
    """The kind of every code point: marks go with the letters they stand on."""
    kinds = {"L": LETTER, "M": LETTER, "N": DIGIT, "Z": SPACE}
    table = np.zeros(0x110000, np.uint8)
    for code in range(0x34000):
        table[code] = kinds.get(unicodedata.category(chr(code))[0], SYMBOL)
    for code in (9, 10, 11, 12, 13, 0x1C, 0x1D, 0x1E, 0x1F, 0x85):  # control characters that part words
        table[code] = SPACE
    for start, end in _STANDALONE:
        block = table[start:end]
        block[block == LETTER] = STANDALONE
    table[0xE0100:0xE01F0] = LETTER  # variation selectors, the only marks above
    return table


def codes(text: str) -> NDArray[np.uint32]:
    """The code points of a text, [characters]. Half a surrogate pair is a symbol."""
    if text.isascii():
        return np.frombuffer(text.encode(), np.uint8).astype(np.uint32)
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


def kinds_of(points: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """The kind of each code point, [characters]."""
    return _table().take(points)


@functools.lru_cache(maxsize=1)  # a filter asks for several shares of one text
def shares(text: str) -> tuple[float, ...]:
    """The share of a text's characters that is of each kind; zeros for an empty text."""
    counts = np.zeros(KINDS, np.int64)
    for start in range(0, len(text), _BLOCK):
        counts += np.bincount(kinds_of(codes(text[start : start + _BLOCK])), minlength=KINDS)
    return tuple((counts / max(1, len(text))).tolist())
