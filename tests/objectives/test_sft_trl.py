"""Instruction tuning is TRL's: the same conversations in the same packed rows give its loss, gradients and five steps.

TRL does its own part of all of it: it renders and tokenizes the conversations, masks what the assistant does not
say, lays documents end to end with its padding-free collator, and counts a step's tokens. Ours come
from the renderer and from packed rows. Each comparison also says how far the well-known mistakes would be
off (shifted twice, a mean of micro-batch means, documents that see each other …): equal to TRL and far from those.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import tiny
from linnet.data.batches import IGNORE, Batch
from linnet.data.conversations.kinds import Conversation
from linnet.data.conversations.reading import collect
from linnet.data.conversations.rendering import Renderer
from linnet.data.conversations.settings import ChatSettings
from linnet.data.examples import Example
from linnet.data.packing import PackedExamples
from linnet.hardware import HardwareSettings, choose, detect_cpu
from linnet.model import ModelSpec, Transformer, initialize, save_model
from linnet.model.stock_weights import to_stock
from linnet.objectives import NextToken
from linnet.text import Tokenizer, train_tokenizer
from linnet.text.chat_tokens import chatting, template_for
from linnet.train.engines import LocalEngine

trl = pytest.importorskip("trl")
transformers = pytest.importorskip("transformers")
datasets = pytest.importorskip("datasets")

STEPS, ROWS, MICRO, RATE, WIDTH = 5, 4, 2, 3e-3, 160
WORDS = "a fox lives in the old mill by the river and nobody knows how many years it has been there".split()


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with tiny.one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def conversations() -> list[dict[str, Any]]:
    """Half of them with a long question and a word for an answer, half the other way round."""
    draw = random.Random(3)
    rows = []
    for number in range(72):
        long, short = " ".join(draw.choices(WORDS, k=draw.randint(10, 20))), draw.choice(WORDS)
        ask, answer = (long, short) if number % 2 else (short, long)
        said = [{"role": "user", "content": ask}, {"role": "assistant", "content": answer}]
        if number % 5 == 0:
            said += [{"role": "user", "content": short}, {"role": "assistant", "content": draw.choice(WORDS)}]
        rows.append({"messages": said})
    return rows


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    made = train_tokenizer([" ".join(WORDS), "user assistant"] * 40, 290)
    return chatting(made, template_for(made))


@pytest.fixture(scope="module")
def examples(tokenizer: Tokenizer) -> list[Example]:
    """Ours, of the conversations."""
    renderer = Renderer(tokenizer, template_for(tokenizer), WIDTH, ChatSettings())
    items: list[Conversation] = collect(conversations(), "conversation", "").items  # type: ignore[assignment]
    return renderer.conversations(items)


@pytest.fixture(scope="module")
def packed(examples: list[Example], tokenizer: Tokenizer) -> PackedExamples:
    return PackedExamples(examples, WIDTH, seed=2, pad_id=tokenizer.eos_id)


def network(tokenizer: Tokenizer, tied: bool = False) -> Transformer:
    """A two-layer Llama, drawn wide enough that it matters what is attended to."""
    made = Transformer(
        ModelSpec(
            architecture="llama", vocab_size=tokenizer.vocab_size, hidden_size=32, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, intermediate_size=64,
            max_position_embeddings=WIDTH, tie_word_embeddings=tied,
        )
    )  # fmt: skip
    initialize(made, 1)
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.dim() > 1:
                parameter.mul_(3)
    return made


def engine(model: Transformer, attention: str = "sdpa") -> LocalEngine:
    settings = tiny.settings(
        duration=f"{STEPS} steps", train_batch_size=ROWS, micro_batch_size=MICRO, learning_rate=RATE,
        weight_decay=0.1, decay_embeddings=True, adam_beta2=0.95, max_grad_norm=1.0,
    )  # fmt: skip
    hardware = HardwareSettings.model_validate(
        {"device": "cpu", "precision": "fp32", "compile": False, "attention": attention}
    )
    return LocalEngine(model, settings, choose(hardware, detect_cpu()), WIDTH, seed=5)


# --- TRL's side ---------------------------------------------------------------------------------------------


def trainer(folder: Path, model: Transformer, tokenizer: Tokenizer, rows: Any, **options: Any) -> Any:
    """TRL's SFTTrainer around the stock model of `model`; what it trains on step by step is in `heard`."""
    folder.mkdir(parents=True, exist_ok=True)
    save_model(model, folder, eos_id=tokenizer.eos_id)
    tokenizer.save(folder)

    class Heard(trl.SFTTrainer):  # type: ignore[name-defined, misc]
        """In the order of the rows."""

        heard: list[float]

        def _get_train_sampler(self, *_: Any) -> Any:
            return torch.utils.data.SequentialSampler(self.train_dataset)

        def training_step(self, *args: Any, **more: Any) -> Tensor:
            loss: Tensor = super().training_step(*args, **more)
            self.heard.append(float(loss))
            return loss

    implementation = options.pop("attention", "sdpa")
    settings = {
        "output_dir": str(folder / "out"), "use_cpu": True, "bf16": False, "report_to": [], "max_length": None,
        "gradient_checkpointing": False, "padding_free": True, "per_device_train_batch_size": MICRO,
        "gradient_accumulation_steps": ROWS // MICRO, "optim": "adamw_torch", "learning_rate": RATE,
        "lr_scheduler_type": "constant", "max_steps": STEPS, "weight_decay": 0.1, "adam_beta2": 0.95,
        "max_grad_norm": 1.0, "save_strategy": "no", "logging_steps": 1, "disable_tqdm": True,
    }  # fmt: skip
    made = Heard(
        model=transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation=implementation
        ),
        args=trl.SFTConfig(**settings | options),
        train_dataset=datasets.Dataset.from_list(list(rows)),
        processing_class=transformers.AutoTokenizer.from_pretrained(folder),
    )
    made.heard = []
    return made


@pytest.fixture(scope="module")
def theirs(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, list[int]]]:
    """TRL's own tokens and labels of the conversations, assistant-only."""
    folder = tmp_path_factory.mktemp("prepared")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = trainer(folder, network(tokenizer), tokenizer, conversations(), assistant_only_loss=True)
    return list(made.train_dataset)


def their_rows(
    theirs: Sequence[dict[str, list[int]]], packed: PackedExamples, samples: Sequence[int]
) -> list[dict[str, list[int]]]:
    """The same examples in the same rows, as TRL's packing writes them."""
    rows = []
    for sample in samples:
        members = [theirs[member] for member in packed.rows(sample).tolist()]
        rows.append(
            {
                "input_ids": [i for member in members for i in member["input_ids"]],
                "labels": [i for member in members for i in member["labels"]],
                "seq_lengths": [len(member["input_ids"]) for member in members],
            }
        )
    return rows


def uneven(packed: PackedExamples) -> list[int]:
    """Rows in an order in which a step's first micro-batch has many learned tokens and its second few."""
    some = range(STEPS * ROWS // 2)
    counts = {sample: packed.batch(np.array([sample])).counted for sample in some}
    order = sorted(some, key=lambda sample: -counts[sample])
    half = MICRO
    rich, poor = order[: len(order) // 2], order[len(order) // 2 :]
    steps = [
        step
        for begin in range(0, len(rich), half)
        for step in (rich[begin : begin + half], poor[begin : begin + half])
    ]
    return [sample for micro in steps for sample in micro]


# --- mistakes that others made ------------------------------------------------------------------------------


def plain(model: Transformer, batch: Batch, targets: Tensor | None = None) -> Tensor:
    """The mean loss by torch, without anything of ours but the network."""
    logits = model(batch.tokens, batch.positions, batch.documents) @ model.head_weight.T
    targets = batch.targets if targets is None else targets
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE)


def mistakes(model: Transformer, batch: Batch) -> dict[str, Tensor]:
    """The step's loss as it would be with each of the known mistakes."""
    learned = batch.targets != IGNORE
    later = torch.cat((batch.targets[:, 1:], torch.full_like(batch.targets[:, :1], IGNORE)), dim=1)
    parts = [batch.rows(start, start + MICRO) for start in range(0, ROWS, MICRO)]
    together = Batch(batch.tokens, batch.targets)
    everything = torch.cat((batch.tokens[:, 1:], batch.targets[:, -1:]), dim=1)
    return {
        "mean of means": sum(plain(model, part) for part in parts) / len(parts),  # type: ignore[dict-item]
        "shifted twice": plain(model, batch, later),
        "not shifted": plain(model, batch, torch.where(learned, batch.tokens, IGNORE)),
        "documents see each other": plain(model, together),
        "prompts are learned": plain(model, batch, everything),
        "divided by all places": plain(model, batch) * batch.counted / batch.targets.numel(),
    }


def gradients(model: Any, prefix: str = "") -> dict[str, Tensor]:
    return {f"{prefix}{name}": p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def our_gradients(model: Transformer) -> dict[str, Tensor]:
    names = {name: name if name.startswith("lm_head") else f"model.{name}" for name in dict(model.named_parameters())}
    return {names[name]: grad for name, grad in gradients(model).items()}


def far(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """The largest difference of two sets of gradients."""
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


# --- the comparisons ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ours", "their_attention"), [("sdpa", "sdpa"), ("eager", "eager")])
@pytest.mark.parametrize("tied", [False, True])
def test_a_steps_loss_and_gradients_are_trls_on_the_same_packed_rows(
    tied: bool, ours: str, their_attention: str, tokenizer: Tokenizer, packed: PackedExamples,
    theirs: list[dict[str, list[int]]], tmp_path: Path,
) -> None:  # fmt: skip
    """Two micro-batches of very unequal counts, several documents to a row, prompts masked, one global mean."""
    model = network(tokenizer, tied)
    samples = uneven(packed)[:ROWS]
    batch = packed.batch(np.array(samples))
    rows = their_rows(theirs, packed, samples)
    made = trainer(tmp_path, model, tokenizer, rows, attention=their_attention,
                   dataset_kwargs={"skip_prepare_dataset": True})  # fmt: skip

    micro = [made.data_collator(rows[start : start + MICRO]) for start in range(0, ROWS, MICRO)]
    counts = [int((inputs["labels"][:, 1:] != -100).sum()) for inputs in micro]
    assert sum(counts) == batch.counted
    assert counts[0] > 4 * counts[1], "even counts would hide a mean of means"
    assert all(len(row["seq_lengths"]) > 2 for row in rows)
    expected = 0.0
    for inputs in micro:
        loss = made.compute_loss(made.model, inputs, num_items_in_batch=sum(counts))
        loss.backward()
        expected += float(loss)

    own = engine(model, ours)
    terms = own.accumulate(NextToken(), batch, 0, tiny.never)
    assert terms.counted == sum(counts)
    assert terms.mean() == pytest.approx(expected, abs=1e-6)
    right = gradients(made.model)
    assert far(our_gradients(own.model), right) < 1e-6
    assert all(float(grad.abs().max()) > 1e-4 for grad in right.values()), "a gradient of nothing proves nothing"

    for name, wrong in mistakes(model, batch).items():
        assert abs(float(wrong) - expected) > 0.02, name
    model.zero_grad(set_to_none=True)
    mistakes(model, batch)["mean of means"].backward()
    assert far(our_gradients(model), right) > 1e-2
