"""Why this exists: little problems with one exact answer, for the stages that verify. A pair of numbers
belongs to one split for its operation wherever it is used (in prose, as an instruction, as a problem), so
what is tested was never shown.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from linnet.data.world.draw import Draw, partition
from linnet.data.world.grammar import Scene, polish
from linnet.data.world.people import PEOPLE, some

_WORDS = (
    *(
        "zero",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
    ),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
)
_NOUNS = (
    *("apple apples", "pear pears", "plum plums", "egg eggs", "button buttons", "shell shells", "nut nuts"),
    *("coin coins", "candle candles", "book books", "cup cups", "stone stones", "bun buns", "flower flowers"),
    *("berry berries", "nail nails", "carrot carrots", "bell bells"),
)

Numbers = tuple[int, ...]


def _add(level: int) -> list[Numbers]:
    if level == 1:
        return [(a, b) for a in range(1, 10) for b in range(a, 10)]
    if level == 2:
        return [(a, b) for a in range(1, 21) for b in range(a, 21) if b > 9]
    return [(a, b) for b in range(21, 90) for a in range(2, min(b, 99 - b) + 1)]


def _subtract(level: int) -> list[Numbers]:
    low, high = ((2, 10), (11, 20), (21, 99))[level - 1]
    return [(a, b) for a in range(low, high + 1) for b in range(1, min(a, 21))]


def _times(level: int) -> list[Numbers]:
    top = (5, 10, 12)[level - 1]
    low = (0, 5, 10)[level - 1]
    return [(a, b) for a in range(2, top + 1) for b in range(a, top + 1) if b > low]


def _bigger(level: int) -> list[Numbers]:
    top = (10, 20, 60)[level - 1]
    return [(a, b) for b in range(2, top + 1) for a in range(1, b)]


def _after(level: int) -> list[Numbers]:
    low, high = ((1, 20), (21, 60), (61, 198))[level - 1]
    return [(n,) for n in range(low, high + 1)]


def _sequence(level: int) -> list[Numbers]:
    steps = ((1, 2), (3, 5, 10), (4, 6, 7))[level - 1]
    return [(start, step) for start in range(1, 21) for step in steps]


def _sorting(level: int) -> list[Numbers]:
    top = (9, 14, 20)[level - 1]
    return [
        (a, b, c)
        for a in range(1, top)
        for b in range(a + 1, top)
        for c in range(max(b, top - 6) + 1, top + 1)
    ]


# kind -> the problems of a level
FAMILIES: dict[str, Callable[[int], list[Numbers]]] = {
    "add": _add,
    "subtract": _subtract,
    "times": _times,
    "share": _times,
    "bigger": _bigger,
    "after": _after,
    "sequence": _sequence,
    "missing": _add,
    "sort": _sorting,
}
KINDS = tuple(FAMILIES)
# A held-out sum may not be given away by the problem that turns it round.
_SAME_NUMBERS = {"missing": "add", "share": "times"}


@cache
def pool(kind: str, level: int, split: str) -> tuple[Numbers, ...]:
    """The problems of a kind and level that belong to a split. A problem keeps its split on every level."""
    family = _SAME_NUMBERS.get(kind, kind)
    return tuple(partition(f"{family} {level}", tuple(_fresh(kind, level)), split))


def _fresh(kind: str, level: int) -> list[Numbers]:
    """The problems of this level that no lower level has."""
    lower = {item for below in range(1, level) for item in FAMILIES[kind](below)}
    return [item for item in FAMILIES[kind](level) if item not in lower]


def solve(kind: str, numbers: Numbers) -> str:
    """The exact answer."""
    if kind == "add":
        return str(sum(numbers))
    if kind == "subtract":
        return str(numbers[0] - numbers[1])
    if kind == "times":
        return str(numbers[0] * numbers[1])
    if kind in ("share", "missing"):
        return str(numbers[1])
    if kind == "bigger":
        return str(max(numbers))
    if kind == "after":
        return str(numbers[0] + 1)
    if kind == "sequence":
        return str(numbers[0] + 4 * numbers[1])
    return ", ".join(map(str, sorted(numbers)))


def count(number: int, noun: str, words: bool) -> str:
    """ "3 apples" or "three apples", "1 apple"."""
    one, many = noun.split()
    shown = _WORDS[number] if words and number < len(_WORDS) else str(number)
    return f"{shown} {one if number == 1 else many}"


# What is told, what is asked, what is so. {a} and {b} are counted things, {c} is the result.
_STORIES: dict[str, tuple[tuple[str, str, str], ...]] = {
    "add": (
        ("{Name} has {a}. {He} [finds|buys|gets|picks up] {n} more.", "How many {many} does {he} have now?",
         "Now {he} has {c}."),
        ("There are {a} on the table. {Name} puts {n} more beside them.", "How many {many} are there now?",
         "Now there are {c}."),
        ("{Name} has {a}, and {other} has {b}.", "How many {many} do they have together?",
         "Together they have {c}."),
        ("In the morning {name} [sells|carries|counts] {a}. In the afternoon it is {b}.",
         "How many {many} is that in all?", "That is {c} in all."),
    ),
    "subtract": (
        ("{Name} has {a}. {He} [gives|sells] {n} to {other}.", "How many {many} does {he} have left?",
         "Now {he} has {c} left."),
        ("There are {a} in the basket. {Name} takes out {n}.", "How many {many} are left in the basket?",
         "Now there are {c} left."),
        ("{Name} had {a} and lost {n} on the way.", "How many {many} does {he} still have?",
         "{He} still has {c}."),
    ),
    "times": (
        ("{Name} has {x} baskets with {b} in each.", "How many {many} are there in all?", "That makes {c}."),
        ("{Name} buys {b} every day for {x} days.", "How many {many} are there then?", "Then there are {c}."),
    ),
    "share": (
        ("{Name} shares {c} fairly among {x} friends.", "How many {many} does each friend get?",
         "Each friend gets {b}."),
        ("{Name} puts {c} into {x} boxes, the same in each.", "How many {many} are in each box?",
         "In each box there are {b}."),
    ),
}  # fmt: skip

_PLAIN: dict[str, tuple[str, ...]] = {
    "add": ("What is {a} + {b}?", "How much is {a} plus {b}?", "Add {a} and {b}."),
    "subtract": ("What is {a} - {b}?", "How much is {a} minus {b}?", "Take {b} away from {a}."),
    "times": ("What is {a} x {b}?", "How much is {a} times {b}?"),
    "share": ("What is {p} / {a}?", "Share {p} among {a}. How much does each get?"),
    "bigger": ("Which number is bigger, {x} or {y}?", "Which is more, {x} or {y}?"),
    "after": ("Which number comes after {a}?", "Count on by one from {a}."),
    "sequence": ("Which number comes next: {row}?", "Go on counting: {row}."),
    "missing": ("{a} + ? = {s}. Which number is missing?", "What must you add to {a} to get {s}?"),
    "sort": ("Put these numbers in order, the smallest first: {mixed}.",),
}

_SOLUTIONS: dict[str, str] = {
    "add": "{a} + {b} = {answer}.",
    "subtract": "{a} - {b} = {answer}.",
    "times": "{a} x {b} = {answer}.",
    "share": "{p} / {a} = {answer}.",
    "bigger": "{answer} is bigger than {least}.",
    "after": "After {a} comes {answer}.",
    "sequence": "After {row} comes {answer}.",
    "missing": "{a} + {answer} = {s}.",
    "sort": "In order they are {answer}.",
}


def _number_slots(kind: str, numbers: Numbers, draw: Draw) -> dict[str, str]:
    shuffled = draw.sample(numbers, len(numbers))
    if kind == "add" and draw.chance(0.5):
        numbers = (numbers[1], numbers[0])
    a, b = numbers[0], numbers[1] if len(numbers) > 1 else 0
    return {
        "a": str(a),
        "b": str(b),
        "p": str(a * b),
        "s": str(a + b),
        "x": str(shuffled[0]),
        "y": str(shuffled[-1]),
        "least": str(min(numbers)),
        "row": ", ".join(str(a + step * b) for step in range(4)),
        "mixed": ", ".join(map(str, shuffled)),
        "answer": solve(kind, numbers),
    }


def told(kind: str, numbers: Numbers, draw: Draw) -> tuple[str, str, str]:
    """A sum as a little story: what happens, the question, and the sentence that answers it."""
    slots = _number_slots(kind, numbers, draw)
    a, b = int(slots["a"]), int(slots["b"])
    noun, words = draw.pick(_NOUNS), draw.chance(0.3)
    name, other = some(draw, 2)
    result = a * b if kind in ("times", "share") else int(slots["answer"])

    def short(n: int) -> str:
        return _WORDS[n] if words and n < len(_WORDS) else str(n)

    scene = Scene(
        draw,
        {
            "name": name,
            "other": other,
            "he": PEOPLE[name].pronouns()[0],
            "many": noun.split()[1],
            "a": count(a, noun, words),
            "b": count(b, noun, words),
            "c": count(result, noun, words),
            "n": short(b),
            "x": short(a),
        },
    )
    happens, asks, ends = (scene.write(part) for part in draw.pick(_STORIES[kind]))
    happens = happens.replace("There are 1 ", "There is 1 ").replace("There are one ", "There is one ")
    ends = ends.replace("there are 1 ", "there is 1 ").replace("there are one ", "there is one ")
    happens = happens.replace("beside them", "beside it") if a == 1 else happens
    return polish(happens), asks, polish(ends)


def problem_parts(split: str, draw: Draw, kinds: tuple[str, ...] = KINDS) -> dict[str, str | int]:
    """A problem: question, exact answer, a worked solution, kind and level 1 to 3."""
    kind = draw.pick(kinds)
    level = 1 if draw.chance(0.5) else 2 if draw.chance(0.7) else 3
    numbers = draw.pick(pool(kind, level, split))
    slots = _number_slots(kind, numbers, draw)
    if kind in _STORIES and draw.chance(0.5):
        happens, asks, solution = told(kind, numbers, draw)
        question = f"{happens} {asks}"
    else:
        question = Scene(draw, slots).write(draw.pick(_PLAIN[kind]))
        solution = Scene(draw, slots).write(_SOLUTIONS[kind])
    return {
        "question": question,
        "answer": slots["answer"],
        "solution": solution,
        "kind": kind,
        "level": level,
    }


_OPENINGS = (
    "{name} is counting today.",
    "{name} and {other} [learn to count|do sums] {when}.",
    "In the school of Lottie everyone is doing sums.",
    "Here are some sums for {name}.",
    '"Who can count?" asks Lottie. "I can," says {name}.',
)


def document(split: str, *key: object) -> str:
    """Sums in words and digits, as many as make at least 32 words."""
    draw = Draw("sums", split, *key)
    name, other = some(draw, 2)
    scene = Scene(
        draw, {"name": name, "other": other, "when": draw.pick(("together", "after lunch", "at school"))}
    )
    lines = [scene.write(draw.pick(_OPENINGS))]
    wanted = draw.between(32, 90)
    while sum(line.count(" ") + 1 for line in lines) < wanted:
        kind = draw.pick(
            ("add", "add", "subtract", "subtract", "times", "share", "after", "bigger", "sequence")
        )
        level = 1 if draw.chance(0.6) else 2 if draw.chance(0.8) else 3
        numbers = draw.pick(pool(kind, level, split))
        slots = _number_slots(kind, numbers, draw)
        if kind in _STORIES and draw.chance(0.65):
            happens, asks, ends = told(kind, numbers, draw)
            lines.append(f"{happens} {asks} {ends}" if draw.chance(0.5) else f"{happens} {ends}")
        elif draw.chance(0.5):
            scene.slots |= slots
            lines.append(scene.write(draw.pick(_PLAIN[kind])) + " " + scene.write(_SOLUTIONS[kind]))
        else:
            lines.append(Scene(draw, slots).write(_SOLUTIONS[kind]))
    return draw.pick((" ", "\n")).join(lines)
