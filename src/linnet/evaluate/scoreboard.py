"""What each stage of a life changed, in one file: stage → suite → value, n, interval.

RUN/scoreboard.json                all stages side by side, for people and programs
RUN/stages/2-sft/scores.json       of one stage, each item's score too, so that a later stage is compared
                                   with it item by item
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from linnet.evaluate.intervals import Rate, worse
from linnet.evaluate.suites import Score
from linnet.storage import keep

SCORES = "scores.json"


@dataclass(frozen=True)
class StageScores:
    """Of one stage. answers: (prompt, answer) for people. measured_on: of all suites, as `Score` has it."""

    stage: str
    step: int
    scores: Sequence[Score]
    answers: Sequence[tuple[str, str]] = ()
    measured_on: str = ""

    def of(self, suite: str) -> Score | None:
        """The score of a suite, if it was measured."""
        return next((score for score in self.scores if score.suite == suite), None)

    def save(self, folder: Path) -> None:
        """Write `scores.json` into a stage's folder."""
        facts = {
            "stage": self.stage,
            "step": self.step,
            "measured_on": self.measured_on,
            "answers": [list(answer) for answer in self.answers],
            "scores": [
                {"suite": s.suite, **_figures(s), "lower_is_better": s.lower_is_better,
                 "measured_on": s.measured_on, "each": list(s.each)}
                for s in self.scores
            ],
        }  # fmt: skip
        keep(folder / SCORES, json.dumps(facts), "the scores")

    @classmethod
    def load(cls, folder: Path) -> StageScores | None:
        """What `save` wrote; None when there is none."""
        try:
            facts = json.loads((folder / SCORES).read_text(encoding="utf-8"))
            scores = [
                Score(s["suite"], Rate(*(_number(s[name]) for name in ("value", "n", "low", "high"))),  # type: ignore[arg-type]
                      tuple(s["each"]), s["lower_is_better"], s.get("measured_on", ""))
                for s in facts["scores"]
            ]  # fmt: skip
            answers = [tuple(answer) for answer in facts["answers"]]
            return cls(facts["stage"], facts["step"], scores, answers, facts.get("measured_on", ""))
        except (OSError, ValueError, KeyError, TypeError):
            return None


@dataclass(frozen=True)
class Regression:
    """A suite that got worse beyond chance from one stage to a later one."""

    suite: str
    stage: str
    before: str
    value: float
    value_before: float


def regressions(stages: Sequence[StageScores]) -> list[Regression]:
    """What each stage made worse than the stage before it, beyond chance (95%), item by item."""
    found = []
    for before, after in pairwise(stages):
        for score in after.scores:
            earlier = before.of(score.suite)
            if earlier is None or not _comparable(earlier, score):
                continue
            if worse(earlier.each, score.each, score.lower_is_better):
                found.append(
                    Regression(score.suite, after.stage, before.stage, score.rate.value, earlier.rate.value)
                )
    return found


def _comparable(earlier: Score, score: Score) -> bool:
    return earlier.measured_on == score.measured_on and len(earlier.each) == len(score.each)


def incomparable(stages: Sequence[StageScores]) -> list[tuple[str, str]]:
    """(suite, stage) where the stage before was measured on other items, or by another judge."""
    return [
        (score.suite, after.stage)
        for before, after in pairwise(stages)
        for score in after.scores
        if (earlier := before.of(score.suite)) is not None and earlier.measured_on != score.measured_on
    ]


def scoreboard(stages: Sequence[StageScores]) -> dict[str, Any]:
    """All of it as plain values."""
    return {
        "stages": {s.stage: {score.suite: _figures(score) for score in s.scores} for s in stages},
        "regressions": [vars(regression) for regression in regressions(stages)],
        "incomparable": [{"suite": suite, "stage": stage} for suite, stage in incomparable(stages)],
        "answers": [
            {"prompt": prompt, **{s.stage: dict(s.answers).get(prompt) for s in stages}}
            for prompt in dict.fromkeys(prompt for s in stages for prompt, _ in s.answers)
        ],
    }


_OTHER = " ≠"
_LEGEND = "≠ measured on other items, or by another judge, than the stage before: not comparable with it"
_FEW = 10  # items; an interval of fewer says little


def table(stages: Sequence[StageScores]) -> str:
    """The same for people: a row a suite, a column a stage; what got worse is marked with ▼."""
    suites = dict.fromkeys(score.suite for s in stages for score in s.scores)
    marked = {(regression.suite, regression.stage) for regression in regressions(stages)}
    others = set(incomparable(stages))
    rows = [["", *(s.stage for s in stages)]]
    for suite in suites:
        cells = []
        for s in stages:
            score = s.of(suite)
            mark = " ▼" if (suite, s.stage) in marked else _OTHER if (suite, s.stage) in others else ""
            cells.append("" if score is None else shown(score) + mark)
        rows.append([suite, *cells])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in [*lines, *([_LEGEND] if others else [])])


def shown(score: Score) -> str:
    """A figure and half of its interval's width; of few items, how many they are."""
    value, n, low, high = score.rate
    if math.isnan(value):
        return "-"
    if n < _FEW:
        return (
            f"{value:.2f}" if score.suite.startswith("perplexity/") else f"{100 * value:.1f}%"
        ) + f" (n {n})"
    half = (high - low) / 2
    if score.suite.startswith("perplexity/"):
        return f"{value:.2f}" + (f" ±{half:.2f}" if math.isfinite(half) else "")
    return f"{100 * value:.1f}%" + (f" ±{100 * half:.1f}" if math.isfinite(half) else "")


def _figures(score: Score) -> Mapping[str, float | int | None]:
    return {
        name: _plain(value) for name, value in zip(("value", "n", "low", "high"), score.rate, strict=True)
    }


def _plain(value: float) -> float | int | None:
    """JSON has no NaN and no infinity."""
    return value if math.isfinite(value) else None


def _number(value: float | None) -> float:
    return math.nan if value is None else value
