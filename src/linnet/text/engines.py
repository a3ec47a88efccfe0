"""Which program turns text into ids, and the check that it may.

A `tokenizer.json` says what the ids are, and the tokenizers library is its reference. Two other engines
give the same ids faster and are used only where they have been shown to: tiktoken for byte-level BPE
(proven from the vocabulary, see bytelevel.py) and sentencepiece for vocabularies that came as a `.model`.
Whichever it is, it must agree with the reference on `HARD_STRINGS` when a tokenizer is loaded, or the
reference itself is used; it also takes single texts with characters that only one of the two knows. So a
tokenizer's ids never depend on which engine could be had.

No engine adds special tokens, and none finds them in text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import tiktoken
from tokenizers import Tokenizer as LibraryTokenizer

from linnet.text.bytelevel import ByteLevelBPE, recognise
from linnet.text.character_classes import is_cut_differently

Ids = npt.NDArray[np.uint32]

HARD_STRINGS: tuple[str, ...] = (
    "",
    " ",
    "  ",
    "a",
    " a",
    "Hello, world!",
    "  leading, trailing  ",
    "tabs\t\tand\r\nlines\n\n\n  indented\n",
    " \n \n x",
    "\n a",
    "don't DON'T we'll I'M you'Re 'tis ſ'ſ '",
    "1 22 333 4444 55555 3.14 1,000,000 ٣٤٥ ²³ Ⅷ½",
    "x  5   66 \t7\n8",
    "naïve café Ångström — “quoted” … ‘single’",
    "e\u0301 a\u030a n\u0303 \u1100\u1161 Å ﬁ \u2126",
    "日本語のテキスト。中文字符,한국어 문장",
    "Ελληνικά русский עברית العربية हिन्दी ไทย தமிழ்",
    "👍🏽 👩‍👩‍👧‍👦 🇫🇷 ❤️ 🏴󠁧󠁢󠁥󠁮󠁧󠁿 😀😀😀",
    "def f(x):\n    return {'a': [x**2, 0x1F]}  # comment\n\n\n",
    "https://example.org/a_b?q=%20&r=1#top user@example.org C:\\dir\\file",
    "<|endoftext|> <|im_start|>user\n<s>[INST] </s> <unk> <0x0A> <pad>",
    "▁under▁score ▁ _ __ ___",
    "\x00\x01\x1b\x7f\x1c\x1d\x1e\x1f\x85\xa0\xad\u200b\u200d\u2028\u2029\u202f\u3000\ufeff\ufffd",
    "a\x1cb \x1f c\x0bd\x0ce \xa0f \u2009g\u3000h \u180ei",
    "ǅ ʰ ª ـ ꙮ ⃝ ः \u0903 ₀ ൿ ‿ ( [ » « § ± $ € ^ ` © \ue000 \U0010fffd \u0378",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "        eight      six                               thirty-one",
    "ababababcabcabcbcbcaacbbacabbababab thethethe ininginginging",
    "!!!!???....,,,;;;---===***###@@@$$$%%%^^^&&&((()))[[[]]]{{{}}}",
    "CamelCaseAndSCREAMING_SNAKE and iPhone15Pro x86_64 v1.2.3-rc4+build.567",
)
"""What engines have been seen to differ on: spaces at ends and before digits, contractions, digits of
other scripts, combining marks, controls that only some call whitespace, every general category."""

# tiktoken's pattern engine keeps a million ways back and panics when it runs out, which \s+(?!\S) does on
# a million spaces. The reference takes such text in its stride.
_LONGEST_WHITESPACE = 100_000
_TOO_MUCH_WHITESPACE = re.compile(rf"\s{{{_LONGEST_WHITESPACE}}}")
_CHUNK = 64  # texts a thread takes at a time


class Engine(Protocol):
    """Text to ids, nothing added."""

    label: str

    def encode(self, text: str) -> list[int]:
        """The ids of `text`."""

    def encode_batch(self, texts: Sequence[str], threads: int) -> list[Ids]:
        """The ids of each text, on up to `threads` threads."""


class LibraryEngine:
    """The tokenizers library: the reference, and the only engine that takes every `tokenizer.json`."""

    label = "tokenizers"

    def __init__(self, library: LibraryTokenizer) -> None:
        self._library = library

    def encode(self, text: str) -> list[int]:
        return list(self._library.encode(text, add_special_tokens=False).ids)

    def normalize(self, text: str) -> str:
        """`text` as the model sees it, for another engine."""
        return str(self._library.normalizer.normalize_str(text))

    def encode_batch(self, texts: Sequence[str], threads: int) -> list[Ids]:
        if threads == 1:  # one by one: a batch would start the library's own threads
            return [np.array(self.encode(text), dtype=np.uint32) for text in texts]
        encodings = self._library.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array(encoding.ids, dtype=np.uint32) for encoding in encodings]


class SentencePieceEngine:
    """Google's sentencepiece, for vocabularies that came as its `.model`."""

    label = "sentencepiece"

    def __init__(self, model: bytes) -> None:
        import sentencepiece

        self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)

    def encode(self, text: str) -> list[int]:
        return list(self._processor.encode(text))

    def encode_batch(self, texts: Sequence[str], threads: int) -> list[Ids]:
        lists = self._processor.encode(list(texts), num_threads=threads)
        return [np.fromiter(ids, np.uint32, len(ids)) for ids in lists]


class TiktokenEngine:
    """tiktoken, for byte-level BPE."""

    label = "tiktoken"

    def __init__(self, scheme: ByteLevelBPE, reference: LibraryEngine) -> None:
        self._reference = reference
        self._normalize = reference.normalize if scheme.nfc else None
        self._encoding = tiktoken.Encoding(
            "linnet", pat_str=scheme.pattern, mergeable_ranks=scheme.ranks, special_tokens={}
        )
        self._added, self._digits_apart = scheme.added, scheme.digits_apart
        longest_first = map(re.escape, sorted(scheme.added, key=len, reverse=True))
        self._find_added = re.compile("|".join(longest_first)) if scheme.added else None

    def encode(self, text: str) -> list[int]:
        if self._find_added is None:
            return self._encode_stretch(text)
        ids, start = list[int](), 0
        for match in self._find_added.finditer(text):
            ids += self._encode_stretch(text[start : match.start()])
            ids.append(self._added[match.group()])
            start = match.end()
        return ids + self._encode_stretch(text[start:])

    def encode_batch(self, texts: Sequence[str], threads: int) -> list[Ids]:
        if threads == 1:
            return [self._encode_array(text) for text in texts]
        chunks = [texts[start : start + _CHUNK] for start in range(0, len(texts), _CHUNK)]
        with ThreadPoolExecutor(threads) as pool:
            return list(chain.from_iterable(pool.map(lambda c: [self._encode_array(t) for t in c], chunks)))

    def _encode_array(self, text: str) -> Ids:
        ids = self.encode(text)
        return np.fromiter(ids, np.uint32, len(ids))

    def _encode_stretch(self, text: str) -> list[int]:
        """The ids of text without added tokens."""
        if len(text) > _LONGEST_WHITESPACE and _TOO_MUCH_WHITESPACE.search(text):
            return self._reference.encode(text)
        if is_cut_differently(text, self._digits_apart):
            return self._reference.encode(text)
        try:
            return self._encoding.encode_ordinary(self._normalize(text) if self._normalize else text)
        except BaseException as error:
            # A Rust panic is no Exception. A pattern not our own may overflow elsewhere than in spaces.
            if type(error).__name__ != "PanicException":
                raise
            return self._reference.encode(text)


def choose_engine(library: LibraryTokenizer, spec: dict[str, Any], model: bytes | None) -> Engine:
    """The fastest engine that gives the ids `library` gives.

    Args:
        library: the reference; special tokens in text must be off in it.
        spec: its `tokenizer.json`, parsed.
        model: the SentencePiece model the vocabulary came as, if it did.
    """
    reference = LibraryEngine(library)
    candidate: Engine | None = None
    if model is not None:
        candidate = SentencePieceEngine(model)
    elif scheme := recognise(library, spec):
        try:
            candidate = TiktokenEngine(scheme, reference)
        except ValueError:  # a pattern that tiktoken's engine cannot read
            return reference
    if candidate is not None and first_difference(candidate, reference) is None:
        return candidate
    return reference


def first_difference(engine: Engine, reference: Engine) -> str | None:
    """The first of `HARD_STRINGS` on which two engines differ, or None."""
    return next((text for text in HARD_STRINGS if engine.encode(text) != reference.encode(text)), None)
