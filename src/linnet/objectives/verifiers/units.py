"""The units that numbers are written with: which ones are one thing, and which can be turned into each other.

Only these units can make two equal numbers differ (3 cm is not 3 m). Every other word after a number is
taken for the name of what was counted, which a question already fixes.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple


class Unit(NamedTuple):
    """A unit: what it measures, and how many of that dimension's first unit it is (None: no fixed ratio)."""

    dimension: str
    factor: Fraction | None


# dimension -> (names, amount of the dimension's first unit)
_TABLE: dict[str, list[tuple[str, str | None]]] = {
    "length": [("m metre meter", "1"), ("mm millimetre millimeter", "1/1000"), ("cm centimetre centimeter", "1/100"),
               ("km kilometre kilometer", "1000"), ("in inch inches", "127/5000"), ("ft foot feet", "381/1250"),
               ("yd yard", "1143/1250"), ("mi mile", "201168/125")],
    "mass": [("g gram", "1"), ("mg milligram", "1/1000"), ("kg kilogram kilo", "1000"), ("lb lbs pound-mass", None),
             ("oz ounce", None), ("ton tonne", None)],
    "time": [("s sec second", "1"), ("ms millisecond", "1/1000"), ("min minute", "60"), ("h hr hour", "3600"),
             ("day", "86400"), ("week", "604800"), ("month", None), ("year yr", None)],
    "volume": [("l litre liter", "1"), ("ml millilitre milliliter", "1/1000"), ("gallon gal", None),
               ("cup", None), ("quart", None), ("pint", None)],
    "us money": [("$ us$ usd dollar", "1"), ("cent ¢", "1/100")],
    "euro": [("€ eur euro", "1")],
    "pound": [("£ gbp", "1")],
    "yen": [("¥ jpy yen", "1")],
    "rupee": [("₹ inr rs rupee", "1")],
    "angle": [("degree", "1"), ("radian rad", None)],
    "temperature": [("degrees celsius celsius °c degc", None), ("fahrenheit °f degf", None)],
    "speed": [("mph", "1"), ("km/h kph kmh", None), ("m/s", None)],
}  # fmt: skip


def _names() -> dict[str, Unit]:
    found: dict[str, Unit] = {}
    for dimension, rows in _TABLE.items():
        for names, factor in rows:
            ratio = Fraction(factor) if factor else None
            own = dimension if ratio is not None else f"{dimension} in {names.split()[0]}"
            for name in names.split():
                found[name] = Unit(own, ratio)
                if len(name) > 2:
                    found.setdefault(name + "s", found[name])
                if dimension == "length" and ratio is not None:
                    for power, signs in ((2, ("^2", "²")), (3, ("^3", "³"))):
                        for sign in signs:
                            found[name + sign] = Unit(f"{dimension}^{power}", ratio**power)
    return found


UNITS = _names()
_POWER = {"square": "^2", "sq": "^2", "sq.": "^2", "squared": "^2",
          "cubic": "^3", "cu": "^3", "cu.": "^3", "cubed": "^3"}  # fmt: skip
_WORD = re.compile(r"[^\s]+")


def unit_of(words: str) -> Unit | None:
    """The unit that the words after (or the sign before) a number name; None when they name none.

    "square metres", "cm^2", "hours of work", "km." and "$" are read; only the first word counts, or the two
    of an area or a volume.
    """
    if words in UNITS:
        return UNITS[words]
    found = [word.strip(".,;:()").lower() for word in _WORD.findall(words)[:3]]
    if not found:
        return None
    if found[0] in _POWER and len(found) > 1:
        return _powered(found[1], _POWER[found[0]])
    if len(found) > 1 and found[1] in ("squared", "cubed"):
        return _powered(found[0], _POWER[found[1]])
    if found[0] in ("degree", "degrees") and len(found) > 1:
        return UNITS.get({"c": "celsius", "f": "fahrenheit"}.get(found[1], found[1]), UNITS["degree"])
    return UNITS.get(found[0])


def _powered(name: str, power: str) -> Unit | None:
    singular = next(
        (n for n in (name, name.removesuffix("s"), name.removesuffix("es")) if n + power in UNITS), None
    )
    return UNITS[singular + power] if singular else None
