"""The recipes that ship are what they are said to be, and any recipe reads back as it was written."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

import tiny
from linnet.config import RequestError
from linnet.model import count_parameters
from linnet.recipe import Recipe, RunFolder, as_yaml, load_recipe, read_recipe, shipped
from linnet.recipe.folder import _leaves, _may_change


@dataclasses.dataclass(frozen=True)
class Row:
    """What the documentation says of a recipe; `millions` of parameters, to one of the last digit written there."""

    architecture: str
    shape: tuple[int, int, int, int, int]  # hidden, layers, heads, key and value heads, feed-forward
    context: int
    vocab_size: int
    millions: float
    last_digit: float = 0.1
    without_embeddings: float | None = None


TABLE = {
    "tinystories-30m": Row("gpt2", (384, 6, 6, 6, 1536), 128, 50257, 30.0),
    "smol-160m": Row("smollm3", (768, 18, 12, 4, 2048), 2048, 32000, 137.8),
    "smol-600m": Row("smollm3", (1536, 24, 12, 4, 4096), 2048, 32000, 653, 1),
    "dense-180m": Row("qwen3", (768, 32, 12, 4, 2048), 2048, 32768, 226, 1, 201),
    "gpt2-1b": Row("gpt2", (1536, 24, 24, 24, 6144), 2048, 50000, 759, 1),
    "slm-1.3b": Row("llama", (2048, 24, 16, 16, 5504), 2048, 50257, 1320, 10),
}


def test_seven_recipes_ship_smallest_first() -> None:
    assert set(shipped()) == {"quickstart", *TABLE}
    sizes = [count_parameters(load_recipe(name).model).total for name in shipped()]
    assert sizes == sorted(sizes)


@pytest.mark.parametrize("name", TABLE)
def test_shapes_and_parameters_are_those_of_the_table(name: str) -> None:
    row, model = TABLE[name], load_recipe(name).model
    assert model.architecture == row.architecture
    shape = (model.hidden_size, model.num_hidden_layers, model.num_attention_heads, model.key_value_heads,
             model.intermediate_size)  # fmt: skip
    assert shape == row.shape
    assert (model.max_position_embeddings, model.vocab_size) == (row.context, row.vocab_size)
    count = count_parameters(model)
    assert count.total / 1e6 == pytest.approx(row.millions, abs=row.last_digit)
    if row.without_embeddings:
        assert count.without_embeddings / 1e6 == pytest.approx(row.without_embeddings, abs=row.last_digit)


def test_marks_of_the_recipes() -> None:
    each = {name: load_recipe(name) for name in shipped()}
    assert 1e6 < count_parameters(each["quickstart"].model).total < 4e6
    stories = each["tinystories-30m"]
    assert (stories.model.dropout, stories.pretrain.lr_scheduler_type) == (0.1, "cosine")
    assert stories.pretrain.early_stopping_patience > 0
    for name in ("smol-160m", "smol-600m"):
        model, stage = each[name].model, each[name].pretrain
        assert model.tie_word_embeddings
        assert model.scale_embeddings
        assert (model.no_rope_layer_interval, model.initialization) == (4, "truncated_normal")
        assert (stage.lr_scheduler_type, stage.data.document_mask) == ("wsd", True)
    dense = each["dense-180m"]
    assert (dense.pretrain.learning_rate, dense.pretrain.lr_scheduler_type) == (3e-3, "cosine")
    assert dense.model.qk_norm
    assert dense.model.tie_word_embeddings
    assert not dense.model.attention_bias
    assert each["gpt2-1b"].hardware.precision == "fp16"
    assert each["slm-1.3b"].pretrain.gradient_checkpointing


@pytest.mark.parametrize("name", shipped())
def test_the_resolved_recipe_reads_back_equal(name: str, tmp_path: Path) -> None:
    for number, changes in enumerate(
        ([], ["pretrain.duration=10B tokens"], ["pretrain.duration=1.5 epochs"])
    ):
        recipe = load_recipe(name, changes)
        path = tmp_path / f"{number}.yaml"
        path.write_text(as_yaml(recipe))
        assert load_recipe(str(path)) == recipe
    assert set(yaml.safe_load(as_yaml(recipe))) == set(Recipe.model_fields), "every default is filled in"


def test_overrides_win_and_leave_the_rest() -> None:
    plain = load_recipe("quickstart")
    changed = load_recipe("quickstart", [
        "pretrain.learning_rate=1e-3", "pretrain.learning_rate=2e-3", "model.dropout=0.1", "tokenizer=gpt2",
        "model.vocab_size=50257", "pretrain.sample_prompts=[a, 'b c']", "hardware.compile=false",
        "pretrain.data.sources=stories/*.txt",
    ])  # fmt: skip
    assert changed.pretrain.learning_rate == 2e-3
    assert changed.pretrain.sample_prompts == ["a", "b c"]
    assert changed.tokenizer.name == "gpt2"
    assert changed.hardware.compile is False
    assert [source.path for source in changed.pretrain.data.sources] == ["stories/*.txt"]
    keys = ("learning_rate", "sample_prompts", "data")
    same = {key: value for key, value in changed.pretrain if key not in keys}
    assert same == {key: value for key, value in plain.pretrain if key not in keys}


def test_a_recipe_builds_on_another(tmp_path: Path) -> None:
    first = tmp_path / "first.yaml"
    first.write_text("base: quickstart\nname: first\nmodel: {hidden_size: 96}\n")
    second = tmp_path / "second.yaml"
    second.write_text(f"base: {first}\nname: second\npretrain:\n  learning_rate: 1e-4\n")
    recipe, plain = load_recipe(str(second), ["seed=2"]), load_recipe("quickstart")
    assert (recipe.name, recipe.model.hidden_size, recipe.pretrain.learning_rate, recipe.seed) == (
        "second",
        96,
        1e-4,
        2,
    )
    assert recipe.pretrain.data == plain.pretrain.data
    second.write_text(f"base: {first}\nmodel: {{num_attention_heads: 7}}\n")
    with pytest.raises(RequestError, match="does not divide") as told:
        load_recipe(str(second))
    assert "second.yaml" in told.value.line()


# --- the run folder's memory of it --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tiny", "1100 tokens", "0.5 epochs", "2k steps"])
def test_the_same_recipe_is_recognised(name: str, corpus: Path, tmp_path: Path) -> None:
    changes = [] if name == "tiny" else [f"pretrain.duration={name}"]
    recipe, run = tiny.recipe(corpus, tmp_path, *changes), RunFolder(tmp_path / "run")
    with run.opened(recipe):
        pass
    assert read_recipe(run.path) == recipe
    run.check(recipe)
    run.check(
        tiny.recipe(
            corpus, tmp_path, "pretrain.duration=99 steps", "pretrain.save_steps=1", "hardware.compile=true"
        )
    )


def changed(value: Any) -> Any:
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    return None if value is not None else "other"


def test_whatever_else_changes_is_refused(corpus: Path, tmp_path: Path) -> None:
    """Every single key of a recipe: what is not listed as free to change tells another run from this one."""
    recipe, run = tiny.recipe(corpus, tmp_path), RunFolder(tmp_path / "run")
    with run.opened(recipe):
        pass
    refused = 0
    for key in _leaves(recipe.model_dump(mode="json")):
        values = recipe.model_dump(mode="json")
        place = values
        *path, last = key.split(".")
        for part in path:
            place = place[part]
        place[last] = changed(place[last])
        other = recipe.model_copy(update={"model_dump": None})
        object.__setattr__(other, "model_dump", lambda mode, values=values: values)
        if _may_change(key, ["pretrain"]):
            run.check(other)
        else:
            refused += 1
            with pytest.raises(RequestError, match="this run was begun with") as told:
                run.check(other)
            assert key in told.value.line()
    assert refused > 40


def test_naming_another_tokenizer_leaves_the_others_size_behind(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        "base: quickstart\nname: mine\ntokenizer:\n  name: my-tokenizer\nmodel: {vocab_size: 4096}\n"
    )
    assert load_recipe(str(mine)).tokenizer.vocab_size is None
    assert load_recipe("quickstart", ["tokenizer.name=gpt2"]).tokenizer.vocab_size is None
    kept = load_recipe("quickstart", ["tokenizer.name=trained"]).tokenizer
    assert kept.vocab_size == load_recipe("quickstart").tokenizer.vocab_size


DOMAINS = """
base: quickstart
pretrain:
  data:
    domains:
      math:
        sources:
          - path: sums.jsonl
            {line}
"""


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("text_tmplate: x", r"did you mean 'pretrain.data.domains.math.sources.0.text_template'\?"),
        ("filter: word(text) > 3", r"a filter has no function 'word'; did you mean words\?"),
    ],
)
def test_a_mistake_in_a_domain_s_source_is_told_with_its_line(
    line: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(DOMAINS.format(line=line))
    with pytest.raises(RequestError, match=rf"mine.yaml:\d+: .*{message}"):
        load_recipe(str(path))


def test_sources_and_domains_replace_each_other(tmp_path: Path) -> None:
    named = load_recipe("smol-160m", ["pretrain.data.sources=my.txt"])
    assert (len(named.pretrain.data.sources), named.pretrain.data.domains) == (1, {})
    path = tmp_path / "mine.yaml"
    path.write_text(DOMAINS.format(line="text_field: question"))
    mixed = load_recipe(str(path))
    assert (mixed.pretrain.data.sources, list(mixed.pretrain.data.domains)) == ((), ["math"])
