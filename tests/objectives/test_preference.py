"""Preference tuning: step 0, pairs and micro-batches, lengths, empty answers, what is told, what is learned."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import preference_pairs as small
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor

import tiny
from linnet.data.batches import IGNORE, Batch
from linnet.model import LoraSettings, Transformer, lora
from linnet.objectives.chosen_watch import WINDOW
from linnet.objectives.preference import Preference
from linnet.objectives.preference_losses import LOSS_TYPES, preference_losses, score
from linnet.objectives.reference import frozen_copy, reference_logprobs

Lines = list[str]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with tiny.one_thread():
        yield


def plain(model: Transformer, batch: Batch) -> Tensor:
    """Summed log-probabilities of the learned tokens, from all logits at once."""
    logs = F.log_softmax(F.linear(model(batch.tokens), model.head_weight), -1)
    counted = batch.targets != IGNORE
    picked = logs.gather(2, batch.targets.where(counted, 0)[..., None]).squeeze(2)
    return (picked * counted).sum(1)


def referenced(model: Transformer, pairs: int = 6, seed: int = 1, **more: Any) -> Batch:
    """Pairs with what the model says of them now."""
    rows = small.examples(pairs, seed)
    return small.batch(rows, reference_logprobs(model, rows, small.PAD, token_budget=64), **more)


def gradients(model: Transformer, objective: Preference, batches: list[Batch]) -> dict[str, Tensor]:
    model.zero_grad()
    for batch in batches:
        objective.loss(model, batch).sum.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def means(measures: dict[str, Tensor]) -> dict[str, float]:
    return {name: float(value[0] / value[1]) for name, value in measures.items()}


# --- settings ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"loss_type": "dpo", "beta": 0.1, "label_smoothing": 0.0, "simpo_gamma": None}),
        ({"loss_type": "sigmoid", "beta": 0.5}, {"loss_type": "dpo", "beta": 0.5}),
        ({"loss_type": "apo_zero"}, {"beta": 0.05}),
        ({"loss_type": "simpo"}, {"beta": 2.0, "simpo_gamma": 1.0}),
        ({"loss_type": "simpo", "simpo_gamma": 0.0}, {"simpo_gamma": 0.0}),
        ({"loss_type": "robust"}, {"beta": 0.1, "label_smoothing": 0.1}),
        ({"length_normalized": True}, {"beta": 5.0}),
    ],
)
def test_what_is_not_given_is_the_losses_own(given: dict[str, Any], expected: dict[str, Any]) -> None:
    settings = small.settings(**given)
    assert {name: getattr(settings, name) for name in expected} == expected
    assert small.settings(**settings.model_dump()) == settings, "a run's record says the same again"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"loss_type": "apo_zero", "label_smoothing": 0.1}, "label_smoothing has no meaning for apo_zero"),
        ({"loss_type": "robust", "label_smoothing": 0.0}, "robust without label_smoothing is dpo"),
        ({"loss_type": "robust", "label_smoothing": 0.5}, "less than 0.5"),
        ({"loss_type": "ipo", "length_normalized": True}, "ipo is length-normalised by definition"),
        ({"loss_type": "simpo", "length_normalized": True}, "simpo is length-normalised by definition"),
        ({"simpo_gamma": 1.0}, "simpo_gamma is a margin of simpo, and loss_type is dpo"),
        ({"loss_type": "orpo", "sft_weight": 1.0}, "orpo has an SFT term of its own"),
        ({"loss_type": "sigmoid_norm"}, "write loss_type: dpo with length_normalized: true"),
        ({"loss_type": "kto"}, "apo_zero is nearest to it"),
        ({"loss_type": ["sigmoid", "sft"]}, "an SFT term beside it is sft_weight"),
        ({"loss_type": "dppo"}, "'dpo', 'apo_zero'"),
        ({"beta": 0.0}, "greater than 0"),
        ({"rpo_alpha": 1.0}, "Extra inputs"),
    ],
)
def test_what_makes_no_sense_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        small.settings(**given)


# --- values -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reference", ["precomputed", "live"])
@pytest.mark.parametrize(
    ("loss_type", "expected"),
    [
        ("dpo", math.log(2)),
        ("robust", math.log(2)),
        ("apo_zero", 1.0),
        ("apo_down", 1.0),
        ("hinge", 1.0),
        ("ipo", 25.0),  # (1 / 2β)²
    ],
)
def test_before_the_first_update_the_loss_is_that_of_a_tossed_coin(
    loss_type: str, expected: float, reference: str
) -> None:
    model = small.model()
    batch = referenced(model)
    settings = small.settings(loss_type=loss_type, reference=reference)
    objective = Preference(settings, frozen_copy(model))
    loss = objective.loss(model, batch)
    assert loss.sum.item() / objective.counted(batch) == pytest.approx(expected, abs=2e-5)
    told = means(loss.measures)
    assert told["dpo/margin"] == pytest.approx(0, abs=1e-6)
    if reference == "live":
        assert told["dpo/accuracy"] == 0.5


@pytest.mark.parametrize("sft_weight", [0.0, 0.3])
@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_the_loss_and_its_gradient_are_those_of_all_logits_at_once(loss_type: str, sft_weight: float) -> None:
    if loss_type == "orpo" and sft_weight:
        return
    start = small.model()
    model, batch = small.moved(start), referenced(start)
    settings = small.settings(loss_type=loss_type, beta=0.7, sft_weight=sft_weight)
    ours = gradients(model, Preference(settings), [batch])
    found = Preference(settings).loss(model, batch).sum

    lengths = (batch.targets != IGNORE).sum(1)
    policy, before = plain(model, batch), plain(start, batch).detach()
    values = policy if loss_type in ("simpo", "orpo") else policy - before
    values = values / lengths if loss_type in ("simpo", "orpo", "ipo") else values
    chosen, rejected = values[::2], values[1::2]
    expected = preference_losses(
        loss_type, chosen, rejected, beta=0.7, label_smoothing=settings.label_smoothing,
        simpo_gamma=settings.simpo_gamma or 0.0,
    ).sum() - sft_weight * (policy / lengths)[::2].sum()  # fmt: skip
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    model.zero_grad()
    expected.backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(ours[name], parameter.grad, rtol=1e-3, atol=2e-5)


def test_length_is_divided_out_once() -> None:
    """An answer whose every token is as much more likely scores the same, however long."""
    lengths = torch.tensor([1, 3, 10])
    policy, reference = -1.5 * lengths, -2.0 * lengths
    assert score(policy, reference, lengths, per_token=True).tolist() == [0.5, 0.5, 0.5]
    assert score(policy, reference, lengths, per_token=False).tolist() == [0.5, 1.5, 5.0]

    start = small.model()
    model, batch = small.moved(start), referenced(start)
    lengths = (batch.targets != IGNORE).sum(1)
    for loss_type, settings in {
        "dpo": small.settings(length_normalized=True),
        "ipo": small.settings(loss_type="ipo"),
    }.items():
        values = ((plain(model, batch) - plain(start, batch)) / lengths).detach()
        expected = preference_losses(loss_type, values[::2], values[1::2], beta=settings.beta).sum()
        assert Preference(settings).loss(model, batch).sum.item() == pytest.approx(float(expected), rel=1e-4)


def test_measures_are_means_over_pairs_and_over_tokens() -> None:
    start = small.model()
    model, batch = small.moved(start), referenced(start)
    told = means(Preference(small.settings(beta=0.3)).loss(model, batch).measures)
    policy, before = plain(model, batch).detach(), plain(start, batch).detach()
    rewards, tokens = 0.3 * (policy - before), (batch.targets != IGNORE).sum(1)
    expected = {
        "dpo/accuracy": (rewards[::2] > rewards[1::2]).float().mean(),
        "dpo/margin": (rewards[::2] - rewards[1::2]).mean(),
        "dpo/chosen_reward": rewards[::2].mean(),
        "dpo/rejected_reward": rewards[1::2].mean(),
        "dpo/chosen_logp": policy[::2].mean(),
        "dpo/rejected_logp": policy[1::2].mean(),
        "dpo/chosen_logp_per_token": policy[::2].sum() / tokens[::2].sum(),
        "dpo/chosen_change_per_token": (policy - before)[::2].sum() / tokens[::2].sum(),
    }
    assert told.keys() == expected.keys()
    for name, value in expected.items():
        assert told[name] == pytest.approx(float(value), rel=1e-4, abs=1e-5), name


# --- batches ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
@pytest.mark.parametrize("size", [1, 4])
def test_micro_batches_of_any_size_give_the_same_step(loss_type: str, size: int) -> None:
    start = small.model()
    model, batch = small.moved(start), referenced(start)
    sft_weight = 0.0 if loss_type == "orpo" else 0.4
    objective = Preference(small.settings(loss_type=loss_type, sft_weight=sft_weight))
    parts = [batch.rows(begin, begin + size) for begin in range(0, len(batch), size)]
    assert sum(objective.counted(part) for part in parts) == objective.counted(batch) == 6
    whole, pieces = gradients(model, objective, [batch]), gradients(model, objective, parts)
    for name, gradient in whole.items():
        torch.testing.assert_close(pieces[name], gradient, rtol=1e-4, atol=1e-5)
    told = objective.loss(model, batch).measures
    for name, value in told.items():
        summed = sum(objective.loss(model, part).measures[name] for part in parts)
        torch.testing.assert_close(summed, value, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
@pytest.mark.parametrize("emptied", [[4], [4, 5]])
def test_a_pair_with_an_empty_answer_adds_nothing(loss_type: str, emptied: list[int]) -> None:
    start = small.model()
    model, batch = small.moved(start), referenced(start)
    objective = Preference(small.settings(loss_type=loss_type))
    others = [batch.rows(0, 2), batch.rows(3, 6)]
    batch.targets[emptied] = IGNORE
    assert objective.counted(batch) == 5
    loss = objective.loss(model, batch)
    expected = sum(objective.loss(model, part).sum.item() for part in others)
    assert loss.sum.item() == pytest.approx(expected, rel=1e-5)
    assert all(value.isfinite().all() for value in loss.measures.values())
    assert float(loss.measures["dpo/accuracy"][1]) == 5
    without = gradients(model, objective, others)
    for name, gradient in gradients(model, objective, [batch]).items():
        torch.testing.assert_close(gradient, without[name], rtol=1e-4, atol=1e-5)

    nothing = batch.rows(2, 3)
    assert objective.counted(nothing) == 0
    assert objective.loss(model, nothing).sum.item() == 0
    assert not any(g.any() for g in gradients(model, objective, [nothing]).values())


def test_padding_changes_nothing() -> None:
    start = small.model()
    model, batch, wide = small.moved(start), referenced(start), referenced(start, width=40)
    wide.tokens[wide.tokens == small.PAD] = 7  # whatever it is filled up with
    objective = Preference(small.settings())
    narrow = gradients(model, objective, [batch])
    for name, gradient in gradients(model, objective, [wide]).items():
        torch.testing.assert_close(gradient, narrow[name], rtol=1e-4, atol=1e-6)


def test_an_all_but_certain_answer_has_finite_odds() -> None:
    averages = torch.tensor([0.0, -1e-9, -1e-5, -80.0]).requires_grad_()
    loss = preference_losses("orpo", averages, averages.flip(0).detach(), beta=1.0)
    loss.sum().backward()
    assert loss.isfinite().all()
    assert averages.grad is not None
    assert averages.grad.isfinite().all()


# --- references -------------------------------------------------------------------------------------------


def test_a_precomputed_reference_is_used() -> None:
    """Not the model's own word at the time."""
    start = small.model()
    model, batch = small.moved(start), referenced(start)
    objective = Preference(small.settings())
    shifted = batch.columns["reference"] + torch.tensor([3.0, 0.0] * 6)
    moved = objective.loss(model, small.batch(small.examples(6), shifted))
    margins = (means(told)["dpo/margin"] for told in (objective.loss(model, batch).measures, moved.measures))
    before, after = margins
    assert before - after == pytest.approx(0.3, abs=1e-4)


def test_a_live_reference_says_what_a_precomputed_one_does() -> None:
    start = small.model(dropout=0.3)
    model, batch = small.moved(start), referenced(start)
    found = []
    for reference in ("precomputed", "live"):
        torch.manual_seed(0)
        objective = Preference(small.settings(reference=reference), frozen_copy(start))
        found.append(objective.loss(model.train(), batch).sum.item())
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_with_adapters_the_live_reference_is_the_base_without_dropout() -> None:
    model = small.model(dropout=0.2)
    batch = referenced(model)
    lora.apply(model, LoraSettings(r=4, lora_dropout=0.3), seed=1)
    with torch.no_grad():
        for adapter in lora.adapters(model).values():
            adapter.lora_B.normal_(std=0.05)
    model.train()
    losses = []
    for reference in ("precomputed", "live"):
        torch.manual_seed(0)
        losses.append(Preference(small.settings(reference=reference)).loss(model, batch).sum)
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-5)
    assert not any(module.training for module in model.modules()), "dropout would part it from its reference"
    losses[1].backward()
    assert {n for n, p in model.named_parameters() if p.grad is not None} == set(
        lora.trainable_parameters(model)
    )


def test_a_live_reference_of_a_whole_model_has_to_be_given() -> None:
    with pytest.raises(ValueError, match="frozen copy"):
        Preference(small.settings(reference="live")).loss(small.model(), small.batch(small.examples(1)))


@pytest.mark.parametrize("loss_type", ["simpo", "orpo"])
def test_losses_without_a_reference_need_none(loss_type: str) -> None:
    loss = Preference(small.settings(loss_type=loss_type)).loss(small.model(), small.batch(small.examples(2)))
    assert loss.sum.isfinite()
    assert "dpo/chosen_change_per_token" not in loss.measures


# --- what is told -----------------------------------------------------------------------------------------


def tell(objective: Preference, values: list[float], first: int = 1) -> Lines:
    """What is said over these steps, in which chosen tokens change by so much."""
    lines: Lines = []
    for step, value in enumerate(values, first):
        level = {"dpo/chosen_logp_per_token": value - 2}
        change = {"dpo/chosen_change_per_token": value} if objective.settings.needs_reference else {}
        objective.heard(step, level | change)
        lines += objective.news()
    return lines


FALLING = [-0.03 * step for step in range(40)]
STEADY = [0.05 * (-1) ** step for step in range(60)]
NOISY = [(-1) ** step - 0.15 * (step >= WINDOW) for step in range(2 * WINDOW)]


@pytest.mark.parametrize("loss_type", ["dpo", "simpo"])
def test_that_chosen_answers_lose_probability_is_told_once_with_what_to_try(loss_type: str) -> None:
    (line,) = tell(Preference(small.settings(loss_type=loss_type)), FALLING)
    assert "nats per token" in line
    for what in ("learning_rate", "beta", "sft_weight", "apo_zero"):
        assert what in line


def test_what_is_used_already_is_not_advised() -> None:
    (line,) = tell(Preference(small.settings(loss_type="apo_zero")), FALLING)
    assert "apo_zero" not in line
    (line,) = tell(Preference(small.settings(loss_type="orpo")), FALLING)
    assert "sft_weight" not in line


@pytest.mark.parametrize(
    "values", [STEADY, NOISY, [-v for v in FALLING], FALLING[: WINDOW - 1], [math.nan] * 40]
)
@pytest.mark.parametrize("loss_type", ["dpo", "simpo"])
def test_chance_a_rise_and_a_short_look_are_not_told(loss_type: str, values: list[float]) -> None:
    assert tell(Preference(small.settings(loss_type=loss_type)), values) == []


def test_apo_down_wants_both_answers_to_fall() -> None:
    assert tell(Preference(small.settings(loss_type="apo_down")), FALLING) == []


@pytest.mark.parametrize("loss_type", ["dpo", "orpo"])
@pytest.mark.parametrize("cut", [1, 7, 13, 19, 27, 39])
def test_a_resumed_run_tells_the_same(loss_type: str, cut: int) -> None:
    settings = small.settings(loss_type=loss_type)
    expected = tell(Preference(settings), FALLING)
    first, second = Preference(settings), Preference(settings)
    lines = tell(first, FALLING[:cut])
    second.load_state({name: value.clone() for name, value in first.state().items()})
    assert lines + tell(second, FALLING[cut:], cut + 1) == expected
    assert len(expected) == 1


# --- learning ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_what_is_preferred_is_learned_on_unseen_pairs(loss_type: str) -> None:
    model = small.model(2)
    seen, unseen = referenced(model, 64, seed=10), referenced(model, 64, seed=11)
    # Longer answers are less likely whatever they say, so scores without a reference are compared per token.
    objective = Preference(small.settings(loss_type=loss_type))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    with torch.no_grad():
        before = means(objective.loss(model, unseen).measures)["dpo/accuracy"]
    for step in range(16):
        part = seen.rows(16 * (step % 4), 16 * (step % 4 + 1))
        (objective.loss(model, part).sum / objective.counted(part)).backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        after = means(objective.loss(model, unseen).measures)["dpo/accuracy"]
    assert before < 0.7
    assert after > 0.85
