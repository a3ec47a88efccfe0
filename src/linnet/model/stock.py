"""To and from stock Hugging Face folders, exactly.

A folder written here loads with `AutoModelForCausalLM.from_pretrained` and no custom code;
a stock GPT-2, Llama, SmolLM3 or Qwen3 folder becomes a specification and weights. Whatever
our network cannot represent (rope scaling, sliding windows, quantised weights) is refused
by name rather than dropped.

Module names are Llama's already, so three of four architectures need only a prefix. GPT-2
keeps its linears transposed and its query, key and value as one matrix. A tied embedding
that is scaled on the way in has no stock form: it is written as an untied pair, the scale
folded into the input table, and the head holds the unscaled original.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from linnet.config import Layers, RequestError, validate
from linnet.model.spec import ModelSpec
from linnet.model.transformer import Transformer

CLASSES = {
    "gpt2": "GPT2LMHeadModel",
    "llama": "LlamaForCausalLM",
    "smollm3": "SmolLM3ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
_TIED_BY_DEFAULT = {"gpt2": True, "llama": False, "smollm3": True, "qwen3": False}
_THETA_BY_DEFAULT = {"smollm3": 2e6}
State = dict[str, Tensor]


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


def to_stock(model: Transformer) -> State:
    """The model's weights under their stock names; views where possible, on the model's device."""
    spec, state = model.spec, {name: p.detach() for name, p in model.named_parameters()}
    if spec.tie_word_embeddings and spec.scale_embeddings:
        state["lm_head.weight"] = state["embed_tokens.weight"]
        state["embed_tokens.weight"] = state["embed_tokens.weight"] * model.embedding_scale
    elif spec.scale_embeddings:
        state["embed_tokens.weight"] = state["embed_tokens.weight"] * model.embedding_scale
    if spec.architecture == "gpt2":
        return _to_gpt2(state, spec.num_hidden_layers)
    return {name if name.startswith("lm_head") else f"model.{name}": value for name, value in state.items()}


def from_stock(state: State, spec: ModelSpec, where: str) -> State:
    """Stock weights under our names, for a network of `spec`.

    `spec` may ask for a tied, scaled embedding where the stock weights hold the untied pair
    that `to_stock` made of it; the unscaled table is then taken from the head.

    Raises:
        RequestError: when weights are missing or are left over.
    """
    ours = (
        _from_gpt2(state, spec.num_hidden_layers) if spec.architecture == "gpt2" else _without_prefix(state)
    )
    if spec.scale_embeddings:
        if "lm_head.weight" not in ours:
            raise RequestError("lm_head.weight is missing", where, "the folder is not a whole model")
        if spec.tie_word_embeddings:
            ours["embed_tokens.weight"] = ours["lm_head.weight"]
        else:
            ours["embed_tokens.weight"] = ours["embed_tokens.weight"] / spec.hidden_size**0.5
    if spec.tie_word_embeddings:
        ours.pop("lm_head.weight", None)
    with torch.device("meta"):
        shapes = {name: tuple(p.shape) for name, p in Transformer(spec).named_parameters()}
    for name, shape in shapes.items():
        if name not in ours:
            raise RequestError(f"the weight {name} is missing", where, "the folder is not a whole model")
        if tuple(ours[name].shape) != shape:
            raise RequestError(
                f"the weight {name} is {tuple(ours[name].shape)} and the model wants {shape}", where,
                "use the recipe that the model was made with",
            )  # fmt: skip
    extra = sorted(set(ours) - set(shapes))
    if extra:
        raise RequestError(f"there are weights that the model has no place for, {extra[0]} first", where)
    return ours


_GPT2_LAYER = {
    "ln_1": "input_layernorm",
    "ln_2": "post_attention_layernorm",
    "attn.c_proj": "self_attn.o_proj",
    "mlp.c_fc": "mlp.up_proj",
    "mlp.c_proj": "mlp.down_proj",
}
_GPT2_TOP = {
    "wte.weight": "embed_tokens.weight",
    "wpe.weight": "embed_positions.weight",
    "ln_f.weight": "norm.weight",
    "ln_f.bias": "norm.bias",
}


def _to_gpt2(state: State, layers: int) -> State:
    stock = {f"transformer.{theirs}": state[ours] for theirs, ours in _GPT2_TOP.items()}
    if "lm_head.weight" in state:
        stock["lm_head.weight"] = state["lm_head.weight"]
    for layer in range(layers):
        ours, theirs = f"layers.{layer}.", f"transformer.h.{layer}."
        for kind in ("weight", "bias"):
            joined = torch.cat([state[f"{ours}self_attn.{part}_proj.{kind}"] for part in "qkv"])
            stock[f"{theirs}attn.c_attn.{kind}"] = joined.t() if kind == "weight" else joined
            for their_name, our_name in _GPT2_LAYER.items():
                value = state[f"{ours}{our_name}.{kind}"]
                stock[f"{theirs}{their_name}.{kind}"] = value.t() if value.dim() == 2 else value
    return stock


def _from_gpt2(state: State, layers: int) -> State:
    bare = {name.removeprefix("transformer."): value for name, value in state.items()}
    ours = {
        our_name: bare.pop(their_name) for their_name, our_name in _GPT2_TOP.items() if their_name in bare
    }
    if "lm_head.weight" in bare:
        ours["lm_head.weight"] = bare.pop("lm_head.weight")
    for layer in range(layers):
        mine, theirs = f"layers.{layer}.", f"h.{layer}."
        for buffer in ("attn.bias", "attn.masked_bias"):  # causal masks kept by old versions
            bare.pop(f"{theirs}{buffer}", None)
        for kind in ("weight", "bias"):
            joined = bare.pop(f"{theirs}attn.c_attn.{kind}", None)
            if joined is not None:
                joined = joined.t() if kind == "weight" else joined
                for part, value in zip("qkv", joined.chunk(3), strict=True):
                    ours[f"{mine}self_attn.{part}_proj.{kind}"] = value
            for their_name, our_name in _GPT2_LAYER.items():
                value = bare.pop(f"{theirs}{their_name}.{kind}", None)
                if value is not None:
                    ours[f"{mine}{our_name}.{kind}"] = value.t() if value.dim() == 2 else value
    return ours | bare


def _without_prefix(state: State) -> State:
    return {
        name.removeprefix("model."): value
        for name, value in state.items()
        if not name.endswith("rotary_emb.inv_freq")  # a buffer that old versions saved
    }


def save_model(
    model: Transformer,
    folder: Path,
    *,
    eos_id: int,
    bos_id: int | None = None,
    pad_id: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write `config.json`, `generation_config.json` and `model.safetensors` into an existing folder."""
    name = str(dtype).removeprefix("torch.")
    config = stock_config(model.spec, eos_id=eos_id, bos_id=bos_id, pad_id=pad_id, dtype=name)
    generation = {"eos_token_id": eos_id, "bos_token_id": bos_id, "pad_token_id": pad_id}
    write_json(folder / "config.json", config)
    write_json(folder / "generation_config.json", {k: v for k, v in generation.items() if v is not None})
    state = {name: value.to("cpu", dtype).contiguous() for name, value in to_stock(model).items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file as people read it."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_spec(folder: Path) -> ModelSpec:
    """The specification of the stock model in `folder`.

    Raises:
        RequestError: when there is no readable stock model, or one that our network cannot be.
    """
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        return spec_of(config, str(path))
    except (OSError, UnicodeDecodeError):
        raise RequestError(
            "there is no stock model here (no config.json)", str(folder), "give a model folder"
        ) from None
    except json.JSONDecodeError as error:
        raise RequestError("this is not valid JSON", f"{path}:{error.lineno}", "restore the file") from None
    except KeyError as error:
        raise RequestError(f"the key {error.args[0]!r} is missing", str(path), "restore the file") from None
    except (TypeError, ValueError, AttributeError):
        raise RequestError("this is not a model's configuration", str(path), "restore the file") from None


def read_weights(folder: Path) -> State:
    """All weights of the safetensors files in `folder`, on the CPU, in the dtype they were saved in.

    Raises:
        RequestError: when no safetensors are there or one is damaged. Pickled weights are never read.
    """
    index = folder / "model.safetensors.index.json"
    files = _shards(index) if index.exists() else [folder / "model.safetensors"]
    state: State = {}
    for path in files:
        try:
            with safe_open(path, framework="pt") as opened:
                for name in opened.keys():  # noqa: SIM118 (not a dict)
                    state[name] = opened.get_tensor(name)
        except FileNotFoundError:
            raise RequestError(
                f"{path.name} is missing", str(folder), "give a folder with safetensors weights"
            ) from None
        except (SafetensorError, OSError) as error:
            raise RequestError(
                f"the weights cannot be read ({error})", str(path), "restore the file"
            ) from None
    return state


def _shards(index: Path) -> list[Path]:
    try:
        mapping = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        return sorted({index.parent / name for name in mapping.values()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise RequestError(
            "this is not an index of safetensors files", str(index), "restore the file"
        ) from None


def load_model(folder: Path, spec: ModelSpec | None = None) -> Transformer:
    """The model in a stock folder, FP32, on the CPU.

    Args:
        folder: holds `config.json` and safetensors.
        spec: the specification to build, where it says more than the stock form can
            (a tied, scaled embedding); by default what `config.json` says.

    Raises:
        RequestError: see `read_spec`, `read_weights`, `from_stock`.
    """
    spec = spec or read_spec(folder)
    state = from_stock(read_weights(folder), spec, str(folder))
    with torch.device("meta"):
        model = Transformer(spec)
    wide = {name: value.float().contiguous() for name, value in state.items()}
    model.load_state_dict(wide, assign=True)
    return model.requires_grad_(True)
