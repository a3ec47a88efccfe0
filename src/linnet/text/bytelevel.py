"""Byte-level BPE (GPT-2 and its many children): when tiktoken may stand in for a `tokenizer.json`.

A `tokenizer.json` is run by the tokenizers library. The same vocabulary runs five to seven times
faster elsewhere, but only if both merge the same pairs in the same order. This module reads what a
`tokenizer.json` says, and hands it on as ranks for tiktoken only where the two are proven equal:

1.  Every byte is a token, so nothing is ever unknown.
2.  The results of the merges have increasing ids, so "the pair whose union has the lowest id" (tiktoken)
    and "the pair with the earliest merge" (tokenizers) choose alike among listed pairs.
3.  Every token, encoded on its own, gives itself. tiktoken also merges neighbours x, y whose union t is
    a token though (x, y) is not a listed merge. Neighbours in an unfinished encoding are always what
    the text x+y alone would become at that moment (Berglund and van der Merwe, "Formalizing BPE
    Tokenization", 2023); by 3. the text of t becomes the listed pair of t and no other. So the unlisted
    pair never stands there.

What the proof leaves open, whether two regular-expression engines split alike, is checked on hard
strings when the engine is chosen (engines.py).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as LibraryTokenizer

from linnet.config import RequestError

GPT2_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""The pre-tokenizer of GPT-2, which the tokenizers library builds into its `ByteLevel`."""

QWEN2_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""The pre-tokenizer of Qwen2."""

# Digits first, then GPT-2's pattern on what lies between them (SmolLM2). Between digits the text ends
# at a digit, so a run of spaces before one stays whole.
_DIGITS_THEN_GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?=\p{N})|\s+(?!\S)|\s+"


def _byte_characters() -> list[str]:
    """The character that stands for each byte in a byte-level vocabulary.

    Printable Latin-1 stands for itself, the other 68 bytes for U+0100 onwards in order
    (`bytes_to_unicode` of GPT-2's encoder.py).
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    table, spare = [], 0x100
    for byte in range(256):
        table.append(chr(byte if byte in printable else spare))
        spare += byte not in printable
    return table


BYTE_CHARACTERS = _byte_characters()
_CHARACTER_BYTES = {character: byte for byte, character in enumerate(BYTE_CHARACTERS)}


def token_to_bytes(token: str) -> bytes:
    """The bytes a byte-level vocabulary entry stands for.

    An entry with a character outside the table (an added token with a space, say) stands for its own
    UTF-8, as in the tokenizers library's `ByteLevel` decoder.
    """
    try:
        return bytes(_CHARACTER_BYTES[character] for character in token)
    except KeyError:
        return token.encode()


@dataclass(frozen=True)
class ByteLevelBPE:
    """A byte-level BPE that tiktoken encodes exactly as the tokenizers library does.

    Attributes:
        pattern: regular expression that cuts text into pieces; merges never cross a cut.
        ranks: token bytes → id; the lower id merges first.
        nfc: text is brought to Unicode normal form C before anything else (Qwen).
        added: tokens outside the BPE that are found in plain text (not the special ones) → id.
    """

    pattern: str
    ranks: dict[bytes, int]
    nfc: bool
    added: dict[str, int]

    @property
    def digits_apart(self) -> bool:
        """Whether the library cuts digits off by its own `Digits` and not by the pattern."""
        return self.pattern == _DIGITS_THEN_GPT2


def recognise(library: LibraryTokenizer, spec: dict[str, Any]) -> ByteLevelBPE | None:
    """What `library` does, as ranks and a pattern, or None where tiktoken would differ or might.

    Args:
        library: the tokenizer.
        spec: its `tokenizer.json`, parsed.
    """
    model, normalizer = spec["model"], spec.get("normalizer")
    if model["type"] != "BPE" or (spec.get("decoder") or {}).get("type") != "ByteLevel":
        return None
    if any(model.get(key) for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix")):
        return None
    if normalizer is not None and normalizer["type"] != "NFC":
        return None
    pattern = _pattern(spec.get("pre_tokenizer"))
    added = _plain_added_tokens(spec, normalizer is not None)
    if pattern is None or added is None:
        return None
    ranks = _ranks(library, model)
    if ranks is None:
        return None
    return ByteLevelBPE(pattern, ranks, normalizer is not None, added)


def _pattern(pre_tokenizer: dict[str, Any] | None) -> str | None:
    """The one regular expression a pre-tokenizer amounts to, where it amounts to one."""
    steps = _flatten(pre_tokenizer)
    if not steps or steps[-1]["type"] != "ByteLevel" or steps[-1]["add_prefix_space"]:
        return None
    before, regex_in_last = steps[:-1], steps[-1].get("use_regex", True)
    if not before:
        return GPT2_PATTERN if regex_in_last else None
    if len(before) > 1:
        return None
    (step,) = before
    if step["type"] == "Digits" and step["individual_digits"] and regex_in_last:
        return _DIGITS_THEN_GPT2
    keeps_matches = (step.get("behavior"), step.get("invert")) in {("Isolated", False), ("Removed", True)}
    if step["type"] == "Split" and keeps_matches and "Regex" in step["pattern"] and not regex_in_last:
        return str(step["pattern"]["Regex"])
    return None


def _flatten(step: dict[str, Any] | None) -> list[dict[str, Any]]:
    if step is None:
        return []
    if step["type"] == "Sequence":
        return [leaf for child in step["pretokenizers"] for leaf in _flatten(child)]
    return [step]


def _plain_added_tokens(spec: dict[str, Any], normalized_text: bool) -> dict[str, int] | None:
    """Added tokens that plain text may contain; None if one of them needs more than a search for it."""
    plain = {}
    for token in spec.get("added_tokens") or []:
        if token["special"]:
            continue
        if token["lstrip"] or token["rstrip"] or token["single_word"]:
            return None
        if normalized_text and token["normalized"]:
            return None
        plain[token["content"]] = token["id"]
    return plain


def _ranks(library: LibraryTokenizer, model: dict[str, Any]) -> dict[bytes, int] | None:
    """Token bytes → id if the three conditions of the module's proof hold, else None."""
    vocab: dict[str, int] = model["vocab"]
    if any(character not in vocab for character in BYTE_CHARACTERS):
        return None
    results = dict.fromkeys(left + right for left, right in model["merges"])
    ids = [vocab[token] for token in results]
    if any(later <= earlier for earlier, later in pairwise(ids)):
        return None
    encoder = library.model
    if model.get("ignore_merges"):
        # Whole pieces found in the vocabulary skip the merges; the proof is about the merges.
        reachable = set(results) | set(BYTE_CHARACTERS)
        specials = {token.content for token in library.get_added_tokens_decoder().values()}
        if set(vocab) - reachable - specials:
            return None
        encoder = models.BPE(vocab=vocab, merges=[tuple(pair) for pair in model["merges"]])
    for token, token_id in zip(results, ids, strict=True):
        if [part.id for part in encoder.tokenize(token)] != [token_id]:
            return None
    ranks = {bytes([byte]): vocab[character] for byte, character in enumerate(BYTE_CHARACTERS)}
    ranks.update({token_to_bytes(token): vocab[token] for token in results})
    return ranks


def from_vocab_and_merges(
    vocab_file: Path, merges_file: Path, where: str = "", qwen: bool = False, add_prefix_space: bool = False
) -> LibraryTokenizer:
    """GPT-2's two files (`encoder.json` + `vocab.bpe`, or `vocab.json` + `merges.txt`) as one tokenizer.

    Args:
        qwen: text is normalised and cut as Qwen2 does, and not as GPT-2.
        add_prefix_space: put a space before a text that has none.

    Raises:
        RequestError: a file that cannot be read, or is not what its name says.
    """
    try:
        vocab = json.loads(vocab_file.read_text(encoding="utf-8"))
        lines = merges_file.read_text(encoding="utf-8").split("\n")
        rows = [line.split(" ") for line in lines if line and not line.startswith("#version")]
        merges = [(left, right) for left, right in rows]
        model = models.BPE(vocab=vocab, merges=merges)
    except Exception as error:  # the tokenizers library raises bare Exceptions
        raise RequestError(
            f"{vocab_file} and {merges_file.name} are not a GPT-2 vocabulary ({error})",
            where,
            "bring both files again from where they came",
        ) from error
    library = LibraryTokenizer(model)
    last = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space, use_regex=not qwen)
    library.pre_tokenizer = last
    if qwen:
        cut = pre_tokenizers.Split(Regex(QWEN2_PATTERN), "isolated")
        library.pre_tokenizer = pre_tokenizers.Sequence([cut, last])
        library.normalizer = normalizers.NFC()
    library.decoder = decoders.ByteLevel()
    if "<|endoftext|>" in vocab:
        library.add_special_tokens([AddedToken("<|endoftext|>", special=True, normalized=False)])
    return library
