"""A template's `{% generation %}` blocks held against the prompts that ask for them.

A block says where the assistant speaks, and its author can be wrong about where a model is asked to begin. Of
TRL's training templates some begin a block inside the prompt (its role's line), and some end the prompt with an
opening `<think>` that an answer without thoughts does not have. What is learned must be what follows a prompt.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from linnet.text.template_inputs import CLOSE, OPEN, shared_beginning

_SIGNS = re.compile(f"[{OPEN}{CLOSE}]")


def learned_blocks(marked: str, answers: Sequence[tuple[str | None, bool]]) -> tuple[str, int]:
    """The marked text of a conversation with the blocks of its learned turns only.

    A block belongs to the last answer whose prompt ends within it or before it. The first words of an answer are
    what follows its prompt: a block that begins earlier is cut there, one that begins later is extended.

    Args:
        marked: the whole conversation, OPEN and CLOSE about every block.
        answers: of each of the assistant's turns the text of its prompt, None where it has none, and whether it
            is learned.

    Returns:
        The text, and how many learned turns are left out because their prompt is not how the text begins.
    """
    text, blocks = _taken_apart(marked)
    prompts = [prompt or "" for prompt, _ in answers]
    starts = [len(p if text.startswith(p) else shared_beginning(p, text)) for p in prompts]
    kept: list[tuple[int, int]] = []
    unasked = 0
    for (prompt, learned), start, end in zip(answers, starts, [*starts[1:], len(text) + 1], strict=True):
        if learned and prompt is not None and start == len(prompt):
            kept += _after(start, [block for block in blocks if start <= block[1] < end])
        elif learned:
            unasked += 1
    return _put_together(text, kept), unasked


def _after(start: int, blocks: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The blocks of one answer, of which the first that says anything begins where the prompt ends."""
    said = [(max(begin, start), end) for begin, end in blocks if end > max(begin, start)]
    return [(start, said[0][1]), *said[1:]] if said else []


def _taken_apart(marked: str) -> tuple[str, list[tuple[int, int]]]:
    """The text without OPEN and CLOSE, and the blocks as places in it."""
    places = [found.start() - number for number, found in enumerate(_SIGNS.finditer(marked))]
    return _SIGNS.sub("", marked), list(zip(places[::2], places[1::2], strict=True))


def _put_together(text: str, blocks: Sequence[tuple[int, int]]) -> str:
    parts, at = [], 0
    for begin, end in blocks:
        parts += [text[at:begin], OPEN, text[begin:end], CLOSE]
        at = end
    return "".join([*parts, text[at:]])
