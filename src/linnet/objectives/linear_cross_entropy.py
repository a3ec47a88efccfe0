"""Cross-entropy straight from hidden states, because the logits are the largest thing in the model.

A 30M GPT-2 shape spends 64% of its FLOPs and most of its memory on `[tokens, vocabulary]` logits that are
needed only for one number and its gradient. So the logits of a chunk of tokens are made, turned in place
into their own gradient (softmax minus one-hot), multiplied into the gradients of hidden states and weight,
and overwritten by the next chunk. That is possible because the loss is a sum over tokens: the caller's
factor (1 / global token count, an FP16 loss scale) is one scalar, which backward multiplies in at the end.

What decides the speed on a CPU, measured at 4096 x 384 x 50257 in BF16 on two AVX-512 cores: one reused
buffer (touching fresh memory can cost as much as the product that fills it), rows padded to a multiple of 64
columns (the weight's gradient 340 -> 410 GFLOP/s), and torch's fused softmax over blocks of rows that stay in
the cache (24 ms for 1024 rows; the same compiled into one kernel 32 ms, for it computes each exponential
twice). Together 1.11 times the three products alone. On CUDA the softmax is one Triton program per row
(softmax_kernel.py). Left out: bias, label smoothing, z-loss, second derivatives.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

IGNORE_INDEX = -100
CPU_CHUNK_TOKENS = 1024  # at 30M GPT-2's shape: 256 5% slower, 512 2%, 2048 and 4096 3%
ACCELERATOR_CHUNK_TOKENS = 2048
FUSED_CHUNK_TOKENS = 8192  # where the softmax is one kernel, larger products pay
FUSED_CHUNK_MEMORY = (
    16e9  # bytes of device memory from which on they are affordable (0.8 GB at 50,257 in BF16)
)
COLUMN_ALIGNMENT = 64  # elements; matrix kernels fall back to slower paths on odd row strides
CACHED_ELEMENTS = 1_638_400  # FP32 elements of a block that stays in the last-level cache (6.5 MB)

# A softmax probability of a large vocabulary is below FP16's smallest normal number (6e-5). Gradients of the
# logits lie in [-1, 1], so FP16 keeps them times this power of two; products are FP32 and divided by it.
FP16_GRADIENT_SCALE = 1024.0


class _Result(NamedTuple):
    """Per-token losses [N] and, where asked for, the gradients of their sum."""

    losses: Tensor
    hidden_gradient: Tensor | None
    weight_gradient: Tensor | None


@torch.compiler.disable
def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    ignore_index: int = IGNORE_INDEX,
    chunk_tokens: int | None = None,
) -> Tensor:
    """Sum over counted tokens of -log softmax(hidden @ weight.T)[target], never holding all logits.

    Equals `F.cross_entropy(F.linear(hidden, weight), targets, reduction="sum")` in value and gradient.
    Products run in `hidden`'s dtype, whatever the weight's; softmax, log-sum-exp and the weight's gradient
    over chunks are FP32 (float64 for float64 inputs). Gradients are made in the forward pass and backward
    multiplies them by the scalar it is given, so backward runs once and costs next to nothing.

    Args:
        hidden: [N, D], floating point.
        weight: [V, D], floating point; may be an FP32 master parameter under BF16 or FP16 hidden states.
        targets: [N], int64; rows equal to `ignore_index` add nothing to value or gradients.
        ignore_index: the target that is not counted.
        chunk_tokens: rows of logits held at a time; None picks 1024 on a CPU, 8192 on a CUDA device with
            Triton and 16 GB, and 2048 elsewhere.

    Returns:
        Scalar, FP32 (float64 for float64 inputs); exactly 0 when no token counts.

    Raises:
        ValueError: shapes do not fit, or `chunk_tokens` is below 1.
    """
    chunk = checked_chunk(hidden, weight, targets, chunk_tokens, _accelerator_chunk(hidden))
    if torch.is_grad_enabled() and (hidden.requires_grad or weight.requires_grad):
        return _LinearCrossEntropy.apply(hidden, weight, targets, ignore_index, chunk)
    return per_token_losses(
        hidden, weight, targets, ignore_index=ignore_index, chunk_tokens=chunk_tokens
    ).sum()


@torch.compiler.disable
@torch.no_grad()
def per_token_losses(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    ignore_index: int = IGNORE_INDEX,
    chunk_tokens: int | None = None,
) -> Tensor:
    """The loss of each token [N], FP32 (float64 for float64 inputs), 0 where ignored; never has a gradient.

    Arguments and errors as in `linear_cross_entropy`.
    """
    chunk = checked_chunk(hidden, weight, targets, chunk_tokens, _accelerator_chunk(hidden))
    return _evaluate(hidden, weight, targets, ignore_index, chunk, (False, False)).losses


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, ignore_index: int, chunk: int
    ) -> Tensor:
        wanted = (ctx.needs_input_grad[0], ctx.needs_input_grad[1])
        result = _evaluate(hidden, weight, targets, ignore_index, chunk, wanted)
        ctx.gradients = (result.hidden_gradient, result.weight_gradient)
        ctx.dtypes = (hidden.dtype, weight.dtype)
        return result.losses.sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.gradients is None:
            raise RuntimeError("linear_cross_entropy hands its gradients out once; call it again instead")
        # Dropping our references lets autograd take the tensors over instead of copying them.
        gradients, ctx.gradients = ctx.gradients, None
        scaled = [
            None if gradient is None else gradient.mul_(grad_output).to(dtype)
            for gradient, dtype in zip(gradients, ctx.dtypes, strict=True)
        ]
        return scaled[0], scaled[1], None, None, None


def checked_chunk(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    chunk_tokens: int | None,
    accelerator: int = ACCELERATOR_CHUNK_TOKENS,
) -> int:
    """The rows of a chunk: as asked, or by the device. Raises ValueError when shapes do not fit."""
    if hidden.dim() != 2 or weight.dim() != 2 or hidden.shape[1] != weight.shape[1]:
        raise ValueError(
            f"hidden [N, D] and weight [V, D] do not fit: {tuple(hidden.shape)}, {tuple(weight.shape)}"
        )
    if targets.shape != hidden.shape[:1]:
        raise ValueError(f"targets {tuple(targets.shape)} must be [N] for hidden {tuple(hidden.shape)}")
    if chunk_tokens is None:
        return CPU_CHUNK_TOKENS if hidden.device.type == "cpu" else accelerator
    if chunk_tokens < 1:
        raise ValueError(f"chunk_tokens must be at least 1, not {chunk_tokens}")
    return chunk_tokens


def _accelerator_chunk(hidden: Tensor) -> int:
    if not _has_kernel(hidden.device, hidden.dtype):
        return ACCELERATOR_CHUNK_TOKENS
    memory = torch.cuda.get_device_properties(hidden.device).total_memory
    return FUSED_CHUNK_TOKENS if memory >= FUSED_CHUNK_MEMORY else ACCELERATOR_CHUNK_TOKENS


def _has_kernel(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether the softmax is a Triton kernel there."""
    return device.type == "cuda" and dtype != torch.float64 and importlib.util.find_spec("triton") is not None


def _evaluate(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    ignore_index: int,
    chunk: int,
    wanted: tuple[bool, bool],
) -> _Result:
    """Losses and wanted gradients (of hidden, of weight) over the counted rows."""
    counted = targets != ignore_index
    with torch.autocast(hidden.device.type, enabled=False):
        if _reads_freely(hidden.device):
            rows = counted.nonzero().squeeze(1)
            if len(rows) == len(targets):
                return _over_chunks(hidden, weight, targets, None, chunk, wanted)
            return _spread(
                _over_chunks(hidden[rows], weight, targets[rows], None, chunk, wanted), rows, len(targets)
            )
        # Selecting rows would make the host wait for the device, so ignored rows are computed and masked.
        # Zeroing their hidden states keeps a NaN there out of the weight's gradient (0 x NaN is NaN).
        hidden = torch.where(counted[:, None], hidden, 0)
        targets = torch.where(counted, targets, 0)
        return _over_chunks(hidden, weight, targets, counted, chunk, wanted)


def _reads_freely(device: torch.device) -> bool:
    """Whether reading a tensor's contents is free, so that ignored rows can be left out."""
    return device.type == "cpu"


def _spread(kept: _Result, rows: Tensor, total: int) -> _Result:
    """Puts the results of the kept rows back among `total` rows, zeros elsewhere."""
    losses = kept.losses.new_zeros(total).index_copy_(0, rows, kept.losses)
    gradient = kept.hidden_gradient
    if gradient is not None:
        gradient = gradient.new_zeros(total, gradient.shape[1]).index_copy_(0, rows, gradient)
    return _Result(losses, gradient, kept.weight_gradient)


def _over_chunks(
    hidden: Tensor,  # [N, D]
    weight: Tensor,  # [V, D]
    targets: Tensor,  # [N], all in [0, V)
    counted: Tensor | None,  # [N] bool; None: all
    chunk: int,
    wanted: tuple[bool, bool],
) -> _Result:
    tokens, width = hidden.shape
    vocabulary = weight.shape[0]
    exact = torch.promote_types(hidden.dtype, torch.float32)
    low_range = hidden.dtype == torch.float16
    scale = FP16_GRADIENT_SCALE if low_range else 1.0
    matrix = weight.to(hidden.dtype)

    losses = hidden.new_empty(tokens, dtype=exact)
    hidden_gradient = weight_gradient = None
    if wanted[0]:
        hidden_gradient = hidden.new_empty(tokens, width, dtype=exact if low_range else hidden.dtype)
    if wanted[1]:
        weight_gradient = hidden.new_zeros(vocabulary, width, dtype=exact)
    padded = -(-vocabulary // COLUMN_ALIGNMENT) * COLUMN_ALIGNMENT
    buffer = hidden.new_empty(min(chunk, tokens), padded)  # reused by all chunks
    # AMX kernels multiply what lies behind a row's end by zeros, and 0 x NaN is NaN.
    buffer[:, vocabulary:] = 0
    softmax = _softmax_for(hidden.device, buffer.shape[0], vocabulary, exact)

    for start in range(0, tokens, chunk):
        part = slice(start, min(start + chunk, tokens))
        rows = buffer[: part.stop - start]
        logits = rows[:, :vocabulary]
        torch.mm(hidden[part], matrix.t(), out=logits)
        losses[part] = softmax(
            logits, targets[part], None if counted is None else counted[part], scale, any(wanted)
        )
        if hidden_gradient is not None:
            product_into(hidden_gradient[part], logits, matrix)
        if weight_gradient is not None:
            add_product(weight_gradient, rows, hidden[part])

    if scale != 1.0:
        for gradient in (hidden_gradient, weight_gradient):
            if gradient is not None:
                gradient /= scale
    return _Result(losses, hidden_gradient, weight_gradient)


def product_into(out: Tensor, left: Tensor, right: Tensor) -> None:
    """out = left @ right, in `out`'s precision even where that is above the operands'."""
    if out.dtype == left.dtype:
        torch.mm(left, right, out=out)
    elif out.is_cuda:
        torch.mm(left, right, out_dtype=out.dtype, out=out)  # type: ignore[call-overload]
    else:
        torch.mm(left.to(out.dtype), right.to(out.dtype), out=out)


def add_product(total: Tensor, logit_gradient: Tensor, hidden: Tensor) -> None:
    """total [V, D] += logit_gradient[:, :V].T @ hidden; logit_gradient is [C, V and padding].

    The padding goes into the product for the sake of its speed; the rows it makes are left behind.
    """
    if total.is_cuda and total.dtype != hidden.dtype:
        columns = logit_gradient[:, : total.shape[0]]
        torch.addmm(total, columns.t(), hidden, out_dtype=total.dtype, out=total)  # type: ignore[call-overload]
        return
    # A slice of the product is added up while it is still in the cache.
    step = max(COLUMN_ALIGNMENT, CACHED_ELEMENTS // hidden.shape[1] // COLUMN_ALIGNMENT * COLUMN_ALIGNMENT)
    product = hidden.new_empty(min(step, logit_gradient.shape[1]), hidden.shape[1])
    if hidden.dtype == torch.float16:
        product = product.to(total.dtype)
    exact = product.to(total.dtype)
    for start in range(0, total.shape[0], step):
        columns = logit_gradient[:, start : start + step]
        piece = product[: columns.shape[1]]
        product_into(piece, columns.t(), hidden)
        target = total[start : start + step]
        target += exact[: len(target)].copy_(piece[: len(target)])


Softmax = Callable[[Tensor, Tensor, Tensor | None, float, bool], Tensor]


def _softmax_for(device: torch.device, chunk: int, vocabulary: int, exact: torch.dtype) -> Softmax:
    """The function that turns logits [C, V] into losses [C] and, if asked, in place into their gradient."""
    if device.type == "cpu":
        rows = max(1, min(chunk, CACHED_ELEMENTS // vocabulary))
        spaces = torch.empty(2, rows, vocabulary, dtype=exact)
        return functools.partial(_softmax_in_blocks, spaces)
    if _has_kernel(device, exact):
        from linnet.objectives.softmax_kernel import softmax_by_rows

        return softmax_by_rows
    return _softmax_at_once


def _softmax_in_blocks(
    spaces: Tensor, logits: Tensor, targets: Tensor, counted: Tensor | None, scale: float, gradient: bool
) -> Tensor:
    """On a CPU: blocks of rows in two reused buffers `spaces` [2, rows, V], with torch's fused softmax."""
    losses = spaces.new_empty(logits.shape[0])
    for start in range(0, logits.shape[0], spaces.shape[1]):
        block = logits[start : start + spaces.shape[1]]
        index = targets[start : start + len(block), None]
        exact, probability = spaces[0, : len(block)], spaces[1, : len(block)]
        exact.copy_(block)
        torch.softmax(exact, -1, out=probability)
        chosen = probability.gather(1, index)  # [rows, 1]
        if bool((chosen > 1e-30).all()):
            loss = -chosen.log()
        else:  # a probability that underflows still has a finite loss
            loss = exact.logsumexp(-1, keepdim=True) - exact.gather(1, index)
        losses[start : start + len(block)] = loss.squeeze(1)
        if gradient:
            probability.scatter_(1, index, chosen - 1)
            block.copy_(probability.mul_(scale) if scale != 1.0 else probability)
    return losses if counted is None else losses.where(counted, 0)


def _softmax_at_once(
    logits: Tensor, targets: Tensor, counted: Tensor | None, scale: float, gradient: bool
) -> Tensor:
    """The same without Triton on an accelerator."""
    index = targets[:, None]
    exact = logits.to(torch.promote_types(logits.dtype, torch.float32))
    normalizer = exact.logsumexp(-1, keepdim=True)
    losses = (normalizer - exact.gather(1, index)).squeeze(1)
    factor = torch.full_like(losses, scale)
    if counted is not None:
        losses = losses.where(counted, 0)
        factor = factor.where(counted, 0)
    if gradient:
        one_hot = torch.arange(logits.shape[1], device=logits.device) == index
        logits.copy_(((exact - normalizer).exp() - one_hot.to(exact.dtype)) * factor[:, None])
    return losses
