"""What a document is known by when duplicates are looked for: a digest, or a MinHash of its word 5-grams.

The MinHash is datasketch's, bit for bit: its permutations are applied here, because its own loop takes
values one at a time as Python integers (measured: 3 times as long for 200 values, 10 times for 2,000).
Before that comes what datasketch leaves to its caller, the hashes of the 5-grams, and here they too are
made for a whole text at once: a polynomial in the code points (Karp and Rabin 1987) is summed up once,
and the hash of any word is a difference of two sums.

Nothing depends on a process or a machine: no `hash()`, no order of a set, and the same bytes on
little-endian and big-endian machines.
"""

from __future__ import annotations

import functools
import hashlib
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from linnet.config import RequestError
from linnet.data.cleaning.characters import SPACE, STANDALONE, codes, kinds_of

Kind = Literal["exact", "near"]

PERMUTATIONS = 128
NGRAM = 5
_BLOCK = 1 << 17  # characters hashed at once; the few 5-grams across the border of two blocks are left out
_COLUMNS = 512  # 5-grams permuted at once: 256 KiB, which stays in the cache
_BASE = 0x9E3779B97F4A7C15  # of the polynomial in a word's characters; odd, so that it has an inverse
_FACTOR = np.uint64(0xD6E8FEB86659FD93)  # of the polynomial in a 5-gram's words


def signature(text: str, kind: Kind = "near") -> bytes:
    """What `Deduplicator.is_duplicate` compares; it may be computed in another process.

    Returns:
        For `exact` 16 bytes: the BLAKE2b of the text in UTF-8. For `near` 512 bytes: 128 little-endian
        uint32 values, the MinHash (Broder 1997) of the text's 5-grams of words, lowercased and without
        punctuation; of all its words when there are fewer than five, of the text itself when there are
        none. In scripts that are written without spaces each character counts as a word.

    Raises:
        RequestError: for `near`, when datasketch is not installed.
    """
    if kind == "exact":
        return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    multipliers, increments = permutations()
    lowest = np.full(PERMUTATIONS, 0xFFFFFFFF, np.uint32)
    hashes = _mixed(shingle_hashes(text))
    for start in range(0, len(hashes), _COLUMNS):
        permuted = multipliers * hashes[start : start + _COLUMNS]  # [permutations, 5-grams], modulo 2^32
        permuted += increments
        np.minimum(lowest, permuted.min(axis=1), out=lowest)
    return lowest.astype("<u4").tobytes()


@functools.cache
def permutations() -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """datasketch's permutations x -> a·x + b modulo 2^32, as a and b, each [permutations, 1].

    Raises:
        RequestError: when datasketch is not installed.
    """
    try:
        from datasketch import MinHash

        a, b = MinHash(num_perm=PERMUTATIONS, seed=1, scheme="affine32").permutations
    except (ImportError, TypeError):  # before 2.0 it knew no schemes
        raise RequestError("near-duplicates need datasketch 2.0 or later", "",
                           "pip install 'linnet[data]', or deduplicate: exact") from None  # fmt: skip
    return np.ascontiguousarray(a[:, None]), np.ascontiguousarray(b[:, None])


def shingle_hashes(text: str) -> NDArray[np.uint32]:
    """A hash of each 5-gram of words of a text, in order, [5-grams]; never empty."""
    lowered = text.lower()
    blocks = (lowered[start : start + _BLOCK] for start in range(0, len(lowered), _BLOCK))
    found = [_ngrams(_words(codes(f" {block} "))) for block in blocks]
    hashes = found[0] if len(found) == 1 else np.concatenate([np.zeros(0, np.uint32), *found])
    if len(hashes):
        return hashes
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=4).digest()
    return np.frombuffer(digest, "<u4")


def _words(points: NDArray[np.uint32]) -> NDArray[np.uint64]:
    """A hash of each word, [words], from code points that begin and end with a space, [characters]."""
    kinds = kinds_of(points)
    if kinds.max() == STANDALONE:
        alone = np.flatnonzero(kinds == STANDALONE)
        points = np.insert(points, np.concatenate([alone, alone + 1]), ord(" "))
        kinds = kinds_of(points)
    inside = kinds > SPACE
    edges = np.flatnonzero(inside[1:] != inside[:-1])  # the characters before a word, and the last of it
    before, last = edges[0::2], edges[1::2]
    powers, inverses = _powers(len(points))
    sums = np.cumsum(points * powers)  # modulo 2^64, as is all that follows
    return (sums[last] - sums[before]) * inverses[before]


def _ngrams(words: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """A hash of each run of NGRAM words; of all words when they are fewer; none when there are none."""
    size = min(NGRAM, max(1, len(words)))
    count = len(words) - size + 1
    hashes = words[:count] * _FACTOR
    for place in range(1, size):
        hashes += words[place : place + count]
        hashes *= _FACTOR
    return (hashes >> np.uint64(32)).astype(np.uint32)  # the upper bits are the good ones


@functools.cache
def _all_powers() -> NDArray[np.uint64]:
    """The powers of the polynomial's base and of its inverse modulo 2^64, [2, characters]."""
    bases = np.array([[_BASE], [pow(_BASE, -1, 1 << 64)]], np.uint64)
    # A character that stands alone becomes three, and a space is put at either end.
    return np.cumprod(np.repeat(bases, 3 * _BLOCK + 2, axis=1), axis=1, dtype=np.uint64)


def _powers(length: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    powers, inverses = _all_powers()
    return powers[:length], inverses[:length]


def _mixed(values: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """MurmurHash3's 32-bit finalizer (Appleby), which datasketch applies before its permutations."""
    values = values ^ (values >> np.uint32(16))
    values *= np.uint32(0x85EBCA6B)
    values ^= values >> np.uint32(13)
    values *= np.uint32(0xC2B2AE35)
    values ^= values >> np.uint32(16)
    return values
