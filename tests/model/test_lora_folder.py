"""An adapter in a folder: it comes back to the last bit, and one that cannot be loaded is told in a line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from adapted import KINDS, grown, logits, settings, trained
from families import FOUR, SPECS, network, tokens
from safetensors.torch import load_file, save_file
from torch import Tensor

import tiny
from linnet.config import RequestError
from linnet.model import load_adapter, lora, save_adapter
from linnet.model.lora_folder import CONFIG, WEIGHTS, adapter_state


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with tiny.one_thread():
        yield


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FOUR)
def test_an_adapter_saved_and_loaded_is_the_same_to_the_last_bit(
    name: str, kind: str, tmp_path: Path
) -> None:
    model = trained(network(SPECS[name]), **KINDS[kind], lora_dropout=0.1, target_modules="all-linear")
    save_adapter(model, tmp_path / "adapter", "a/base")
    again = network(SPECS[name])
    found = load_adapter(again, tmp_path / "adapter")
    assert found == settings(**KINDS[kind], lora_dropout=0.1)
    assert torch.equal(logits(again), logits(model))
    assert tiny.same(adapter_state(again), adapter_state(model))
    assert lora.trainable_parameters(again).keys() == lora.trainable_parameters(model).keys()
    first = grown(model.train(), tokens(2, 16))
    assert tiny.same(grown(again.train(), tokens(2, 16)), first), "dropout comes back as well"


@pytest.mark.parametrize(
    ("name", "chosen", "written"),
    [
        ("llama-grouped-untied", "all-linear", "q_proj k_proj v_proj o_proj gate_proj up_proj down_proj"),
        ("gpt2-tied", ["c_proj"], "c_proj"),
        ("gpt2-tied", ["mlp.c_proj", "c_attn"], "c_attn mlp.c_proj"),
        ("gpt2-tied", ["h.1.mlp.c_fc"], "transformer.h.1.mlp.c_fc"),
    ],
)
def test_the_config_names_targets_as_short_as_they_are_clear(
    name: str, chosen: Any, written: str, tmp_path: Path
) -> None:
    save_adapter(trained(network(SPECS[name]), target_modules=chosen), tmp_path, "base")
    config = json.loads((tmp_path / CONFIG).read_text())
    assert config["target_modules"] == written.split()
    assert (config["r"], config["lora_alpha"], config["base_model_name_or_path"]) == (4, 8, "base")
    assert config["fan_in_fan_out"] == name.startswith("gpt2")


def test_a_second_adapter_and_saving_none_are_refused(tmp_path: Path) -> None:
    model = network(SPECS["gpt2-tied"])
    with pytest.raises(RequestError, match="has no adapter"):
        save_adapter(model, tmp_path, "base")
    lora.apply(model, settings(), 0)
    with pytest.raises(RequestError, match="has an adapter already; merge it first"):
        lora.apply(model, settings(), 0)


def _config(**changes: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        config = json.loads((folder / CONFIG).read_text())
        (folder / CONFIG).write_text(json.dumps(config | changes))

    return edit


def _weights(change: Callable[[dict[str, Tensor]], object]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        state = load_file(folder / WEIGHTS)
        change(state)
        save_file(state, folder / WEIGHTS)

    return edit


def _pickle(folder: Path) -> None:
    torch.save(load_file(folder / WEIGHTS), folder / "adapter_model.bin")
    (folder / WEIGHTS).unlink()


_Q = "base_model.model.model.layers.0.self_attn.q_proj"
DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda f: (f / CONFIG).unlink(), "there is no adapter here"),
    "broken JSON": (lambda f: (f / CONFIG).write_text("{"), "not valid JSON"),
    "binary config": (lambda f: (f / CONFIG).write_bytes(b"\xff\xfe\x00"), "not valid JSON"),
    "JSON of another kind": (lambda f: (f / CONFIG).write_text("[1]"), "not an adapter's configuration"),
    "another method": (_config(peft_type="IA3"), "peft_type is 'IA3', and only LORA"),
    "no method": (_config(peft_type=None), "peft_type is None"),
    "trained biases": (_config(bias="lora_only"), "trained biases"),
    "pair biases": (_config(lora_bias=True), "uses lora_bias"),
    "whole layers": (_config(modules_to_save=["lm_head"]), "uses modules_to_save"),
    "unknown feature": (_config(use_something_new=True), "uses use_something_new"),
    "changed base": (_config(init_lora_weights="pissa_niter_4"), "'pissa_niter_4' changes the base"),
    "no rank": (_config(r=0), "r: input should be greater than 0"),
    "another rank": (_config(r=5), "lora_A is (4, 96) and should be (5, 96)"),
    "broken pattern": (_config(rank_pattern={"(q_proj": 4}), "cannot be read"),
    "pattern of another kind": (_config(alpha_pattern=["q_proj"]), "cannot be read"),
    "DoRA without lengths": (_config(use_dora=True), "lora_magnitude_vector is missing"),
    "lengths without DoRA": (
        _weights(lambda s: s.update({f"{_Q}.lora_magnitude_vector": torch.ones(48)})),
        "lora_magnitude_vector is (48,) and should be absent",
    ),
    "half a pair": (_weights(lambda s: s.pop(f"{_Q}.lora_B.weight")), "q_proj.lora_B is missing"),
    "another base": (
        _weights(lambda s: s.update({f"{_Q}.lora_A.weight": torch.ones(4, 64)})), "lora_A is (4, 64)"
    ),
    "more layers": (
        _weights(lambda s: s.update({f"{_Q.replace('.0.', '.9.')}.lora_A.weight": torch.ones(4, 48)})),
        "layers.9.self_attn.q_proj.lora_A.weight has no place in a llama",
    ),
    "a whole layer": (
        _weights(lambda s: s.update({"base_model.model.lm_head.weight": torch.ones(1)})), "has no place"
    ),
    "nothing": (_weights(lambda s: s.clear()), "holds no tensors"),
    "cut short": (
        lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes()[:-10]), "cannot be read"
    ),
    "no weights": (lambda f: (f / WEIGHTS).unlink(), "adapter_model.safetensors is missing"),
    "pickled weights": (_pickle, "adapter_model.bin is pickled, which is never read"),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGE)
def test_an_adapter_that_cannot_be_loaded_is_told_in_one_line_and_the_model_is_as_it_was(
    case: str, tmp_path: Path
) -> None:
    save_adapter(trained(network(SPECS["llama-grouped-untied"])), tmp_path, "base")
    damage, words = DAMAGE[case]
    damage(tmp_path)
    model = network(SPECS["llama-grouped-untied"])
    with pytest.raises(RequestError) as refusal:
        load_adapter(model, tmp_path)
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert not lora.adapters(model)
    assert all(parameter.requires_grad for parameter in model.parameters())
