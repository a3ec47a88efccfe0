"""Whether a free answer is the right one: exact match, read as a person would.

A question has many right sentences ("Wilf likes red best", "The favourite colour of Wilf is red") and one right
answer ("red"). Comparing only with the reference sentence would measure the choice of words, so the answer is
looked for as well. What counts, in this order:

1. The completion is the reference, but for case, spaces and punctuation around it. Where the reference is
   written in capitals throughout, case counts.
2. The expected answer is a number: the completion's final answer is that number (the verifiers' rule).
3. The expected answer is yes or no: the completion begins with it.
4. The completion's marked answer (a box, `####`, "the answer is …") is the expected one; or there is no such
   mark and the completion as a whole is.
5. The completion is one or two short sentences, the first of which states the answer once and offers nothing
   beside it; they deny nothing, and name nobody and no number that the reference does not name.

By rule 5 a turned relation ("The map has Wilf") passes; no rule without the question's meaning could tell.
"""

from __future__ import annotations

import re
from typing import Any

from linnet.objectives.verifiers.answers import SHORT_LINE, final_answer, marked_answer
from linnet.objectives.verifiers.equality import read_gold
from linnet.objectives.verifiers.math_judge import fast_verdict
from linnet.objectives.verifiers.text_judges import exact, normalised

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=\S)")
_NEGATION = re.compile(r"\b(?:not|never|neither|nor|no|cannot)\b|n't\b")
_ALTERNATIVE_BEFORE = re.compile(r"(?:\b(?:or|and)|[,;/&])\s*(?:(?:an?|the)\s+)?$")
_ALTERNATIVE_AFTER = re.compile(r"\s*(?:(?:or|and)\b|[,;/&]\s*\w)")
_AND = re.compile(r",?\s+and\s+")
_NAMES = re.compile(r"\b(?:[A-Z][\w'-]*|\d[\w.,]*)")
# A capital at the beginning of a sentence says nothing of these.
_OPENERS = frozenset(
    [
        "a",
        "an",
        "at",
        "before",
        "behind",
        "beside",
        "from",
        "he",
        "her",
        "here",
        "his",
        "i",
        "in",
        "inside",
        "it",
        "its",
        "my",
        "near",
        "next",
        "of",
        "on",
        "one",
        "our",
        "outside",
        "over",
        "she",
        "that",
        "the",
        "their",
        "there",
        "these",
        "they",
        "this",
        "those",
        "to",
        "under",
        "we",
        "with",
        "yes",
        "you",
        "your",
    ]
)


def matches(completion: str, reference: str, answer: Any = None) -> bool:
    """Whether a completion is right.

    Args:
        completion: what a model wrote.
        reference: a right answer in full.
        answer: what of it decides, a text or a number, or several of which each does; anything else says
            nothing, and then only the whole decides.
    """
    if _same(completion, reference):
        return True
    if isinstance(answer, list | tuple):
        return any(matches(completion, reference, one) for one in answer)
    if isinstance(answer, bool) or not isinstance(answer, str | int | float):
        return False
    return _decided(completion, reference, str(answer))


def _decided(completion: str, reference: str, answer: str) -> bool:
    """Rules 2 to 5."""
    if not answer.strip() or not completion.strip():
        return False
    if read_gold(answer).value is not None:
        return bool(fast_verdict(answer, completion))
    wanted = normalised(answer)
    if wanted in ("yes", "no"):
        return re.match(rf"\W*{wanted}\b", completion, re.IGNORECASE) is not None
    if marked_answer(completion) is not None:
        return _same(final_answer(completion, number=False).text, answer)
    if exact(completion, answer, strict=False):
        return _same_case(completion, answer)
    return _states(completion.strip(), reference, answer)


def _same(text: str, wanted: str) -> bool:
    return bool(normalised(text)) and normalised(text) == normalised(wanted) and _same_case(text, wanted)


def _same_case(text: str, wanted: str) -> bool:
    """Whether a text is in capitals where the wanted one is; a single letter has no form of its own."""
    shouted = wanted.isupper() and sum(sign.isalpha() for sign in wanted) > 1
    return not shouted or text.isupper()


def _states(completion: str, reference: str, answer: str) -> bool:
    """Rule 5."""
    first, *rest = _SENTENCE_END.split(completion)
    if len(completion) > 2 * SHORT_LINE or "\n" in completion or len(rest) > 1:
        return False
    text, wanted = (_AND.sub(", ", " ".join(part.split())).casefold() for part in (first, answer))
    places = list(re.finditer(rf"(?<![\w'’-]){re.escape(wanted)}(?![\w'’-])", text))
    if len(places) != 1 or not _same_case(completion, answer):
        return False
    before, after = text[: places[0].start()], text[places[0].end() :]
    if _ALTERNATIVE_BEFORE.search(before) or _ALTERNATIVE_AFTER.match(after):
        return False
    if set(_NEGATION.findall(" ".join((before, after, *rest)).casefold())) - set(
        _NEGATION.findall(reference.casefold())
    ):
        return False
    return _named(completion) <= _named(reference) | _named(reference.title())


def _named(sentence: str) -> set[str]:
    """Names and numbers of a sentence, in one case and without a possessive's s."""
    found = {re.sub(r"'s?$", "", name.casefold().replace("’", "'")) for name in _NAMES.findall(sentence)}
    return {name.rstrip(".,") for name in found} - _OPENERS
