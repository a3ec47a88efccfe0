"""Why this exists: the map of the village and its things, fixed like its inhabitants: what is beside what,
what a thing is made of and what it is for.
"""

# ruff: noqa: E501  (a template is read as one line)

from __future__ import annotations

from dataclasses import dataclass

VILLAGE = "Fernhollow"

# key | name | in, at or on | where someone lives there | where it is | what can be found there | what it is like
_PLACES = """
mill|the old mill|at|in the old mill|by the river|sacks, flour and wheels|The great wheel turns and turns with the water
bakery|the bakery|in|above the bakery|on the corner of Bread Lane|loaves, buns and trays|It smells of warm bread from early morning
harbour|the harbour|at|by the harbour|where the river meets the sea|boats, ropes and nets|The boats knock softly against the wall
lighthouse|the lighthouse|at|in the lighthouse|on the rocks by the sea|lamps, ladders and flags|Its light can be seen from far away
orchard|the orchard|in|at the edge of the orchard|behind the red barn|apples, pears and plums|In spring the trees are white with blossom
clock tower|the clock tower|in|under the clock tower|in the middle of the village|bells, clocks and stairs|The big bell rings every hour
market|the market|at|beside the market|in the village square|eggs, cups and ribbons|On market day it is full of voices
school|the school|at|next to the school|at the end of Chalk Lane|desks, books and chalk|There is a round green door and a little bell
library|the library|in|above the library|across from the school|books, maps and lamps|It is so quiet that you can hear a page turn
forge|the forge|at|behind the forge|near the stone bridge|hammers, horseshoes and nails|Sparks fly up when the hammer comes down
wood|the mossy wood|in|in the mossy wood|beyond the meadow|mushrooms, nuts and ferns|The ground is soft and the light is green
meadow|the meadow|in|at the edge of the meadow|between the river and the wood|flowers, bees and long grass|In summer it is full of butterflies
hill|the windy hill|on|on the windy hill|north of the village|kites, goats and tall grass|From the top you can see the whole village
pond|the duck pond|at|beside the duck pond|behind the garden wall|reeds, lilies and frogs|The water is still and round like a plate
bridge|the stone bridge|on|under the stone bridge|over the river|planks, stones and lamps|Every cart must cross it to reach the market
inn|the inn|at|at the inn|beside the road to the sea|beds, kettles and soup|A blue lantern hangs over the door
boathouse|the boathouse|in|in the boathouse|down by the river bank|oars, boats and tar|It smells of tar and fresh wood
greenhouse|the greenhouse|in|behind the greenhouse|at the sunny end of the garden|pots, seeds and tomatoes|It is warm there even in winter
well|the village well|at|near the village well|in front of the clock tower|buckets, moss and cool water|The water is cold and clear all year
barn|the red barn|in|in the red barn|at the end of Cart Lane|hay, carts and eggs|Swallows make their nests under its roof
beach|the pebble beach|on|near the pebble beach|beyond the harbour|shells, pebbles and seaweed|The waves roll the stones up and down
cave|the crystal cave|in|near the crystal cave|under the windy hill|crystals, bats and echoes|Every word you say comes back to you
garden|the walled garden|in|beside the walled garden|near the village well|beans, roses and paths|The old wall keeps the wind away
workshop|the workshop|in|above the workshop|on Carpenter Lane|toys, tools and paint|The floor is covered with curly shavings
"""

# Places that touch; a walk goes from one to the other.
PATHS = (
    ("mill", "meadow"), ("mill", "bridge"), ("mill", "boathouse"), ("bakery", "market"), ("bakery", "school"),
    ("harbour", "lighthouse"), ("harbour", "beach"), ("harbour", "boathouse"), ("harbour", "inn"),
    ("orchard", "barn"), ("orchard", "meadow"), ("clock tower", "market"), ("clock tower", "well"),
    ("clock tower", "library"), ("school", "library"), ("forge", "bridge"), ("forge", "workshop"),
    ("wood", "meadow"), ("wood", "hill"), ("hill", "cave"), ("pond", "garden"), ("pond", "meadow"),
    ("bridge", "market"), ("inn", "market"), ("greenhouse", "garden"), ("garden", "well"), ("barn", "inn"),
    ("lighthouse", "beach"), ("cave", "wood"), ("workshop", "market"), ("greenhouse", "school"),
)  # fmt: skip

# name | plural | material | what it is for | words that may describe it | roles in stories
# roles: t = a treasure to lose, lend, give or trade; m = can be made by hand as a gift
_THINGS = """
kite|kites|cloth|to fly on a windy day|red,yellow,striped|tm
lantern|lanterns|tin|to light the way at night|little,old,round|t
scarf|scarves|wool|to keep a neck warm|red,striped,long|tm
whistle|whistles|wood|to call a friend from far away|little,painted,wooden|tm
drum|drums|leather|to beat time at a party|little,round,blue|tm
fiddle|fiddles|wood|to play a tune|old,brown,little|t
ball|balls|leather|to throw and to catch|red,bouncy,blue|t
basket|baskets|straw|to carry apples home|little,round,big|tm
key|keys|brass|to open a lock|old,tiny,golden|t
bell|bells|brass|to call everyone to supper|little,shiny,silver|t
book|books|paper|to pass a rainy day|big,green,old|t
map|maps|paper|to find the way|old,folded,little|tm
hat|hats|straw|to keep off the sun|yellow,big,green|tm
cup|cups|clay|to drink warm milk|blue,little,round|tm
compass|compasses|brass|to show which way is north|little,old,shiny|t
blanket|blankets|wool|to keep warm in bed|soft,blue,striped|tm
umbrella|umbrellas|cloth|to keep off the rain|green,big,spotted|t
pencil|pencils|wood|to draw and to write|red,short,new|t
necklace|necklaces|shells|to look pretty on feast days|pretty,long,white|tm
spinning top|spinning tops|wood|to play with on the floor|painted,red,tiny|tm
music box|music boxes|wood|to play a little song|tiny,old,pretty|t
telescope|telescopes|brass|to look at the stars|long,shiny,old|t
paintbrush|paintbrushes|wood and hair|to paint a picture|soft,thin,new|t
kettle|kettles|copper|to boil water for tea|shiny,round,old|t
bucket|buckets|tin|to carry water|old,blue,little|t
toy boat|toy boats|wood|to sail on the pond|little,white,green|tm
puppet|puppets|cloth|to act in a play|funny,little,spotted|tm
mirror|mirrors|glass|to see your own face|round,tiny,silver|t
pillow|pillows|cloth|to rest a head|soft,white,big|tm
jug|jugs|clay|to pour milk|brown,big,blue|tm
candle|candles|wax|to give a little light|tall,white,yellow|tm
broom|brooms|straw|to sweep the floor|new,old,long|tm
hammer|hammers|iron|to knock in nails|heavy,small,old|-
ladder|ladders|wood|to climb a tree|long,tall,old|-
rope|ropes|straw|to tie up a boat|long,thick,strong|-
needle|needles|iron|to sew a coat|thin,sharp,long|-
wheelbarrow|wheelbarrows|wood|to carry stones|old,green,heavy|-
clock|clocks|brass and wood|to tell the time|tall,round,old|-
net|nets|rope|to catch fish|wide,strong,long|-
saw|saws|iron|to cut planks|sharp,long,old|-
oar|oars|wood|to row a boat|long,strong,white|-
shovel|shovels|iron and wood|to dig a hole|big,heavy,new|-
"""

# food | how one speaks of a baked or cooked one | what it is made from
_FOODS = """
plum cake|a plum cake|plums, flour and eggs
honey bread|a loaf of honey bread|honey, flour and water
carrot soup|a pot of carrot soup|carrots, onions and water
cheese toast|a plate of cheese toast|bread, cheese and butter
mushroom stew|a pot of mushroom stew|mushrooms, onions and salt
apple pie|an apple pie|apples, flour and butter
nut biscuits|a tray of nut biscuits|nuts, flour and honey
willow salad|a bowl of willow salad|willow leaves, cress and salt
barley porridge|a bowl of barley porridge|barley, milk and honey
berry jam|a jar of berry jam|berries and sugar
lettuce rolls|a plate of lettuce rolls|lettuce, peas and mint
potato cakes|a plate of potato cakes|potatoes, eggs and salt
oat cakes|a tray of oat cakes|oats, butter and honey
beef pie|a beef pie|beef, carrots and flour
blackberry tart|a blackberry tart|blackberries, flour and butter
fish soup|a pot of fish soup|fish, milk and leeks
fish pie|a fish pie|fish, potatoes and flour
seed bread|a loaf of seed bread|seeds, flour and water
milk pudding|a bowl of milk pudding|milk, rice and sugar
pumpkin soup|a pot of pumpkin soup|pumpkin, cream and salt
lemon tart|a lemon tart|lemons, eggs and sugar
seaweed salad|a bowl of seaweed salad|seaweed, lemon and salt
"""


@dataclass(frozen=True)
class Place:
    """A place of the map; `holds` lists what can be found there, `near` the keys of its neighbours."""

    key: str
    name: str
    preposition: str
    living: str
    where: str
    holds: str
    about: str
    near: tuple[str, ...]

    @property
    def at(self) -> str:
        """The place as an adverbial: "at the harbour"."""
        return f"{self.preposition} {self.name}"


@dataclass(frozen=True)
class Thing:
    """A kind of object; `use` is an infinitive, `adjectives` may stand before the name."""

    name: str
    plural: str
    material: str
    use: str
    adjectives: tuple[str, ...]
    roles: str


@dataclass(frozen=True)
class Food:
    """A dish; `portion` carries its article, `parts` what goes into it."""

    name: str
    portion: str
    parts: str


def _rows(table: str) -> list[list[str]]:
    return [line.split("|") for line in table.split("\n") if line]


def _near(key: str) -> tuple[str, ...]:
    return tuple(b if a == key else a for a, b in PATHS if key in (a, b))


PLACES = {
    key: Place(key, name, preposition, living, where, holds, about, _near(key))
    for key, name, preposition, living, where, holds, about in _rows(_PLACES)
}
THINGS = {
    row[0]: Thing(row[0], row[1], row[2], row[3], tuple(row[4].split(",")), row[5]) for row in _rows(_THINGS)
}
FOODS = {row[0]: Food(*row) for row in _rows(_FOODS)}
TREASURES = tuple(thing.name for thing in THINGS.values() if "t" in thing.roles)
HANDMADE = tuple(thing.name for thing in THINGS.values() if "m" in thing.roles)
