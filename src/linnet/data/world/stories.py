"""Why this exists: a story takes a plot, a cast and a thing, and tells them so that names, pronouns, homes
and objects stay what they are from the first sentence to the last. Hero, friend and thing, which every
telling names, decide the split: a held-out story is about a combination of which training never tells.
"""

from __future__ import annotations

from linnet.data.world.draw import Draw, draw_in_split
from linnet.data.world.grammar import Scene, polish
from linnet.data.world.people import PEOPLE, Person, someone
from linnet.data.world.phrases import MACROS
from linnet.data.world.places import FOODS, HANDMADE, PLACES, THINGS, TREASURES, VILLAGE
from linnet.data.world.plots_home import HOME_PLOTS
from linnet.data.world.plots_road import ROAD_PLOTS
from linnet.data.world.plots_work import WORK_PLOTS

PLOTS = {**HOME_PLOTS, **ROAD_PLOTS, **WORK_PLOTS}
_PLOT_NAMES = tuple(PLOTS)
_PLACE_KEYS = tuple(PLACES)
_OUTDOORS = (
    *("harbour", "orchard", "market", "wood", "meadow", "hill"),
    *("pond", "bridge", "well", "beach", "garden"),
)
_ANYWHERE = ("lost", "learning", "surprise", "baking", "sick friend", "afraid of the dark")
_AIRBORNE = ("kite", "ball", "hat", "toy boat", "puppet", "scarf", "pillow")
_SKILLS = (
    "swim",
    "play the fiddle",
    "bake bread",
    "fly a kite",
    "tie a knot",
    "row a boat",
    "read the stars",
    "ring the big bell",
    "paint a picture",
    "climb a rope",
    "juggle three apples",
    "whistle a tune",
)

Cast = tuple[str, str, str, str, str]


def propose(draw: Draw) -> tuple[Cast, str]:
    """A plot with its hero, friend, other and thing, and the content key that decides the split."""
    plot = draw.pick(_PLOT_NAMES)
    hero = someone(draw)
    friend = PEOPLE[hero].friend if draw.chance(0.6) else someone(draw)
    other = someone(draw)
    while friend == hero or not _may_be_friend(plot, PEOPLE[hero], PEOPLE[friend]):
        friend = someone(draw)
    while other in (hero, friend):
        other = someone(draw)
    things = HANDMADE if plot == "birthday gift" else _AIRBORNE if plot == "stuck" else TREASURES
    thing = draw.pick(things)
    cast = (plot, hero, friend, other, thing)
    return cast, "|".join(("story", hero, friend, thing))


def _may_be_friend(plot: str, hero: Person, friend: Person) -> bool:
    if plot == "new neighbour":
        return friend.name != hero.friend
    return plot not in ("journey", "the letter") or friend.home != hero.home


def _role(prefix: str, role: str, person: Person) -> dict[str, str]:
    he, him, his, himself = person.pronouns()
    return {
        role: person.name,
        f"{role}_n": person.name,
        f"{prefix}he": he,
        f"{prefix}him": him,
        f"{prefix}his": his,
        f"{prefix}himself": himself,
        f"{prefix}job": person.job,
        f"{prefix}kind": person.kind,
        f"at_{prefix}home": PLACES[person.home].living,
    }


def scene_for(cast: Cast, draw: Draw) -> Scene:
    """The slots of one story; places and dishes are drawn here, the cast is given."""
    plot, hero, friend, other, thing = cast
    person, item = PEOPLE[hero], THINGS[thing]
    place = PLACES[draw.pick(_PLACE_KEYS if plot in _ANYWHERE and draw.chance(0.4) else _OUTDOORS)]
    following = PLACES[draw.pick(place.near)]
    food = FOODS[person.food if draw.chance(0.6) else draw.pick((PEOPLE[friend].food, PEOPLE[other].food))]
    second = THINGS[draw.pick(TREASURES)]
    while second is item:
        second = THINGS[draw.pick(TREASURES)]
    adjective, adjective2 = draw.pick(item.adjectives), draw.pick(second.adjectives)
    slots = {
        **_role("", "hero", person),
        **_role("f", "friend", PEOPLE[friend]),
        **_role("o", "other", PEOPLE[other]),
        "home": PLACES[person.home].name,
        "village": VILLAGE,
        "thing": item.name,
        "adj": adjective,
        "a_thing": f"a {adjective} {item.name}",
        "material": item.material,
        "thing2": second.name,
        "a_thing2": f"a {adjective2} {second.name}",
        "place": place.name,
        "at_place": place.at,
        "next_place": following.name,
        "at_next": following.at,
        "at_market": PLACES["market"].at,
        "food": food.name,
        "portion": food.portion,
        "parts": food.parts,
        "skill": draw.pick(_SKILLS),
    }
    full = {role: PEOPLE[name].full for role, name in (("hero", hero), ("friend", friend), ("other", other))}
    return Scene(draw, slots, MACROS, full)


def sentences(cast: Cast, draw: Draw) -> list[str]:
    """The beats of one story in order, polished; each holds one or more sentences."""
    scene = scene_for(cast, draw)
    return [polish(scene.one_of(beat)) for beat in PLOTS[cast[0]]]


def story(split: str, *key: object) -> tuple[Cast, list[str]]:
    """The cast and beats of the story with this key."""
    cast, draw = draw_in_split(split, ("story", split, *key), propose)
    return cast, sentences(cast, draw)


def document(split: str, *key: object) -> str:
    """A story as one text of one to three paragraphs."""
    cast, draw = draw_in_split(split, ("story", split, *key), propose)
    beats = sentences(cast, draw)
    if draw.chance(0.6):
        return " ".join(beats)
    cut = draw.between(2, 4)
    parts = [beats[:cut], beats[cut:-1], beats[-1:]] if draw.chance(0.4) else [beats[:cut], beats[cut:]]
    return "\n".join(" ".join(part) for part in parts)
