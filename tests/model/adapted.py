"""Small models with adapters that change what they compute."""

from __future__ import annotations

from typing import Any

import torch
from families import tokens
from torch import Tensor

import tiny
from linnet.model import LoraSettings, Transformer, lora
from linnet.model.dropout import row_keys, seed_rows

KINDS: dict[str, dict[str, Any]] = {"lora": {}, "dora": {"use_dora": True}, "rslora": {"use_rslora": True}}


def settings(**more: Any) -> LoraSettings:
    return LoraSettings(**{"r": 4, "lora_alpha": 8, **more})


@torch.no_grad()
def trained(model: Transformer, seed: int = 2, **more: Any) -> Transformer:
    """The model with adapters that change what it computes."""
    lora.apply(model, settings(**more), seed)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in lora.trainable_parameters(model).items():
        drawn = torch.randn(parameter.shape, generator=generator)
        parameter.mul_(1 + 0.2 * drawn) if name.endswith("vector") else parameter.copy_(drawn * 0.1)
    return model


def logits(model: Transformer) -> Tensor:
    return model.logits(model(tokens(2, 16)))


def loss(model: Transformer, rows: Tensor) -> Tensor:
    out = model.logits(model(rows[:, :-1]))
    return torch.nn.functional.cross_entropy(out.flatten(0, 1), rows[:, 1:].flatten())


def grown(model: Transformer, rows: Tensor) -> dict[str, Tensor]:
    seed_rows(model, row_keys(model, 3, len(rows)))
    loss(model, rows).backward()
    return tiny.gradients(model)
