"""Keys and values of what was already read, so that a new token costs one step and not a whole pass.

Rows of a batch may hold different lengths: each row writes at its own position, and a
mask hides what lies beyond it. A row's padding is therefore on the right, where the next
tokens overwrite it, and positions are the same as if the row had been alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from linnet.model.spec import ModelSpec


class KVCache:
    """Keys and values of every layer for `rows` sequences of at most `capacity` tokens."""

    def __init__(
        self, spec: ModelSpec, rows: int, capacity: int, device: torch.device | str, dtype: torch.dtype
    ) -> None:
        shape = (spec.num_hidden_layers, rows, capacity, spec.key_value_heads, spec.head_size)
        self.keys = torch.zeros(shape, device=device, dtype=dtype)
        self.values = torch.zeros(shape, device=device, dtype=dtype)
        self.lengths = torch.zeros(rows, dtype=torch.long, device=device)
        self.longest = 0  # kept on the host, so that reading it never waits for the device
        self._rows = torch.arange(rows, device=device).unsqueeze(1)
        self._where = self.lengths.unsqueeze(1)
        self._reach = 0

    @property
    def capacity(self) -> int:
        """How many tokens a row can hold."""
        return self.keys.shape[2]

    def positions(self, count: int) -> Tensor:
        """Positions [B, count] that the next `count` tokens of each row will take."""
        self._where = self.lengths.unsqueeze(1) + torch.arange(count, device=self.lengths.device)
        self._reach = self.longest + count
        return self._where

    def mask(self, positions: Tensor) -> Tensor:
        """[B, 1, T, S]: a token at position p may attend to positions 0..p of its own row."""
        keys = torch.arange(self._reach, device=positions.device)
        return (keys <= positions.unsqueeze(-1)).unsqueeze(1)

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write new keys and values [B, T, heads, head] of one layer; all of them so far [B, S, heads, head]."""
        self.keys[layer, self._rows, self._where] = keys
        self.values[layer, self._rows, self._where] = values
        return self.keys[layer, :, : self._reach], self.values[layer, :, : self._reach]

    def advance(self, counts: list[int]) -> None:
        """Count `counts[row]` of the tokens just written as read; the rest is padding to be overwritten."""
        self.lengths += torch.tensor(counts, device=self.lengths.device)
        self.longest = int(self.lengths.max()) if len(set(counts)) > 1 else self.longest + counts[0]

    def keep(self, rows: list[int]) -> None:
        """Drop every row but these, in this order."""
        index = torch.tensor(rows, dtype=torch.long, device=self.lengths.device)
        self.keys, self.values = self.keys[:, index], self.values[:, index]
        self.lengths = self.lengths[index]
        self._rows = torch.arange(len(rows), device=index.device).unsqueeze(1)
        self.longest = int(self.lengths.max()) if rows else 0
