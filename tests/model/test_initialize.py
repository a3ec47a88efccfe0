"""How weights start, measured: spreads, the narrowing of residual outputs, cuts, seeds."""

from __future__ import annotations

import pytest
import torch
from families import SPECS, spec
from torch import Tensor

from linnet.model import ModelSpec, Transformer, initialize

WIDE = {"vocab_size": 500, "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 4}


def started(spec: ModelSpec, seed: int = 0) -> dict[str, Tensor]:
    model = Transformer(spec)
    initialize(model, seed)
    return {name: value.detach() for name, value in model.named_parameters()}


def is_residual_output(name: str) -> bool:
    return name.endswith(("o_proj.weight", "down_proj.weight"))


def test_gpt2_narrows_what_is_written_into_the_residual_stream() -> None:
    weights = started(spec("gpt2", **WIDE, initialization="gpt2", initializer_range=0.03))
    matrices = {name: value for name, value in weights.items() if value.dim() == 2}
    for name, value in matrices.items():
        wanted = 0.03 / 8**0.5 if is_residual_output(name) else 0.03
        assert value.std().item() == pytest.approx(wanted, rel=0.02), name
        assert abs(value.mean().item()) < wanted / 50, name
    assert sum(map(is_residual_output, matrices)) == 2 * 4


def test_normal_draws_every_matrix_alike() -> None:
    weights = started(spec("llama", **WIDE, tie_word_embeddings=False))
    for name, value in weights.items():
        if value.dim() == 2:
            assert value.std().item() == pytest.approx(0.02, rel=0.02), name
            assert value.abs().max() > 3.5 * 0.02, "a normal distribution has tails"


def test_truncated_normal_is_half_over_the_root_of_the_width_and_cut_at_three() -> None:
    weights = started(spec("smollm3", **WIDE, initialization="truncated_normal"))
    std = 0.5 / 16
    cut = 0.9866  # standard deviation of a unit normal cut at ±3
    for name, value in weights.items():
        if value.dim() == 2:
            assert value.std().item() == pytest.approx(cut * std, rel=0.02), name
            assert 2.8 * std < value.abs().max() <= 3 * std, name


def test_biases_start_at_zero_and_norms_at_one() -> None:
    for name in ("gpt2-tied", "qwen3-biases-untied", "smollm3-biases-untied"):
        vectors = {key: value for key, value in started(SPECS[name]).items() if value.dim() == 1}
        assert vectors
        for key, value in vectors.items():
            wanted = 0.0 if key.endswith("bias") else 1.0
            assert torch.equal(value, torch.full_like(value, wanted)), key


@pytest.mark.parametrize("name", SPECS)
def test_a_seed_gives_its_weights_again_and_another_seed_others(name: str) -> None:
    first, second, other = started(SPECS[name], 1), started(SPECS[name], 1), started(SPECS[name], 2)
    for key, value in first.items():
        assert torch.equal(value, second[key]), key
        assert value.dim() == 1 or not torch.equal(value, other[key]), key


def test_the_seed_of_the_process_is_neither_read_nor_moved() -> None:
    torch.manual_seed(1)
    model = Transformer(SPECS["gpt2-tied"])
    before = torch.get_rng_state()
    initialize(model, 3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(model.embed_tokens.weight, started(SPECS["gpt2-tied"], 3)["embed_tokens.weight"])
