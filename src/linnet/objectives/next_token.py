"""Next-token prediction: the sum of -log p(target) over counted tokens.

Inputs and targets come already shifted (see `data/batches.py`); nothing is shifted here.
"""

from __future__ import annotations

from torch import Tensor

from linnet.data.batches import Batch
from linnet.model import Transformer
from linnet.objectives.linear_cross_entropy import linear_cross_entropy


class NextToken:
    """The pretraining objective."""

    def prepare(self, model: Transformer, batch: Batch) -> Batch:
        """The batch as it is."""
        return batch

    def counted(self, batch: Batch) -> int:
        """Targets that are not ignored."""
        return batch.counted

    def loss(self, model: Transformer, batch: Batch) -> Tensor:
        """Sum over counted tokens; the logits of a whole batch never exist at once."""
        hidden = model(batch.tokens, batch.positions, batch.documents)
        return linear_cross_entropy(hidden.flatten(0, 1), model.head_weight, batch.targets.flatten())
