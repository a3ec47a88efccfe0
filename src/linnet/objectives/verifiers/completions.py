"""What a reward function is given, in TRL's shape, turned into what verifiers read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from linnet.config import RequestError

# A string, or for conversational data the messages that the model added.
Completion = str | Sequence[Mapping[str, Any]]
Columns = Mapping[str, Any]
# Keys that TRL passes beside the columns of the data set.
NOT_COLUMNS = frozenset(
    ("prompts", "completions", "completion_ids", "trainer_state", "log_extra", "log_metric")
)


def text_of(completion: Completion) -> str:
    """The text of a completion: itself, or the content of its last message."""
    if isinstance(completion, str):
        return completion
    if not completion:
        return ""
    content = completion[-1].get("content") or ""
    if isinstance(content, str):
        return content
    return "".join(part.get("text") or "" for part in content if isinstance(part, Mapping))


def column_named(
    columns: Columns, wanted: str | None, candidates: Sequence[str], title: str, key: str
) -> str:
    """The column to read: the one that is wanted, else the first candidate that there is.

    Raises:
        RequestError: when there is none; it names the columns there are.
    """
    for name in (wanted,) if wanted else candidates:
        if name in columns:
            return name
    there = ", ".join(sorted(columns.keys() - NOT_COLUMNS)) or "none"
    raise RequestError(
        f"verifier {title} needs a column {wanted or ' or '.join(candidates)}; there are: {there}",
        "",
        f"set {key} to the column that holds it",
    )


def row_values(columns: Columns, name: str, count: int) -> list[Any]:
    """A column's value for each completion.

    Raises:
        RequestError: when there are not as many as completions.
    """
    values = columns[name]
    if isinstance(values, str) or not isinstance(values, Sequence) or len(values) != count:
        raise RequestError(f"the column {name} has not one value for each of {count} completions")
    return list(values)
