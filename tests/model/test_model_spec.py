"""An impossible shape is refused before anything is built, with the mend; other trainers' names are known."""

from __future__ import annotations

import pytest

from linnet.config import RequestError, from_overrides, validate
from linnet.model import ModelSpec, check_sequence

GOOD = {
    "architecture": "llama",
    "vocab_size": "100",
    "hidden_size": "48",
    "num_hidden_layers": "2",
    "num_attention_heads": "4",
    "intermediate_size": "64",
    "max_position_embeddings": "32",
}


def read(**words: str) -> ModelSpec:
    values = {key: value for key, value in (GOOD | words).items() if value}
    return validate(ModelSpec, from_overrides([f"{key}={value}" for key, value in values.items()]))


def refusal(**words: str) -> str:
    with pytest.raises(RequestError) as caught:
        read(**words)
    line = caught.value.line()
    assert "\n" not in line
    return line


def test_the_shape_these_tests_break_is_possible() -> None:
    assert read().head_size == 12
    assert read().key_value_heads == 4


REFUSED = {
    "heads do not divide": ({"num_attention_heads": "5"}, "48 does not divide by num_attention_heads 5; 50 does"),
    "groups do not divide": ({"num_key_value_heads": "3"}, "possible here: 1, 2, 4"),
    "more groups than heads": ({"num_key_value_heads": "8"}, "does not divide by num_key_value_heads 8"),
    "odd head": ({"head_dim": "7"}, "width 7 cannot be rotated"),
    "grouped gpt2": ({"architecture": "gpt2", "num_key_value_heads": "2"}, "leave num_key_value_heads out"),
    "gpt2 with wide heads": ({"architecture": "gpt2", "head_dim": "16"}, "leave head_dim out"),
    "llama with NoPE": ({"no_rope_layer_interval": "4"}, "belongs to smollm3"),
    "gpt2 with NoPE": ({"architecture": "gpt2", "no_rope_layer_interval": "4"}, "belongs to smollm3"),
    "qwen3 feed-forward bias": ({"architecture": "qwen3", "mlp_bias": "true"}, "leave mlp_bias out"),
    "unknown architecture": ({"architecture": "mamba"}, "architecture"),
    "no layers": ({"num_hidden_layers": "0"}, "num_hidden_layers"),
    "negative vocabulary": ({"vocab_size": "-1"}, "vocab_size"),
    "fraction": ({"hidden_size": "48.5"}, "hidden_size"),
    "text": ({"hidden_size": "wide"}, "hidden_size"),
    "certain dropout": ({"dropout": "1.0"}, "dropout"),
    "missing": ({"hidden_size": ""}, "'hidden_size' is missing"),
    "misspelt": ({"hiden_size": "48"}, "did you mean 'hidden_size'?"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_an_impossible_shape_is_one_line_with_the_mend(case: str) -> None:
    words, expected = REFUSED[case]
    assert expected in refusal(**words)


HABITS = {
    "n_embd": "hidden_size",
    "d_model": "hidden_size",
    "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "n_kv_heads": "num_key_value_heads",
    "block_size": "max_position_embeddings",
    "n_positions": "max_position_embeddings",
    "max_seq_len": "max_position_embeddings",
    "n_inner": "intermediate_size",
    "rms_norm_eps": "norm_eps",
    "layer_norm_epsilon": "norm_eps",
    "resid_pdrop": "dropout",
    "attn_pdrop": "attention_dropout",
    "bias": "attention_bias",
    "model_type": "architecture",
}


@pytest.mark.parametrize("habit", HABITS)
def test_a_name_from_another_trainer_points_to_ours(habit: str) -> None:
    line = refusal(**{habit: "1"})
    assert f"unknown key {habit!r}" in line
    assert f"'{HABITS[habit]}'" in line


def test_every_habit_points_to_a_key_that_exists_and_is_none_itself() -> None:
    for habit, answer in ModelSpec.habits.items():
        assert habit not in ModelSpec.model_fields
        assert any(f"'{name}'" in answer for name in ModelSpec.model_fields), habit


def test_nope_layers_come_at_their_interval() -> None:
    spec = read(architecture="smollm3", no_rope_layer_interval="2", num_hidden_layers="5")
    assert [spec.uses_rope(layer) for layer in range(5)] == [True, False, True, False, True]
    assert not any(read(architecture="gpt2").uses_rope(layer) for layer in range(2))


def test_a_sequence_longer_than_the_positions_is_refused() -> None:
    check_sequence(read(), 32)
    with pytest.raises(RequestError, match="33 tokens does not fit max_position_embeddings 32"):
        check_sequence(read(), 33)


def test_a_scaled_embedding_must_be_tied():
    with pytest.raises(ValueError, match="scale_embeddings is for a tied embedding"):
        ModelSpec(
            architecture="smollm3", vocab_size=64, hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
            intermediate_size=64, max_position_embeddings=16, tie_word_embeddings=False, scale_embeddings=True,
        )  # fmt: skip
