"""Any configuration that transformers accepts gives transformers' logits, or one line that refuses it by name."""

from __future__ import annotations

import random
import warnings
from typing import Any

import pytest
import torch
from families import shake

from linnet.config import RequestError
from linnet.model import Transformer
from linnet.model.stock_fields import ALIASES, FIELDS
from linnet.model.stock_spec import spec_of
from linnet.model.stock_weights import from_stock

transformers = pytest.importorskip("transformers")

VOCAB, CONTEXT, LENGTH = 40, 48, 20


def chance(draw: random.Random, share: float, values: dict[str, Any]) -> dict[str, Any]:
    return values if draw.random() < share else {}


def odd_fields(draw: random.Random, layers: int) -> dict[str, Any]:
    """A few fields that may or may not mean something to a family."""
    types = draw.choice(
        [
            ["full_attention"] * layers,
            ["attention"] * layers,
            ["sliding_attention"] * layers,
            ["full_attention", *["sliding_attention"] * (layers - 1)],
        ]
    )
    every = [
        {"tie_word_embeddings": draw.random() < 0.5},
        {"use_sliding_window": False},
        {
            "use_sliding_window": draw.random() < 0.5,
            "sliding_window": 4,
            "max_window_layers": draw.choice([1, 99]),
        },
        {"sliding_window": None, "max_window_layers": 0},
        {"layer_types": types},
        {"layer_types": types, "sliding_window": draw.choice([None, 4])},
        {"is_causal": draw.choice([True, False, None])},
        {"is_decoder": draw.choice([True, False])},
        {"partial_rotary_factor": draw.choice([1.0, 1, 0.5, None])},
        {"pretraining_tp": draw.choice([1, 2])},
        {"attention_bias": True},
        {"mlp_bias": True},
        {"per_layer_config": {"0": {"intermediate_size": 20}}},
        {"initializer_range": draw.choice([0.0, 0.5])},
        {"attn_logit_softcapping": draw.choice([None, 30.0])},
        {"use_cache": False, "output_hidden_states": False, "torch_dtype": "float32"},
        {"unheard_of": 3, "head_count": 7, "architectures": None},
        {"chunk_size_feed_forward": 4, "reorder_and_upcast_attn": draw.random() < 0.5},
        {"num_labels": 3, "temperature": 0.3, "attention_chunk_size": draw.choice([None, 4])},
        {"scale_attn_weights": draw.random() < 0.5},
        {"scale_attn_by_inverse_layer_idx": draw.random() < 0.5},
        {"add_cross_attention": draw.random() < 0.5},
        {"summary_type": "mean", "rope_interleaved": draw.random() < 0.5},
    ]
    chosen: dict[str, Any] = {}
    for fields in draw.sample(every, draw.choice([0, 1, 2, 3])):
        chosen |= fields
    return chosen


def gpt2(draw: random.Random) -> dict[str, Any]:
    heads, layers = draw.choice([1, 2, 4]), draw.choice([1, 2, 3])
    size = heads * draw.choice([3, 4, 8])
    names = {"n_embd": size, "n_head": heads, "n_layer": layers, "n_positions": CONTEXT}
    for alias, name in ALIASES["gpt2"].items():
        if draw.random() < 0.2:
            names[alias] = names.pop(name)
            if draw.random() < 0.3:
                names[name] = 5  # the alias wins
    return {
        **names,
        **chance(draw, 0.5, {"n_inner": draw.choice([None, 1, 24])}),
        **chance(
            draw,
            0.3,
            {
                "activation_function": draw.choice(
                    ["gelu_new", "gelu_pytorch_tanh", "gelu", "relu", "gelu_fast", "silu"]
                )
            },
        ),
        **chance(draw, 0.3, {"layer_norm_epsilon": draw.choice([1e-5, 1e-3, 0.5])}),
        **chance(draw, 0.2, {"resid_pdrop": draw.choice([0, 0.0, 0.3]), "embd_pdrop": 0.2}),
        **odd_fields(draw, layers),
    }


def rope(draw: random.Random) -> dict[str, Any]:
    """A base of rotation in one of its spellings, or a scaling."""
    theta = draw.choice([100, 500.0, 1e6])
    inner = draw.choice(
        [
            {"rope_type": "default", "rope_theta": theta},
            {"rope_theta": theta},
            {"rope_type": "default"},
            {"type": "default", "rope_theta": theta},
            {"rope_type": "default", "rope_theta": theta, "partial_rotary_factor": draw.choice([1.0, 0.5])},
            {"rope_type": "linear", "factor": draw.choice([1.0, 4.0]), "rope_theta": theta},
            {"type": "linear", "factor": 2.0},
            {"rope_type": "dynamic", "factor": 2.0},
            {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 12},
            {
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 12,
            },
            {"full_attention": {"rope_type": "default", "rope_theta": theta}},
            {},
            None,
        ]
    )
    outer = chance(draw, 0.5, {"rope_theta": draw.choice([77.0, 3000])})
    where = draw.choice([("rope_parameters",), ("rope_scaling",), ("rope_parameters", "rope_scaling"), ()])
    both = {"rope_parameters": inner, "rope_scaling": draw.choice([inner, None, {"rope_theta": 9.0}])}
    return outer | {name: inner if len(where) == 1 else both[name] for name in where}


def decoder(family: str, draw: random.Random) -> dict[str, Any]:
    heads, layers = draw.choice([1, 2, 4]), draw.choice([1, 2, 3, 5])
    flags = [draw.choice([0, 1, 1]) for _ in range(draw.choice([layers, layers, layers + 2]))]
    regular = [int((layer + 1) % draw.choice([2, 3]) != 0) for layer in range(layers)]
    nope = draw.choice(
        [
            {},
            {"no_rope_layer_interval": draw.choice([1, 2, 3, 9])},
            {"no_rope_layers": regular},
            {"no_rope_layers": flags},
            {"no_rope_layers": regular, "no_rope_layer_interval": 2},
        ]
    )
    values: dict[str, Any] = {
        "hidden_size": heads * draw.choice([4, 6, 8]),
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": draw.choice([8, 24]),
        "max_position_embeddings": CONTEXT,
        "pad_token_id": None,
        **chance(draw, 0.8, {"num_key_value_heads": draw.choice([None, 1, heads])}),
        **chance(draw, 0.5, {"head_dim": draw.choice([4, 6, 16])}),
        **chance(draw, 0.3, {"hidden_act": draw.choice(["silu", "swish", "gelu", "relu"])}),
        **chance(draw, 0.3, {"rms_norm_eps": draw.choice([1e-6, 1e-2, 0.5])}),
        **chance(draw, 0.2, {"attention_dropout": draw.choice([0, 0.1])}),
        **chance(draw, 0.3, {"attention_bias": draw.random() < 0.5, "mlp_bias": draw.random() < 0.5}),
        **chance(draw, 0.7, rope(draw)),
        **chance(draw, 0.5 if family == "smollm3" else 0.1, nope),
        **odd_fields(draw, layers),
    }
    return values


def stock_model(config: dict[str, Any]) -> Any:
    """transformers' model of this configuration, of random weights; None where it accepts none."""
    values = {name: value for name, value in config.items() if name != "model_type"}
    try:
        made = transformers.AutoConfig.for_model(config["model_type"], **values)
        model = transformers.AutoModelForCausalLM.from_config(made)
        shake(model, 3)
        with torch.inference_mode():
            model.eval()(torch.zeros(1, 3, dtype=torch.long))
    except Exception:  # whatever it raises, it accepts this configuration no more than we need to
        return None
    return model


@pytest.mark.parametrize("family", FIELDS)
def test_a_configuration_gives_the_stock_logits_or_is_refused(family: str) -> None:
    draw = random.Random(f"configurations of {family}")
    counts = {"same": 0, "refused": 0, "not stock": 0}
    for _ in range(120):
        fields = gpt2(draw) if family == "gpt2" else decoder(family, draw)
        counts[compared({"model_type": family, "vocab_size": VOCAB, **fields})] += 1
    assert counts["same"] > 40
    assert counts["refused"] > 15


def compared(config: dict[str, Any]) -> str:
    """What our reading of a configuration comes to beside transformers'."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = stock_model(_copy(config))
    try:
        spec = spec_of(_copy(config), "config.json")
        if theirs is None:
            return "not stock"
        weights = from_stock(_saved(theirs), spec, "here")
    except RequestError:
        return "not stock" if theirs is None else "refused"
    ours = Transformer(spec).eval()
    ours.load_state_dict(weights)
    rows = torch.randint(VOCAB, (2, LENGTH), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected, cached = theirs(rows).logits, _by_cache(theirs, rows)
        found = ours.logits(ours(rows))
    size = expected.abs().max().item()
    assert expected.std() > 0.1
    for each in (expected, cached):
        assert (found - each).abs().max() <= 1e-4 * size, config
    return "same"


def _copy(config: dict[str, Any]) -> dict[str, Any]:
    return {name: dict(value) if isinstance(value, dict) else value for name, value in config.items()}


def _saved(theirs: Any) -> dict[str, torch.Tensor]:
    state = dict(theirs.state_dict())
    if theirs.config.tie_word_embeddings:
        state.pop("lm_head.weight")
    return state


def _by_cache(theirs: Any, rows: torch.Tensor) -> torch.Tensor:
    """The logits of reading in two parts, the second by the cache of the first."""
    first = theirs(rows[:, :12], use_cache=True)
    second = theirs(rows[:, 12:], past_key_values=first.past_key_values, use_cache=True)
    return torch.cat((first.logits, second.logits), dim=1)
