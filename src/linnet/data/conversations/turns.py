"""Turns out of the forms in which datasets write them, as role and content.

Forms: lists of `role`/`content` or `from`/`value` objects, texts of one speaker, and transcripts with
`Human:` and `Assistant:` before each turn, as Anthropic's hh-rlhf has them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from linnet.data.conversations.kinds import Turn, Turns, Unusable
from linnet.data.conversations.tools import call_of, calls_of, from_json, holds
from linnet.text.template_inputs import THOUGHTS

_ROLES = {
    "system": "system", "developer": "system", "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "model": "assistant", "bot": "assistant",
    "chatgpt": "assistant", "bing": "assistant", "bard": "assistant", "claude": "assistant", "ai": "assistant",
    "function_call": "assistant", "tool_call": "assistant",
    "tool": "tool", "function": "tool", "observation": "tool", "tool_response": "tool", "ipython": "tool",
}  # fmt: skip
_CALLS = ("function_call", "tool_call")  # ShareGPT's roles of a turn whose text is a call
_FLAGS = (
    "weight",
    "train",
    "training",
    "loss",
)  # OpenAI's, axolotl's and ms-swift's ways to say what is learned
_MEDIA = (
    "image",
    "images",
    "image_url",
    "input_image",
    "audio",
    "audios",
    "input_audio",
    "video",
    "videos",
    "file",
)
_TEXT = (None, "text", "input_text", "output_text")
_SPEAKER = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):")


def turn(role: str, content: str) -> Turn:
    """One turn."""
    return {"role": role, "content": content}


def turns_of(value: Any) -> tuple[Turns, tuple[bool, ...]]:
    """Turns of a list of objects, or of its JSON text, and of each whether it may be learned.

    May be learned: what the assistant says, unless `weight` (or `train`) is 0. Empty system turns are left out.
    Keys that are neither role nor content are kept as they are, for templates that write them.

    Raises:
        Unusable: there are none, one is empty, is not text, or is of nobody that we know.
    """
    value = from_json(value)
    if not isinstance(value, (list, tuple)) or not all(isinstance(one, Mapping) for one in value):
        raise Unusable("its turns are not a list of objects")
    found: list[Turn] = []
    learned: list[bool] = []
    for one in value:
        speaker = "role" if holds(one.get("role")) else "from"
        name = str(one.get(speaker) or "").strip()
        role = _ROLES.get(name.lower())
        if role is None:
            raise Unusable(f"a turn of an unknown role ({name[:20]!r})" if name else "a turn without a role")
        text = "content" if one.get("content") is not None else "value"
        content = _content(one.get(text))
        further = _further(one, (speaker, text))
        if name.lower() in _CALLS:
            content, further = "", {**further, "tool_calls": call_of(content)}
        if not content.strip() and "tool_calls" not in further:
            if role == "system":
                continue
            raise Unusable("an empty turn")
        found.append({"role": role, "content": content, **further})
        learned.append(role == "assistant" and _counts(one))
    if not found:
        raise Unusable("no turns")
    return tuple(found), tuple(learned)


def _further(one: Mapping[str, Any], used: tuple[str, ...]) -> dict[str, Any]:
    """What an object says beside who speaks and the text, tool calls and thoughts under their usual names."""
    gone = (*used, "role", "content", *_FLAGS)
    kept = {key: value for key, value in one.items() if key not in gone and holds(value)}
    for name in _MEDIA:
        if name in kept:
            raise Unusable(f"a turn with {name}")
    for name in ("function_call", "tool_calls"):
        if name in kept:
            calls = kept.pop(name)
            kept["tool_calls"] = calls_of(calls) if name == "tool_calls" else call_of(calls)
    thoughts = next((kept.pop(name) for name in THOUGHTS if name in kept), None)
    if thoughts is not None and not isinstance(thoughts, str):
        raise Unusable("thoughts that are not text")
    kept = {key: value for key, value in kept.items() if key not in THOUGHTS}
    return {**kept, "reasoning_content": thoughts} if thoughts and thoughts.strip() else kept


def _counts(one: Mapping[str, Any]) -> bool:
    """Whether a turn is to be learned, by its own flag.

    Raises:
        Unusable: it is to be learned in part.
    """
    for key in _FLAGS:
        value = one.get(key)
        if value is None or (key == "loss" and not isinstance(value, bool)):
            continue
        if str(value).lower() in ("0", "0.0", "false"):
            return False
        if str(value).lower() not in ("1", "1.0", "true"):
            raise Unusable(f"a turn of {key} {str(value)[:20]} (known are 0 and 1)")
    return True


def _content(value: Any) -> str:
    """The text of a turn; of a list of parts, of all that are text."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if not isinstance(value, (list, tuple)):
        raise Unusable("a turn that is not only text")
    parts = [{"text": part} if isinstance(part, str) else part for part in value]
    for part in parts:
        plain = isinstance(part, Mapping) and part.get("type") in _TEXT and isinstance(part.get("text"), str)
        if not plain or any(holds(part.get(name)) for name in _MEDIA):
            raise Unusable("a turn that is not only text")
    return "".join(part["text"] for part in parts)


def learned_after(prompt: Turns, answer: Turns) -> tuple[bool, ...]:
    """Of a prompt's and its answer's turns, whether each is learned: the assistant's in the answer."""
    return (False,) * len(prompt) + tuple(turn["role"] == "assistant" for turn in answer)


def text_of(value: Any, name: str) -> str:
    """A column's text.

    Raises:
        Unusable: it is empty or not text; a finite number counts as text.
    """
    if isinstance(value, float) and not math.isfinite(value):
        raise Unusable(f"{name} is not a finite number")
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


def spoken(value: Any) -> Any:
    """A list of turns, also where it is JSON text; anything else as it is."""
    found = from_json(value)
    listed = isinstance(found, list) and bool(found)
    return (
        found
        if listed and all(isinstance(one, Mapping) and one.keys() & {"role", "from"} for one in found)
        else value
    )


def prompt_of(value: Any, name: str) -> Turns:
    """A prompt's turns: of a list, of a transcript, or of a text, which the user says.

    An empty turn at the end, where a transcript leaves room for the answer, is left out.
    """
    value = spoken(value)
    if not isinstance(value, (list, tuple)):
        text = text_of(value, name)
        found = transcript(text) or (turn("user", text),)
    else:
        found = turns_of(value)[0]
    last = found[-1]
    if last["role"] == "assistant" and not last["content"].strip() and "tool_calls" not in last:
        found = found[:-1]
    if not found:
        raise Unusable(f"{name} is empty")
    return found


def answer_of(value: Any, name: str) -> Turns:
    """An answer's turns: of a list, or of a text, which the assistant says."""
    value = spoken(value)
    if isinstance(value, (list, tuple)):
        return turns_of(value)[0]
    return (turn("assistant", text_of(value, name)),)
