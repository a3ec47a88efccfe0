"""Which parameter is updated by what: AdamW, or Muon for matrices with AdamW for the rest.

Norms and biases are never decayed; embeddings (and a tied or untied head) only by choice.
Muon shares the learning rate of AdamW: its update is scaled to the same root mean square
(Liu et al. 2025, "Muon is scalable for LLM training").
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from linnet.train.settings import TrainSettings

_TABLES = ("embed_tokens.weight", "embed_positions.weight", "lm_head.weight")


def optimizers_for(model: nn.Module, settings: TrainSettings) -> list[torch.optim.Optimizer]:
    """The optimizers of a model; every trainable parameter is in exactly one group of one of them."""
    matrices: list[Tensor] = []
    tables: list[Tensor] = []
    vectors: list[Tensor] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            kind = tables if name.endswith(_TABLES) else matrices if parameter.dim() == 2 else vectors
            kind.append(parameter)
    decayed: list[Tensor] = []
    plain: list[Tensor] = list(vectors)
    (decayed if settings.decay_embeddings else plain).extend(tables)
    if settings.optim == "adamw":
        return [_adamw([*matrices, *decayed], plain, settings)]
    muon = torch.optim.Muon(
        matrices,
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        momentum=settings.muon_momentum,
        adjust_lr_fn="match_rms_adamw",
    )
    return [muon, _adamw(decayed, plain, settings)]


def _adamw(decayed: list[Tensor], plain: list[Tensor], settings: TrainSettings) -> torch.optim.Optimizer:
    groups = [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    device = (decayed or plain)[0].device.type
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=settings.learning_rate,
        betas=(settings.adam_beta1, settings.adam_beta2),
        eps=settings.adam_epsilon,
        fused=device in ("cpu", "cuda"),
    )
