"""How weights start: one table, filled from one seed, the same on every device.

| initialization   | linears and embeddings                      | outputs into the residual stream |
| ---------------- | ------------------------------------------- | -------------------------------- |
| gpt2             | normal(0, initializer_range)                | narrowed by 1/sqrt(2 · layers)   |
| normal           | normal(0, initializer_range)                | the same                         |
| truncated_normal | normal(0, 0.5/sqrt(hidden)) cut at 3 std    | the same                         |

Biases start at 0 and norms at 1. For a run, numbers are drawn on the CPU in FP32, so the same
seed gives the same model wherever it will train.
"""

from __future__ import annotations

import torch
from torch import nn

from linnet.model.spec import ModelSpec
from linnet.model.transformer import Transformer


@torch.no_grad()
def initialize(model: Transformer, seed: int, drawn_on: str = "cpu") -> None:
    """Fill every parameter of `model` from `seed`, in the order of the parameters' names.

    drawn_on: the device that draws the numbers. A GPU is many times faster than a core, and draws others.
    """
    spec = model.spec
    generator = torch.Generator(drawn_on).manual_seed(seed)
    truncated = spec.initialization == "truncated_normal"
    std = 0.5 / spec.hidden_size**0.5 if truncated else spec.initializer_range
    narrow = (2 * spec.num_hidden_layers) ** -0.5 if spec.initialization == "gpt2" else 1.0
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.zero_()
        elif "norm" in name:
            parameter.fill_(1.0)
        else:
            scale = std * narrow if name.endswith(("o_proj.weight", "down_proj.weight")) else std
            drawn = torch.empty(parameter.shape, device=drawn_on)
            if truncated:
                nn.init.trunc_normal_(drawn, std=scale, a=-3 * scale, b=3 * scale, generator=generator)
            else:
                drawn.normal_(0.0, scale, generator=generator)
            parameter.copy_(drawn)


def fresh(spec: ModelSpec, seed: int, device: str) -> Transformer:
    """A new model drawn on its device, without a moment on the CPU: for measurements, not for runs."""
    with torch.device("meta"):
        model = Transformer(spec)
    model.to_empty(device=device)
    initialize(model, seed, drawn_on="cuda" if device == "cuda" else "cpu")
    return model
