"""The verifiers numeric and math: the same fast reading of numbers, and for math sympy behind it.

The expected answer is what `####`, a box or "answer is" points at in its column (GSM8K's has the whole solution),
else the column's text; a list of texts accepts any of them. numeric gives 0 to whatever it cannot read; math
asks a worker when the expected answer is not a plain number. A worker that does not answer in time gives 0:
the completion's text was too much for sympy, and no verdict would reward that.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from linnet.objectives.verifiers import equality
from linnet.objectives.verifiers.answers import alternatives, expected_text, final_answer
from linnet.objectives.verifiers.math_workers import TookTooLong, shared_workers
from linnet.objectives.verifiers.parallel import Budget, each
from linnet.objectives.verifiers.settings import VerifierSettings
from linnet.objectives.verifiers.units import Unit, unit_of

MOST_SYMBOLIC_CHARACTERS = 1000  # sympy's parser takes seconds for longer ones
_CHARACTERS = str.maketrans({
    "−": "-", "–": "-", "×": r"\times ", "·": r"\cdot ", "÷": "/", "π": r"\pi ", "∞": r"\infty ", "≤": r"\le ",
    "≥": r"\ge ", "≠": r"\ne ", "∪": r"\cup ", "∩": r"\cap ", "²": "^2", "³": "^3", "°": r"^\circ ",
    "½": r"\frac{1}{2}", "⁄": "/",
})  # fmt: skip
_ROOT = re.compile(r"√\s*(\(([^()]*)\)|[\w.]+)|(?<![\\\w])sqrt\s*(\(([^()]*)\)|[\d.]+)")
_NAMES = re.compile(r"(?<![\\\w])(pi|infinity|infty)(?!\w)")
_TRAILING_UNIT = re.compile(
    r"(?:\\(?:text|mathrm|mbox)\s*\{\s*([^{}]*?)\s*\}|(?<=[\d})])\s+([A-Za-z]{1,12}))\s*$"
)


class _Open(NamedTuple):
    row: int
    gold: str
    answer: str


def fast_verdict(expected: str, completion: str) -> bool | None:
    """Whether a completion's answer equals an expected one, without sympy; None when that cannot tell.

    Args:
        expected: the expected answer, or a solution that ends in it.
        completion: what a model wrote.
    """
    return _with_answer(expected, completion)[0]


def _with_answer(expected: str, completion: str) -> tuple[bool | None, str]:
    gold = equality.read_gold(expected_text(expected))
    answer = final_answer(completion, number=gold.value is not None or gold.clock is not None).text
    return equality.decide(gold, answer), answer


def judge(
    completions: Sequence[str], expected: Sequence[Any], settings: VerifierSettings, budget: Budget
) -> list[float | None]:
    """Verdicts of numeric or math: 1, 0, or None where there is nothing to compare with or no time was left."""
    rewards: list[float | None] = []
    undecided: list[_Open] = []
    for row, (completion, wanted) in enumerate(zip(completions, expected, strict=True)):
        found: bool | None = None if wanted is None else False
        for text in alternatives(wanted):
            if text is None or found:
                continue
            verdict, answer = _with_answer(str(text), completion)
            if verdict is None and settings.word == "math":
                undecided.append(_Open(row, expected_text(str(text)), answer))
            found = found or bool(verdict)
        rewards.append(None if found is None else float(found))
    if settings.word == "numeric":
        return _only_numbers(rewards, expected, settings, budget)
    still = [question for question in undecided if not rewards[question.row]]
    return _asked(rewards, still, settings, budget) if still else rewards


def _only_numbers(
    rewards: list[float | None], expected: Sequence[Any], settings: VerifierSettings, budget: Budget
) -> list[float | None]:
    """None where the expected answer is no number at all: numeric does not apply there."""
    for row, wanted in enumerate(expected):
        texts = alternatives(wanted)
        golds = [equality.read_gold(expected_text(str(text))) for text in texts if text is not None]
        if golds and all(gold.value is None and gold.clock is None for gold in golds) and not rewards[row]:
            rewards[row] = None
            budget.tell(f"verifier {settings.title}: an expected answer is not a number "
                        f"({str(texts[0])[:60]!r}); its rows get no reward; kind: math reads more")  # fmt: skip
    return rewards


def _asked(
    rewards: list[float | None], questions: Sequence[_Open], settings: VerifierSettings, budget: Budget
) -> list[float | None]:
    workers = shared_workers(settings.memory_mb)

    def ask(question: _Open) -> bool:
        seconds = min(settings.timeout_seconds, budget.left)
        return symbolically_equal(question.gold, question.answer, workers.equal, seconds)

    done = each(questions, ask, budget.workers, budget.deadline)
    for question, verdict in zip(questions, done, strict=True):
        if verdict is None or (isinstance(verdict.error, TookTooLong) and budget.left <= 0):
            rewards[question.row] = rewards[question.row] or None
            budget.tell(f"verifier {settings.title}: not every answer was compared before the deadline")
        elif isinstance(verdict.error, TookTooLong):
            budget.tell(f"verifier {settings.title}: comparing an answer took more than "
                        f"{settings.timeout_seconds:g} seconds and counts as wrong")  # fmt: skip
        elif verdict.error is not None:
            rewards[question.row] = rewards[question.row] or None
            budget.tell(f"verifier {settings.title}: {verdict.error}")
        elif verdict.result:
            rewards[question.row] = 1.0
    return rewards


def symbolically_equal(gold: str, answer: str, equal: Any, seconds: float) -> bool:
    """Whether two expressions are equal by sympy, once their units, if both have one, are the same.

    Args:
        gold: the expected answer.
        answer: the part of a completion that counts.
        equal: `MathWorkers.equal`, or one like it.
        seconds: the most that one comparison may take.

    Raises:
        TookTooLong: see `MathWorkers.equal`, and what else it raises.
    """
    if not answer.strip() or len(answer) > MOST_SYMBOLIC_CHARACTERS:
        return False
    (left, left_unit), (right, right_unit) = _without_unit(for_sympy(gold)), _without_unit(for_sympy(answer))
    if left_unit is not None and right_unit is not None and left_unit != right_unit:
        return False
    return bool(equal(left, right, seconds))


def for_sympy(text: str) -> str:
    """An answer in the LaTeX that math-verify reads."""
    text = text.strip().strip("$").strip().rstrip(".,;").translate(_CHARACTERS)
    text = _ROOT.sub(lambda m: r"\sqrt{%s}" % (m[2] or m[4] or m[1] or m[3]), text)
    text = _NAMES.sub(lambda m: "\\" + ("pi" if m[1] == "pi" else "infty"), text)
    return re.sub(r"\s+(?:and|or)\s+", ", ", text)


def _without_unit(text: str) -> tuple[str, Unit | None]:
    found = _TRAILING_UNIT.search(text)
    unit = unit_of(found[1] or found[2] or "") if found else None
    return (text[: found.start()].rstrip(), unit) if found and unit is not None else (text, None)
