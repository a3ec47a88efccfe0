"""Pretraining documents among the rows of a later stage.

What a model learns only from conversations undoes much of what it learned before (McCloskey and Cohen 1989,
"Catastrophic interference in connectionist networks"). Learning some of the earlier documents again beside them
keeps it (Ibrahim et al. 2024, "Simple and scalable strategies to continually pre-train large language models").

A row is packed conversations or a window of documents, never both. Which it is, is drawn in exact shares as the
sources of a mixture are (`mixture.py`), so a batch is a pure function of (data, seed, step).
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field, ValidationError, model_validator

from linnet.config import Section
from linnet.data.batches import Batch, collate
from linnet.data.example_batches import ExampleBatches
from linnet.data.mixture import Mixture, exactly
from linnet.data.packing import PackedExamples
from linnet.data.settings import DataSettings, Sources
from linnet.data.training import TrainBatches


class ReplaySettings(Section):
    """Documents that a stage learns beside its conversations, so that what they taught is not forgotten.

    `share` of the stage's rows are windows of documents, and all of their tokens are learned. Of a conversation
    only the answers are, so documents are a larger share of the tokens that count than of the rows. The documents
    are those of `pretrain.data`, in its mixture, or those of `sources`; what these hold out is never replayed.
    """

    share: float = Field(gt=0, lt=1)
    sources: Sources = ()

    habits: ClassVar[Mapping[str, str]] = {
        "ratio": "write 'share'",
        "fraction": "write 'share'",
        "weight": "write 'share' (0.1 is a tenth of the rows)",
        "percentage": "write 'share' (0.1 is a tenth of the rows)",
        "data": "write 'sources'",
        "dataset": "write 'sources: [{dataset: owner/name}]'",
        "path": "write 'sources'",
    }

    @model_validator(mode="after")
    def _possible(self) -> ReplaySettings:
        if self.sources:
            try:
                self.data(None, 1)
            except ValidationError as error:
                first = error.errors()[0]
                raise ValueError(str(first.get("ctx", {}).get("error", first["msg"]))) from None
        return self

    def data(self, pretrain: DataSettings | None, length: int) -> DataSettings:
        """The documents as rows of `length`: from the beginning of each source, again when it is used up.

        Args:
            pretrain: of the recipe's pretraining, where it has one.

        Raises:
            ValueError: when there are neither `sources` nor pretraining.
        """
        if self.sources:
            return DataSettings(sources=self.sources, sequence_length=length)
        if pretrain is None:
            raise ValueError("there is no pretrain section to take documents from; give replay.sources")
        changes = {
            "sequence_length": length,
            "document_mask": True,
            "schedule": (),
            "when_exhausted": "repeat",
        }
        return pretrain.model_copy(update=changes)


class ReplayedBatches(ExampleBatches):
    """`batch_size` rows a step, of which `share` are windows of documents and the others packed examples.

    Args:
        rows: of the stage's own examples.
        documents: batches of one window as long as a row.
        share: of all rows, that are windows.
    """

    def __init__(
        self, title: str, rows: PackedExamples, documents: TrainBatches, share: float, batch_size: int, seed: int
    ) -> None:  # fmt: skip
        super().__init__(title, hashlib.sha256(repr((rows.fingerprint, batch_size)).encode()).hexdigest())
        self.rows, self.documents, self.batch_size = rows, documents, batch_size
        self.mixture = Mixture([(0, [1 - exactly(share), exactly(share)])], seed)

    def replayed(self, step: int) -> np.ndarray:
        """Which rows of a step are windows of documents, bool [batch_size]."""
        return self._drawn(step)[0] == 1

    def windows(self, step: int) -> int:
        """How many windows of documents stand before a step."""
        return self._served(step)[1]

    def _drawn(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        return self.mixture.locate(np.arange(step * self.batch_size, (step + 1) * self.batch_size))

    def _served(self, step: int) -> tuple[int, ...]:
        """Rows of examples and windows of documents before a step."""
        return self.mixture.served(step * self.batch_size)

    def __getitem__(self, step: int) -> Batch:
        sources, indices = self._drawn(step)
        windows = indices[sources == 1]
        texts = self.documents.tokens(windows) if len(windows) else []
        parts = (
            self.rows.batch(indices[sources == 0]),
            collate(texts, self.rows.row_length, self.documents.eos_id, True, self.documents.bos_id),
        )
        place = torch.from_numpy(np.argsort(np.argsort(sources, kind="stable"), kind="stable"))
        names = ("tokens", "targets", "positions", "documents")
        laid = [torch.cat([getattr(part, name) for part in parts])[place] for name in names]
        return Batch(laid[0], laid[1], laid[2], laid[3])

    def first(self, epoch: int) -> int:
        """See ExampleBatches; an epoch is one of the stage's own examples."""
        rows = self.rows.first(epoch)
        each = float(self.mixture.weights_at(0)[0]) * self.batch_size
        return bisect_left(range(int(rows / each) + 2), rows, key=lambda step: self._served(step)[0])

    def fingerprint(self, step: int) -> str:
        """What decides every sample, the tokens apart."""
        parts = (
            self._fingerprint, self.mixture.fingerprint(step * self.batch_size),
            self.documents.fingerprint(self.windows(step)),
        )  # fmt: skip
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def passes(self, step: int) -> dict[str, float]:
        """Epochs of the stage's own examples, and how often each source of documents has been passed."""
        return {**super().passes(step), **self.documents.passes(self.windows(step))}

    def state(self, step: int) -> dict[str, Any]:
        """Of streamed documents."""
        return self.documents.state(self.windows(step))

    def restore(self, state: dict[str, Any]) -> None:
        """Take in what `state` gave."""
        self.documents.restore(state)

    def expect(self, steps: int) -> None:
        """Be told how many steps the run will take, so that no more of a stream is made ready."""
        served = self.documents.mixture.served(self.windows(steps))
        for source, count in zip(self.documents.sources, served, strict=True):
            source.expect(count)

    def stop_when(self, interrupted: Callable[[], bool]) -> None:
        """See Batches."""
        self.documents.stop_when(interrupted)
