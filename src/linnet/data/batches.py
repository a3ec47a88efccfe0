"""Batches as the model sees them, a pure function of (corpus, seed, step).

The corpus is one long line of documents, each ended by EOS. Sample i is a window of
`sequence_length` tokens and the next one: inputs are tokens 0..T-1, targets 1..T, shifted
here and nowhere else. A window may begin inside a document; with document masks an EOS
opens the document that follows it (it plays the part of a beginning-of-sequence token),
so every token, the first of a document and its EOS among them, is learned from exactly
what a document of its own would show.
"""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from linnet.config import RequestError
from linnet.data.order import Order
from linnet.data.store import Split

IGNORE = -100  # a target that is not counted, as in torch.nn.functional.cross_entropy


@dataclass(frozen=True)
class Batch:
    """Sequences for one step, or a part of them.

    tokens, targets: [B, T] int64; a target of IGNORE is not counted. positions, documents:
    [B, T] int64, or None when each row is one document from position 0.
    """

    tokens: Tensor
    targets: Tensor
    positions: Tensor | None = None
    documents: Tensor | None = None

    def __len__(self) -> int:
        return self.tokens.shape[0]

    @property
    def counted(self) -> int:
        """How many targets are counted."""
        return int((self.targets != IGNORE).sum())

    def rows(self, start: int, stop: int) -> Batch:
        """A part of the batch."""
        return self._each(lambda value: value[start:stop])

    def to(self, device: torch.device) -> Batch:
        """The batch on a device; from pinned memory without waiting."""
        return self._each(lambda value: value.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """The batch in page-locked memory (a DataLoader calls this by its name)."""
        return self._each(lambda value: value.pin_memory())

    def _each(self, change) -> Batch:  # type: ignore[no-untyped-def]
        names = ("tokens", "targets", "positions", "documents")
        present = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return replace(self, **{name: change(value) for name, value in present.items()})


class Windows:
    """A split cut into windows of `length` inputs, each token a target at most once."""

    def __init__(self, split: Split, length: int, eos_id: int, document_mask: bool, padded: bool = False) -> None:
        self.split, self.length, self.eos_id = split, length, eos_id
        self.document_mask, self.padded = document_mask, padded
        whole, rest = divmod(max(0, split.tokens - 1), length)
        self.count = whole + (1 if padded and rest else 0)

    def tokens(self, window: int) -> np.ndarray:
        """The window's tokens [length + 1]; of a padded last window, as many as there are."""
        start = window * self.length
        return self.split.read(start, min(self.length + 1, self.split.tokens - start))

    def batch(self, windows: np.ndarray) -> Batch:
        """The batch of these windows, in this order."""
        rows = np.full((len(windows), self.length + 1), self.eos_id, dtype=np.int64)
        targets = np.full((len(windows), self.length), IGNORE, dtype=np.int64)
        for row, window in enumerate(windows):
            tokens = self.tokens(int(window))
            rows[row, : len(tokens)] = tokens
            targets[row, : len(tokens) - 1] = tokens[1:]
        inputs = rows[:, :-1]
        if not self.document_mask:
            return Batch(torch.from_numpy(np.ascontiguousarray(inputs)), torch.from_numpy(targets))
        documents, positions = document_layout(inputs, self.eos_id)
        return Batch(*map(torch.from_numpy, (np.ascontiguousarray(inputs), targets, positions, documents)))


def document_layout(tokens: np.ndarray, eos_id: int) -> tuple[np.ndarray, np.ndarray]:
    """Document numbers and positions within the document, both [B, T]; an EOS is position 0 of what follows."""
    opens = tokens == eos_id
    documents = np.cumsum(opens, axis=1)
    index = np.broadcast_to(np.arange(tokens.shape[1]), tokens.shape)
    begin = np.maximum.accumulate(np.where(opens, index, 0), axis=1)
    return documents, index - begin


class _Steps(torch.utils.data.Dataset):
    """Batch of a step by its number; what a worker process runs."""

    def __init__(self, batches: TrainBatches) -> None:
        self.batches = batches

    def __getitem__(self, step: int) -> Batch:
        return self.batches[step]


class TrainBatches:
    """`batches[step]`: the samples step·B .. (step+1)·B of the computed order."""

    def __init__(self, windows: Windows, batch_size: int, seed: int) -> None:
        if not windows.count:
            raise RequestError(
                f"the training part has {windows.split.tokens} tokens, fewer than one sequence of "
                f"{windows.length} and its next token", "data", "add text or shorten sequence_length",
            )  # fmt: skip
        self.windows, self.batch_size = windows, batch_size
        self.order = Order(windows.count, seed)

    def samples(self, step: int) -> np.ndarray:
        """Global sample numbers of a step [B]."""
        return np.arange(step * self.batch_size, (step + 1) * self.batch_size)

    def __getitem__(self, step: int) -> Batch:
        return self.windows.batch(self.order(self.samples(step)))

    @property
    def fingerprint(self) -> str:
        """What decides every sample's tokens, the split's bytes apart."""
        w = self.windows
        facts = (w.length, w.eos_id, w.document_mask, w.count, self.order.seed)
        return hashlib.sha256(repr(facts).encode()).hexdigest()

    def stream(self, start: int, stop: int, workers: int = 0, pin: bool = False) -> Iterator[Batch]:
        """Batches of steps start..stop, made ahead by `workers` processes (0: here, when asked for)."""
        loader = torch.utils.data.DataLoader(
            _Steps(self),
            batch_size=None,
            sampler=range(start, stop),
            num_workers=workers,
            pin_memory=pin,
            prefetch_factor=2 if workers else None,
            worker_init_fn=_worker if workers else None,
        )
        yield from loader


def _worker(_: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the trainer, which ends its workers
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(1)


def validation_batches(windows: Windows, batch_size: int, limit: int | None = None) -> list[np.ndarray]:
    """The windows of each evaluation batch: the same at every evaluation, evenly spread when limited."""
    count = windows.count if limit is None else min(limit, windows.count)
    chosen = np.linspace(0, windows.count - 1, count).round().astype(np.int64) if count else np.empty(0, np.int64)
    return [chosen[begin : begin + batch_size] for begin in range(0, count, batch_size)]
