"""Reads the numbers that small models write, exactly and without sympy.

Nearly every answer of a small model is an integer, a decimal, a fraction, a percentage or an amount of
money with words around it. These are read here in microseconds into exact fractions; what is not surely one
number is left unread, and somebody slower decides.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Literal, NamedTuple

from linnet.objectives.verifiers.units import UNITS, Unit, unit_of

MOST_CHARACTERS = 200  # of an answer that is a number
Form = Literal["integer", "decimal", "fraction", "scientific", "word"]


class Value(NamedTuple):
    """A number as it was written.

    `places` counts the decimals written (0 for an integer, -1 where there is no such count). A percentage
    has `percent` and the number before the sign. `whole_fraction` marks a fraction that is an integer (84/2).
    """

    number: Fraction
    form: Form
    places: int
    percent: bool
    unit: Unit | None
    whole_fraction: bool = False


_CHARACTERS = str.maketrans({
    "−": "-", "–": "-", "—": "-", "‐": "-", "‑": "-", "﹣": "-", "－": "-", "＋": "+", "×": "*", "·": "*", "⋅": "*",
    "÷": "/", "⁄": "/", "∕": "/", "％": "%", "，": ",", "．": ".", "\u00a0": " ", "\u202f": " ", "\u2009": " ",
    "\u2007": " ", "\u200b": "", "\ufeff": "", "’": "'", "“": '"', "”": '"', "≈": "~", "≃": "~", "＝": "=",
    "½": " 1/2", "⅓": " 1/3", "⅔": " 2/3", "¼": " 1/4", "¾": " 3/4", "⅕": " 1/5", "⅖": " 2/5", "⅗": " 3/5",
    "⅘": " 4/5", "⅙": " 1/6", "⅚": " 5/6", "⅛": " 1/8", "⅜": " 3/8", "⅝": " 5/8", "⅞": " 7/8",
    **{chr(0xFF10 + digit): str(digit) for digit in range(10)},
})  # fmt: skip
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_LATEX = [
    (re.compile(r"\\!"), ""),
    (re.compile(r"\\(?:left|right|displaystyle|,|;|:|quad|qquad)(?![a-zA-Z])|\\ |~"), " "),
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"\\(?:text|mathrm|textbf|mathbf|textrm|mbox|operatorname|mathit|textit|boxed|fbox|bf|rm)\s*\{([^{}]*)\}"),
     r" \1 "),
    (re.compile(r"\\[dtc]?frac\s*(\d)\s*(\d)(?!\d)"), r" \1/\2 "),
    (re.compile(r"\\[dtc]?frac\s*\{\s*([-+]?[\d.,]+)\s*\}\s*\{\s*([\d.,]+)\s*\}"), r" \1/\2 "),
    (re.compile(r"\^\s*(?:\{\s*\\circ\s*\}|\\circ)|\\degree(?![a-z])"), " degrees "),
    (re.compile(r"\\(?:times|cdot)(?![a-zA-Z])"), "*"),
    (re.compile(r"\\approx(?![a-z])"), "~"),
    (re.compile(r"\\pounds(?![a-z])"), "£"), (re.compile(r"\\euro(?![a-z])"), "€"),
    (re.compile(r"\\([%$&#{}])"), r"\1"),
    (re.compile(r"\\[()\[\]]"), " "),
]  # fmt: skip

_INTEGER = re.compile(r"[-+]?\d{1,60}")
_BODY = (
    r"(?P<grouped>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d{1,3}(?: \d{3})+(?:\.\d+)?|\d{1,3}(?:_\d{3})+|\d{1,3}(?:'\d{3})+)"
    r"|(?P<european>\d{1,3}(?:\.\d{3})+,\d+|\d{1,3}(?:\.\d{3}){2,})"
    r"|(?P<plain>\d+\.\d+|\d+|\.\d+)"
)
_NUMBER = re.compile(
    r"(?P<sign>[-+]|minus |negative |)\s*"
    r"(?P<money>us\$|[$€£¥₹]|(?:usd|eur|gbp|inr|rs\.?) |)\s*(?P<sign2>-?)"
    r"(?:10\s*\^\s*[({]?(?P<ten>[-+]?\d{1,3})[)}]?"
    rf"|(?:{_BODY})"
    r"(?:e(?P<exponent>[-+]?\d{1,3})(?![a-z\d])|\s*[*x]\s*10\s*\^\s*[({]?(?P<power>[-+]?\d{1,3})[)}]?)?"
    r"(?:\s*/\s*(?P<denominator>\d+)|(?:\s+|\s*and\s+|\s*\+\s*)(?P<top>\d+)\s*/\s*(?P<bottom>\d+))?)"
    r"(?P<scale>\s*(?:hundred|thousand|million|billion|trillion|dozen)\b|)"
    r"\s*(?P<percent>%|percent\b|per cent\b|pct\b|percentage\b|)"
)
_SCALES = {
    "hundred": 100,
    "thousand": 10**3,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
    "dozen": 12,
}
# Words that make a number another one, or one of several.
_CHANGING_BEFORE = re.compile(
    r"\b(?:not|no|nor|or|than|least|most|between|to|unless|half|twice|double|triple|times|over|under|above|below|"
    r"plus|minus|root|more|less|fewer|mod)\b|n't\b|['’]t\b"
)
_CHANGING_AFTER = re.compile(
    r"\b(?:not|nor|or|unless|half|plus|minus|cubed|squared|factorial|mod|divided|multiplied)\b|n't\b|['’]t\b"
)
_WORDS_BEFORE = re.compile(r"[a-z][a-z',.\-]*(?:\s+[a-z][a-z',.\-]*){0,7}\s*:?\s*$")
_WORDS_AFTER = re.compile(r"\s*[-(]?[a-z°¢£€$²³^/.,'()\"&;:!?\s\-]*(?:\^[23]|²|³)?\)?\s*")
_SIMPLE_AFTER = re.compile(r"\s*[.!?)\]]*\s*")
_ALGEBRA = re.compile(r"\s?(?:[a-z](?![a-z])|[a-z]\^)")
_ONES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
         "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"]  # fmt: skip
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_WORD_VALUES = {word: value for value, word in enumerate(_ONES)} | {
    word: 10 * value for value, word in enumerate(_TENS, start=2)
}
_WORD_NUMBER = re.compile(rf"(?:({'|'.join(_TENS)})(?:[- ]({'|'.join(_ONES[1:10])}))?|({'|'.join(_ONES)}))\b")


def tidy(text: str) -> str:
    """An answer in plain characters: LaTeX's ways of setting a number undone, outer marks and spaces gone."""
    text = text.strip().translate(_CHARACTERS)
    if "\\" in text or "{" in text:
        for pattern, replacement in _LATEX:
            text = pattern.sub(replacement, text)
    if any(sign in text for sign in "⁰¹²³⁴⁵⁶⁷⁸⁹"):
        text = re.sub(r"(?<=10)[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+", lambda found: "^" + found[0].translate(_SUPERSCRIPTS), text)
    text = " ".join(text.split())
    while True:
        before = text
        text = text.strip(" *_`\"'~").rstrip(".,;:!?").strip()
        if len(text) > 1 and text[0] + text[-1] in ("$$", "()", "[]", "{}") and _one_pair(text):
            text = text[1:-1]
        if text == before:
            return text


def _one_pair(text: str) -> bool:
    inside = text[1:-1]
    return not any(sign in inside for sign in "()[]{}$,")


def read_number(text: str) -> Value | None:
    """The one number that an answer is, with words around it; None when it is not surely one number.

    Args:
        text: the part of a completion that counts, or an expected answer.
    """
    if _INTEGER.fullmatch(text):
        return Value(Fraction(int(text)), "integer", 0, False, None)
    if len(text) > MOST_CHARACTERS:
        return None
    text = _after_equals(tidy(text)).lower()
    found = _NUMBER.search(text)
    if found is None:
        return _in_words(text)
    before, after = text[: found.start()], text[found.end() :]
    if before and not _harmless_before(before):
        return None
    if after and not _harmless_after(after):
        return None
    return _value(found, after)


def _after_equals(text: str) -> str:
    """`x = 42` and `6 * 7 = 42` are 42; two equations beside each other are not."""
    if "=" not in text and "~" not in text:
        return text
    parts = re.split(r"[=~]", text)
    if any(sign in part for part in parts[:-1] for sign in "<>!,;") or re.search(r"\b(?:or|and)\b", text):
        return text
    return parts[-1].strip(" $*")


def _harmless_before(words: str) -> bool:
    return (
        bool(_WORDS_BEFORE.fullmatch(words)) and not _CHANGING_BEFORE.search(words) and len(words.strip()) > 1
    )


def _harmless_after(words: str) -> bool:
    if _SIMPLE_AFTER.fullmatch(words):
        return True
    if not _WORDS_AFTER.fullmatch(words) or _CHANGING_AFTER.search(words):
        return False
    # 3x is algebra; 3 m and 3 s are amounts, and so is 3 a.m.
    return not _ALGEBRA.match(words) or unit_of(words.strip()) is not None


def _value(found: re.Match[str], after: str) -> Value | None:
    part = found.groupdict()
    unit = UNITS.get(part["money"].strip(" .")) if part["money"] else None
    unit = unit_of(after.strip()) if unit is None and after else unit
    negative = part["sign"] in ("-", "minus ", "negative ") or part["sign2"] == "-"
    if part["ten"]:
        number, places, form = _ten_to(int(part["ten"])), -1, "scientific"
    else:
        written = (
            (part["grouped"] or part["plain"] or "")
            .replace(",", "")
            .replace(" ", "")
            .replace("_", "")
            .replace("'", "")
        )
        if part["european"]:
            written = part["european"].replace(".", "").replace(",", ".")
        places = len(written.partition(".")[2])
        form = "decimal" if "." in written else "integer"
        number = Fraction(written)
    whole_fraction = False
    exponent = part["exponent"] or part["power"]
    if exponent:
        number, places, form = number * _ten_to(int(exponent)), -1, "scientific"
    if part["denominator"] or part["bottom"]:
        bottom = int(part["denominator"] or part["bottom"])
        if bottom == 0 or (part["bottom"] and form != "integer"):
            return None
        number = number + Fraction(int(part["top"]), bottom) if part["bottom"] else number / bottom
        places, form, whole_fraction = -1, "fraction", number.denominator == 1
    if part["scale"]:
        number, places = number * _SCALES[part["scale"].strip()], -1 if form == "decimal" else places
    return Value(-number if negative else number, form, places, bool(part["percent"]), unit, whole_fraction)  # type: ignore[arg-type]


def _ten_to(exponent: int) -> Fraction:
    return Fraction(10) ** exponent


def _in_words(text: str) -> Value | None:
    """`forty-two apples`; a number word must come first."""
    found = _WORD_NUMBER.match(text)
    if found is None:
        return None
    after = text[found.end() :]
    if (
        (after and not (_harmless_after(after) and not _WORD_NUMBER.search(after)))
        or "hundred" in after
        or "thousand" in after
    ):
        return None
    ten, one, low = found.groups()
    number = _WORD_VALUES[low] if low else _WORD_VALUES[ten] + (_WORD_VALUES[one] if one else 0)
    return Value(Fraction(number), "word", 0, False, unit_of(after.strip()))
