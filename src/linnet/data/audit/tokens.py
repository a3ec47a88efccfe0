"""What the documents look like to the model: which tokens, how many bytes each, how long documents are."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from linnet.data.audit.counting import Counted
from linnet.data.audit.words import Spelling
from linnet.text import Tokenizer

_COMMONEST = 20
_BINS_PER_OCTAVE = 2
_RANKS = 120  # points of the curve of tokens by rank
_BYTE_PIECE = re.compile(r"<0x[0-9A-Fa-f]{2}>")
_UNKNOWN = frozenset({"<unk>", "[UNK]"})


class Kinds:
    """Which tokens of a vocabulary are odd: `unknown`, `byte`, `special`, each boolean [vocabulary]."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.unknown, self.byte = unknown_ids(tokenizer), byte_ids(tokenizer)
        self.special = np.zeros(tokenizer.vocab_size, bool)
        self.special[list(tokenizer.special_ids | {tokenizer.eos_id})] = True


def token_report(sources: Sequence[Counted], tokenizer: Tokenizer, kinds: Kinds) -> dict[str, Any]:
    """The tokens of all sources together."""
    histogram = np.sum([source.histogram for source in sources], axis=0)
    total = int(histogram.sum())
    order = np.argsort(-histogram, kind="stable")
    possible = np.array([tokenizer.token(i) is not None for i in range(len(histogram))])
    never = int(np.count_nonzero((histogram == 0) & possible))
    return {
        "total": total,
        "vocabulary": int(possible.sum()),
        "never_used": never,
        "never_used_share": never / max(1, int(possible.sum())),
        "unknown": int(histogram[kinds.unknown].sum()),
        "byte": int(histogram[kinds.byte].sum()),
        "unknown_or_byte_share": int(histogram[kinds.unknown | kinds.byte].sum()) / max(1, total),
        "commonest": [
            {
                "id": token, "text": tokenizer.decode([token], skip_special=False),
                "count": int(histogram[token]), "share": int(histogram[token]) / max(1, total),
            }
            for token in order[:_COMMONEST].tolist() if histogram[token]
        ],
        "ranks": _ranks(histogram),
        "ranks_by_domain": {
            name: _ranks(np.sum([s.histogram for s in sources if s.line.domain == name], axis=0))
            for name in dict.fromkeys(source.line.domain for source in sources)
        },
    }  # fmt: skip


def unknown_ids(tokenizer: Tokenizer) -> np.ndarray:
    """Which tokens stand for text that the vocabulary cannot write [vocabulary], boolean."""
    model = json.loads(tokenizer.to_json())["model"]
    named = _UNKNOWN | {model.get("unk_token")}
    return np.array([
        tokenizer.token(i) in named or (model.get("unk_id") == i and i != tokenizer.eos_id)
        for i in range(tokenizer.vocab_size)
    ])  # fmt: skip


def byte_ids(tokenizer: Tokenizer) -> np.ndarray:
    """Which tokens are bytes of a character instead of characters [vocabulary], boolean.

    In a SentencePiece vocabulary these are its byte pieces (`<0xE2>`), the line break and the tab apart, for
    which many have no other. In a byte-level one, tokens whose bytes are no whole characters.
    """

    def is_byte(token: int) -> bool:
        if token in tokenizer.special_ids:
            return False
        piece = tokenizer.token_bytes(token)
        if _BYTE_PIECE.fullmatch(tokenizer.token(token) or ""):
            return piece not in (b"\n", b"\t", b"\r")
        try:
            piece.decode()
        except UnicodeDecodeError:
            return True
        return False

    return np.array([is_byte(token) for token in range(tokenizer.vocab_size)])


def _ranks(histogram: np.ndarray) -> list[list[float]]:
    """(rank, share) of tokens from the commonest on, evenly spread over the logarithm of the rank."""
    counts = np.sort(histogram[histogram > 0])[::-1]
    if not len(counts):
        return []
    places = np.unique(np.geomspace(1, len(counts), _RANKS).round().astype(np.int64))
    total = int(counts.sum())
    return [[int(place), int(counts[place - 1]) / total] for place in places]


def source_report(
    source: Counted,
    kinds: Kinds,
    spelling: Spelling,
    length: int,
    replaced: int,
    left_out: dict[str, int] | None,
) -> dict[str, Any]:
    """One source.

    Args:
        length: of training sequences.
        replaced: replacement characters in its text.
        left_out: why rows of it are no documents, where a build counted them.
    """
    text = ~kinds.special
    text_bytes = int(source.histogram[text] @ spelling.lengths[text])
    ordinary = int(source.histogram[text].sum())
    odd = int(source.histogram[kinds.unknown | kinds.byte].sum())
    return {
        "source": source.line.title,
        "domain": source.line.domain,
        "complete": source.line.complete,
        "tokens": source.line.tokens,
        "documents": source.documents,
        "text_bytes": text_bytes,
        "bytes_per_token": text_bytes / ordinary if ordinary else 0.0,
        "unknown_or_byte_share": odd / max(1, source.line.tokens),
        "replacement_characters": replaced,
        "cut_share": source.cut / max(1, source.documents),
        "lengths": lengths_report(source.lengths, length),
        "left_out": left_out,
    }


def lengths_report(lengths: np.ndarray, longest: int) -> dict[str, Any]:
    """Documents by length in tokens, their EOS apart; `histogram` has (from, below, documents)."""
    if not len(lengths):
        return {"median": 0, "mean": 0.0, "p90": 0, "longest": 0, "longer_than_sequence_share": 0.0,
                "histogram": []}  # fmt: skip
    bins = np.floor(_BINS_PER_OCTAVE * np.log2(np.maximum(1, lengths))).astype(np.int64)
    counts = np.bincount(bins)
    edges = np.ceil(2.0 ** (np.arange(len(counts) + 1) / _BINS_PER_OCTAVE)).astype(np.int64)
    return {
        "median": int(np.percentile(lengths, 50, method="lower")),
        "mean": float(lengths.mean()),
        "p90": int(np.percentile(lengths, 90, method="lower")),
        "longest": int(lengths.max()),
        "longer_than_sequence_share": float(np.mean(lengths > longest)),
        "histogram": [
            [int(low), int(high), int(count)]
            for low, high, count in zip(edges, edges[1:], counts, strict=False)
            if count
        ],
    }
