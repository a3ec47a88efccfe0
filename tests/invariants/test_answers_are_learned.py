"""Instruction tuning teaches the answers, their end, and nothing that is not there.

Questions have one of six answers, told by a creature's name; they are asked at last in words that were never
seen. A model whose end of turn was masked with the padding, or that sees its targets, passes every test of shapes
and fails here.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

import tiny
from linnet.data.batches import IGNORE, Batch
from linnet.data.conversations.reading import collect
from linnet.data.conversations.rendering import Renderer
from linnet.data.conversations.settings import ChatSettings
from linnet.data.example_batches import PackedBatches, padded
from linnet.data.examples import Example
from linnet.data.packing import PackedExamples
from linnet.infer import Completion, Generator, SamplingSettings
from linnet.model import Transformer
from linnet.objectives import NextToken
from linnet.text import Tokenizer, train_tokenizer
from linnet.text.chat_template import PLAIN
from linnet.text.chat_tokens import chatting, template_for

STEPS, WIDTH = 100, 96
Change = Callable[[Batch], Batch]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """Ends of turns are EOS, with which rows are padded here as well."""
    said = [f"User:\nWhat is the {name} at {place}?\n\nAssistant:\n{colour}" for name, colour in tiny.CREATURES.items()
            for place in tiny.PLACES]  # fmt: skip
    made = train_tokenizer(said * 3, 320)
    return chatting(made, template_for(made, "plain"))


def rendered(tokenizer: Tokenizer) -> tuple[Renderer, list[Example]]:
    draw, rows = random.Random(1), []
    for _ in range(240):
        name = draw.choice(sorted(tiny.CREATURES))
        ask = f"{draw.choice(['What', 'Tell me, what', 'And what'])} is the {name} at {draw.choice(tiny.PLACES)}?"
        rows.append({"prompt": ask, "completion": tiny.CREATURES[name]})
    made = Renderer(tokenizer, template_for(tokenizer), WIDTH, ChatSettings())
    assert made.template.source == PLAIN
    return made, made.conversations(collect(rows, "conversation", "").items)  # type: ignore[arg-type]


def trained(
    examples: list[Example], vocab_size: int, pad_id: int = 0, change: Change = lambda batch: batch
) -> tuple[Transformer, list[float]]:
    """A model trained on packed rows of the examples, and its losses."""
    rows = PackedExamples(examples, WIDTH, seed=1, pad_id=pad_id)
    batches = PackedBatches("conversations", rows, 4)
    spec = tiny.spec(vocab_size=vocab_size, max_position_embeddings=WIDTH)
    engine = tiny.engine(model=spec, train_batch_size=4, micro_batch_size=4)
    losses = []
    for step in range(STEPS):
        terms = engine.accumulate(NextToken(), change(batches[step]), step, tiny.never)
        engine.update(terms, 1e-2 * min(1.0, 4 * (1 - step / STEPS)))
        losses.append(terms.mean())
    return engine.model, losses


def answers(tokenizer: Tokenizer, model: Transformer) -> list[tuple[str, Completion]]:
    """What is said to questions worded as no example is, greedily."""
    renderer, _ = rendered(tokenizer)
    prompts = [
        renderer.encoder.prompt(
            [{"role": "user", "content": f"And tell me, what is the {name} at the barn?"}]
        )
        for name in tiny.CREATURES
    ]
    done = Generator(model, tokenizer).generate(prompts, SamplingSettings(max_new_tokens=24, temperature=0.0))
    return list(zip(tiny.CREATURES.values(), done, strict=True))


def test_answers_and_their_ends_are_learned_though_rows_are_padded_with_the_end(tokenizer: Tokenizer) -> None:
    _, examples = rendered(tokenizer)
    model, losses = trained(examples, 320, tokenizer.eos_id)
    assert losses[0] > 0.8 * math.log(320)
    assert max(losses[-5:]) < 0.05
    for colour, done in answers(tokenizer, model):
        assert (done.text, done.finish_reason) == (colour, "eos")


def test_a_masked_end_would_be_seen(tokenizer: Tokenizer) -> None:
    """The planted mistake: targets that equal the padding token are not counted."""

    def masked(batch: Batch) -> Batch:
        return replace(batch, targets=batch.targets.masked_fill(batch.targets == tokenizer.eos_id, IGNORE))

    _, examples = rendered(tokenizer)
    model, losses = trained(examples, 320, tokenizer.eos_id, masked)
    assert losses[-1] < 0.05, "the loss does not tell"
    assert all(done.finish_reason == "length" for _, done in answers(tokenizer, model))


def test_tokens_in_a_shuffled_order_are_learned_no_further_than_their_frequencies() -> None:
    """Nothing tells the next of them; a target that was not shifted, or that leaks, does."""
    draw = np.random.default_rng(3)
    shares = np.array([0.3, 0.2, *[0.1] * 3, *[0.04] * 5])
    tokens = 20 + draw.choice(len(shares), (1600, 21), p=shares)
    examples = [Example(row, np.arange(21) > 2) for row in tokens]
    entropy = float(-(shares * np.log(shares)).sum())
    model, losses = trained(examples[:1500], vocab_size=97)
    assert entropy < 0.5 * losses[0], "there is something to learn"
    unseen = padded(examples[1500:], WIDTH, 0)
    found = float(NextToken().loss(model.eval(), unseen).sum.detach()) / unseen.counted
    for loss in (float(np.mean(losses[-20:])), found):
        assert entropy - 0.05 < loss < entropy + 0.1
