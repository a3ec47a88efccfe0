"""Why this exists: little games with words, whose answers stand in the question. Nothing has to be known for them,
only read: which word is the first, which stands between two others, what comes back when a list is turned
round. A model that has learned to look back can play them with words that it never saw together.

Which words stand in a game, and which game it is, decides its split, in prose as in instructions and problems.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from linnet.data.world.draw import Draw, draw_in_split
from linnet.data.world.grammar import Scene, polish
from linnet.data.world.people import PEOPLE, some
from linnet.data.world.places import PLACES, THINGS

WORDS = tuple(sorted({
    *(name for name in THINGS if " " not in name),
    *(person.kind for person in PEOPLE.values()),
    *(person.colour for person in PEOPLE.values()),
    "apple", "bread", "river", "stone", "cloud", "flower", "summer", "winter", "window", "friend",
}))  # fmt: skip


class Game(NamedTuple):
    """A game that is played: `answer` is what decides, `reply` a sentence that says it. level: 1 to 3, by its words."""

    kind: str
    question: str
    answer: str
    reply: str
    level: int


class _Rule(NamedTuple):
    fewest: int
    most: int
    asks: tuple[str, ...]
    answer: Callable[[list[str], int], str]


def _inner(words: list[str], at: int) -> int:
    """A place that has one before it and one after it."""
    return 1 + at % (len(words) - 2)


def _times(at: int) -> int:
    """Three to five."""
    return 3 + at % 3


# In questions {all} are the words, {before} and {after} those beside the one asked for, {times} how often.
_RULES: dict[str, _Rule] = {
    "say": _Rule(1, 1, ("Say the word {all}.", "Please say {all}.", "Which word is this: {all}?"), lambda w, _: w[0]),
    "twice": _Rule(1, 1, ("Say {all} twice.", "Say the word {all} two times."), lambda w, _: " ".join(w * 2)),
    "times": _Rule(1, 1, ("Say {all} {times} times.", "Say the word {all} {times} times."),
                   lambda w, at: " ".join(w * _times(at))),
    "first": _Rule(2, 5, ("What is the first word of: {all}?", "Which word comes first: {all}?"), lambda w, _: w[0]),
    "last": _Rule(2, 5, ("What is the last word of: {all}?", "Which word comes last: {all}?"), lambda w, _: w[-1]),
    "turn": _Rule(2, 3, ("Turn these words round: {all}.", "Say them the other way round: {all}."),
                  lambda w, _: ", ".join(reversed(w))),
    "between": _Rule(3, 5, ("Which word stands between {before} and {after}: {all}?",), lambda w, at: w[_inner(w, at)]),
    "next": _Rule(3, 5, ("Which word comes after {before}: {all}?",), lambda w, at: w[_inner(w, at)]),
    "count": _Rule(2, 5, ("How many words are these: {all}?",), lambda w, _: str(len(w))),
}  # fmt: skip
KINDS = tuple(_RULES)
# How often instructions ask for each. What they hardly teach is left to rewards, which need what is solved
# sometimes and not always; what is solved is among problems too, or it would be forgotten.
_TAUGHT = {
    "say": 8,
    "twice": 8,
    "times": 1,
    "first": 8,
    "last": 8,
    "turn": 8,
    "between": 3,
    "next": 3,
    "count": 8,
}
INSTRUCTED = tuple(kind for kind, weight in _TAUGHT.items() for _ in range(weight))
PROBLEM_KINDS = ("twice", "times", "turn", "between", "between", "next", "next")


def _proposal(
    kinds: tuple[str, ...], words_from: tuple[str, ...] = WORDS
) -> Callable[[Draw], tuple[tuple[str, list[str], int], str]]:
    def propose(draw: Draw) -> tuple[tuple[str, list[str], int], str]:
        kind = draw.pick(kinds)
        words = draw.sample(words_from, draw.between(_RULES[kind].fewest, _RULES[kind].most))
        at = draw.between(0, 5)
        place = _inner(words, at) if kind in ("between", "next") else _times(at) if kind == "times" else 0
        return (kind, words, at), f"game|{kind}|{place}|{','.join(words)}"

    return propose


def play(
    split: str, key: tuple[object, ...], kinds: tuple[str, ...] = KINDS, words_from: tuple[str, ...] = WORDS
) -> Game:
    """A game of one of these kinds, with some of these words (five or more)."""
    (kind, words, at), draw = draw_in_split(split, key, _proposal(kinds, words_from))
    rule = _RULES[kind]
    slots = {"all": ", ".join(words), "times": ("three", "four", "five")[_times(at) - 3]}
    if kind in ("between", "next"):
        place = _inner(words, at)
        slots |= {"before": words[place - 1], "after": words[place + 1]}
    question = Scene(draw, slots).write(draw.pick(rule.asks))
    answer = rule.answer(words, at)
    size = _times(at) - 1 if kind == "times" else len(words)
    level = 1 + (size > 2) + (size > 3)
    return Game(kind, polish(question), answer, f"The answer is {answer}.", level)


_OPENINGS = (
    "{a} and {b} {play} with words {place}.",
    "{a} met {b} {place}, and they played with words.",
    'It was raining, so {a} and {b} sat {place}. "Let us play with words," said {a}.',
)
_ROUNDS = (
    '"{question}" asked {a}. "{reply_comma}" said {b}.',
    '{a} asked, "{question}" {b} answered, "{reply}"',
    '"{question}" "{reply}"',
)
_ENDINGS = ('"You are good at this," said {a}.', "Then they went home.", "They laughed and played on.", "")


def document(split: str, *key: object) -> str:
    """Two inhabitants play some rounds; 30 to 150 words."""
    draw = Draw("games", split, *key)
    a, b = some(draw, 2)
    place = PLACES[draw.pick(tuple(PLACES))].at
    slots = {"a": PEOPLE[a].full, "b": PEOPLE[b].full, "place": place, "play": "played"}
    lines = [Scene(draw, slots).write(draw.pick(_OPENINGS))]
    wanted, number = draw.between(40, 100), 0
    while sum(line.count(" ") + 1 for line in lines) < wanted:
        game = play(split, ("games", split, *key, number))
        said = {
            "a": a,
            "b": b,
            "question": game.question,
            "reply": game.reply,
            "reply_comma": game.reply[:-1] + ",",
        }
        lines.append(Scene(draw, said).write(draw.pick(_ROUNDS)))
        number += 1
    lines.append(Scene(draw, {"a": a}).write(draw.pick(_ENDINGS)))
    return " ".join(line for line in lines if line)
