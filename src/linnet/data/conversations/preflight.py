"""The examples of a stage looked over before its first step, and refused when they are not what they should be.

Most faults of fine-tuning are faults of data, and are silent: the loss falls on empty masks (there is nothing
to be wrong about), a model whose end of turn was never learned talks for ever, a validation set that stands in
the training set looks like success. All of it can be counted beforehand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

import numpy as np

from linnet.config import RequestError
from linnet.data.conversations.counts import UNASKED, Counts
from linnet.data.conversations.kinds import Item, Pair
from linnet.data.conversations.reading import Gathered
from linnet.data.conversations.rendering import Renderer
from linnet.data.conversations.settings import PreflightSettings
from linnet.data.conversations.splitting import duplicates, overlap
from linnet.data.examples import Example
from linnet.data.peek import DIM, paint_text, printable
from linnet.text import Tokenizer

_SHOWN = 3
_SIDES = ("rejected", "chosen")  # of a pair's second and first example
_LEARNED = 32
_LONGEST_SHOWN = 400  # tokens of a row


@dataclass(frozen=True)
class Preflight:
    """What was found. Counts are of rows, of examples, or of items (conversations, pairs, problems).

    samples: some examples, for people. overlap: items of validation that stand in training word for word.
    shared_questions: those whose question is asked in training, perhaps with another answer. template: where the
    chat template came from.
    """

    sources: tuple[str, ...]
    rows: int
    unusable: Counter[str]
    items: int
    validation: int
    duplicates: int
    overlap: int
    shared_questions: int
    counts: Counts
    samples: tuple[Example, ...]
    pairs: bool = False
    template: str = ""

    @property
    def shares(self) -> dict[str, float]:
        """Each count that has a limit, as a share; named as in `PreflightSettings`, without `max_`."""
        counts = self.counts
        parts = {
            "unusable": (self.unusable.total() + counts.refused.total(), self.rows),
            "empty_masks": (counts.empty, counts.examples + counts.empty),
            "unlearned_eos": (counts.unlearned_eos, counts.examples),
            "too_long": (counts.too_long, counts.items),
            "duplicates": (self.duplicates, self.items),
            "validation_overlap": (self.overlap, self.validation),
        }
        return {name: part / whole if whole else 0.0 for name, (part, whole) in parts.items()}

    def check(self, limits: PreflightSettings, where: str = "data") -> None:
        """Refuse data beyond the limits.

        Raises:
            RequestError: the first limit that is exceeded, or there is no example.
        """
        if not self.items:
            raise self._nothing(where)
        if not self.counts.examples and self.counts.refused.get(UNASKED) == self.counts.refused.total():
            raise RequestError(
                f"{UNASKED}, so what would be learned is never asked for", self.template or where,
                "give another chat_template, or give each answer its thoughts where the prompt opens them",
            )  # fmt: skip
        shares = self.shares
        for name, (what, mend) in _FAULTS.items():
            limit = getattr(limits, f"max_{name}")
            if shares[name] > limit:
                why = self._reasons() if name == "unusable" else ""
                raise RequestError(
                    f"{shares[name]:.1%} {what}, and {limit:.1%} are allowed{why}", where,
                    f"{mend}; or raise preflight.max_{name}",
                )  # fmt: skip
        if not self.counts.examples:
            raise self._nothing(where)

    def _nothing(self, where: str) -> RequestError:
        """Why no example is left."""
        counts = self.counts
        if not self.items and self.validation:
            return RequestError(
                f"all questions are held out ({self.validation:,} items), and none is left to learn from", where,
                "give more rows, lower validation_fraction, or give validation_sources",
            )  # fmt: skip
        if not self.items:
            return RequestError("no item is left to learn from", where, "check the weights of its sources")
        causes = {
            "too long": (counts.dropped, "raise the sequence length"),
            "nothing to learn": (counts.empty, _FAULTS["empty_masks"][1]),
            "refused by the chat template": (counts.refused.total(), "give another chat_template"),
        }
        found = ", ".join(f"{why} {count:,}" for why, (count, _) in causes.items() if count)
        hint = max(causes.values())[1]
        return RequestError(f"no example is left of {self.items:,} ({found})", where, hint)

    def _made(self) -> str:
        """Examples, or pairs of two each."""
        made = self.counts.examples
        return f"{made // 2:,} pairs" if self.pairs else f"{made:,} examples"

    def _reasons(self) -> str:
        found = (self.unusable + self.counts.refused).most_common(3)
        return " (" + ", ".join(f"{why} {count:,}" for why, count in found) + ")"

    def facts(self) -> dict[str, Any]:
        """All counts, for programs."""
        own = ("sources", "rows", "items", "validation", "duplicates", "overlap", "shared_questions")
        return {
            **{name: getattr(self, name) for name in own},
            "unusable": dict(self.unusable),
            "counts": {
                **asdict(self.counts),
                "refused": dict(self.counts.refused),
                "unwritten": dict(self.counts.unwritten),
            },
            "shares": self.shares,
        }

    def told(self, *names: str) -> list[str]:
        """Some of `shares`, a line each."""
        shares = self.shares
        return [f"{shares[name]:7.2%} {_FAULTS[name][0]}" for name in names]

    def template_notes(self) -> list[str]:
        """What the chat template refuses, leaves out and does not ask for, a line each."""
        counts = self.counts
        lines = [f"not learned: {why} {count:,}" for why, count in counts.refused.most_common(3)]
        if counts.unwritten:
            named = ", ".join(f"{name} {count:,}" for name, count in counts.unwritten.most_common())
            lines.append(f"the chat template does not write, of so many examples: {named}")
        if counts.unasked:
            lines.append(
                f"{counts.unasked:,} answers are not learned: the chat template's prompt is not how it writes them "
                "(chat.turns=each may help)"
            )
        return lines

    def text(self, tokenizer: Tokenizer, colour: bool) -> str:
        """For people: some examples with what is learned in colour (or between ⟦ and ⟧), then the counts."""
        lines = []
        for number, example in enumerate(self.samples, 1):
            learned = int(example.learned.sum())
            name = f"pair {(number + 1) // 2}, {_SIDES[number % 2]}" if self.pairs else f"example {number}"
            lines.append(titled(f"{name}: {len(example.tokens)} tokens, {learned} learned", colour))
            lines += [masked(example, tokenizer, colour), ""]
        counts, shares = self.counts, self.shares
        lines += [*self.sources, ""]
        lines.append(
            f"{self._made()} of {self.items:,}, {self.validation:,} held out; {counts.tokens:,} tokens, "
            f"{counts.learned:,} learned ({counts.learned / max(1, counts.tokens):.1%}); the longest {counts.longest:,}"
        )
        lines += self.told(*shares)
        if counts.too_long:
            lines.append(
                f"too long: {counts.dropped:,} dropped, {counts.cut:,} cut from the left of the prompt"
            )
        if counts.parted:
            lines.append(
                f"{counts.parted:,} answers begin inside a token of the whole text; encoded in two parts"
            )
        lines += self.template_notes()
        if self.shared_questions > self.overlap:
            lines.append(f"{self.shared_questions:,} questions of validation are asked in training as well")
        return "\n".join([*lines, ""])


_FAULTS = {
    "unusable": ("of rows cannot be used", "mend or filter them"),
    "empty_masks": (
        "of examples have nothing to learn",
        "put {% generation %} blocks around the assistant's words in the chat template",
    ),
    "unlearned_eos": (
        "of examples have an answer whose end is not learned, so the model would not stop",
        "let the chat template end the assistant's turn with eos_token or another special token of the vocabulary "
        "(inside {% generation %})",
    ),
    "too_long": ("of examples do not fit", "raise the sequence length"),
    "duplicates": ("of the data are exact duplicates", "take them out"),
    "validation_overlap": ("of validation stands in training", "take it out of one of the two"),
}


def look_over(
    gathered: Sequence[Gathered],
    renderer: Renderer,
    train: Sequence[Item],
    examples: Sequence[Example],
    validation: Sequence[Item] = (),
) -> Preflight:
    """Count what a stage is about to learn from.

    Args:
        gathered: the sources' own counts.
        renderer: what made `examples` of `train`, and of nothing else.
        validation: items that are held out, or given apart.
    """
    same, asked = overlap(train, validation)
    unusable: Counter[str] = Counter()
    for source in gathered:
        unusable += source.unusable
    pairs = bool(train) and isinstance(train[0], Pair)
    size = 2 if pairs else 1
    firsts = {len(examples) // size * (2 * number + 1) // (2 * _SHOWN) for number in range(_SHOWN)}
    places = [size * first + side for first in sorted(firsts) for side in range(size)]
    return Preflight(
        sources=tuple(map(str, gathered)),
        rows=sum(source.rows for source in gathered),
        unusable=unusable,
        items=len(train),
        validation=len(validation),
        duplicates=duplicates(train),
        overlap=same,
        shared_questions=asked,
        counts=renderer.counts,
        samples=tuple(examples[place] for place in places if place < len(examples)),
        pairs=pairs,
        template=renderer.template.where,
    )


def masked(example: Example, tokenizer: Tokenizer, colour: bool) -> str:
    """An example's text with its special tokens; what is learned in colour, all else dimmed."""
    tokens, learned = example.tokens.tolist(), example.learned.tolist()
    begin = 0
    if len(tokens) > _LONGEST_SHOWN and any(learned):  # the learned part is what people look for
        begin = max(0, min(int(np.argmax(example.learned)) - 100, len(tokens) - _LONGEST_SHOWN))
    end = begin + _LONGEST_SHOWN
    shown = zip(tokens[begin:end], learned[begin:end], strict=True)
    parts = ["…"] if begin else []
    for flag, run in groupby(shown, key=lambda pair: pair[1]):
        text = tokenizer.decode_bytes([token for token, _ in run], skip_special=False)
        lines = text.decode("utf-8", errors="replace").split("\n")
        told = [printable(line) for line in lines]
        if colour:
            parts.append(
                "\n".join(paint_text(line, _LEARNED if flag else DIM) if line else "" for line in told)
            )
        else:
            parts.append("⟦" + "\n".join(told) + "⟧" if flag else "\n".join(told))
    return "".join(parts) + ("…" if end < len(tokens) else "")


def titled(text: str, colour: bool) -> str:
    """A line that parts what follows from what stands before it."""
    return paint_text(f"── {text} ──", DIM) if colour else f"── {text} ──"
