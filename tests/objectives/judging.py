"""Small models that judge, ours and transformers', and what they are given to judge."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from linnet.model import ModelSpec, Transformer, save_model
from linnet.objectives.verifiers import Budget, Verifier, VerifierSettings, resolve
from linnet.objectives.verifiers.model_judge import ModelJudge
from linnet.text import Tokenizer, train_tokenizer
from linnet.text.chat_tokens import chatting, template_for

WORDS = "Is the answer right? Answer yes or no. Yes, yes. No, no. Question: Who lives in the mill? Answer: a fox.\n"
PROMPTS: list[Any] = [
    "Who lives in the mill?",
    [{"role": "user", "content": "Who lives there?"}],
    [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Is the mill old?"},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "And who lives in it, by the river, all the year?"},
    ],
    "And?",
]
COMPLETIONS = ["A fox.", "Nobody lives there, or so they say; but no one has looked.", "A", ""]
ARCHITECTURES = ("llama", "qwen3", "gpt2", "smollm3")


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def vocabulary() -> Tokenizer:
    return train_tokenizer([WORDS] * 40, 310)


@torch.no_grad()
def shake(model: torch.nn.Module) -> None:
    """Wide weights, so that every token moves the values."""
    generator = torch.Generator().manual_seed(3)
    for name, parameter in model.named_parameters():
        drawn = torch.randn(parameter.shape, generator=generator)
        is_scale = parameter.dim() == 1 and not name.endswith("bias")
        parameter.copy_(drawn * 0.2 + is_scale)


def causal(folder: Path, tokenizer: Tokenizer, context: int = 256, architecture: str = "llama") -> Path:
    """A small causal language model's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    spec = ModelSpec(
        architecture=architecture, vocab_size=tokenizer.vocab_size + 5, hidden_size=32, num_hidden_layers=2,
        num_attention_heads=4, intermediate_size=64, max_position_embeddings=context,
    )  # fmt: skip
    model = Transformer(spec)
    shake(model)
    save_model(model, folder, eos_id=tokenizer.eos_id)
    tokenizer.save(folder)
    return folder


def rewarding(folder: Path, tokenizer: Tokenizer, architecture: str, pad: int | None, labels: int = 1) -> Any:
    """A small reward model of transformers, saved."""
    transformers = pytest.importorskip("transformers")
    sizes = {"vocab_size": tokenizer.vocab_size, "pad_token_id": pad, "bos_token_id": None,
             "eos_token_id": tokenizer.eos_id, "num_labels": labels}  # fmt: skip
    if architecture == "gpt2":
        config = transformers.GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=256, **sizes)
        theirs = transformers.GPT2ForSequenceClassification(config)
    else:
        name = {"llama": "Llama", "qwen3": "Qwen3", "smollm3": "SmolLM3"}[architecture]
        config = getattr(transformers, f"{name}Config")(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
            intermediate_size=64, max_position_embeddings=256, **sizes,
        )  # fmt: skip
        theirs = getattr(transformers, f"{name}ForSequenceClassification")(config)
    shake(theirs)
    theirs.eval().save_pretrained(folder)
    tokenizer.save(folder)
    return theirs


def chatml(tokenizer: Tokenizer) -> Tokenizer:
    return chatting(tokenizer, template_for(tokenizer, "chatml"))


def messages(prompt: Any, completion: str) -> list[dict[str, str]]:
    turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    return [*turns, {"role": "assistant", "content": completion}]


def verifier(path: Path, **settings: Any) -> Verifier:
    return resolve(VerifierSettings(kind=f"model:{path}", **settings), "cpu")


def judge_of(found: Verifier) -> ModelJudge:
    assert isinstance(found._judge, ModelJudge)
    return found._judge


def read_by(found: Verifier, texts: Sequence[str], **columns: Any) -> list[str]:
    """What the model reads, special tokens by their names."""
    judge = judge_of(found)
    judge._loaded()
    rows = judge._rows(texts, columns, Budget())
    return [judge.tokenizer.decode(row, skip_special=False) for row in rows]
