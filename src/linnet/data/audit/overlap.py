"""Which items of evaluation sets a training document shares a run of words with.

The sets are small and training is large, so the sets' runs are kept, all of them, and the documents are
read past them once. A table addressed by the lowest bits of a run's hash answers most questions: of a
hundred runs of a document, about one has to be searched for among the kept ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from linnet.data.audit.counting import Counted
from linnet.data.audit.duplicates import Excerpt
from linnet.data.audit.hashing import place_in
from linnet.data.audit.words import END, Spelling, WordGrams, words_of

_SHOWN = 3
_ROOM = 64  # entries of the table for each run
_LARGEST_TABLE = 1 << 28
_REPLACEMENT = "\ufffd".encode()  # what a character that could not be read was turned into
_CARRIED = 64  # tokens for each word of a run, from the chunk before


@dataclass(frozen=True)
class Items:
    """Texts that training should not have seen.

    title: the set's. counts: whether documents that share a run with it count as contaminated.
    """

    title: str
    texts: list[str]
    counts: bool = True


class Contamination:
    """Looks for the runs of several sets in documents.

    Args:
        sets: what to look for.
        n: words in a run.
        spelling: of the tokenizer that the documents were made with.
    """

    def __init__(self, sets: Sequence[Items], n: int, spelling: Spelling) -> None:
        self.sets, self.n, self.spelling = sets, n, spelling
        self._grams = WordGrams(n)
        texts = [text.replace(END, " ") for one in sets for text in one.texts]
        found = self._grams(END.join(texts))
        self._keys, self._of = np.unique(found.hashes, return_inverse=True)
        self._items, self._words = found.texts, found.words
        counting = np.repeat([one.counts for one in sets], [len(one.texts) for one in sets])
        self._counts = np.zeros(len(self._keys), bool)
        self._counts[self._of[counting[self._items].astype(bool)]] = True
        # The first document that has each run: its source and its number there, -1 for none.
        self._source = np.full(len(self._keys), -1, np.int32)
        self._document = np.full(len(self._keys), -1, np.int64)
        self._table = np.zeros(_table_size(len(self._keys)), bool)
        self._mask = np.uint64(len(self._table) - 1)
        self._table[self._keys & self._mask] = True
        self._carried = np.empty(0, np.int64)
        self._flagged = -1
        self.documents: list[int] = []  # contaminated ones, by source
        self.replaced: list[int] = []  # replacement characters, by source

    def begin(self) -> None:
        """Another source follows."""
        self._carried = np.empty(0, np.int64)
        self._flagged = -1
        self.documents.append(0)
        self.replaced.append(0)

    def look(self, tokens: np.ndarray, document: int, last: bool) -> None:
        """Look at a chunk, of which the first token lies in `document`; `last`: the source ends with it."""
        carried = self._carried
        whole = np.concatenate((carried, tokens))
        document -= int(np.count_nonzero(carried == self.spelling.eos_id))
        self._carried = whole[-_CARRIED * self.n :]
        text = self.spelling.text(whole)
        self.replaced[-1] += text.count(_REPLACEMENT, int(self.spelling.lengths[carried].sum()))
        if not len(self._keys):
            return
        grams = self._grams(
            text.decode("utf-8", "replace"), drop_first=bool(len(carried)), drop_last=not last
        )
        near = np.flatnonzero(self._table[grams.hashes & self._mask])
        places = place_in(grams.hashes[near], self._keys)
        hit = places >= 0
        places, documents = places[hit], document + grams.texts[near[hit]]
        self._flag(documents[self._counts[places]])
        new = self._source[places] < 0
        places, documents = places[new][::-1], documents[new][::-1]  # of equal places, the last written stays
        self._source[places] = len(self.documents) - 1
        self._document[places] = documents

    def _flag(self, documents: np.ndarray) -> None:
        found = np.unique(documents)
        found = found[found > self._flagged]  # the carried part was looked at before
        if len(found):
            self.documents[-1] += len(found)
            self._flagged = int(found[-1])

    def report(self, sources: Sequence[Counted], excerpt: Excerpt) -> list[dict[str, Any]]:
        """For each set, how many of its items share a run with a document, and some of them.

        Args:
            sources: in the order they were looked at.
        """
        rows, begin = [], 0
        total = np.bincount(self._items, minlength=sum(len(one.texts) for one in self.sets))
        seen = self._source[self._of] >= 0
        found = np.bincount(self._items[seen], minlength=len(total))
        for one in self.sets:
            part = slice(begin, begin + len(one.texts))
            dirty = np.flatnonzero(found[part])
            covered = found[part][dirty] / total[part][dirty]
            worst = dirty[np.argsort(-covered, kind="stable")][:_SHOWN].tolist()
            rows.append({
                "set": one.title,
                "items": len(one.texts),
                "too_short": int(np.count_nonzero(total[part] == 0)),
                "contaminated": len(dirty),
                "share": len(dirty) / len(one.texts) if one.texts else 0.0,
                "covered": float(covered.mean()) if len(dirty) else 0.0,
                "examples": [self._example(one, item, begin + item, seen, sources, excerpt) for item in worst],
            })  # fmt: skip
            begin += len(one.texts)
        return rows

    def _example(
        self,
        one: Items,
        item: int,
        number: int,
        seen: np.ndarray,
        sources: Sequence[Counted],
        excerpt: Excerpt,
    ) -> dict[str, Any]:
        entries = np.flatnonzero(self._items == number)
        first = entries[np.argmax(seen[entries])]
        key, word = self._of[first], int(self._words[first] - self._words[entries[0]])
        source, document = sources[self._source[key]], int(self._document[key])
        known = document < source.documents  # of a stream's beginning, the last one has no end
        return {
            "item": item,
            "source": source.line.title,
            "document": document,
            "begins": excerpt(source, document) if known else "",
            "found": int(seen[entries].sum()),
            "of": len(entries),
            "words": " ".join(words_of(one.texts[item])[word : word + self.n]),
        }


def _table_size(keys: int) -> int:
    return min(_LARGEST_TABLE, 1 << max(10, (_ROOM * keys).bit_length()))
