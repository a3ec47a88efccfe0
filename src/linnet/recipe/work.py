"""What a stage brings to the loop, whatever it is: the door between `live` and the kinds of stages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from linnet.data.batches import Batches
from linnet.hardware import Choices
from linnet.model import ModelSpec, Transformer
from linnet.objectives import Objective
from linnet.text import Tokenizer
from linnet.train.validation import Validation

Look = Callable[[bool], str]
"""Something for a person to see; asked with whether colours can be shown."""
Show = Callable[[Look], None]


@dataclass(frozen=True)
class Start:
    """What a stage begins with. folder: of a stock model; None for fresh weights."""

    folder: Path | None
    tokenizer: Tokenizer
    spec: ModelSpec

    @property
    def parent(self) -> str | None:
        """The model's name in a manifest."""
        return str(self.folder) if self.folder else None


@dataclass(frozen=True)
class Equipped:
    """A stage's work once its model is there."""

    objective: Objective
    batches: Batches
    validation: Validation | None


class Work(Protocol):
    """A stage that is ready for its model: nothing about its recipe and its data can still be refused.

    sequence_length: places of a row, of all rows that are computed together. rows: how many rows of it
    are one of `train_batch_size`. fingerprint: what decides the bytes of all data.
    """

    tokenizer: Tokenizer
    choices: Choices
    total_steps: int
    rows: int

    @property
    def sequence_length(self) -> int: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def listeners(self) -> list[Callable[[str], None]]: ...

    def equip(self, model: Transformer, folder: Path, begun: bool) -> Equipped:
        """Objective, batches and validation for a model, which lies on its device.

        Args:
            folder: of the stage, for what it keeps. begun: whether the stage has a checkpoint.
        """

    def prompts(self, words: Sequence[str]) -> list[list[int]]:
        """Sample prompts as the model reads them."""

    def close(self) -> None:
        """End what runs beside the loop."""
