"""Why this exists: domain adaptation needs a second language to move to. This is the logbook of the world's
harbour: clipped sentences without "I", winds, tides, cargoes and knots, words that the stories never use.
"""

# ruff: noqa: E501  (a template is read as one line)

from __future__ import annotations

from linnet.data.world.draw import Draw, draw_in_split
from linnet.data.world.grammar import Scene, polish

_SHIPS = (
    "Grey Heron", "Silver Wren", "Patience", "Morning Star", "Old Barnacle", "Kittiwake", "Good Intent", "Sea Holly",
    "Two Sisters", "Curlew", "Fair Maiden", "Lapwing", "Northern Light", "Pilgrim", "Sandpiper", "Swift Return",
)  # fmt: skip
_TYPES = ("brig", "cutter", "ketch", "lugger", "schooner", "sloop", "barge", "coaster")
_CARGO = (
    "casks of lamp oil", "bales of wool", "barrels of herring", "sacks of salt", "crates of oranges", "coils of hemp",
    "tons of slate", "chests of tea", "bundles of oak planks", "drums of tar", "firkins of butter", "kegs of nails",
)  # fmt: skip
_WINDS = ("north", "north-east", "east", "south-east", "south", "south-west", "west", "north-west")
_BERTHS = ("north quay", "south quay", "long mole", "inner basin", "timber wharf", "fish stage")
_PORTS = ("Saltmouth", "Gull Haven", "Stony Ness", "Wick Roads", "Cape Merry", "Low Sands", "Brackwater")

_LINES = {
    "weather": (
        "Wind {wind}, force {force}, [backing|veering] to {wind2} by the [forenoon|dog watch].",
        "Glass [falling|rising|steady] at {glass}. Sea [slight|moderate|rough], visibility [good|fair|poor].",
        "[Fog on the bar|Hard squalls|Light airs|Long swell] until the [forenoon|middle] watch.",
    ),
    "tide": (
        "High water at {hour} bells, {depth} fathoms over the bar.",
        "[Spring|Neap] tide. Low water {depth} fathoms at the [sill|bar].",
        "Ebb set in at {hour} bells, running [two|three|four] knots past the [mole|beacon].",
    ),
    "arrival": (
        "Arrived: {type} {ship} from {port}, with {count} {cargo}. Berthed at the {berth}.",
        "{Type} {ship} signalled for a pilot off the [bar|beacon]. Brought in on the flood and moored at the {berth}.",
        "{Type} {ship}, out of {port}, warped to the {berth}. Manifest: {count} {cargo}, [dry|in good order|two short].",
    ),
    "departure": (
        "Cleared outward: {type2} {ship2} for {port2}, in ballast.",
        "{Type2} {ship2} slipped her moorings on the ebb, bound for {port2} with {count2} {cargo2}.",
        "{Type2} {ship2} awaiting [a fair wind|the tide|her papers]. Shifted to the outer roads.",
    ),
    "work": (
        "Hands [turned to|employed] [tarring the bollards|splicing hawsers|overhauling the capstan|sounding the channel].",
        "Parted hawser on the {berth} replaced with [new hemp|doubled line]. Fenders inspected.",
        "Lead line gave {depth} fathoms, [sand and shell|soft mud|gravel]. Buoy [shifted|found true|relaid].",
        "Dues collected: {dues} shillings. Tally entered and signed.",
    ),
    "incident": (
        "{Ship} dragged her anchor at {hour} bells and fouled the {berth}. No damage to the keel.",
        "Lighter swamped at the {berth}. {Count} {cargo} recovered, the rest awash.",
        "Starboard light of {ship} found out. Master cautioned.",
        "Gangway of {ship} found unlit. Mate informed.",
    ),
    "close": (
        "Nothing further to report. Watch relieved at {hour} bells.",
        "Lamp trimmed and burning. All moorings doubled for the night.",
    ),
}  # fmt: skip
_REPEATED = ("weather", "work")
_ORDER = ("weather", "tide", "arrival", "departure", "work", "incident", "close")


def _propose(draw: Draw) -> tuple[dict[str, str], str]:
    ship, ship2 = draw.sample(_SHIPS, 2)
    slots = {
        "day": str(draw.between(1, 28)),
        "month": str(draw.between(1, 12)),
        "ship": ship,
        "ship2": ship2,
        "berth": draw.pick(_BERTHS),
        "cargo": draw.pick(_CARGO),
        "wind": draw.pick(_WINDS),
    }
    return slots, "log|" + "|".join(slots.values())


def document(split: str, *key: object) -> str:
    """One day's entry in the harbour's logbook."""
    slots, draw = draw_in_split(split, ("log", split, *key), _propose)
    slots |= {
        "wind2": draw.pick([wind for wind in _WINDS if wind != slots["wind"]]),
        "force": str(draw.between(1, 9)),
        "glass": f"{draw.between(28, 30)}.{draw.between(0, 9)}",
        "hour": draw.pick(("two", "three", "four", "five", "six", "seven", "eight")),
        "depth": draw.pick(("two", "three", "four", "five", "six")),
        "type": draw.pick(_TYPES),
        "type2": draw.pick(_TYPES),
        "port": draw.pick(_PORTS),
        "port2": draw.pick(_PORTS),
        "count": str(draw.between(2, 60)),
        "count2": str(draw.between(2, 60)),
        "cargo2": draw.pick(_CARGO),
        "dues": str(draw.between(4, 90)),
    }
    scene = Scene(draw, slots)
    head = "Harbour log, day {day} of month {month}. Wind {wind}. In port: {ship} and {ship2}. Berth in use: {berth}."
    lines = [scene.write(head), scene.write("[Expected|In hand|On the quay]: {cargo}.")]
    for section in _ORDER:
        for template in draw.sample(_LINES[section], draw.between(1, 2) if section in _REPEATED else 1):
            lines.append(polish(scene.write(template)))
    return " ".join(lines)
