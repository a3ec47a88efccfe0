"""Why this exists: people ask more than one thing. A model that only ever saw one question and its answer gives the
answer to the first question again when it is asked a second one. So conversations have one to five exchanges, each
complete in itself, and some of them are about the same words: what was said before is there, and must not be taken
for what is asked now. Each exchange belongs to the conversation's split by its own content.
"""

from __future__ import annotations

from typing import Any

from linnet.data.world import chat, games, requests
from linnet.data.world.chat import Turn
from linnet.data.world.draw import Draw, check_split

_EXCHANGES = (1, 1, 2, 3, 4, 5)
_LONGEST = 30  # words of an exchange that is not the only one
_SHARED = 6  # words that a conversation comes back to


def exchanges(split: str, draw: Draw, count: int) -> list[Turn]:
    """`count` exchanges that follow each other, each with the keys kind, user, assistant, answer."""
    shared = tuple(draw.sample(games.WORDS, _SHARED))
    found: list[Turn] = []
    while len(found) < count:
        turn = chat.draw_turn(split, draw, shared if draw.chance(0.5) else games.WORDS)
        if count == 1 or len(f"{turn['user']} {turn['assistant']}".split()) <= _LONGEST:
            found.append(turn)
    return found


def messages(turns: list[Turn]) -> list[dict[str, str | None]]:
    """The exchanges as messages, role and content."""
    return [
        {"role": role, "content": turn[role]}  # type: ignore[literal-required]
        for turn in turns
        for role in ("user", "assistant")
    ]


def instruction(split: str, seed: int, i: int) -> dict[str, Any]:
    """Instruction `i`. Keys: messages (of one to five exchanges; role and content), kind and answer of the last
    exchange (its answer exact, or None).

    The answer stands in the assistant's message, for a list as its names without "and".
    """
    draw = Draw("instruction", check_split(split), seed, i)
    turns = exchanges(split, draw, draw.pick(_EXCHANGES))
    return {"messages": messages(turns), "kind": turns[-1]["kind"], "answer": turns[-1]["answer"]}


def request(split: str, seed: int, i: int) -> dict[str, Any]:
    """Request `i` (see `requests.request`); a third of the pairs are asked after one or two other exchanges."""
    made = requests.request(split, seed, i)
    draw = Draw("before a request", split, seed, i // 2)
    before = exchanges(split, draw, draw.between(1, 2)) if draw.chance(1 / 3) else []
    return {**made, "messages": [*messages(before), *made["messages"]]}
