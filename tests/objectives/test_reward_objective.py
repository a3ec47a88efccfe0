"""Reward: rollouts become rows, the ratio begins at 1, TRL's numbers come out, and no micro-batch changes a step."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from rewarding import (
    EOS,
    PROBLEMS,
    Counting,
    accumulated,
    measured,
    moved,
    network,
    objective,
    problem,
    prompts_for,
    verifier,
)  # fmt: skip
from torch import Tensor
from trl_grpo import scored, trainer

import tiny
from linnet.config import RequestError
from linnet.data.batches import IGNORE, Batch
from linnet.infer import Completion
from linnet.model import LoraSettings, Transformer, lora
from linnet.model.stock_weights import to_stock
from linnet.objectives.reward import Reward

LOSSES = ("grpo", "bnpo", "dapo", "dr_grpo")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with tiny.one_thread():
        yield


def first_step(reward: Reward, model: Transformer, train_batch_size: int = 16) -> Batch:
    return reward.prepare(model, prompts_for(reward, train_batch_size)[0], 0)


def completions_in(batch: Batch) -> list[tuple[list[int], list[int]]]:
    """(prompt, completion) of each row."""
    found = []
    for tokens, targets in zip(batch.tokens.tolist(), batch.targets.tolist(), strict=True):
        counted = [place for place, target in enumerate(targets) if target != IGNORE]
        prompt = tokens[: counted[0] + 1]
        found.append((prompt, [targets[place] for place in counted]))
    return found


# --- rows -------------------------------------------------------------------------------------------------


def test_rows_are_prompts_with_their_completions_and_the_end_is_learned() -> None:
    model = network()
    reward = objective(model)
    batch = first_step(reward, model)
    assert len(batch) == 16
    prompts = [prompt.ids for prompt in PROBLEMS]
    ended = 0
    for row, (prompt, completion) in enumerate(completions_in(batch)):
        assert prompt in prompts
        assert 1 <= len(completion) <= 8
        # What is read is what was said, one place earlier.
        assert batch.tokens[row, : len(prompt) + len(completion) - 1].tolist() == prompt + completion[:-1]
        assert len(completion) == 8 or completion[-1] == EOS
        ended += completion[-1] == EOS
    assert ended, "some must end for the test to mean anything"
    assert batch.columns["weights"].shape == (16,)


def test_each_prompt_of_a_generation_is_answered_by_its_group() -> None:
    model = network()
    reward = objective(model)
    asked = prompts_for(reward)[0].columns["problem"].tolist()
    said = [prompt for prompt, _ in completions_in(first_step(reward, model))]
    assert sorted(said) == sorted(PROBLEMS[number].ids for number in asked for _ in range(4))


def test_rewards_reach_the_rows_of_their_completions() -> None:
    model = network()
    reward = objective(model, scale_rewards="none")
    batch = first_step(reward, model)
    rows = completions_in(batch)
    letters = ["".join("abcdefghij"[token] for token in done if token < EOS) for _, done in rows]
    rewards = torch.tensor([float("nan") if reward is None else reward for reward in Counting()(letters)])
    for prompt in {tuple(prompt) for prompt, _ in rows}:
        group = [row for row, (other, _) in enumerate(rows) if tuple(other) == prompt]
        wanted = (rewards[group] - rewards[group].nanmean()).nan_to_num(0)
        torch.testing.assert_close(batch.columns["advantages"][group], wanted)
    assert rewards.isnan().any()


# --- the ratio --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("level", ["token", "sequence"])
def test_at_the_first_step_the_ratio_is_1_the_loss_0_and_the_gradient_not(
    temperature: float, level: Any
) -> None:
    """With dropout in the model's settings, a padded vocabulary, and a temperature."""
    model = network()
    reward = objective(model, temperature=temperature, importance_sampling_level=level, loss_type="grpo")
    batch = first_step(reward, model)
    model.train()
    means = measured(reward, model, batch)
    assert abs(means["rlvr/ratio"] - 1) < 1e-4
    assert means["rlvr/approx_kl"] < 1e-8
    assert means["rlvr/clip_ratio"] == 0
    loss, gradients = accumulated(reward, model, batch, 16)
    assert abs(loss) < 1e-4
    assert max(float(g.abs().max()) for g in gradients.values()) > 1e-3


def test_log_probabilities_are_those_of_the_sampling_temperature_and_real_tokens() -> None:
    model = network()
    reward = objective(model, temperature=0.5)
    batch = first_step(reward, model)
    with torch.no_grad():
        logits = model.eval()(batch.tokens) @ model.head_weight.T
    mask = batch.targets != IGNORE
    wanted = (
        (logits[..., :11] / 0.5).log_softmax(-1).gather(-1, batch.targets.clamp(min=0)[..., None])[..., 0]
    )
    assert (batch.columns["sampled"] - wanted)[mask].abs().max() < 1e-4
    wrong = logits.log_softmax(-1).gather(-1, batch.targets.clamp(min=0)[..., None])[..., 0]
    assert (batch.columns["sampled"] - wrong)[mask].abs().max() > 0.1


def test_a_sampler_that_disagrees_with_training_is_told() -> None:
    model = network()
    reward = objective(model)
    first_step(reward, model)
    reward.heard(1, {"rlvr/approx_kl": 1e-5})
    quiet = reward.news()
    reward.heard(1, {"rlvr/approx_kl": 0.2})
    assert not any("differ by a KL" in line for line in quiet)
    assert any("differ by a KL of 0.2" in line for line in reward.news())


# --- TRL --------------------------------------------------------------------------------------------------


def stock_gradients(model: Transformer, gradients: dict[str, Tensor]) -> dict[str, Tensor]:
    """Under the names of the stock model."""
    shell = copy.deepcopy(model)
    for name, parameter in shell.named_parameters():
        parameter.data = gradients[name]
    return to_stock(shell)


def recorded(reward: Reward) -> list[Completion]:
    """All that its generator draws from now on."""
    drawn: list[Completion] = []
    generate = reward.generator.generate

    def recording(*given: Any, **more: Any) -> list[Completion]:
        drawn.extend(generate(*given, **more))
        return drawn

    reward.generator.generate = recording  # type: ignore[method-assign]
    return drawn


def compared_with_trl(folder: Path, **changes: Any) -> float:
    """Assert that our step's loss and gradients are TRL's from the same completions and rewards.

    Returns:
        The share of the completions that count.
    """
    model, reference = network(dropout=0.0), network(seed=9)
    reward = objective(model, vocab_size=16, reference=reference if changes.get("beta") else None, **changes)
    drawn = recorded(reward)
    batch = first_step(reward, model)
    moved(model, 0.03)  # as after some steps
    names = ("num_generations", "max_completion_length", "temperature", "beta", "epsilon", "epsilon_high",
             "loss_type", "importance_sampling_level", "mask_truncated_completions", "scale_rewards")  # fmt: skip
    given = {name: getattr(reward.settings, name) for name in names}
    theirs = trainer(folder, model, reference, **given)
    rewards = Counting()([completion.text for completion in drawn])
    inputs = scored(theirs, [c.prompt_ids for c in drawn], [c.ids for c in drawn], rewards)
    inputs["old_per_token_logps"] = torch.zeros(inputs["completion_ids"].shape)
    for row, completion in enumerate(drawn):
        inputs["old_per_token_logps"][row, : len(completion.ids)] = torch.tensor(completion.logprobs)
    wanted = theirs._compute_loss(theirs.model, inputs)
    wanted.backward()
    loss, gradients = accumulated(reward, model, batch, 4)
    share = reward.counted(batch) / len(batch)
    # A truncated completion that is left out of the loss still counts as a sequence with TRL in these two.
    factor = share if given["loss_type"] in ("grpo", "dr_grpo") else 1.0
    assert loss * factor == pytest.approx(float(wanted.detach()), rel=1e-4, abs=1e-6)
    found = stock_gradients(model, gradients)
    for name, parameter in theirs.model.named_parameters():
        torch.testing.assert_close(found[name] * factor, parameter.grad, rtol=1e-4, atol=1e-6)
    assert max(float(value.abs().max()) for value in found.values()) > 1e-2
    return share


@pytest.mark.parametrize("loss_type", LOSSES)
def test_a_step_is_trls_from_the_same_rollouts(tmp_path: Path, loss_type: str) -> None:
    assert compared_with_trl(tmp_path, loss_type=loss_type, epsilon_high=0.28) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"importance_sampling_level": "sequence"},
        {"temperature": 0.7, "beta": 0.05},
        {"beta": 0.05, "scale_rewards": "batch", "loss_type": "grpo"},
        {"scale_rewards": "none", "epsilon": 0.02},
    ],
    ids=["gspo", "temperature and kl", "batch scale", "no scale"],
)
def test_a_step_of_every_variant_is_trls(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert compared_with_trl(tmp_path, **changes) == 1


@pytest.mark.parametrize("loss_type", LOSSES)
def test_masked_truncated_completions_leave_the_step_as_with_trl(tmp_path: Path, loss_type: str) -> None:
    share = compared_with_trl(tmp_path, loss_type=loss_type, mask_truncated_completions=True)
    assert 0.1 < share < 0.9


def test_a_row_that_is_left_out_counts_nowhere() -> None:
    model = network()
    reward = objective(model, mask_truncated_completions=True)
    drawn = recorded(reward)
    batch = first_step(reward, model)
    whole = [completion for completion in drawn if completion.finish_reason == "eos"]
    assert 0 < len(whole) < 16
    assert reward.counted(batch) == len(whole)
    assert batch.counted == sum(len(completion.ids) for completion in whole)


# --- micro-batches ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss_type", LOSSES)
def test_micro_batches_of_any_size_make_the_same_step(loss_type: str) -> None:
    model = network()
    reward = objective(
        model, loss_type=loss_type, beta=0.1, reference=network(seed=9), mask_truncated_completions=True
    )
    batch = first_step(reward, model, 8)
    moved(model, 0.03)
    whole, wanted = accumulated(reward, model, batch, 8)
    assert 0 < reward.counted(batch) < 8
    for micro in (1, 3):
        loss, gradients = accumulated(reward, model, batch, micro)
        assert loss == pytest.approx(whole, rel=1e-5, abs=1e-7)
        for name, value in gradients.items():
            torch.testing.assert_close(value, wanted[name], rtol=1e-4, atol=1e-6)


def test_a_step_of_which_everything_is_left_out_changes_nothing() -> None:
    model = network()
    reward = objective(model, mask_truncated_completions=True, max_completion_length=1)
    batch = first_step(reward, model)
    assert reward.counted(batch) < 16
    columns = {**batch.columns, "weights": torch.zeros(16)}
    empty = Batch(batch.tokens, torch.full_like(batch.targets, IGNORE), columns=columns)
    loss, gradients = accumulated(reward, model, empty, 8)
    assert loss == 0
    assert reward.counted(empty) == 0
    assert not any(value.any() for value in gradients.values())


# --- references -------------------------------------------------------------------------------------------


def adapted(**changes: Any) -> Transformer:
    model = network()
    lora.apply(model, LoraSettings(r=2, lora_dropout=0.5, **changes), seed=1)
    with torch.no_grad():
        for adapter in lora.adapters(model).values():
            adapter.lora_B.normal_(0, 0.3, generator=torch.Generator().manual_seed(2))
    return model


def test_an_adapted_model_is_held_to_itself_without_adapters() -> None:
    model, base = adapted(), network()
    reward = objective(model, beta=0.1)
    apart = objective(model, beta=0.1, reference=base)
    one, other = first_step(reward, model), first_step(apart, model)
    torch.testing.assert_close(one.columns["reference"], other.columns["reference"], rtol=1e-4, atol=1e-5)
    means = measured(reward, model, one)
    assert abs(means["rlvr/ratio"] - 1) < 1e-4, "the dropout of adapters is off too"
    assert means["rlvr/kl"] > 1e-3
    assert all(adapter.enabled for adapter in lora.adapters(model).values())


def test_the_kl_is_0_at_the_beginning_and_pulls_back_later() -> None:
    model = network(dropout=0.0)
    reward = objective(model, [verifier("regex:z")], beta=0.5, reference=copy.deepcopy(model))
    batch = first_step(reward, model)
    assert measured(reward, model, batch)["rlvr/kl"] < 1e-6
    moved(model, 0.05)
    away = measured(reward, model, batch)["rlvr/kl"]
    for _ in range(5):
        _, gradients = accumulated(reward, model, batch, 16)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.sub_(0.1 * gradients[name])
    assert measured(reward, model, batch)["rlvr/kl"] < 0.7 * away


def test_a_kl_without_a_reference_is_refused() -> None:
    with pytest.raises(RequestError, match="no reference model"):
        objective(network(), beta=0.1)


# --- what cannot work is said before ----------------------------------------------------------------------


def test_prompts_without_room_for_a_completion_are_refused() -> None:
    with pytest.raises(RequestError, match=r"1 of 2 prompts leave less than .*\(32\).* at most 23 fit"):
        objective(network(), problems=[problem("ab"), problem("a" * 40)], max_completion_length=32)


def test_a_verifier_without_its_column_is_refused() -> None:
    with pytest.raises(RequestError, match="verifier exact needs a column answer"):
        objective(network(), [verifier("exact")], [problem("ab")])


def test_a_generator_of_another_model_is_a_mistake() -> None:
    reward = objective(network())
    with pytest.raises(ValueError, match="another model"):
        first_step(reward, network())
