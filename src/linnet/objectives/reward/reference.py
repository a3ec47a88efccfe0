"""Log-probabilities under the model that a stage began with, which a KL keeps the policy near.

They are wanted once a generation, for rows that do not change, and no gradient goes through them. An adapted
model is its own reference with its adapters off; a model that is trained whole needs a frozen copy.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from linnet.config import RequestError
from linnet.model import Transformer, lora
from linnet.objectives.reward.rows import Rows
from linnet.objectives.token_logprobs import token_logprobs

_TOKENS = 16384  # places read at a time; hidden states and one chunk of logits are all that is kept


def check_reference(model: Transformer, reference: Transformer | None) -> None:
    """Say before a run that there is nothing to hold the model against.

    Raises:
        RequestError: the model has no adapters, and there is no frozen one.
    """
    if reference is None and not lora.adapters(model):
        raise RequestError("beta is above 0 and there is no reference model", "beta", "write beta: 0")


@torch.no_grad()
def reference_logprobs(
    model: Transformer, reference: Transformer | None, rows: Rows, vocab_size: int, temperature: float
) -> Tensor:
    """Of the targets of all rows, [N, T] FP32 on the CPU, 0 where a target is not counted.

    Args:
        reference: None: the model without its adapters.
        vocab_size: tokens that there are; a head may be padded.
    """
    device = model.embed_tokens.weight.device
    found = []
    with _frozen(model, reference) as network:
        for tokens, targets in zip(*_parts(rows), strict=True):
            hidden = network(tokens.to(device)).flatten(0, 1)
            logprobs = token_logprobs(
                hidden,
                network.head_weight[:vocab_size],
                targets.to(device).flatten(),
                temperature=temperature,
            )
            found.append(logprobs.view(targets.shape).float().cpu())
    return torch.cat(found)


def _parts(rows: Rows) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    size = max(1, _TOKENS // rows.tokens.shape[1])
    return rows.tokens.split(size), rows.targets.split(size)


@contextmanager
def _frozen(model: Transformer, reference: Transformer | None) -> Iterator[Transformer]:
    if reference is not None:
        yield reference.eval()
        return
    with lora.disabled(model):
        yield model.eval()  # type: ignore[misc]
