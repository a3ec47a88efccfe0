"""Characters that two programs class differently, because they know different versions of Unicode.

Patterns cut text by classes of characters (`\\p{L}`, `\\p{N}`). A character that Unicode added lately is a
letter or a digit to the program that knows it and a symbol to the other, and the text is then cut elsewhere.
Which characters these are depends on the versions that are installed, so it is found out here, once a process,
when the first text comes that has a character of a block to which Unicode still adds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

import tiktoken
from tokenizers import Regex, pre_tokenizers

# Where Unicode 15 to 17 added letters and digits, and where the roadmap of Unicode puts more: blocks of the first
# plane that were not full, the scripts of the second, the ideographs of the third and fourth.
_GROWING = (
    (0x0800, 0x08FF),
    (0x0C00, 0x0CFF),
    (0x1AB0, 0x1CFF),
    (0x2FE0, 0x2FFF),
    (0x31E0, 0x31EF),
    (0xA640, 0xABFF),
    (0x10000, 0x1F2FF),
    (0x1FB00, 0x1FFFD),
    (0x2A6DE, 0x33479),
)
_YOUNG = re.compile("[" + "".join(f"{chr(first)}-{chr(last)}" for first, last in _GROWING) + "]")
_CLASSES = (r"\p{L}", r"\p{N}")
_AT_ONCE = 512


def is_cut_differently(text: str, digits: bool) -> bool:
    """Whether `text` has a character that tiktoken and the tokenizers library class differently.

    Args:
        digits: the library finds digits by its `Digits`, which knows Unicode from elsewhere than its patterns.
    """
    if text.isascii() or not _YOUNG.search(text):
        return False
    found = _classed_differently(digits)
    return found is not None and bool(found.search(text))


@cache
def _classed_differently(digits: bool) -> re.Pattern[str] | None:
    young = [chr(code) for first, last in _GROWING for code in range(first, last + 1)]
    found: set[str] = set()
    for name in _CLASSES:
        encoding = tiktoken.Encoding(
            "linnet-class",
            pat_str=name,
            mergeable_ranks={bytes([i]): i for i in range(256)},
            special_tokens={},
        )
        # What a pattern does not match is left out.
        theirs = set(encoding.decode_bytes(encoding.encode_ordinary("".join(young))).decode())
        found |= theirs ^ set(_by_library(name, young, digits and name == _CLASSES[1]))
    return re.compile(f"[{''.join(sorted(found))}]") if found else None


def _by_library(name: str, characters: list[str], digits: bool) -> Iterator[str]:
    """Those of `characters` that the tokenizers library puts into a class."""
    step: pre_tokenizers.PreTokenizer = pre_tokenizers.Split(Regex(name), "removed", invert=True)
    if digits:
        step = pre_tokenizers.Digits(individual_digits=True)
    for begin in range(0, len(characters), _AT_ONCE):
        # Digits are cut off from what stands beside them; with a pattern, only what matches is left.
        beside = "a" if digits else " "
        pieces = step.pre_tokenize_str(beside + beside.join(characters[begin : begin + _AT_ONCE]) + beside)
        yield from (piece for piece, _ in pieces if len(piece) == 1 and piece != beside)
