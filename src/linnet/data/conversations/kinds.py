"""What a row of a dataset can be to the stages after pretraining.

There are hundreds of datasets and three things to learn from them: what to say (a conversation), which of two
answers is better (a pair), and whether an answer is right (a problem). Everything after this module
knows these three and no dataset's columns.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["conversation", "pair", "problem"]
Turn = Mapping[
    str, Any
]  # role, content; perhaps tool_calls, reasoning_content, name and what else its row has
Turns = tuple[Turn, ...]
Tools = tuple[Mapping[str, Any], ...]  # JSON schemas of what the assistant may call


class Unusable(Exception):
    """A row that nothing can be learned from; its text is the reason under which such rows are counted."""


@dataclass(frozen=True)
class Conversation:
    """Turns, and of each whether it is learned (only the assistant's are). The last turn is a learned one.

    columns: the row's other columns.
    """

    messages: Turns
    learned: tuple[bool, ...]
    columns: Mapping[str, Any] = field(default_factory=dict, compare=False)
    tools: Tools = ()


@dataclass(frozen=True)
class Pair:
    """A prompt and two answers to it, of which the first is preferred. An answer is one turn or several."""

    prompt: Turns
    chosen: Turns
    rejected: Turns
    columns: Mapping[str, Any] = field(default_factory=dict, compare=False)
    tools: Tools = ()


@dataclass(frozen=True)
class Problem:
    """A prompt whose answers can be checked.

    answer: what the row says is right, if it says so in words. columns: the whole row but for the
    prompt, `answer` under its own name included: what a verifier is given.
    """

    prompt: Turns
    answer: str | None
    columns: Mapping[str, Any] = field(default_factory=dict, compare=False)
    tools: Tools = ()

    @property
    def right(self) -> Any:
        """What is right: the answer in words, else the column of that name (a list, say), else None."""
        return self.columns.get("answer") if self.answer is None else self.answer


Item = Conversation | Pair | Problem


_SAID = ("role", "content", "tool_calls", "reasoning_content", "name")


def said(turn: Turn) -> dict[str, Any]:
    """What a turn says, without a row's notes on it (numbers, dates and the like)."""
    return {key: turn[key] for key in _SAID if key in turn}


def turns_in(item: Item) -> tuple[Turns, ...]:
    """All turns of an item, by parts."""
    if isinstance(item, Conversation):
        return (item.messages,)
    return (item.prompt, item.chosen, item.rejected) if isinstance(item, Pair) else (item.prompt,)


def content_of(item: Item) -> bytes:
    """What an item says, in one form: equal for exact duplicates, whatever their other columns are."""
    parts: list[Any] = [[said(turn) for turn in turns] for turns in turns_in(item)]
    if item.tools:
        parts.append(item.tools)
    if isinstance(item, Problem):
        parts.append(item.answer)
    if isinstance(item, Conversation):
        parts.append(item.learned)
    return _bytes(json.dumps(parts, sort_keys=True, ensure_ascii=False, default=str))


def question_of(item: Item) -> bytes:
    """The first words of the user (or, if there are none, the first words), which decide what is held out.

    Not the whole content: the same question with another answer, in another stage or as a pair,
    must fall on the same side, or what is measured was learned before.
    """
    first = turns_in(item)[0]
    asked = next((turn for turn in first if turn["role"] == "user"), first[0])
    return _bytes(str(asked["content"]))


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
