"""Keys and values of what was already read, so that a new token costs one step and not a whole pass.

Rows are sequences of different lengths that come and go while others run on. In one pass some rows
read a whole prompt and others one token: the tokens of all rows stand end to end, so that nothing is
padded, and only attention looks at rows apart. It looks at rows of like length together, because what
a step of a large batch costs, beside the matrix products, is reading keys and values.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor

from linnet.model.attention import sdpa
from linnet.model.spec import ModelSpec

# On an accelerator, reaches are rounded up to multiples of this: a fused kernel then meets few shapes, and
# masks whose rows are aligned. On a CPU each further key costs time, and shapes cost nothing.
REACH_MULTIPLE = {"cpu": 1}
ELSEWHERE_MULTIPLE = 128


def decoding_kernels(device: str) -> AbstractContextManager[None]:
    """Keep cuDNN out of attention while tokens are decoded.

    Rows and reach change from token to token, and cuDNN, which torch prefers on Hopper, takes about half a
    second to plan each new shape.
    """
    if device != "cuda":
        return nullcontext()
    from torch.nn.attention import SDPBackend, sdpa_kernel

    return sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH])


class _Piece(NamedTuple):
    """Neighbouring rows that read equally many tokens, and attend together."""

    rows: slice
    tokens: slice  # where their tokens stand in the pass
    reach: int  # how many keys are looked at: those that the longest of them sees, or a few more, hidden
    mask: Tensor | None  # [rows, 1, T, reach], added to scores; None where nothing was read before: causal


class KVCache:
    """Keys and values of every layer for `rows` sequences of at most `capacity` tokens.

    All rows are there at first, empty; there are never more at once.
    """

    def __init__(
        self, spec: ModelSpec, rows: int, capacity: int, device: torch.device | str, dtype: torch.dtype
    ) -> None:
        # A head's keys lie together in memory. Zeros, because a mask does not hide a NaN among values.
        shape = (spec.num_hidden_layers, rows, spec.key_value_heads, capacity, spec.head_size)
        self._keys = torch.zeros(shape, device=device, dtype=dtype)
        self._values = torch.zeros(shape, device=device, dtype=dtype)
        self._multiple = REACH_MULTIPLE.get(self._keys.device.type, ELSEWHERE_MULTIPLE)
        self._lengths = [0] * rows  # on the host, so that looking at them never waits for the device
        self._pieces: list[_Piece] = []
        self._places = torch.zeros(0, dtype=torch.long, device=device)

    def __len__(self) -> int:
        """How many rows there are now."""
        return len(self._lengths)

    @property
    def keys(self) -> Tensor:
        """[layers, rows, heads, capacity, head]"""
        return self._keys[:, : len(self)]

    @property
    def values(self) -> Tensor:
        """[layers, rows, heads, capacity, head]"""
        return self._values[:, : len(self)]

    @property
    def lengths(self) -> Tensor:
        """How many tokens each row holds, [rows]."""
        return torch.tensor(self._lengths, device=self._keys.device)

    @property
    def capacity(self) -> int:
        """How many tokens a row can hold."""
        return self._keys.shape[3]

    @property
    def longest(self) -> int:
        """How many tokens the longest row holds."""
        return max(self._lengths, default=0)

    # --- one pass ---------------------------------------------------------------------------------

    def positions(self, counts: Sequence[int]) -> Tensor:
        """Begin a pass in which row i reads `counts[i]` tokens; the positions of all of them end to end, [N]."""
        where = [had + i for had, count in zip(self._lengths, counts, strict=True) for i in range(count)]
        rows = [row for row, count in enumerate(counts) for _ in range(count)]
        positions, of_row = torch.tensor([where, rows], device=self._keys.device)
        heads = self._keys.shape[2]
        lines = of_row.unsqueeze(1) * heads + torch.arange(heads, device=of_row.device)
        self._places = (lines * self.capacity + positions.unsqueeze(1)).flatten()  # [N * heads]
        self._pieces = list(self._parted(counts, positions))
        return positions

    def _parted(self, counts: Sequence[int], positions: Tensor) -> Iterator[_Piece]:
        row = token = 0
        for (count, _), alike in groupby(zip(counts, map(self._size, self._lengths), strict=True)):
            rows = slice(row, row := row + len(list(alike)))
            tokens = slice(token, token := token + count * (rows.stop - rows.start))
            longest = max(self._lengths[rows])
            reach, mask = longest + count, None
            if longest:
                reach = min(-(-reach // self._multiple) * self._multiple, self.capacity)
                keys = torch.arange(reach, device=positions.device)
                hidden = keys > positions[tokens].view(-1, 1, count, 1)
                mask = torch.zeros(hidden.shape, dtype=self._keys.dtype, device=keys.device)
                mask.masked_fill_(hidden, -torch.inf)
            yield _Piece(rows, tokens, reach, mask)

    def _size(self, length: int) -> int:
        """Rows of one size attend together: to 64 tokens, to 128, to 256 and so on.

        Elsewhere than on a CPU all rows do: there the number of kernels counts more than what they read.
        """
        return (length // 64).bit_length() if self._keys.device.type == "cpu" else 0

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write this pass's keys and values [..., heads, head] of one layer; all so far [rows, S, heads, head]."""
        size = keys.shape[-1]
        reach = max((piece.reach for piece in self._pieces), default=0)
        found = []
        for kept, new in ((self._keys[layer], keys), (self._values[layer], values)):
            kept.view(-1, size).index_copy_(0, self._places, new.reshape(-1, size))
            found.append(kept[: len(self), :, :reach].transpose(1, 2))
        return found[0], found[1]

    def attend(self, layer: int, q: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Attention of this pass's tokens, each to what its row holds up to it.

        q: [N, query heads, head]; keys, values: [N, heads, head], which the cache takes in. Gives [N, query
        heads, head].
        """
        keys, values = self.extend(layer, keys, values)
        parts = []
        for rows, tokens, reach, mask in self._pieces:
            k, v = keys[rows, :reach], values[rows, :reach]
            queries = q[tokens].unflatten(0, (len(k), -1))  # [rows, T, query heads, head]
            if queries.shape[1] == 1:
                # Query heads that share a key head stand as tokens do, and it is read once for them all.
                grouped = queries.unflatten(2, (k.shape[2], -1)).squeeze(1).transpose(1, 2)
                found = sdpa(grouped, k, v, mask, None).transpose(1, 2).flatten(1, 2)
            else:
                found = sdpa(queries, k, v, mask, None).flatten(0, 1)
            parts.append(found)
        return torch.cat(parts)

    def advance(self, counts: Sequence[int]) -> None:
        """Count `counts[row]` of the tokens just written as read; more than these will be overwritten."""
        self._lengths = [had + more for had, more in zip(self._lengths, counts, strict=True)]

    # --- rows that come and go ----------------------------------------------------------------------

    def add(self, like: int = 0, length: int = 0) -> None:
        """Put a row behind the others that begins with the first `length` tokens of the row `like`."""
        for kept in (self._keys, self._values):
            kept[:, len(self), :, :length] = kept[:, like, :, :length]
        self._lengths.append(length)

    def keep(self, rows: list[int]) -> None:
        """Drop every row but these, in this order. Only rows whose place changes cost anything."""
        places = [place for place, row in enumerate(rows) if place != row]
        if places:
            moved = [rows[place] for place in places]
            reach = max(self._lengths[row] for row in moved)
            for kept in (self._keys, self._values):
                kept[:, places, :, :reach] = kept[:, moved, :, :reach]
        self._lengths = [self._lengths[row] for row in rows]

    def order(self, staying: list[int]) -> list[int]:
        """These rows, in an order where those of one size stand together and few change their place."""
        size = {row: self._size(self._lengths[row]) for row in staying}
        wanted = sorted(size.values(), reverse=True)  # new rows, mostly short, come last
        settled = {place for place, want in enumerate(wanted) if size.get(place) == want}
        others: dict[int, list[int]] = {}
        for row in staying:
            if row not in settled:
                others.setdefault(size[row], []).append(row)
        return [place if place in settled else others[want].pop() for place, want in enumerate(wanted)]
