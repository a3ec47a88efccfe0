"""An error about several values names the ones that conflict, never one that happens to stand beside them."""

from __future__ import annotations

import pytest

from linnet.config import RequestError
from linnet.recipe import load_recipe

# The words that conflict, in any order, and the file's own values that they conflict with.
CONFLICTS: dict[str, tuple[list[str], list[str]]] = {
    "warmup over duration": (["rlvr.duration=4 steps", "rlvr.warmup_steps=10"], []),
    "a share of decay": (
        ["sft.duration=10 steps", "sft.lr_scheduler_type=wsd", "sft.warmup_steps=6", "sft.decay_steps=8"],
        ["sft.lr_scheduler_type=wsd"],
    ),
    "micro-batch": (["pretrain.micro_batch_size=4000", "pretrain.train_batch_size=8"], []),
    "patience": (["pretrain.early_stopping_patience=2", "pretrain.eval_steps=0"], []),
    "best": (["dpo.hand_on=best", "dpo.keep_best=false"], []),
    "muon with an adapter": (["sft.optim=muon", "sft.lora={r: 4}"], []),
    "muon with an adapter's rank": (["domain.optim=muon", "domain.lora.r=4"], ["domain.lora.r=4"]),
    "heads": (["model.hidden_size=100", "model.num_attention_heads=3"], []),
    "groups": (["model.num_attention_heads=4", "model.num_key_value_heads=3"], []),
    "scaled and untied": (["model.scale_embeddings=true", "model.tie_word_embeddings=false"], []),
    "loss type": (["dpo.loss_type=hinge", "dpo.label_smoothing=0.1"], ["dpo.loss_type=hinge"]),
    "groups of completions": (["rlvr.train_batch_size=10", "rlvr.num_generations=4"], []),
    "a tokenizer of its own size": (["tokenizer.name=gpt2", "tokenizer.vocab_size=300"], ["tokenizer.name=gpt2"]),
    "length over positions": (["pretrain.data.sequence_length=99", "model.max_position_embeddings=64"], []),
    "vocabulary over the table": (["tokenizer.vocab_size=999", "model.vocab_size=500"], []),
    "answers over positions": (["scoreboard.max_new_tokens=90", "model.max_position_embeddings=80"], []),
}  # fmt: skip


def line(words: list[str]) -> str:
    with pytest.raises(RequestError) as told:
        load_recipe("quickstart", words)
    assert told.value.exit_code == 2
    assert "\n" not in told.value.line()
    return told.value.line()


@pytest.mark.parametrize("name", CONFLICTS)
def test_values_that_conflict_are_named_and_no_others(name: str) -> None:
    words, unnamed = CONFLICTS[name]
    sections = dict.fromkeys(word.split(".")[0] for word in words)
    beside = {
        "pretrain": "pretrain.sample_tokens=3", "sft": "sft.sample_tokens=3", "dpo": "dpo.sample_tokens=3",
        "rlvr": "rlvr.eval_sequences=8", "domain": "domain.sample_tokens=3", "model": "model.dropout=0.1",
        "scoreboard": "scoreboard.items=7",
    }  # fmt: skip
    innocent = [beside[section] for section in sections if section in beside]
    for order in ([*words, *innocent], [*innocent, *words], [*reversed(words), *innocent]):
        told = line(order)
        for word in innocent:
            assert word not in told
        for word in words:
            assert (f"'{word}'" in told) == (word not in unnamed), told


def test_a_value_of_the_file_is_named_with_its_line() -> None:
    told = line(["pretrain.data.sequence_length=4096", "pretrain.eval_steps=3"])
    assert told.startswith("recipe quickstart:")
    assert " and command line, 'pretrain.data.sequence_length=4096': pretrain.data.seq" in told
    assert "eval_steps" not in told


def test_where_no_value_is_named_the_section_of_the_file_is() -> None:
    told = line(["model.head_dim=33", "model.dropout=0.1"])
    assert "command line" not in told
    assert told.startswith("recipe quickstart:")
    assert "cannot be rotated" in told


def test_a_section_that_only_the_command_line_begins_is_named_by_it() -> None:
    with pytest.raises(RequestError, match=r"command line, 'safety\.min_refusal=0\.5': .*is missing"):
        load_recipe("tinystories-30m", ["safety.min_refusal=0.5"])
