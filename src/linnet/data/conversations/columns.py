"""The columns of a row: those that say something, and the turns that they add whatever the schema is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from linnet.data.conversations.kinds import Turn, Turns, Unusable
from linnet.data.conversations.tools import TOOLS, from_json, holds
from linnet.data.conversations.turns import spoken, text_of, turn, turns_of

Row = Mapping[str, Any]
SYSTEM = ("system", "system_prompt", "system_message")
READ = (*SYSTEM, *TOOLS, "history", "label")
"""Columns that are read whatever the schema is."""


def first_of(row: Row, names: Sequence[str]) -> str | None:
    return next((name for name in names if row.get(name) is not None), None)


def named(row: Row, names: Sequence[str]) -> tuple[Any, str]:
    name = first_of(row, names)
    if name is None:
        raise Unusable(f"no {names[0]}")
    return row[name], name


def rest_of(row: Row, used: Sequence[str]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in used}


def texts_of(row: Row, names: Sequence[str]) -> list[str]:
    """The texts of the columns of these names that say something; of a list of texts, all of them.

    Raises:
        Unusable: one is neither text nor a list of texts.
    """
    found = []
    for name in names:
        value = row.get(name)
        if not holds(value) or (isinstance(value, str) and not value.strip()):
            continue
        found += [text_of(one, name) for one in (value if isinstance(value, (list, tuple)) else [value])]
    return found


def opened(row: Row, prompt: Turns) -> Turns:
    """A prompt with the row's system text before it, unless it has one."""
    if prompt[0]["role"] == "system":
        return prompt
    name = next((name for name in SYSTEM if holds(row.get(name))), None)
    if name is None or not str(row[name]).strip():
        return prompt
    return (turn("system", text_of(row[name], name)), *prompt)


def recalled(row: Row, prompt: Turns) -> tuple[Turns, tuple[bool, ...]]:
    """A prompt with the row's history before it, and of each turn whether it is an answer of the history.

    Raises:
        Unusable: the history is not pairs of a question and its answer, nor turns.
    """
    history = from_json(row.get("history"))
    if not holds(history):
        return prompt, (False,) * len(prompt)
    earlier: list[Turn] = []
    if isinstance(spoken(history), list) and isinstance(history[0], Mapping):
        earlier = [*turns_of(history)[0]]
    else:
        pairs = history if isinstance(history, (list, tuple)) else [history]
        for pair in pairs:
            if not isinstance(pair, (list, tuple)) or len(pair) != 2:
                raise Unusable("its history is not a list of questions and answers")
            asked, said = (text_of(text, "history") for text in pair)
            earlier += [turn("user", asked), turn("assistant", said)]
    head = int(prompt[0]["role"] == "system")
    turns = (*prompt[:head], *earlier, *prompt[head:])
    places = range(head, head + len(earlier))
    return turns, tuple(n in places and one["role"] == "assistant" for n, one in enumerate(turns))
