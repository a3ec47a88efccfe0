"""Prompts to be answered in training: which problems the rollouts of a step are made of.

The model that answers changes from step to step, so there is no batch of tokens to learn here, only the
numbers of the problems. They are a pure function of (seed, step) all the same: an epoch is a keyed
permutation, cut into generations, and all steps that share a generation name the same problems.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from linnet.data.batches import IGNORE, Batch
from linnet.data.conversations.rendering import Prompt
from linnet.data.example_batches import ExampleBatches
from linnet.data.order import Order


class PromptBatches(ExampleBatches):
    """`batches[step]` has a generation's prompts, filled up on the right, and `problem`: their numbers [P].

    Args:
        per_generation: prompts of a generation.
        steps: optimizer steps that it serves.
    """

    def __init__(
        self,
        title: str,
        prompts: Sequence[Prompt],
        seed: int,
        *,
        per_generation: int,
        steps: int,
        pad_id: int,
    ) -> None:
        super().__init__(title, _fingerprint(prompts, seed, per_generation, steps))
        self.prompts, self.per_generation, self.steps_each = prompts, per_generation, steps
        self.pad_id = pad_id
        self._order = Order(len(prompts), seed)

    def problems(self, generation: int) -> np.ndarray:
        """The numbers of a generation's problems [P], int64."""
        first = generation * self.per_generation
        return self._order(np.arange(first, first + self.per_generation))

    def __getitem__(self, step: int) -> Batch:
        problems = self.problems(step // self.steps_each)
        some = [self.prompts[problem].ids for problem in problems.tolist()]
        tokens = np.full((len(some), max(map(len, some))), self.pad_id, dtype=np.int64)
        for row, ids in enumerate(some):
            tokens[row, : len(ids)] = ids
        targets = torch.full(tokens.shape, IGNORE)
        return Batch(torch.from_numpy(tokens), targets, columns={"problem": torch.from_numpy(problems)})

    def first(self, epoch: int) -> int:
        """The first step of an epoch: that of the first generation with only its prompts."""
        return -(-epoch * len(self.prompts) // self.per_generation) * self.steps_each


def _fingerprint(prompts: Sequence[Prompt], *facts: int) -> str:
    """What decides every rollout but for the model: the prompts' tokens and what their answers are held against."""
    digest = hashlib.sha256(repr(("prompts", *facts)).encode())
    for prompt in prompts:
        digest.update(len(prompt.ids).to_bytes(8, "little"))
        digest.update(np.array(prompt.ids, dtype="<i8").tobytes())
        facts_of = [prompt.problem.answer, dict(prompt.problem.columns)]
        digest.update(json.dumps(facts_of, default=_plain).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _plain(value: Any) -> str:
    """Of what JSON does not know, nothing that another process would write otherwise."""
    return value.hex() if isinstance(value, bytes) else type(value).__name__
