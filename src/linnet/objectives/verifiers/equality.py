"""Whether an answer equals the expected one: decided here where it can be, with the reasons in one place.

What holds (each has its rows in the table of the tests):
- A number equals a number exactly, as fractions. A decimal of three or more places also stands for what it
  is the correct rounding of, if that has no end or at least six places: 0.333 is 1/3, 0.33 is not, 0.125 is
  not 0.1254.
- A percentage equals its fraction (50% is 0.5), and the same number without the sign if that is 1 or more (50,
  since a question may ask "how many percent"); 0.5% is not 0.5.
- A unit that only one side names is taken as understood. Two units of one dimension are converted, two of
  different dimensions differ; words that are not units do not count.
- **An answer to a whole number must be a number, not a computation**: 6*7, 84/2 and sqrt(1764) are not 42.
  Symbolically they are equal, and a model would learn to copy the question.
- Times of day compare as times. A word or the letter of a choice compares as text.
Everything else (roots, pi, variables, sets, intervals, matrices) is left to sympy.
"""

from __future__ import annotations

import functools
import re
from fractions import Fraction
from typing import NamedTuple

from linnet.objectives.verifiers.written_numbers import Value, read_number, tidy

LEAST_PLACES = 3  # of a decimal that may stand for a longer number
LONG_PLACES = 6  # of a decimal that is taken as one without end

_CLOCK = re.compile(
    r"(\d{1,2}):([0-5]\d)\s*([ap])?\.?\s?(?:m\b\.?)?|(\d{1,2})\s*([ap])\.?\s?m\b\.?", re.IGNORECASE
)
_WORD = re.compile(r"[^\W\d_]+(?:[ '-][^\W\d_]+){0,7}")
_MATH_WORDS = frozenset(("pi", "infinity", "infty", "inf", "oo", "e", "i", "alpha", "beta", "theta", "phi", "none",
                         "empty", "emptyset", "tau", "gamma", "lambda", "mu", "sigma", "omega"))  # fmt: skip
_SYMBOLIC = re.compile(r"\\?(?:sqrt|pi|log|ln|exp|sin|cos|tan|overline|bar)|[√π^!]|\de\b")


class Gold(NamedTuple):
    """An expected answer, read once."""

    text: str  # tidied, lower case
    value: Value | None
    clock: tuple[int, int, str] | None
    is_word: bool


@functools.lru_cache(maxsize=65536)
def read_gold(expected: str) -> Gold:
    """Read an expected answer."""
    text = tidy(expected).lower()
    value = read_number(expected)
    is_word = value is None and bool(_WORD.fullmatch(text)) and text not in _MATH_WORDS
    return Gold(text, value, _clock(text), is_word)


def decide(gold: Gold, answer: str) -> bool | None:
    """Whether an answer equals the expected one; None when only sympy can tell.

    Args:
        gold: the expected answer as `read_gold` reads it.
        answer: the part of a completion that counts.
    """
    if not answer or not gold.text:
        return False
    if gold.value is not None and gold.clock is None:
        value = read_number(answer)
        if value is not None:
            return same_number(gold.value, value)
        # A decimal without end may be written as a root or with pi; a whole number is a number.
        if gold.value.places >= LEAST_PLACES and len(answer) < 200 and _SYMBOLIC.search(answer):
            return None
        return False
    text = tidy(answer).lower()
    if not text:
        return False
    if gold.clock is not None:
        clock = _clock(text)
        return clock is not None and _same_clock(gold.clock, clock)
    if text == gold.text:
        return True
    if gold.is_word:
        return _same_words(gold.text, text)
    return None


def same_number(gold: Value, answer: Value) -> bool:
    """Whether two numbers as written are equal, by the rules above."""
    if answer.whole_fraction and not gold.whole_fraction:
        return False
    left, right = gold.number, answer.number
    if gold.unit is not None and answer.unit is not None and gold.unit != answer.unit:
        if gold.unit.dimension != answer.unit.dimension or not (gold.unit.factor and answer.unit.factor):
            return False
        left, right = left * gold.unit.factor, right * answer.unit.factor
        return left == right
    if gold.percent == answer.percent:
        return _near(left, gold.places, right, answer.places)
    bare, bare_places = (right, answer.places) if gold.percent else (left, gold.places)
    share, share_places = (left, gold.places) if gold.percent else (right, answer.places)
    if abs(bare) >= 1 and bare == share:
        return True
    return _near(bare, bare_places, share / 100, share_places + 2 if share_places >= 0 else -1)


def _near(left: Fraction, left_places: int, right: Fraction, right_places: int) -> bool:
    return left == right or _rounds_to(left, left_places, right, right_places) or _rounds_to(
        right, right_places, left, left_places
    )  # fmt: skip


def _rounds_to(short: Fraction, places: int, long: Fraction, long_places: int) -> bool:
    """Whether a decimal of so many places is the correct rounding of a number with no end, or a far one."""
    if places < LEAST_PLACES or short.denominator == 1:
        return False
    if not (long_places >= LONG_PLACES > places or (long_places < 0 and _endless(long))):
        return False
    return 2 * abs(long - short) * 10**places <= 1


def _endless(number: Fraction) -> bool:
    rest = number.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    return rest > 1


def _clock(text: str) -> tuple[int, int, str] | None:
    found = _CLOCK.fullmatch(text)
    if found is None:
        return None
    hour, minute = int(found[1] or found[4]), int(found[2] or 0)
    half = (found[3] or found[5] or "").lower()
    return (hour, minute, half) if hour < 25 and not (half and hour > 12) else None


def _same_clock(gold: tuple[int, int, str], answer: tuple[int, int, str]) -> bool:
    (hour, minute, half), (other_hour, other_minute, other_half) = gold, answer
    if minute != other_minute:
        return False
    if half and other_half:
        return half == other_half and hour % 12 == other_hour % 12
    if not half and not other_half:
        return hour == other_hour
    named, hour_named, bare = (half, hour, other_hour) if half else (other_half, other_hour, hour)
    return bare in (hour_named, hour_named % 12 + (12 if named == "p" else 0))


_ARTICLE = re.compile(r"^(?:option|choice|the|an?|it is|it's)\s+")
_EXPLANATION = re.compile(r"[,;.(]|\s(?:because|since|as)\s")
_CHOICE = re.compile(r"\(?([a-z])(?:\)|[.:]\s|\sbecause\s|$).*", re.DOTALL)


def _same_words(gold: str, answer: str) -> bool:
    answer, gold = _ARTICLE.sub("", answer), _ARTICLE.sub("", gold)
    if len(gold) == 1:
        found = _CHOICE.fullmatch(answer)
        return found is not None and found[1] == gold
    return gold in (answer, _EXPLANATION.split(answer, maxsplit=1)[0].strip(" .!\"'"))
