"""Instruction tuning is TRL's: the same conversations in the same packed rows give its loss, gradients and five steps.

TRL does its own part of all of it: it renders and tokenizes the conversations, masks what the assistant does not
say, lays documents end to end with its padding-free collator, and counts a step's tokens. Ours come
from the renderer and from packed rows. Each comparison also says how far the well-known mistakes would be
off (shifted twice, a mean of micro-batch means, documents that see each other …): equal to TRL and far from those.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import tiny
from linnet.data.batches import IGNORE, Batch
from linnet.data.conversations.reading import collect
from linnet.data.conversations.rendering import Renderer
from linnet.data.conversations.settings import ChatSettings
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

LAID = ("tokens", "targets", "positions", "documents")
AS_THEY_ARE: dict[str, Any] = {"dataset_kwargs": {"skip_prepare_dataset": True}}
NEAR = 4e-6  # a few FP32 roundings of a loss of 6
STEPS, ROWS, MICRO, RATE, WIDTH = 5, 4, 2, 3e-3, 160
TEXT = "a fox lives in the old mill by the river and nobody knows how many years it has been there"
WORDS = TEXT.split()


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with tiny.one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def conversations() -> list[dict[str, Any]]:
    """By turns with a short question and a long answer, and the other way round; some go on."""
    draw = random.Random(3)
    rows = []
    for number in range(120):
        long, short = " ".join(draw.choices(WORDS, k=draw.randint(10, 20))), draw.choice(WORDS)
        ask, answer = (long, short) if number % 2 else (short, long)
        said = [{"role": "user", "content": ask}, {"role": "assistant", "content": answer}]
        if number % 5 == 0:
            said += [{"role": "user", "content": short}, {"role": "assistant", "content": draw.choice(WORDS)}]
        rows.append({"messages": said})
    return rows


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    made = train_tokenizer([TEXT, "user assistant"] * 40, 290)
    return chatting(made, template_for(made))


@dataclass(frozen=True)
class Step:
    """A step's rows: MICRO of long answers, then MICRO of short ones. ours, and the same as TRL's packing writes it."""

    ours: Batch
    theirs: list[dict[str, list[int]]]


@pytest.fixture(scope="module")
def steps(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> list[Step]:
    """Packed by us; the tokens and labels on TRL's side are TRL's own, assistant-only."""
    renderer = Renderer(tokenizer, template_for(tokenizer), WIDTH, ChatSettings())
    items = collect(conversations(), "conversation", "").items
    examples = renderer.conversations(items)  # type: ignore[arg-type]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = trainer(
            tmp_path_factory.mktemp("prepared"), network(tokenizer), tokenizer, conversations(),
            assistant_only_loss=True,
        )  # fmt: skip
    known = list(made.train_dataset)
    assert len(known) == len(examples)
    kinds = [PackedExamples(examples[kind::2], WIDTH, seed=2, pad_id=tokenizer.eos_id) for kind in (0, 1)]

    def theirs(kind: int, sample: int) -> dict[str, list[int]]:
        members = [known[kind::2][member] for member in kinds[kind].rows(sample).tolist()]
        return {
            "input_ids": [i for member in members for i in member["input_ids"]],
            "labels": [i for member in members for i in member["labels"]],
            "seq_lengths": [len(member["input_ids"]) for member in members],
        }

    found = []
    for step in range(STEPS):
        samples = np.arange(step * MICRO, (step + 1) * MICRO)
        parts = [kind.batch(samples) for kind in kinds]
        both: dict[str, Any] = {name: torch.cat([getattr(part, name) for part in parts]) for name in LAID}
        rows = [theirs(kind, sample) for kind in (0, 1) for sample in samples.tolist()]
        found.append(Step(Batch(**both), rows))
    return found


def network(tokenizer: Tokenizer, tied: bool = False) -> Transformer:
    """A two-layer Llama, drawn so wide that tokens differ in likelihood and it matters what is attended to."""
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
                parameter.mul_(6)
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


# --- mistakes that others made ------------------------------------------------------------------------------


def plain(model: Transformer, batch: Batch, targets: Tensor | None = None) -> Tensor:
    """The mean loss by torch, without anything of ours but the network."""
    logits = model(batch.tokens, batch.positions, batch.documents) @ model.head_weight.T
    targets = batch.targets if targets is None else targets
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE)


def everything(batch: Batch) -> Tensor:
    """Targets that count every token of a document after its first, the user's too."""
    goes_on = batch.documents[:, 1:] == batch.documents[:, :-1]  # type: ignore[index]
    last = torch.full_like(batch.tokens[:, :1], IGNORE)
    return torch.cat((torch.where(goes_on, batch.tokens[:, 1:], IGNORE), last), dim=1)


def mistakes(model: Transformer, batch: Batch) -> dict[str, Tensor]:
    """The step's loss as it would be with each of the known mistakes."""
    learned = batch.targets != IGNORE
    later = torch.cat((batch.targets[:, 1:], torch.full_like(batch.targets[:, :1], IGNORE)), dim=1)
    parts = [batch.rows(start, start + MICRO) for start in range(0, ROWS, MICRO)]
    together = Batch(batch.tokens, batch.targets)
    return {
        "mean of means": sum(plain(model, part) for part in parts) / len(parts),  # type: ignore[dict-item]
        "shifted twice": plain(model, batch, later),
        "not shifted": plain(model, batch, torch.where(learned, batch.tokens, IGNORE)),
        "documents see each other": plain(model, together),
        "prompts are learned": plain(model, batch, everything(batch)),
        "divided by all places": plain(model, batch) * batch.counted / batch.targets.numel(),
    }


def gradients(model: Any) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def our_gradients(model: Transformer) -> dict[str, Tensor]:
    """By their stock names."""
    found = gradients(model).items()
    return {name if name.startswith("lm_head") else f"model.{name}": grad for name, grad in found}


def far(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """The largest difference of two sets of gradients."""
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


# --- the comparisons ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("tied", [False, True])
def test_a_steps_loss_and_gradients_are_trls_on_the_same_packed_rows(
    tied: bool, attention: str, tokenizer: Tokenizer, steps: list[Step], tmp_path: Path
) -> None:
    """Two micro-batches of very unequal counts, several documents to a row, prompts masked, one global mean."""
    model, step = network(tokenizer, tied), steps[0]
    made = trainer(tmp_path, model, tokenizer, step.theirs, attention=attention, **AS_THEY_ARE)
    micro = [made.data_collator(step.theirs[start : start + MICRO]) for start in range(0, ROWS, MICRO)]
    counts = [int((inputs["labels"][:, 1:] != -100).sum()) for inputs in micro]
    assert sum(counts) == step.ours.counted
    assert counts[0] > 4 * counts[1], "even counts would hide a mean of means"
    assert all(len(row["seq_lengths"]) > 2 for row in step.theirs)
    expected = 0.0
    for inputs in micro:
        loss = made.compute_loss(made.model, inputs, num_items_in_batch=sum(counts))
        loss.backward()
        expected += float(loss)

    own = engine(model, attention)
    terms = own.accumulate(NextToken(), step.ours, 0, tiny.never)
    assert terms.counted == sum(counts)
    right = gradients(made.model)
    assert terms.mean() == pytest.approx(expected, abs=NEAR)
    assert far(our_gradients(own.model), right) < NEAR
    assert all(float(grad.abs().max()) > 1e-4 for grad in right.values()), (
        "a gradient of nothing proves nothing"
    )

    largest = max(float(grad.abs().max()) for grad in right.values())
    for name, wrong in mistakes(model, step.ours).items():
        model.zero_grad()
        wrong.backward()
        assert abs(float(wrong) - expected) > 500 * NEAR, name
        assert far(our_gradients(model), right) > 0.1 * largest, name


def test_five_steps_are_those_of_trls_trainer(
    tokenizer: Tokenizer, steps: list[Step], tmp_path: Path
) -> None:
    model = network(tokenizer)
    rows = [row for step in steps for row in step.theirs]
    made = trainer(tmp_path, model, tokenizer, rows, **AS_THEY_ARE)
    made.train()
    per_step = ROWS // MICRO
    expected = [sum(made.heard[begin : begin + per_step]) for begin in range(0, len(made.heard), per_step)]
    norms = [line["grad_norm"] for line in made.state.log_history if "grad_norm" in line]
    assert len(expected) == len(norms) == STEPS
    assert expected[0] - expected[-1] > 0.5, "nothing was learned, so nothing was compared"

    own = engine(model)
    for number, step in enumerate(steps):
        parts = [step.ours.rows(start, start + MICRO) for start in range(0, ROWS, MICRO)]
        mean_of_means = sum(float(plain(model, part)) for part in parts) / len(parts)
        terms = own.accumulate(NextToken(), step.ours, number, tiny.never)
        update = own.update(terms, RATE)
        assert terms.mean() == pytest.approx(expected[number], abs=NEAR)
        assert update.grad_norm == pytest.approx(norms[number], rel=1e-5)
        assert update.grad_norm > 1.0, "it must be clipped for the clipping to be compared"
        assert abs(mean_of_means - expected[number]) > 500 * NEAR
    state = made.model.state_dict()
    moved = network(tokenizer).state_dict()
    for name, value in to_stock(model).items():
        assert float((value - state[name]).abs().max()) < 1e-5, name
        assert float((value - moved[name.removeprefix("model.")]).abs().max()) > 1e-3, name


def test_a_micro_batch_with_nothing_to_learn_leaves_the_step_as_it_is_with_trl(
    tokenizer: Tokenizer, steps: list[Step], tmp_path: Path
) -> None:
    """And a step of nothing but such is no loss and no gradient, on either side."""
    model, step = network(tokenizer), steps[0]
    made = trainer(tmp_path, model, tokenizer, step.theirs, **AS_THEY_ARE)
    for emptied in (range(MICRO, ROWS), range(ROWS)):
        targets = step.ours.targets.clone()
        targets[list(emptied)] = IGNORE
        batch = replace(step.ours, targets=targets)
        rows = [
            {**row, "labels": [-100] * len(row["labels"])} if number in emptied else row
            for number, row in enumerate(step.theirs)
        ]
        micro = [made.data_collator(rows[start : start + MICRO]) for start in range(0, ROWS, MICRO)]
        counted = torch.tensor(batch.counted)
        made.model.zero_grad()
        expected = 0.0
        for inputs in micro:
            loss = made.compute_loss(made.model, inputs, num_items_in_batch=counted)
            loss.backward()
            expected += float(loss)
        model.zero_grad()
        terms = engine(model).accumulate(NextToken(), batch, 0, tiny.never)
        assert terms.mean() == pytest.approx(expected, abs=NEAR)
        assert far(our_gradients(model), gradients(made.model)) < NEAR
        assert (expected == 0) == (len(emptied) == ROWS)
        assert any(grad.any() for grad in gradients(model).values()) == (len(emptied) < ROWS)
