"""Turns out of the forms in which datasets write them, as role and content.

Forms: lists of `role`/`content` or `from`/`value` objects, texts of one speaker, and transcripts with
`Human:` and `Assistant:` before each turn, as Anthropic's hh-rlhf has them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from linnet.data.conversations.kinds import Turn, Turns, Unusable

_ROLES = {
    "system": "system", "developer": "system", "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "model": "assistant", "bot": "assistant",
    "chatgpt": "assistant", "tool": "tool", "function": "tool", "observation": "tool",
}  # fmt: skip
_KEPT = ("tool_calls", "tool_call_id", "name", "reasoning_content")
_SPEAKER = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):")


def turn(role: str, content: str) -> Turn:
    """One turn."""
    return {"role": role, "content": content}


def turns_of(value: Any) -> tuple[Turns, tuple[bool, ...]]:
    """Turns of a list of objects, and of each whether it may be learned.

    May be learned: what the assistant says, unless `weight` (or `train`) is 0. Empty system turns are left out.

    Raises:
        Unusable: there are none, one is empty, is not text, or is of nobody that we know.
    """
    if not isinstance(value, (list, tuple)) or not all(isinstance(one, Mapping) for one in value):
        raise Unusable("its turns are not a list of objects")
    found: list[Turn] = []
    learned: list[bool] = []
    for one in value:
        said = str(one.get("role", one.get("from", "")) or "").strip()
        role = _ROLES.get(said.lower())
        if role is None:
            raise Unusable(f"a turn of an unknown role ({said[:20]!r})" if said else "a turn without a role")
        kept = {key: one[key] for key in _KEPT if one.get(key)}
        content = _content(one.get("content", one.get("value")))
        if not content.strip() and "tool_calls" not in kept:
            if role == "system":
                continue
            raise Unusable("an empty turn")
        found.append({"role": role, "content": content, **kept})
        spared = any(one.get(key) is not None and not one[key] for key in ("weight", "train"))
        learned.append(role == "assistant" and not spared)
    if not found:
        raise Unusable("no turns")
    return tuple(found), tuple(learned)


def _content(value: Any) -> str:
    """The text of a turn; of a list of parts, of all that are text."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, (list, tuple)) and all(
        isinstance(part, Mapping) and isinstance(part.get("text"), str) for part in value
    ):
        return "".join(part["text"] for part in value)
    raise Unusable("a turn that is not only text")


def learned_after(prompt: Turns, answer: Turns) -> tuple[bool, ...]:
    """Of a prompt's and its answer's turns, whether each is learned: the assistant's in the answer."""
    return (False,) * len(prompt) + tuple(turn["role"] == "assistant" for turn in answer)


def text_of(value: Any, name: str) -> str:
    """A column's text.

    Raises:
        Unusable: it is empty or not text; a number counts as text.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise Unusable(f"{name} is not text")
    if not value.strip():
        raise Unusable(f"{name} is empty")
    return value


def transcript(text: str) -> Turns | None:
    """The turns of a `Human: … Assistant: …` transcript; None when it is none. A last turn may be empty."""
    _, *parts = _SPEAKER.split(text)
    if not parts or _SPEAKER.match(text) is None:
        return None
    speakers = {"Human": "user", "Assistant": "assistant"}
    return tuple(turn(speakers[who], said.strip()) for who, said in zip(parts[::2], parts[1::2], strict=True))


def prompt_of(value: Any, name: str) -> Turns:
    """A prompt's turns: of a list, of a transcript, or of a text, which the user says.

    An empty turn at the end, where a transcript leaves room for the answer, is left out.
    """
    if not isinstance(value, (list, tuple)):
        text = text_of(value, name)
        found = transcript(text) or (turn("user", text),)
    else:
        found = turns_of(value)[0]
    if found[-1]["role"] == "assistant" and not found[-1]["content"].strip():
        found = found[:-1]
    if not found:
        raise Unusable(f"{name} is empty")
    return found


def answer_of(value: Any, name: str) -> Turns:
    """An answer's turns: of a list, or of a text, which the assistant says."""
    if isinstance(value, (list, tuple)):
        return turns_of(value)[0]
    return (turn("assistant", text_of(value, name)),)
