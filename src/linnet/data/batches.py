"""Batches as the model sees them.

The corpus is one long line of documents, each ended by EOS, with one EOS before the first.
A window is `sequence_length` targets in a row, and its inputs are the tokens one place
earlier: shifted here and nowhere else, so every token is a target exactly once an epoch.
An EOS opens the document that follows it (it plays the part of a beginning-of-sequence
token), so the first token of a document and its EOS are learned like all others.

Where a tokenizer puts a BOS of its own before a text, so does the corpus, and the BOS opens the
document. No document says which one follows it, so BOS is no target that is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from linnet.data.shards.store import Split
from linnet.model.attention import cumulative_lengths

IGNORE = -100  # a target that is not counted, as in torch.nn.functional.cross_entropy


@dataclass(frozen=True)
class Batch:
    """Sequences for one step, or a part of them.

    tokens, targets: [B, T] int64; a target of IGNORE is not counted. positions, documents:
    [B, T] int64, or None when each row is one document from position 0. columns: what else an
    objective needs of each row, [B, ...]. group: so many neighbouring rows belong together and are
    never parted; a batch's length, and its parts, are counted in groups. lengths: the documents'
    cumulative lengths [documents + 1] int32, counted when the batch goes to a device.
    """

    tokens: Tensor
    targets: Tensor
    positions: Tensor | None = None
    documents: Tensor | None = None
    columns: Mapping[str, Tensor] = field(default_factory=dict)
    group: int = 1
    lengths: Tensor | None = None

    def __len__(self) -> int:
        return self.tokens.shape[0] // self.group

    @property
    def counted(self) -> int:
        """How many targets are counted."""
        return int((self.targets != IGNORE).sum())

    @property
    def pairs(self) -> int:
        """How many pairs of a query and a key are causal and within one document, padding counted."""
        if self.positions is not None:
            return int(self.positions.sum()) + self.positions.numel()
        rows, length = self.tokens.shape
        return rows * length * (length + 1) // 2

    def rows(self, start: int, stop: int) -> Batch:
        """A part of the batch, in groups."""
        return self._each(lambda value: value[start * self.group : stop * self.group])

    def to(self, device: torch.device) -> Batch:
        """The batch on a device; from pinned memory without waiting."""
        moved = self._each(lambda value: value.to(device, non_blocking=value.is_pinned()))
        lengths = self.lengths
        if lengths is None and self.documents is not None:
            # Counted before the copy: on the device, the host would have to wait for their number.
            lengths = cumulative_lengths(self.documents)
            lengths = (lengths.pin_memory() if device.type == "cuda" else lengths).to(
                device, non_blocking=True
            )
        return replace(moved, lengths=lengths)

    def pin_memory(self) -> Batch:
        """The batch in page-locked memory, from which a GPU copies while the program goes on."""
        return self._each(lambda value: value.pin_memory())

    @property
    def inputs(self) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
        """What a model reads: tokens, positions, documents and their lengths."""
        return self.tokens, self.positions, self.documents, self.lengths

    def _each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        names = ("tokens", "targets", "positions", "documents")
        present = {name: change(getattr(self, name)) for name in names if getattr(self, name) is not None}
        columns = {name: change(value) for name, value in self.columns.items()}
        return Batch(**present, columns=columns, group=self.group)


class Batches(Protocol):
    """What a stage trains on: the batch of every step, as a pure function of (data, seed, step)."""

    def stream(
        self, start: int, stop: int, workers: int = 0, pin: bool = False
    ) -> Generator[Batch, None, None]:
        """Batches of steps start..stop, made ahead by `workers` threads; ends early when the data is used up."""

    def stop_when(self, interrupted: Callable[[], bool]) -> None:
        """End every waiting for data with an error once this is true."""

    def fingerprint(self, step: int) -> str:
        """What decides the tokens of all samples before a step, the sources' bytes apart."""

    def state(self, step: int) -> dict[str, Any]:
        """What a run that is resumed at a step needs to find its samples."""

    def restore(self, state: dict[str, Any]) -> None:
        """Take in what `state` gave."""

    def passes(self, step: int) -> dict[str, float]:
        """How often each source has been passed after a step, where that is known."""

    def news(self, before: int, after: int) -> list[str]:
        """What a person should know of the data of the steps from `before` to `after`, a line each."""


class Windows:
    """A split cut into windows of `length` targets; each token is a target once.

    The last window, where tokens run out, is filled up with targets that are not counted.

    Args:
        bos_id: the token that begins every document, if it is not EOS; see `Tokenizer.document_bos_id`.
    """

    def __init__(
        self, split: Split, length: int, eos_id: int, document_mask: bool, bos_id: int | None = None
    ) -> None:
        self.split, self.length, self.eos_id = split, length, eos_id
        self.document_mask, self.bos_id = document_mask, bos_id
        self.count = (split.tokens + length - 1) // length

    def tokens(self, window: int) -> np.ndarray:
        """The window's first input and its targets [length + 1]; of the last window, as many as there are."""
        start = window * self.length
        stop = min(start + self.length, self.split.tokens)
        if start:
            return self.split.read(start - 1, stop - start + 1)
        return np.concatenate(([self.eos_id], self.split.read(0, stop)))

    def rows(self, windows: np.ndarray) -> list[np.ndarray]:
        """`tokens` of each of the windows [n]."""
        starts = windows * self.length
        inside = (starts > 0) & (starts + self.length <= self.split.tokens)
        whole = iter(self.split.rows(starts[inside] - 1, self.length + 1))
        return [next(whole) if here else self.tokens(window)
                for here, window in zip(inside.tolist(), windows.tolist(), strict=True)]  # fmt: skip

    def batch(self, windows: np.ndarray) -> Batch:
        """The batch of these windows, in this order."""
        rows = self.rows(windows)
        return collate(rows, self.length, self.eos_id, self.document_mask, self.bos_id)

    def batches(self, size: int, limit: int | None = None) -> Iterator[Batch]:
        """Batches for evaluation: the same at every one, the windows evenly spread when limited."""
        return (self.batch(chosen) for chosen in spread(self.count, size, limit))


def collate(
    rows: list[np.ndarray], length: int, eos_id: int, document_mask: bool, bos_id: int | None = None
) -> Batch:
    """The batch of sequences [at most length + 1 ids each]; shorter ones are filled with what is not counted."""
    ids = np.full((len(rows), length + 1), eos_id, dtype=np.int64)
    targets = np.full((len(rows), length), IGNORE, dtype=np.int64)
    for row, tokens in enumerate(rows):
        ids[row, : len(tokens)] = tokens
        targets[row, : len(tokens) - 1] = tokens[1:]
    if bos_id is not None:
        targets[targets == bos_id] = IGNORE
    inputs = np.ascontiguousarray(ids[:, :-1])
    if not document_mask:
        return Batch(torch.from_numpy(inputs), torch.from_numpy(targets))
    documents, positions = document_layout(inputs, eos_id, bos_id)
    laid = [torch.from_numpy(value) for value in (inputs, targets, positions, documents)]
    return Batch(laid[0], laid[1], laid[2], laid[3])


def document_layout(
    tokens: np.ndarray, eos_id: int, bos_id: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Document numbers and positions within the document, both [B, T].

    A BOS is position 0 of its document; an EOS that no BOS follows is position 0 of what follows.
    """
    opens = tokens == eos_id
    if bos_id is not None:
        begins = tokens == bos_id
        opens[:, :-1] &= ~begins[:, 1:]
        opens |= begins
    documents = np.cumsum(opens, axis=1)
    index = np.broadcast_to(np.arange(tokens.shape[1]), tokens.shape)
    begin = np.maximum.accumulate(np.where(opens, index, 0), axis=1)
    return documents, index - begin


def spread(count: int, size: int, limit: int | None = None) -> list[np.ndarray]:
    """At most `limit` of `count` numbers, evenly spread, in parts of `size`."""
    kept = count if limit is None else min(limit, count)
    chosen = np.linspace(0, count - 1, kept).round().astype(np.int64) if kept else np.empty(0, np.int64)
    return [chosen[begin : begin + size] for begin in range(0, kept, size)]
