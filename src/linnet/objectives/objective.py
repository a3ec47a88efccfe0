"""What the training loop asks of whatever is minimised.

A loss is a sum over counted tokens. Who calls it divides by the count over the whole step
(every micro-batch, every rank), so that 1×8 = 8×1 and no part weighs more than its tokens.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from linnet.data.batches import Batch
from linnet.model import Transformer


class Objective(Protocol):
    """Turns a model and a batch into a loss."""

    def prepare(self, model: Transformer, batch: Batch) -> Batch:
        """What must happen once for a step before its micro-batches (rollouts, scores); most pass it through."""

    def counted(self, batch: Batch) -> int:
        """How many tokens the loss of this batch is a sum over."""

    def loss(self, model: Transformer, batch: Batch) -> Tensor:
        """The sum of the losses of the counted tokens: a scalar with a gradient."""
