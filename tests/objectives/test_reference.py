"""The reference's log-probabilities: without dropout and adapters, whatever the batch, computed once and kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import preference_pairs as small
import pytest
import torch
from torch import Tensor

import tiny
from linnet.config import RunError
from linnet.data.batches import IGNORE
from linnet.data.conversations.reading import read
from linnet.data.conversations.rendering import Renderer
from linnet.data.conversations.settings import ChatSettings
from linnet.data.examples import Example
from linnet.data.packing import BucketedBatches
from linnet.model import LoraSettings, Transformer, lora
from linnet.model.dropout import row_keys, seed_rows
from linnet.objectives.reference import (
    answer_logprobs,
    cached_reference,
    frozen_copy,
    reference_key,
    reference_logprobs,
    weights_digest,
)
from linnet.text import train_tokenizer
from linnet.text.chat_tokens import template_for


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with tiny.one_thread():
        yield


def alone(model: Transformer, example: Example) -> float:
    """Of one answer, unpadded, from all logits, in float64 after the model."""
    tokens = torch.from_numpy(example.tokens.astype(np.int64))
    with torch.no_grad():
        logits = (model(tokens[None, :-1])[0] @ model.head_weight.T).double()
    picked = logits.log_softmax(-1).gather(1, tokens[1:, None]).squeeze(1)
    return float(picked[torch.from_numpy(example.learned[1:])].sum())


@pytest.mark.parametrize("token_budget", [1, 40, 100, 100_000])
def test_values_are_those_of_each_answer_alone(token_budget: int) -> None:
    model, rows = small.model(), small.examples(9)
    told: list[tuple[int, int]] = []
    found = reference_logprobs(model, rows, small.PAD, token_budget, lambda *done: told.append(done))
    assert found.shape == (18,)
    assert found.dtype == torch.float32
    expected = torch.tensor([alone(model.eval(), row) for row in rows])
    assert float((found - expected).abs().max()) < 2e-5
    assert told[-1] == (18, 18)
    assert len(told) == (18 if token_budget == 1 else len(told))
    assert (len(told) == 1) == (token_budget == 100_000)


def test_the_reference_is_read_without_dropout_and_nothing_is_drawn() -> None:
    model, rows = small.model(dropout=0.5).train(), small.examples(4)
    model.layers[0].eval()
    before = torch.get_rng_state()
    found = reference_logprobs(model, rows, small.PAD, 64)
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training
    assert model.layers[1].training
    assert not model.layers[0].training, "it is left as it was, block by block"
    assert torch.equal(found, reference_logprobs(model.eval(), rows, small.PAD, 64))
    seed_rows(model.train(), row_keys(model, 0, len(rows)))
    noisy = answer_logprobs(model, small.batch(rows)).detach()
    assert float((noisy - found).abs().max()) > 0.1


def test_the_reference_of_an_adapted_model_is_its_base() -> None:
    model, rows = small.model(), small.examples(4)
    base, digest = reference_logprobs(model, rows, small.PAD, 64), weights_digest(model)
    lora.apply(model, LoraSettings(r=4), seed=1)
    with torch.no_grad():
        for adapter in lora.adapters(model).values():
            adapter.lora_B.normal_(std=0.1)
    assert torch.equal(reference_logprobs(model, rows, small.PAD, 64), base)
    assert weights_digest(model) == digest
    assert float((answer_logprobs(model, small.batch(rows)).detach() - base).abs().max()) > 0.1


def test_a_frozen_copy_stays_what_it_was() -> None:
    model, rows = small.model(dropout=0.5).train(), small.examples(3)
    before = reference_logprobs(model, rows, small.PAD, 64)
    copied = frozen_copy(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.1)
    assert torch.equal(reference_logprobs(copied, rows, small.PAD, 64), before)
    assert not any(parameter.requires_grad for parameter in copied.parameters())
    assert model.training


def test_a_rendered_answer_counts_from_its_first_token_to_its_last() -> None:
    """Through the chat template, the batch and the model."""
    tokenizer = train_tokenizer(["user\nassistant\n\n\n Yes.\n\nNo, never.\n\n"] * 90, 280)
    renderer = Renderer(tokenizer, template_for(tokenizer), 60, ChatSettings())
    row = {"prompt": "Well?", "chosen": "\n Yes.", "rejected": "No, never."}
    examples = renderer.pairs(read(row, "pair")[1])  # type: ignore[arg-type]
    model = small.model(vocab_size=280)
    batch = BucketedBatches(examples, 60, 1, small.PAD, batch_size=1, group=2)[0]
    prompt = renderer.encoder.prompt([{"role": "user", "content": "Well?"}])
    found = answer_logprobs(model, batch).detach()
    for place, text in enumerate(("\n Yes.", "No, never.")):
        tokens = examples[place].tokens.tolist()
        assert tokens[: len(prompt)] == prompt
        targets = [t for t in batch.targets[place].tolist() if t != IGNORE]
        assert tokenizer.decode(targets).startswith(text)
        assert targets[0] == tokens[len(prompt)]
        logits = model(torch.tensor([tokens])) @ model.head_weight.T
        logs = logits.log_softmax(-1)[0]
        begin, end = len(prompt), len(prompt) + len(targets)
        expected = sum(float(logs[at - 1, tokens[at]].detach()) for at in range(begin, end))
        assert float(found[place]) == pytest.approx(expected, abs=1e-4)


# --- on disk ----------------------------------------------------------------------------------------------


class Computing:
    """Counts how often something is computed; every time it comes out a little differently."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> Tensor:
        self.times += 1
        return torch.linspace(-9, -1, 12) + 1e-6 * self.times


def test_what_was_computed_once_is_read_again_to_the_last_bit(tmp_path: Path) -> None:
    computing = Computing()
    first = cached_reference(tmp_path / "new", "a" * 64, computing)
    again = cached_reference(tmp_path / "new", "a" * 64, computing)
    assert torch.equal(first, again)
    assert computing.times == 1
    other = cached_reference(tmp_path / "new", "b" * 64, computing)
    assert computing.times == 2
    assert not torch.equal(first, other)
    assert all(path.suffix == ".safetensors" for path in (tmp_path / "new").iterdir())


def test_a_key_that_begins_alike_is_not_taken_for_another(tmp_path: Path) -> None:
    computing = Computing()
    cached_reference(tmp_path, "c" * 64, computing)
    cached_reference(tmp_path, "c" * 63 + "d", computing)
    assert computing.times == 2


@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied"])
def test_a_damaged_file_is_made_anew(tmp_path: Path, damage: str) -> None:
    computing = Computing()
    cached_reference(tmp_path, "e" * 64, computing)
    (path,) = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    if damage == "cut":
        content = content[:-7]
    elif damage == "flipped":
        content[-3] ^= 4
    else:
        content = bytearray()
    path.write_bytes(content)
    second = cached_reference(tmp_path, "e" * 64, computing)
    assert computing.times == 2
    assert torch.equal(cached_reference(tmp_path, "e" * 64, computing), second)
    assert computing.times == 2


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match="cannot be written"):
        cached_reference(tmp_path / "file", "f" * 64, Computing())


def test_the_key_changes_with_all_that_decides_the_values() -> None:
    model, rows = small.model(), small.examples(2)
    weights = weights_digest(model)
    longer = small.example(rows[0].tokens[:3].tolist(), [9, 9])
    unlearned = Example(rows[0].tokens, rows[0].learned & (np.arange(len(rows[0].tokens)) > 5))
    keys = [
        reference_key(weights, rows, "fp32"),
        reference_key(weights, rows, "bf16"),
        reference_key(weights_digest(small.moved(model)), rows, "fp32"),
        reference_key(weights, rows[:2], "fp32"),
        reference_key(weights, [longer, *rows[1:]], "fp32"),
        reference_key(weights, [unlearned, *rows[1:]], "fp32"),
        reference_key(weights, [rows[1], rows[0], *rows[2:]], "fp32"),
    ]
    assert len(set(keys)) == len(keys)
    assert reference_key(weights_digest(small.model()), small.examples(2), "fp32") == keys[0]
