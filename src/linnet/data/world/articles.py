"""Why this exists: the prose in which the world's facts are told and asked for: short articles about
inhabitants, places, things and dishes, walks over the map, and conversations. All facts appear in every
split; which ones stand together, and in which order, decides the split of an article, and which fact is asked
for that of a conversation.
"""

from __future__ import annotations

from linnet.data.world.draw import Draw, draw_in_split, partition
from linnet.data.world.facts import (
    FACTS,
    PERSON_FACTS,
    PLACE_FACTS,
    THING_FACTS,
    Fact,
    answer,
    question,
    statement,
)
from linnet.data.world.grammar import Scene, polish
from linnet.data.world.people import NAMES, PEOPLE, some
from linnet.data.world.places import FOODS, PLACES, THINGS, VILLAGE

_PLACE_KEYS = tuple(PLACES)
_THING_NAMES = tuple(THINGS)
_FOOD_NAMES = tuple(FOODS)


def _person_plan(draw: Draw) -> tuple[tuple[str, list[str]], str]:
    name = draw.pick(NAMES)
    chosen = draw.sample(PERSON_FACTS[1:], draw.between(5, 7))
    return (name, chosen), f"person|{name}|{','.join(chosen)}"


def person_paragraph(name: str, attributes: list[str], draw: Draw) -> str:
    """A paragraph that introduces an inhabitant and states these facts in this order."""
    person = PEOPLE[name]
    he = person.pronouns()[0]
    opening = draw.pick(
        (
            f"{person.full} is one of the animals of {VILLAGE}.",
            f"{name} is a {person.kind}.",
            f"This is {person.full}.",
            f"Do you know {person.full}? Everybody in {VILLAGE} knows {person.pronouns()[1]}.",
            f"In {VILLAGE} there is a {person.kind} called {name}.",
            f"Here are some things about {person.full}.",
        )
    )
    parts = [opening]
    for place, attribute in enumerate(attributes):
        named = place == 0 or draw.chance(0.2)
        sentence = statement(Fact(name, attribute), draw, pronoun=not named)
        if attribute == "friend" and draw.chance(0.3):
            friend = PEOPLE[person.friend]
            sentence += f" {friend.name} is a {friend.kind} and lives {PLACES[friend.home].living}."
        parts.append(sentence)
    if draw.chance(0.5) or sum(part.count(" ") + 1 for part in parts) < 32:
        parts.append(
            draw.pick(
                (
                    f"If you meet {person.pronouns()[1]}, say good day.",
                    f"Everyone is glad that {he} is there.",
                    f"{VILLAGE} would not be the same without {name}.",
                    f"That is {name}, as everyone knows {person.pronouns()[1]}.",
                )
            )
        )
    return " ".join(parts)


def _place_plan(draw: Draw) -> tuple[list[str], str]:
    keys = draw.sample(_PLACE_KEYS, draw.between(2, 3))
    return keys, f"places|{','.join(keys)}"


def _place_paragraph(key: str, draw: Draw) -> str:
    place = PLACES[key]
    parts = [statement(Fact(key, "where"), draw), f"{place.about}."]
    parts += [statement(Fact(key, attribute), draw) for attribute in draw.sample(PLACE_FACTS[1:], 2)]
    people = [person.name for person in PEOPLE.values() if person.home == key]
    parts.append(f"{people[0]} and {people[1]} live {place.living}." if len(people) == 2 else "")
    return " ".join(part for part in parts if part)


def _thing_plan(draw: Draw) -> tuple[list[str], str]:
    names = draw.sample(_THING_NAMES, draw.between(3, 5)) + draw.sample(_FOOD_NAMES, 1)
    return names, f"things|{','.join(names)}"


def _thing_paragraph(names: list[str], draw: Draw) -> str:
    parts = []
    for name in names:
        if name in FOODS:
            parts.append(f"{statement(Fact(name, 'parts'), draw)}")
            continue
        thing = THINGS[name]
        first, second = draw.sample(THING_FACTS, 2)
        start = draw.pick((f"This is a {name}.", f"Here is a {draw.pick(thing.adjectives)} {name}.", ""))
        sentence = statement(Fact(name, first), draw)
        if not start and sentence.startswith("It "):
            start = f"Look at this {name}."
        parts.append(
            " ".join(part for part in (start, sentence, statement(Fact(name, second), draw)) if part)
        )
    return " ".join(parts)


def _walk_plan(draw: Draw) -> tuple[tuple[str, list[str]], str]:
    name = draw.pick(NAMES)
    path = [PEOPLE[name].home]
    while len(path) < 6:
        fresh = [key for key in PLACES[path[-1]].near if key not in path]
        # A dead end is left by starting again, so that every walk is long enough to be like no other.
        path = [*path, draw.pick(fresh)] if fresh else path[:1]
    return (name, path), f"walk|{name}|{','.join(path)}"


def _walk(name: str, path: list[str], draw: Draw) -> str:
    person = PEOPLE[name]
    he, _, his, _ = person.pronouns()
    parts = [
        draw.pick(
            (
                f"{person.full}, who lives {PLACES[path[0]].living}, likes to go for a walk.",
                f"Every Sunday {person.full} goes for a walk. "
                f"{he.capitalize()} starts at {PLACES[path[0]].name}.",
            )
        )
    ]
    for step, key in enumerate(path[1:]):
        place, word = PLACES[key], ("First", "Then", "After that", "Next", "At last")[step]
        seen = draw.pick(
            (
                f"where there are {place.holds}",
                f"which is {place.where}" if "," not in place.where else "",
                f"and {he} [sits down|rests|stands still] for a while",
                f"and {he} looks at the {place.holds.split(', ')[0]}",
            )
        )
        parts.append(Scene(draw, {}).write(f"{word} {he} goes to {place.name}, {seen}."))
    parts.append(
        draw.pick(
            (
                f"In the evening {he} goes home and eats {person.food}.",
                f"Then {he} walks home, because {he} cannot bear {person.peeve}.",
                f"On the way home {he} thinks of {his} friend {person.friend}.",
            )
        )
    )
    return polish(" ".join(parts))


def article(split: str, *key: object) -> str:
    """A short article of facts; 30 to 150 words."""
    kind = Draw("article", split, *key).random()
    if kind < 0.55:
        (name, attributes), draw = draw_in_split(split, ("person", split, *key), _person_plan)
        text = person_paragraph(name, attributes, draw)
        if draw.chance(0.35):
            friend = PEOPLE[name].friend
            text += "\n" + person_paragraph(friend, draw.sample(PERSON_FACTS[1:], 4), draw)
        return polish(text)
    if kind < 0.72:
        keys, draw = draw_in_split(split, ("place", split, *key), _place_plan)
        return polish("\n".join(_place_paragraph(place, draw) for place in keys))
    if kind < 0.86:
        names, draw = draw_in_split(split, ("thing", split, *key), _thing_plan)
        return polish(_thing_paragraph(names, draw))
    (name, path), draw = draw_in_split(split, ("walk", split, *key), _walk_plan)
    return _walk(name, path, draw)


def facts_of(split: str) -> list[Fact]:
    """The facts that may be asked for in this split; no two splits share one."""
    return partition("facts", FACTS, split)


_ASKS = (
    '"{question}" asked {a}.',
    '{A} asked, "{question}"',
    '{A} wanted to know more. "{question}"',
    '"And now tell me," said {a}. "{question}"',
)
_FIRST_ASKS = _ASKS[:3]
_REPLIES = (
    '"{answer_comma}" said {b}.',
    '{B} [answered|replied|said], "{answer}"',
    '{B} [thought for a moment|smiled|nodded]. "{answer}"',
    '"I know that," said {b}. "{answer}"',
)
_ENDINGS = (
    '"You know [so much|everything]," said {a}.',
    '"Thank you," said {a}. "Now I know more than before."',
    "So {a} learned something that day.",
    '"[Ask me again tomorrow|Come again]," said {b}, and they [laughed|went home].',
    "",
)


def conversation(split: str, *key: object) -> str:
    """Two inhabitants ask and answer three to five questions about the world."""
    draw = Draw("conversation", split, *key)
    a, b = some(draw, 2)
    others = [fact for fact in facts_of(split) if fact.subject not in (a, b) and fact.value not in (a, b)]
    asked = draw.sample(others, draw.between(3, 5))
    slots = {"a": a, "b": b, "place": PLACES[draw.pick(_PLACE_KEYS)].at}
    scene = Scene(draw, slots)
    lines = [
        scene.write(
            draw.pick(
                (
                    f"{PEOPLE[a].full} and {PEOPLE[b].full} [sat|were sitting|met] {{place}}.",
                    f"{PEOPLE[a].full} [was curious|had many questions]. So {PEOPLE[a].pronouns()[0]} "
                    f"went to {PEOPLE[b].full}.",
                    f"{PEOPLE[b].full} knew [everything|a lot] about {VILLAGE}, "
                    f"and {PEOPLE[a].full} liked to ask.",
                )
            )
        )
    ]
    for turn, fact in enumerate(asked):
        scene.slots["question"] = question(fact, draw)
        scene.slots["answer"] = reply = answer(fact, draw)
        scene.slots["answer_comma"] = reply[:-1] + ","
        lines.append(polish(scene.one_of(_ASKS if turn else _FIRST_ASKS) + " " + scene.one_of(_REPLIES)))
    lines.append(scene.one_of(_ENDINGS))
    return draw.pick((" ", "\n")).join(line for line in lines if line)
