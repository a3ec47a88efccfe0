"""What a chat template is given: plain data, in the forms that templates know, with nothing that passes for a token.

Templates are programs from strangers and so are the rows of a dataset. A template sees JSON's types only. Every text
in a row, a mapping's keys included, has the names of special tokens broken up by marks, so that only the
template itself can write one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

Message = Mapping[str, Any]
Tools = Sequence[Mapping[str, Any]]

BROKEN, OPEN, CLOSE = "\ufdd0", "\ufdd1", "\ufdd2"
"""Marks: between the characters of a special token's name that the template did not write; where what
the assistant says begins, and where it ends."""

MARKS = re.compile(f"[{BROKEN}{OPEN}{CLOSE}]")
_ESCAPE = f"\\u{ord(BROKEN):x}"
_ESCAPED = re.compile(rf"(?<!\\)((?:\\\\)*)\{_ESCAPE}")
THOUGHTS = ("reasoning_content", "thinking", "reasoning")
"""The names under which messages hold their thoughts, the usual one first, as transformers reads them."""


class SpecialNames:
    """The names of a tokenizer's special tokens, to be broken up where they stand in what people wrote.

    Broken up are whole names in any case (a template may change the case), and a text's beginning or end that is
    a part of a name (a template may write two texts side by side).
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        known = sorted((name for name in names if len(name) > 1), key=len, reverse=True)
        self._whole = re.compile("|".join(map(re.escape, known)) or "(?!)", re.IGNORECASE)
        self._heads = {name[:end] for name in known for end in range(2, len(name))}
        self._tails = {name[begin:] for name in known for begin in range(1, len(name) - 1)}
        self._longest = max(map(len, known), default=0)

    def broken_up(self, text: str) -> str:
        """`text` with every name in it broken up by marks, and no marks but these."""
        text = MARKS.sub("\ufffd", text).replace(_ESCAPE, BROKEN.join(_ESCAPE))
        if not self._longest:
            return text
        text = self._whole.sub(lambda found: BROKEN.join(found[0]), text)
        for size in range(min(self._longest, len(text)), 1, -1):
            if text[-size:] in self._heads:
                text = text[:-size] + BROKEN.join(text[-size:])
                break
        for size in range(min(self._longest, len(text)), 1, -1):
            if text[:size] in self._tails:
                return BROKEN.join(text[:size]) + text[size:]
        return text


def plain(value: Any, text: Callable[[str], str]) -> Any:
    """`value` in JSON's types, every text and every key in it through `text`; any other object as its type's name."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        return text(value)
    if isinstance(value, Mapping):
        return {
            text(key) if isinstance(key, str) else key: plain(inner, text) for key, inner in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [plain(inner, text) for inner in value]
    return f"<{type(value).__name__}>"


def with_thoughts(message: Message) -> Message:
    """A message whose thoughts stand under the two names that templates read, as transformers has it."""
    thoughts = next((message[name] for name in THOUGHTS if message.get(name) is not None), None)
    if thoughts is None:
        return message
    return {"thinking": thoughts, **message, "reasoning_content": thoughts}


def in_parts(message: Message) -> Message:
    """A message whose text is a list with one part, as templates of models that see pictures read it."""
    content = message.get("content")
    return (
        {**message, "content": [{"type": "text", "text": content}]} if isinstance(content, str) else message
    )


def with_arguments(message: Message, objects: bool, texts: bool) -> Message:
    """A message whose tool calls have their arguments in a form that the template can write.

    Args:
        objects: whether it writes them from an object. texts: whether it writes JSON text as it is.
    """
    calls = message.get("tool_calls")
    if not isinstance(calls, (list, tuple)) or objects == texts:
        return message

    def fitted(call: Any) -> Any:
        if not isinstance(call, Mapping):
            return call
        if isinstance(call.get("function"), Mapping):
            return {**call, "function": fitted(call["function"])}
        arguments = call.get("arguments")
        if isinstance(arguments, str) and objects:
            return {**call, "arguments": _parsed(arguments)}
        if isinstance(arguments, Mapping) and texts:
            return {**call, "arguments": json.dumps(arguments, ensure_ascii=False, default=str)}
        return call

    return {**message, "tool_calls": [fitted(call) for call in calls]}


def _parsed(text: str) -> Any:
    """The object that a JSON text holds; anything else as it is."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, dict) else text


def to_json(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
    """Jinja's filter `tojson` as transformers has it."""
    return json.dumps(value, ensure_ascii=ensure_ascii, **options)


def unescaped(text: str) -> str:
    """Rendered text in which marks are marks again where a template wrote them as escapes, as a list's repr does."""
    return _ESCAPED.sub(lambda found: found[1] + BROKEN, text) if _ESCAPE in text else text


def shared_beginning(one: str, other: str) -> str:
    """The beginning that two texts share."""
    pairs = enumerate(zip(one, other, strict=False))
    return one[: next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))]
