"""Stock, both ways: what transformers computes from a folder is what our network computes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from families import SPECS, edit_config, greedy, network, shake, their_greedy, tokens
from safetensors.torch import load_file, save_file

from linnet.model import ModelSpec, Transformer, load_model, read_spec, save_model
from linnet.model.stock_config import stock_config

transformers = pytest.importorskip("transformers")


def theirs_of(spec: ModelSpec, seed: int = 3) -> Any:
    """transformers' own model, of its own random weights."""
    values = stock_config(spec, eos_id=0)
    config = transformers.AutoConfig.for_model(values.pop("model_type"), **values)
    model = transformers.AutoModelForCausalLM.from_config(config)
    shake(model, seed)
    return model.eval()


@torch.inference_mode()
def assert_same_function(ours: Transformer, theirs: Any) -> None:
    rows = tokens(3, 40)
    expected = theirs(rows).logits
    assert expected.std() > 0.5, "logits this flat would hide a mistake"
    torch.testing.assert_close(ours.logits(ours(rows)), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", SPECS)
def test_transformers_computes_our_logits_and_greedy_tokens_from_our_folder(
    name: str, tmp_path: Path
) -> None:
    ours = network(SPECS[name])
    save_model(ours, tmp_path, eos_id=0)
    theirs, report = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert_same_function(ours, theirs.eval())
    prompt = tokens(1, 12)[0]
    chosen = greedy(ours, prompt, 200)
    assert len(set(chosen)) > 2, "a constant answer would hide a mistake"
    assert chosen == their_greedy(theirs, prompt, 200)


@pytest.mark.parametrize("name", [name for name in SPECS if "scaled" not in name])
def test_our_network_computes_transformers_logits_and_greedy_tokens_from_its_folder(
    name: str, tmp_path: Path
) -> None:
    theirs = theirs_of(SPECS[name])
    theirs.save_pretrained(tmp_path)
    ours = load_model(tmp_path).eval()
    assert_same_function(ours, theirs)
    prompt = tokens(1, 12, seed=7)[0]
    assert greedy(ours, prompt, 200) == their_greedy(theirs, prompt, 200)


@pytest.mark.parametrize("name", SPECS)
def test_the_specification_survives_both_ways(name: str, tmp_path: Path) -> None:
    spec = SPECS[name]
    theirs_of(spec).save_pretrained(tmp_path)
    back = read_spec(tmp_path)
    changed = {"scale_embeddings", "initialization", "num_key_value_heads", "head_dim"}
    if spec.scale_embeddings:
        changed.add("tie_word_embeddings")  # folded into an untied pair
    assert back.model_dump(exclude=changed) == spec.model_dump(exclude=changed)
    assert (back.key_value_heads, back.head_size) == (spec.key_value_heads, spec.head_size)


@pytest.mark.parametrize("name", ["gpt2-untied", "llama-biases-tied"])
def test_a_folder_saved_in_bf16_is_read_in_fp32(name: str, tmp_path: Path) -> None:
    theirs_of(SPECS[name]).bfloat16().save_pretrained(tmp_path)
    ours = load_model(tmp_path).eval()
    assert {p.dtype for p in ours.parameters()} == {torch.float32}
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    assert_same_function(ours, theirs.eval())


@pytest.mark.parametrize("name", ["gpt2-tied", "qwen3-biases-untied"])
def test_our_bf16_folder_holds_our_weights_rounded(name: str, tmp_path: Path) -> None:
    ours = network(SPECS[name])
    save_model(ours, tmp_path, eos_id=0, dtype=torch.bfloat16)
    assert transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype="auto").dtype == torch.bfloat16
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    assert_same_function(ours.bfloat16().float(), theirs.eval())


@pytest.mark.parametrize("name", ["gpt2-tied", "smollm3-biases-untied"])
def test_sharded_safetensors_are_read(name: str, tmp_path: Path) -> None:
    theirs = theirs_of(SPECS[name])
    theirs.save_pretrained(tmp_path, max_shard_size="40KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    assert_same_function(load_model(tmp_path).eval(), theirs)


@pytest.mark.parametrize("name", ["llama-grouped-untied", "qwen3-wide-heads-tied"])
def test_a_configuration_of_transformers_4_is_read(name: str, tmp_path: Path) -> None:
    """There rope_theta stands at the top and no rope_parameters, and head_dim may be left out."""
    theirs = theirs_of(SPECS[name].model_copy(update={"rope_theta": 321.0}))
    theirs.save_pretrained(tmp_path)
    hidden, heads = theirs.config.hidden_size, theirs.config.num_attention_heads
    implied = theirs.config.head_dim == hidden // heads
    edit_config(
        tmp_path,
        rope_parameters=None,
        rope_theta=321.0,
        torch_dtype="float32",
        head_dim=None if implied else theirs.config.head_dim,
    )
    assert read_spec(tmp_path).rope_theta == 321.0
    assert_same_function(load_model(tmp_path).eval(), theirs)


@pytest.mark.parametrize("name", ["llama-biases-tied", "smollm3-biases-untied", "qwen3-biases-untied"])
def test_what_a_configuration_leaves_out_is_what_transformers_assumes(name: str, tmp_path: Path) -> None:
    shown = {"rope_parameters", "rope_theta", "rms_norm_eps", "no_rope_layers", "no_rope_layer_interval"}
    shown |= {"tie_word_embeddings", "attention_bias", "mlp_bias", "hidden_act", "initializer_range"}
    save_model(network(SPECS[name]), tmp_path, eos_id=0)
    edit_config(tmp_path, **dict.fromkeys(shown))
    (tmp_path / "model.safetensors").unlink()  # an own head there would untie
    assumed = transformers.AutoConfig.from_pretrained(tmp_path)
    spec = read_spec(tmp_path)
    assert spec.rope_theta == assumed.rope_parameters["rope_theta"]
    assert spec.norm_eps == assumed.rms_norm_eps
    assert spec.tie_word_embeddings == assumed.tie_word_embeddings
    assert (spec.attention_bias, spec.mlp_bias) == (
        assumed.attention_bias,
        getattr(assumed, "mlp_bias", False),
    )
    if spec.architecture == "smollm3":
        flags = [int(spec.uses_rope(layer)) for layer in range(spec.num_hidden_layers)]
        assert flags == assumed.no_rope_layers


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    path = folder / "model.safetensors"
    state = load_file(path)
    change(state)
    save_file(state, path, metadata={"format": "pt"})


@pytest.mark.parametrize("name", ["gpt2-tied", "llama-biases-tied", "qwen3-wide-heads-tied"])
def test_a_tied_pair_is_read_as_transformers_reads_it(name: str, tmp_path: Path) -> None:
    """Two matrices that differ are not tied, equal ones are, and one under the head's name is both."""
    ours = network(SPECS[name])
    save_model(ours, tmp_path, eos_id=0)
    (table,) = (
        key for key in load_file(tmp_path / "model.safetensors") if "embed_tokens" in key or "wte" in key
    )

    def check(tied: bool) -> None:
        theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
        assert (theirs.get_input_embeddings().weight is theirs.get_output_embeddings().weight) is tied
        assert read_spec(tmp_path).tie_word_embeddings is tied
        assert_same_function(load_model(tmp_path).eval(), theirs)

    edit_weights(tmp_path, lambda state: state.update({"lm_head.weight": state[table].clone()}))
    check(tied=True)
    edit_weights(tmp_path, lambda state: state.update({"lm_head.weight": state[table].double()}))
    check(tied=True)
    edit_weights(tmp_path, lambda state: state.update({"lm_head.weight": state[table].bfloat16()}))
    check(tied=False)
    edit_weights(tmp_path, lambda state: state.update({"lm_head.weight": state[table].clone()}))
    edit_weights(tmp_path, lambda state: state.pop(table))
    check(tied=True)
    edit_weights(tmp_path, lambda state: state.update({table: state["lm_head.weight"].flip(0).contiguous()}))
    check(tied=False)


@pytest.mark.parametrize("name", ["gpt2-tied", "llama-biases-tied"])
def test_weights_without_the_prefix_of_the_stock_class_are_read(name: str, tmp_path: Path) -> None:
    theirs = theirs_of(SPECS[name])
    theirs.base_model.save_pretrained(tmp_path)
    assert not any(
        key.startswith(("model.", "transformer.")) for key in load_file(tmp_path / "model.safetensors")
    )
    assert_same_function(load_model(tmp_path).eval(), theirs)


def test_a_single_file_beside_an_index_of_other_shards_is_what_transformers_reads(tmp_path: Path) -> None:
    theirs_of(SPECS["llama-grouped-untied"], seed=4).save_pretrained(tmp_path, max_shard_size="40KB")
    save_model(network(SPECS["llama-grouped-untied"]), tmp_path, eos_id=0)
    assert (tmp_path / "model.safetensors.index.json").exists()
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    assert_same_function(load_model(tmp_path).eval(), theirs.eval())
