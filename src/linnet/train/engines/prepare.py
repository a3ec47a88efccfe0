"""What is applied to the model from outside, in one fixed order.

Attention path, precision, activation checkpointing, compilation: model code knows none of
them. Blocks are compiled one by one: they share one compiled function, so compiling costs
the time of one block whatever the depth.
"""

from __future__ import annotations

import os

import torch
import torch._dynamo
from torch.utils.checkpoint import checkpoint

from linnet.hardware import Choices
from linnet.model import Transformer

_WAYS = 8  # in which each block may be compiled: its shapes, in training and in evaluation
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def keep_freed_memory() -> None:
    """Have the C library keep what is freed instead of handing it back to the system.

    A step frees and asks again for the same large tensors; every page handed back is cleared and
    faulted in anew, a seventh of a step on a CPU (docs/log.md). glibc only; elsewhere nothing is done.
    """
    import ctypes

    trim_threshold, mmap_max = -1, -4  # names of mallopt's parameters in malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    mallopt(mmap_max, 0)
    mallopt(trim_threshold, 2**31 - 1)


def prepare(model: Transformer, choices: Choices, gradient_checkpointing: bool = False) -> Transformer:
    """Put the model on its device and set how it computes."""
    if choices.device.value == "cpu":
        keep_freed_memory()
    if choices.deterministic.value:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    model.to(choices.device.value)
    model.use_attention(choices.attention.value)
    compute = _DTYPES[choices.precision.value]
    # FP16 ends at 65,504, which a residual stream that adds up over layers can pass.
    model.use_precision(compute, torch.float32 if compute == torch.float16 else compute)
    if gradient_checkpointing:
        recompute_activations(model)
    if choices.compile.value:
        # Blocks share one compiled function; adapters make them differ, in training and in evaluation.
        limit = _WAYS * len(model.layers)
        torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, limit)
        for block in model.layers:
            block.compile(fullgraph=True, dynamic=False)
    return model


def recompute_activations(model: Transformer) -> None:
    """Keep each block's input alone and compute the block again in backward."""
    model.run_block = _checkpointed


def _checkpointed(block, x, rotation, mask):  # type: ignore[no-untyped-def]
    return checkpoint(block, x, rotation, mask, use_reentrant=False)
