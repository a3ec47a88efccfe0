"""Advantages, token losses and their normalisations are TRL's, values and gradients."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rewarding import network
from torch import Tensor
from trl_grpo import loss_of_logprobs, trainer

import tiny
from linnet.objectives.reward.losses import advantages, equal_groups, kl_k3, row_weights, token_losses
from linnet.objectives.reward.settings import LossType

NAN = float("nan")
LOSSES: tuple[LossType, ...] = ("grpo", "bnpo", "dapo", "dr_grpo")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with tiny.one_thread():
        yield


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return trainer(tmp_path_factory.mktemp("trl"), network(), num_generations=6, max_completion_length=16)


def rollouts(seed: int = 0, drift: float = 0.3) -> SimpleNamespace:
    """Log-probabilities of six completions of uneven length, now, when they were drawn, and under a reference."""
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.tensor([9, 1, 4, 12, 7, 12])
    mask = torch.arange(12) < lengths[:, None]
    sampled = -3 * torch.rand(6, 12, generator=draw)
    return SimpleNamespace(
        mask=mask,
        lengths=lengths,
        sampled=sampled * mask,
        now=((sampled + drift * torch.randn(6, 12, generator=draw)) * mask).requires_grad_(),
        reference=(sampled + 0.5 * torch.randn(6, 12, generator=draw)) * mask,
        advantages=torch.randn(6, generator=draw),
    )


def ours(
    some: SimpleNamespace, loss_type: LossType, rows: slice = slice(None), parts: int = 1, **how: Any
) -> Tensor:
    lengths = some.lengths[rows]
    terms = token_losses(
        some.now[rows], some.sampled[rows], some.advantages[rows], some.mask[rows],
        reference=some.reference[rows], **how,
    )  # fmt: skip
    weights = row_weights(
        lengths, loss_type, max_completion_length=16, tokens_per_step=float(some.lengths.sum()) / parts
    )
    return ((terms.loss * some.mask[rows]).sum(1) * weights).sum() / len(lengths)


def trls(
    made: Any,
    some: SimpleNamespace,
    loss_type: LossType,
    rows: slice = slice(None),
    parts: int = 1,
    **how: Any,
) -> Tensor:
    made.loss_type, made.beta = loss_type, how.get("beta", 0.0)
    made.epsilon_low, made.epsilon_high = how["epsilon"], how["epsilon_high"]
    made.importance_sampling_level = how.get("level", "token")
    made.args.use_bias_correction_kl = how.get("bias_correction", True)
    made.args.steps_per_generation = parts
    count = len(some.lengths[rows])
    inputs = {
        "prompt_ids": torch.zeros(count, 2, dtype=torch.long),
        "prompt_mask": torch.ones(count, 2, dtype=torch.long),
        "completion_ids": torch.zeros(count, 12, dtype=torch.long),
        "completion_mask": some.mask[rows].long(),
        "advantages": some.advantages[rows],
        "old_per_token_logps": some.sampled[rows],
        "ref_per_token_logps": some.reference[rows],
        "num_items_in_batch": some.mask.sum(),
    }
    return loss_of_logprobs(made, some.now[rows], inputs)


def gradient(loss: Tensor, some: SimpleNamespace) -> Tensor:
    (found,) = torch.autograd.grad(loss, some.now, retain_graph=True)
    return found


@pytest.mark.parametrize("loss_type", LOSSES)
@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize(
    "how",
    [
        {"epsilon_high": 0.2},
        {"epsilon_high": 0.28},
        {"epsilon_high": 0.2, "beta": 0.04},
        {"epsilon_high": 0.28, "beta": 0.1, "bias_correction": False},
    ],
    ids=["plain", "clip-higher", "kl", "uncorrected-kl"],
)
def test_losses_and_gradients_are_trls(
    theirs: Any, loss_type: LossType, level: str, how: dict[str, Any]
) -> None:
    some, how = rollouts(), {"epsilon": 0.2, "level": level, **how}
    found, wanted = ours(some, loss_type, **how), trls(theirs, some, loss_type, **how)
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(gradient(found, some), gradient(wanted, some), rtol=1e-5, atol=1e-7)
    assert gradient(wanted, some).abs().max() > 1e-3


def test_both_clips_are_met(theirs: Any) -> None:
    """The parity above is of clipped tokens too, low and high."""
    some = rollouts()
    terms = token_losses(some.now, some.sampled, some.advantages, some.mask, epsilon=0.2, epsilon_high=0.28)
    signs = some.advantages.sign()[:, None].expand_as(terms.clipped)
    assert {-1.0, 1.0} <= set(signs[terms.clipped & some.mask].tolist())
    assert not (terms.clipped & some.mask).all()


@pytest.mark.parametrize("loss_type", LOSSES)
def test_steps_that_share_a_generation_are_normalised_as_trls(theirs: Any, loss_type: LossType) -> None:
    some, how = rollouts(3), {"epsilon": 0.2, "epsilon_high": 0.2}
    for rows in (slice(0, 3), slice(3, 6)):
        found = ours(some, loss_type, rows, parts=2, **how)
        wanted = trls(theirs, some, loss_type, rows, parts=2, **how)
        torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(gradient(found, some), gradient(wanted, some), rtol=1e-5, atol=1e-7)


def test_a_step_right_after_sampling_has_ratio_1_loss_0_and_a_gradient() -> None:
    some = rollouts(drift=0.0)
    some.advantages = some.advantages - some.advantages.mean()
    terms = token_losses(some.now, some.sampled, some.advantages, some.mask, epsilon=0.2, epsilon_high=0.2)
    assert torch.equal(terms.ratio, torch.ones(6, 12))
    loss = ours(some, "grpo", epsilon=0.2, epsilon_high=0.2)
    assert abs(float(loss.detach())) < 1e-6
    found = gradient(loss, some)
    wanted = -some.advantages[:, None] * some.mask / some.lengths[:, None] / 6
    torch.testing.assert_close(found, wanted)


def test_a_row_that_is_left_out_leaves_numerator_and_denominator() -> None:
    lengths = torch.tensor([4, 0, 6])
    for loss_type in LOSSES:
        weights = row_weights(lengths, loss_type, max_completion_length=8, tokens_per_step=10)
        without = row_weights(lengths[[0, 2]], loss_type, max_completion_length=8, tokens_per_step=10)
        assert weights[1] == 0
        assert torch.equal(weights[[0, 2]], without)
    nothing = row_weights(torch.zeros(3), "dapo", max_completion_length=8, tokens_per_step=0)
    assert torch.equal(nothing, torch.zeros(3))


def test_the_kl_is_zero_at_the_reference_and_positive_elsewhere() -> None:
    some = rollouts()
    assert torch.equal(kl_k3(some.reference, some.reference), torch.zeros(6, 12))
    assert (kl_k3(some.now, some.reference) >= 0).all()


def test_a_hopeless_ratio_gives_no_number_that_is_not_finite() -> None:
    now = torch.tensor([[-500.0, 0.0]], requires_grad=True)
    far = torch.tensor([[0.0, -500.0]])
    for sign in (-1.0, 1.0):
        terms = token_losses(
            now, far, torch.tensor([sign]), torch.ones(1, 2, dtype=torch.bool), epsilon=0.2, epsilon_high=0.2,
            beta=0.1, reference=far,
        )  # fmt: skip
        (found,) = torch.autograd.grad(terms.loss.sum(), now)
        assert terms.loss.isfinite().all()
        assert found.isfinite().all()


def test_advantages_are_the_distance_from_the_group_in_its_deviations() -> None:
    rewards = torch.tensor([[1.0, 0.0, 0.0, 1.0], [3.0, 1.0, 2.0, 2.0]], dtype=torch.float64)
    found = advantages(rewards)
    deviation = rewards.std(1, keepdim=True)
    wanted = (rewards - rewards.mean(1, keepdim=True)) / (deviation + 1e-4)
    torch.testing.assert_close(found, wanted.float())
    torch.testing.assert_close(advantages(rewards, "none"), (rewards - rewards.mean(1, keepdim=True)).float())
    over_all = (rewards - rewards.mean(1, keepdim=True)) / (rewards.std() + 1e-4)
    torch.testing.assert_close(advantages(rewards, "batch"), over_all.float())


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_what_was_not_judged_is_left_out_of_its_group(scale: Any) -> None:
    rewards = torch.tensor([[1.0, NAN, 0.0, 0.5], [NAN, NAN, NAN, NAN], [NAN, NAN, 1.0, NAN]])
    found = advantages(rewards, scale)
    assert found.isfinite().all()
    assert found[0, 1] == 0
    assert abs(float(found[0].sum())) < 1e-6
    assert torch.equal(found[1:], torch.zeros(2, 4))
    if scale == "group":
        torch.testing.assert_close(found[0, [0, 2, 3]], advantages(rewards[:1, [0, 2, 3]])[0])


def test_equal_rewards_give_exactly_nothing() -> None:
    rewards = torch.tensor([[0.1] * 7, [1 / 3] * 7], dtype=torch.float64)
    for scale in ("group", "batch", "none"):
        assert torch.equal(advantages(rewards, scale), torch.zeros(2, 7))
    mixed = torch.tensor([[0.1, 0.1, NAN], [0.1, 0.2, 0.1], [NAN, NAN, 1.0], [NAN, 0.0, 1.0]])
    assert equal_groups(mixed).tolist() == [True, False, True, False]
