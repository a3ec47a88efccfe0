"""Next-token prediction: the sum of -log p(target) over counted tokens.

Pretraining counts every token, instruction tuning those of the assistant: which, the batch says.
Inputs and targets come already shifted (see `data/batches.py`, `data/examples.py`); nothing is shifted here.
"""

from __future__ import annotations

from linnet.data.batches import Batch
from linnet.model import Transformer
from linnet.objectives.linear_cross_entropy import linear_cross_entropy
from linnet.objectives.objective import Loss, Plain


class NextToken(Plain):
    """The objective of pretraining and of supervised fine-tuning."""

    def counted(self, batch: Batch) -> int:
        """Targets that are not ignored."""
        return batch.counted

    def loss(self, model: Transformer, batch: Batch) -> Loss:
        """Sum over counted tokens; the logits of a whole batch never exist at once."""
        hidden = model(*batch.inputs)
        return Loss(linear_cross_entropy(hidden.flatten(0, 1), model.head_weight, batch.targets.flatten()))
