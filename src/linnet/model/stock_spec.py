"""The specification that a stock `config.json` says, read as the stock class reads it.

Missing fields have the stock class's defaults, and what our network does not compute is refused by its name.
"""

from __future__ import annotations

from typing import Any

from linnet.config import Layers, RequestError, validate
from linnet.model.spec import ModelSpec
from linnet.model.stock_fields import ALIASES, FIELDS, FOREIGN, NEUTRAL, NEUTRAL_ANYWHERE

_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "int": ((int,), "a whole number"),
    "number": ((int, float), "a number"),
    "bool": ((bool,), "true or false"),
    "text": ((str,), "a name"),
    "list": ((list,), "a list"),
    "section": ((dict,), "a mapping"),
}
_GELU, _SILU = ("gelu_new", "gelu_pytorch_tanh"), ("silu", "swish")  # names of one function each
_FULL_ATTENTION = ("full_attention", "attention")  # the new and the old name
_LARGEST = 2**31 - 1  # beyond it, products of sizes overflow
_MOST_LAYERS = 10**5


def spec_of(config: dict[str, Any], where: str) -> ModelSpec:
    """The specification of a stock `config.json`.

    Args:
        where: the file, for messages.

    Raises:
        RequestError: for an architecture, a field or a value that our network does not compute.
    """
    architecture = config.get("model_type")
    if not isinstance(architecture, str) or architecture not in FIELDS:
        raise RequestError(
            f"model_type {_short(architecture)} is not one of {', '.join(FIELDS)}",
            where,
            "start from one of these",
        )
    _refuse_other_functions(config, architecture, where)
    fields = _read_fields(config, architecture, where)
    _check_layer_types(config, fields, where)
    read = _gpt2_values if architecture == "gpt2" else _decoder_values
    values = read(fields, where) | {
        "architecture": architecture,
        "vocab_size": fields["vocab_size"],
        "tie_word_embeddings": fields["tie_word_embeddings"],
    }
    width = config.get("initializer_range")  # for fresh weights alone: one that is unusable is left out
    if isinstance(width, float) and 0 < width < 1:
        values["initializer_range"] = width
    return validate(ModelSpec, Layers(values, {(): where}))


def _refuse_other_functions(config: dict[str, Any], architecture: str, where: str) -> None:
    neutral = {**NEUTRAL_ANYWHERE, **NEUTRAL[architecture], **FOREIGN}
    for name, value in config.items():
        if name in neutral and value not in neutral[name]:
            raise _not_computed(name, value, where)


def _read_fields(config: dict[str, Any], architecture: str, where: str) -> dict[str, Any]:
    """The values of all fields under the stock class's own names, defaults filled in."""
    aliases = ALIASES.get(architecture, {})
    fields = {}
    for name, (kind, default) in FIELDS[architecture].items():
        written = next((alias for alias, own in aliases.items() if own == name and alias in config), name)
        value = config.get(written, default)
        types, words = _TYPES[kind.removesuffix("?")]
        right = isinstance(value, types) and isinstance(value, bool) == (kind == "bool")
        if not (right or (value is None and kind.endswith("?"))):
            raise RequestError(
                f"{written} is {_short(value)}, and should be {words}",
                where,
                f"correct it; without it, it is {default!r}",
            )
        largest = _MOST_LAYERS if name in ("n_layer", "num_hidden_layers") else _LARGEST
        if kind.startswith(("int", "number")) and value is not None and abs(value) > largest:
            raise RequestError(f"{written} is {_short(value)}, which no model has", where, "correct it")
        fields[name] = value
    return fields


def _check_layer_types(config: dict[str, Any], fields: dict[str, Any], where: str) -> None:
    """Refuse layers of other kinds; transformers' cache reads `layer_types` of any model."""
    kinds = config.get("layer_types")
    if kinds is None:
        return
    if not isinstance(kinds, list):
        raise RequestError(f"layer_types is {_short(kinds)}, and should be a list", where, "correct it")
    for kind in kinds:
        if kind not in _FULL_ATTENTION:
            raise _not_computed("layer_types", kind, where)
    count = fields.get("num_hidden_layers", fields.get("n_layer"))
    if len(kinds) != count:
        raise RequestError(f"layer_types has {len(kinds)} entries for {count} layers", where, "correct it")


def _gpt2_values(fields: dict[str, Any], where: str) -> dict[str, Any]:
    if fields["activation_function"] not in _GELU:
        raise _not_computed("activation_function", fields["activation_function"], where)
    inner = fields["n_inner"]
    return {
        "hidden_size": fields["n_embd"],
        "num_hidden_layers": fields["n_layer"],
        "num_attention_heads": fields["n_head"],
        "intermediate_size": 4 * fields["n_embd"] if inner is None else inner,
        "max_position_embeddings": fields["n_positions"],
        "norm_eps": fields["layer_norm_epsilon"],
        "dropout": fields["resid_pdrop"],  # of the embeddings as well, whatever embd_pdrop says
        "attention_dropout": fields["attn_pdrop"],
        "initialization": "gpt2",
    }


def _decoder_values(fields: dict[str, Any], where: str) -> dict[str, Any]:
    if fields["hidden_act"] not in _SILU:
        raise _not_computed("hidden_act", fields["hidden_act"], where)
    heads = fields["num_attention_heads"]
    if heads < 1:
        raise RequestError(f"num_attention_heads is {heads}", where, "correct it")
    key_value_heads, head_dim = fields["num_key_value_heads"], fields["head_dim"]
    same = (
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "intermediate_size",
        "max_position_embeddings",
        "attention_bias",
    )
    return {
        **{name: fields[name] for name in same},
        "num_key_value_heads": heads if key_value_heads is None else key_value_heads,
        "head_dim": fields["hidden_size"] // heads if head_dim is None else head_dim,
        "mlp_bias": fields.get("mlp_bias", False),
        "norm_eps": fields["rms_norm_eps"],
        "rope_theta": _rope_theta(fields, where),
        "no_rope_layer_interval": _no_rope_interval(fields, where),
        "attention_dropout": fields["attention_dropout"] or 0.0,
    }


def _rope_theta(fields: dict[str, Any], where: str) -> float:
    """`rope_scaling` where it says anything, as in transformers, else `rope_parameters`, else `rope_theta`."""
    name = "rope_scaling" if fields["rope_scaling"] else "rope_parameters"
    rope = fields[name] or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default":
        raise _not_computed(f"{name}.rope_type", kind, where)
    if rope.get("partial_rotary_factor") not in (None, 1):
        raise _not_computed(f"{name}.partial_rotary_factor", rope["partial_rotary_factor"], where)
    nested = next((key for key, value in rope.items() if isinstance(value, dict)), None)
    if nested is not None:
        raise _not_computed(f"{name}.{nested}", rope[nested], where)
    theta = rope.get("rope_theta", fields["rope_theta"])
    if isinstance(theta, bool) or not isinstance(theta, (int, float)) or not 0 < theta < 1e30:
        raise RequestError(f"{name}.rope_theta is {_short(theta)}", where, "give a number above 0")
    return float(theta)


def _no_rope_interval(fields: dict[str, Any], where: str) -> int:
    """Every how many layers one does not rotate; 0 for none."""
    if "no_rope_layers" not in fields:
        return 0
    count, interval = fields["num_hidden_layers"], fields["no_rope_layer_interval"]
    rotates = fields["no_rope_layers"]
    if rotates is None:
        if interval == 0:
            raise RequestError(
                "no_rope_layer_interval is 0", where, "give no_rope_layers, or another interval"
            )
        rotates = [(layer + 1) % interval for layer in range(count)]
    if len(rotates) < count:
        raise RequestError(
            f"no_rope_layers has {len(rotates)} entries for {count} layers", where, "correct it"
        )
    rotates = [bool(flag) for flag in rotates[:count]]
    if all(rotates):
        return 0
    first = rotates.index(False) + 1
    if rotates != [(layer + 1) % first != 0 for layer in range(count)]:
        raise RequestError(
            "no_rope_layers are not at a regular interval, which Linnet does not compute",
            where,
            "use another model",
        )
    return first


def _not_computed(name: str, value: Any, where: str) -> RequestError:
    return RequestError(
        f"this model has {name} {_short(value)}, which Linnet does not compute", where, "use another model"
    )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
