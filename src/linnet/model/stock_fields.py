"""The fields of the stock configurations: what is computed, with the stock class's defaults, and what is refused.

A field is in one of three groups. `FIELDS` are read; one that is missing has the default of the stock class.
`NEUTRAL` change the function, and our network computes only the values listed. All others change no logits
in transformers: its classes for these four families do not read them, or read them for training, generation or
classification alone. A test compares this with the fields of the stock classes and with what their code reads.
"""

from __future__ import annotations

from typing import Any

# name → (type, default); a type that ends in ? allows null
Fields = dict[str, tuple[str, Any]]

_DECODER: Fields = {
    "hidden_act": ("text", "silu"),
    "rms_norm_eps": ("number", 1e-6),
    "rope_theta": ("number?", 10000.0),
    "rope_parameters": ("section?", None),
    "rope_scaling": ("section?", None),
    "attention_bias": ("bool", False),
    "attention_dropout": ("number?", 0.0),
}

FIELDS: dict[str, Fields] = {
    "gpt2": {
        "vocab_size": ("int", 50257),
        "n_embd": ("int", 768),
        "n_layer": ("int", 12),
        "n_head": ("int", 12),
        "n_inner": ("int?", None),
        "n_positions": ("int", 1024),
        "activation_function": ("text", "gelu_new"),
        "layer_norm_epsilon": ("number", 1e-5),
        "tie_word_embeddings": ("bool", True),
        "resid_pdrop": ("number", 0.1),
        "attn_pdrop": ("number", 0.1),
    },
    "llama": {
        **_DECODER,
        "vocab_size": ("int", 32000),
        "hidden_size": ("int", 4096),
        "num_hidden_layers": ("int", 32),
        "num_attention_heads": ("int", 32),
        "num_key_value_heads": ("int?", None),
        "head_dim": ("int?", None),
        "intermediate_size": ("int", 11008),
        "max_position_embeddings": ("int", 2048),
        "tie_word_embeddings": ("bool", False),
        "mlp_bias": ("bool", False),
    },
    "smollm3": {
        **_DECODER,
        "vocab_size": ("int", 128256),
        "hidden_size": ("int", 2048),
        "num_hidden_layers": ("int", 36),
        "num_attention_heads": ("int", 16),
        "num_key_value_heads": ("int?", 4),
        "head_dim": ("int?", None),
        "intermediate_size": ("int", 11008),
        "max_position_embeddings": ("int", 32768),
        "rope_theta": ("number?", 2e6),
        "tie_word_embeddings": ("bool", True),
        "mlp_bias": ("bool", False),
        "no_rope_layers": ("list?", None),
        "no_rope_layer_interval": ("int", 4),
    },
    "qwen3": {
        **_DECODER,
        "vocab_size": ("int", 151936),
        "hidden_size": ("int", 4096),
        "num_hidden_layers": ("int", 32),
        "num_attention_heads": ("int", 32),
        "num_key_value_heads": ("int?", 32),
        "head_dim": ("int", 128),
        "intermediate_size": ("int", 22016),
        "max_position_embeddings": ("int", 32768),
        "tie_word_embeddings": ("bool", False),
    },
}

# Other names under which a stock class takes a field; they win over the field's own name.
ALIASES: dict[str, dict[str, str]] = {
    "gpt2": {
        "hidden_size": "n_embd",
        "num_hidden_layers": "n_layer",
        "num_attention_heads": "n_head",
        "max_position_embeddings": "n_positions",
    }
}

# A Llama and a GPT-2 have no window of their own, but transformers' cache reads this field of any model.
_NO_WINDOW: dict[str, tuple[Any, ...]] = {"sliding_window": (None,)}

NEUTRAL: dict[str, dict[str, tuple[Any, ...]]] = {
    "gpt2": {
        **_NO_WINDOW,
        "scale_attn_weights": (True,),
        "scale_attn_by_inverse_layer_idx": (False,),
        "add_cross_attention": (False,),
    },
    "llama": _NO_WINDOW,
    "smollm3": {"use_sliding_window": (False,)},
    "qwen3": {"use_sliding_window": (False,)},
}

# Read for every model by code that the families share.
NEUTRAL_ANYWHERE: dict[str, tuple[Any, ...]] = {
    "is_causal": (True,),
    "is_encoder_decoder": (False, None),
    "partial_rotary_factor": (1, None),
    "attention_chunk_size": (None,),
    "kv_sharing_modes": (None,),
    "per_layer_config": (None, {}),
    "pruned_heads": (None, {}),
    "quantization_config": (None, {}),
    "fusion_config": (None, {}),
    "transformers_weights": (None,),
    "configuration_files": (None, []),
    **dict.fromkeys(("text_config", "text_encoder", "decoder", "generator"), (None, {})),
}

# Fields of other families. transformers ignores them here, but whoever wrote one means another function.
FOREIGN: dict[str, tuple[Any, ...]] = {
    "attn_logit_softcapping": (None, 0),
    "final_logit_softcapping": (None, 0),
    "query_pre_attn_scalar": (None,),
    "attention_multiplier": (None,),
    "embedding_multiplier": (None, 1),
    "residual_multiplier": (None, 1),
    "logits_scaling": (None, 1),
    "logit_scale": (None, 1),
    "rope_interleaved": (None, False),
    "alibi": (None, False),
    "num_experts": (None, 0),
    "num_local_experts": (None, 0),
}
