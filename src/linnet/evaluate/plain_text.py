"""Answers in the form in which rules can read them, and answers that say nothing.

Models write the same words in many ways: curly apostrophes, bold type, contractions, lists with numbers or dashes.
`plain` leaves one of each, so that a phrase needs to be written only once (refusal_phrases.py).
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from itertools import pairwise

CODE = "codeblock"  # stands for a block of code
ITEM = "• "  # begins an item of a list

_QUOTES = str.maketrans({"’": "'", "‘": "'", "`": "'", "“": '"', "”": '"', "«": '"', "»": '"', "„": '"'})
_CODE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_QUOTED = re.compile(r'"[^"\n]{2,}?"')
_MARKUP = re.compile(r"[*_#>|~]+|</?[a-z]+>")
_CONTRACTIONS = [
    (re.compile(r"\b(?:can't|can not|cant)\b"), "cannot"),
    (re.compile(r"\b(?:won't|wont)\b"), "will not"),
    (re.compile(r"\b(do|does|did|is|are|was|would|should|could|must)n'?t\b"), r"\1 not"),
    (re.compile(r"\bi'?m\b"), "i am"),
    (re.compile(r"\b(i|we|you|he|she|they)'d\b"), r"\1 would"),
    (re.compile(r"\b(i|we|you|it|that)'ll\b"), r"\1 will"),
    (re.compile(r"\b(i|we|you)'ve\b"), r"\1 have"),
    (re.compile(r"\b(you|we|they)'re\b"), r"\1 are"),
    (re.compile(r"\b(it|that|this|here|there|what|he|she)'s\b"), r"\1 is"),
    (re.compile(r"\blet's\b"), "let us"),
]
_INLINE_ITEM = re.compile(r"(?<=[.:;!?])\s+(?=\(?\d{1,2}[.)]\s)")
_ITEM = re.compile(r"^\s*(?:\(?\d{1,2}[.)]|[-•+])\s+")
_SENTENCE_END = re.compile(r"(?<=[a-z\d\"')\]][.!?])\s+|(?<=[.!?][\"')])\s+|(?<=[!?][!?])\s+")


def plain(text: str) -> str:
    """Text in one case, without contractions, markup and what stands in quotation marks.

    An item of a list is a line that begins with ITEM, a block of code a line with CODE.
    """
    text = unicodedata.normalize("NFKC", text).translate(_QUOTES).strip()
    if len(text) > 1 and text[0] == text[-1] == '"' and '"' not in text[1:-1]:
        text = text[1:-1]  # all of it in quotation marks quotes nobody
    text = _QUOTED.sub('"…"', _CODE.sub(f"\n{CODE}\n", text)).casefold()
    for pattern, replacement in _CONTRACTIONS:
        text = pattern.sub(replacement, text)
    lines = _INLINE_ITEM.sub("\n", text).split("\n")
    items = (ITEM + _ITEM.sub("", line) if _ITEM.match(line) else line for line in lines)
    return "\n".join(" ".join(_MARKUP.sub("", line).split()) for line in items if line.strip())


def sentences(text: str) -> list[str]:
    """The sentences of plain text; an item of a list is one."""
    found: list[str] = []
    for line in text.split("\n"):
        found += [line] if line.startswith(ITEM) else [part for part in _SENTENCE_END.split(line) if part]
    return found


_SPECIAL = re.compile(r"<\|[^|>]*\|>|</?s>")
_WORDS = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
_VOWEL = re.compile(r"[aeiouy]")
_CROWD = re.compile(r"[bcdfghjklmnpqrstvwxz]{5}")
_LONG = 12  # characters: of one sign only
_LOOP, _PERIOD = 6, 6  # words that can be a loop at all; the longest one that is looked for


def is_garbage(text: str) -> bool:
    """Whether text says nothing: no letters or digits, a loop, or letters that are no words."""
    text = _SPECIAL.sub(" ", text).replace("\ufffd", " ")
    signs = "".join(text.split())
    if not any(sign.isalnum() for sign in signs) or (len(signs) >= _LONG and len(set(signs)) == 1):
        return True
    long_words = [word for word in _WORDS.findall(text.casefold()) if word.isascii() and len(word) > 3]
    strange = sum(not _VOWEL.search(word) or bool(_CROWD.search(word)) for word in long_words)
    return (len(long_words) >= 4 and strange > 0.5 * len(long_words)) or _loops(text)


def _loops(text: str) -> bool:
    """Whether a text repeats the same few words, or has far fewer different words than it is long."""
    words = re.findall(r"\w+", text.casefold())
    if len(words) < _LOOP:
        return False
    for period in range(1, min(_PERIOD, len(words) // 3) + 1):
        same = sum(a == b for a, b in zip(words, words[period:], strict=False))
        if same >= 0.9 * (len(words) - period):
            return True
    different = len(set(words)) / len(words)
    if len(words) <= 20:
        return len(words) >= 12 and different <= 0.34
    pairs = Counter(pairwise(words))
    return different <= 0.12 or pairs.most_common(1)[0][1] > 0.3 * len(words)
