"""The softmax of the loss on CUDA: one Triton program per row, logits turned in place into their gradient.

A row is read twice (the second time mostly from the cache) and written once, in pieces of 16 bytes per
thread. For that the loop runs over the row as far as it is allocated, whose end is aligned, and sets what
lies beyond the vocabulary to minus infinity after it was read: a mask that ended at 50,257 would make
every load 2 bytes wide. Maximum and sum are kept online (Milakov & Gimelshein 2018), all in FP32.

Tests run this file by Triton's interpreter, without a GPU.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 4096  # columns at a time
WARPS = 8
ALIGNMENT = 16  # columns; 32 bytes of a half precision


@triton.jit
def _softmax_row(  # type: ignore[no-untyped-def]
    logits,
    stride,
    targets,
    counted,
    losses,
    vocabulary,
    width,
    scale,
    ALL_COUNT: tl.constexpr,
    GRADIENT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0)
    start = logits + row.to(tl.int64) * stride
    target = tl.load(targets + row)
    # Read before the reductions, whose barriers keep it ahead of the gradient that another warp writes there.
    chosen = tl.load(start + target).to(tl.float32)

    highest = -float("inf")
    total = 0.0
    for begin in range(0, width, BLOCK):
        columns = begin + tl.arange(0, BLOCK)
        values = tl.load(start + columns, mask=columns < width, other=-float("inf")).to(tl.float32)
        values = tl.where(columns < vocabulary, values, -float("inf"))
        peak = tl.maximum(highest, tl.max(values, 0))
        total = total * tl.exp(highest - peak) + tl.sum(tl.exp(values - peak), 0)
        highest = peak
    normalizer = highest + tl.log(total)
    loss = normalizer - chosen

    if ALL_COUNT:
        factor = scale
    else:
        counts = tl.load(counted + row) != 0
        loss = tl.where(counts, loss, 0.0)
        factor = tl.where(counts, scale, 0.0)
    tl.store(losses + row, loss)

    if GRADIENT:
        for begin in range(0, width, BLOCK):
            columns = begin + tl.arange(0, BLOCK)
            inside = columns < width
            values = tl.load(start + columns, mask=inside, other=0.0).to(tl.float32)
            gradient = tl.exp(values - normalizer) - tl.where(columns == target, 1.0, 0.0)
            gradient = tl.where(columns < vocabulary, gradient * factor, 0.0)
            tl.store(start + columns, gradient.to(logits.dtype.element_ty), mask=inside)


def softmax_by_rows(
    logits: Tensor, targets: Tensor, counted: Tensor | None, scale: float, gradient: bool
) -> Tensor:
    """Losses [C] in FP32 of logits [C, V], which become (softmax - one-hot) * scale if `gradient`.

    Args:
        logits: FP32, BF16 or FP16; columns contiguous. What is allocated between the vocabulary and the next
            row may be overwritten.
        targets: [C] int64, all in [0, V).
        counted: [C] bool; other rows have loss and gradient 0. None: all count.
        scale: the gradient's factor.
    """
    rows, vocabulary = logits.shape
    stride = logits.stride(0)
    losses = torch.empty(rows, dtype=torch.float32, device=logits.device)
    _softmax_row[(rows,)](
        logits,
        stride,
        targets,
        targets if counted is None else counted.view(torch.uint8),
        losses,
        vocabulary,
        _allocated(logits),
        scale,
        ALL_COUNT=counted is None,
        GRADIENT=gradient,
        BLOCK=BLOCK,
        num_warps=WARPS,
    )
    return losses


def _allocated(logits: Tensor) -> int:
    """How many columns of every row may be read and written: the vocabulary, or up to an aligned end."""
    rows, vocabulary = logits.shape
    width = -(-vocabulary // ALIGNMENT) * ALIGNMENT
    end = logits.storage_offset() + (rows - 1) * logits.stride(0) + width
    fits = width <= logits.stride(0) and end * logits.element_size() <= logits.untyped_storage().nbytes()
    return width if fits else vocabulary
