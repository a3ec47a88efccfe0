"""Stages that learn from conversations: instruction tuning and refusals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from linnet.data.example_batches import ExampleBatches, HeldOutPacked, PackedBatches, digest_of_examples
from linnet.data.examples import Example
from linnet.data.packing import PackedExamples
from linnet.model import Transformer
from linnet.objectives import NextToken
from linnet.recipe.asked import Asked, ask
from linnet.recipe.recipe import Recipe
from linnet.recipe.stages import StageName
from linnet.recipe.work import Equipped, Show, Start


@dataclass
class ConversationWork(Asked):
    """Instruction tuning and refusals: packed rows, next-token loss on the assistant's words. See Work."""

    train: ExampleBatches | None = None
    held_out: Sequence[Example] = ()
    total_steps: int = 0
    fingerprint: str = ""
    rows: int = 1

    @property
    def sequence_length(self) -> int:
        """Of a packed row."""
        return self.length

    def equip(self, model: Transformer, folder: Path, begun: bool) -> Equipped:
        """See Work."""
        assert self.train is not None
        validation = None
        if self.held_out:
            rows = PackedExamples(self.held_out, self.length, self.recipe.seed, self.pad_id)
            validation = self.loss_over(HeldOutPacked(rows), perplexity=True)
        return Equipped(NextToken(), self.train, validation)


def prepare_conversations(recipe: Recipe, name: StageName, start: Start, show: Show) -> ConversationWork:
    """Read, render and look over the conversations of a stage.

    Raises:
        RequestError: as `prepare`.
    """
    asked = ask(recipe, name, start)
    renderer, stage = asked.renderer, asked.stage
    examples = renderer.conversations(asked.items.train)  # type: ignore[arg-type]
    asked.look_over(examples, show)
    held_out = asked.apart().conversations(asked.items.validation)  # type: ignore[arg-type]
    rows = PackedExamples(examples, asked.length, asked.recipe.seed, asked.pad_id)
    train = PackedBatches("conversations", rows, stage.train_batch_size)
    total = train.steps(stage.duration, stage.train_batch_size * asked.length)
    asked.check_settings(total, held_out)
    asked.tell_passes(train, total, show)
    return ConversationWork(
        **asked.facts(), train=train, held_out=held_out, total_steps=total,
        fingerprint=digest_of_examples(examples, held_out),
    )  # fmt: skip
