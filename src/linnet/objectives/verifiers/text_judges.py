"""Verifiers that look at text alone: exact, regex, format. They take microseconds and run where they are called.

exact compares the answer (`answers.final_answer`, rule 6) with the expected one: normalised (case, spaces, outer
punctuation, Unicode's compatibility forms) or, with `strict`, the whole completion character by character.
regex searches the completion. format asks for tags in order, each once, none empty, with nothing but white
space outside (`format:think,answer`), or for a box (`format:boxed`); a partial score is the share of tags that
are there exactly once, closed and not empty.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

from linnet.config import RequestError
from linnet.data.cleaning.patterns import compiled
from linnet.objectives.verifiers.answers import alternatives, expected_text, final_answer, marked_answer
from linnet.objectives.verifiers.parallel import Budget

_TAG_NAME = re.compile(r"[A-Za-z][\w-]*")


def normalised(text: str) -> str:
    """Text in one case, with single spaces, and without marks around it."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split()).strip(" .,;:!?\"'`*_$()[]")


def exact(completion: str, expected: Any, strict: bool) -> float:
    """1 when the completion's answer is the expected text, or one of a list of texts."""
    wanted = alternatives(expected)
    if strict:
        return float(any(completion == str(text) for text in wanted))
    answer = normalised(final_answer(completion, number=False).text) or normalised(completion)
    return float(bool(answer) and any(answer == normalised(expected_text(str(text))) for text in wanted))


def regex_judge(pattern: str, seconds: float, title: str) -> Callable[[str, Budget], float | None]:
    """A judge that searches for a pattern (the `regex` library's, with a limit of time).

    Raises:
        RequestError: when it is not a pattern.
    """
    search = compiled(pattern, f"verifier {title}").search

    def judge(completion: str, budget: Budget) -> float | None:
        if budget.left <= 0:
            return None
        try:
            return float(search(completion, timeout=min(seconds, budget.left)) is not None)
        except TimeoutError:
            budget.tell(f"verifier {title}: the pattern takes more than {seconds:g} seconds on a completion; "
                        "make it simpler (a repetition inside a repetition is the usual reason)")  # fmt: skip
            return None

    return judge


def format_judge(wanted: str, partial: bool, title: str) -> Callable[[str], float]:
    """A judge of form.

    Args:
        wanted: `boxed`, or names of tags in order with commas between them.
        partial: give the share of tags that are in place.
        title: the verifier's name, for messages.

    Raises:
        RequestError: when a name cannot be a tag's.
    """
    if wanted.strip() == "boxed":
        return lambda completion: float(bool(_boxed(completion)))
    tags = [name.strip() for name in wanted.split(",")]
    for name in tags:
        if not _TAG_NAME.fullmatch(name):
            raise RequestError(f"{name!r} is not the name of a tag", f"verifier {title}",
                               "write for example 'format:think,answer'")  # fmt: skip

    def judge(completion: str) -> float:
        if partial:
            return sum(_inside(completion, tag) is not None for tag in tags) / len(tags)
        return float(_in_order(completion, tags))

    return judge


def _boxed(completion: str) -> str | None:
    marked = marked_answer(completion)
    return marked.text if marked is not None and marked.how == "boxed" else None


def _inside(text: str, tag: str) -> str | None:
    """What stands in a tag that is there once, closed after it is opened, and not empty."""
    opened, closed = f"<{tag}>", f"</{tag}>"
    if text.count(opened) != 1 or text.count(closed) != 1:
        return None
    inside = text[text.find(opened) + len(opened) :].partition(closed)
    return inside[0] if inside[1] and inside[0].strip() else None


def _in_order(text: str, tags: Sequence[str]) -> bool:
    place = 0
    for tag in tags:
        inside = _inside(text, tag)
        if inside is None:
            return False
        whole = f"<{tag}>{inside}</{tag}>"
        start = text.find(whole)
        if text[place:start].strip() or start < place:
            return False
        place = start + len(whole)
    return not text[place:].strip()
