"""The shape of a network, in the terms of Hugging Face's configurations.

One specification describes all four stock architectures. What an architecture fixes
(GPT-2 always has learned positions and biases) is derived here once, so that the
network is built from it without asking again which family it belongs to.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, PositiveInt, model_validator

from linnet.config import RequestError, Section

Architecture = Literal["gpt2", "llama", "smollm3", "qwen3"]
Initialization = Literal["gpt2", "normal", "truncated_normal"]


class ModelSpec(Section):
    """A GPT-2, Llama, SmolLM3 or Qwen3.

    `initialization` is one of: `gpt2` (normal, residual outputs narrowed by 1/sqrt(2 layers)),
    `normal` (normal of `initializer_range`), `truncated_normal` (std 0.5/sqrt(hidden_size), cut at 3 std).
    """

    architecture: Architecture
    vocab_size: PositiveInt
    hidden_size: PositiveInt
    num_hidden_layers: PositiveInt
    num_attention_heads: PositiveInt
    num_key_value_heads: PositiveInt | None = None
    head_dim: PositiveInt | None = None
    intermediate_size: PositiveInt
    max_position_embeddings: PositiveInt
    rope_theta: float = Field(default=10000.0, gt=0)
    no_rope_layer_interval: int = Field(default=0, ge=0)
    norm_eps: float = Field(default=1e-5, gt=0)
    attention_bias: bool = False
    mlp_bias: bool = False
    tie_word_embeddings: bool = True
    scale_embeddings: bool = False
    dropout: float = Field(default=0.0, ge=0, lt=1)
    attention_dropout: float = Field(default=0.0, ge=0, lt=1)
    initialization: Initialization = "normal"
    initializer_range: float = Field(default=0.02, gt=0)

    habits: ClassVar[Mapping[str, str]] = {
        "model_type": "write 'architecture': gpt2, llama, smollm3 or qwen3",
        "n_layer": "write 'num_hidden_layers'",
        "n_layers": "write 'num_hidden_layers'",
        "num_layers": "write 'num_hidden_layers'",
        "n_head": "write 'num_attention_heads'",
        "n_heads": "write 'num_attention_heads'",
        "num_heads": "write 'num_attention_heads'",
        "n_kv_heads": "write 'num_key_value_heads'",
        "num_kv_heads": "write 'num_key_value_heads'",
        "n_embd": "write 'hidden_size'",
        "d_model": "write 'hidden_size'",
        "dim": "write 'hidden_size'",
        "n_inner": "write 'intermediate_size'",
        "d_ff": "write 'intermediate_size'",
        "ffn_dim": "write 'intermediate_size'",
        "n_positions": "write 'max_position_embeddings'",
        "block_size": "write 'max_position_embeddings'",
        "max_seq_len": "write 'max_position_embeddings' (the stage's 'data.sequence_length' is what it trains on)",
        "context_length": "write 'max_position_embeddings'",
        "rms_norm_eps": "write 'norm_eps'",
        "layer_norm_epsilon": "write 'norm_eps'",
        "layer_norm_eps": "write 'norm_eps'",
        "resid_pdrop": "write 'dropout'",
        "embd_pdrop": "write 'dropout'",
        "attn_pdrop": "write 'attention_dropout'",
        "bias": "write 'attention_bias' and 'mlp_bias' (a GPT-2 always has both)",
        "tie_embeddings": "write 'tie_word_embeddings'",
    }

    @property
    def key_value_heads(self) -> int:
        """Number of key and value heads (as many as query heads unless said otherwise)."""
        return self.num_key_value_heads or self.num_attention_heads

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.head_dim or self.hidden_size // self.num_attention_heads

    @property
    def learned_positions(self) -> bool:
        """Whether positions are a learned table (GPT-2) rather than rotations."""
        return self.architecture == "gpt2"

    @property
    def layer_norm(self) -> bool:
        """Whether the norms are LayerNorm (GPT-2) rather than RMSNorm."""
        return self.architecture == "gpt2"

    @property
    def gated_mlp(self) -> bool:
        """Whether the feed-forward is SwiGLU rather than GELU (GPT-2)."""
        return self.architecture != "gpt2"

    @property
    def qk_norm(self) -> bool:
        """Whether queries and keys are normalised per head (Qwen3)."""
        return self.architecture == "qwen3"

    @property
    def has_attention_bias(self) -> bool:
        return self.architecture == "gpt2" or self.attention_bias

    @property
    def has_mlp_bias(self) -> bool:
        return self.architecture == "gpt2" or self.mlp_bias

    def uses_rope(self, layer: int) -> bool:
        """Whether layer `layer` (from 0) rotates queries and keys; every n-th does not (NoPE)."""
        if self.learned_positions:
            return False
        interval = self.no_rope_layer_interval
        return interval == 0 or (layer + 1) % interval != 0

    @model_validator(mode="after")
    def _possible(self) -> ModelSpec:
        heads, kv = self.num_attention_heads, self.key_value_heads
        if self.head_dim is None and self.hidden_size % heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} does not divide by num_attention_heads {heads}; "
                f"{_nearest(self.hidden_size, heads)} does"
            )
        if heads % kv:
            raise ValueError(
                f"num_attention_heads {heads} does not divide by num_key_value_heads {kv}; "
                f"possible here: {', '.join(str(n) for n in range(1, heads + 1) if heads % n == 0)}"
            )
        if not self.learned_positions and self.head_size % 2:
            raise ValueError(f"a head of width {self.head_size} cannot be rotated; make it even")
        self._fixed_by_architecture()
        return self

    def _fixed_by_architecture(self) -> None:
        if self.architecture == "gpt2":
            if self.key_value_heads != self.num_attention_heads:
                raise ValueError(
                    "a GPT-2 has as many key and value heads as heads; leave num_key_value_heads out"
                )
            if self.head_dim not in (None, self.hidden_size // self.num_attention_heads):
                raise ValueError("a GPT-2's heads share its hidden_size; leave head_dim out")
        if self.scale_embeddings and not self.tie_word_embeddings:
            raise ValueError(
                "scale_embeddings is for a tied embedding; set tie_word_embeddings: true or leave it out"
            )
        if self.no_rope_layer_interval and self.architecture != "smollm3":
            raise ValueError(f"no_rope_layer_interval belongs to smollm3; a {self.architecture} has none")
        if self.mlp_bias and self.architecture == "qwen3":
            raise ValueError("a Qwen3 has no biases in its feed-forward; leave mlp_bias out")


def _nearest(size: int, heads: int) -> int:
    return max(heads, round(size / heads) * heads)


def check_sequence(spec: ModelSpec, length: int) -> None:
    """Refuse a sequence that the model has no positions for.

    Raises:
        RequestError: when `length` exceeds `max_position_embeddings`.
    """
    if length > spec.max_position_embeddings:
        raise RequestError(
            f"a sequence of {length} tokens does not fit max_position_embeddings {spec.max_position_embeddings}",
            "sequence_length",
            "shorten the sequence or raise model.max_position_embeddings",
        )
