"""Every stage of the quickstart teaches what it is for, on items that it never saw, even with a tenth of its budget."""

from __future__ import annotations

import json
from typing import Any

import pytest

import tiny
from linnet.data.world import games

SMALLER = {
    "hardware.compile": "false",
    "tokenizer.vocab_size": "1024",
    "tokenizer.train_megabytes": "1",
    "model.vocab_size": "1024",
    "model.hidden_size": "96",
    "model.num_hidden_layers": "3",
    "model.num_attention_heads": "4",
    "model.intermediate_size": "256",
    "pretrain.duration": "120 steps",
    "pretrain.train_batch_size": "8",
    "pretrain.warmup_steps": "10",
    "pretrain.eval_steps": "0",
    "pretrain.data.sources": "[{builtin: world, documents: 2000}]",
    "sft.duration": "320 steps",
    "sft.replay": "{share: 0.1}",
    "sft.eval_steps": "0",
    "sft.data.sources": "[{builtin: world, documents: 3000}]",
    "safety.replay": "{share: 0.1}",
    "dpo.learning_rate": "5e-4",
    "rlvr.duration": "60 steps",
    "rlvr.learning_rate": "2e-4",
    "rlvr.data.validation_fraction": "0.2",
    "domain.learning_rate": "1e-4",
    "scoreboard.items": "100",
    "scoreboard.max_new_tokens": "24",
}


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The scoreboard of a life by the real program: the quickstart's, smaller, with problems for so small a model."""
    folder = tmp_path_factory.mktemp("directions")
    problems = folder / "problems.jsonl"
    played = [games.play("train", ("directions", number), ("count",)) for number in range(600)]
    rows = [{"question": game.question, "answer": game.reply} for game in played]
    problems.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    chosen = {**SMALLER, "rlvr.data.sources": f"[{problems}]"}
    overrides = [f"{name}={value}" for name, value in chosen.items()]
    process = tiny.start(
        ["train", "quickstart", "--run", str(folder / "run"), *overrides], folder / "told.txt"
    )
    process.join()
    assert process.exitcode == 0, (folder / "told.txt").read_text()
    scores = json.loads((folder / "run" / "scoreboard.json").read_text())["stages"]
    return {
        stage: {suite: score["value"] for suite, score in found.items()} for stage, found in scores.items()
    }


def test_instructions_are_answered_after_instruction_tuning(board: dict[str, Any]) -> None:
    before, after = (board[stage]["instruction/exact_match"] for stage in ("pretrain", "sft"))
    assert before <= 0.05
    assert after >= before + 0.15


def test_documents_are_kept_by_what_is_replayed_of_them(board: dict[str, Any]) -> None:
    general = {stage: board[stage]["perplexity/general"] for stage in board}
    assert general["sft"] <= 1.3 * general["pretrain"]
    assert general["domain"] <= 1.5 * general["pretrain"]


def test_refusals_are_learned_for_what_is_harmful_more_than_for_what_is_not(board: dict[str, Any]) -> None:
    assert board["sft"]["safety/refusal"] <= 0.05
    assert board["safety"]["safety/refusal"] >= 0.4
    assert board["safety"]["safety/refusal"] >= board["safety"]["safety/over_refusal"] + 0.1


def test_the_better_of_two_answers_is_preferred_after_preference_tuning(board: dict[str, Any]) -> None:
    before, after = (board[stage]["preference/accuracy"] for stage in ("safety", "dpo"))
    assert after >= before + 0.1


def test_more_problems_are_solved_after_reinforcement(board: dict[str, Any]) -> None:
    before, after = (board[stage]["rlvr/reward"] for stage in ("dpo", "rlvr"))
    assert after >= before + 0.1


def test_a_domain_is_learned_and_the_rest_is_kept(board: dict[str, Any]) -> None:
    harbour = [board[stage]["perplexity/domain/harbour"] for stage in ("rlvr", "domain")]
    general = [board[stage]["perplexity/general"] for stage in ("rlvr", "domain")]
    assert harbour[1] <= 0.8 * harbour[0]
    assert general[1] <= 1.05 * general[0]
