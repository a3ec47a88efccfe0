"""What is held out for validation: by the question, so that no answer to it was learned anywhere.

Held out is a property of the text, as for documents (`shards/tokenising.py`), not of a place in a file: order,
sources and stages cannot leak it. Of conversations, pairs and problems alike it is decided by the user's
first words, so a question that is held out in one stage is held out in all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from linnet.data.conversations.kinds import Item, content_of, question_of
from linnet.data.shards.tokenising import HeldOut, digest_of


def split(items: Iterable[Item], share: float) -> tuple[list[Item], list[Item]]:
    """Items for training and for validation.

    Args:
        share: of all questions, that is held out.
    """
    held_out = HeldOut(share)
    sides: tuple[list[Item], list[Item]] = ([], [])
    for item in items:
        sides[question_of(item) in held_out].append(item)
    return sides


def duplicates(items: Sequence[Item]) -> int:
    """How many items say exactly what one before them says."""
    return len(items) - len({digest_of(content_of(item)) for item in items})


def overlap(train: Iterable[Item], validation: Sequence[Item]) -> tuple[int, int]:
    """How many items of validation stand in training word for word, and how many questions do."""
    learned = list(train)
    contents = {digest_of(content_of(item)) for item in learned}
    questions = {digest_of(question_of(item)) for item in learned}
    return (
        sum(digest_of(content_of(item)) in contents for item in validation),
        sum(digest_of(question_of(item)) in questions for item in validation),
    )
