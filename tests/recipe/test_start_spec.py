"""`model:` beside `init_from` never changes what the model computes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

import linnet.recipe  # noqa: F401
import tiny
from linnet.config import RequestError
from linnet.model import ModelSpec, Transformer, initialize, load_model, read_spec, save_model
from linnet.recipe import Recipe, load_recipe
from linnet.recipe.live import live
from linnet.recipe.recipe import as_yaml
from linnet.recipe.start_spec import MAY_CHANGE, _facts
from linnet.recipe.starts import check_start
from linnet.text import Tokenizer, train_tokenizer

SHAPE: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
}
STARTS: dict[str, dict[str, Any]] = {
    "llama": {"num_key_value_heads": 2, "rope_theta": 777.0, "norm_eps": 1e-6, "tie_word_embeddings": False,
              "attention_bias": True, "mlp_bias": True, "head_dim": 16},
    "smollm3": {"no_rope_layer_interval": 3, "rope_theta": 2e6, "norm_eps": 1e-4},
    "qwen3": {"head_dim": 32, "rope_theta": 1e6, "attention_bias": True},
    "gpt2": {"tie_word_embeddings": False, "norm_eps": 1e-3, "dropout": 0.2},
}  # fmt: skip
OTHERS: dict[str, list[dict[str, Any]]] = {
    "llama": [{"rope_theta": 1e4}, {"norm_eps": 1e-5}, {"tie_word_embeddings": True}, {"attention_bias": False},
              {"mlp_bias": False}, {"head_dim": 12}, {"num_key_value_heads": 4}, {"num_attention_heads": 8},
              {"architecture": "qwen3"}, {"hidden_size": 64}, {"num_hidden_layers": 2}, {"intermediate_size": 32},
              {"vocab_size": 320}],
    "smollm3": [{"no_rope_layer_interval": 0}, {"no_rope_layer_interval": 2}, {"scale_embeddings": True}],
    "qwen3": [{"head_dim": 12}, {"rope_theta": 1e4}, {"num_key_value_heads": 1}],
    "gpt2": [{"max_position_embeddings": 128}, {"tie_word_embeddings": True}, {"norm_eps": 1e-5}],
}  # fmt: skip
REFUSED = [(architecture, change) for architecture, changes in OTHERS.items() for change in changes]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(["The red fox walked to the river.", "Good night, grey owl."] * 20, 280)


@pytest.fixture
def start(tmp_path: Path, tokenizer: Tokenizer) -> Callable[..., Path]:
    """Writes a model folder of a specification."""

    def write(spec: ModelSpec, folder: Path = tmp_path / "start") -> Path:
        folder.mkdir(parents=True)
        model = Transformer(spec)
        initialize(model, 3)
        save_model(model, folder, eos_id=tokenizer.eos_id)
        tokenizer.save(folder)
        return folder

    return write


def spec_of(architecture: str, **more: Any) -> ModelSpec:
    return ModelSpec(**{"architecture": architecture, **SHAPE, **STARTS[architecture], **more})


def recipe(begins: Path, **model: Any) -> Recipe:
    """A recipe that begins with a model, beside a `model:` that says only this."""
    values = {
        "name": "begun",
        "model": model or None,
        "pretrain": {
            "duration": "1 steps", "train_batch_size": 2, "learning_rate": 0.001, "init_from": str(begins),
            "data": {"sources": ["nowhere.txt"], "sequence_length": 16},
        },
    }  # fmt: skip
    path = begins.parent / "begun.yaml"
    path.write_text(yaml.safe_dump(values))
    return load_recipe(str(path))


def needed(architecture: str, **more: Any) -> dict[str, Any]:
    """What a `model:` must say at least."""
    return {"architecture": architecture, **SHAPE, **more}


@pytest.mark.parametrize("architecture", STARTS)
def test_what_a_recipe_leaves_out_is_the_starts_own(architecture: str, start: Callable[..., Path]) -> None:
    folder = start(spec_of(architecture))
    begun = check_start(recipe(folder, **needed(architecture)), "pretrain")
    assert begun.spec == read_spec(folder)
    rows = torch.arange(40).view(2, 20)
    ours, theirs = load_model(folder, begun.spec).eval(), load_model(folder).eval()
    assert torch.equal(ours.logits(ours(rows)), theirs.logits(theirs(rows)))


@pytest.mark.parametrize("architecture", STARTS)
def test_a_recipe_may_repeat_what_the_start_says(architecture: str, start: Callable[..., Path]) -> None:
    folder = start(spec_of(architecture))
    said = needed(architecture, **STARTS[architecture], initializer_range=0.5, attention_dropout=0.3)
    begun = check_start(recipe(folder, **said), "pretrain")
    assert begun.spec == read_spec(folder).model_copy(
        update={"initializer_range": 0.5, "attention_dropout": 0.3}
    )


@pytest.mark.parametrize(("architecture", "change"), REFUSED)
def test_another_value_of_a_fact_is_refused_with_both(
    architecture: str, change: dict[str, Any], start: Callable[..., Path]
) -> None:
    folder = start(spec_of(architecture))
    with pytest.raises(RequestError) as caught:
        check_start(recipe(folder, **needed(architecture) | change), "pretrain")
    ((fact, said),) = change.items()
    found = getattr(read_spec(folder), fact)
    found = 4 if found is None else found  # as many key and value heads as heads
    assert f"its {fact} is {found} and the recipe's {said}" in caught.value.line()
    assert "pretrain.init_from=" in caught.value.line()


def test_a_recipe_may_change_what_is_no_part_of_the_function(start: Callable[..., Path]) -> None:
    folder = start(spec_of("llama"))
    free = {"dropout": 0.3, "attention_dropout": 0.2, "max_position_embeddings": 4096, "initializer_range": 0.1,
            "initialization": "truncated_normal"}  # fmt: skip
    begun = check_start(recipe(folder, **needed("llama") | free), "pretrain")
    assert begun.spec == read_spec(folder).model_copy(update=free)


def test_every_field_decides_the_function_or_may_be_changed() -> None:
    fields = set(ModelSpec.model_fields)
    for architecture in STARTS:
        assert _facts(spec_of(architecture)).keys() <= fields - set(MAY_CHANGE)
    decoder, gpt2 = (_facts(spec_of(architecture)).keys() for architecture in ("smollm3", "gpt2"))
    assert decoder | set(MAY_CHANGE) | {"max_position_embeddings"} == fields
    assert gpt2 | set(MAY_CHANGE) | {"rope_theta", "no_rope_layer_interval"} == fields


SCALED = {"scale_embeddings": True, "tie_word_embeddings": True}


def checkpoint(start: Callable[..., Path], spec: ModelSpec, folder: Path) -> Path:
    """A checkpoint as far as its manifest speaks of the model."""
    start(spec, folder / "model")
    manifest = {"format": 1, "step": 1, "files": {}, "model": spec.model_dump(mode="json")}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_a_checkpoint_begins_as_its_manifest_says(start: Callable[..., Path], tmp_path: Path) -> None:
    """Dropout and a tied, scaled embedding have no place in the stock form of a SmolLM3."""
    spec = spec_of("smollm3", **SCALED, dropout=0.25)
    folder = checkpoint(start, spec, tmp_path / "step-00000001")
    assert check_start(recipe(folder), "pretrain").spec == spec
    assert check_start(recipe(folder, **needed("smollm3")), "pretrain").spec == spec
    lowered = check_start(recipe(folder, **needed("smollm3", dropout=0.0)), "pretrain").spec
    assert lowered == spec.model_copy(update={"dropout": 0.0})
    with pytest.raises(RequestError, match="its scale_embeddings is True and the recipe's False"):
        check_start(recipe(folder, **needed("smollm3", scale_embeddings=False)), "pretrain")


def test_a_manifest_of_another_model_is_refused(start: Callable[..., Path], tmp_path: Path) -> None:
    folder = checkpoint(start, spec_of("llama"), tmp_path / "step-00000001")
    config = folder / "model" / "config.json"
    said = json.loads(config.read_text())
    said["rope_parameters"]["rope_theta"] = 5.0
    config.write_text(json.dumps(said))
    with pytest.raises(RequestError, match=r"its manifest says rope_theta 777\.0 and its config\.json 5\.0"):
        check_start(recipe(folder), "pretrain")


def test_an_untied_pair_is_a_scaled_embedding_only_where_it_was_made_of_one(
    start: Callable[..., Path],
) -> None:
    folder = start(spec_of("smollm3", **SCALED))
    assert check_start(recipe(folder), "pretrain").spec == read_spec(folder)
    asked = recipe(folder, **needed("smollm3", **SCALED))
    assert check_start(asked, "pretrain").spec == read_spec(folder).model_copy(update=SCALED)
    path = folder / "model.safetensors"
    save_file({**load_file(path), "lm_head.weight": torch.ones(300, 48)}, path)
    with pytest.raises(RequestError, match="its tie_word_embeddings is False and the recipe's True"):
        check_start(asked, "pretrain")


def test_weights_that_are_not_whole_are_refused_before_anything_is_written(
    start: Callable[..., Path], tmp_path: Path
) -> None:
    folder = start(spec_of("llama"))
    path = folder / "model.safetensors"
    state = load_file(path)
    del state["model.layers.2.mlp.up_proj.weight"]
    save_file(state, path)
    with pytest.raises(RequestError, match=r"layers\.2\.mlp\.up_proj\.weight is missing"):
        live(recipe(folder), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_written_recipe_begins_with_the_same_model(start: Callable[..., Path], tmp_path: Path) -> None:
    folder = start(spec_of("qwen3"))
    asked = recipe(folder, **needed("qwen3", dropout=0.1))
    path = tmp_path / "recipe.yaml"
    path.write_text(as_yaml(asked))
    again = load_recipe(str(path))
    assert again == asked
    assert check_start(again, "pretrain").spec == check_start(asked, "pretrain").spec


def test_a_run_goes_on_as_what_it_began_with(start: Callable[..., Path], tmp_path: Path) -> None:
    """The shape of a recipe that ships laid over a model of another base of rotation, untied."""
    folder = start(spec_of("llama", dropout=0.0))
    corpus = tiny.write_corpus(tmp_path / "text.txt", 60)
    values = tiny.values(corpus)
    del values["tokenizer"]
    values["model"] = needed("llama", dropout=0.1)
    values["pretrain"] |= {"init_from": str(folder), "duration": "2 steps", "save_steps": 1, "eval_steps": 0}
    values["pretrain"] |= {"warmup_steps": 0}
    path = tmp_path / "begun.yaml"
    path.write_text(yaml.safe_dump(values))
    for steps in (1, 2):
        run = load_recipe(str(path), [f"pretrain.duration={steps} steps"])
        assert live(run, tmp_path / "run") == "finished"
    (saved,) = sorted(tiny.checkpoints(tmp_path / "run").glob("step-*2"))
    kept = json.loads((saved / "manifest.json").read_text())["model"]
    assert kept == spec_of("llama", dropout=0.1).model_dump(mode="json") | {"num_key_value_heads": 2}
    assert read_spec(saved / "model").rope_theta == 777.0
