"""A generation's rollouts as rows to learn from, which several optimizer steps may share.

Everything that a step needs is in tensors, so a checkpoint in the middle of a generation holds them as they
are and the run goes on from it bit for bit. A row is a prompt and its completion, filled up on the right;
the token that ended a completion is learned, or a model would forget how to stop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from linnet.data.batches import IGNORE, Batch
from linnet.data.order import Permutation
from linnet.infer import Completion
from linnet.objectives.reward.losses import row_weights
from linnet.objectives.reward.settings import RewardSettings

_MULTIPLE = 8  # widths are multiples of this: fewer shapes, which kernels like better


@dataclass(frozen=True)
class Rows:
    """N rows of a generation, those of each step after those of the step before.

    columns, beside tokens and targets [N, T]: sampled [N, T], the log-probabilities with which the tokens
    were drawn; advantages [N]; places [N], how far a row must be read; weights [N], see `row_weights`;
    reference [N, T], where there is a KL. All but the first are FP32 or int64, on the CPU.
    """

    generation: int
    tokens: Tensor
    targets: Tensor
    columns: Mapping[str, Tensor]

    def part(self, index: int, parts: int) -> Batch:
        """The batch of a step: part `index` of `parts`."""
        size = len(self.tokens) // parts
        rows = slice(index * size, (index + 1) * size)
        whole = Batch(
            self.tokens[rows], self.targets[rows], columns={k: v[rows] for k, v in self.columns.items()}
        )
        return narrowed(whole)

    def state(self) -> dict[str, Tensor]:
        """The rows as a checkpoint holds them."""
        columns = {f"column.{name}": value for name, value in self.columns.items()}
        number = torch.tensor(self.generation)
        return {"generation": number, "tokens": self.tokens, "targets": self.targets, **columns}

    @classmethod
    def of(cls, state: Mapping[str, Tensor]) -> Rows:
        """What `state` gave."""
        columns = {name[7:]: value for name, value in state.items() if name.startswith("column.")}
        return cls(int(state["generation"]), state["tokens"], state["targets"], columns)

    def with_reference(self, reference: Tensor) -> Rows:
        """With the log-probabilities [N, T] under the reference."""
        return replace(self, columns={**self.columns, "reference": reference})


def make_rows(
    completions: Sequence[Completion],
    advantages: Tensor,
    settings: RewardSettings,
    generation: int,
    key: tuple[int, ...],
    pad_id: int,
) -> Rows:
    """Rows of completions [N], shuffled into the generation's steps; within a step, long ones first.

    Args:
        advantages: [N].
        key: of the shuffle.
    """
    parts = settings.steps_per_generation
    left_out = [settings.mask_truncated_completions and c.finish_reason == "length" for c in completions]
    counted = np.array([0 if out else len(c.ids) for c, out in zip(completions, left_out, strict=True)])
    # A row without anything to learn need not be read; attention wants one place of it all the same.
    places = np.array([1 if out else len(c.prompt_ids) + len(c.ids) - 1
                       for c, out in zip(completions, left_out, strict=True)])  # fmt: skip
    shuffled = Permutation(len(completions), *key)(np.arange(len(completions))).reshape(parts, -1)
    order = np.concatenate([part[np.argsort(-places[part], kind="stable")] for part in shuffled])
    rows = _padded([completions[row] for row in order.tolist()], int(places.max()), pad_id)
    tokens, targets, sampled = rows
    lengths = torch.from_numpy(counted[order])
    targets[lengths == 0] = IGNORE
    sampled[lengths == 0] = 0
    weights = [
        row_weights(
            part, settings.loss_type, max_completion_length=settings.max_completion_length,
            tokens_per_step=float(counted.sum()) / parts,
        )
        for part in lengths.chunk(parts)
    ]  # fmt: skip
    columns = {
        "sampled": sampled,
        "advantages": advantages[torch.from_numpy(order)].contiguous(),
        "places": torch.from_numpy(places[order]),
        "weights": torch.cat(weights),
    }
    return Rows(generation, tokens, targets, columns)


def _padded(completions: Sequence[Completion], longest: int, pad_id: int) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens, targets and the completions' log-probabilities [N, T], each where its target is."""
    shape = (len(completions), longest)
    tokens = np.full(shape, pad_id, dtype=np.int64)
    targets = np.full(shape, IGNORE, dtype=np.int64)
    sampled = np.zeros(shape, dtype=np.float32)
    for row, completion in enumerate(completions):
        assert completion.logprobs is not None
        ids = [*completion.prompt_ids, *completion.ids]
        end = min(len(ids) - 1, longest)
        begin = min(len(completion.prompt_ids) - 1, end)
        tokens[row, :end] = ids[:end]
        targets[row, begin:end] = ids[begin + 1 : end + 1]
        sampled[row, begin:end] = completion.logprobs[: end - begin]
    return torch.from_numpy(tokens), torch.from_numpy(targets), torch.from_numpy(sampled)


def narrowed(batch: Batch) -> Batch:
    """The batch without the places that none of its rows needs."""
    width = -(-int(batch.columns["places"].max()) // _MULTIPLE) * _MULTIPLE
    if width >= batch.tokens.shape[1]:
        return batch
    columns = {name: value[:, :width] if value.dim() == 2 else value for name, value in batch.columns.items()}
    return replace(batch, tokens=batch.tokens[:, :width], targets=batch.targets[:, :width], columns=columns)
