"""Parameters and FLOPs as counted by transformers and by torch's own counter."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from families import SPECS, network, tokens
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from linnet.model import ModelSpec, count_parameters, flops_per_token
from linnet.model.stock_config import stock_config

SMOL_160M = ModelSpec(
    architecture="smollm3", vocab_size=32000, hidden_size=768, num_hidden_layers=18, num_attention_heads=12,
    num_key_value_heads=4, intermediate_size=2048, max_position_embeddings=2048, no_rope_layer_interval=4,
)  # fmt: skip
TINYSTORIES_30M = ModelSpec(
    architecture="gpt2", vocab_size=50257, hidden_size=384, num_hidden_layers=6, num_attention_heads=6,
    intermediate_size=1536, max_position_embeddings=128,
)  # fmt: skip
SHAPES = {name: spec for name, spec in SPECS.items() if not spec.scale_embeddings} | {
    "smol-160m": SMOL_160M,
    "tinystories-30m": TINYSTORIES_30M,
}


@pytest.mark.parametrize("name", SHAPES)
def test_parameters_are_those_of_transformers(name: str) -> None:
    transformers = pytest.importorskip("transformers")
    values = stock_config(SHAPES[name], eos_id=0)
    config = transformers.AutoConfig.for_model(values.pop("model_type"), **values)
    with torch.device("meta"):
        theirs = transformers.AutoModelForCausalLM.from_config(config)
    theirs.tie_weights()
    count = count_parameters(SHAPES[name])
    assert count.total == sum(p.numel() for p in theirs.parameters())
    tables = [
        name
        for name, _ in theirs.named_parameters()
        if name.endswith(("embed_tokens.weight", "wte.weight", "wpe.weight"))
    ]
    embeddings = sum(theirs.get_parameter(name).numel() for name in tables)
    assert count.without_embeddings == count.total - embeddings


def test_scaling_an_embedding_adds_no_parameter() -> None:
    scaled = SPECS["smollm3-scaled-tied"]
    assert count_parameters(scaled) == count_parameters(scaled.model_copy(update={"scale_embeddings": False}))


@pytest.mark.parametrize("length", [16, 64])
@pytest.mark.parametrize("name", SPECS)
def test_flops_are_those_torch_counts_over_the_whole_square(name: str, length: int) -> None:
    spec, rows = SPECS[name], tokens(2, length)
    model = network(spec).train()
    # Only the kernel written in matrix products is counted on every device.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        F.cross_entropy(model.logits(model(rows)).flatten(0, 1), rows.flatten()).backward()
    assert counter.get_total_flops() == flops_per_token(spec, length) * rows.numel()
