"""The arithmetic of group-relative policy optimisation, as functions of log-probabilities and rewards.

GRPO (Shao et al. 2024, DeepSeekMath), Dr. GRPO (Liu et al. 2025), DAPO (Yu et al. 2025) and GSPO (Zheng et al.
2025) are one clipped loss a token with other denominators, and here they are that. The numbers are those of
TRL 1.16's GRPOTrainer, with one exception: a completion that is left out of the loss because it was
truncated is left out of every denominator, where TRL still counts it as a sequence in `grpo` and `dr_grpo`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from linnet.objectives.reward.settings import LossType, RatioLevel, ScaleRewards

_STD_FLOOR = 1e-4  # TRL's
_EQUAL = 1e-8  # rewards closer than this are the same
_MOST = 20.0  # of a difference of log-probabilities: beyond it exp is without meaning, and a step without use


def equal_groups(rewards: Tensor) -> Tensor:
    """Whether all judged rewards of a group are the same, or fewer than two were judged: [P, G] → [P] bool."""
    judged = ~rewards.isnan()
    highest = rewards.masked_fill(~judged, -torch.inf).amax(1)
    lowest = rewards.masked_fill(~judged, torch.inf).amin(1)
    return (judged.sum(1) < 2) | (highest - lowest <= _EQUAL)


def advantages(rewards: Tensor, scale: ScaleRewards = "group") -> Tensor:
    """How much better than its group a completion is: [P, G] → [P, G] FP32.

    A reward of NaN (not judged) is left out of its group's mean and gives an advantage of 0. A group of
    equal rewards gives exactly 0.

    Args:
        scale: divide by the standard deviation of the group, of the batch, or by nothing.
    """
    wide = rewards.double()
    judged = ~wide.isnan()
    centred = wide - wide.nanmean(1, keepdim=True)
    if scale != "none":
        centred = centred / (_deviation(wide if scale == "group" else wide.reshape(1, -1)) + _STD_FLOOR)
    counts = judged & ~equal_groups(wide).unsqueeze(1)
    return centred.where(counts, 0.0).float()


def _deviation(values: Tensor) -> Tensor:
    """Standard deviation of each row's numbers, with Bessel's correction, NaNs left out: [R, N] → [R, 1]."""
    count = (~values.isnan()).sum(1, keepdim=True)
    squares = (values - values.nanmean(1, keepdim=True)).square().nansum(1, keepdim=True)
    return (squares / (count - 1).clamp(min=1)).sqrt()


class TokenLosses(NamedTuple):
    """loss: [B, T], its meaning only where the mask is. ratio: [B, T], or [B, 1] of a whole sequence.

    clipped: like ratio, where the clip is what decides. kl: [B, T] to the reference, where there is one.
    """

    loss: Tensor
    ratio: Tensor
    clipped: Tensor
    kl: Tensor | None


def token_losses(
    logprobs: Tensor,
    sampled: Tensor,
    advantage: Tensor,
    mask: Tensor,
    *,
    epsilon: float,
    epsilon_high: float,
    level: RatioLevel = "token",
    beta: float = 0.0,
    reference: Tensor | None = None,
    bias_correction: bool = True,
) -> TokenLosses:
    """-min(r A, clip(r, 1 - ε, 1 + ε_high) A) + β KL of each token, with r = π / π_sampled.

    Args:
        logprobs: [B, T] of the tokens under the model, with a gradient.
        sampled: [B, T] those with which they were drawn, at the same temperature.
        advantage: [B].
        mask: [B, T] bool, the completions' tokens.
        level: a ratio for each token, or one a sequence: its tokens' geometric mean (GSPO).
        beta: weight of the KL; 0 needs no reference.
        reference: [B, T] under the reference.
        bias_correction: multiply the KL by the ratio, so that its gradient is the reverse KL's.
    """
    difference = (logprobs - sampled).clamp(-_MOST, _MOST)
    if level == "sequence":
        mean = (difference * mask).sum(1) / mask.sum(1).clamp(min=1)
        difference = mean.unsqueeze(1)
    ratio = difference.exp()
    signed = advantage.unsqueeze(1)
    loss = -torch.min(ratio * signed, ratio.clamp(1 - epsilon, 1 + epsilon_high) * signed)
    clipped = ((ratio < 1 - epsilon) & (signed < 0)) | ((ratio > 1 + epsilon_high) & (signed > 0))
    if not beta:
        return TokenLosses(loss.expand_as(logprobs), ratio.detach(), clipped, None)
    if reference is None:
        raise ValueError("a KL needs the log-probabilities of a reference")
    kl = kl_k3(logprobs, reference)
    loss = loss + beta * (kl * ratio if bias_correction else kl)
    return TokenLosses(loss, ratio.detach(), clipped, kl.detach())


def kl_k3(logprobs: Tensor, reference: Tensor) -> Tensor:
    """Schulman's k3 of KL(π ‖ π_reference) for each token drawn from π: e^d - d - 1, d = log π_ref - log π."""
    difference = (reference - logprobs).clamp(-_MOST, _MOST)
    return difference.exp() - difference - 1


def row_weights(
    lengths: Tensor, loss_type: LossType, *, max_completion_length: int, tokens_per_step: float
) -> Tensor:
    """What each row's summed token losses are multiplied by, such that the sum over a step, divided by the
    rows of it that count, is the loss: [B] → [B] FP32.

    Args:
        lengths: [B] counted tokens of each row of a step; 0 for a row that is left out.
        tokens_per_step: counted tokens of the generation by its steps, for `dapo`.
    """
    wide = lengths.double()
    rows, tokens = (wide > 0).sum(), wide.sum()
    if loss_type == "grpo":
        weights = 1 / wide
    elif loss_type == "dr_grpo":
        weights = torch.full_like(wide, 1 / max_completion_length)
    else:
        weights = (rows / (tokens if loss_type == "bnpo" else tokens_per_step)).expand_as(wide)
    return weights.where(wide > 0, 0.0).float()
