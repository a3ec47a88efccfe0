"""Our weights under their stock names and back, exactly.

Module names are Llama's already, so three of four architectures need only a prefix. GPT-2
keeps its linears transposed and its query, key and value as one matrix. A tied embedding
that is scaled on the way in has no stock form: it is written as an untied pair, the scale
folded into the input table, and the head holds the unscaled original.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from linnet.config import RequestError
from linnet.model.spec import ModelSpec
from linnet.model.transformer import Transformer

State = dict[str, Tensor]
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
_PREFIX = {"gpt2": "transformer.", "llama": "model.", "smollm3": "model.", "qwen3": "model."}
_EMBEDDING = {
    "gpt2": "wte.weight",
    "llama": "embed_tokens.weight",
    "smollm3": "embed_tokens.weight",
    "qwen3": "embed_tokens.weight",
}
# Buffers that old versions saved: causal masks and rotary frequencies, which follow from config.json.
_ROPE_BUFFERS = ("rotary_emb.inv_freq",)
_BUFFERS = {
    "gpt2": (".attn.bias", ".attn.masked_bias"),
    "llama": _ROPE_BUFFERS,
    "smollm3": _ROPE_BUFFERS,
    "qwen3": _ROPE_BUFFERS,
}


def to_stock(model: Transformer) -> State:
    """The model's weights under their stock names; views where possible, on the model's device."""
    spec, state = model.spec, {name: p.detach() for name, p in model.named_parameters()}
    if spec.scale_embeddings:
        state["lm_head.weight"] = state["embed_tokens.weight"]
        state["embed_tokens.weight"] = state["embed_tokens.weight"] * model.embedding_scale
    if spec.architecture == "gpt2":
        return _to_gpt2(state, spec.num_hidden_layers)
    return {_full_name(name, spec): value for name, value in state.items()}


def from_stock(state: State, spec: ModelSpec, where: str) -> State:
    """Stock weights under our names, for a network of `spec`.

    As in transformers, names may lack the prefix of the stock class (`model.`, `transformer.`), and a tied pair may
    be one matrix under either name. `spec` may ask for a tied, scaled embedding where the stock weights hold
    the untied pair that `to_stock` made of it; the unscaled table is then taken from the head.

    Args:
        where: the folder, for messages.

    Raises:
        RequestError: when weights are missing, are left over, or are not what `spec` says.
    """
    names = _without_prefix(state, spec, where)
    bare = {name: state[full] for name, full in names.items()}
    if spec.tie_word_embeddings and not spec.scale_embeddings:
        _join_tied(bare, _EMBEDDING[spec.architecture], where)
    expected = set()
    for name, shape in _stock_shapes(spec, where):
        _check(bare.get(name), names.get(name, _full_name(name, spec)), shape, where)
        expected.add(name)
    extra = sorted(names[name] for name in bare.keys() - expected)
    if extra:
        raise RequestError(f"there are weights that the model has no place for, {extra[0]} first", where)
    ours = _from_gpt2(bare, spec.num_hidden_layers) if spec.architecture == "gpt2" else bare
    if spec.scale_embeddings:
        ours["embed_tokens.weight"] = _unscaled(ours, spec, where)
    return ours


def _check(value: Tensor | None, name: str, shape: tuple[int, ...], where: str) -> None:
    if value is None:
        raise RequestError(f"the weight {name} is missing", where, "the folder is not a whole model")
    if value.dtype not in DTYPES:
        kind = str(value.dtype).removeprefix("torch.")
        raise RequestError(
            f"the weight {name} is in {kind}, which is not read",
            where,
            "save it in float32, bfloat16 or float16",
        )
    if tuple(value.shape) != shape:
        raise RequestError(
            f"the weight {name} is {tuple(value.shape)} and the model wants {shape}",
            where,
            "give a folder whose config.json and weights belong together",
        )


def _full_name(name: str, spec: ModelSpec) -> str:
    return name if name == "lm_head.weight" else _PREFIX[spec.architecture] + name


def _without_prefix(state: State, spec: ModelSpec, where: str) -> dict[str, str]:
    """The names in the file by what they are without the stock class's prefix; buffers are left out."""
    names: dict[str, str] = {}
    for full in state:
        name = full.removeprefix(_PREFIX[spec.architecture])
        if name.endswith(_BUFFERS[spec.architecture]):
            continue
        if name in names:
            raise RequestError(f"{full} and {names[name]} are one weight", where, "keep one of them")
        names[name] = full
    return names


def _join_tied(bare: State, embedding: str, where: str) -> None:
    """One matrix where a tied pair was saved as two, or under the head's name; in place."""
    head = bare.pop("lm_head.weight", None)
    if head is not None and not _same(head, bare.setdefault(embedding, head)):
        raise RequestError(
            f"lm_head.weight is not {embedding}, to which it should be tied",
            where,
            "set tie_word_embeddings to false in config.json",
        )


def has_own_head(state: State, architecture: str) -> bool:
    """Whether stock weights hold a head that is another matrix than the embedding; transformers then does not tie."""
    bare = {name.removeprefix(_PREFIX[architecture]): value for name, value in state.items()}
    head, table = bare.get("lm_head.weight"), bare.get(_EMBEDDING[architecture])
    return head is not None and table is not None and not _same(head, table)


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether two matrices are equal once they are read in FP32; one that cannot be read equals none."""
    readable = one.dtype in DTYPES and other.dtype in DTYPES
    return readable and one.shape == other.shape and torch.equal(one.float(), other.float())


def _unscaled(ours: State, spec: ModelSpec, where: str) -> Tensor:
    """The table of a tied, scaled embedding, from the untied pair that was made of it; the head is taken out."""
    head, scaled = ours.pop("lm_head.weight"), ours["embed_tokens.weight"]
    if not torch.allclose(head.float() * spec.hidden_size**0.5, scaled.float(), rtol=2**-7):
        raise RequestError(
            "its embedding is not its head, scaled, so it is no tied embedding with scale_embeddings",
            where,
            "set model.scale_embeddings and model.tie_word_embeddings to false",
        )
    return head


def _stock_shapes(spec: ModelSpec, where: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Every weight's stock name, without prefix, and its shape; layer by layer, as there may be absurdly many."""
    try:
        with torch.device("meta"):
            one = to_stock(Transformer(spec.model_copy(update={"num_hidden_layers": 1})))
    except (RuntimeError, TypeError):
        raise RequestError("these sizes are beyond any model", where, "correct config.json") from None
    prefix = _PREFIX[spec.architecture]
    shapes = {name.removeprefix(prefix): value.shape for name, value in one.items()}
    first = {name: shape for name, shape in shapes.items() if name.startswith(("layers.0.", "h.0."))}
    yield from ((name, tuple(shape)) for name, shape in shapes.items() if name not in first)
    for layer in range(spec.num_hidden_layers):
        for name, shape in first.items():
            yield name.replace(".0.", f".{layer}.", 1), tuple(shape)


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


def _from_gpt2(bare: State, layers: int) -> State:
    ours = {our_name: bare[their_name] for their_name, our_name in _GPT2_TOP.items()}
    if "lm_head.weight" in bare:
        ours["lm_head.weight"] = bare["lm_head.weight"]
    for layer in range(layers):
        mine, theirs = f"layers.{layer}.", f"h.{layer}."
        for kind in ("weight", "bias"):
            joined = bare[f"{theirs}attn.c_attn.{kind}"]
            joined = joined.t() if joined.dim() == 2 else joined
            for part, value in zip("qkv", joined.chunk(3), strict=True):
                ours[f"{mine}self_attn.{part}_proj.{kind}"] = value
            for their_name, our_name in _GPT2_LAYER.items():
                value = bare[f"{theirs}{their_name}.{kind}"]
                ours[f"{mine}{our_name}.{kind}"] = value.t() if value.dim() == 2 else value
    return ours
