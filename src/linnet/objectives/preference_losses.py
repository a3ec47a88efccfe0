"""What makes of two answers' scores a loss: the formulas of preference tuning, side by side.

All are functions of one number for each answer. Of most that is the log-ratio log π(y|x) - log π_ref(y|x);
SimPO and ORPO need no reference and take log π(y|x). IPO, SimPO and ORPO are defined on the mean over an
answer's tokens; the others on the sum, and on the mean by choice (then a long answer weighs no more than a
short one). Which of the two is decided in `score`, and nowhere else is anything divided by a length.

KTO is left out: its loss depends on a KL divergence that has to be estimated on other pairings of prompts and
answers, which is another pass of policy and reference over every batch. APO-zero, with KTO's shape around a
divergence of zero, does without.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

LOSS_TYPES = ("dpo", "apo_zero", "apo_down", "ipo", "hinge", "robust", "simpo", "orpo")
WITHOUT_REFERENCE = frozenset({"simpo", "orpo"})
PER_TOKEN = frozenset({"ipo", "simpo", "orpo"})


def score(policy: Tensor, reference: Tensor | None, lengths: Tensor, per_token: bool) -> Tensor:
    """What a loss compares of each answer.

    Args:
        policy: [P] sums of log-probabilities of the answers' tokens.
        reference: [P] the same under the reference; None for a loss without one.
        lengths: [P] numbers of these tokens.
        per_token: the mean over an answer's tokens, not the sum.
    """
    ratio = policy if reference is None else policy - reference
    return ratio / lengths.clamp(min=1) if per_token else ratio


def preference_losses(
    loss_type: str,
    chosen: Tensor,
    rejected: Tensor,
    *,
    beta: float,
    label_smoothing: float = 0.0,
    simpo_gamma: float = 0.0,
) -> Tensor:
    """The loss of each pair [P], from the scores [P] of its chosen and its rejected answer.

    Args:
        loss_type: one of LOSS_TYPES.
        label_smoothing: the share of pairs whose labels are thought to be the wrong way round.
        simpo_gamma: by how much SimPO wants a chosen answer's reward above a rejected one's.
    """
    margin = beta * (chosen - rejected)
    match loss_type:
        case "dpo":
            return dpo(margin, label_smoothing)
        case "robust":
            return robust(margin, label_smoothing)
        case "simpo":
            return dpo(margin - simpo_gamma, label_smoothing)
        case "hinge":
            return hinge(margin)
        case "ipo":
            return ipo(chosen - rejected, beta)
        case "apo_zero":
            return apo_zero(beta * chosen, beta * rejected)
        case "apo_down":
            return apo_down(beta * chosen, beta * rejected)
        case "orpo":
            return orpo(chosen, rejected, beta)
    raise ValueError(f"no preference loss is called {loss_type!r}")


def dpo(margin: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """-log σ(margin): equation 7 of Rafailov et al. 2023, "Direct preference optimization".

    With label smoothing ε, -(1-ε) log σ(margin) - ε log σ(-margin): conservative DPO (Mitchell 2023). Of
    scores without a reference, less γ: equation 6 of Meng et al. 2024, "SimPO".
    """
    loss = -F.logsigmoid(margin)
    if label_smoothing:
        loss = (1 - label_smoothing) * loss - label_smoothing * F.logsigmoid(-margin)
    return loss


def robust(margin: Tensor, label_smoothing: float) -> Tensor:
    """An unbiased estimate of DPO's loss under flipped labels (Chowdhury et al. 2024, "Provably robust DPO").

    (-(1-ε) log σ(margin) + ε log σ(-margin)) / (1-2ε).
    """
    kept, flipped = F.logsigmoid(margin), F.logsigmoid(-margin)
    return (label_smoothing * flipped - (1 - label_smoothing) * kept) / (1 - 2 * label_smoothing)


def hinge(margin: Tensor) -> Tensor:
    """max(0, 1 - margin): Zhao et al. 2023, "SLiC-HF", on log-ratios as in Liu et al. 2023, "RSO"."""
    return torch.relu(1 - margin)


def ipo(difference: Tensor, beta: float) -> Tensor:
    """(difference - 1 / 2β)²: equation 17 of Azar et al. 2023, on means over tokens as its authors ran it."""
    return (difference - 1 / (2 * beta)).square()


def apo_zero(chosen: Tensor, rejected: Tensor) -> Tensor:
    """1 - σ(chosen) + σ(rejected): equation 7 of D'Oosterlinck et al. 2024, "Anchored preference optimization".

    For chosen answers that are better than the model's own: they become more likely.
    """
    return torch.sigmoid(-chosen) + torch.sigmoid(rejected)


def apo_down(chosen: Tensor, rejected: Tensor) -> Tensor:
    """σ(chosen) + 1 - σ(chosen - rejected): equation 8 of the same paper.

    For chosen answers that are worse than the model's own: both become less likely, the rejected more so.
    """
    return torch.sigmoid(chosen) + torch.sigmoid(rejected - chosen)


def orpo(chosen: Tensor, rejected: Tensor, beta: float) -> Tensor:
    """-chosen - β log σ(log odds(chosen) - log odds(rejected)): equation 6 of Hong et al. 2024, "ORPO".

    chosen, rejected: means of log-probabilities over an answer's tokens, P, with odds P / (1 - P). The first
    term is supervised fine-tuning on the chosen answer.
    """
    return -chosen - beta * F.logsigmoid(_log_odds(chosen) - _log_odds(rejected))


def _log_odds(logprob: Tensor) -> Tensor:
    """log(p / (1 - p)) of log p, in the form that is exact at both ends (Mächler 2012, "Computing log(1 - e^-x)")."""
    logprob = logprob.clamp(max=-torch.finfo(logprob.dtype).eps)  # of a certain answer the odds are endless
    near_one = logprob > -0.6931
    # The side not taken is computed too; its input is kept where its gradient is a number.
    small = torch.log(-torch.expm1(torch.where(near_one, logprob, -0.5)))
    large = torch.log1p(-torch.exp(torch.where(near_one, -1.0, logprob)))
    return logprob - torch.where(near_one, small, large)
