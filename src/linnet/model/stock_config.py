"""A specification and the stock `config.json` that says the same.

Whatever our network cannot represent (rope scaling, sliding windows, quantised weights) is
refused by name rather than dropped.
"""

from __future__ import annotations

from typing import Any

from linnet.config import Layers, RequestError, validate
from linnet.model.spec import ModelSpec

CLASSES = {
    "gpt2": "GPT2LMHeadModel",
    "llama": "LlamaForCausalLM",
    "smollm3": "SmolLM3ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
_TIED_BY_DEFAULT = {"gpt2": True, "llama": False, "smollm3": True, "qwen3": False}
_THETA_BY_DEFAULT = {"smollm3": 2e6}


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


def spec_of(config: dict[str, Any], where: str) -> ModelSpec:
    """The specification of a stock `config.json`.

    Raises:
        RequestError: for an architecture or a feature that our network does not have.
    """
    architecture = config.get("model_type")
    if architecture not in CLASSES:
        raise RequestError(
            f"model_type {architecture!r} is not one of {', '.join(CLASSES)}",
            where,
            "start from one of these",
        )
    _refuse_unknown_features(config, where)
    tied = bool(config.get("tie_word_embeddings", _TIED_BY_DEFAULT[architecture]))
    read = _gpt2_values if architecture == "gpt2" else _llama_values
    values = read(config, where) | {"architecture": architecture, "tie_word_embeddings": tied}
    return validate(ModelSpec, Layers(values, {(): where}))


def _gpt2_values(config: dict[str, Any], where: str) -> dict[str, Any]:
    return {
        "vocab_size": config["vocab_size"],
        "hidden_size": config["n_embd"],
        "num_hidden_layers": config["n_layer"],
        "num_attention_heads": config["n_head"],
        "intermediate_size": config.get("n_inner") or 4 * config["n_embd"],
        "max_position_embeddings": config["n_positions"],
        "norm_eps": config.get("layer_norm_epsilon", 1e-5),
        "dropout": config.get("resid_pdrop", 0.1),
        "attention_dropout": config.get("attn_pdrop", 0.1),
        "initialization": "gpt2",
        "initializer_range": config.get("initializer_range", 0.02),
    }


def _llama_values(config: dict[str, Any], where: str) -> dict[str, Any]:
    heads = config["num_attention_heads"]
    smollm3 = config["model_type"] == "smollm3"
    return {
        "vocab_size": config["vocab_size"],
        "hidden_size": config["hidden_size"],
        "num_hidden_layers": config["num_hidden_layers"],
        "num_attention_heads": heads,
        "num_key_value_heads": config.get("num_key_value_heads") or heads,
        "head_dim": config.get("head_dim") or config["hidden_size"] // heads,
        "intermediate_size": config["intermediate_size"],
        "max_position_embeddings": config["max_position_embeddings"],
        "rope_theta": _rope_theta(config),
        "no_rope_layer_interval": _no_rope_interval(config, where) if smollm3 else 0,
        "norm_eps": config.get("rms_norm_eps", 1e-6),
        "attention_bias": bool(config.get("attention_bias", False)),
        "mlp_bias": bool(config.get("mlp_bias", False)),
        "attention_dropout": config.get("attention_dropout", 0.0),
        "initializer_range": config.get("initializer_range", 0.02),
    }


def _refuse_unknown_features(config: dict[str, Any], where: str) -> None:
    rope = config.get("rope_scaling") or config.get("rope_parameters") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    gpt2 = config["model_type"] == "gpt2"
    activation = config.get("activation_function", "gelu_new") if gpt2 else config.get("hidden_act", "silu")
    found = None
    if kind != "default":
        found = f"rope scaling of type {kind!r}"
    elif config.get("use_sliding_window"):
        found = "sliding-window attention"
    elif config.get("quantization_config"):
        found = "quantised weights"
    elif activation not in (("gelu_new", "gelu_pytorch_tanh") if gpt2 else ("silu", "swish")):
        found = f"the activation {activation!r}"
    elif config.get("scale_attn_by_inverse_layer_idx") or config.get("scale_attn_weights") is False:
        found = "a changed attention scale"
    elif float(rope.get("partial_rotary_factor", config.get("partial_rotary_factor", 1.0)) or 1.0) != 1.0:
        found = "partly rotated heads"
    if found:
        raise RequestError(
            f"this model has {found}, which Linnet does not compute", where, "use another model"
        )


def _rope_theta(config: dict[str, Any]) -> float:
    inner = config.get("rope_parameters") or {}
    default = _THETA_BY_DEFAULT.get(config["model_type"], 10000.0)
    return float(inner.get("rope_theta") or config.get("rope_theta") or default)


def _no_rope_interval(config: dict[str, Any], where: str) -> int:
    count = config["num_hidden_layers"]
    default = config.get("no_rope_layer_interval") or 4
    flags = config.get("no_rope_layers") or [int((layer + 1) % default != 0) for layer in range(count)]
    if all(flags):
        return 0
    interval = flags.index(0) + 1
    if [int((layer + 1) % interval != 0) for layer in range(count)] != [int(f) for f in flags]:
        raise RequestError("its NoPE layers do not come at a regular interval", where, "use another model")
    return interval
