"""A language of ten letters, a network that speaks it, and problems in it, for tests of rewards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from linnet.data.batches import Batch
from linnet.data.conversations.kinds import Problem
from linnet.data.conversations.rendering import Prompt
from linnet.data.prompts import PromptBatches
from linnet.infer import Generator
from linnet.model import ModelSpec, Transformer, initialize
from linnet.objectives.reward import Reward, RewardSettings
from linnet.objectives.verifiers import Verifier, VerifierSettings, resolve

LETTERS = "abcdefghij"
EOS = len(LETTERS)
VOCABULARY = EOS + 1


class LetterStream:
    def feed(self, token_id: int) -> str:
        return LETTERS[token_id] if token_id < len(LETTERS) else "?"

    def finish(self) -> str:
        return ""


class LetterTokenizer:
    """A token is a letter."""

    eos_id = EOS
    stop_ids = (EOS,)

    def __init__(self, vocab_size: int = VOCABULARY) -> None:
        self.vocab_size = vocab_size

    def encode(self, text: str) -> list[int]:
        return [LETTERS.index(letter) for letter in text]

    def stream_decoder(self, prompt: Sequence[int] = ()) -> LetterStream:
        return LetterStream()


def network(seed: int = 0, **changes: Any) -> Transformer:
    """A small Llama with dropout, whose head has more rows than there are letters."""
    spec = ModelSpec.model_validate(
        {
            "architecture": "llama",
            "vocab_size": 16,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "intermediate_size": 64,
            "max_position_embeddings": 64,
            "tie_word_embeddings": True,
            "dropout": 0.1,
            **changes,
        }
    )
    model = Transformer(spec)
    initialize(model, seed)
    with torch.no_grad():  # opinions: a fresh network finds all letters alike
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4)
    return model


def problem(text: str, answer: str = "", **columns: Any) -> Prompt:
    """A prompt of letters after an EOS, and what is right."""
    words = ({"role": "user", "content": text},)
    ids = [EOS, *LetterTokenizer().encode(text)]
    return Prompt(ids, Problem(words, answer or None, {**({"answer": answer} if answer else {}), **columns}))


PROBLEMS = [problem(text, text[0]) for text in ("ab", "bcdefg", "c", "dab", "ea", "fbca", "gh", "haj")]


class Counting(Verifier):
    """A reward that differs from completion to completion: how many letters before e, or None where j is said."""

    def __init__(self, name: str = "counting", none_at: str = "j") -> None:
        def judge(texts: list[str], columns: Any, budget: Any) -> list[float | None]:
            return [None if none_at and none_at in t else sum(c < "e" for c in t) / 4 for t in texts]

        super().__init__(VerifierSettings(kind="regex:.", name=name), judge=judge)


def settings(**changes: Any) -> RewardSettings:
    return RewardSettings.model_validate(
        {"verifiers": ["exact"], "num_generations": 4, "max_completion_length": 8} | changes
    )


def verifier(kind: str, **more: Any) -> Verifier:
    return resolve(VerifierSettings(kind=kind, **more))


def objective(
    model: Transformer,
    verifiers: Sequence[Verifier] = (),
    problems: Sequence[Prompt] = PROBLEMS,
    seed: int = 5,
    reference: Transformer | None = None,
    vocab_size: int = VOCABULARY,
    **changes: Any,
) -> Reward:
    generator = Generator(model, LetterTokenizer(vocab_size))
    judges = list(verifiers) or [Counting()]
    return Reward(problems, judges, generator, settings(**changes), seed, reference=reference)


def prompts_for(reward: Reward, train_batch_size: int = 16) -> PromptBatches:
    """The batches that the objective is given."""
    some = reward.settings
    return PromptBatches(
        "letters",
        reward.problems,
        reward.seed,
        per_generation=some.prompts_per_generation(train_batch_size),
        steps=some.steps_of_a_generation,
        pad_id=EOS,
    )


def accumulated(
    reward: Reward, model: Transformer, batch: Batch, micro: int
) -> tuple[float, dict[str, Tensor]]:
    """Loss and gradients of a step as an engine makes them, `micro` rows at a time."""
    model.train()
    model.zero_grad()
    counted, total = reward.counted(batch), 0.0
    for start in range(0, len(batch), micro):
        loss = reward.loss(model, batch.rows(start, start + micro))
        (loss.sum / max(1, counted)).backward()
        total += float(loss.sum.detach()) / max(1, counted)
    return total, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def measured(reward: Reward, model: Transformer, batch: Batch) -> dict[str, float]:
    """Means of a step's measures."""
    with torch.no_grad():
        measures = reward.loss(model, batch).measures
    return {name: float(total / count) for name, (total, count) in measures.items()}


def moved(model: Transformer, by: float, seed: int = 1) -> None:
    """Another policy, not far away."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(by * torch.randn(parameter.shape, generator=draw))
