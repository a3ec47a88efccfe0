"""Documents that occur more than once: within a source, in several, and in training and validation both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from linnet.data.audit.counting import Counted
from linnet.data.audit.hashing import inside, place_in

_SHOWN = 5
_EXCERPT = 48  # tokens

Excerpt = Callable[[Counted, int], str]


def duplicates(sources: Sequence[Counted], excerpt: Excerpt) -> dict[str, Any]:
    """Exact duplicates among the documents of all sources.

    A document's further copies are duplicates, its first one is not. Equal documents are found by a
    64-bit hash of their tokens.
    """
    everything = np.concatenate([source.digests for source in sources])
    distinct, copies = np.unique(everything, return_counts=True)
    repeated, times = distinct[copies > 1], copies[copies > 1]
    sizes = np.zeros(len(repeated), np.int64)
    present = np.zeros((len(sources), len(repeated)), bool)
    rows = []
    for number, source in enumerate(sources):
        places = place_in(source.digests, repeated)
        known = places >= 0
        sizes[places[known]] = source.lengths[known]
        present[number, places[known]] = True
        own = int(np.count_nonzero(known)) - int(np.count_nonzero(present[number]))
        rows.append({
            "source": source.line.title, "domain": source.line.domain, "documents": source.documents,
            "duplicates": own, "share": _share(own, source.documents),
        })  # fmt: skip
    total = int(sum(source.lengths.sum(dtype=np.int64) + source.documents for source in sources))
    return {
        "documents": len(everything),
        "distinct": len(distinct),
        "duplicates": len(everything) - len(distinct),
        "share": _share(len(everything) - len(distinct), len(everything)),
        "token_share": _share(int(((sizes + 1) * (times - 1)).sum()), total),
        "within": rows,
        "across": _across(sources, present),
        "most_repeated": _most_repeated(sources, repeated, times, sizes, excerpt),
    }


def _across(sources: Sequence[Counted], present: np.ndarray) -> list[dict[str, Any]]:
    """Pairs of sources and how many different documents both have."""
    pairs = []
    for first in range(len(sources)):
        for second in range(first + 1, len(sources)):
            both = int(np.count_nonzero(present[first] & present[second]))
            if both:
                titles = [sources[first].line.title, sources[second].line.title]
                pairs.append({"sources": titles, "documents": both})
    return pairs


def _most_repeated(
    sources: Sequence[Counted], repeated: np.ndarray, times: np.ndarray, sizes: np.ndarray, excerpt: Excerpt
) -> list[dict[str, Any]]:
    rows = []
    for place in np.lexsort((repeated, -sizes, -times))[:_SHOWN].tolist():
        source = next(s for s in sources if (s.digests == repeated[place]).any())
        document = int(np.argmax(source.digests == repeated[place]))
        rows.append({
            "copies": int(times[place]), "tokens": int(sizes[place]), "source": source.line.title,
            "document": document, "excerpt": excerpt(source, document),
        })  # fmt: skip
    return rows


def overlap(training: Sequence[Counted], held_out: Sequence[Counted], excerpt: Excerpt) -> dict[str, Any]:
    """Validation documents that also stand in training, word for word."""
    known = np.unique(np.concatenate([source.digests for source in training]))
    rows: list[dict[str, Any]] = []
    examples: list[dict[str, Any]] = []
    for one in held_out:
        found = inside(one.digests, known)
        rows.append({
            "domain": one.line.domain, "documents": one.documents, "tokens": one.line.tokens,
            "in_training": int(found.sum()), "share": _share(int(found.sum()), one.documents),
        })  # fmt: skip
        for document in np.flatnonzero(found)[: _SHOWN - len(examples)].tolist():
            digest = one.digests[document]
            source = next(s for s in training if (s.digests == digest).any())
            examples.append({
                "domain": one.line.domain, "document": document, "source": source.line.title,
                "excerpt": excerpt(one, document),
            })  # fmt: skip
    count, of = sum(row["in_training"] for row in rows), sum(row["documents"] for row in rows)
    return {"share": _share(count, of), "in_training": count, "domains": rows, "examples": examples}


def _share(count: int, of: int) -> float:
    return count / of if of else 0.0


def excerpts(decode: Callable[[np.ndarray], str]) -> Excerpt:
    """A function from a document to its first words."""

    def excerpt(source: Counted, document: int) -> str:
        return " ".join(decode(source.tokens_of(document, _EXCERPT)).split())

    return excerpt
