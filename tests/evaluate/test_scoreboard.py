"""Scores are compared where they were measured on the same items by the same judge, and marked elsewhere."""

from __future__ import annotations

from pathlib import Path

from linnet.evaluate.intervals import Rate
from linnet.evaluate.scoreboard import StageScores, incomparable, regressions, scoreboard, table
from linnet.evaluate.suites import Score


def stage(name: str, right: int, measured_on: str, of: int = 60) -> StageScores:
    each = tuple([1.0] * right + [0.0] * (of - right))
    return StageScores(name, 4, [Score("exact", Rate(right / of, of, 0.0, 1.0), each, False, measured_on)])


def test_scores_of_other_items_are_marked_and_not_compared() -> None:
    same = [stage("sft", 55, "a"), stage("dpo", 10, "a")]
    assert [r.stage for r in regressions(same)] == ["dpo"]
    assert "▼" in table(same)
    assert "≠" not in table(same)
    other = [stage("sft", 55, "a"), stage("dpo", 10, "b")]
    assert regressions(other) == []
    assert incomparable(other) == [("exact", "dpo")]
    assert scoreboard(other)["incomparable"] == [{"suite": "exact", "stage": "dpo"}]
    assert "16.7% ±50.0 ≠" in table(other)
    assert table(other).count("≠") == 2, "the mark, and what it means"


def test_what_they_were_measured_on_is_kept(tmp_path: Path) -> None:
    stage("sft", 5, "a").save(tmp_path)
    found = StageScores.load(tmp_path)
    assert found is not None
    assert found.scores[0].measured_on == "a"
