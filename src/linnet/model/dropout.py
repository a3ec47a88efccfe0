"""Dropout whose masks belong to a row, so that they do not depend on the rows computed beside it.

A stream of random numbers gives a row another mask whenever the rows before it change: another
micro-batch would then be another result. Here whether an element is kept is a hash of its row's key
and its place in the row, a counter-based generator as in Salmon et al. 2011, made of ordinary integer
operations: the same on every device and under a compiler, and the same again when activation
checkpointing runs a block twice. The keys come from outside (`seed_rows`), once for every micro-batch.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

_LEVELS = 1 << 31  # of the 31 bits that are compared with the rate


class Dropout(nn.Module):
    """In training, zeroes elements with probability `rate` and scales the others by 1 / (1 - rate).

    The masks follow from `keys`, one of each row; calling it twice with the same keys gives the same mask.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.keys: Tensor | None = None  # [B] int32

    @property
    def active(self) -> bool:
        """Whether it changes what it reads."""
        return self.training and self.rate > 0

    def forward(self, x: Tensor) -> Tensor:
        """x: [B, ..., C] → the same shape and dtype.

        Raises:
            RuntimeError: in training, when these rows have no keys.
        """
        if not self.active:
            return x
        if self.keys is None or len(self.keys) != len(x):
            raise RuntimeError("dropout has no key for each of these rows; call seed_rows(model, keys) first")
        return torch.where(kept(self.keys, x.shape, self.rate), x * (1 / (1 - self.rate)), 0.0)


def row_keys(model: nn.Module, seed: int, rows: int) -> Tensor:
    """Keys of a step's rows for each dropout of the model: [dropouts, rows] int32, on the CPU.

    Args:
        seed: of the step.
    """
    generator = torch.Generator().manual_seed(seed)
    shape = rows, len(_dropouts(model))
    return torch.randint(-_LEVELS, _LEVELS, shape, generator=generator, dtype=torch.int32).T.contiguous()


def seed_rows(model: nn.Module, keys: Tensor) -> None:
    """Give every dropout of the model the keys of the rows that it reads next.

    Args:
        keys: [dropouts, B] int32 on the model's device: the columns of `row_keys` for these rows.
    """
    for dropout, own in zip(_dropouts(model), keys, strict=True):
        dropout.keys = own


def _dropouts(model: nn.Module) -> list[Dropout]:
    return [module for module in model.modules() if isinstance(module, Dropout) and module.rate]


def kept(keys: Tensor, shape: torch.Size, rate: float) -> Tensor:
    """Whether each element is kept: keys [B] → boolean [B, ..., C]."""
    between, channels = shape[1:-1], shape[-1]
    places = torch.arange(math.prod(between), dtype=torch.int32, device=keys.device).view(between)
    words = mixed(keys.view(-1, *[1] * len(between)) + places)
    words = mixed(words.unsqueeze(-1) ^ torch.arange(channels, dtype=torch.int32, device=keys.device))
    return (words & (_LEVELS - 1)) >= round(rate * _LEVELS)


def mixed(x: Tensor) -> Tensor:
    """A one-to-one hash of int32 numbers, `lowbias32` of Wellons' hash-prospector; products wrap around."""
    x = (x ^ _shifted(x, 16)) * 0x7FEB352D
    x = (x ^ _shifted(x, 15)) * (0x846CA68B - (1 << 32))
    return x ^ _shifted(x, 16)


def _shifted(x: Tensor, bits: int) -> Tensor:
    """x >> bits with zeroes moving in, for numbers that have a sign."""
    return (x >> bits) & ((1 << (32 - bits)) - 1)
