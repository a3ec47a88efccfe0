"""The stock `config.json` that says the same as a specification."""

from __future__ import annotations

from typing import Any

from linnet.model.spec import ModelSpec

CLASSES = {
    "gpt2": "GPT2LMHeadModel",
    "llama": "LlamaForCausalLM",
    "smollm3": "SmolLM3ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}


def stock_config(
    spec: ModelSpec,
    *,
    eos_id: int,
    bos_id: int | None = None,
    pad_id: int | None = None,
    dtype: str = "float32",
) -> dict[str, Any]:
    """The `config.json` of the stock architecture that computes the same function as `spec`."""
    common: dict[str, Any] = {
        "model_type": spec.architecture,
        "architectures": [CLASSES[spec.architecture]],
        "vocab_size": spec.vocab_size,
        "tie_word_embeddings": spec.tie_word_embeddings and not spec.scale_embeddings,
        "initializer_range": spec.initializer_range,
        "dtype": dtype,
        "eos_token_id": eos_id,
        "bos_token_id": bos_id,
        "pad_token_id": pad_id,
        "use_cache": True,
    }
    if spec.architecture == "gpt2":
        return common | {
            "n_embd": spec.hidden_size,
            "n_layer": spec.num_hidden_layers,
            "n_head": spec.num_attention_heads,
            "n_inner": spec.intermediate_size,
            "n_positions": spec.max_position_embeddings,
            "activation_function": "gelu_new",
            "layer_norm_epsilon": spec.norm_eps,
            "resid_pdrop": spec.dropout,
            "embd_pdrop": spec.dropout,
            "attn_pdrop": spec.attention_dropout,
        }
    config = common | {
        "hidden_size": spec.hidden_size,
        "num_hidden_layers": spec.num_hidden_layers,
        "num_attention_heads": spec.num_attention_heads,
        "num_key_value_heads": spec.key_value_heads,
        "head_dim": spec.head_size,
        "intermediate_size": spec.intermediate_size,
        "max_position_embeddings": spec.max_position_embeddings,
        "hidden_act": "silu",
        "rms_norm_eps": spec.norm_eps,
        "rope_theta": spec.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": spec.rope_theta},
        "attention_bias": spec.attention_bias,
        "attention_dropout": spec.attention_dropout,
    }
    if spec.architecture in ("llama", "smollm3"):
        config["mlp_bias"] = spec.mlp_bias
    if spec.architecture == "smollm3":
        layers = range(spec.num_hidden_layers)
        config["no_rope_layers"] = [int(spec.uses_rope(layer)) for layer in layers]
        config["no_rope_layer_interval"] = spec.no_rope_layer_interval or spec.num_hidden_layers + 1
    if spec.architecture in ("smollm3", "qwen3"):
        config |= {"use_sliding_window": False, "sliding_window": None}
    return config
