"""What is applied to the model from outside, in one fixed order.

Attention path, precision, activation checkpointing, compilation: model code knows none of
them. Blocks are compiled one by one: they share one compiled function, so compiling costs
the time of one block whatever the depth.
"""

from __future__ import annotations

import os

import torch
from torch.utils.checkpoint import checkpoint

from linnet.hardware import Choices
from linnet.model import Transformer

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def prepare(model: Transformer, choices: Choices, gradient_checkpointing: bool) -> Transformer:
    """Put the model on its device and set how it computes."""
    if choices.deterministic.value:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    model.to(choices.device.value)
    model.use_attention(choices.attention.value)
    compute = _DTYPES[choices.precision.value]
    # FP16 ends at 65,504, which a residual stream that adds up over layers can pass.
    model.use_precision(compute, torch.float32 if compute == torch.float16 else compute)
    if gradient_checkpointing:
        model.run_block = _checkpointed
    if choices.compile.value:
        for block in model.layers:
            block.compile(fullgraph=True, dynamic=False)
    return model


def _checkpointed(block, x, rotation, mask):  # type: ignore[no-untyped-def]
    return checkpoint(block, x, rotation, mask, use_reentrant=False)
