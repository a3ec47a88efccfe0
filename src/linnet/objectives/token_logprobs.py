"""Log-probability of each token straight from hidden states, with a gradient for each.

Preferences and rewards weigh tokens by numbers that are known only when all log-probabilities are: the sigmoid
of a margin between two answers, a clipped ratio. So the trick of `linear_cross_entropy.py`, to make gradients in
the forward pass, is not to be had. Here forward keeps hidden states and one log-sum-exp a token, and backward
makes the logits of a chunk again: a fourth product instead of `[tokens, vocabulary]` kept for every micro-batch.
Rows whose target is not counted, prompts and padding, are left out of all of it; to know which, the host waits
for the device once, which prompts repay.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from linnet.objectives.linear_cross_entropy import (
    CACHED_ELEMENTS,
    COLUMN_ALIGNMENT,
    FP16_GRADIENT_SCALE,
    IGNORE_INDEX,
    add_product,
    checked_chunk,
    product_into,
)


@torch.compiler.disable
def token_logprobs(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    temperature: float = 1.0,
    chunk_tokens: int | None = None,
) -> Tensor:
    """log softmax(hidden @ weight.T / temperature)[target] of each token, never holding all logits.

    Products run in `hidden`'s dtype, whatever the weight's; temperature, softmax, log-sum-exp and the weight's
    gradient over chunks are FP32 (float64 for float64 inputs). Any gradient may come from above, one a token.

    Args:
        hidden: [N, D], floating point.
        weight: [V, D], floating point; may be an FP32 master parameter under BF16 or FP16 hidden states.
        targets: [N], int64; rows equal to IGNORE_INDEX are 0 and get no gradient.
        temperature: what logits are divided by: that of the sampling, where ratios are wanted.
        chunk_tokens: rows of logits held at a time; None picks 1024 on a CPU and 2048 elsewhere.

    Returns:
        [N], FP32 (float64 for float64 inputs).

    Raises:
        ValueError: shapes do not fit, or temperature or `chunk_tokens` is not positive.
    """
    chunk = checked_chunk(hidden, weight, targets, chunk_tokens)
    _check(temperature)
    rows = (targets != IGNORE_INDEX).nonzero().squeeze(1)
    whole = len(rows) == len(targets)
    kept = (hidden, targets) if whole else (hidden[rows], targets[rows])
    logprobs = _TokenLogprobs.apply(kept[0], weight, kept[1], temperature, chunk)
    return logprobs if whole else logprobs.new_zeros(len(targets)).index_copy(0, rows, logprobs)


@torch.compiler.disable
@torch.no_grad()
def token_entropies(
    hidden: Tensor,
    weight: Tensor,
    counted: Tensor | None = None,
    *,
    temperature: float = 1.0,
    chunk_tokens: int | None = None,
) -> Tensor:
    """Entropy in nats of softmax(hidden @ weight.T / temperature), [N] as in `token_logprobs`; no gradient.

    Args:
        counted: [N] bool, the rows that are wanted, others are 0; None: all.
    """
    targets = torch.empty(len(hidden), dtype=torch.int64, device=hidden.device)  # for its shape alone
    chunk = checked_chunk(hidden, weight, targets, chunk_tokens)
    _check(temperature)
    rows = (
        torch.arange(len(hidden), device=hidden.device) if counted is None else counted.nonzero().squeeze(1)
    )
    logits = _Logits(hidden[rows], weight, temperature, chunk)
    entropies = hidden.new_empty(len(rows), dtype=logits.exact)
    with torch.autocast(hidden.device.type, enabled=False):
        for part, buffer in logits.chunks():
            for place, _, block in logits.blocks(part, buffer):
                normalizer = block.logsumexp(-1)  # H = log Σ exp z - Σ p z
                mean = (block - normalizer[:, None]).exp_().mul_(block).sum(-1)
                entropies[place] = normalizer - mean
    return entropies.new_zeros(len(hidden)).index_copy_(0, rows, entropies)


class _TokenLogprobs(torch.autograd.Function):
    """Of rows that all count."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, temperature: float, chunk: int
    ) -> Tensor:
        logits = _Logits(hidden, weight, temperature, chunk)
        logprobs = hidden.new_empty(len(hidden), dtype=logits.exact)
        normalizers = torch.empty_like(logprobs)
        with torch.autocast(hidden.device.type, enabled=False):
            for part, buffer in logits.chunks():
                for place, _, block in logits.blocks(part, buffer):
                    normalizers[place] = block.logsumexp(-1)
                    logprobs[place] = block.gather(1, targets[place, None]).squeeze(1) - normalizers[place]
        ctx.save_for_backward(hidden, weight, targets, normalizers)
        ctx.temperature, ctx.chunk = temperature, chunk
        return logprobs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, targets, normalizers = ctx.saved_tensors
        logits = _Logits(hidden, weight, ctx.temperature, ctx.chunk)
        factor, unit = _in_range(gradient / ctx.temperature, hidden.dtype)
        products = logits.exact if hidden.dtype == torch.float16 else hidden.dtype
        hidden_gradient = torch.empty_like(hidden, dtype=products) if ctx.needs_input_grad[0] else None
        weight_gradient = torch.zeros_like(weight, dtype=logits.exact) if ctx.needs_input_grad[1] else None
        with torch.autocast(hidden.device.type, enabled=False):
            for part, buffer in logits.chunks():
                for place, kept, block in logits.blocks(part, buffer):
                    # d log p(target) / dz = one-hot - softmax
                    index = targets[place, None]
                    block.sub_(normalizers[place, None]).exp_().neg_()
                    block.scatter_(1, index, block.gather(1, index) + 1)
                    kept.copy_(block.mul_(factor[place, None]))
                if hidden_gradient is not None:
                    product_into(hidden_gradient[part], buffer[:, : len(weight)], logits.matrix)
                if weight_gradient is not None:
                    add_product(weight_gradient, buffer, hidden[part])
        given = [
            None if some is None else (some if unit is None else some.mul_(unit)).to(dtype)
            for some, dtype in ((hidden_gradient, hidden.dtype), (weight_gradient, weight.dtype))
        ]
        return given[0], given[1], None, None, None


class _Logits:
    """Logits made a chunk at a time in reused buffers, and read a block at a time in FP32."""

    def __init__(self, hidden: Tensor, weight: Tensor, temperature: float, chunk: int) -> None:
        self.hidden, self.matrix, self.temperature = hidden, weight.to(hidden.dtype), temperature
        self.exact = torch.promote_types(hidden.dtype, torch.float32)
        self.chunk, self.vocabulary = max(1, min(chunk, len(hidden))), len(weight)
        # CUDA adds BF16 products up into FP32, so logits need not be rounded; a CPU would multiply in FP32, which
        # takes twice the time.
        self.unrounded = hidden.is_cuda
        cached = CACHED_ELEMENTS // self.vocabulary if hidden.device.type == "cpu" else self.chunk
        self.block = max(1, min(cached, self.chunk))

    def chunks(self) -> Iterator[tuple[slice, Tensor]]:
        """Which rows, and a buffer [C, V and padding] in hidden's dtype: their logits, or room for gradients."""
        padded = -(-self.vocabulary // COLUMN_ALIGNMENT) * COLUMN_ALIGNMENT
        buffer = self.hidden.new_empty(self.chunk, padded)
        buffer[:, self.vocabulary :] = 0  # as in linear_cross_entropy.py
        for start in range(0, len(self.hidden), self.chunk):
            part = slice(start, min(start + self.chunk, len(self.hidden)))
            rows = buffer[: part.stop - start]
            if not self.unrounded:
                torch.mm(self.hidden[part], self.matrix.t(), out=rows[:, : self.vocabulary])
            yield part, rows

    def blocks(self, part: slice, buffer: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Of a chunk: which rows, their place in the buffer, and their logits [n, V] over the temperature."""
        space = buffer.new_empty(min(self.block, len(buffer)), self.vocabulary, dtype=self.exact)
        for start in range(0, len(buffer), self.block):
            kept = buffer[start : start + self.block, : self.vocabulary]
            place = slice(part.start + start, part.start + start + len(kept))
            block = space[: len(kept)]
            if self.unrounded:
                product_into(block, self.hidden[place], self.matrix.t())
            else:
                block.copy_(kept)
            if self.temperature != 1.0:
                block.div_(self.temperature)
            yield place, kept, block


def _in_range(gradient: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    """What comes from above, and a scalar that products are multiplied by at the end (None: 1).

    FP16 holds gradients of logits in [-1, 1] times a power of two (see linear_cross_entropy.py), so there
    what comes from above, a loss scale and all, is brought to at most that.
    """
    if dtype != torch.float16 or not len(gradient):
        return gradient, None
    largest = gradient.abs().max()
    unit = torch.where(largest > 0, largest, 1) / FP16_GRADIENT_SCALE
    return gradient / unit, unit


def _check(temperature: float) -> None:
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, not {temperature}")
