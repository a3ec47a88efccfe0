"""Why this exists: the inhabitants are fixed, so that a fact told in one document is true in all the others
and a model's answer about them can be checked.
"""

from __future__ import annotations

from dataclasses import dataclass

from linnet.data.world.draw import Draw

# name | kind | home | job | what the job is | favourite food | colour | cannot bear | treasure
# Two lines that follow each other are best friends; the first of the two is "she", the second "he".
_TABLE = """
Ada|otter|bakery|baker|bakes the bread for the whole village|plum cake|yellow|wet socks|rolling pin
Milo|fox|mill|miller|grinds the corn into flour|honey bread|green|loud noises|whistle
Bess|hare|meadow|letter carrier|carries letters to every door|carrot soup|blue|being late|compass
Pip|mouse|clock tower|clockmaker|keeps the clocks on time|cheese toast|grey|broken springs|pocket watch
Clara|badger|forge|blacksmith|makes horseshoes and hinges|mushroom stew|red|muddy floors|hammer
Otto|bear|orchard|apple grower|picks the apples and prunes the trees|apple pie|orange|empty baskets|ladder
Dora|owl|library|librarian|looks after all the books|nut biscuits|purple|bent pages|lamp
Bram|beaver|bridge|bridge keeper|mends the planks and sweeps the bridge|willow salad|brown|leaky roofs|saw
Elsie|duck|pond|swimming teacher|teaches the little ones to swim|barley porridge|blue|cold wind|umbrella
Cosmo|frog|pond|fiddler|plays the fiddle at every party|berry jam|green|dry weather|fiddle
Flora|rabbit|garden|gardener|grows flowers and beans|lettuce rolls|pink|weeds|watering can
Dex|mole|garden|well digger|digs wells and cleans them|potato cakes|black|bright light|shovel
Greta|goat|hill|cheese maker|makes round white cheeses|oat cakes|white|closed gates|bell
Ned|dog|barn|cart driver|drives the cart to market|beef pie|brown|flat wheels|rope
Hetty|hedgehog|wood|mushroom picker|picks mushrooms in the early morning|blackberry tart|orange|heavy rain|basket
Finn|squirrel|wood|nut seller|sells nuts in paper bags|nut biscuits|red|locked doors|sack
Ines|heron|harbour|harbour master|counts the boats and lights the lamps|fish soup|grey|tangled ropes|telescope
Gus|seal|harbour|fisherman|catches fish with a long net|fish pie|blue|torn nets|net
Juno|crow|lighthouse|lighthouse keeper|keeps the great light burning|seed bread|black|thick fog|lantern
Hugo|gull|lighthouse|weather watcher|tells everyone when a storm is near|fish soup|white|wrong guesses|flag
Kitty|cat|inn|innkeeper|gives a warm bed to every traveller|milk pudding|yellow|dusty shelves|kettle
Jasper|pig|inn|cook|cooks supper at the inn|pumpkin soup|pink|cold plates|wooden spoon
Lottie|wren|school|teacher|teaches reading and counting|berry jam|red|noisy chairs|slate
Kip|rabbit|school|bell ringer|rings the school bell at nine|carrot soup|orange|sleepy mornings|bell
Mabel|sheep|market|weaver|weaves blankets and scarves|oat cakes|white|loose threads|blanket
Linus|donkey|market|potter|makes cups and bowls from clay|potato cakes|grey|cracked cups|jug
Nora|mouse|workshop|toy maker|makes toys from bits of wood|cheese toast|purple|lost buttons|spinning top
Max|badger|workshop|carpenter|builds chairs and tables|mushroom stew|green|wobbly legs|toolbox
Opal|fox|greenhouse|painter|paints pictures of the sky|lemon tart|purple|dirty brushes|paintbrush
Nico|toad|greenhouse|seed keeper|keeps every seed in its own jar|lettuce rolls|brown|spilled seeds|notebook
Polly|hen|barn|egg seller|sells eggs at the gate|barley porridge|yellow|slippery steps|straw hat
Oscar|horse|barn|plough puller|pulls the plough in spring|oat cakes|brown|buzzing flies|wheelbarrow
Rosa|bear|meadow|honey maker|fills jars with golden honey|honey bread|yellow|empty jars|honey jar
Perry|tortoise|meadow|road mender|fills the holes in the road|lettuce rolls|white|hurrying|lamp
Sukie|goose|beach|net mender|mends nets with a big needle|seed bread|grey|knots|needle
Quentin|crab|beach|shell seller|sells shells on a string|seaweed salad|red|sharp stones|bucket
Tilly|squirrel|orchard|jam maker|boils fruit into jam|plum cake|pink|sour milk|copper pot
Rufus|dog|bridge|night watchman|walks round the village at night|beef pie|black|dark corners|lantern
Una|owl|clock tower|star watcher|draws maps of the stars|blackberry tart|blue|cloudy nights|star map
Sam|bat|cave|lamplighter|lights the lamps at dusk|pumpkin soup|purple|bright light|candle
Vera|otter|boathouse|boat builder|builds strong little boats|fish pie|green|rusty nails|hammer
Toby|beaver|boathouse|ferryman|rows travellers over the river|willow salad|blue|tangled ropes|oar
Willa|swan|mill|dressmaker|sews coats and dresses|lemon tart|white|lost buttons|silver thimble
Walt|hedgehog|bakery|cake seller|sells cakes from a tray|milk pudding|pink|empty trays|tin tray
Yara|lizard|cave|crystal finder|finds crystals in the rock|seaweed salad|orange|cold wind|pickaxe
Wilf|hare|hill|kite maker|makes kites from cloth and string|apple pie|red|calm days|kite
Zora|raven|library|storyteller|tells old stories by the fire|plum cake|black|rude whispers|storybook
Basil|bear|forge|candle maker|pours wax into candles|honey bread|orange|sudden draughts|candle
"""


@dataclass(frozen=True)
class Person:
    """One inhabitant. `home` is a key of `places.PLACES`; `duty` is a verb phrase in the present tense."""

    name: str
    kind: str
    home: str
    job: str
    duty: str
    food: str
    colour: str
    peeve: str
    treasure: str
    friend: str
    she: bool

    @property
    def full(self) -> str:
        """Name and kind: "Milo the fox"."""
        return f"{self.name} the {self.kind}"

    def pronouns(self) -> tuple[str, str, str, str]:
        """Subject, object, possessive and reflexive."""
        return ("she", "her", "her", "herself") if self.she else ("he", "him", "his", "himself")


def _read() -> dict[str, Person]:
    rows = [line.split("|") for line in _TABLE.split("\n") if line]
    people = {}
    for index, row in enumerate(rows):
        name, kind, home, job, duty, food, colour, peeve, treasure = row
        friend = rows[index ^ 1][0]
        person = Person(
            name, kind, home, job, duty, food, colour, peeve, treasure, friend, she=index % 2 == 0
        )
        people[name] = person
    return people


PEOPLE = _read()
NAMES = tuple(PEOPLE)

# The first of the table appear more often, as in any book; a small model learns to follow a name the sooner.
_MAIN = NAMES[:16]


def someone(draw: Draw) -> str:
    """An inhabitant's name."""
    return draw.pick(_MAIN if draw.chance(0.65) else NAMES)


def some(draw: Draw, number: int) -> list[str]:
    """The names of `number` different inhabitants."""
    names: list[str] = []
    while len(names) < number:
        name = someone(draw)
        if name not in names:
            names.append(name)
    return names
