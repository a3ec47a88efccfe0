"""TRL's GRPOTrainer as an oracle: around our network, given our rollouts."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from rewarding import EOS, LETTERS
from torch import Tensor

from linnet.model import Transformer, save_model
from linnet.model.stock_weights import to_stock

PAD = EOS + 1


def trainer(folder: Path, model: Transformer, reference: Transformer | None = None, **arguments: Any) -> Any:
    """A trainer of the stock model of `model`; with a KL its reference is the stock model of `reference`."""
    trl = pytest.importorskip("trl")
    tokenizers = pytest.importorskip("tokenizers")
    datasets = pytest.importorskip("datasets")
    transformers = pytest.importorskip("transformers")
    (folder / "model").mkdir(parents=True)
    save_model(reference or model, folder / "model", eos_id=EOS, bos_id=None, pad_id=PAD)
    words = {letter: number for number, letter in enumerate((*LETTERS, "<eos>", "<pad>"))}
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<pad>")),
        eos_token="<eos>", pad_token="<pad>",
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = trl.GRPOTrainer(
            model=str(folder / "model"),
            reward_funcs=lambda completions, **columns: [0.0] * len(completions),
            args=trl.GRPOConfig(
                output_dir=str(folder / "out"), use_cpu=True, report_to=[], bf16=False,
                gradient_checkpointing=False, per_device_train_batch_size=arguments["num_generations"],
                model_init_kwargs={"dtype": "float32"}, **arguments,
            ),
            train_dataset=datasets.Dataset.from_list([{"prompt": "a"}]),
            processing_class=tokenizer,
        )  # fmt: skip
    made.model.load_state_dict({name: value.clone() for name, value in to_stock(model).items()}, strict=False)
    made.model.model.embed_tokens.padding_idx = None  # a token like any other, which may be drawn
    made.model.train()
    made.current_gradient_accumulation_steps = 1
    made.eos_token_ids = [EOS]
    return made


def scored(
    made: Any, prompts: Sequence[list[int]], completions: Sequence[list[int]], rewards: Sequence[float | None]
) -> dict[str, Any]:
    """What TRL makes of rollouts: padded rows with their advantages."""
    made._generate = lambda given: (
        list(prompts),
        list(completions),
        None,
        [""] * len(prompts),
        None,
        {},
        None,
        None,
    )
    made.reward_funcs = [lambda completions, **columns: list(rewards)]
    return made._generate_and_score_completions([{"prompt": "a"}] * len(prompts))


def loss_of_logprobs(made: Any, logprobs: Tensor, inputs: dict[str, Any]) -> Tensor:
    """TRL's loss where the model gives these log-probabilities [B, T]."""
    made._get_per_token_logps_and_entropies = lambda *_, **__: (logprobs, torch.zeros_like(logprobs), None)
    return made._compute_loss(made.model, inputs)
