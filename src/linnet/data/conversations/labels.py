"""Rows whose label says that their answer is none, as WikiQA marks them with 0.

A label of 0 says so only where a source knows no label but 0 and 1: of six classes it is the first. So such rows are
set aside until the whole source has been read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_PAIRS = ({"0", "1"}, {"false", "true"})
_WIKIQA = {"question", "answer"}


@dataclass
class Labels:
    """The labels of a source, and the rows that may be marked as no answer: (schema, first item, last item)."""

    seen: set[str] = field(default_factory=set)
    doubtful: list[tuple[str, int, int]] = field(default_factory=list)

    def note(self, row: Mapping[str, Any], schema: str, first: int, end: int) -> None:
        """A row that `schema` read into the items from `first` to before `end`."""
        label = row.get("label")
        if label is None:
            return
        said = f"{label:g}" if isinstance(label, float) else str(label).strip().lower()
        self.seen.add(said)
        asked = row.keys() >= _WIKIQA and schema == "question/answer"
        if (said == "0" and asked) or (said == "false" and schema in _ANSWERED):
            self.doubtful.append((schema, first, end))

    def no_answers(self) -> list[tuple[str, int, int]]:
        """The rows that are marked as no answer."""
        return self.doubtful if any(self.seen <= pair for pair in _PAIRS) else []


_ANSWERED = ("instruction/output", "prompt/completion", "question/choices", "question/answer")
