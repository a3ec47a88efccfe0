"""Why this exists: people ask more than one thing. A model that only ever saw one question and its answer gives the
answer to the first question again when it is asked a second one. So conversations have one to five exchanges, each
complete in itself, and some of them are about the same words: what was said before is there, and must not be taken
for what is asked now. Each exchange belongs to the conversation's split by its own content.
"""

from __future__ import annotations

from typing import Any

from linnet.data.world import chat, games, requests, sums
from linnet.data.world.chat import Turn
from linnet.data.world.draw import Draw, check_split

_EXCHANGES = (1, 1, 2, 3, 4, 5)
_LONGEST = 30  # words of an exchange that is not the only one
_SHARED = 6  # words that a conversation comes back to
_GAMES = 0.95  # of problems; the others are sums


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


def _before(share: float, most: int, *key: object) -> list[dict[str, str | None]]:
    """The messages of up to `most` exchanges, in a share of all cases."""
    draw = Draw("before", *key)
    split = str(key[1])
    return messages(exchanges(split, draw, draw.between(1, most))) if draw.chance(share) else []


def request(split: str, seed: int, i: int) -> dict[str, Any]:
    """Request `i` (see `requests.request`); a third of the pairs are asked after one or two other exchanges."""
    made = requests.request(split, seed, i)
    return {**made, "messages": [*_before(1 / 3, 2, "request", split, seed, i // 2), *made["messages"]]}


def preference(split: str, seed: int, i: int) -> dict[str, Any]:
    """Preference `i` (see `chat.preference`); a quarter are about an answer after one or two other exchanges."""
    made = chat.preference(split, seed, i)
    return {**made, "prompt": [*_before(0.25, 2, "preference", split, seed, i), *made["prompt"]]}


def problem(split: str, seed: int, i: int) -> dict[str, Any]:
    """Problem `i` with one exact answer, for rewards that can be verified.

    Keys: messages (the question as a user's message, in half of the cases after up to three other exchanges), answer
    (exact text), solution (a sentence that contains it), kind (see `games` and `sums.KINDS`), level (1 to 3).
    """
    draw = Draw("problem", check_split(split), seed, i)
    made: dict[str, Any]
    if draw.chance(_GAMES):
        game = games.play(split, ("problem", split, seed, i), games.PROBLEM_KINDS)
        made = {**game._asdict(), "kind": f"word {game.kind}", "solution": game.reply}
    else:
        made = dict(sums.problem_parts(split, draw))
    before = _before(0.5, 3, "problem", split, seed, i)
    kept = {key: made[key] for key in ("answer", "solution", "kind", "level")}
    return {"messages": [*before, {"role": "user", "content": made["question"]}], **kept}
