"""Our weights under their stock names and back, exactly.

Module names are Llama's already, so three of four architectures need only a prefix. GPT-2
keeps its linears transposed and its query, key and value as one matrix. A tied embedding
that is scaled on the way in has no stock form: it is written as an untied pair, the scale
folded into the input table, and the head holds the unscaled original.
"""

from __future__ import annotations

import torch
from torch import Tensor

from linnet.config import RequestError
from linnet.model.spec import ModelSpec
from linnet.model.transformer import Transformer

State = dict[str, Tensor]


def to_stock(model: Transformer) -> State:
    """The model's weights under their stock names; views where possible, on the model's device."""
    spec, state = model.spec, {name: p.detach() for name, p in model.named_parameters()}
    if spec.scale_embeddings:
        state["lm_head.weight"] = state["embed_tokens.weight"]
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
        ours["embed_tokens.weight"] = ours["lm_head.weight"]
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
                name = f"{theirs}{their_name}.{kind}"
                if name in bare:
                    value = bare.pop(name)
                    ours[f"{mine}{our_name}.{kind}"] = value.t() if value.dim() == 2 else value
    return ours | bare


def _without_prefix(state: State) -> State:
    return {
        name.removeprefix("model."): value
        for name, value in state.items()
        if not name.endswith("rotary_emb.inv_freq")  # a buffer that old versions saved
    }
