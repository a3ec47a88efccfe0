"""What the training loop asks of whatever is minimised.

A loss is a sum over counted things: tokens, pairs, sequences. Who calls it divides by the count over
the whole step (every micro-batch, every rank), so that 1×8 = 8×1 and no part weighs more than it should.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from torch import Tensor

from linnet.data.batches import Batch
from linnet.infer import Check, go_on
from linnet.model import Transformer


class Loss(NamedTuple):
    """The loss of a part of a batch.

    sum: scalar with a gradient, over what is counted. measures: what a person should see besides, each
    [2] without a gradient: a sum, and over how many; shown as the one by the other.
    """

    sum: Tensor
    measures: dict[str, Tensor] = {}  # noqa: RUF012 - never changed


class Objective(Protocol):
    """Turns a model and a batch into a loss."""

    def prepare(self, model: Transformer, batch: Batch, step: int, check: Check = go_on) -> Batch:
        """What must happen once for a step before its micro-batches: rollouts and their scores.

        check: called now and then; what it raises ends this, and nothing has happened.
        """

    def counted(self, batch: Batch) -> int:
        """What the loss of this batch is a sum over."""

    def loss(self, model: Transformer, batch: Batch) -> Loss:
        """Of a whole batch or of a part of one."""

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must hold so that the next step is the same after it; on the CPU."""

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `state` gave."""

    def heard(self, step: int, means: dict[str, float]) -> None:
        """A step is done; its measures."""

    def report(self) -> dict[str, float]:
        """Metrics of the last step besides its measures."""

    def news(self) -> list[str]:
        """What a person should know after the last step, a line each; each is handed out once."""


class Plain:
    """What an objective is that needs nothing beforehand and keeps nothing."""

    def prepare(self, model: Transformer, batch: Batch, step: int, check: Check = go_on) -> Batch:
        """The batch as it is."""
        return batch

    def state(self) -> dict[str, Tensor]:
        """Nothing."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Nothing to take back."""

    def heard(self, step: int, means: dict[str, float]) -> None:
        """Nothing to make of it."""

    def report(self) -> dict[str, float]:
        """Nothing."""
        return {}

    def news(self) -> list[str]:
        """Nothing."""
        return []
