"""CPU kernels for torch's variable-length attention, which has CUDA kernels only.

They let a machine without a GPU run our code of the `varlen` path as it stands: arguments, autograd and
compilation are torch's own; only what happens inside the two operators is written out here.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.attention.varlen  # defines the operators
from torch import Tensor


def _weights(q: Tensor, k: Tensor, causal: bool) -> Tensor:
    """q, k [heads, T, head] → attention weights [heads, T, T]."""
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    if causal:
        scores = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), float("-inf"))
    return scores.softmax(-1)


def _forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    ends: Tensor,
    _: Any,
    longest: int,
    __: int,
    causal: bool = False,
    *more: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    """q [N, heads, head], k and v [N, fewer heads, head]; document i is ends[i] .. ends[i + 1]."""
    assert ends.dtype == torch.int32
    assert ends[-1] == len(q)
    assert int(ends.diff().max()) <= longest
    groups = q.shape[1] // k.shape[1]
    out = torch.empty_like(q)
    for begin, end in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
        queries = q[begin:end].transpose(0, 1).double()
        keys, values = (x[begin:end].transpose(0, 1).repeat_interleave(groups, 0).double() for x in (k, v))
        out[begin:end] = (_weights(queries, keys, causal) @ values).transpose(0, 1)
    return out, torch.zeros(q.shape[1], q.shape[0]), torch.zeros(2, dtype=torch.uint64)


def _backward(
    gradient: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, ends: Tensor, _: Any,
    longest: int, __: int, causal: bool, *more: Any,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    groups, scale = q.shape[1] // k.shape[1], q.shape[-1] ** -0.5
    dq, dk, dv = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
    for begin, end in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
        queries, above = (x[begin:end].transpose(0, 1).double() for x in (q, gradient))
        keys, values = (x[begin:end].transpose(0, 1).repeat_interleave(groups, 0).double() for x in (k, v))
        weights = _weights(queries, keys, causal)
        of_weights = above @ values.transpose(-1, -2)
        of_scores = weights * (of_weights - (of_weights * weights).sum(-1, keepdim=True)) * scale
        shared = (k.shape[1], groups, end - begin, -1)
        dq[begin:end] = (of_scores @ keys).transpose(0, 1)
        dk[begin:end] = (of_scores.transpose(-1, -2) @ queries).view(shared).sum(1).transpose(0, 1)
        dv[begin:end] = (weights.transpose(-1, -2) @ above).view(shared).sum(1).transpose(0, 1)
    return dq, dk, dv


@functools.cache
def register() -> None:
    """Give the CPU its kernels, once a process."""
    torch.library.register_kernel("torch_attn::_varlen_attn", "cpu")(_forward)
    torch.library.register_kernel("torch_attn::_varlen_attn_backward", "cpu")(_backward)
