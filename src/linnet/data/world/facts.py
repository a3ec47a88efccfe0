"""Why this exists: every fact of the world in one place, with the ways of stating it, asking for it and
answering. Articles, conversations, instructions and preferences all speak through this table, so they agree.
"""

from __future__ import annotations

from dataclasses import dataclass

from linnet.data.world.draw import Draw
from linnet.data.world.grammar import Scene, polish
from linnet.data.world.people import PEOPLE
from linnet.data.world.places import FOODS, PLACES, THINGS, VILLAGE

# In statements {who} is a name or a pronoun; in questions and answers it is always a name.
_STATEMENTS: dict[str, tuple[str, ...]] = {
    "kind": ("{Who} is a {value}.", "{Who} is [one of the animals|known to all] of {village}, a {value}."),
    "home": (
        "{Who} lives {value}.",
        "{Who} has [a home|a small home|a cosy home] {value}.",
        "[Every evening|At night] {who} goes home and sleeps {value}.",
        "You can find {his} home {value}.",
    ),
    "job": (
        "{Who} is the {value} and {duty}.",
        "{Who} works as the {value} of {village}.",
        "{Who} {duty}, because {who} is the {value}.",
        "{His} job is that of the {value}. {Who} {duty}.",
    ),
    "food": (
        "{Who} [likes|loves] {value} best of all.",
        "{His} favourite food is {value}.",
        "When {who} smells {value}, {who} is [happy|the first to come].",
        "{Who} [would walk|walks] a long way for {value}.",
    ),
    "colour": (
        "{His} favourite colour is {value}.",
        "The colour that {who} likes best is {value}.",
        "{Who} likes {value} more than any other colour.",
        "{His} door is painted {value}, because that is {his} favourite colour.",
    ),
    "friend": (
        "{His} best friend is {value}.",
        "{Who} and {value} are best friends.",
        "{Who} [often visits|tells everything to] {his} best friend {value}.",
    ),
    "peeve": (
        "{Who} cannot bear {value}.",
        "The one thing that {who} cannot bear is {value}.",
        "{Who} is [kind|patient|friendly], but {who} cannot bear {value}.",
    ),
    "treasure": (
        "{His} treasure is {a_value}.",
        "{Who} has {a_value} and would not give it away.",
        "What {who} treasures most is {a_value}.",
    ),
    "where": ("{Who} is {value}.", "You will find {who} {value}.", "{Who} [stands|lies] {value}."),
    "holds": ("There you can find {value}.", "{Who} is [known|the place] for {value}.", "It has {value}."),
    "near": ("From {who} a path goes to {value}.", "Beside {who} is {value}.", "It is not far from {value}."),
    "material": ("{Who} is made of {value}.", "One needs {value} to make {who}.", "It is made of {value}."),
    "use": ("{Who} is there {value}.", "It is used {value}.", "People need {who} {value}."),
    "parts": ("{Who} is made from {value}.", "For {who} you need {value}.", "To make it, take {value}."),
}

_QUESTIONS: dict[str, tuple[str, ...]] = {
    "kind": ("What kind of animal is {who}?", "Which animal is {who}?"),
    "home": ("Where does {who} live?", "Where is the home of {who}?", "Can you tell me where {who} lives?"),
    "job": ("What is the job of {who}?", "What does {who} work as?", "Which job does {who} have?"),
    "food": ("What does {who} like to eat best?", "What is the favourite food of {who}?"),
    "colour": ("What is the favourite colour of {who}?", "Which colour does {who} like best?"),
    "friend": ("Who is the best friend of {who}?", "Who is {who}'s best friend?"),
    "peeve": ("What can {who} not bear?", "Which thing can {who} not bear?"),
    "treasure": ("What is the treasure of {who}?", "What does {who} treasure most?"),
    "who": (
        "Who is the {job}?",
        "Who works as the {job} of {village}?",
        "Which animal of {village} is the {job}?",
    ),
    "where": ("Where is {who}?", "Where can I find {who}?"),
    "holds": ("What can you find {at}?", "Which things are there {at}?", "Name three things {at}."),
    "near": ("Which place is beside {who}?", "Where can you walk from {who}?"),
    "material": ("What is {who} made of?", "What do you need to make {who}?"),
    "use": ("What is {who} for?", "What can you do with {who}?"),
    "parts": ("What is {who} made from?", "What do I need for {who}?"),
}

_ANSWERS: dict[str, tuple[str, ...]] = {
    "kind": ("{Who} is a {value}.",),
    "home": ("{Who} lives {value}.", "The home of {who} is {value}."),
    "job": ("{Who} is the {value}.", "{Who} works as the {value}. {He} {duty}."),
    "food": ("{Who} likes {value} best.", "The favourite food of {who} is {value}."),
    "colour": ("{Who} likes {value} best.", "The favourite colour of {who} is {value}."),
    "friend": ("{Who}'s best friend is {value}.", "{Value} is the best friend of {who}."),
    "peeve": ("{Who} cannot bear {value}.",),
    "treasure": ("The treasure of {who} is {a_value}.", "{Who} treasures {a_value} most."),
    "who": ("{Value} is the {job}.", "It is {value}. {He} {duty}."),
    "where": ("{Who} is {value}.", "You can find {who} {value}."),
    "holds": ("{At} you can find {value}.", "There are {value} {at}."),
    "near": ("Beside {who} is {value}.", "From {who} you can walk to {value}."),
    "material": ("{Who} is made of {value}.",),
    "use": ("{Who} is there {value}.", "You can use it {value}."),
    "parts": ("{Who} is made from {value}.", "You need {value}."),
}

PERSON_FACTS = ("kind", "home", "job", "food", "colour", "friend", "peeve", "treasure")
PLACE_FACTS = ("where", "holds", "near")
THING_FACTS = ("material", "use")
TOPIC = {
    **dict.fromkeys((*PERSON_FACTS, "who"), "person"),
    **dict.fromkeys(PLACE_FACTS, "place"),
    **dict.fromkeys(THING_FACTS, "thing"),
    "parts": "food",
}


@dataclass(frozen=True)
class Fact:
    """One true thing: `value` of `attribute` for `subject` (a name or key of the world's tables)."""

    subject: str
    attribute: str

    @property
    def topic(self) -> str:
        """person, place, thing or food."""
        return TOPIC[self.attribute]

    @property
    def value(self) -> str:
        """The exact answer, without an article."""
        if self.topic == "person":
            person = PEOPLE[self.subject]
            if self.attribute == "home":
                return PLACES[person.home].living
            return person.name if self.attribute == "who" else str(getattr(person, self.attribute))
        if self.topic == "place":
            place = PLACES[self.subject]
            return (
                PLACES[place.near[0]].name
                if self.attribute == "near"
                else str(getattr(place, self.attribute))
            )
        if self.topic == "thing":
            return str(getattr(THINGS[self.subject], self.attribute))
        return FOODS[self.subject].parts

    def key(self) -> str:
        """What the fact is about, for assignment to a split."""
        return f"{self.subject}|{self.attribute}"


def _all_facts() -> tuple[Fact, ...]:
    facts = [Fact(name, attribute) for name in PEOPLE for attribute in (*PERSON_FACTS, "who")]
    facts += [Fact(key, attribute) for key in PLACES for attribute in PLACE_FACTS]
    facts += [Fact(name, attribute) for name in THINGS for attribute in THING_FACTS]
    return tuple(facts + [Fact(name, "parts") for name in FOODS])


FACTS = _all_facts()
FACTS_BY_ATTRIBUTE = {
    attribute: tuple(fact for fact in FACTS if fact.attribute == attribute) for attribute in _QUESTIONS
}


def subject_name(fact: Fact) -> str:
    """How the subject is spoken of when it is not a pronoun."""
    if fact.topic == "person":
        return fact.subject
    if fact.topic == "place":
        return PLACES[fact.subject].name
    return f"a {fact.subject}" if fact.topic == "thing" else FOODS[fact.subject].portion


def _slots(fact: Fact, who: str, value: str) -> dict[str, str]:
    slots = {"who": who, "value": value, "a_value": f"a {value}", "village": VILLAGE}
    if fact.topic == "person":
        person = PEOPLE[fact.subject]
        he, him, his, _ = person.pronouns()
        slots |= {"he": he, "him": him, "his": his, "duty": person.duty, "job": person.job}
    if fact.topic == "place":
        slots["at"] = PLACES[fact.subject].at
    return slots


def statement(fact: Fact, draw: Draw, pronoun: bool = False) -> str:
    """The fact as a sentence of prose, with a pronoun instead of the name where `pronoun` is set."""
    name = subject_name(fact)
    slots = _slots(fact, name, fact.value)
    if fact.topic == "person":
        if pronoun:
            slots["who"] = slots["he"]
        else:
            slots["his"] = f"{name}'s"
            return polish(Scene(draw, slots).write(draw.pick(_STATEMENTS[fact.attribute][:2])))
    return polish(Scene(draw, slots).write(draw.pick(_STATEMENTS[fact.attribute])))


def question(fact: Fact, draw: Draw) -> str:
    """A question whose answer is the fact's value."""
    return polish(
        Scene(draw, _slots(fact, subject_name(fact), "")).write(draw.pick(_QUESTIONS[fact.attribute]))
    )


def answer(fact: Fact, draw: Draw, value: str | None = None) -> str:
    """The answer as a sentence. Another `value` makes an answer of the same form that is not true."""
    slots = _slots(fact, subject_name(fact), fact.value if value is None else value)
    return polish(Scene(draw, slots).write(draw.pick(_ANSWERS[fact.attribute])))


def wrong_value(fact: Fact, draw: Draw) -> str:
    """A value of the same attribute that is not this fact's (and for neighbours not true either)."""
    while True:
        other = draw.pick(FACTS_BY_ATTRIBUTE[fact.attribute])
        if other.value == fact.value or other.subject == fact.subject:
            continue
        if fact.attribute == "near" and (
            other.value == PLACES[fact.subject].name
            or any(other.value == PLACES[near].name for near in PLACES[fact.subject].near)
        ):
            continue
        if fact.attribute == "friend" and other.value == fact.subject:
            continue
        return other.value
