"""The network: one decoder-only transformer that is, by its specification, a stock architecture.

Everything an architecture decides is decided while building; `forward` has no switches.
The code knows one device and one precision at a time: parameters stay as they are (FP32
masters), the residual stream runs in `compute_dtype`, and each weight is cast where it is
used. Compilation, checkpointing and sharding are applied from outside.

Module names are those of Hugging Face's Llama, so adapters and habits carry over.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from linnet.model.attention import Attend, Mask, Path, attention_path, sdpa, whole_mask
from linnet.model.cache import KVCache
from linnet.model.dropout import Dropout
from linnet.model.spec import ModelSpec

Rotation = tuple[Tensor, Tensor]  # cosine and sine, each [T, 1, head] or [B, T, 1, head]


class Linear(nn.Linear):
    """A linear layer that computes in `compute_dtype`, whatever its weight and input are kept in."""

    compute_dtype = torch.float32

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(self.compute_dtype)
        return F.linear(x.to(self.compute_dtype), self.weight.to(self.compute_dtype), bias)


class RMSNorm(nn.Module):
    """x / sqrt(mean(x²) + eps) · weight, computed in FP32 (Zhang & Sennrich 2019)."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return (self.weight * wide).to(x.dtype)


class LayerNorm(nn.LayerNorm):
    """LayerNorm computed in FP32, returned in the dtype that came in."""

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x.float(), self.normalized_shape, self.weight, self.bias, self.eps).to(x.dtype)


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Rotary position embedding (Su et al. 2021) in the half-split layout of Hugging Face's Llama.

    x: [B, T, heads, head]; the first half of a head pairs with the second.
    """
    cosine, sine = rotation
    first, second = x.chunk(2, dim=-1)
    return (x * cosine + torch.cat((-second, first), dim=-1) * sine).to(x.dtype)


def unrotated(x: Tensor, rotation: Rotation) -> Tensor:
    """What a layer without rotary positions (NoPE, or learned positions) does instead."""
    return x


class Attention(nn.Module):
    """Causal self-attention with grouped key and value heads."""

    def __init__(self, spec: ModelSpec, layer: int) -> None:
        super().__init__()
        size, head, bias = spec.hidden_size, spec.head_size, spec.has_attention_bias
        self.q_proj = Linear(size, spec.num_attention_heads * head, bias=bias)
        self.k_proj = Linear(size, spec.key_value_heads * head, bias=bias)
        self.v_proj = Linear(size, spec.key_value_heads * head, bias=bias)
        self.o_proj = Linear(spec.num_attention_heads * head, size, bias=bias)
        self.q_norm = RMSNorm(head, spec.norm_eps) if spec.qk_norm else nn.Identity()
        self.k_norm = RMSNorm(head, spec.norm_eps) if spec.qk_norm else nn.Identity()
        self.position = rotate if spec.uses_rope(layer) else unrotated
        self.head, self.dropout = head, Dropout(spec.attention_dropout)
        self.attend: Attend = sdpa

    def forward(
        self, x: Tensor, rotation: Rotation, mask: Mask, cache: KVCache | None = None, layer: int = 0
    ) -> Tensor:
        rows, length, _ = x.shape
        heads = (rows, length, -1, self.head)
        q = self.position(self.q_norm(self.q_proj(x).view(heads)), rotation)
        k = self.position(self.k_norm(self.k_proj(x).view(heads)), rotation)
        v = self.v_proj(x).view(heads)
        if cache is None:
            y = self.attend(q, k, v, mask, self.dropout if self.dropout.active else None)
        else:
            y = sdpa(q, *cache.extend(layer, k, v), mask, None)
        return self.o_proj(y.reshape(rows, length, -1))


class GatedMLP(nn.Module):
    """SwiGLU: down(silu(gate(x)) · up(x)) (Shazeer 2020)."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        size, inner, bias = spec.hidden_size, spec.intermediate_size, spec.has_mlp_bias
        self.gate_proj = Linear(size, inner, bias=bias)
        self.up_proj = Linear(size, inner, bias=bias)
        self.down_proj = Linear(inner, size, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class GeluMLP(nn.Module):
    """down(gelu(up(x))) with the tanh form of GELU, as GPT-2 has it."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        size, inner, bias = spec.hidden_size, spec.intermediate_size, spec.has_mlp_bias
        self.up_proj = Linear(size, inner, bias=bias)
        self.down_proj = Linear(inner, size, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.gelu(self.up_proj(x), approximate="tanh"))


def _norm(spec: ModelSpec) -> nn.Module:
    kind = LayerNorm if spec.layer_norm else RMSNorm
    return kind(spec.hidden_size, spec.norm_eps)


class Block(nn.Module):
    """One pre-norm layer: attention, then feed-forward, each added to the residual stream."""

    def __init__(self, spec: ModelSpec, layer: int) -> None:
        super().__init__()
        self.input_layernorm = _norm(spec)
        self.self_attn = Attention(spec, layer)
        self.post_attention_layernorm = _norm(spec)
        self.mlp = GatedMLP(spec) if spec.gated_mlp else GeluMLP(spec)
        self.resid_attn_dropout, self.resid_mlp_dropout = Dropout(spec.dropout), Dropout(spec.dropout)

    def forward(
        self, x: Tensor, rotation: Rotation, mask: Mask, cache: KVCache | None = None, layer: int = 0
    ) -> Tensor:
        seen = self.input_layernorm(x)
        x = x + self.resid_attn_dropout(self.self_attn(seen, rotation, mask, cache, layer))
        return x + self.resid_mlp_dropout(self.mlp(self.post_attention_layernorm(x)))


def run_block(block: nn.Module, x: Tensor, rotation: Rotation, mask: Mask) -> Tensor:
    """Run a block as it is; activation checkpointing puts its own function in this place."""
    return block(x, rotation, mask)


class Transformer(nn.Module):
    """Tokens in, hidden states out; the head is a matrix that the objective (or `logits`) applies.

    Keeping the head apart is what lets a loss be computed in chunks: the logits of a batch
    are the largest tensor of a small model.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.embed_tokens = nn.Embedding(spec.vocab_size, spec.hidden_size)
        self.embed_positions = (
            nn.Embedding(spec.max_position_embeddings, spec.hidden_size) if spec.learned_positions else None
        )
        self.layers = nn.ModuleList(Block(spec, layer) for layer in range(spec.num_hidden_layers))
        self.norm = _norm(spec)
        self.lm_head = (
            None if spec.tie_word_embeddings else Linear(spec.hidden_size, spec.vocab_size, bias=False)
        )
        self.dropout = Dropout(spec.dropout)
        self.embedding_scale = spec.hidden_size**0.5 if spec.scale_embeddings else 1.0
        self.run_block = run_block
        self.use_attention("sdpa")
        self.use_precision(torch.float32)

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor | None = None,
        documents: Tensor | None = None,
        lengths: Tensor | None = None,
    ) -> Tensor:
        """Hidden states after the last norm.

        Args:
            tokens: [B, T] ids.
            positions: [B, T] positions, or None for 0..T-1 in every row.
            documents: [B, T] document numbers, non-decreasing along a row; a token attends only
                to earlier tokens of its own document. None: one document a row.
            lengths: the documents' cumulative lengths [documents + 1], see `attention.cumulative_lengths`;
                None: counted where a path needs them.

        Returns:
            [B, T, hidden_size] in `compute_dtype`.
        """
        if documents is None:
            mask = whole_mask(self.attention_path, tokens.shape[0], tokens.shape[1], tokens.device)
        else:
            mask = self.mask_for(documents, lengths)
        rotation = self._rotation(tokens, positions)
        x = self.embed(tokens, positions)
        for block in self.layers:
            x = self.run_block(block, x, rotation, mask)
        return self.norm(x).to(self.compute_dtype)

    def decode(self, tokens: Tensor, cache: KVCache, counts: Sequence[int] | None = None) -> Tensor:
        """Read tokens that follow what `cache` holds; the cache takes them in.

        The layers are those of `forward`, but what attends to what is the cache's to say.

        Args:
            tokens: [B, T]; or, with `counts`, [N], those of all rows end to end, `counts[row]` of each.

        Returns:
            Hidden states [B, T, hidden_size]; with `counts` only those after each row's last token,
            [B, hidden_size], which is all that drawing the next one needs.
        """
        shape, flat = tokens.shape, tokens.flatten()
        positions = cache.positions(counts or [shape[1]] * shape[0])
        rotation = self._rotation(flat, positions)
        x = self.embed(flat, positions)
        for layer, block in enumerate(self.layers):
            assert isinstance(block, Block)
            attention, seen = block.self_attn, block.input_layernorm(x)
            heads = (len(flat), -1, attention.head)
            q = attention.position(attention.q_norm(attention.q_proj(seen).view(heads)), rotation)
            k = attention.position(attention.k_norm(attention.k_proj(seen).view(heads)), rotation)
            y = cache.attend(layer, q, k, attention.v_proj(seen).view(heads)).flatten(1)
            if counts and layer == len(self.layers) - 1:  # nothing looks back at the others any more
                last = [end - 1 for end in accumulate(counts)]
                x, y = x[last], y[last]
            x = x + attention.o_proj(y)
            x = x + block.mlp(block.post_attention_layernorm(x))
        hidden = self.norm(x).to(self.compute_dtype)
        return hidden if counts else hidden.view(*shape, -1)

    def embed(self, tokens: Tensor, positions: Tensor | None) -> Tensor:
        """Token (and learned position) embeddings: [B, T] → [B, T, hidden_size]."""
        x = self.embed_tokens(tokens)
        if self.embedding_scale != 1.0:
            x = x * self.embedding_scale
        if self.embed_positions is not None:
            where = torch.arange(tokens.shape[1], device=tokens.device) if positions is None else positions
            x = x + self.embed_positions(where)
        return self.dropout(x.to(self.residual_dtype))

    def use_attention(self, path: Path) -> None:
        """Compute attention by another path in every layer: the same function, another kernel."""
        self.attention_path = path
        attend, self.mask_for = attention_path(path)
        for block in self.layers:
            block.self_attn.attend = attend  # type: ignore[union-attr, assignment]

    def use_precision(self, compute: torch.dtype, residual: torch.dtype | None = None) -> None:
        """Run matrix products in `compute` and the residual stream in `residual` (by default the same)."""
        self.compute_dtype, self.residual_dtype = compute, residual or compute
        for module in self.modules():
            if isinstance(module, Linear):
                module.compute_dtype = compute

    @property
    def head_weight(self) -> Tensor:
        """The output matrix [vocab_size, hidden_size]."""
        return self.embed_tokens.weight if self.lm_head is None else self.lm_head.weight

    def logits(self, hidden: Tensor) -> Tensor:
        """[..., hidden_size] → [..., vocab_size]."""
        return F.linear(hidden, self.head_weight.to(hidden.dtype))

    def _rotation(self, tokens: Tensor, positions: Tensor | None) -> Rotation:
        """Cosine and sine of each position's angles, [.., T, 1, head], in the compute dtype."""
        head = self.spec.head_size
        where = torch.arange(tokens.shape[1], device=tokens.device) if positions is None else positions
        if self.spec.learned_positions:
            empty = where.new_zeros(0, dtype=self.compute_dtype)
            return empty, empty
        exponent = torch.arange(0, head, 2, dtype=torch.float32, device=tokens.device) / head
        angles = where.unsqueeze(-1).float() * (1.0 / self.spec.rope_theta**exponent)
        angles = torch.cat((angles, angles), dim=-1).unsqueeze(-2)
        return angles.cos().to(self.compute_dtype), angles.sin().to(self.compute_dtype)
