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
        "rope_parameters.rope_type 'yarn'",
    ),
    "old rope scaling": (
        {"rope_scaling": {"type": "linear", "factor": 2.0}},
        "rope_scaling.rope_type 'linear'",
    ),
    "rope by layer type": (
        {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 9.0}}},
        "rope_parameters.full_attention",
    ),
    "no base of rotation": (
        {"rope_parameters": {"rope_type": "default", "rope_theta": "1e4"}},
        "rope_theta is '1e4'",
    ),
    "sliding window": ({"use_sliding_window": True, "sliding_window": 64}, "use_sliding_window True"),
    "sliding layers": (
        {"layer_types": ["full_attention", "sliding_attention", "full_attention"]},
        "layer_types 'sliding_attention'",
    ),
    "too few layer types": ({"layer_types": ["full_attention"]}, "layer_types has 1 entries for 3 layers"),
    "not causal": ({"is_causal": False}, "is_causal False"),
    "layers of their own": ({"per_layer_config": {"1": {"intermediate_size": 12}}}, "per_layer_config"),
    "weights elsewhere": ({"transformers_weights": "other.safetensors"}, "transformers_weights"),
    "soft caps": ({"attn_logit_softcapping": 50.0}, "attn_logit_softcapping 50.0"),
    "quantised": ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "quantization_config"),
    "activation": ({"hidden_act": "gelu_new"}, "hidden_act 'gelu_new'"),
    "partial rotation": ({"partial_rotary_factor": 0.5}, "partial_rotary_factor 0.5"),
    "unknown type": ({"model_type": "mamba"}, "'mamba' is not one of gpt2, llama"),
    "no type": ({"model_type": None}, "is not one of"),
    "a list of types": ({"model_type": ["llama"]}, "is not one of"),
    "irregular NoPE": ({"no_rope_layers": [0, 1, 0]}, "no_rope_layers are not at a regular interval"),
    "too few NoPE flags": ({"no_rope_layers": []}, "no_rope_layers has 0 entries for 3 layers"),
    "an interval of none": (
        {"no_rope_layers": None, "no_rope_layer_interval": 0},
        "no_rope_layer_interval is 0",
    ),
    "missing key": ({"hidden_size": None}, "(97, 48) and the model wants (97, 2048)"),
    "impossible heads": ({"num_key_value_heads": 3}, "does not divide by num_key_value_heads 3"),
    "wrong type": ({"vocab_size": "many"}, "vocab_size is 'many', and should be a whole number"),
    "a broken number": ({"num_hidden_layers": 3.0}, "num_hidden_layers is 3.0"),
    "a number for a switch": (
        {"tie_word_embeddings": 1},
        "tie_word_embeddings is 1, and should be true or false",
    ),
    "a giant": ({"intermediate_size": 10**30}, "which no model has"),
    "giants": ({"hidden_size": 2**31 - 1, "head_dim": 2**30}, "beyond any model"),
    "layers without end": (
        {"num_hidden_layers": 2**31 - 1, "no_rope_layers": None},
        "num_hidden_layers is 2147483647, which no model has",
    ),
    "more layers than weights": ({"num_hidden_layers": 99_999, "no_rope_layers": None}, "layers.3."),
    "a configuration inside": ({"text_config": {"hidden_size": 3}}, "text_config"),
    "rope of another kind": ({"rope_parameters": 7}, "rope_parameters is 7, and should be a mapping"),
}


@pytest.mark.parametrize("case", REFUSED_CONFIGURATIONS)
def test_a_model_that_cannot_be_computed_exactly_is_refused_by_name(case: str, folder: Path) -> None:
    changes, words = REFUSED_CONFIGURATIONS[case]
    edit_config(folder, **changes)
    assert words in _refusal(folder)


def test_gpt2_with_another_activation_or_scale_is_refused(tmp_path: Path) -> None:
    save_model(network(SPECS["gpt2-tied"]), tmp_path, eos_id=0)
    edit_config(tmp_path, activation_function="silu")
    assert "activation_function 'silu'" in _refusal(tmp_path)
    edit_config(tmp_path, activation_function="gelu_new", scale_attn_weights=False)
    assert "scale_attn_weights False" in _refusal(tmp_path)


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


def _shards(content: str) -> Callable[[Path], None]:
    """No single file, and an index of this content beside the weights under another name."""

    def damage(folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / "part.safetensors")
        (folder / "model.safetensors.index.json").write_text(content)

    return damage


def _index(name: object) -> Callable[[Path], None]:
    return _shards(json.dumps({"weight_map": {"model.norm.weight": name}}))


def _two_shards(folder: Path) -> None:
    _index("part.safetensors")(folder)
    save_file({"model.norm.weight": torch.ones(48)}, folder / "more.safetensors")
    names = {"model.norm.weight": "part.safetensors", "lm_head.weight": "more.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))


def _pickled(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / "model.safetensors"
        torch.save(load_file(path), folder / name)
        path.unlink()

    return damage


Q = "model.layers.1.self_attn.q_proj.weight"
DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing weight": (_weights(lambda s: s.pop("model.norm.weight")), "model.norm.weight is missing"),
    "missing head": (_weights(lambda s: s.pop("lm_head.weight")), "weight lm_head.weight is missing"),
    "missing layer": (_weights(lambda s: s.pop(Q)), f"{Q} is missing"),
    "wrong shape": (_weights(lambda s: s.update({"model.norm.weight": torch.ones(5)})), "is (5,) and"),
    "a number": (_weights(lambda s: s.update({Q: torch.tensor(1.0)})), f"{Q} is () and"),
    "three axes": (_weights(lambda s: s.update({Q: torch.ones(2, 2, 2)})), f"{Q} is (2, 2, 2) and"),
    "whole numbers": (_weights(lambda s: s.update({Q: s[Q].long()})), f"{Q} is in int64"),
    "float8": (_weights(lambda s: s.update({Q: s[Q].to(torch.float8_e4m3fn)})), f"{Q} is in float8_e4m3fn"),
    "float8 of another kind": (
        _weights(lambda s: s.update({"lm_head.weight": s["lm_head.weight"].to(torch.float8_e5m2)})),
        "lm_head.weight is in float8_e5m2",
    ),
    "extra weight": (_weights(lambda s: s.update({"model.extra": torch.ones(1)})), "model.extra first"),
    "extra layer": (
        _weights(lambda s: s.update({Q.replace("1", "3"): s[Q].clone()})),
        f"{Q.replace('1', '3')} first",
    ),
    "one weight by two names": (
        _weights(lambda s: s.update({"norm.weight": torch.ones(48)})),
        "norm.weight are one weight",
    ),
    "cut short": (_cut, "cannot be read"),
    "flipped byte in the header": (_flip_header, "cannot be read"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "model.safetensors is missing"),
    "pickled weights": (
        _pickled("pytorch_model.bin"),
        "pickled (pytorch_model.bin), which Linnet never reads",
    ),
    "pickled shards": (
        _pickled("pytorch_model-00001-of-00001.bin"),
        "pickled (pytorch_model-00001-of-00001.bin)",
    ),
    "no configuration": (lambda f: (f / "config.json").unlink(), "no config.json"),
    "broken JSON": (lambda f: (f / "config.json").write_text('{"model_type": '), "not valid JSON"),
    "JSON of another kind": (lambda f: (f / "config.json").write_text("[1]"), "not a model's configuration"),
    "a number of ten thousand digits": (
        lambda f: (f / "config.json").write_text('{"vocab_size": ' + "9" * 10_000 + "}"),
        "not a model's configuration",
    ),
    "brackets without end": (
        lambda f: (f / "config.json").write_text("[" * 100_000),
        "not a model's configuration",
    ),
    "binary configuration": (lambda f: (f / "config.json").write_bytes(b"\xff\xfe\x00"), "config.json"),
    "broken index": (_shards("{}"), "not an index"),
    "index of another kind": (_shards('{"weight_map": ["part.safetensors"]}'), "not an index"),
    "absent shard": (_index("gone.safetensors"), "gone.safetensors is missing"),
    "shard outside": (_index("../part.safetensors"), 'it names "../part.safetensors"'),
    "shard far outside": (_index("a/../../part.safetensors"), 'it names "a/../../part.safetensors"'),
    "absolute shard": (_index("/tmp/part.safetensors"), 'it names "/tmp/part.safetensors"'),
    "shard of another system": (_index("C:\\part.safetensors"), "it names"),
    "pickled shard": (_index("pytorch_model.bin"), 'it names "pytorch_model.bin"'),
    "shard without a name": (_index(None), "it names null"),
    "numbered shard": (_index(7), "it names 7"),
    "listed shard": (_index(["part.safetensors"]), 'it names ["part.safetensors"]'),
    "one weight in two shards": (_two_shards, "model.norm.weight is in another shard as well"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_folder_is_told_in_one_line(case: str, folder: Path) -> None:
    damage, words = DAMAGE[case]
    damage(folder)
    assert words in _refusal(folder)


@pytest.mark.parametrize(
    "content", [None, {"weight_map": {"": "gone.safetensors"}}, {"weight_map": {"": "../x"}}, 7]
)
def test_a_single_file_is_read_whatever_an_index_says(content: object, folder: Path) -> None:
    before = load_file(folder / "model.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps(content))
    assert torch.equal(load_model(folder).head_weight, before["lm_head.weight"])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_every_common_precision_is_read_in_fp32(dtype: torch.dtype, folder: Path) -> None:
    path = folder / "model.safetensors"
    before = {name: value.to(dtype) for name, value in load_file(path).items()}
    save_file(before, path)
    head = load_model(folder).head_weight
    assert head.dtype == torch.float32
    assert torch.equal(head, before["lm_head.weight"].float())


@pytest.mark.parametrize("dtype", [torch.int64, torch.float8_e4m3fn])
def test_a_tied_pair_in_a_type_that_is_not_read_is_told(dtype: torch.dtype, tmp_path: Path) -> None:
    save_model(network(SPECS["qwen3-wide-heads-tied"]), tmp_path, eos_id=0)
    path = tmp_path / "model.safetensors"
    state = load_file(path)
    table = state["model.embed_tokens.weight"].to(dtype)
    save_file({**state, "model.embed_tokens.weight": table, "lm_head.weight": table.clone()}, path)
    assert "model.embed_tokens.weight is in" in _refusal(tmp_path)


def test_gpt2_weights_of_odd_shapes_are_told(tmp_path: Path) -> None:
    save_model(network(SPECS["gpt2-tied"]), tmp_path, eos_id=0)
    name = "transformer.h.0.attn.c_attn.weight"
    whole = load_file(tmp_path / "model.safetensors")
    for value in (torch.tensor(1.0), torch.ones(5), torch.ones(1), torch.ones(2, 3, 4)):
        save_file({**whole, name: value}, tmp_path / "model.safetensors")
        assert f"{name} is {tuple(value.shape)} and" in _refusal(tmp_path)


def test_a_scaled_embedding_that_is_not_its_head_scaled_is_told(tmp_path: Path) -> None:
    spec = SPECS["smollm3-scaled-tied"]
    save_model(network(spec), tmp_path, eos_id=0)
    path = tmp_path / "model.safetensors"
    save_file({**load_file(path), "model.embed_tokens.weight": torch.ones(97, 48)}, path)
    with pytest.raises(RequestError, match="its embedding is not its head, scaled"):
        load_model(tmp_path, spec)


@pytest.mark.parametrize("content", [{"base_model_name_or_path": "someone/base-7b"}, {}, []])
def test_an_adapter_is_told_with_its_base(content: Any, folder: Path) -> None:
    (folder / "adapter_config.json").write_text(json.dumps(content))
    of = " of someone/base-7b" if "base_model_name_or_path" in content else ""
    assert f"a PEFT adapter{of} lies beside this model" in _refusal(folder)
    (folder / "config.json").unlink()
    assert f"this is a PEFT adapter{of}, not a whole model; merge it into its base" in _refusal(folder)
