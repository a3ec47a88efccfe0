"""A folder gives back what was put in, to the bit, or says in one line why it cannot."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from families import SPECS, edit_config, network, tokens
from safetensors.torch import load_file, save_file

from linnet.config import RequestError
from linnet.model import load_model, save_model


@pytest.mark.parametrize("name", SPECS)
def test_saving_and_loading_is_exact_to_the_bit(name: str, tmp_path: Path) -> None:
    spec = SPECS[name]
    before = network(spec)
    save_model(before, tmp_path, eos_id=0)
    after = load_model(tmp_path, spec)
    weights = dict(before.named_parameters())
    assert set(weights) == {name for name, _ in after.named_parameters()}
    for key, value in after.named_parameters():
        assert torch.equal(value, weights[key]), key
        assert value.requires_grad


def test_a_folded_scaled_embedding_computes_the_same_bits_untied(tmp_path: Path) -> None:
    before = network(SPECS["smollm3-scaled-tied"])
    save_model(before, tmp_path, eos_id=0)
    after = load_model(tmp_path).eval()
    assert not after.spec.tie_word_embeddings
    assert not after.spec.scale_embeddings
    rows = tokens(2, 20)
    assert torch.equal(after.logits(after(rows)), before.logits(before(rows)))


def test_the_folded_pair_is_two_matrices_in_the_folder(tmp_path: Path) -> None:
    spec = SPECS["smollm3-scaled-tied"]
    save_model(network(spec), tmp_path, eos_id=0)
    state = load_file(tmp_path / "model.safetensors")
    scaled = state["lm_head.weight"] * spec.hidden_size**0.5
    torch.testing.assert_close(state["model.embed_tokens.weight"], scaled)


def test_a_folder_records_its_special_tokens(tmp_path: Path) -> None:
    save_model(network(SPECS["gpt2-tied"]), tmp_path, eos_id=5, bos_id=3, pad_id=4)
    for name in ("config.json", "generation_config.json"):
        read = json.loads((tmp_path / name).read_text())
        assert (read["eos_token_id"], read["bos_token_id"], read["pad_token_id"]) == (5, 3, 4)


def _refusal(folder: Path) -> str:
    with pytest.raises(RequestError) as caught:
        load_model(folder)
    line = caught.value.line()
    assert "\n" not in line
    assert str(folder) in line
    return line


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(network(SPECS["smollm3-biases-untied"]), tmp_path, eos_id=0)
    return tmp_path


REFUSED_CONFIGURATIONS: dict[str, tuple[dict[str, Any], str]] = {
    "rope scaling": (
        {"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4}},
        "rope scaling",
    ),
    "old rope scaling": (
        {"rope_parameters": None, "rope_scaling": {"type": "linear", "factor": 2.0}},
        "linear",
    ),
    "sliding window": ({"use_sliding_window": True, "sliding_window": 64}, "sliding-window"),
    "quantised": ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "quantised"),
    "activation": ({"hidden_act": "gelu_new"}, "activation 'gelu_new'"),
    "partial rotation": ({"partial_rotary_factor": 0.5}, "partly rotated"),
    "unknown type": ({"model_type": "mamba"}, "'mamba' is not one of gpt2, llama"),
    "no type": ({"model_type": None}, "is not one of"),
    "irregular NoPE": ({"no_rope_layers": [0, 1, 0]}, "regular interval"),
    "missing key": ({"hidden_size": None}, "'hidden_size' is missing"),
    "impossible heads": ({"num_key_value_heads": 3}, "does not divide by num_key_value_heads 3"),
    "wrong type": ({"vocab_size": "many"}, "vocab_size"),
    "null inside": ({"rope_parameters": 7}, "not a model's configuration"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED_CONFIGURATIONS)
def test_a_model_that_cannot_be_computed_exactly_is_refused_by_name(case: str, folder: Path) -> None:
    changes, words = REFUSED_CONFIGURATIONS[case]
    edit_config(folder, **changes)
    assert words in _refusal(folder)


def test_gpt2_with_another_activation_or_scale_is_refused(tmp_path: Path) -> None:
    save_model(network(SPECS["gpt2-tied"]), tmp_path, eos_id=0)
    edit_config(tmp_path, activation_function="silu")
    assert "activation 'silu'" in _refusal(tmp_path)
    edit_config(tmp_path, activation_function="gelu_new", scale_attn_weights=False)
    assert "attention scale" in _refusal(tmp_path)


def _weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / "model.safetensors"
        state = load_file(path)
        change(state)
        save_file(state, path)

    return damage


def _cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def _flip_header(folder: Path) -> None:
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[20] ^= 0xFF
    path.write_bytes(bytes(content))


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing weight": (_weights(lambda s: s.pop("model.norm.weight")), "norm.weight is missing"),
    "missing head": (_weights(lambda s: s.pop("lm_head.weight")), "lm_head.weight is missing"),
    "wrong shape": (_weights(lambda s: s.update({"model.norm.weight": torch.ones(5)})), "is (5,) and"),
    "extra weight": (_weights(lambda s: s.update({"model.extra": torch.ones(1)})), "no place for"),
    "cut short": (_cut, "cannot be read"),
    "flipped byte in the header": (_flip_header, "cannot be read"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "model.safetensors is missing"),
    "no configuration": (lambda f: (f / "config.json").unlink(), "no config.json"),
    "broken JSON": (lambda f: (f / "config.json").write_text('{"model_type": '), "not valid JSON"),
    "JSON of another kind": (lambda f: (f / "config.json").write_text("[1]"), "not a model's configuration"),
    "binary configuration": (lambda f: (f / "config.json").write_bytes(b"\xff\xfe\x00"), "config.json"),
    "broken index": (lambda f: (f / "model.safetensors.index.json").write_text("{}"), "not an index"),
    "absent shard": (
        lambda f: (f / "model.safetensors.index.json").write_text('{"weight_map": {"": "gone.safetensors"}}'),
        "gone.safetensors is missing",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_folder_is_told_in_one_line(case: str, folder: Path) -> None:
    damage, words = DAMAGE[case]
    damage(folder)
    assert words in _refusal(folder)


def test_pickled_weights_are_never_read(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    assert "safetensors" in _refusal(folder)
