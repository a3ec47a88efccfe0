"""What is counted while examples are made."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

UNASKED = "the chat template's prompt is not how it writes these answers"
"""Why an item is refused of which no answer can be asked for."""


@dataclass
class Counts:
    """What became of the items, and of the examples that were made of them.

    too_long: items that did not fit, of which `dropped` were left out and `cut` lost a part of their
    prompt. empty: examples with nothing to learn, left out. unlearned_eos: examples of which an answer's
    last token is no token that ends an answer. parted, unasked: see ChatTokens. refused: items that the
    template cannot write, by its reason. unwritten: examples of which the template leaves out a
    part that can be spared, by its name.
    """

    items: int = 0
    examples: int = 0
    tokens: int = 0
    learned: int = 0
    too_long: int = 0
    dropped: int = 0
    cut: int = 0
    empty: int = 0
    unlearned_eos: int = 0
    parted: int = 0
    longest: int = 0  # places of the longest item, whatever became of it
    unasked: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    unwritten: Counter[str] = field(default_factory=Counter)
