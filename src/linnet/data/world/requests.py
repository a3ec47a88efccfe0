"""Why this exists: refusal training needs requests that should be refused and, just as much, requests that look
alike and should be answered. Each family here is a pair of wishes in the same words and world, one harmful and
one harmless, asked in the same ways, so that only the meaning tells them apart. Everything stays within what a
children's book may tell.
"""

# ruff: noqa: E501  (a template is read as one line)

from __future__ import annotations

from typing import Any

from linnet.data.world.draw import Draw, draw_in_split
from linnet.data.world.grammar import Scene, polish
from linnet.data.world.people import NAMES, PEOPLE, some

# harmful wish | harmless wish | why the first is wrong | first step of the second | second step
# {x} is somebody, {x}'s what is theirs, {him} and {his} their pronouns.
_TABLE = """
steal {x}'s bread|bake bread like {x}|taking what belongs to others is stealing|Mix flour, water and salt|Let the dough rest, and then bake it until it is brown
poison the water of {x}|fetch fresh water for {x}|{he} and others would become very ill|Take a clean bucket to the village well|Carry it slowly so that nothing is spilled
break {x}'s window|clean {x}'s window|breaking things makes others sad and can hurt someone|Take a soft cloth and warm water|Wipe the glass until it shines
scare {x} at night|cheer {x} up at night|fear is not a game|Bring a lantern and a cup of warm milk|Sit down beside {him} and tell a funny story
hurt {x}|comfort {x}|nobody should be hurt|Ask {him} what is wrong and listen|Then give {him} a hug if {he} wants one
tell a lie about {x}|tell a story about {x}|a lie can take away {his} good name|Think of something kind that {he} once did|Begin with where {he} lives, and end with what {he} learned
burn down the shed of {x}|paint the shed of {x}|fire is dangerous and would destroy what {he} needs|Ask {him} which colour {he} likes best|Brush the wood clean, and then paint it from the top down
spoil {x}'s cake|decorate {x}'s cake|{he} worked hard for it|Spread a little cream on it|Put berries round the edge
read {x}'s letters in secret|write {x} a letter|letters are private|Begin with a greeting and say how you are|Ask {him} a question, so that {he} can write back
trap {x} in the cave|lead {x} through the cave|{he} would be cold and afraid there|Take a lantern and a long rope|Go slowly and hold {his} hand
take {x}'s coins|save coins for {x}|they belong to {him}|Put one coin into a jar every week|Count them at the end of the month
throw stones at {x}|skip stones with {x}|a stone can hurt badly|Look for flat, round stones at the pond|Throw them low over the water
laugh at {x}'s voice|sing along with {x}'s voice|unkind words hurt for a long time|Listen to the tune first|Then join in softly
get {x} into trouble|help {x} out of trouble|it is not fair to {him}|Ask {him} what has happened|Go with {him} and speak for {him}
make {x} cry|make {x} smile|nobody likes to be sad|Bring {him} something that {he} likes|Say something kind and mean it
trick {x} out of {his} scarf|knit {x} a scarf|to trick others is to steal with words|Choose soft wool in {his} favourite colour|Knit one row after the other and do not hurry
ruin {x}'s garden|water {x}'s garden|plants take a long time to grow|Go early, before the sun is hot|Pour the water on the earth and not on the leaves
break into {x}'s house|build a bird house at {x}'s house|nobody may enter a house without being asked|Ask {him} for some boards and nails|Nail them together and leave a round hole
untie {x}'s boat in a storm|tie up {x}'s boat before a storm|the boat would be lost and someone could drown|Use two strong ropes|Tie one at the front and one at the back
leave {x} out of the game|invite {x} to the game|to be left out is very lonely|Say good day and tell {him} the rules|Let {him} have the first turn
put thorns into {x}'s bed|put a warm blanket on {x}'s bed|{he} would be hurt|Warm the blanket by the fire|Lay it on the bed before {he} comes home
sell {x} a broken clock|mend {x}'s broken clock|that would be cheating|Open the back and clean the little wheels|Wind it up and listen for the tick
stop {x} from sleeping|help {x} to sleep|without sleep one becomes ill|Close the curtains and put out the lamp|Hum a quiet song
blame {x} for my mistake|tell {x} about my mistake|{he} did nothing wrong|Go to {him} soon and say what happened|Say that you are sorry and ask how you can help
push {x} into the pond|swim with {x} in the pond|{he} could drown|Wait for a warm day and a friend who can watch|Go in slowly and stay where you can stand
cheat {x} in the race|train with {x} for the race|a race is only good when it is fair|Run a short way every morning|Rest well on the day before
hide {x}'s key|find {x}'s key|{he} could not get into {his} home|Ask where {he} was last|Look there first, on the ground and in the grass
tear up {x}'s map|draw {x} a map|{he} needs it to find the way|Begin with the river and the stone bridge|Then draw the paths and write the names beside them
let {x}'s goats run away|bring {x}'s goats home|they could be lost or hurt|Take a little oats in your hand|Walk in front of them and call softly
spread a nasty rumour about {x}|spread the good news about {x}|words can hurt as much as stones|Be sure that the news is true|Tell it to one friend after the other
"""  # fmt: skip

FAMILIES = tuple(tuple(line.split("|")) for line in _TABLE.split("\n") if line)

_FRAMES = (
    "How can I {wish}?",
    "How do I {wish}?",
    "I want to {wish}. [What should I do?|How can I do it?|Can you help me?]",
    "Please [tell|show] me how to {wish}.",
    "Can you help me to {wish}?",
    "What is the best way to {wish}?",
    "Tell me how I can {wish} [today|tomorrow|this evening].",
    "My plan is to {wish}. [Will you help me?|How do I begin?]",
    "I would like to {wish}. [How do I begin?|What do I need?]",
    "Explain to me how to {wish}, please.",
)
_REFUSALS = (
    "I will not help with that, because {why}. [I can help you to {good} instead.|Shall we {good} instead?]",
    "[No|I am sorry], I cannot help you to do that. {Why}. [If you like, I will help you to {good}.|But I can help you to {good}.]",
    "That would not be [right|kind], because {why}. I would [rather|gladly] help you to {good}.",
    "I cannot help with that. {Why}. [If you are angry, talk to someone you trust.|Is something wrong? You can tell me.]",
)
_HELP = (
    "[Gladly|With pleasure]! {First}. {Second}.",
    "That is a [good|kind|nice] idea. {First}. {Second}.",
    "First, {first_low}. After that, {second_low}.",
    "Of course. {First}. {Second}. [Good luck!|Have fun!|]",
)

Pair = tuple[int, str, str]


def propose(draw: Draw) -> tuple[Pair, str]:
    """A family, the name it is about and how that one is called; the content key leaves out the wording."""
    family, name = int(draw.random() * len(FAMILIES)), draw.pick(NAMES)
    called = name if draw.chance(0.6) else f"the {PEOPLE[name].job}"
    return (family, name, called), f"request|{family}|{name}"


def _lower_first(text: str) -> str:
    return text[0].lower() + text[1:]


def scene_for(pair: Pair, draw: Draw) -> Scene:
    """The slots of one matched pair, with both wishes spelled out."""
    family, name, called = pair
    he, him, his, _ = PEOPLE[name].pronouns()
    base = Scene(draw, {"x": called, "he": he, "him": him, "his": his})
    bad, good, why, first, second = (base.write(part) for part in FAMILIES[family])
    return Scene(
        draw,
        {
            "bad": bad,
            "good": good,
            "why": why,
            "first": first,
            "second": second,
            "first_low": _lower_first(first),
            "second_low": _lower_first(second).removeprefix("then "),
        },
    )


def request(split: str, seed: int, i: int) -> dict[str, Any]:
    """Request `i`; `i` and `i + 1` are a matched pair when `i` is even (harmful, then harmless).

    Keys: prompt and response (text), label ("harmful" or "harmless"), pair (number of the pair), messages (the
    exchange as role and content), kind.
    """
    pair, draw = draw_in_split(split, ("request", split, seed, i // 2), propose)
    harmful = i % 2 == 0
    scene = scene_for(pair, draw)
    wishes = dict(scene.slots)
    frames = draw.sample(_FRAMES, 2)
    scene.slots["wish"] = wishes["bad" if harmful else "good"]
    prompt = polish(scene.write(frames[0 if draw.chance(0.5) else i % 2]))
    response = " ".join(polish(scene.write(draw.pick(_REFUSALS if harmful else _HELP))).split())
    messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]
    return {
        "prompt": prompt,
        "response": response,
        "label": "harmful" if harmful else "harmless",
        "pair": i // 2,
        "kind": FAMILIES[pair[0]][0 if harmful else 1],
        "messages": messages,
    }


_TEMPTATIONS = (
    '{A} came to {b} one day. "I want to {bad}," {ahe} said [quietly|with a frown|angrily].',
    '"I want to {bad}," said {a}. {B} [put down the cup|looked up] in surprise.',
    '{A} was angry. "Help me to {bad}," {ahe} said to {b}.',
)
_ANSWERS = (
    '"I will not help with that," said {b}, "because {why}."',
    '"No," said {b} [calmly|firmly|gently]. "{Why}."',
    '{B} shook {bhis} head. "I cannot help you to do that, because {why}."',
)
_TURNS = (
    '{A} [was silent|looked at the floor] for a while. "You are right," {ahe} said. "What can I do instead?"',
    '{A} thought about it. "That is true," {ahe} said. "I was only [angry|sad|jealous]."',
    '"I did not think of that," {@said} {a}, and {ahe} [turned red|sighed].',
)
_INSTEAD = (
    '"You could {good}," said {b}. "{First}. {Second}."',
    '"I will gladly help you to {good}," said {b}. "{First}. {Second}."',
)
_AFTER = (
    "So {a} did that, and {ahe} felt much better.",
    "And that is what they did. {A} was glad that {ahe} had asked.",
    "In the evening {a} thanked {b}. A kind deed is worth more than an unkind one.",
    "{A} smiled again, and so did {x}.",
)


def document(split: str, *key: object) -> str:
    """A refusal, and the kindness that took its place, told as prose."""
    pair, draw = draw_in_split(split, ("kindness", split, *key), propose)
    name = pair[1]
    others = [other for other in some(draw, 3) if other != name][:2]
    a, b = (PEOPLE[other] for other in others)
    scene = scene_for((pair[0], name, name), draw)
    scene.macros = {"said": ("said", "answered")}
    scene.slots |= {"a": a.name, "b": b.name, "x": name, "ahe": a.pronouns()[0], "bhis": b.pronouns()[2]}
    scene.waiting = {"a": a.full, "b": b.full}
    beats = (_TEMPTATIONS, _ANSWERS, _TURNS, _INSTEAD, _AFTER)
    return polish(" ".join(scene.write(draw.pick(beat)) for beat in beats))
