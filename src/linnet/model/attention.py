"""Attention paths: the same function computed by different kernels.

Every path takes queries, keys and values as [B, T, heads, head], a mask in the form the
path wants, and what drops attention weights (None: nothing), and returns [B, T, heads, head]. Every path
is causal, also with the mask None. Which path is used is set on the model from outside (`use_attention`);
each is tested against one reference.

- `sdpa`: torch's scaled dot product attention; documents through a dense boolean mask. Everywhere.
  With attention dropout it is `eager`: the fused kernels draw masks that depend on the whole batch.
- `eager`: the formula as it stands, softmax in FP32. Compiled, it is the fastest on a CPU for short
  sequences; its memory grows with the square of the length.
- `flex`: torch's flex_attention; documents through a block mask. CUDA (no backward on CPU).
- `varlen`: torch's variable-length flash attention; documents as cumulative lengths. CUDA.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from linnet.config import RequestError

Path = Literal["sdpa", "eager", "flex", "varlen"]


@dataclass(frozen=True)
class Lengths:
    """Documents of a batch laid end to end: cumulative lengths [documents + 1] (int32) and the longest."""

    cumulative: Tensor
    longest: int


Mask = Any  # None (causal), a boolean [B, 1, T, S], a BlockMask, or Lengths: whatever the path's builder made
Drop = Callable[[Tensor], Tensor]  # weights [B, heads, T, S] → the same with some of them dropped
Attend = Callable[[Tensor, Tensor, Tensor, Mask, Drop | None], Tensor]


def sdpa(q: Tensor, k: Tensor, v: Tensor, mask: Mask, dropout: Drop | None) -> Tensor:
    """torch's fused attention; `mask` is boolean [B, 1, T, S] (True: may attend) or None for causal."""
    if dropout:
        return eager(q, k, v, mask, dropout)
    grouped = {"enable_gqa": True} if q.shape[2] != k.shape[2] else {}
    y = F.scaled_dot_product_attention(
        q.transpose(1, 2),
        k.transpose(1, 2),
        v.transpose(1, 2),
        attn_mask=mask,
        is_causal=mask is None,
        **grouped,
    )
    return y.transpose(1, 2)


def eager(q: Tensor, k: Tensor, v: Tensor, mask: Mask, dropout: Drop | None) -> Tensor:
    """softmax(q kᵀ / sqrt(head)) v, written out, softmax in FP32 or above; `mask` as for `sdpa`."""
    length, groups = q.shape[1], q.shape[2] // k.shape[2]
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)  # [B, heads, T, head]
    if groups > 1:
        k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
    if mask is None:
        mask = torch.ones(length, length, dtype=torch.bool, device=q.device).tril()
    wide = torch.promote_types(q.dtype, torch.float32)
    # Scaled before the product: FP16 ends at 65,504, which unscaled scores can pass.
    scores = ((q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)).to(wide)
    weights = scores.masked_fill(~mask, float("-inf")).softmax(dim=-1).to(q.dtype)
    return ((dropout(weights) if dropout else weights) @ v).transpose(1, 2)


def document_mask(documents: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Dense mask for `sdpa` and `eager`: causal within each document.

    documents: [B, T]. lengths: of no use to it. Returns boolean [B, 1, T, T].
    """
    same = documents.unsqueeze(-1) == documents.unsqueeze(-2)
    return same.tril().unsqueeze(1)


def flex(q: Tensor, k: Tensor, v: Tensor, mask: Mask, dropout: Drop | None) -> Tensor:
    """torch's flex_attention; `mask` is a BlockMask. Attention dropout has no place in this kernel."""
    from torch.nn.attention.flex_attention import flex_attention

    _no_dropout(dropout, "flex")
    if mask is None:  # to the kernel that means no mask at all
        mask = causal_blocks(q.shape[1], q.device)
    kernel = flex_attention if torch.compiler.is_compiling() else _compiled_flex()
    y = kernel(
        q.transpose(1, 2),
        k.transpose(1, 2),
        v.transpose(1, 2),
        block_mask=mask,
        enable_gqa=q.shape[2] != k.shape[2],
    )
    return y.transpose(1, 2)


def flex_mask(documents: Tensor, lengths: Tensor | None = None) -> Any:
    """Block mask for `flex`: causal within each document. `lengths` are of no use to it."""
    from torch.nn.attention.flex_attention import create_block_mask

    rows, length = documents.shape

    def allowed(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return (i >= j) & (documents[b, i] == documents[b, j])

    return create_block_mask(allowed, rows, None, length, length, device=documents.device)


@functools.lru_cache(maxsize=16)
def causal_blocks(length: int, device: torch.device) -> Any:
    """Block mask for `flex` where every row is one document."""
    from torch.nn.attention.flex_attention import create_block_mask

    def allowed(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return i >= j

    return create_block_mask(allowed, None, None, length, length, device=device)


def _varlen() -> Attend:
    """torch's variable-length flash attention over all documents of the batch laid end to end.

    Made when it is chosen, because importing the kernel takes a second. torch 2.11 takes grouped heads as
    they are; later versions want to be told.
    """
    from torch.nn.attention.varlen import varlen_attn

    told = "enable_gqa" in inspect.signature(varlen_attn).parameters

    def varlen(q: Tensor, k: Tensor, v: Tensor, mask: Mask, dropout: Drop | None) -> Tensor:
        _no_dropout(dropout, "varlen")
        rows, length, heads, head = q.shape
        lengths = whole_rows(rows, length, q.device) if mask is None else mask
        grouped: dict[str, Any] = {"enable_gqa": True} if told and k.shape[2] != heads else {}
        q, k, v = q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1)
        ends, longest = lengths.cumulative, lengths.longest
        y = varlen_attn(q, k, v, ends, ends, longest, longest, window_size=(-1, 0), **grouped)
        assert isinstance(y, Tensor)  # the log-sum-exp, which would make it a pair, is not asked for
        return y.view(rows, length, heads, head)

    return varlen


def cumulative_lengths(documents: Tensor) -> Tensor:
    """Where documents begin in a batch laid end to end, and its end: [documents + 1] int32.

    A document ends where the number changes and at the end of every row. How many there are is read off
    the contents, so on an accelerator the host waits; batches bring theirs along.
    """
    starts = torch.ones_like(documents, dtype=torch.bool)
    starts[:, 1:] = documents[:, 1:] != documents[:, :-1]
    edges = torch.nonzero(starts.flatten()).flatten()
    end = torch.tensor([documents.numel()], device=edges.device)
    return torch.cat((edges, end)).to(torch.int32)


def varlen_mask(documents: Tensor, lengths: Tensor | None = None) -> Lengths:
    """Lengths for `varlen` from document numbers [B, T], or from their cumulative lengths where known."""
    from torch._dynamo import mark_dynamic

    cumulative = cumulative_lengths(documents) if lengths is None else lengths
    # Batches differ in their number of documents; without this, each number would be compiled anew.
    mark_dynamic(cumulative, 0)
    return Lengths(cumulative, documents.shape[1])


def whole_rows(rows: int, length: int, device: torch.device) -> Lengths:
    """Lengths of a batch in which every row is one document."""
    return Lengths(torch.arange(0, (rows + 1) * length, length, dtype=torch.int32, device=device), length)


def _no_dropout(dropout: Drop | None, path: str) -> None:
    if dropout:
        raise RequestError(
            f"the {path} attention path has no attention dropout",
            "model.attention_dropout",
            "set it to 0 or set hardware.attention=sdpa",
        )


_flex_kernel: list[Any] = []


def _compiled_flex() -> Any:
    if not _flex_kernel:
        from torch.nn.attention.flex_attention import flex_attention

        _flex_kernel.append(torch.compile(flex_attention, dynamic=False))
    return _flex_kernel[0]


PATHS: tuple[Path, ...] = ("sdpa", "eager", "flex", "varlen")


MaskFor = Callable[[Tensor, Tensor | None], Mask]


def attention_path(name: Path) -> tuple[Attend, MaskFor]:
    """A path's function, and what makes its mask from document numbers [B, T] and cumulative lengths.

    The cumulative lengths may be None; see `cumulative_lengths`.
    """
    if name in ("sdpa", "eager"):
        return (sdpa if name == "sdpa" else eager), document_mask
    return (flex, flex_mask) if name == "flex" else (_varlen(), varlen_mask)


def whole_mask(name: Path, rows: int, length: int, device: torch.device) -> Mask:
    """A path's mask where every row is one document: causal over the row."""
    if name == "flex":
        return causal_blocks(length, device)
    return whole_rows(rows, length, device) if name == "varlen" else None
