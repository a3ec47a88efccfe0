"""What a chat template leaves out of a conversation, so that it is refused or counted and never lost in silence.

A part counts as written when the text is another one without it. That is seen for each conversation: many templates
write thoughts or tools only in some places.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from linnet.data.conversations.kinds import Tools, Turns, Unusable
from linnet.text.chat_template import ChatTemplate, RefusedByTemplate

_READ = ("role", "content", "tool_calls", "reasoning_content", "tool_call_id")  # an id only links two turns


def left_out(template: ChatTemplate, turns: Turns, learned: Sequence[bool], tools: Tools) -> list[str]:
    """The parts of a conversation that the template does not write, and that can be learned without.

    Those are tools, thoughts of turns that are not learned, and further keys of messages.

    Raises:
        Unusable: it leaves out tool calls, or the thoughts of a learned turn.
        RefusedByTemplate: when it cannot write the conversation.
    """
    if not tools and all(turn.keys() <= {"role", "content"} for turn in turns):
        return []
    whole = template.render(turns, False, tools)

    def written(turns: Sequence[Mapping[str, Any]], tools: Tools) -> bool:
        try:
            return template.render(turns, False, tools) != whole
        except RefusedByTemplate:
            return True

    called = any("tool_calls" in turn for turn in turns)
    if called and not written([_without(turn, "tool_calls") for turn in turns], tools):
        raise Unusable("it has tool calls, which the chat template does not write")
    found = [] if not tools or written(turns, ()) else ["tools"]
    for place, turn in enumerate(turns):
        if "reasoning_content" not in turn:
            continue
        bare = [*turns[:place], _without(turn, "reasoning_content"), *turns[place + 1 :]]
        if written(bare, tools):
            continue
        if place < len(learned) and learned[place]:
            where = "" if place + 1 == len(turns) else " there (chat.turns=each learns each answer by itself)"
            raise Unusable(
                f"it has thoughts (reasoning_content), which the chat template does not write{where}"
            )
        found.append("thoughts of earlier turns")
    further = {key for turn in turns for key in turn if key not in _READ and key not in template.source}
    return [*dict.fromkeys(found), *sorted(further)]


def _without(turn: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in turn.items() if name != key}
