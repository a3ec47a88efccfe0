"""Parameters and FLOPs, counted from the specification and not from advertisements."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from linnet.model.spec import ModelSpec
from linnet.model.transformer import Transformer


@dataclass(frozen=True)
class ParameterCount:
    """Parameters in all, and without the token and position embeddings (a tied head is one matrix)."""

    total: int
    without_embeddings: int


def count_parameters(spec: ModelSpec) -> ParameterCount:
    """Count by building the network without memory for its weights."""
    with torch.device("meta"):
        model = Transformer(spec)
    total = sum(parameter.numel() for parameter in model.parameters())
    tables = [model.embed_tokens, model.embed_positions]
    embeddings = sum(table.weight.numel() for table in tables if table is not None)
    return ParameterCount(total, total - embeddings)


def flops_per_token(spec: ModelSpec, sequence_length: int) -> int:
    """Floating point operations of one training token: forward and backward, three forward passes' worth.

    Matrix products only: 2 per weight of every linear layer and of the head (the lookup of an
    embedding costs none), and 4 · heads · head width · sequence_length per layer for attention.
    Attention is counted over the whole square, as in Chowdhery et al. 2022 (PaLM), appendix B,
    although a causal kernel may skip half of it, so that figures compare with others' figures. What
    documents and causality leave of it is less: take `score_flops` per pair that is not needed off.
    """
    head = spec.head_size
    attention = spec.hidden_size * head * (2 * spec.num_attention_heads + 2 * spec.key_value_heads)
    feed_forward = (3 if spec.gated_mlp else 2) * spec.hidden_size * spec.intermediate_size
    weights = spec.num_hidden_layers * (attention + feed_forward) + spec.vocab_size * spec.hidden_size
    return 3 * 2 * weights + score_flops(spec) * sequence_length


def score_flops(spec: ModelSpec) -> int:
    """FLOPs of one query with one key and value in all layers, forward and backward."""
    return 3 * spec.num_hidden_layers * 4 * spec.num_attention_heads * spec.head_size
