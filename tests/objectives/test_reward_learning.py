"""A policy gets better at what is rewarded, on questions that it was not trained on, whatever the loss."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from rewarding import LETTERS, accumulated, network, objective, problem, prompts_for

import tiny
from linnet.objectives.reward import check_solvable, evaluate_problems
from linnet.objectives.verifiers import Verifier, VerifierSettings

STEPS = 40
# An answer is right that begins as the question does.
QUESTIONS = [problem(a + b + c, a) for a in LETTERS[:3] for b in LETTERS for c in LETTERS[:4]]
ASKED, UNSEEN = (
    [q for number, q in enumerate(QUESTIONS) if bool(number % 4) is asked] for asked in (True, False)
)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with tiny.one_thread():
        yield


def begins_right(texts: list[str], columns: Any, budget: Any) -> list[float | None]:
    return [float(text[:1] == answer) for text, answer in zip(texts, columns["answer"], strict=True)]


@pytest.mark.parametrize(
    "how",
    [
        {"loss_type": "dapo", "epsilon_high": 0.28, "dynamic_sampling": True},
        {"loss_type": "grpo", "steps_per_generation": 2, "num_iterations": 2},
        {"loss_type": "dr_grpo", "scale_rewards": "none"},
        {"loss_type": "bnpo", "importance_sampling_level": "sequence", "beta": 0.01},
    ],
    ids=lambda how: how["loss_type"],
)
def test_the_mean_reward_rises_on_unseen_questions(how: dict[str, Any]) -> None:
    model = network()
    reference = network() if "beta" in how else None
    verifiers = [Verifier(VerifierSettings(kind="regex:.", name="begins"), judge=begins_right)]
    reward = objective(
        model, verifiers, ASKED, reference=reference, num_generations=8, max_completion_length=3, **how
    )
    assert check_solvable(reward.generator, ASKED, verifiers, reward.settings, seed=1).refusal is None

    def unseen() -> float:
        return evaluate_problems(
            reward.generator, UNSEEN, verifiers, samples=4, temperature=1.0, max_new_tokens=3, seed=7
        ).reward

    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0)
    before, given = unseen(), prompts_for(reward, 64)
    for step in range(STEPS):
        accumulated(reward, model, reward.prepare(model, given[step], step), 64)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    after = unseen()
    assert before < 0.3
    assert after > 0.6
    assert reward.report()["rlvr/reward"] > 0.5
