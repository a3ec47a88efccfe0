"""Small models and pairs of answers for the tests of preference tuning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from linnet.data.batches import Batch
from linnet.data.example_batches import padded
from linnet.data.examples import Example
from linnet.model import ModelSpec, Transformer, initialize
from linnet.objectives.preference import PreferenceSettings

VOCAB, EOS, PAD = 61, 0, 1


def model(seed: int = 0, **more: Any) -> Transformer:
    """A two-layer Llama, drawn wide enough that answers differ in likelihood."""
    shape: dict[str, Any] = {
        "architecture": "llama", "vocab_size": VOCAB, "hidden_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 64,
        "max_position_embeddings": 64, "tie_word_embeddings": False,
    }  # fmt: skip
    made = Transformer(ModelSpec(**shape | more))
    initialize(made, seed)
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4)
    return made


def moved(other: Transformer, seed: int = 9, by: float = 0.02) -> Transformer:
    """A model a few updates away."""
    made = model(**_shape(other))
    made.load_state_dict(other.state_dict())
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(by * torch.randn(parameter.shape, generator=generator))
    return made


def _shape(other: Transformer) -> dict[str, Any]:
    return {"dropout": other.spec.dropout, "tie_word_embeddings": other.spec.tie_word_embeddings}


def settings(**given: Any) -> PreferenceSettings:
    """As a recipe says them, whatever their types."""
    return PreferenceSettings(**given)


def example(prompt: Sequence[int], answer: Sequence[int]) -> Example:
    """A prompt that is read and an answer that is learned, EOS and all."""
    learned = [False] * len(prompt) + [True] * (len(answer) + 1)
    return Example(np.array([*prompt, *answer, EOS], dtype=np.uint16), np.array(learned))


def examples(pairs: int, seed: int = 1) -> list[Example]:
    """Chosen and rejected answers in turn, of unequal length; low ids are preferred to high ones."""
    draw = np.random.default_rng(seed)
    made = []
    for _ in range(pairs):
        prompt = draw.integers(2, VOCAB, draw.integers(2, 9)).tolist()
        for low, high in ((2, VOCAB // 2), (VOCAB // 2, VOCAB)):
            made.append(example(prompt, draw.integers(low, high, draw.integers(1, 12)).tolist()))
    return made


def batch(some: Sequence[Example], reference: Tensor | None = None, width: int | None = None) -> Batch:
    """All of them as one batch of pairs."""
    longest = max(one.places for one in some)
    columns = {} if reference is None else {"reference": reference}
    return replace(padded(some, width or longest, PAD), columns=columns, group=2)
