"""Which part of a completion counts as its answer.

One rule, so that a completion has one answer however much it says, and listing many numbers gains nothing:

1. Reasoning in `<think>…</think>` does not count; of `<answer>…</answer>` only the inside of the last does.
2. The last `\\boxed{…}`, if there is one (cut off: no answer).
3. Else what follows the last `####` on its line.
4. Else what follows the last "answer is", "answer:", "answer =" up to the end of its sentence. Of several
   numbers there, the one after the last "=", else the first; alternatives ("41 or 42", "41, 42") and
   computations ("6 * 7") are none.
5. Else the last number, unless it ends a bare list ("40, 41, 42") or a computation.
6. Where the wanted answer is not a number, instead of 5 the last formula between dollar signs, else the
   last line if it is short.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

How = Literal["boxed", "marker", "phrase", "tag", "number", "formula", "line", "none"]
SHORT_LINE = 80  # characters
TAIL = 160  # characters


class Answer(NamedTuple):
    """The text that counts, and what it was found by."""

    text: str
    how: How


NONE = Answer("", "none")
_PHRASE = re.compile(
    r"\banswer(?:s)?\b(?:[ \t*_]|[a-z',]){0,60}?(?:\bis\b|\bare\b|:|=)[ \t*_]*:?[ \t*_]*(?:\n\s*)?",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[.!?](?=\s|$|[*\"'”])|\n")
_DIGITS = (
    # Thousands set apart by one sign throughout: 1,234,567 and 1'234'567, with narrow spaces, as LaTeX does, ...
    r"(?:\d{1,3}(?P<gap>[,'’_\u00a0\u202f\u2009\u2007]|\\,|\{,\})\d{3}(?:(?P=gap)\d{3})*(?!\d)"
    # ... by plain spaces, if no further number follows that would make it a list, ...
    r"|[1-9]\d{0,2}(?: \d{3})+(?! ?\d)"
    # ... or by points.
    r"|\d{1,3}(?:\.\d{3})+,\d+(?![\d.,])|\d{1,3}(?:\.\d{3}){2,}(?!\d)"
    r"|\d+)(?:\.\d+)?|\.\d+"
)
NUMBER = re.compile(
    r"(?:(?<![\w)\].])[-+\u2212\u2013]\s?)?(?:(?:US)?[$€£¥₹]\s?)?(?<![\w.])"
    rf"(?:{_DIGITS})(?:[eE][-+]?\d+(?!\w)|\s?(?:\*|x|×|\\times)\s?10\s?\^\s?\{{?[-+\u2212]?\d+\}}?)?"
    r"(?:\s?[/⁄]\s?\d+(?![\d.])|\s\d+[/⁄]\d+(?![\d.])|:[0-5]\d(?:\s?[ap]\.?m\b\.?)?)?(?:\s?\\?%|[½⅓⅔¼¾])?"
)
_LIST_GAP = re.compile(r"\s*(?:,|;|\||\bor\b|\band\b|,\s*or\b|,\s*and\b|/)?\s*$", re.IGNORECASE)
_OPERATOR_GAP = re.compile(r"[\s()]*(?:[-+*/×÷^x\u2212]|\\times|\\cdot|\\div)[\s()]*")
_NEXT_WORD = re.compile(r"\s?[a-z°]*")
_ALTERNATIVE = re.compile(r"\bor\b|\band\b|[,;|/&]", re.IGNORECASE)
_REFUSAL = re.compile(r"\b(?:not|never|neither|unknown|than|least|most)\b|n't\b", re.IGNORECASE)
_FORMULA = re.compile(r"\$\$(.+?)\$\$|\\\[(.+?)\\\]|\\\((.+?)\\\)|(?<![\\$])\$([^$\n]+?)\$", re.DOTALL)
_TAG = re.compile(r"<answer>(.*?)</answer>", re.DOTALL | re.IGNORECASE)


def final_answer(completion: str, number: bool = True) -> Answer:
    """The answer of a completion by the rule above.

    Args:
        completion: what a model wrote.
        number: whether a number is wanted (rule 5) or something else (rule 6).
    """
    if "<think>" in completion or "</think>" in completion:
        _, closed, completion = completion.rpartition("</think>")
        if not closed or "<think>" in completion:
            return NONE
    tagged = _TAG.findall(completion) if "<answer>" in completion else None
    if tagged:
        completion = tagged[-1]
    marked = marked_answer(completion)
    if marked is not None:
        return marked
    if tagged:
        return Answer(completion.strip(), "tag")
    return _last_number(completion) if number else _last_formula(completion)


def marked_answer(text: str) -> Answer | None:
    """What a box, `####` or "answer is" points at (rules 2 to 4); None when there is none of them."""
    at = max(text.rfind("\\boxed"), text.rfind("\\fbox"))
    if at >= 0:
        inside = _in_braces(text, at)
        return NONE if inside is None else Answer(inside.strip(), "boxed")
    _, found, rest = text.rpartition("####")
    if found:
        line = rest.lstrip("# \t\n").partition("\n")[0]
        return Answer(line.strip(), "marker")
    if "nswer" in text or "NSWER" in text:
        ends = [found.end() for found in _PHRASE.finditer(text)]
        if ends:
            return Answer(narrowed(_sentence(text[ends[-1] :])), "phrase")
    return None


def expected_text(expected: str) -> str:
    """The answer in a column's text: what a marker points at, else all of it."""
    marked = marked_answer(expected)
    return marked.text if marked is not None else expected.strip()


def alternatives(expected: Any) -> Sequence[Any]:
    """The expected answers of a row: a list accepts any of its own."""
    return expected if isinstance(expected, (list, tuple)) else [expected]


def narrowed(span: str) -> str:
    """The one number of a sentence about it (rule 4); the sentence itself when there is no one number."""
    formulas = (
        [next(filter(None, groups), "") for groups in _FORMULA.findall(span)]
        if "$" in span or "\\" in span
        else []
    )
    if len(formulas) == 1 and not span.lstrip().startswith("$ "):
        return formulas[0]
    if "\\" in span:
        return span
    left, equals, right = span.rpartition("=")
    if equals and not _ALTERNATIVE.search(left.partition("=")[0]):
        return narrowed(right)
    numbers = list(NUMBER.finditer(span))
    if not numbers or _REFUSAL.search(span[: numbers[0].start()]):
        return span
    first = numbers[0]
    gap = span[first.end() : numbers[1].start()] if len(numbers) > 1 else ""
    if _ALTERNATIVE.search(gap) or _OPERATOR_GAP.fullmatch(gap):
        return span
    if len(numbers) == 1:
        return span if len(span) <= SHORT_LINE else first.group()
    return first.group() + _word_after(span, first.end(), numbers[1].start())


def _word_after(span: str, start: int, stop: int) -> str:
    word = re.match(r"\s*[A-Za-z%°]+", span[start:stop])
    return word.group() if word else ""


def _sentence(rest: str) -> str:
    end = _SENTENCE_END.search(rest)
    return (rest[: end.start()] if end else rest).strip()


def _in_braces(text: str, at: int) -> str | None:
    """The inside of the braces that open after `at`; without braces, the next word; None when cut off."""
    start = text.find("{", at)
    if start < 0 or text[at:start].strip("\\abcdefghijklmnopqrstuvwxyz "):
        words = text[at:].split(None, 1)
        return words[1].split()[0].rstrip("$.") if len(words) > 1 else None
    depth = 0
    for place in range(start, len(text)):
        if text[place] == "{":
            depth += 1
        elif text[place] == "}":
            depth -= 1
            if depth == 0:
                return text[start + 1 : place]
    return None


def _last_number(text: str) -> Answer:
    # The last two numbers decide, so the end of a long text is nearly always enough to look at.
    tail = text[-TAIL:].partition(" ")[2] if len(text) > TAIL else text
    numbers = list(NUMBER.finditer(tail))
    # What could stand before a number in a list is short; only at the cut itself may some of it be missing.
    if tail is not text and (not numbers or (len(numbers) == 1 and numbers[0].start() < 20)):
        tail = text
        numbers = list(NUMBER.finditer(text))
    if not numbers:
        return NONE
    last = numbers[-1]
    if len(numbers) > 1:
        gap = tail[numbers[-2].end() : last.start()]
        if _LIST_GAP.fullmatch(gap) or _OPERATOR_GAP.fullmatch(gap):
            return NONE
    word = _NEXT_WORD.match(tail, last.end())
    return Answer(last.group() + (word[0] if word else ""), "number")


def _last_formula(text: str) -> Answer:
    formulas = _FORMULA.findall(text) if "$" in text or "\\" in text else []
    if formulas:
        return Answer(next(filter(None, formulas[-1]), "").strip(), "formula")
    lines = [line for line in text.splitlines() if line.strip()]
    if lines and len(lines[-1]) <= SHORT_LINE:
        return Answer(lines[-1].strip(), "line")
    return NONE
